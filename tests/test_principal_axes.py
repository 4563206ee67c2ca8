"""The code turned in the middle of a training: what stays, what starts anew, and when."""

import pytest
import torch
from torch import nn

from multibeta import wrap
from multibeta.betas import Draws
from multibeta.cli import main
from multibeta.data.gaussian import water_filling
from multibeta.likelihoods import Gaussian
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP, Conv, Linear
from multibeta.principal_axes import PrincipalAxes, turn_at
from tests.helpers import STOPS, fit_digits, newest, weights

BETA = 0.1


def trained(network, shape=(1, 8, 8), **options):
    """Return a model whose layers follow β, as after some training."""
    torch.manual_seed(0)
    vae = MultiBetaVAE.of(shape, network=network, latent_dim=6, betas="0.01:10", **options)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return vae


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.rand(600, 1, 8, 8)


@pytest.mark.parametrize("network", [MLP(width=32), Linear(), Conv(width=8, depth=2)])
def test_at_its_beta_the_decoder_of_the_new_code_is_that_of_the_old(network, x):
    vae = trained(network)
    before = vae.at_beta(BETA)
    old, others = before.encode(x).mean, vae.at_beta(5).decode(torch.zeros(1, 6)).mean
    turn_at(vae, x, BETA)
    after = vae.at_beta(BETA)
    q = after.encode(x)
    torch.testing.assert_close(after.decode(q.mean).mean, before.decode(old).mean)
    torch.testing.assert_close(q.mean.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    between = (q.mean.T.cov(correction=0) + q.variance.mean(0).diag()).fill_diagonal_(0)
    torch.testing.assert_close(q.variance, q.variance[:1].expand_as(q.variance))
    assert q.variance[0].diff().min() >= -1e-6, "the most important first"
    assert between.abs().max() < 0.3
    # The rest of the decoder still follows β.
    assert not torch.equal(vae.at_beta(5).decode(torch.zeros(1, 6)).mean, others)


def test_head_and_stem_depend_on_beta_no_more_and_the_rest_does(x):
    vae = trained(MLP(width=32))
    changed = turn_at(vae, x, BETA)
    low, high = vae.at_beta(0.01), vae.at_beta(10)
    torch.testing.assert_close(low.encode(x).mean, high.encode(x).mean)
    names = {id(p): name for name, p in vae.named_parameters()}
    assert {names[id(p)].rsplit(".", 1)[0].removesuffix(".condition") for p in changed} == {
        "encoder.5", "decoder.0",
    }  # fmt: skip
    z = torch.randn(4, 6)
    assert not torch.allclose(low.decode(z).mean, high.decode(z).mean, atol=1e-3)
    loss = vae.loss(x[:64])
    loss.backward()
    assert vae.get_parameter("decoder.0.condition.gain").grad.abs().sum() > 0


def test_a_linear_vae_has_the_rates_of_its_optimum(x):
    """D of its reconstructions apart: R of each latent is ½ log(1 + Λ/β), Λ by its decoder."""
    vae = trained(Linear(), likelihood=Gaussian(0.5))
    turn_at(vae, x, BETA)
    plain = vae.at_beta(BETA)
    jacobian = torch.func.jacrev(lambda z: plain.decode(z[None]).mean.flatten())(torch.zeros(6))
    curvature = jacobian.T @ jacobian / 0.5**2
    torch.testing.assert_close(
        plain.encode(x).variance[0], BETA / (BETA + curvature.diag()), rtol=1e-3, atol=0
    )
    off = curvature - curvature.diag().diag()
    assert off.abs().max() < 1e-3 * curvature.max()


@pytest.mark.slow
def test_a_linear_vae_comes_nearer_to_its_optimum():
    torch.manual_seed(0)
    scales = torch.logspace(0.5, -1, 10)
    x = torch.randn(4000, 10) * scales
    values = torch.cov(x.T, correction=0).diag().sort(descending=True).values.tolist()
    excess = {}
    for turns in (False, True):
        torch.manual_seed(0)
        vae = wrap(nn.Linear(10, 16), nn.Linear(8, 10), betas="0.01:10", example=x,
                   likelihood=Gaussian(0.5), draws=Draws(opening=0))  # fmt: skip
        optimizer = torch.optim.Adam(vae.parameters(), lr=3e-3)
        for step in range(1500):
            if turns and step == 150:
                turn_at(vae, x, 0.01)
            vae.loss(x[torch.randint(4000, (256,))], progress=step / 1500).backward()
            optimizer.step()
            optimizer.zero_grad()
        curve = vae.sweep([x], "0.01:10:7")
        excess[turns] = [
            row["objective_nats"] - (d + row["beta"] * r)
            for row in curve.rows
            for r, d in [water_filling(values, row["beta"], 0.5, 8)]
        ]
    assert sum(excess[True]) < sum(excess[False])


TURN = "--trainer.callbacks+=multibeta.principal_axes.PrincipalAxes"
SHORT = "--config=digits.yaml", "--trainer.max_epochs=2", "--model.draws.opening=0"
FEW = "--trainer.callbacks.examples=128"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit_digits(tmp_path_factory.mktemp("whole"), *SHORT, TURN, FEW)


@pytest.mark.parametrize("step", [1, 3, 9])
def test_a_run_that_goes_on_ends_with_the_weights_of_an_uninterrupted_one(
    whole, tmp_path, capsys, step
):
    """The code is turned at step 5: before, among what is gathered, and after."""
    interrupt = f"--trainer.callbacks+={{class_path: tests.helpers.InterruptAt, init_args: {{step: {step}}}}}"  # noqa: E501
    with pytest.raises(AssertionError):
        fit_digits(tmp_path, *SHORT, TURN, FEW, interrupt)
    run = newest(tmp_path)
    last = run / "checkpoints" / "last.ckpt"
    assert main(["fit", "--ckpt_path", str(last), "--allow", "tests"]) == 0
    said = capsys.readouterr().err
    assert said.count("step 5: the code is turned to its principal axes at β = 0.01, by 128") == 1
    before, after = weights(whole), weights(run)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


class Seen(PrincipalAxes):
    """Keeps the first moments as they are right after the change."""

    moments: dict[str, float]

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        done = self._done
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if self._done and not done:
            state = trainer.optimizers[0].state
            Seen.moments = {
                name: state[p]["exp_avg"].abs().sum().item()
                for name, p in pl_module.vae.named_parameters()
            }


def test_the_first_moments_of_what_changed_start_anew(tmp_path):
    fit_digits(tmp_path, *SHORT, "--trainer.callbacks+=tests.test_principal_axes.Seen", FEW)
    still = {name for name, value in Seen.moments.items() if value == 0}
    assert {name for name in Seen.moments if name.startswith(("encoder.5", "decoder.0"))} == still


def test_a_training_that_ends_before_the_change_says_so(tmp_path, capsys):
    fit_digits(tmp_path, *SHORT, TURN, FEW, "--trainer.callbacks.at=0.7", STOPS)
    said = capsys.readouterr().err
    assert "the code was not turned, as the training ended at step" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trainer.callbacks.at=1"], "at=1 is outside (0, 1)"),
        (["--trainer.callbacks.examples=1"], "examples=1 is too few; give some thousands"),
        (["--trainer.callbacks.examples=256"], "2 batches, and the training has 18 steps"),
        (["--trainer.callbacks.at=0.95"], "at=0.95 leaves too few steps to gather examples in"),
        (["--trainer.callbacks.beta=20"], "beta=20 is outside the trained range [0.01, 10]"),
        (["--model.conditioning=gate"], "it is for conditioning=film, not gate; leave it out"),
        (["--model.draws.opening=0.2"], "at=0.1 is before low β's are drawn"),
        (["--model.likelihood=Laplace"], "D has no curvature"),
    ],
)
def test_what_cannot_be_turned_is_refused_with_the_first_batch(tmp_path, capsys, options, said):
    arguments = [*SHORT, f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu"]
    assert main(["fit", *arguments, TURN, FEW, *options]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*/*"))
