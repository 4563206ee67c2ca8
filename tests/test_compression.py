"""compress, decompress and cut, as typed; files of a wanted size or quality; whose they are."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import multibeta
from multibeta.cli import main
from multibeta.codec import Codec
from multibeta.codec.container import beta_at, unpack
from multibeta.compression import encode_to, model_of, shortest_beta
from multibeta.data import Digits
from multibeta.data.given import write_picture
from multibeta.evaluation import sweep
from multibeta.likelihoods import Gaussian
from multibeta.metrics.psnr import psnr
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP

pytest.importorskip("constriction")


@pytest.fixture(scope="module")
def model():
    return multibeta.load("digits")


@pytest.fixture(scope="module")
def x():
    return Digits().load()["test"][:60] / 255


@pytest.fixture
def here(tmp_path, monkeypatch, x):
    """Be in a folder with a folder of pictures, and an array of the same."""
    monkeypatch.chdir(tmp_path)
    for i, picture in enumerate(x):
        write_picture(picture.numpy(), tmp_path / "pictures" / f"{i:02}.png", (0, 1))
    np.save("x.npy", x.numpy())
    return tmp_path


def pictures(folder):
    files = sorted(folder.iterdir())
    return torch.from_numpy(np.stack([np.asarray(Image.open(f)) for f in files]))[:, None] / 255


def test_pictures_there_and_back(here, model, x, capsys):
    assert main(["compress", "digits", "pictures", "--beta", "0.3", "--out", "a.mb"]) == 0
    out = capsys.readouterr().out
    data = (here / "a.mb").read_bytes()
    assert data == Codec(model).encode(x, 0.3)
    assert f"60 examples, {len(data):,} bytes: {8 * len(data) / 60:.1f} bits an example" in out
    assert main(["decompress", "a.mb", "--out", "back"]) == 0
    told = capsys.readouterr()
    assert "60 pictures at β = 0.3" in told.out and told.err == "model: digits\n"
    assert torch.equal(pictures(here / "back"), Codec(model).decode(data))


def test_numbers_are_those_of_the_file(here, model, x, capsys):
    assert main(["compress", "digits", "x.npy", "--beta", "1", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    data = (here / "compressed.mb").read_bytes()
    codec = Codec(model)
    assert row["bytes"] == len(data) and row["bits"] == 8 * len(data) / 60
    assert row["bpp"] == row["bits"] / 64
    assert row["psnr_db"] == pytest.approx(psnr(x, codec.decode(data)).mean().item())
    vae = model.at_beta(row["beta"])
    rate = vae.elbo_terms(x).rate_nats.mean().item() / math.log(2)
    assert row["rate_bits"] == pytest.approx(rate, rel=1e-4)
    assert row["psnr_mean_db"] == pytest.approx(
        psnr(x, vae.reconstruct(x)).mean().item(), abs=0.01
    )
    assert main(["decompress", "compressed.mb", "--run", "digits", "--out", "y.npz"]) == 0
    assert np.array_equal(np.load("y.npz")["x"], codec.decode(data).numpy())


def test_bits_and_psnr_are_kept_and_the_next_beta_is_too_far(model, x):
    codec = Codec(model)
    few = encode_to(codec, x, bits=25)
    assert 8 * len(few) / len(x) <= 25
    beyond = codec.encode(x, beta_at(unpack(few).beta_index - 6))
    assert 8 * len(beyond) / len(x) > 25
    good = encode_to(codec, x, psnr=19, peak=1.0)
    assert psnr(x, codec.decode(good)).mean() >= 19
    worse = codec.encode(x, beta_at(unpack(good).beta_index + 6))
    assert psnr(x, codec.decode(worse)).mean() < 19


def test_what_is_out_of_reach_is_said_with_what_is_not(model, x):
    with pytest.raises(ValueError, match=r"99 dB are out of reach: the most is near 2\d\.\d"):
        encode_to(Codec(model, search=0), x, psnr=99, peak=1.0)
    with pytest.raises(ValueError, match=r"0\.5 bits are out of reach: the least is near"):
        encode_to(Codec(model, search=0), x, bits=0.5)
    with pytest.raises(ValueError, match="give one of bits and psnr"):
        encode_to(Codec(model), x)
    with pytest.raises(ValueError, match="PSNR needs the peak of x"):
        encode_to(Codec(model), x, psnr=20)


def test_a_progressive_file_is_cut_without_the_model(here, capsys):
    assert main(["compress", "digits", "x.npy", "--progressive", "--out", "all.mb"]) == 0
    capsys.readouterr()
    assert main(["cut", "all.mb", "--bits", "20", "--out", "short.mb"]) == 0
    assert "→ 150 bytes, 20.0 bits an example" in capsys.readouterr().out
    assert (here / "short.mb").stat().st_size == 150
    assert main(["decompress", "short.mb", "--out", "a.npy"]) == 0
    assert main(["decompress", "all.mb", "--bits", "20", "--out", "b.npy"]) == 0
    assert np.array_equal(np.load("a.npy"), np.load("b.npy"))
    (here / "stopped.mb").write_bytes((here / "all.mb").read_bytes()[:150])
    capsys.readouterr()
    assert main(["decompress", "stopped.mb", "--out", "c.npy"]) == 0
    assert "the file ends after 150 of" in capsys.readouterr().err
    assert np.array_equal(np.load("a.npy"), np.load("c.npy"))


def test_lossless(tmp_path, monkeypatch, capsys):
    """At the β of the least D + R."""
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    made = MultiBetaVAE.of((1, 4, 4), network=MLP(8, 1), latent_dim=2)
    x = (torch.rand(40, 1, 4, 4) < 0.3).float()
    codec = Codec(made)
    beta = shortest_beta(codec, x)
    curve = sweep(made, x, tuple(np.geomspace(0.0101, 9.9, 8)))
    totals = curve["neg_elbo_nats"]
    with torch.no_grad():
        at = made.at_beta(beta).elbo_terms(x, torch.zeros(40, 2))
    assert (at.distortion + at.rate_nats).mean() < min(totals) + 1
    file = codec.encode(x, beta, lossless=True)
    assert torch.equal(codec.decode(file), x)
    made.save_pretrained("saved")
    np.save("x.npy", x.numpy())
    assert main(["compress", "saved", "x.npy", "--lossless"]) == 0
    assert "D + R there is" in capsys.readouterr().out
    assert main(["decompress", "compressed.mb", "--run", "saved", "--out", "y.npy"]) == 0
    assert np.array_equal(np.load("y.npy"), x.numpy())
    with pytest.raises(ValueError, match="binarise the data"):
        codec.encode(x / 2, beta, lossless=True)
    with pytest.raises(ValueError, match="lossless or progressive"):
        codec.encode(x, beta, lossless=True, progressive=True)
    with pytest.raises(ValueError, match="and has no beginnings"):
        codec.decode(file, bits=3)


def test_the_model_that_made_a_file_is_found(model, x, tmp_path):
    for options in ({"beta": 0.3}, {"progressive": True}):
        for count in (1, 5):
            assert model_of(Codec(model).encode(x[:count], **options), tmp_path)[0] == "digits"
    torch.manual_seed(0)
    other = MultiBetaVAE.of((1, 8, 8), network=MLP(8, 1), latent_dim=2)
    with pytest.raises(ValueError, match=r"none of 3 shipped models and 0 runs in .* give --run"):
        model_of(Codec(other).encode(x[:5], 0.3), tmp_path)


@pytest.mark.parametrize("words", [["compress", "digits", "x.npy", "--beta", "1"],
                                   ["decompress", "a.mb"]])  # fmt: skip
def test_without_a_coder_it_is_the_coder_that_is_named(here, model, x, capsys, monkeypatch, words):
    (here / "a.mb").write_bytes(Codec(model, search=0).encode(x, 1.0))
    monkeypatch.setitem(sys.modules, "constriction", None)
    assert main(words) == 2
    assert "pip install 'multibeta[codec]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["compress", "digits", "x.npy"], "give one of --beta, --bits, --psnr"),
        (["compress", "digits", "x.npy", "--beta", "1", "--bits", "3"], "give one of --beta"),
        (["compress", "digits", "x.npy", "--beta", "40"], "outside the trained range [0.01, 10]"),
        (["compress", "digits", "x.npy", "--progressive", "--bits", "3"], "takes no --bits"),
        (["compress", "digits", "x.npy", "--lossless", "--psnr", "3"], "takes no --psnr"),
        (["compress", "digits", "x.npy", "--lossless", "--progressive"], "leave one of them out"),
        (["compress", "digits", "x.npy", "--lossless"], "Gaussian"),
        (["compress", "digits", "none.npy", "--beta", "1"], "no file at none.npy"),
        (["decompress", "none.mb"], "no file at none.mb"),
        (["decompress", "x.npy"], "or it is damaged; give --run RUN"),
        (["decompress", "x.npy", "--at", "gamma=1"], "give it, too: --run RUN"),
        (["decompress", "a.mb", "--run", "mnist"], "made by another model"),
        (["decompress", "a.mb", "--bits", "3"], "has no beginnings"),
        (["decompress", "a.mb", "--run", "digits", "--out", "a.txt"], "cannot hold 60 pictures"),
        (["cut", "a.mb", "--bits", "3"], "only progressive ones can be cut"),
        (["cut", "a.mb"], "give --bits N"),
        (["cut", "all.mb", "--bits", "0.1"], "no room for the header"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line_and_leaves_nothing(here, model, x, capsys, words, what):
    codec = Codec(model, search=0)
    (here / "a.mb").write_bytes(codec.encode(x, 1.0))
    (here / "all.mb").write_bytes(codec.encode(x, progressive=True))
    before = sorted(here.iterdir())
    assert main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert what in lines[-1] and len([line for line in lines if line[:6] != "model:"]) == 1
    assert sorted(here.iterdir()) == before


def test_real_bits_over_beta(model, x):
    curve = sweep(model, x, "0.1,1", metrics={"bits": {"most": 30, "search": 0}})
    for row in curve.rows:
        codec = Codec(model.at_beta(row["beta"]), search=0)
        data = codec.encode(x[::2], row["beta"])
        assert row["code_bits"] == 8 * len(data) / 30 and row["code_examples"] == 30
        assert row["code_bpp"] == row["code_bits"] / 64
        assert row["code_psnr_db"] == pytest.approx(psnr(x[::2], codec.decode(data)).mean().item())
    assert curve["code_bits"][0] > curve["code_bits"][1]
    beta = curve.beta_for(code_bits=20)
    assert 0.1 < beta < 1
    again = sweep(model, x, beta, metrics={"bits": {"most": 30, "search": 0}})
    assert again["code_bits"][0] == pytest.approx(20, rel=0.01)


def test_psnr_of_data_without_a_peak_is_refused():
    table = MultiBetaVAE.of((6,), "0.01:1", network=MLP(8, 1), latent_dim=3, likelihood=Gaussian())
    curve = sweep(table, torch.randn(20, 6), "0.1,1", metrics="bits")
    with pytest.raises(ValueError, match="code_psnr_db needs the peak of x"):
        curve.beta_for(code_psnr_db=20)
