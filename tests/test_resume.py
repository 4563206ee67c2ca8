"""A checkpoint is the run: every verb, wherever the file lies, whoever made it."""

import os
import shutil
import sys
import zipfile
from enum import Enum
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

import multibeta
from multibeta.betas import Draws
from multibeta.checkpoints import read_checkpoint
from multibeta.cli import main
from multibeta.curve import Curve
from multibeta.data import Digits
from multibeta.fitting import fit
from multibeta.likelihoods import Gaussian
from multibeta.module import MultiBetaModule
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from multibeta.resume import Origin
from tests.helpers import InterruptAt, newest, weights

pytestmark = pytest.mark.dots

CPU = "--trainer.accelerator=cpu"
RUN = [
    "--config=digits", "--model.betas=0.1:4", "--model.likelihood.sigma=0.3",
    "--model.network.width=8", "--model.latent_dim=3", "--data.batch_size=100", CPU,
    "--trainer.check_val_every_n_epoch=1", "--trainer.max_epochs=1", "--curve.betas=0.1,4",
]  # fmt: skip


def of_python():
    torch.manual_seed(0)
    return MultiBetaVAE.of(
        (1, 8, 8), "0.1:4", network=MLP(width=8), latent_dim=3, likelihood=Gaussian(0.3),
        draws=Draws(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    assert main(["fit", *RUN, f"--trainer.default_root_dir={root}"]) == 0
    return newest(root)


@pytest.fixture(scope="module")
def python_run(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("python")
    return fit(of_python(), Digits(batch_size=100), epochs=1, root=root, betas="0.1,4").folder


@pytest.fixture(scope="module")
def lightning_file(tmp_path_factory):
    """Of a training by Lightning's own Trainer, with nothing of ours around it."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("lightning") / "mine.ckpt"
    trainer = Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(MultiBetaModule(of_python()), datamodule=Digits(batch_size=100))
    trainer.save_checkpoint(path)
    return path


def in_its_run(run, tmp_path):
    return run


def the_file(run, tmp_path):
    return run / "checkpoints" / "best.ckpt"


def mailed(run, tmp_path):
    return shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "from a colleague.ckpt")


def beside_stray_configs(run, tmp_path):
    """With settings of another model one, two and three folders up."""
    folder = tmp_path / "a" / "b" / "checkpoints"
    folder.mkdir(parents=True)
    for above in (folder, folder.parent, folder.parent.parent):
        (above / "config.yaml").write_text(
            "model: {betas: '1:2', latent_dim: 5}\ndata: Gaussian\n"
        )
    return shutil.copy(run / "checkpoints" / "last.ckpt", folder / "last.ckpt")


PLACES = [in_its_run, the_file, mailed, beside_stray_configs]
VERBS = {
    "validate": [CPU],
    "test": [CPU],
    "encode": ["--betas=0.1,4", "--device=cpu", "--out=codes.npz"],
    "curve": ["--betas=0.1,4", "--device=cpu", "--out=out"],
    "rate": ["--nats=2", "--device=cpu"],
    "score": [
        "Gaussian",
        "--betas=1",
        "--examples=20",
        "--samples=2",
        "--device=cpu",
        "--out=out",
    ],
}


def called(verb, path, *more):
    named = ["--ckpt_path", str(path)] if verb in ("validate", "test") else [str(path)]
    return main([verb, *named, *VERBS[verb], *more])


@pytest.fixture(scope="module")
def of_the_run(run):
    return {}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "score"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_every_verb_takes_the_model_of_the_checkpoint(
    run, of_the_run, tmp_path, monkeypatch, capsys, verb, place
):
    monkeypatch.chdir(tmp_path)
    path = place(run, tmp_path)
    assert called(verb, path) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if "files:" not in line]
    assert printed == of_the_run.setdefault(verb, printed)
    model = multibeta.load(path)
    assert (str(model.beta_range), model.likelihood.sigma, model.latent_dim) == (
        "0.1:4",
        0.3,
        3,
    )


@pytest.mark.parametrize("verb", ["validate", "curve"])
@pytest.mark.parametrize("made", ["python_run", "lightning_file"])
def test_runs_made_in_python_are_measured_like_others(made, verb, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = request.getfixturevalue(made)
    assert called(verb, path) == 0
    assert multibeta.load(path).likelihood.sigma == 0.3


@pytest.mark.parametrize("made", ["run", "python_run", "lightning_file"])
def test_going_on_takes_everything_from_the_checkpoint(
    made, request, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    path = shutil.copy(Origin(request.getfixturevalue(made)).path, tmp_path / "x.ckpt")
    (tmp_path / "config.yaml").write_text("model: {betas: '1:2'}")
    assert main(["fit", f"--ckpt_path={path}", "--trainer.max_epochs=2", CPU]) == 0
    assert "trainer.max_epochs: 1 in the checkpoint, 2 here" in capsys.readouterr().err
    after = newest(tmp_path / "runs")
    model = multibeta.load(after)
    assert (str(model.beta_range), model.likelihood.sigma, model.latent_dim) == (
        "0.1:4",
        0.3,
        3,
    )
    content = read_checkpoint(after / "checkpoints" / "last.ckpt")
    assert "accelerator" not in content["multibeta"]["run"]["trainer"]
    assert content["global_step"] == 2 * read_checkpoint(path)["global_step"]
    assert Curve.from_json(after / "curve.json").about["data"] == "Digits"


def test_fit_in_python_goes_on_to_the_same_weights(tmp_path, python_run, capsys):
    """Two epochs at once, and again with a stop between."""
    data = {"train": Digits(batch_size=100), "epochs": 2, "betas": "1"}
    whole = fit(of_python(), **data, root=tmp_path / "whole").folder
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(of_python(), **data, root=tmp_path / "cut", callbacks=InterruptAt(14))
    cut = newest(tmp_path / "cut")
    last = cut / "checkpoints" / "last.ckpt"
    assert last.exists()
    assert fit(of_python(), **data, root=tmp_path / "cut", ckpt_path=cut).folder == cut
    one, two = weights(whole), weights(cut)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    with pytest.raises(ValueError, match=r"no step is left: .* has done its 2 epochs"):
        fit(of_python(), **data, ckpt_path=cut)
    other = MultiBetaVAE.of((1, 8, 8), network=MLP(width=9), likelihood=Gaussian(0.3))
    with pytest.raises(ValueError, match=r"does not fit the model: .* go on with the model that"):
        fit(other, **data, ckpt_path=cut)


def test_a_wrapped_model_goes_on_in_python_alone(tmp_path, capsys):
    def wrapped():
        torch.manual_seed(0)
        return multibeta.wrap(torch.nn.Linear(6, 4), torch.nn.Linear(2, 6), "0.1:1")

    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    options = {"train": x, "batch_size": 10, "root": tmp_path, "betas": "1"}
    run = fit(wrapped(), **options, epochs=1).folder
    assert "checkpoints will not say what data this is" in capsys.readouterr().err
    model = wrapped()
    model.place(x)
    assert fit(model, **options, epochs=2, ckpt_path=run).folder == run
    assert read_checkpoint(run / "checkpoints/last.ckpt")["global_step"] == 6
    for verb in ("fit", "validate"):
        assert main([verb, f"--ckpt_path={run}", CPU]) == 2
        assert "is of a wrapped model, whose networks are your code" in capsys.readouterr().err


# What the command line changes ------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["validate", "test", "fit"])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("model.likelihood.sigma=1.0", "model.likelihood.sigma: 0.3 in the checkpoint, 1.0 here"),
        ("model.latent_dim=4", "model.latent_dim: 3 in the checkpoint, 4 here"),
        ("model.likelihood=Bernoulli", "model.likelihood: multibeta.likelihoods.Gaussian in the"),
        ("model.network.width=9", "model.network.width: 8 in the checkpoint, 9 here"),
        ("model.objective=FactorVAE", "model.objective: multibeta.objectives.BetaELBO in the"),
        ("model.conditioning=gate", "model.conditioning: film in the checkpoint, gate here"),
    ],
)
def test_what_a_trained_model_keeps_is_refused(run, capsys, verb, option, said):
    more = ["--trainer.max_epochs=2"] if verb == "fit" else []
    assert main([verb, f"--ckpt_path={run}", CPU, f"--{option}", *more]) == 2
    error = capsys.readouterr().err
    assert said in error and "a trained model keeps it: " in error and error.count("\n") == 1
    assert ("--init_from" in error) == (verb == "fit")


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_a_measured_model_keeps_its_range(run, capsys, verb):
    assert main([verb, f"--ckpt_path={run}", CPU, "--model.betas=0.5:2"]) == 2
    assert "model.betas: 0.1:4 in the checkpoint, 0.5:2 here" in capsys.readouterr().err


def test_other_settings_of_the_training_are_said_and_hold(run, tmp_path, capsys):
    path = shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path)
    options = ["--trainer.max_epochs=2", "--model.lr=1e-9", "--model.betas=0.2:3",
               f"--trainer.default_root_dir={tmp_path}", CPU, "--curve.enabled=false"]  # fmt: skip
    assert main(["fit", f"--ckpt_path={path}", *options]) == 0
    said = capsys.readouterr().err
    for change in (
        "lr: 0.003 in the checkpoint, 1e-09 here",
        "betas: 0.1:4 in the checkpoint, 0.2",
    ):
        assert f"model.{change}" in said
    before, after = weights(run), weights(newest(tmp_path))
    for name in before:  # at this learning rate they stay: it is not that of the checkpoint
        torch.testing.assert_close(before[name], after[name], atol=1e-7, rtol=0)


def test_other_data_are_said_and_of_another_shape_refused(run, tmp_path, capsys):
    data = ["--data=NPZ", f"--data.root={tmp_path / 'x.npz'}"]
    import numpy as np

    x = np.random.default_rng(0).random((300, 1, 8, 8), dtype="float32")
    np.savez(tmp_path / "x.npz", x=x)
    options = ["--trainer.max_epochs=2", f"--trainer.default_root_dir={tmp_path}", CPU]
    path = shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path)
    assert main(["fit", f"--ckpt_path={path}", *options, *data]) == 0
    said = capsys.readouterr().err
    assert "data: multibeta.data.digits.Digits in the checkpoint, multibeta.data.npz.NPZ" in said
    assert "the training examples are not those of the checkpoint" in said
    np.savez(tmp_path / "x.npz", x=x[:, :, :7])
    for verb in ("fit", "test"):
        assert main([verb, f"--ckpt_path={path}", *(options if verb == "fit" else []), *data]) == 2
        assert "the data has the shape (1, 7, 8); the model was" in capsys.readouterr().err


# Going on, and starting from --------------------------------------------------------------------


def test_where_no_step_is_left(run, tmp_path, capsys):
    before = weights(run)
    assert main(["fit", f"--ckpt_path={run}"]) == 2
    said = capsys.readouterr().err
    assert "no step is left: " in said and "has done its 1 epochs, 12 steps" in said
    assert "give a larger trainer.max_epochs" in said and "--init_from" in said
    after = weights(run)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_where_no_step_is_left_and_no_curve_was_wanted(tmp_path, capsys):
    root = f"--trainer.default_root_dir={tmp_path}"
    assert main(["fit", *RUN, root, "--curve.enabled=false"]) == 0
    assert main(["fit", f"--ckpt_path={newest(tmp_path)}"]) == 2
    assert "no step is left: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ([], "26 of 26 weights"),
        (["--model.betas=0.01:100", "--model.likelihood.sigma=1"], "26 of 26 weights"),
        (["--model.network.width=12"], "; not taken: vae.encoder.1.weight is (8, 64) in the file"),
        (["--model.latent_dim=5"], "is (6, 8) in the file and (10, 8) in the model"),
        (["--data=Gaussian", "--data.size=300"], "is (8, 64) in the file and (8, 16) in the mo"),
    ],
    ids=lambda given: given[0] if given and isinstance(given, list) else None,
)
def test_a_new_training_from_the_weights_that_fit(run, tmp_path, capsys, options, taken):
    start = [f"--init_from={run}", f"--trainer.default_root_dir={tmp_path}", "--curve.betas=1"]
    assert main(["fit", *start, *options, "--model.lr=1e-9", CPU]) == 0
    said = capsys.readouterr().err
    assert taken in said
    last = read_checkpoint(newest(tmp_path) / "checkpoints" / "last.ckpt")
    assert last["global_step"] < 100
    if not options:
        before, after = weights(run), weights(newest(tmp_path))
        assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_a_start_is_of_fit_alone(run, capsys):
    assert main(["fit", f"--init_from={run}", f"--ckpt_path={run}"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main(["fit", "--init_from"]) == 2
    assert capsys.readouterr().err == "multibeta: --init_from has no value; give one after it\n"


# What is written can be read --------------------------------------------------------------------


class Colour(Enum):
    RED = 1


class KeepsAnEnum(Callback):
    def state_dict(self):
        return {"colour": Colour.RED}


class KeepsAFunction(Callback):
    def state_dict(self):
        return {"function": lambda: None}


class KeepsAPath(Digits):
    def state_dict(self):
        return {**super().state_dict(), "path": Path("here")}


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--trainer.callbacks=[tests.test_resume.KeepsAnEnum]", "the callback KeepsAnEnum"),
        ("--trainer.callbacks=tests.test_resume.KeepsAFunction", "the callback KeepsAFunction"),
        ("--data=tests.test_resume.KeepsAPath", "the data module KeepsAPath"),
    ],
)
def test_a_state_that_could_not_be_read_is_refused_before_the_first_step(
    tmp_path, capsys, option, name
):
    assert main(["fit", *RUN, option, f"--trainer.default_root_dir={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert f"{name} keeps " in said and "could never be opened" in said
    assert list(tmp_path.glob("*/*")) == []


@pytest.mark.parametrize("seed", range(30))
def test_a_flipped_bit_is_refused_or_changes_nothing(run, tmp_path, seed):
    generator = torch.Generator().manual_seed(seed)
    path = tmp_path / "flipped.ckpt"
    content = bytearray((run / "checkpoints" / "last.ckpt").read_bytes())
    place = int(torch.randint(8 * len(content), (), generator=generator))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    try:
        found = multibeta.load(path).state_dict()
    except ValueError as error:
        assert "\n" not in str(error) and "flipped.ckpt" in str(error)
    else:
        mine = multibeta.load(run).state_dict()
        assert all(torch.equal(mine[name], found[name]) for name in mine)


def test_a_compressed_file_is_refused_before_it_takes_memory(run, tmp_path):
    with (
        zipfile.ZipFile(run / "checkpoints" / "last.ckpt") as old,
        zipfile.ZipFile(tmp_path / "x.ckpt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    with pytest.raises(ValueError, match="it is compressed, and could be of any size"):
        multibeta.load(tmp_path / "x.ckpt")


# What a file may name ---------------------------------------------------------------------------

MARKER = """
from pathlib import Path
from lightning.pytorch import Callback
from multibeta.data import Digits
from multibeta.likelihoods import Gaussian
Path("ran").touch()
class Mine(Gaussian): pass
class MineToo(Digits): pass
class Own(Callback): pass
"""


@pytest.fixture
def marked(run, tmp_path, monkeypatch):
    """The run's checkpoint, made to name a module of the current folder that leaves a mark."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text(MARKER)
    monkeypatch.delitem(sys.modules, "evil", raising=False)

    def make(change):
        content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        change(content["multibeta"])
        torch.save(content, tmp_path / "x.ckpt")
        return tmp_path / "x.ckpt"

    return make


CHANGES = {
    "likelihood": lambda c: c["settings"]["likelihood"].update(class_path="evil.Mine"),
    "network": lambda c: c["settings"]["network"].update(class_path="multibeta.__main__.X"),
    "encoder": lambda c: c["settings"].update(encoder="evil.Mine", decoder="evil.Mine"),
    "function": lambda c: c["settings"].update(likelihood={
        "class_path": "multibeta.distortions.Distortion", "init_args": {"fn": "evil.Mine"},
    }),
    "data": lambda c: c.update(data={"class_path": "evil.MineToo", "init_args": {}}),
    "demo": lambda c: c["data"].update(class_path="lightning.pytorch.demos.mnist.MNIST"),
    "callback": lambda c: c["run"]["trainer"].update(callbacks=[{"class_path": "evil.Own"}]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "verb"),
    [(c, v) for c in CHANGES for v in ("fit", *VERBS) if (c, v) != ("callback", "score")],
)
def test_what_a_checkpoint_names_is_not_imported(marked, capsys, verb, change):
    path = marked(CHANGES[change])
    going_on = [f"--ckpt_path={path}", "--trainer.max_epochs=2", CPU]
    status = main(["fit", *going_on]) if verb == "fit" else called(verb, path)
    assert not Path("ran").exists() and "evil" not in sys.modules
    said = capsys.readouterr().err
    if change == "callback" and verb != "fit":  # who measures takes nothing of the training
        assert status == 0
        return
    assert status == 2
    assert "code that is not multibeta's, and was not imported" in said and "--allow" in said
    assert said.count("\n") == 1


def test_what_the_user_allows_is_imported(marked, monkeypatch):
    path = marked(CHANGES["likelihood"])
    monkeypatch.syspath_prepend(path.parent)
    with pytest.raises(ValueError, match=r"names evil\.Mine"):
        multibeta.load(path, allow="vil")
    assert type(multibeta.load(path, allow=["evil"]).likelihood).__name__ == "Mine"
    assert Path("ran").exists()
    assert called("curve", path, "--allow=evil") == 0


def test_every_class_of_ours_may_be_named():
    import multibeta.distortions as distortions
    from multibeta import data, likelihoods, networks, objectives
    from multibeta.specs import untrusted

    found = [
        value for module in (data, likelihoods, networks, objectives, distortions)
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__.startswith("multibeta.")
    ]  # fmt: skip
    content = [{"class_path": f"{cls.__module__}.{cls.__qualname__}"} for cls in found]
    assert len(content) > 30
    named = {path.rpartition(".")[0] for path in untrusted(content)}
    imported = {"data.batches", "betas", "data.arrays", "densities"}
    assert named <= {f"multibeta.{name}" for name in imported}


def test_two_processes_cannot_go_on_with_one_run(python_run, tmp_path, capsys):
    from multibeta.files import lock

    folder = Path(shutil.copytree(python_run.parent.parent, tmp_path / "runs")) / "python"
    (run,) = folder.iterdir()
    held = lock(run)
    arguments = ["fit", f"--ckpt_path={run}", "--trainer.max_epochs=2", CPU]
    assert main(arguments) == 2
    assert f"another process goes on with {run}; wait for it, stop it" in capsys.readouterr().err
    os.close(held)
    assert main(arguments) == 0
    steps = [row.split(",")[0] for row in (run / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(steps, key=int)

    (run / "metrics.csv").write_text("epoch\n1\n")
    assert main([*arguments[:-2], "--trainer.max_epochs=3", CPU]) == 2
    assert "metrics.csv has rows without a step" in capsys.readouterr().err
