"""Every command and every snippet of README and docs runs, on small things in their place.

The cells that Sphinx executes are left to it, and so are notebooks. A command is a line of a
console or bash block, or one in backticks in the text. What its words stand for is in ``WORDS``;
a training is cut short by ``SHORT``; a benchmark reads its arguments and stops.
"""

import argparse
import importlib
import inspect
import re
import shlex
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import multibeta
from benchmarks.record import TOP
from multibeta.cli import main
from tests.helpers import newest
from tests.test_configs import celeba
from tests.test_data import write_mnist

PAGES = [
    TOP / "README.md",
    TOP / "CONTRIBUTING.md",
    *(p for p in sorted((TOP / "docs").glob("*.md"))
      if p.name not in ("CHANGELOG.md", "research-log.md")),
]  # fmt: skip

NOT_HERE = {
    "pip install .": ".ci/run does it, in a fresh environment",
    "pip install '.[test]'": ".ci/run does it, in a fresh environment",
    "pip install -e '.[test,docs]'": "an installation",
    "pip install 'multibeta[export]'": "an installation",
    "pip install 'multibeta[hub]'": "an installation",
    "pip install 'multibeta[codec]'": "an installation",
    "pip install 'multibeta[features]'": "an installation",
    "pip install 'multibeta[leiden]'": "an installation",
    "pip install imageio-ffmpeg": "an installation",
    "hf auth login": "asks for a token; tests/test_hub.py pushes to a stub",
    "multibeta compress RUN FILES --lossless": "of discrete data; tests/test_compression.py",
    "pytest": "this is it",
    "pytest -m slow": "takes an hour",
    "python -m benchmarks.speed_pythae DATA_ROOT": "in an environment with pythae",
    "python -m benchmarks.case_cells_scvi DATA_ROOT": "in an environment with scvi-tools",
    "multibeta fit --config mnist.yaml --model.compile true": "compiles for a minute; "
    "tests/test_conditioning_calls.py compiles less",
    "multibeta fit --config mnist.yaml --trainer.devices 2": "starts processes; tests/test_ddp.py",
    "multibeta fit --config digits.yaml --trainer.accelerator cpu --trainer.devices 2":
        "starts processes; tests/test_ddp.py",
}  # fmt: skip
"""Command → why it is not run here."""

SLOW = {
    "multibeta report digits": "tests/test_report.py",
    "multibeta report digits run": "tests/test_report.py",
    "multibeta export run --beta 0.1": "tests/test_export.py",
    "multibeta score run Digits": "tests/test_scores.py",
    "multibeta curve run --against one other": "tests/test_evaluation.py",
    "multibeta choose run --for probe": "tests/test_choose.py",
    "multibeta choose run --for likelihood": "tests/test_choose.py",
    "multibeta curve run --metrics torchmetrics.MeanAbsoluteError,nll":
        "tests/test_metrics_pairs.py",
    "multibeta curve run --metrics frechet --settings.frechet.extractor package.module.Pixels":
        "tests/test_metrics_frechet.py",
    "multibeta fit --config mnist.yaml --model.network Conv --model.network.depth 3":
        "tests/test_configs.py",
    "multibeta fit --config npz.yaml --data.root FILE.npz --model.network Conv "
    "--model.network.depth 3": "tests/test_configs.py",
    "multibeta fit --config folder.yaml --data.root FOLDER --data.size 32 --data.convert L":
        "tests/test_configs.py",
    "multibeta fit --config=celeba.yaml --data.root=DATA_ROOT --trainer.limit_val_batches=0 "
    "--trainer.max_epochs=20": "tests/test_configs.py",
    "python -m benchmarks.situations": "imports all kinds of models",
}  # fmt: skip
"""What is run → where the quick tests have the same, so that here it is left to the slow ones."""

WORDS = {
    "--against A B …": "--against one other",
    "runs/low/DATE-1 runs/high/DATE-1": "one other",
    "compare A B …": "compare RUN one",
    "runs/a/DATE-1 runs/b/DATE-1 dedicated/*/curve.json": "RUN one other/curve.json",
    "RUN_A RUN_B": "digits RUN",
    "F …": "digits",
    "push runs/digits/DATE-N me/digits": "push digits ./pushed",
    "report runs/NAME/DATE-N": "report digits",
    "runs/NAME/DATE-N": "RUN",
    "runs/digits/DATE-N/checkpoints/last.ckpt": "RUN",
    "runs/mine/DATE-N": "RUN",
    "runs/one/DATE-1": "RUN",
    "F": "RUN",
    "RUN": "run",
    "--config C": "--config digits.yaml",
    "--betas B": "--betas 0.1",
    "--bits B": "--bits 1",
    "--beta B": "--beta 0.1",
    "--split S": "--split val",
    "run DATA": "run Digits",
    "FILES": "x.png",
    "decompress FILE": "decompress x.mb",
}
"""What a command says → what is run; the files are those of the fixture."""

SHORT = [
    "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=0",
    "--trainer.accelerator=cpu", "--curve.enabled=false",
]  # fmt: skip
FEW = ["--data.batch_size=3"]  # where there are not more
THIN = ["--model.network.width=8"]
ON = ["--trainer.max_epochs=2"]  # a run of one epoch goes on for another


def blocks(text, kind):
    return re.findall(rf"^```(?:{kind})\n(.*?)^```$", text, re.S | re.M)


def commands_of(text):
    """Yield the commands of a page."""
    for line in "".join(blocks(text, "console")).splitlines():
        if line.startswith("$ "):
            yield from line.removeprefix("$ ").split(" && ")
    for line in "".join(blocks(text, "bash")).replace("\\\n", " ").splitlines():
        yield from re.sub(r"\s+# .*", "", line).split(" && ")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    for found in re.findall(r"`((?:multibeta|python -m|pip install|pytest) [^`]+)`", prose):
        if not re.fullmatch(r"multibeta \w+", found := " ".join(found.split())):  # a mere name
            yield found


COMMANDS = dict.fromkeys(c for page in PAGES for c in commands_of(page.read_text()))
BENCHMARKS = [c for c in COMMANDS if c.startswith("python -m benchmarks.") and c not in NOT_HERE]


def run_as(command):
    for said, meant in WORDS.items():
        command = re.sub(rf"(?<!\S){re.escape(said)}(?!\S)", meant, command)
    return command


def marked(commands):
    """Return commands for pytest, each once, those of ``SLOW`` with its mark."""
    return [
        pytest.param(c, marks=[pytest.mark.slow] * (c in SLOW), id=c)
        for c in dict.fromkeys(commands)
    ]


RUN = [run_as(c) for c in COMMANDS if c not in NOT_HERE and c not in BENCHMARKS]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make what the commands name: a run, dedicated models, data, configs, modules."""
    place = tmp_path_factory.mktemp("place")
    for name, options in {
        "run": ["--curve.betas=0.1,1,10"],
        "one": ["--model.betas=1", "--model.conditioning=none"],
        "other": ["--model.betas=2", "--model.conditioning=none"],
    }.items():
        options += [f"--name={name}", f"--trainer.default_root_dir={place / 'made'}"]
        assert main(["fit", "--config=digits", *SHORT, "--curve.enabled=true", *options]) == 0
        newest(place / "made").rename(place / name)
    shutil.copy(place / "run" / "checkpoints" / "last.ckpt", place / "small.ckpt")
    rng = np.random.default_rng(0)
    for name in ("FILE", "faces"):
        np.savez(place / f"{name}.npz", x=rng.random((12, 8, 8)).astype(np.float32))
    Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(place / "x.png")
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    (place / "x.mb").write_bytes(multibeta.Codec(multibeta.load("digits")).encode(x, 1.0))
    (place / "FOLDER").mkdir()
    for i in range(12):
        x = rng.integers(0, 256, (64, 66, 3), np.uint8)
        Image.fromarray(x).save(place / "FOLDER" / f"{i}.png")
    (place / "DATA_ROOT").mkdir()
    celeba(place / "DATA_ROOT")
    write_mnist(place / "DATA_ROOT" / "MNIST" / "raw")
    (place / "mine.yaml").write_text("data: Digits\nmodel: {latent_dim: 3}\n")
    (place / "my_package.py").touch()
    multibeta.load("digits").save_pretrained(place / "me" / "digits")  # in place of the Hub's
    (extractor,) = blocks((TOP / "docs" / "metrics.md").read_text(), "python")
    (place / "package").mkdir()
    (place / "package" / "module.py").write_text(extractor)
    return place


@pytest.mark.parametrize("command", marked(RUN))
def test_a_command_runs(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("MULTIBETA_DATA", str(place / "DATA_ROOT"))
    program, *words = shlex.split(command)
    assert program == "multibeta", f"{command}: how to run it is to be said in this file"
    if words[0] == "fit":
        words += SHORT + ON * ("--ckpt_path" in words)
        words += FEW * ("--data.root" in command or "mnist" in command)
        words += THIN * ("--ckpt_path" not in words and "gaussian" not in command)
    assert main(words) == 0, capsys.readouterr().err
    assert capsys.readouterr().out or words[0] == "fit"
    if words[0] == "fit":
        assert (newest(place / "runs") / "checkpoints" / "last.ckpt").is_file()


class Read(Exception):
    """The arguments were read."""


@pytest.mark.parametrize("command", marked(BENCHMARKS))
def test_a_benchmark_reads_its_arguments(command, place, monkeypatch):
    monkeypatch.chdir(place)
    name, *words = command.removeprefix("python -m ").split()
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    if "parse_args" not in inspect.getsource(module.main):
        inspect.signature(module.main).bind(*words)  # it takes the words as they are
        return
    parse = argparse.ArgumentParser.parse_args

    def read(self, *of):
        parse(self, *of)
        raise Read

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", read)
    monkeypatch.setattr(sys, "argv", [name, *words])
    with pytest.raises(Read):
        module.main()


def test_what_is_not_run_is_in_the_pages():
    assert set(NOT_HERE) <= set(COMMANDS)
    assert set(SLOW) <= {*RUN, *BENCHMARKS}
    said = " ".join(COMMANDS)
    for word in (*WORDS, "F DATA"):
        assert word in said or word.startswith("run "), word


# Python -----------------------------------------------------------------------------------------

BEFORE = {
    "docs/handing-on.md": "import multibeta",
    "docs/lossless.md": """
import pytest, torch, multibeta
pytest.importorskip("constriction")
model = multibeta.MultiBetaVAE.of((1, 4, 4), latent_dim=2)
x = (torch.rand(5, 1, 4, 4) < 0.3).float()
""",
    "docs/loops.md": """
import pytest, torch, multibeta
accelerator = pytest.importorskip("accelerate").Accelerator(cpu=True)
net = [torch.nn.Linear(12, 8), torch.nn.Linear(4, 12)]
x = torch.randn(64, 12)
vae = multibeta.wrap(*net, example=x)
optimizer, loader = torch.optim.Adam(vae.parameters()), torch.utils.data.DataLoader(x, 32)
step, steps = 0, 1
""",
}
"""Page → what its snippet takes as given."""

SNIPPETS = [
    (str(page.relative_to(TOP)), code)
    for page in PAGES
    for code in blocks(page.read_text(), "python")
    if "multibeta.wrap" not in code  # tests/test_readme.py runs it in a process of its own
]


@pytest.mark.parametrize(("page", "code"), SNIPPETS, ids=[page for page, _ in SNIPPETS])
def test_a_snippet_runs(page, code, place, monkeypatch):
    monkeypatch.chdir(place)
    exec(compile(f"{BEFORE.get(page, '')}\n{code}", page, "exec"), {"__name__": "__main__"})
