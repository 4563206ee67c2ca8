"""The Hub: a folder, and a stub of the server that huggingface_hub talks to."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import multibeta
from multibeta import BetaVAE, MultiBetaVAE
from multibeta.checkpoints import load_data
from multibeta.cli import main
from multibeta.fitting import Run
from multibeta.hub import is_repo
from multibeta.networks import MLP
from tests.hub_stub import COMMIT, hub_stub

pytest.importorskip("safetensors")
X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SNAPSHOT = f"models--me--digits/snapshots/{COMMIT}"

pytestmark = pytest.mark.pictures


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on this machine, a cache of its own, and an empty folder."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", "hf_stub")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with hub_stub() as (found, address):
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield found


def fails(capsys, *argv):
    assert main([*argv]) == 2
    error = capsys.readouterr().err
    return error.splitlines()[-1]


@torch.no_grad()
def test_a_folder_holds_the_model(tmp_path):
    model = multibeta.load("digits")
    files = model.save_pretrained(tmp_path / "digits", license="mit")
    assert sorted(files) == sorted((tmp_path / "digits").iterdir())
    again = MultiBetaVAE.from_pretrained(tmp_path / "digits")
    for beta in (0.01, 0.3, 10):
        plain, loaded = model.at_beta(beta), again.at_beta(beta)
        assert torch.equal(plain.reconstruct(X), loaded.reconstruct(X))
    assert again.units == model.units and again.about["examples"] == model.about["examples"]
    assert (again.run_seed, str(again)) == (model.run_seed, str(model))
    assert load_data(tmp_path / "digits").batch_size == 128
    content = json.loads((tmp_path / "digits" / "config.json").read_text())
    assert content["settings"]["latent_dim"] == 8 and "root" not in str(content["run"])
    with pytest.raises(ValueError, match="a model for a range of β"):
        BetaVAE.from_pretrained(tmp_path / "digits")


@torch.no_grad()
def test_a_plain_vae_has_a_folder_too(tmp_path):
    plain = multibeta.load("digits").at_beta(0.1)
    plain.save_pretrained(tmp_path / "plain")
    again = BetaVAE.from_pretrained(tmp_path / "plain")
    assert torch.equal(again.reconstruct(X), plain.reconstruct(X))
    card = (tmp_path / "plain" / "README.md").read_text(encoding="utf-8")
    for text in (
        "β = 0.1",
        "Trained on Digits",
        'BetaVAE.from_pretrained("plain")',
        "higgins2017",
    ):
        assert text in card
    with pytest.raises(ValueError, match="a plain VAE at one β"):
        MultiBetaVAE.from_pretrained(tmp_path / "plain")


@torch.no_grad()
def test_a_wrapped_model_is_loaded_with_its_modules(tmp_path):
    def pair():
        return nn.Linear(5, 6), nn.Linear(3, 5)

    vae = multibeta.wrap(*pair(), example=torch.rand(4, 5))
    vae.save_pretrained(tmp_path / "own")
    again = MultiBetaVAE.from_pretrained(tmp_path / "own", *pair())
    x = torch.rand(3, 5)
    assert torch.equal(again.at_beta(1).reconstruct(x), vae.at_beta(1).reconstruct(x))
    card = (tmp_path / "own" / "README.md").read_text(encoding="utf-8")
    assert 'MultiBetaVAE.from_pretrained("own", encoder, decoder)' in card
    assert "not known to the file" in card and "torch.nn.modules.linear.Linear" in card
    with pytest.raises(ValueError, match="whose architecture is your code"):
        MultiBetaVAE.from_pretrained(tmp_path / "own")
    with pytest.raises(ValueError, match="where β enters is not yet known"):
        multibeta.wrap(*pair()).save_pretrained(tmp_path / "none")


def test_places_of_this_machine_stay_here(tmp_path, capsys):
    model = MultiBetaVAE.of((1, 8, 8), network=MLP(16))
    data = {"class_path": "multibeta.data.folder.Folder",
            "init_args": {"root": "/home/someone/faces", "size": 8}}  # fmt: skip
    run = {"name": "faces", "folder": "2026-01-31-1", "seed_everything": 1,
           "trainer": {"max_epochs": 3, "default_root_dir": "/home/someone/runs"}}  # fmt: skip
    model.about = {"data": data, "examples": "ab", "training": None, "run": run, "step": 7}
    for saved in (model, model.at_beta(1.0)):
        saved.save_pretrained(tmp_path / "faces")
        said = capsys.readouterr().err
        assert "left out: data.root" in said and said.count("\n") == 1
        for path in (tmp_path / "faces").iterdir():
            assert b"someone" not in path.read_bytes(), path
    assert model.about["data"]["init_args"]["root"] == "/home/someone/faces"


def test_the_card_says_what_it_is_how_to_load_it_and_what_to_cite(tmp_path):
    model = multibeta.load("digits")
    curve = multibeta.sweep(model, load_data("digits"), "0.1,1", metrics="active_units")
    model.save_pretrained(tmp_path / "a", name="me/digits", license="mit", curve=curve)
    assert (tmp_path / "a" / "curve.png").stat().st_size > 5000
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "multibeta", "license": "mit",
        "tags": ["beta-vae", "multibeta", "rate-distortion", "variational-autoencoder"],
    }  # fmt: skip
    units = model.units
    for text in (
        "![Distortion against rate](curve.png)", curve.table(), 'multibeta.load("me/digits")',
        "Trained on Digits", model.about["examples"], f"{units.mean[0]:.4g}", "nats per example",
        "The weights: mit", "@software{multibeta", "burda2016iwae", "alpaydin1998digits",
    ):  # fmt: skip
        assert text in body, text
    lines = body.split("```python\n")[1].split("```")[0].replace("me/digits", str(tmp_path / "a"))
    assert lines.count("\n") == 3
    found = {}
    exec(lines, found)
    assert found["vae"].beta == pytest.approx(model.beta_range.middle, rel=1e-2)
    model.save_pretrained(tmp_path / "b")
    card = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    assert "license: unknown" in card and "has not given one" in card
    assert "No curve was measured" in card and not (tmp_path / "b" / "curve.png").exists()


@torch.no_grad()
def test_a_model_goes_to_the_hub_and_comes_back(hub, tmp_path, capsys):
    multibeta.sweep(multibeta.load("digits"), load_data("digits"), 0.1).to_json("mine.json")
    curve = "--curve=mine.json"
    assert main(["push", "digits", "me/digits", "--private", "--license=mit", curve]) == 0
    assert capsys.readouterr().out.endswith("/me/digits\n")
    names = {"README.md", "config.json", "curve.png", "model.safetensors"}
    assert hub.files["me/digits"].keys() == names and hub.private["me/digits"]
    again = multibeta.load("me/digits")
    said = capsys.readouterr().err
    assert "looked for on http://127.0.0.1" in said and SNAPSHOT in said
    model = multibeta.load("digits")
    assert torch.equal(again.at_beta(0.3).reconstruct(X), model.at_beta(0.3).reconstruct(X))
    before = len([line for line in hub.asked if line.startswith("GET")])
    assert main(["encode", "me/digits", "--betas=0.1", "--out=codes.npz"]) == 0
    assert main(["curve", "me/digits", "--betas=0.1"]) == 0  # not into the cache
    assert Path("codes.npz").is_file() and Path("multibeta-digits/curve.json").is_file()
    kept = tmp_path / "hf" / "hub" / SNAPSHOT
    assert sorted(path.name for path in kept.iterdir()) == ["config.json", "model.safetensors"]
    assert len([line for line in hub.asked if line.startswith("GET")]) == before  # kept


@torch.no_grad()
def test_a_plain_vae_goes_to_the_hub_and_comes_back(hub, capsys):
    assert main(["push", "digits", "me/plain", "--beta=0.1"]) == 0
    said = capsys.readouterr().err
    assert "the card has no curve" in said and "licence is unknown" in said
    plain, again = multibeta.load("digits").at_beta(0.1), BetaVAE.from_pretrained("me/plain")
    assert torch.equal(plain.reconstruct(X), again.reconstruct(X))
    assert "is a plain VAE at one β" in fails(capsys, "curve", "me/plain")


def test_a_folder_is_written_without_network(hub, capsys):
    assert main(["push", "digits", "./mine", "--license=mit"]) == 0
    assert "mine/model.safetensors" in capsys.readouterr().out
    assert hub.asked == []
    assert main(["curve", "mine", "--betas=1"]) == 0
    assert {p.name for p in Path("mine").iterdir()} == {
        "README.md", "config.json", "model.safetensors"
    }  # fmt: skip
    assert main(["cite", "mine"]) == 0
    assert "@inproceedings{bae2023multirate" in capsys.readouterr().out


def test_what_cannot_be_is_one_line_with_the_cure(hub, capsys, monkeypatch):
    assert "no such repository on http://127" in fails(capsys, "curve", "me/nope")
    hub.files["me/other"] = {"config.json": b"{}"}
    assert "is no model that multibeta has put there" in fails(capsys, "curve", "me/other")
    hub.files["me/other"]["model.safetensors"] = b"12345678"
    assert "is damaged or no safetensors file" in fails(capsys, "curve", "me/other")
    assert "write owner/name for the Hub, or ./nowhere" in fails(
        capsys, "push", "digits", "nowhere"
    )
    assert "give --beta, too" in fails(capsys, "push", "digits", "./x", "--at=gamma=1")
    monkeypatch.delenv("HF_TOKEN")
    said = fails(capsys, "push", "digits", "me/digits")
    assert "may not be written; log in with hf auth login, or set HF_TOKEN" in said
    assert "me/digits" not in hub.files
    Path("me").mkdir()  # then it is taken for a path
    assert not is_repo("me/nope") and "no checkpoint at me/nope" in fails(
        capsys, "curve", "me/nope"
    )
    monkeypatch.setattr("multibeta.hub.find_spec", lambda name: None)
    assert "pip install 'multibeta[hub]'" in fails(capsys, "curve", "you/nope")


def test_without_a_network_the_kept_copy_serves(hub, capsys, monkeypatch):
    multibeta.load("digits").push_to_hub("me/digits")
    multibeta.load("me/digits")
    capsys.readouterr()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # nobody listens there
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries
    assert multibeta.load("me/digits").latent_dim == 8
    assert "me/nope cannot be read: http://127.0.0.1:1 cannot be reached" in fails(
        capsys, "curve", "me/nope"
    )


def test_a_trained_model_knows_its_run_without_being_loaded(tmp_path):
    module = multibeta.MultiBetaModule(MultiBetaVAE.of((1, 8, 8), network=MLP(16)), lr=2e-3)
    module.record = {"name": "mine", "trainer": {"max_epochs": 3}, "folder": "2026-01-31-1"}
    checkpoint = {"global_step": 5}
    module.on_save_checkpoint(checkpoint)
    module.vae.save_pretrained(tmp_path / "mine", license="mit")
    content = json.loads((tmp_path / "mine" / "config.json").read_text())
    assert content["run"] == {"name": "mine", "trainer": {"max_epochs": 3}}
    assert content["step"] == 5 and content["training"]["lr"] == 2e-3
    shown = Run(tmp_path / "<run>", module.vae, None)._repr_html_()
    assert "&lt;run&gt;" in shown and "0.01:10" in shown
