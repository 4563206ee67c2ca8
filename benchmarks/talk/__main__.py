"""The talk's four results, remade: one model for β in [.01, 10] beside dedicated β-VAEs.

    python -m benchmarks.talk [DATA_ROOT] [--quick] [--only celeba] [--jobs 2]

CelebA at 64×64 and MNIST, the same network, options and steps for all models of a data set: curves
of both, FID of reconstructions and of samples, how the latents of neighbouring β's go together,
and pictures. DATA_ROOT, by default $MULTIBETA_DATA, holds celeba/, MNIST/ and lenet_mnist/. FID is
by Inception where its weights are at hand; else by a network that knows CelebA's attributes
(benchmarks.attributes), and by LeNet on MNIST. Finished runs are skipped. --quick makes everything
once from a few training steps, in runs/benchmarks/talk_quick/. Pictures of faces stay in
runs/benchmarks/talk/.
"""

from __future__ import annotations

from benchmarks import report
from benchmarks.record import TOP, is_done
from benchmarks.runs import arguments, is_there, make
from benchmarks.talk import pictures, tables
from benchmarks.talk.codes import standardised
from benchmarks.talk.pictures import smoothness
from benchmarks.talk.runs import COMMAND, TALKS, align
from multibeta.files import replacing
from multibeta.runs import shown

MEASURES = {"aligned": align, "smooth": smoothness, "standardised": standardised}


def main() -> None:
    """Make what is missing, the pictures, and the page."""
    parser = arguments(__doc__)
    parser.prog = "python -m benchmarks.talk"
    parser.add_argument("--quick", action="store_true", help="a tiny version of everything")
    parser.add_argument("--only", choices=TALKS, help="one data set")
    given = parser.parse_args()
    talks = [TALKS[given.only]] if given.only else list(TALKS.values())
    talks = [talk.tiny() for talk in talks] if given.quick else talks
    for talk in talks:
        talk.results.mkdir(parents=True, exist_ok=True)
        (talk.pictures / talk.name).mkdir(parents=True, exist_ok=True)
        names = [run.name for seed in talk.seeds for run in talk.runs(seed)]
        names += [talk.result(measure, seed) for measure in MEASURES for seed in talk.seeds]
        if not all(is_there(name, talk.results) for name in names):
            talk.prepare(given.root)
        for seed in talk.seeds:
            make(talk.runs(seed, given.root), COMMAND, given.root, given.jobs, talk.results)
        for seed in talk.seeds:
            for name, measure in MEASURES.items():
                if not is_done(talk.result(name, seed), talk.results):
                    measure(talk, seed, given.root, given.jobs)
        pictures.draw(talk, given.root, given.jobs)
    if given.quick:
        text = (TOP / "docs" / "talk.md").read_text()
        with replacing(talks[0].page) as temporary:
            temporary.write_text(report.filled(text, tables.blocks(talks)))
        print(f"the page: {shown(talks[0].page)}")
    else:
        report.main()


if __name__ == "__main__":
    main()
