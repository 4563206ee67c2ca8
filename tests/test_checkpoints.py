import os
import pickle
import resource
import zipfile
import zlib

import numpy as np
import pytest
import torch

import multibeta
from multibeta.checkpoints import SHIPPED, load, load_data, read_checkpoint
from multibeta.cli import main
from multibeta.data import NPZ, Digits
from multibeta.module import FromSettings
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from multibeta.runs import AtomicCheckpointIO
from tests.helpers import fit_digits


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit_digits(tmp_path_factory.mktemp("run"), "--trainer.max_epochs", "1")


@pytest.fixture
def checkpoint(run):
    return run / "checkpoints" / "last.ckpt"


def rewritten(checkpoint, path, change):
    content = torch.load(checkpoint, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def test_a_checkpoint_gives_back_the_model(run, checkpoint):
    by_file, by_folder = load(checkpoint), load(run)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(by_file.reconstruct(x, 0.3), by_folder.reconstruct(x, 0.3))
    assert not by_file.training
    assert by_file.run_seed == 0
    assert by_file.settings["network"]["init_args"] == {"width": 16, "depth": 2}


def test_a_checkpoint_gives_back_the_data(checkpoint):
    assert isinstance(load_data(checkpoint), Digits)
    assert load_data(checkpoint).batch_size == 64
    assert load_data(checkpoint, {"batch_size": 7}).batch_size == 7
    with pytest.raises(ValueError, match=r"Digits has no argument bath_size \(did you mean bat"):
        load_data(checkpoint, {"bath_size": 7})


@pytest.mark.parametrize("root", [True, False])
def test_a_checkpoint_has_nothing_put_into_a_folder_that_it_names(checkpoint, tmp_path, root):
    folder = tmp_path / "data"
    folder.mkdir()

    def of_mnist(content):
        arguments = {"root": str(folder) if root else None, "batch_size": 8, "download": True}
        content["multibeta"]["data"] = {
            "class_path": "multibeta.data.mnist.MNIST", "init_args": arguments,
        }  # fmt: skip

    path = rewritten(checkpoint, tmp_path / "mnist.ckpt", of_mnist)
    assert load_data(path).download != root
    assert load_data(path, {"download": True}).download
    if root:
        with pytest.raises(FileNotFoundError, match="is empty; MNIST needs"):
            load_data(path).load()
        assert not [*folder.iterdir()]


def test_it_holds_tensors_and_plain_values_only(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    assert content["multibeta"]["data"]["class_path"] == "multibeta.data.digits.Digits"
    assert "torchmetrics" not in str(list(content["state_dict"]))


def test_lightning_loads_it_too(checkpoint):
    model = FromSettings.load_from_checkpoint(checkpoint, weights_only=True)
    assert model.vae.shape == (1, 8, 8)


def test_marks_of_torch_compile_are_removed(checkpoint, tmp_path):
    def mark(content):
        content["state_dict"] = {
            k.replace("encoder.", "encoder._orig_mod."): v
            for k, v in content["state_dict"].items()
        }

    compiled = rewritten(checkpoint, tmp_path / "compiled.ckpt", mark)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(load(compiled).reconstruct(x, 0.3), load(checkpoint).reconstruct(x, 0.3))


def refuses(path, message):
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nope.ckpt; give"):
        load(tmp_path / "nope.ckpt")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load(tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated(checkpoint, tmp_path, kept):
    content = checkpoint.read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(content[: kept if kept > 1 else int(kept * len(content))])
    refuses(path, "cut.ckpt is truncated or no checkpoint")


def test_not_a_checkpoint_at_all(tmp_path):
    (tmp_path / "a.ckpt").write_text("hello")
    refuses(tmp_path / "a.ckpt", "a.ckpt")
    with zipfile.ZipFile(tmp_path / "b.ckpt", "w") as file:
        file.writestr("x", "y")
    refuses(tmp_path / "b.ckpt", "b.ckpt is damaged or no checkpoint")


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL"],)


@pytest.mark.parametrize("save", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_a_pickle_that_would_run_code_does_not(tmp_path, monkeypatch, save):
    monkeypatch.setenv("EVIL", str(tmp_path / "ran"))
    path = tmp_path / "evil.ckpt"
    save({"multibeta": Evil()}, path)
    refuses(path, "evil.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_class_path_that_is_no_network(checkpoint, tmp_path):
    def change(content):
        content["multibeta"]["settings"]["network"] = {
            "class_path": "os.mkdir",
            "init_args": {"path": str(tmp_path / "ran")},
        }

    refuses(
        rewritten(checkpoint, tmp_path / "x.ckpt", change),
        "names os.mkdir, code that is not multibeta",
    )
    assert not (tmp_path / "ran").exists()


def test_another_tools(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    refuses(tmp_path / "other.ckpt", "is not a checkpoint made by multibeta fit")
    torch.save(torch.zeros(3), tmp_path / "tensor.ckpt")
    refuses(tmp_path / "tensor.ckpt", "is not a checkpoint made by multibeta fit")


def test_a_mismatch_names_the_leaf(checkpoint, tmp_path):
    def drop(content):
        del content["state_dict"]["vae.encoder.1.bias"]

    def reshape(content):
        content["state_dict"]["vae.encoder.1.bias"] = torch.zeros(3)

    for change in (drop, reshape):
        path = rewritten(checkpoint, tmp_path / "x.ckpt", change)
        refuses(path, r"does not fit the model: encoder.1.bias")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["multibeta"].pop("training"), "there is no multibeta.training"),
        (lambda c: c["multibeta"].update(run_seed="0"), "run_seed is '0': it should"),
        (lambda c: c["multibeta"]["settings"].update(shape=[1, 8, True]), "shape.2 is True"),
        (lambda c: c["multibeta"]["settings"].update(likelihood=3), "likelihood is 3: it"),
        (lambda c: c["multibeta"]["units"].update(low=float("nan")), "units.low is nan"),
        (lambda c: c["multibeta"].update(wrapped=None), "wrapped is None"),
        (lambda c: c["multibeta"].pop("settings"), "one of multibeta.settings and multibeta.wra"),
        (lambda c: c.pop("global_step"), "there is no global_step"),
        (lambda c: c.update(state_dict=[]), r"state_dict is \[\]: it should be a valid dict"),
    ],
)
def test_what_no_fit_could_have_written(checkpoint, tmp_path, change, message):
    refuses(rewritten(checkpoint, tmp_path / "changed.ckpt", change), message)


def test_weights_of_another_kind_are_not_cast(checkpoint, tmp_path):
    """Whole numbers in the place of floats would load, and measure as a model of −1, 0 and 1."""

    def cast(content):
        weights = content["state_dict"]
        name = next(name for name in weights if name.endswith("weight"))
        weights[name] = weights[name].to(torch.int8)

    refuses(rewritten(checkpoint, tmp_path / "int8.ckpt", cast), r"of int8 in the file")


def test_an_older_format(checkpoint, tmp_path):
    def change(content):
        content["multibeta"]["format"] = 1
        del content["multibeta"]["version"]  # 0.1.0 wrote none

    refuses(
        rewritten(checkpoint, tmp_path / "x.ckpt", change),
        "format 1, which multibeta 0.1.0 reads.*or fit the model again",
    )


def test_a_newer_format(checkpoint, tmp_path):
    def change(content):
        content["multibeta"]["format"] = 99

    refuses(rewritten(checkpoint, tmp_path / "x.ckpt", change), "format 99.*update multibeta")


def test_a_failed_save_leaves_the_old_file(checkpoint, tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        AtomicCheckpointIO().save_checkpoint({"a": lambda: 0}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_file_that_asks_for_far_more_memory_than_it_holds(tmp_path):
    """It is refused before the memory is taken."""
    vae = MultiBetaVAE.of((1, 8, 8), latent_dim=2, network=MLP(width=8))
    vae.fit(torch.rand(64, 1, 8, 8), epochs=1, batch_size=32, betas="1", root=tmp_path)
    (path,) = tmp_path.glob("*/*/checkpoints/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["multibeta"]["settings"]["network"]["init_args"]["width"] = 10**6
    torch.save(checkpoint, path)
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"describes networks of [\d,]+ numbers and holds [\d,]+"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began < 200_000  # kB


def test_names_in_archives_lead_nowhere(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        for name in ("../../evil.npy", "/evil.npy"):
            with archive.open(name, "w") as file:
                np.lib.format.write_array(file, np.zeros((9, 4)))
    for key in ("../../evil", "/evil"):
        data = NPZ(root=str(folder / "x.npz"), key=key)
        data.setup()
        assert data.shape == (4,)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["x.npz"]


def test_shipped_models_are_small_and_name_no_place():
    """Zipped, as in the wheel: 3 MB together."""
    files = sorted(SHIPPED.glob("*.ckpt"))
    assert [file.stem for file in files] == ["digits", "mnist", "sprites"]
    assert sum(len(zlib.compress(file.read_bytes())) for file in files) <= 3e6
    for file in files:
        content = read_checkpoint(file)["multibeta"]
        assert content["data"]["init_args"].get("root") is None
        assert multibeta.load(file.stem).at_beta(1).sample(2).isfinite().all()
    assert content["settings"]["objective"]["class_path"].endswith("BetaTCVAE")


def test_a_shipped_model_is_there_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    curve = multibeta.sweep(multibeta.load("digits"), load_data("digits"), "0.01,0.1,1,10")
    assert curve.about["data"] == "Digits"
    wanted = (-23.5, -21.5, -11.5, 8.6)  # it was trained
    assert all(j < most for j, most in zip(curve["objective_nats"], wanted, strict=True))
    for _ in range(2):  # what is written does not take its name
        assert main(["curve", "digits", "--betas=0.1"]) == 0
    assert (tmp_path / "multibeta-digits" / "curve.json").is_file()
    assert main(["fit", "--ckpt_path=digits"]) == 2
    assert "no checkpoint at digits" in capsys.readouterr().err


def test_a_file_or_folder_goes_before_a_shipped_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(FileNotFoundError, match="no checkpoint at digits"):
        multibeta.load("digits")
