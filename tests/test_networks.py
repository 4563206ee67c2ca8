import pytest
import torch
from torch import nn

from multibeta.film import Chain, Conditioning
from multibeta.networks import MLP, Conv, Custom, Linear, ResNet

SMALL = [Linear(), MLP(width=8, depth=1), MLP(width=8), Conv(4, 2), Conv(2, 4), ResNet(4, 3)]
SHAPES = [(1, 8, 8), (3, 28, 28), (2, 17, 30), (1, 1, 16), (4, 5, 1)]


@pytest.mark.parametrize("network", SMALL, ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["film", "gate", "none"])
def test_any_channels_and_any_size(network, shape, kind):
    conditioning = Conditioning(kind)
    c = conditioning.embedding()(torch.randn(3, 1))
    encoder = network.encoder(shape, 5, conditioning)
    decoder = network.decoder(shape, 5, 2, conditioning)
    assert encoder(torch.rand(3, *shape), c).shape == (3, 10)
    assert decoder(torch.randn(3, 5), c).shape == (3, 2 * shape[0], *shape[1:])


def test_the_resnet_has_the_parameters_of_the_multi_rate_vae():
    network, plain = ResNet(), Conditioning("none")
    modules = network.encoder((1, 28, 28), 32, plain), network.decoder((1, 28, 28), 32, 1, plain)
    count = sum(p.numel() for m in modules for p in m.parameters())
    assert count == pytest.approx(1.9e6, rel=0.03)


def test_no_batchnorm_anywhere():
    for network in SMALL:
        for module in network.encoder((1, 28, 28), 4, Conditioning()).modules():
            assert not isinstance(module, nn.modules.batchnorm._BatchNorm)


@pytest.mark.parametrize("options", [{"width": 0}, {"depth": 0}])
def test_too_small(options):
    with pytest.raises(ValueError, match="it is at least 1"):
        Conv(**options)


class OwnEncoder(nn.Module):
    def __init__(self, shape, latent_dim, conditioning, width):
        super().__init__()
        hidden = nn.Linear(shape[1] * shape[2], width)
        head = nn.Linear(width, 2 * latent_dim)
        self.net = Chain(
            nn.Flatten(), conditioning(hidden, "encoder"), nn.Tanh(), conditioning(head, "head")
        )

    def forward(self, x, c):
        return self.net(x, c)


class OwnDecoder(nn.Module):
    def __init__(self, shape, latent_dim, outputs, conditioning):
        super().__init__()
        self.shape = (outputs * shape[0], *shape[1:])
        self.net = nn.Linear(latent_dim + conditioning.features, shape[1] * shape[2] * outputs)

    def forward(self, z, c):
        return self.net(torch.cat([z, c.expand(len(z), -1)], dim=1)).view(-1, *self.shape)


OWN = Custom(
    {"class_path": f"{__name__}.OwnEncoder", "init_args": {"width": 6}}, f"{__name__}.OwnDecoder"
)


def test_a_users_own_encoder_and_decoder():
    conditioning = Conditioning()
    c = conditioning.embedding()(torch.randn(3, 1))
    assert OWN.encoder((1, 4, 4), 2, conditioning)(torch.rand(3, 1, 4, 4), c).shape == (3, 4)
    assert OWN.decoder((1, 4, 4), 2, 1, conditioning)(torch.rand(3, 2), c).shape == (3, 1, 4, 4)
