"""What a model makes, from Python and the command line, against its encoder and decoder."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import multibeta
from multibeta import MultiBetaVAE
from multibeta.cli import main
from multibeta.data import Digits
from multibeta.data.given import examples_of, write_picture
from multibeta.generate import (
    busiest,
    interpolations,
    reconstructions,
    samples,
    traversals,
)
from multibeta.networks import MLP
from multibeta.outputs import Output
from multibeta.plots import ffmpeg
from tests.helpers import newest

SHAPE = (1, 6, 6)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = MultiBetaVAE.of(SHAPE, network=MLP(16), latent_dim=3)
    with torch.no_grad():  # so that β matters
        for p in made.parameters():
            p += 0.1 * torch.randn_like(p)
    return made.eval()


def test_samples_have_the_same_noise_at_every_beta(model):
    made = samples(model, "0.1,1", 4, seed=3)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(3))
    for beta, of_beta in zip((0.1, 1.0), made, strict=True):
        torch.testing.assert_close(of_beta, model.at_beta(beta).decode(z).mean)
    assert not torch.allclose(made[0], made[1])
    assert torch.equal(made, samples(model, "0.1,1", 4, seed=3))


@pytest.mark.parametrize("prior", ["standardised", "mixture"])
def test_other_priors_draw_where_the_codes_are(model, prior):
    """Their samples, encoded again, have the moments of the data's codes more nearly."""
    data = torch.rand(400, *SHAPE)
    plain = model.at_beta(0.1)
    codes = plain.encode(data).mean.mean(0)

    def distance(of):
        x = samples(model, 0.1, 400, prior=of, data=data)[0]
        return (plain.encode(x).mean.mean(0) - codes).norm().item()

    assert distance(prior) < distance("prior")
    with pytest.raises(ValueError, match="is fitted to codes of the training set; give data"):
        samples(model, 0.1, 4, prior=prior)


@torch.no_grad()
def test_a_traversal_moves_one_latent(model):
    x = torch.rand(SHAPE)
    made = traversals(model, 0.3, [2, 0], x=x, span=2, steps=5)
    plain = model.at_beta(0.3)
    code = plain.encode(x[None]).mean[0]
    for row, j in enumerate((2, 0)):
        for step, value in enumerate(torch.linspace(-2, 2, 5)):
            z = code.clone()
            z[j] = value
            torch.testing.assert_close(made[0, row, step], plain.decode(z[None]).mean[0])
    middle = traversals(model, 0.3, [1])[0, 0, 4]
    torch.testing.assert_close(middle, plain.decode(torch.zeros(1, 3)).mean[0])


@torch.no_grad()
def test_a_path_ends_at_the_reconstructions(model):
    x = torch.rand(2, *SHAPE)
    made = interpolations(model, "0.1,1", x[0], x[1], steps=3)
    for beta, of_beta in zip((0.1, 1.0), made, strict=True):
        torch.testing.assert_close(of_beta[[0, 2]], model.at_beta(beta).reconstruct(x))


def test_reconstructions_say_what_they_cost(model):
    x = torch.rand(3, *SHAPE)
    made, rows = reconstructions(model, "0.1,1", x, ["a", "b", "c"])
    assert [(row["name"], row["β"]) for row in rows] == [
        (name, beta) for name in "abc" for beta in (0.1, 1.0)
    ]
    for row in rows:
        i, plain = "abc".index(row["name"]), model.at_beta(row["β"])
        rate = plain.elbo_terms(x).rate_nats[i].item()
        assert row["R (nats)"] == pytest.approx(rate, rel=1e-5)
        assert row["R (bits)"] == pytest.approx(rate / np.log(2), rel=1e-5)
        error = (made[int(row["β"] == 1), i] - x[i]).square().mean().item()
        assert row["PSNR (dB)"] == pytest.approx(-10 * np.log10(error), rel=1e-5)


def test_the_busiest_latents_are_those_with_the_most_rate(model):
    data = torch.rand(50, *SHAPE)
    rates = model.at_beta(0.1).elbo_terms(data).rate_per_latent_nats.mean(0)
    assert busiest(model, data, 0.1, 2) == rates.argsort(descending=True)[:2].tolist()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda m: samples(m, 1, 0), "n=0 is too small"),
        (lambda m: samples(m, 1, 4, prior="x"), "prior=x is unknown; allowed: prior, stand"),
        (lambda m: traversals(m, 1, [3]), "latent 3 does not exist; allowed: 0 to 2"),
        (lambda m: traversals(m, 1, [0], steps=1), "steps=1 is too few"),
        (lambda m: traversals(m, 1, []), "no latent is asked for"),
        (lambda m: interpolations(m, 1, *torch.rand(2, *SHAPE), steps=1), "steps=1 is too few"),
        (lambda m: samples(m, 20, 4), "outside the trained range"),
    ],
)
def test_what_cannot_be_made_is_refused(model, make, said):
    with pytest.raises(ValueError, match=said):
        make(model)


class Conditional(torch.nn.Module):
    def __init__(self, n, out):
        super().__init__()
        self.layer = torch.nn.Linear(n + 2, out)

    def forward(self, x, kind):
        return self.layer(torch.cat([x, kind], 1))


def test_networks_that_take_more_are_refused_in_one_line():
    model = multibeta.wrap(Conditional(5, 6), Conditional(3, 5))
    model.place(torch.rand(4, 5), kind=torch.rand(4, 2))
    with pytest.raises(ValueError, match="the networks take more than x and z") as caught:
        samples(model, 1, 4)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="the networks take more than x and z"):
        reconstructions(model, 1, torch.rand(2, 5), ["a", "b"])


# Files ------------------------------------------------------------------------------------------


def test_pictures_that_are_written_are_read_again(tmp_path):
    x = torch.randint(0, 256, (3, *SHAPE), dtype=torch.uint8)
    for i, one in enumerate(x):
        write_picture(one.numpy() / 255, tmp_path / "all" / f"{i}.png", (0, 1))
    found, names = examples_of([str(tmp_path / "all")], SHAPE)
    assert torch.equal(found, x)
    assert names == ["all/0.png", "all/1.png", "all/2.png"]
    Image.new("RGB", (12, 6), (255, 0, 0)).save(tmp_path / "wide.png")
    found, _ = examples_of([str(tmp_path / "wide.png")], (3, 6, 6))
    assert found.shape == (1, 3, 6, 6) and found[0, :, 3, 3].tolist() == [255, 0, 0]


def test_arrays_are_examples(tmp_path):
    x = np.random.default_rng(0).random((4, *SHAPE))
    np.save(tmp_path / "x.npy", x[:, 0])
    np.savez(tmp_path / "one.npz", signal=x[0], labels=np.arange(4))
    found, names = examples_of([str(tmp_path / "x.npy"), str(tmp_path / "one.npz")], SHAPE)
    assert np.array_equal(found.numpy(), np.concatenate([x, x[:1]]))
    assert names == ["x-0", "x-1", "x-2", "x-3", "one-0"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.png", "no file at"),
        ("empty", "is a folder without images"),
        ("text.txt", "is no file of a known kind"),
        ("broken.png", "is corrupt"),
        ("small.png", "has 2x2 pixels"),
        ("two.npz", r"holds a \(4, 1, 6, 6\), b \(4, 1, 6, 6\); give one array"),
        ("other.npy", r"holds other \(4, 5\); give one array of examples \(N, 1, 6, 6\)"),
    ],
)
def test_files_that_are_no_examples_are_refused_in_one_line(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    Image.new("L", (2, 2)).save(tmp_path / "small.png")
    np.savez(tmp_path / "two.npz", a=np.zeros((4, *SHAPE)), b=np.zeros((4, *SHAPE)))
    np.save(tmp_path / "other.npy", np.zeros((4, 5)))
    with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
        examples_of([str(tmp_path / name)], SHAPE)
    assert "\n" not in str(caught.value)


def test_two_files_of_one_name_would_be_written_over_each_other(tmp_path):
    for folder, suffix in (("a", "png"), ("b", "png"), ("a", "bmp")):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("L", (6, 6)).save(tmp_path / folder / f"1.{suffix}")
    for pair in (("a/1.png", "b/1.png"), ("a/1.png", "a/1.bmp")):
        with pytest.raises(ValueError, match=r"two examples are called 1\.png"):
            examples_of([str(tmp_path / name) for name in pair], SHAPE)


# The command line -------------------------------------------------------------------------------


RUN = "digits"  # the model that comes with the package


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.pictures
def test_sample_writes_what_the_name_says(here, capsys):
    assert main(["sample", RUN, "--betas=0.1,1", "--n=3", "--out=x.npz"]) == 0
    found = np.load("x.npz")
    expected = samples(multibeta.load(RUN), "0.1,1", 3).numpy()
    assert found["beta"].tolist() == [0.1, 1]
    assert np.array_equal(found["made"], expected)
    assert main(["sample", RUN, "--betas=0.1,1", "--n=3", "--out=many"]) == 0
    for folder, of_beta in zip(("beta_0.1", "beta_1"), expected, strict=True):
        for i in range(3):
            pixels = np.asarray(Image.open(here / "many" / folder / f"000{i}.png"))
            assert np.abs(pixels / 255 - of_beta[i, 0].clip(0, 1)).max() < 0.51 / 255
    assert main(["sample", RUN, "--betas=0.1,1,3", "--n=3", "--out=x.gif"]) == 0
    with Image.open("x.gif") as frames:
        assert frames.n_frames == 4  # there and back
    assert main(["sample", RUN, "--n=2", "--prior=mixture"]) == 0
    with Image.open("samples.png") as picture:
        assert picture.size[1] > 100
    assert capsys.readouterr().out.endswith("files: samples.png\n")


def test_a_film_of_all_betas(here, capsys):
    pytest.importorskip("imageio_ffmpeg")
    assert main(["sample", RUN, "--betas=0.01,0.0562,10", "--n=3", "--out=x.mp4"]) == 0
    subprocess.run(
        [ffmpeg(), "-loglevel", "error", "-i", "x.mp4", "%03d.png"], check=True, timeout=60
    )
    frames = [np.asarray(Image.open(path)).astype(int) for path in sorted(here.glob("*.png"))]
    assert frames[0].shape[0] % 2 == frames[0].shape[1] % 2 == 0
    assert len(frames) == 24 / 4 * 5  # there, back, and at the start again
    first, middle, last = frames[2], frames[14], frames[-2]
    assert np.abs(first - middle).mean() > 1 > np.abs(first - last).mean()
    assert middle.max() > 240 > middle.mean() > 40
    assert capsys.readouterr().out.endswith("files: x.mp4\n")


def test_without_ffmpeg_a_film_is_refused_before_the_work(here, capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert main(["sample", RUN, "--out=x.mp4"]) == 2
    said = "an .mp4 needs ffmpeg, and there is none; pip install imageio-ffmpeg, or write a .gif"
    assert capsys.readouterr().err == f"multibeta: {said}\n"
    assert list(here.iterdir()) == []


def test_traverse_and_interpolate_take_numbers_and_files(here):
    digits = Digits()
    digits.setup()
    x = digits.splits["test"][5]
    write_picture(x.numpy() / 255, here / "five.png", (0, 1))
    options = ["--betas=0.1", "--steps=3", "--out=x.npz"]
    for last in ("5", "five.png"):
        assert main(["interpolate", RUN, "0", last, *options]) == 0
        again = multibeta.load(RUN).at_beta(0.1).reconstruct(x[None] / 255)
        np.testing.assert_allclose(np.load("x.npz")["made"][0, -1], again[0].detach(), atol=1e-5)
    assert main(["traverse", RUN, "--latents=2,3", "--example=5", *options]) == 0
    assert np.load("x.npz")["made"].shape == (1, 2, 3, 1, 8, 8)
    assert main(["traverse", RUN, "--count=2", "--steps=3"]) == 0


def test_reconstruct_prints_bits_and_psnr(here, capsys):
    digits = Digits()
    digits.setup()
    np.save("x.npy", digits.splits["test"][:2].numpy())
    assert main(["reconstruct", RUN, "x.npy", "--betas=0.1,1", "--json"]) == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert [row["name"] for row in rows] == ["x-0", "x-0", "x-1", "x-1"]
    assert all(row["PSNR (dB)"] > 5 for row in rows)
    assert "files: reconstructions.png" in printed.err
    assert main(["reconstruct", RUN, "x.npy", "--betas=1", "--out=again"]) == 0
    assert "R (bits)" in capsys.readouterr().out
    assert sorted(path.name for path in here.glob("again/*/*")) == ["x-0.png", "x-1.png"]


@pytest.mark.parametrize(
    ("verb", "options", "said"),
    [
        ("sample", ["--out=x.jpeg"], "--out x.jpeg ends in .jpeg; allowed: .png, .pdf, .svg"),
        ("sample", ["--betas=20"], "trained range [0.01, 10]; give one within it"),
        ("sample", ["--n=0"], "n=0 is too small"),
        ("sample", ["--n=1000", "--betas=1"], "1 rows of 1000 do not fit into a picture"),
        ("traverse", ["--count=0"], "no latent is asked for"),
        ("traverse", ["--latents=a"], "--latents has 'a'; give whole numbers, with commas"),
        ("traverse", ["--latents=99"], "latent 99 does not exist; allowed: 0 to 7"),
        ("traverse", ["--example=9999"], "example 9999 does not exist; the test set has 0 to 358"),
        ("interpolate", ["0", "nope.png"], "no file at nope.png"),
        ("reconstruct", ["nope.png"], "no file at nope.png"),
        ("reconstruct", [], "files"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(here, capsys, verb, options, said):
    assert main([verb, RUN, *options]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert list(here.iterdir()) == []


def test_a_table_is_no_picture(tmp_path, here, capsys):
    x = np.random.default_rng(0).random((60, 5)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    assert main(["fit", "--data=NPZ", "--data.root=x.npz", "--data.batch_size=16",
                 "--model.likelihood=Gaussian", "--trainer.max_epochs=1", "--curve.enabled=false",
                 "--trainer.accelerator=cpu"]) == 0  # fmt: skip
    run = newest(tmp_path / "runs")
    capsys.readouterr()
    assert main(["sample", str(run)]) == 2
    assert "x (5,) is no picture and no signal; write --out x.npz" in capsys.readouterr().err
    assert main(["sample", str(run), "--out=s.npz"]) == 0
    assert np.load("s.npz")["made"].shape == (5, 10, 5)


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ((4, 8, 8), "samples, the first of 4 channels"),
        ((6, 20), "samples, the first 4 of 6 channels"),
        ((3, 8, 8), "samples"),
    ],
)
def test_a_picture_says_which_channels_it_shows(shape, note, here, monkeypatch):
    model = MultiBetaVAE.of(shape, network=MLP(8), latent_dim=2)
    titles = []
    monkeypatch.setattr("multibeta.outputs.over_betas", lambda *given: titles.append(given[3]))
    Output("x.png", model).write((1.0,), samples(model, 1.0, 2), "samples")
    assert titles == [note]
    if shape[0] != 3:
        with pytest.raises(ValueError, match="is no picture with 1 or 3 channels; write --out"):
            Output("folder", model)
