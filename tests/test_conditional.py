"""Labels of our own data sets as inputs of networks that take them by name."""

import numpy as np
import pytest
import torch
from PIL import Image

import multibeta
from multibeta.checkpoints import load_data
from multibeta.cli import main
from multibeta.data import NPZ, Digits, Door, Folder
from multibeta.evaluation import sweep
from multibeta.generate import interpolations, samples, traversals
from multibeta.noise import evaluation_noise
from multibeta.results import save_pictures
from tests.helpers import newest


class Takes:
    """What a door asks of a model."""

    def __init__(self, shape, *names):
        self.shape, self.further_arguments = shape, names


def numbered(path, n=60):
    """Rows whose first value is their number, with a label of each."""
    x = np.arange(n, dtype=np.float32)[:, None].repeat(3, 1)
    np.savez(path, x=x, kind=np.arange(n) % 4, weight=np.arange(n) / 7)
    return NPZ(str(path), batch_size=8)


@pytest.mark.parametrize("mapped", [True, False])
def test_each_example_keeps_its_label(tmp_path, mapped):
    """Shuffled and in order, in memory and from a memory map, over several epochs."""
    data = numbered(tmp_path / "x.npz")
    data.setup()
    if not mapped:
        data.splits = {k: torch.from_numpy(np.asarray(v[:])) for k, v in data.splits.items()}
    door = Door.of(data, Takes((3,), "kind", "weight", "other"))
    loaders = [door.train_dataloader(), *(door.batches(k) for k in ("train", "val", "test"))]
    for loader in (loaders[0], *loaders):
        for batch in loader:
            number = batch["x"][:, 0]
            assert sorted(batch) == ["kind", "weight", "x"]
            assert torch.equal(batch["kind"], number.long() % 4)
            assert torch.equal(batch["weight"], (number.double() / 7).float())
    assert torch.equal(loaders[1].rows([5, 2])["kind"], loaders[1].rows([5, 2])["x"][:, 0] % 4)


def test_nothing_comes_that_is_not_asked_for(tmp_path):
    data = numbered(tmp_path / "x.npz")
    for model in (None, Takes((3,)), Takes((3,), "other", "x")):
        assert isinstance(next(iter(Door.of(data, model).train_dataloader())), torch.Tensor)


def test_words_are_numbers_in_the_order_of_the_alphabet(tmp_path):
    for shade, name in enumerate(("cats", "dogs")):
        (tmp_path / name).mkdir()
        for i in range(20):
            Image.new("L", (8, 8), 100 * shade + i).save(tmp_path / name / f"{i}.png")
    door = Door.of(Folder(str(tmp_path), size=8, batch_size=4), Takes((1, 8, 8), "folder"))
    for batch in door.train_dataloader():
        assert torch.equal(batch["folder"], (batch["x"][:, 0, 0, 0] >= 100).long())
    assert door.numbers("folder", np.array(["dogs", "cats"])).tolist() == [1, 0]
    with pytest.raises(ValueError, match="folder=horses is none of the data's; it has cats, dogs"):
        door.numbers("folder", np.array(["horses"]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("conditional")
    options = [
        "--config=digits.yaml", f"--trainer.default_root_dir={root}", "--trainer.max_epochs=8",
        "--model.encoder=tests.helpers.OwnConditionalEncoder", "--curve.betas=0.1,1",
        "--model.decoder=tests.helpers.OwnConditionalDecoder", "--model.latent_dim=4",
    ]  # fmt: skip
    assert main(["fit", *options]) == 0
    return newest(root)


def test_a_run_is_told_the_labels_and_so_is_what_measures_it(run):
    """D and R are those given each example's own label, by a direct computation."""
    model, data = multibeta.load(run, allow="tests"), load_data(run, allow="tests")
    data.setup()
    x, digit = data.splits["test"].float() / 255, torch.tensor(data.labels("test")["digit"])
    batches = data.test_dataloader()
    noise = torch.cat(
        [evaluation_noise(batches, i, len(of), (4,)) for i, of in enumerate(batches)]
    )
    curve = sweep(model, data, (0.1, 1.0), metrics={"nll": {"samples": 4}, "psnr": {}})
    for k, beta in enumerate((0.1, 1.0)):
        vae = model.at_beta(beta)
        with torch.no_grad():
            told = vae.elbo_terms(x, noise, digit=digit)
            misled = vae.elbo_terms(x, noise, digit=(digit + 1) % 10)
        assert curve["distortion_nats"][k] == pytest.approx(told.distortion.mean().item(), 1e-5)
        assert curve["rate_nats"][k] == pytest.approx(told.rate_nats.mean().item(), 1e-5)
        assert misled.distortion.mean() + misled.rate_nats.mean() > (
            told.distortion.mean() + told.rate_nats.mean() + 1
        )


@pytest.mark.pictures
def test_a_run_draws_samples_of_the_labels_of_examples(run, capsys):
    model, data = multibeta.load(run, allow="tests"), load_data(run, allow="tests")
    save_pictures(sweep(model, data, 1.0), model, data, run)
    assert {"samples.png", "traversals.png", "codes.png"} <= {path.name for path in run.iterdir()}
    assert "no samples" not in capsys.readouterr().err


def test_what_is_given_is_what_the_decoder_is_told(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    at = [str(run), "--allow=tests", "--betas=0.1,1"]
    assert main(["sample", *at, "--n=3", "--given.digit=0,5,9", "--out=s.npz"]) == 0
    assert main(["traverse", *at, "--latents=1", "--example=3", "--out=t.npz"]) == 0
    assert main(["interpolate", *at, "0", "1", "--given.digit=2", "--out=i.npz"]) == 0
    np.save("x.npy", np.full((2, 1, 8, 8), 0.5, np.float32))
    assert main(["reconstruct", str(run), "x.npy", "--allow=tests", "--betas=1",
                 "--given.digit=7", "--out=r.npz"]) == 0  # fmt: skip
    made = {name: np.load(f"{name}.npz")["made"] for name in "stir"}
    model, data = multibeta.load(run, allow="tests"), Digits()
    digits = torch.tensor([0, 5, 9])
    assert np.allclose(made["s"], samples(model, (0.1, 1), 3, inputs={"digit": digits}), atol=1e-6)
    own = torch.tensor(data.labels("test")["digit"])
    x = data.splits["test"].float() / 255
    moved = traversals(model, (0.1, 1), [1], x=x[3], inputs={"digit": own[3:4]})
    assert np.allclose(made["t"], moved, atol=1e-6)
    two = {"digit": torch.tensor([2])}
    between = interpolations(model, (0.1, 1), x[0], x[1], inputs=two)
    assert np.allclose(made["i"], between, atol=1e-6)
    vae, half = model.at_beta(1), torch.full((2, 1, 8, 8), 0.5)
    again = vae.reconstruct(half, digit=torch.tensor([7, 7]))
    assert np.allclose(made["r"][0], again.detach(), atol=1e-6)
    vae = model.at_beta(0.1)
    line = vae.traverse(x[3:5], 1, steps=9, digit=own[3:5])[0]
    assert torch.allclose(line, moved[0, 0], atol=1e-6)


def test_a_file_has_no_labels_and_who_reads_it_gives_them(run, tmp_path, monkeypatch, capsys):
    """One label for all, or one for each; with others the fingerprint is another."""
    pytest.importorskip("constriction")
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32))
    for given in ("7", "7,0,3"):
        options = [f"--given.digit={given}", "--allow=tests"]
        for how in ("--beta=0.3", "--bits=2000", "--progressive"):
            assert main(["compress", str(run), "x.npy", how, *options]) == 0
            read = ["decompress", "compressed.mb", f"--run={run}", "--out=y.npy"]
            assert main([*read, *options]) == 0
            inputs = {"digit": torch.tensor([int(word) for word in given.split(",")])}
            codec = multibeta.Codec(multibeta.load(run, allow="tests"))
            again = codec.decode((tmp_path / "compressed.mb").read_bytes(), **inputs)
            assert np.array_equal(np.load("y.npy"), again)
        capsys.readouterr()
        assert main([*read, "--allow=tests", "--given.digit=1,2"]) == 2
        assert "and the labels that it was given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the networks take more than x and z"),
        (["--given.digt=3"], "take no digt (did you mean digit?); they take digit"),
        (["--given.digit=cat"], "--given.digit cat is no number"),
        (["--given.digit=1,2"], "digit has 2 rows, and there are 10 examples; give one for each"),
    ],
)
def test_what_is_missing_or_wrong_is_said(run, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(run), "--allow=tests", *options]) == 2
    assert message in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_ends_with_two_labels_need_a_choice(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    digits = Digits().labels("test")["digit"]
    other = int(np.argmax(digits != digits[0]))
    assert main(["interpolate", str(run), "0", str(other), "--allow=tests"]) == 2
    said = capsys.readouterr().err
    assert f"digit is {digits[0]} at one end and {digits[other]} at the other" in said


def test_a_page_says_whose_labels_it_shows_and_an_export_that_it_takes_none(run, capsys):
    page = run / "report.html"
    assert main(["report", str(run), "--allow=tests", f"--out={page}"]) == 0
    assert "samples have the digit of the examples" in capsys.readouterr().err
    assert main(["export", str(run), "--beta=1", "--allow=tests", f"--out={run / 'x'}"]) == 2
    assert "the encoder takes digit too" in capsys.readouterr().err
