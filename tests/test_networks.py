import pytest
import torch
from torch import nn

from multibeta.networks import MLP, Conv, Linear, ResNet

SMALL = [Linear(), MLP(width=8, depth=1), MLP(width=8), Conv(4, 2), Conv(2, 4), ResNet(4, 3)]
SHAPES = [(1, 8, 8), (3, 28, 28), (2, 17, 30), (1, 1, 16), (4, 5, 1), (2, 31), (1, 5, 6, 7)]


@pytest.mark.parametrize("network", SMALL, ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_channels_and_any_size(network, shape):
    encoder, decoder = network.encoder(shape, 5), network.decoder(shape, 5, 2)
    assert encoder(torch.rand(3, *shape)).shape == (3, 10)
    assert decoder(torch.randn(3, 5)).shape == (3, 2 * shape[0], *shape[1:])


@pytest.mark.parametrize("network", [Linear(), MLP(width=8)], ids=lambda n: type(n).__name__)
def test_tables(network):
    assert network.encoder((7,), 5)(torch.rand(3, 7)).shape == (3, 10)
    assert network.decoder((7,), 5, 2)(torch.rand(3, 5)).shape == (3, 14)


@pytest.mark.parametrize("network", [Conv(4, 2), ResNet(4)], ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("shape", [(7,), (1, 2, 3, 4, 5)])
def test_convolutions_need_places(network, shape):
    with pytest.raises(ValueError, match=r"takes x of shape \(C, T\).*use network MLP"):
        network.encoder(shape, 5)


def test_the_resnet_has_the_parameters_of_the_multi_rate_vae():
    network = ResNet()
    modules = network.encoder((1, 28, 28), 32), network.decoder((1, 28, 28), 32, 1)
    count = sum(p.numel() for m in modules for p in m.parameters())
    assert count == pytest.approx(1.9e6, rel=0.03)


def test_networks_are_plain_pytorch():
    for network in SMALL:
        for module in network.encoder((1, 28, 28), 4).modules():
            assert not isinstance(module, nn.modules.batchnorm._BatchNorm)
            home = type(module).__module__
            assert home.startswith("torch.nn") or type(module).__name__ == "Residual"


@pytest.mark.parametrize("options", [{"width": 0}, {"depth": 0}])
def test_too_small(options):
    with pytest.raises(ValueError, match="it is at least 1"):
        Conv(**options)
