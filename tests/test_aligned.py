"""What is made at one β and used at another: a known map of the codes is found and undone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from benchmarks.aligned import SHORT, Side, learnt, linear, measured, permutation

ORDER, SIGNS = [2, 0, 3, 1], np.array([1.0, -1.0, -1.0, 1.0])
"""Latent j of the target is ± latent ORDER[j] of the source."""
WEIGHTS = np.random.default_rng(1).normal(size=(4, 6))
LABELS = {split: np.arange(n) % 3 for split, n in (("train", 300), ("val", 60), ("test", 90))}
TURNED = (np.eye(4)[:, ORDER] * SIGNS, np.zeros(4))
MIXED = (np.random.default_rng(2).normal(size=(4, 4)) + 2 * np.eye(4), np.arange(4.0))


def side(a=np.eye(4), b=0.0):  # noqa: B008
    """A model whose codes are c A + b, for codes c in which label k stands out in latent k.

    It decodes them to the c W that they stand for.
    """
    rng, c = np.random.default_rng(0), {}
    for split, y in LABELS.items():
        c[split] = rng.normal(size=(len(y), 4)) + 2 * np.eye(4)[y]
    drawn = rng.normal(size=(90, 4)) + 2 * np.eye(4)[LABELS["test"]]
    undo = torch.from_numpy(np.linalg.inv(a))

    def decode(z):
        return Normal((z.double() - torch.as_tensor(b)) @ undo @ torch.from_numpy(WEIGHTS), 1.0)

    codes = {split: of @ a + b for split, of in c.items()}
    return Side(
        SimpleNamespace(decode=decode, latent_shape=(4,)), codes["train"], codes["test"],
        torch.from_numpy(codes["train"]), torch.from_numpy(drawn @ a + b),
        learnt(codes["train"], LABELS["train"], 200).state_dict(),
        (c["val"].sum(1), c["test"].sum(1)),
    )  # fmt: skip


def examples():
    codes = np.random.default_rng(3).normal(size=(90, 4)) + 2 * np.eye(4)[LABELS["test"]]
    return {"test": torch.from_numpy(codes @ WEIGHTS)}


def same(codes):
    return codes


@pytest.mark.parametrize(("find", "known"), [
    (permutation, TURNED), (linear, TURNED), (linear, MIXED),
])  # fmt: skip
def test_a_known_map_is_found_and_leaves_no_error(find, known):
    source, target = side(), side(*known)
    there, back = find(source, target)
    assert there(target.test) == pytest.approx(source.test, abs=1e-9)
    assert back(source.test) == pytest.approx(target.test, abs=1e-9)
    at_home = measured(source, source, (same, same), examples(), LABELS)
    found = measured(source, target, (there, back), examples(), LABELS)
    warm, _ = found.pop("warm"), at_home.pop("warm")  # at home it starts from nothing
    assert found == pytest.approx(at_home, abs=1e-5)
    assert (found["same"], found["moved"]) == pytest.approx((1, 1))
    start = learnt(source.train, LABELS["train"], SHORT, source.classifier)
    named = start(torch.from_numpy(source.test).float()).argmax(1).numpy()
    assert warm == pytest.approx((named == LABELS["test"]).mean(), abs=0.02)


def test_a_linear_map_undoes_what_a_permutation_does_not():
    source, target = side(), side(*MIXED)
    ways = {"none": (same, same), "permuted": permutation(source, target),
            "linear": linear(source, target)}  # fmt: skip
    found = {
        name: measured(source, target, maps, examples(), LABELS) for name, maps in ways.items()
    }
    for name in ("none", "permuted"):
        for figure in ("probe", "index", "same", "moved"):
            assert found[name][figure] < found["linear"][figure]
        assert found[name]["mixture"] > found["linear"]["mixture"]
