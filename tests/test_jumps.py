"""A training that jumps: what is one, what is none, and that it is said."""

import random

import pytest

from multibeta.jumps import Jumps
from tests.helpers import fit_digits


def falling(steps, noise=3.0, seed=0):
    """Return objectives that fall from 500 to 100, with noise."""
    draw = random.Random(seed)
    return [100 + 400 * 0.99**step + draw.gauss(0, noise) for step in range(steps)]


def found(objectives):
    jumps = Jumps()
    return [(step, jump) for step, of in enumerate(objectives) if (jump := jumps.add(of))]


@pytest.mark.parametrize("seed", range(20))
def test_a_training_that_falls_has_no_jump(seed):
    assert found(falling(2000, seed=seed)) == []


@pytest.mark.parametrize("scale", [1.0, 1e-3, -1.0])
def test_a_jump_is_found_in_any_units(scale):
    """Of an objective below 0, too."""
    objectives = falling(600)
    objectives[480:560] = [of + 200 for of in objectives[480:560]]
    shift = 1000 if scale < 0 else 0
    step, (before, after) = found([abs(scale) * of - shift for of in objectives])[0]
    assert step == 499
    assert (before + shift) / abs(scale) == pytest.approx(104, abs=4)
    assert (after + shift) / abs(scale) == pytest.approx(303, abs=4)


def test_a_single_batch_is_no_jump():
    objectives = falling(600)
    objectives[500] = 1e6
    assert found(objectives) == []


def test_what_is_within_a_quarter_of_the_gain_is_no_jump():
    """A small set whose batches are alike: the spread is next to nothing."""
    objectives = falling(1000, noise=0.0)
    objectives[800:] = [of + 80 for of in objectives[800:]]
    assert found(objectives) == []


def test_a_jump_is_said(tmp_path):
    harm = "--trainer.callbacks+={class_path: tests.helpers.HarmAt, init_args: {step: 60}}"
    with pytest.warns(UserWarning, match="has jumped from .* to .* by step .*model.lr is 0.003"):
        fit_digits(tmp_path, "--trainer.max_epochs=6", "--curve.enabled=false", harm)
