"""Anybody's encoder and decoder: each of tests/foreign.py works, or stays plain and is told why."""

import copy
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from multibeta import wrap
from multibeta.betas import Draws
from multibeta.conditioning import conditions_of
from multibeta.distortions import MultiScaleSTFT
from multibeta.likelihoods import NegativeBinomial
from multibeta.vae import BetaVAE
from tests.foreign import ARCHITECTURES, NEEDS

BETAS = (0.01, 0.5, 10.0)
OPTIONS = {
    "scvi_counts": {"likelihood": NegativeBinomial()},
    "audio_weight_norm": {"distortion": MultiScaleSTFT((32, 16))},
    "audio_old_weight_norm": {"distortion": MultiScaleSTFT((32, 16))},
}


def make(name):
    """Return the wrapped model, what was given, and a second one from the same seed, untouched."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    torch.manual_seed(0)
    given = ARCHITECTURES[name]()
    torch.manual_seed(0)
    untouched = ARCHITECTURES[name]()
    vae = wrap(
        given.encoder, given.decoder, "0.01:10", example=given.x, inputs=given.inputs,
        draws=Draws(betas_per_example=1), **OPTIONS.get(name, {}),
    )  # fmt: skip
    plain = BetaVAE(
        untouched.encoder, untouched.decoder, copy.deepcopy(vae.likelihood), vae.latent_shape, 1.0
    )
    z = torch.randn(len(given.x), *vae.latent_shape)
    return SimpleNamespace(name=name, vae=vae, plain=plain, given=given, x=given.x, z=z)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def built(request):
    return make(request.param)


@pytest.fixture
def case(built):
    """The model as it was wrapped, in evaluation mode; what a test does to it is undone."""
    both = (built.vae, built.plain)
    states = [copy.deepcopy(model.state_dict()) for model in both]
    yield SimpleNamespace(**{**vars(built), "vae": built.vae.eval(), "plain": built.plain.eval()})
    for model, state in zip(both, states, strict=True):
        model.to(torch.float32).load_state_dict(state)
        model.zero_grad()


def randomise(vae):
    for name, parameter in vae.named_parameters():
        if ".condition." in name or name.startswith("embedding."):
            nn.init.normal_(parameter, std=0.1)


def rows(inputs, i, n):
    return {k: v[i : i + 1] if len(v) == n else v for k, v in inputs.items()}


def results(vae, x, z, beta=None, **inputs):
    """Return what encoder and decoder give, with β or, at one β, without."""
    at = () if beta is None else (beta,)
    q = vae.encode(x, *at, **inputs)
    return q.mean, q.stddev, vae.decode(z, *at, **inputs).mean


def error(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_starts_as_the_users_own_to_the_last_bit(case, mode):
    per_example = torch.logspace(-2, 1, len(case.x))
    start = copy.deepcopy(case.plain.state_dict())
    for beta in (*BETAS, per_example):
        found = []
        for model, at in ((case.vae, beta), (case.plain, None)):
            model.train(mode == "train")
            torch.manual_seed(1)
            found.append(results(model, case.x, case.z, at, **case.given.inputs))
        for mine, users in zip(*found, strict=True):
            assert torch.equal(mine, users)
    for name, value in case.plain.state_dict().items():  # running statistics too
        assert torch.equal(case.vae.state_dict()[name], value)
        assert mode == "train" or torch.equal(start[name], value)


@pytest.mark.parametrize("no_grad", [False, True], ids=["grad", "no_grad"])
def test_a_beta_per_example_is_one_by_one(case, no_grad):
    randomise(case.vae)
    n, inputs = len(case.x), case.given.inputs
    betas = torch.logspace(-2, 1, n)
    with torch.set_grad_enabled(not no_grad):
        together = results(case.vae, case.x, case.z, betas, **inputs)
        for i in (0, 1, n - 1):
            x, z, one = case.x[i : i + 1], case.z[i : i + 1], rows(inputs, i, n)
            alone = results(case.vae, x, z, betas[i], **one)
            for a, b in zip(together, alone, strict=True):
                assert error(a[i : i + 1], b) < 1e-5


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=["f32", "f64"]
)
def test_folded_is_conditioned(case, dtype, tolerance):
    randomise(case.vae)
    vae = case.vae.to(dtype)
    x, z = case.x.to(dtype), case.z.to(dtype)
    inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in case.given.inputs.items()}
    for beta in BETAS:
        with torch.no_grad():
            folded = results(vae.at_beta(beta), x, z, **inputs)
            conditioned = results(vae, x, z, beta, **inputs)
        for a, b in zip(folded, conditioned, strict=True):
            assert error(a, b) < tolerance


def test_the_users_own_classes_and_keys_come_back(case):
    randomise(case.vae)
    folded = case.vae.at_beta(0.5)
    fresh = ARCHITECTURES[case.name]()
    for part in ("encoder", "decoder"):
        mine, users = folded.network(part)[0], getattr(fresh, part) or fresh.encoder
        assert type(mine) is type(users) and repr(mine) == repr(users)
        assert list(mine.state_dict()) == list(users.state_dict())
        users.load_state_dict(mine.state_dict(), strict=True)
    loaded = BetaVAE(fresh.encoder, fresh.decoder, folded.likelihood, folded.latent_shape, 0.5)
    found = [results(model.eval(), case.x, case.z, **case.given.inputs)
             for model in (folded, loaded)]  # fmt: skip
    assert all(error(a, b) < 1e-6 for a, b in zip(*found, strict=True))


def test_every_condition_receives_a_gradient(case):
    randomise(case.vae)
    betas = torch.logspace(-2, 1, len(case.x))
    terms = case.vae.elbo_terms(case.x, betas, inputs=case.given.inputs)
    (terms.distortion + betas * terms.rate_nats).mean().backward()
    conditions = {n: p for n, p in case.vae.named_parameters() if ".condition." in n}
    assert {n for n, p in conditions.items() if p.grad is None or not p.grad.any()} == set()
    layers = [name for part in case.vae.sites.values() for name in part if name.does != "plain"]
    assert len({n.split(".condition.")[0] for n in conditions}) == len(layers)


def test_training_lowers_the_objective_at_both_ends(case):
    vae, x, inputs = case.vae, case.x, case.given.inputs
    noise = torch.randn(len(x), *vae.latent_shape)

    def objective(beta):
        with torch.no_grad():
            terms = vae.eval().elbo_terms(x, beta, noise, inputs)
        return (terms.distortion + beta * terms.rate_nats).mean().item()

    ends = (BETAS[0], BETAS[-1])
    before = [objective(beta) for beta in ends]
    vae.train()
    optimizer = torch.optim.Adam(vae.parameters(), 3e-3, fused=True)
    for step in range(200):
        vae.loss(x, progress=step / 200, **inputs).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = [objective(beta) for beta in ends]
    assert after[0] < before[0] and after[1] < before[1]


def test_the_table_names_every_layer_and_why_it_is_plain(case):
    text = repr(case.vae)
    for part in ("encoder", "decoder"):
        network = case.vae.network(part)[0]
        listed = {site.name: site for site in case.vae.sites[part]}
        for site in listed.values():
            line = rf"^{re.escape(site.name or '(itself)')} .*{re.escape(site.why)}$"
            assert re.search(line, text, re.MULTILINE)
            assert site.why or site.does != "plain"
        for name, module in network.named_modules():
            weights = list(module.parameters(recurse=False))
            helper = re.search(r"(^|\.)(condition|parametrizations)(\.|$)", name)
            assert name in listed or helper or not weights, f"{name} is not in the table"
        following = {layer for layer, _ in conditions_of(network)}
        names = {n for n, m in network.named_modules() if m in following}
        assert {n for n, s in listed.items() if s.does != "plain"} <= names


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_unwrapped_is_as_before(name):
    case = make(name)
    back = case.vae.unwrap()
    given = case.given
    assert back is given.encoder if given.decoder is None else back == tuple(given[:2])
    for mine, users in zip(given[:2], ARCHITECTURES[name]()[:2], strict=True):
        assert mine is None or repr(mine) == repr(users)
    again = BetaVAE(given.encoder, given.decoder, case.vae.likelihood, case.vae.latent_shape, 1.0)
    assert list(again.state_dict()) == list(case.plain.state_dict())
    found = [results(model.eval(), case.x, case.z, **given.inputs) for model in (again, case.plain)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# In a process that has no multibeta ------------------------------------------------------------

GUARD = """
import sys, torch
sys.modules["multibeta"] = None
"""
FOREIGN_ALONE = GUARD + """
from tests.foreign import ARCHITECTURES
given, saved = ARCHITECTURES["conv1d_batchnorm_two_heads"](), torch.load(sys.argv[1])
given.encoder.load_state_dict(saved["encoder"], strict=True)
given.decoder.load_state_dict(saved["decoder"], strict=True)
given.encoder.eval(), given.decoder.eval()
mean, _ = given.encoder(saved["x"])
assert (given.decoder(mean) - saved["x_hat"]).norm() <= 1e-6 * saved["x_hat"].norm()
"""
DIFFUSERS_ALONE = GUARD + """
from diffusers import AutoencoderKL
vae, saved = AutoencoderKL.from_pretrained(sys.argv[2]), torch.load(sys.argv[1])
x_hat = vae.decode(vae.encode(saved["x"]).latent_dist.mean).sample
assert (x_hat - saved["x_hat"]).norm() <= 1e-6 * saved["x_hat"].norm()
"""


def alone(code, *args):
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, args)],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@torch.no_grad()
def test_the_users_code_runs_without_multibeta(tmp_path):
    case = make("conv1d_batchnorm_two_heads")
    randomise(case.vae)
    folded = case.vae.at_beta(0.5)
    torch.save({
        "encoder": folded.encoder.state_dict(), "decoder": folded.decoder.state_dict(),
        "x": case.x, "x_hat": folded.reconstruct(case.x),
    }, tmp_path / "saved.pt")  # fmt: skip
    alone(FOREIGN_ALONE, tmp_path / "saved.pt")


@torch.no_grad()
def test_diffusers_reads_what_it_saved_without_multibeta(tmp_path):
    case = make("diffusers_autoencoder_kl")
    randomise(case.vae)
    folded = case.vae.at_beta(0.5)
    folded.save_pretrained(tmp_path / "vae")
    torch.save({"x": case.x, "x_hat": folded.reconstruct(case.x)}, tmp_path / "saved.pt")
    alone(DIFFUSERS_ALONE, tmp_path / "saved.pt", tmp_path / "vae")
