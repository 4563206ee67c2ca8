"""A plain VAE as one file: bit for bit the same, and refused where it is not what it should be."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import multibeta
from multibeta import BetaVAE, MultiBetaVAE
from multibeta.likelihoods import Bernoulli, Gaussian, LearnedGaussian
from multibeta.networks import MLP, Conv, ResNet
from multibeta.tensors import read, write

safetensors = pytest.importorskip("safetensors")


def moved(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn_like(p)
    return model.eval()


OURS = {
    "mlp": lambda: MultiBetaVAE.of((1, 8, 8), network=MLP(16), latent_dim=3),
    "conv": lambda: MultiBetaVAE.of((3, 16, 16), network=Conv(4, 2), likelihood=Gaussian("0.1:1")),
    "resnet": lambda: MultiBetaVAE.of((1, 16, 16), network=ResNet(4, 2), latent_dim=3,
                                      likelihood=LearnedGaussian()),
    "standard": lambda: MultiBetaVAE.of((5,), network=MLP(16), likelihood=Gaussian(0.3),
                                        standard=(torch.rand(5), torch.rand(5) + 1)),
}  # fmt: skip


def pair():
    return nn.Linear(5, 6), nn.Linear(3, 5)


def wrapped(**options):
    options = {"likelihood": Bernoulli(), "example": torch.rand(4, 5), **options}
    return moved(multibeta.wrap(*pair(), **options))


def same(a, b):
    x = torch.rand(3, *a.shape)
    noise = torch.randn(3, *a.latent_shape)
    ours, theirs = (vae.elbo_terms(x, noise) for vae in (a, b))
    assert torch.equal(ours.distortion, theirs.distortion)
    assert torch.equal(ours.rate_per_latent_nats, theirs.rate_per_latent_nats)
    assert torch.equal(a.reconstruct(x), b.reconstruct(x))
    assert (a.beta, a.units, a.shape, a.latent_shape) == (b.beta, b.units, b.shape, b.latent_shape)
    assert not b.training
    formats = [[v.stride() for v in vae.state_dict().values()] for vae in (a, b)]
    assert formats[0] == formats[1]


@torch.no_grad()
@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("beta", [0.01, 3.0])
def test_what_is_loaded_equals_what_was_saved_bit_for_bit(tmp_path, name, beta):
    vae = moved(OURS[name]()).at_beta(beta)
    vae.save(tmp_path / "vae.safetensors")
    same(vae, BetaVAE.load(tmp_path / "vae.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["vae.safetensors"]


@torch.no_grad()
def test_a_standardised_vae_and_half_precision_come_back(tmp_path):
    model = moved(OURS["mlp"]())
    vae = model.at_beta(0.1).standardised([torch.rand(20, 1, 8, 8)])
    vae.save(tmp_path / "a.safetensors")
    again = BetaVAE.load(tmp_path / "a.safetensors")
    same(vae, again)
    assert torch.equal(vae.mean, again.mean)
    half = model.at_beta(0.1).to(torch.bfloat16)
    half.save(tmp_path / "b.safetensors")
    again = BetaVAE.load(tmp_path / "b.safetensors")
    assert next(again.parameters()).dtype == torch.bfloat16
    same(half, again)


FRESH = """
import gc
gc.disable()  # imports are quicker
import sys, torch, multibeta
vae = multibeta.BetaVAE.load(sys.argv[1])
x = torch.load(sys.argv[2])
torch.save({"x_hat": vae.reconstruct(x), "units": vars(vae.units)["n"]}, sys.argv[3])
"""


@torch.no_grad()
def test_a_fresh_process_gives_the_same(tmp_path):
    vae, x = multibeta.load("digits").at_beta(0.1), torch.rand(5, 1, 8, 8)
    vae.save(tmp_path / "vae.safetensors")
    torch.save(x, tmp_path / "x.pt")
    paths = [tmp_path / name for name in ("vae.safetensors", "x.pt", "out.pt")]
    subprocess.run([sys.executable, "-c", FRESH, *map(str, paths)], check=True)
    found = torch.load(tmp_path / "out.pt")
    assert torch.equal(found["x_hat"], vae.reconstruct(x)) and found["units"] == vae.units.n


@torch.no_grad()
def test_a_wrapped_one_needs_its_modules(tmp_path):
    path = tmp_path / "vae.safetensors"
    vae = wrapped().at_beta(0.3)
    vae.save(path)
    same(vae, BetaVAE.load(path, *pair()))
    with pytest.raises(ValueError, match=r"your code \(torch.nn.*Linear.*encoder, decoder"):
        BetaVAE.load(path)
    with pytest.raises(ValueError, match=r"does not fit the model: encoder.weight is \(6, 5\) in"):
        BetaVAE.load(path, nn.Linear(5, 4), nn.Linear(2, 5))


@torch.no_grad()
def test_code_of_the_users_is_passed(tmp_path):
    def distance(x_hat, x):
        return (x_hat - x).abs().sum(1)

    path, vae = tmp_path / "vae.safetensors", wrapped(likelihood=None, distortion=distance)
    vae.at_beta(0.3).save(path)
    with pytest.raises(
        ValueError, match=r"likelihood of your own .*likelihood=…|was not imported"
    ):
        BetaVAE.load(path, *pair())
    same(vae.at_beta(0.3), BetaVAE.load(path, *pair(), distortion=distance))


def test_a_class_that_is_not_ours_is_not_imported(tmp_path, monkeypatch):
    OURS["mlp"]().at_beta(1.0).save(path := tmp_path / "vae.safetensors")
    content, tensors = read(path, "BetaVAE", 1)
    (tmp_path / "evil.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for part in ("likelihood", "network"):
        changed = json.loads(json.dumps(content))
        of = changed if part == "likelihood" else changed["settings"]
        of[part]["class_path"] = "evil.Class"
        write(path, tensors, changed)
        with pytest.raises(ValueError, match=r"names evil.Class, .* pass allow='evil'"):
            BetaVAE.load(path)
    changed = json.loads(json.dumps(content))
    changed["settings"]["network"]["init_args"]["width"] = 10_000
    write(path, tensors, changed)
    with pytest.raises(ValueError, match=r"describes networks of 2\d\d,\d{3},\d{3} numbers"):
        BetaVAE.load(path)


def test_any_flipped_bit_is_seen(tmp_path):
    path = tmp_path / "vae.safetensors"
    OURS["mlp"]().at_beta(1.0).save(path)
    whole = path.read_bytes()
    for place in range(3, len(whole), len(whole) // 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ValueError) as refused:
            BetaVAE.load(path)
        assert "\n" not in str(refused.value)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        BetaVAE.load(path)


def test_other_files_are_refused_in_one_line(tmp_path, monkeypatch):
    model = OURS["mlp"]()
    model.at_beta(1.0).save(path := tmp_path / "vae.safetensors")
    content, tensors = read(path, "BetaVAE", 1)
    write(path, tensors, {**content, "format": 2, "version": "9.0"})
    with pytest.raises(ValueError, match=r"format 2, written by multibeta 9.0, .* update"):
        BetaVAE.load(path)
    write(path, tensors, {**content, "beta": -1.0})
    with pytest.raises(ValueError, match=r"was changed, or is damaged \(beta"):
        BetaVAE.load(path)
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(ValueError, match="holds weights alone"):
        BetaVAE.load(path)
    model.save_pretrained(tmp_path / "all")
    with pytest.raises(ValueError, match="a model for a range of β"):
        BetaVAE.load(tmp_path / "all" / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="no file at"):
        BetaVAE.load(tmp_path / "nowhere")
    monkeypatch.setattr("multibeta.tensors.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs safetensors: pip install 'multibeta\[hub\]'"):
        model.at_beta(1.0).save(path)


def test_a_notebook_shows_a_table_that_is_escaped():
    model = multibeta.load("digits")
    shown = model._repr_html_()
    for text in (
        "0.01:10",
        "(1, 8, 8)",
        "271,888",
        "Gaussian(sigma=0.25)",
        "D + βR",
        "weights by β",
    ):
        assert text in shown
    plain = model.at_beta(0.1)
    plain.likelihood.extra_repr = lambda: "<script>alert(1)</script>"
    shown = plain._repr_html_()
    assert "&lt;script&gt;" in shown and "<script" not in shown and ">0.1<" in shown
    unplaced = multibeta.wrap(*pair())
    assert "not known yet" in unplaced._repr_html_()
