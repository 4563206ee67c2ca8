import math

import pytest
import torch

from multibeta.metrics.alignment import (
    Alignment,
    expected_w2_squared,
    linear_cka,
    pairing,
    sliced_w1,
    w1,
    w1_to_prior,
)
from tests.test_metrics_information import evaluated

EIGENVALUES = torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
N = 20_000


def linear_codes(theta):
    """Return means and standard deviations of the optimal linear VAE at θ, on the same data."""
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(N, 4, generator=generator, dtype=torch.float64)
    white -= white.mean(0)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(white.T @ white / N), white.T, upper=False
    ).T
    return (1 - theta / EIGENVALUES).clamp(min=0).sqrt() * white, (
        (theta / EIGENVALUES).clamp(max=1).sqrt().expand(N, 4)
    )


@pytest.mark.parametrize("thetas", [(0.1, 0.3), (0.2, 1.5)])
def test_the_linear_family_in_closed_form(thetas):
    """Paired correlation 1 on jointly active latents; CKA and W₂² from the gains."""
    (mean, std), (other, other_std) = map(linear_codes, thetas)
    v, w = (((1 - theta / EIGENVALUES).clamp(min=0)) for theta in thetas)
    pair = pairing(mean, other)
    assert pair.correlation == pytest.approx(1)
    assert pair.misalignment == pytest.approx(0)
    assert pair.active == int(((v > 0.01) & (w > 0.01)).sum())
    cka = (v * w).sum() / (v.square().sum() * w.square().sum()).sqrt()
    assert linear_cka(mean, other) == pytest.approx(cka.item())
    gains = (v.sqrt() - w.sqrt()).square().sum()
    spreads = ((1 - v).sqrt() - (1 - w).sqrt()).square().sum()
    found = expected_w2_squared(mean, std, other, other_std).mean()
    assert found == pytest.approx((gains + spreads).item())


def test_latents_that_change_places_and_signs():
    mean, _ = linear_codes(0.1)
    shuffled = -mean[:, [1, 2, 3, 0]]
    pair = pairing(mean, shuffled)
    assert pair.correlation == pytest.approx(0, abs=0.01)
    assert pair.best == pytest.approx(1)
    assert pair.misalignment == pytest.approx(1, abs=0.01)


def test_collapsed_codes():
    mean, _ = linear_codes(0.1)
    nothing = torch.zeros_like(mean)
    assert math.isnan(pairing(mean, nothing).correlation)
    assert math.isnan(pairing(nothing, nothing).misalignment)
    assert math.isnan(linear_cka(nothing, mean))


def test_codes_of_other_examples():
    with pytest.raises(ValueError, match=r"codes of \(5, 2\) and \(4, 2\) cannot be paired"):
        pairing(torch.zeros(5, 2), torch.zeros(4, 2))


def test_w1_to_the_prior():
    z = torch.randn(100_000, 3, dtype=torch.float64) + torch.tensor([0.0, 0.5, -2.0])
    assert w1_to_prior(z).tolist() == pytest.approx([0, 0.5, 2], abs=0.02)
    # |s − 1| E|z| for another spread
    expected = 0.5 * math.sqrt(2 / math.pi)
    assert w1_to_prior(0.5 * z[:, :1]).item() == pytest.approx(expected, abs=0.02)


def test_w1_between_two_sets():
    z = torch.randn(5_000, 2, dtype=torch.float64)
    shift = torch.tensor([0.5, -2.0])
    # Whatever the order of the samples.
    assert w1(z.flip(0), z + shift).tolist() == pytest.approx([0.5, 2])


def test_sliced_w1_sees_what_marginals_do_not():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(8_000, 2, dtype=torch.float64, generator=generator)
    assert sliced_w1(z) == pytest.approx(0, abs=0.03)
    # Two latents that are copies of each other: each is still N(0, 1).
    copies = z[:, :1].expand(-1, 2)
    assert w1_to_prior(copies).max() < 0.03
    # Along (cos a, sin a) it has the standard deviation |cos a + sin a|: W₁ is |s − 1| √(2/π).
    angles = torch.linspace(0, 2 * math.pi, 100_001, dtype=torch.float64)
    spreads = (angles.cos() + angles.sin()).abs()
    expected = ((spreads - 1).abs().mean() * math.sqrt(2 / math.pi)).item()
    assert sliced_w1(copies, directions=200) == pytest.approx(expected, abs=0.02)
    assert sliced_w1(copies, z, directions=200) == pytest.approx(expected, abs=0.02)


def metric(theta):
    from multibeta.vae import BetaVAE

    alignment = Alignment(BetaVAE(torch.nn.Identity(), torch.nn.Identity(), None, (4,), 1.0), 500)
    mean, std = (v[:500] for v in linear_codes(theta))
    alignment.update(evaluated(mean + std, mean, std))
    return alignment


def test_columns_are_those_to_the_next_beta():
    metrics = [metric(theta) for theta in (0.1, 0.2, 0.4)]
    rows = Alignment.across(metrics)
    (_, mean, std), (_, other, other_std) = metrics[0].codes(), metrics[1].codes()
    assert rows[0]["next_cka"] == pytest.approx(linear_cka(mean, other))
    w2 = expected_w2_squared(mean, std, other, other_std).mean().item()
    assert rows[0]["next_w2"] == pytest.approx(w2)
    assert rows[1]["next_correlation"] == pytest.approx(1)
    assert all(math.isnan(value) for value in rows[2].values())
    assert set(rows[0]) == set(rows[2])


def test_moments_of_each_latent():
    found = metric(0.2).compute()
    z, _, _ = metric(0.2).codes()
    assert found["latent_mean"] == pytest.approx(z.mean(0).tolist())
    assert found["latent_std"] == pytest.approx(z.std(0, correction=0).tolist())
