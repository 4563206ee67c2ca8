import pytest
from torch import nn

from multibeta.likelihoods import Gaussian, Likelihood
from multibeta.networks import MLP, Conv, Linear, Network, ResNet
from multibeta.specs import build, describe


@pytest.mark.parametrize("value", [MLP(width=7, depth=3), Conv(), ResNet(blocks=1), Linear()])
def test_round_trip(value):
    again = build(describe(value), Network)
    assert type(again) is type(value)
    assert describe(again) == describe(value)


def test_arguments_are_kept():
    assert build(describe(Gaussian(0.25)), Likelihood).sigma == 0.25


@pytest.mark.parametrize("path", ["os.system", "builtins.eval", "torch.nn.Linear"])
def test_only_the_class_asked_for_is_called(path):
    with pytest.raises(ValueError, match="is not a Likelihood"):
        build({"class_path": path, "init_args": {}}, Likelihood)


@pytest.mark.parametrize("path", ["no.such.Thing", "torch.nn.NoSuch", "Thing", ""])
def test_a_class_that_is_not_there(path):
    with pytest.raises(ValueError, match="cannot be imported"):
        build(path, nn.Module)


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match=r"MLP has no argument widht \(did you mean width\?\)"):
        build({"class_path": "multibeta.networks.MLP", "init_args": {"widht": 3}}, Network)
    with pytest.raises(ValueError, match="does not take these arguments"):
        build("multibeta.likelihoods.Categorical", Likelihood)


def test_what_cannot_be_described():
    class Forgets(Network):
        def __init__(self, width):
            pass

    with pytest.raises(TypeError, match="does not keep its argument width"):
        describe(Forgets(1))
    with pytest.raises(TypeError, match="not a plain value"):
        describe(_with(MLP(), width=object()))


def _with(value, **attributes):
    value.__dict__.update(attributes)
    return value
