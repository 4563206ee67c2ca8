"""Encoders and decoders as users write them: plain torch, without a word of multibeta.

Each function returns encoder, decoder (None: one module), a batch x and further inputs.
"""

import math
import warnings
from collections import namedtuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Independent, Normal
from torch.nn.utils import parametrizations

Foreign = namedtuple("Foreign", ["encoder", "decoder", "x", "inputs"], defaults=[{}])
N = 16


class MLPEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.Tanh())
        self.mu, self.logvar = nn.Linear(24, 3), nn.Linear(24, 3)

    def forward(self, x):
        h = self.net(x)
        return self.mu(h), self.logvar(h)


def mlp():
    decoder = nn.Sequential(
        nn.Linear(3, 24), nn.LayerNorm(24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 12)
    )
    return Foreign(MLPEncoder(), decoder, torch.randn(N, 12))


class SignalEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(2, 8, 5, stride=2, padding=2)
        self.bn1 = nn.BatchNorm1d(8)
        self.conv2 = nn.Conv1d(8, 8, 5, stride=2, padding=2)
        self.bn2 = nn.BatchNorm1d(8)
        self.fc_mu, self.fc_logvar = nn.Linear(32, 3), nn.Linear(32, 3)

    def forward(self, x):
        h = F.leaky_relu(self.bn1(self.conv1(x)), 0.2)
        h = F.leaky_relu(self.bn2(self.conv2(h)), 0.2).flatten(1)
        return self.fc_mu(h), self.fc_logvar(h)


class SignalDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 32)
        self.deconv1 = nn.ConvTranspose1d(8, 8, 4, stride=2, padding=1)
        self.bn = nn.BatchNorm1d(8)
        self.deconv2 = nn.ConvTranspose1d(8, 2, 4, stride=2, padding=1)

    def forward(self, z):
        h = F.relu(self.fc(z)).view(-1, 8, 4)
        return self.deconv2(F.relu(self.bn(self.deconv1(h))))


def conv1d_batchnorm_two_heads():
    return Foreign(SignalEncoder(), SignalDecoder(), torch.randn(N, 2, 16))


def conv3d():
    encoder = nn.Sequential(
        nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.ELU(), nn.Conv3d(4, 4, 3, 2, 1)
    )
    decoder = nn.Sequential(
        nn.ConvTranspose3d(2, 4, 4, 2, 1), nn.InstanceNorm3d(4, affine=True), nn.ELU(),
        nn.ConvTranspose3d(4, 1, 4, 2, 1),
    )  # fmt: skip
    return Foreign(encoder, decoder, torch.randn(N, 1, 4, 8, 8))


def convtranspose_spectral_norm():
    sn = parametrizations.spectral_norm
    encoder = nn.Sequential(
        sn(nn.Conv2d(1, 8, 4, 2, 1)), nn.LeakyReLU(0.2), nn.Flatten(), sn(nn.Linear(128, 6))
    )
    decoder = nn.Sequential(
        nn.Linear(3, 128), nn.Unflatten(1, (8, 4, 4)), nn.ReLU(),
        sn(nn.ConvTranspose2d(8, 8, 4, 2, 1)), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1),
    )  # fmt: skip
    return Foreign(encoder, decoder, torch.randn(N, 1, 8, 8))


def old_weight_norm(layer, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer, **options)


class Residual1d(nn.Module):
    def __init__(self, wn, channels, dilation):
        super().__init__()
        self.net = nn.Sequential(
            nn.LeakyReLU(0.2),
            wn(nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)),
            nn.LeakyReLU(0.2),
            wn(nn.Conv1d(channels, channels, 1)),
        )

    def forward(self, x):
        return x + self.net(x)


class AudioEncoder(nn.Module):
    def __init__(self, wn):
        super().__init__()
        self.net = nn.Sequential(
            wn(nn.Conv1d(1, 8, 7, padding=3)),
            nn.LeakyReLU(0.2),
            wn(nn.Conv1d(8, 8, 8, stride=4, padding=2)),
            Residual1d(wn, 8, 3),
            nn.LeakyReLU(0.2),
            wn(nn.Conv1d(8, 4, 3, padding=1)),
        )

    def forward(self, x):
        mean, scale = self.net(x).chunk(2, 1)
        return mean, 2 * torch.log(F.softplus(scale) + 1e-4)


class AudioDecoder(nn.Module):
    def __init__(self, wn):
        super().__init__()
        self.net = nn.Sequential(
            wn(nn.Conv1d(2, 8, 3, padding=1)),
            nn.LeakyReLU(0.2),
            wn(nn.ConvTranspose1d(8, 8, 8, stride=4, padding=2)),
            Residual1d(wn, 8, 3),
            nn.LeakyReLU(0.2),
        )
        self.wave, self.loudness = wn(nn.Conv1d(8, 1, 7, padding=3)), wn(nn.Conv1d(8, 1, 3, 1, 1))

    def forward(self, z):
        h = self.net(z)
        return torch.tanh(self.wave(h)) * torch.sigmoid(self.loudness(h))


def _audio(wn):
    t = torch.linspace(0, 1, 64)
    pitch = torch.rand(N, 1, 1) * 10 + 2
    return Foreign(AudioEncoder(wn), AudioDecoder(wn), 0.5 * torch.sin(2 * math.pi * pitch * t))


def audio_weight_norm():
    return _audio(parametrizations.weight_norm)


def audio_old_weight_norm():
    return _audio(old_weight_norm)


class ActionEncoder(nn.Module):
    """As ACT's: a CLS token, the robot's state and its actions; attention over all of them."""

    def __init__(self, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.cls = nn.Parameter(torch.randn(1, 1, 16))
        self.position = nn.Embedding(8, 16)
        self.state, self.action = nn.Linear(5, 16), nn.Linear(4, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
        self.transformer = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.latent = nn.Linear(16, 6)

    def forward(self, x, context):
        cls = self.cls.expand(len(x), -1, -1)
        h = torch.cat([cls, self.state(context)[:, None], self.action(x)], 1)
        h = h + self.position.weight[: h.shape[1]]
        if self.batch_first:
            return self.latent(self.transformer(h)[:, 0])
        return self.latent(self.transformer(h.transpose(0, 1))[0])


class ActionDecoder(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.queries = nn.Parameter(torch.randn(6, 16))
        self.latent, self.state = nn.Linear(3, 16), nn.Linear(5, 16)
        layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=batch_first)
        self.transformer = nn.TransformerDecoder(layer, 1, norm=nn.LayerNorm(16))
        self.action = nn.Linear(16, 4)

    def forward(self, z, context):
        memory = torch.stack([self.latent(z), self.state(context)], 1)
        queries = self.queries.expand(len(z), -1, -1)
        if self.batch_first:
            return self.action(self.transformer(queries, memory))
        h = self.transformer(queries.transpose(0, 1), memory.transpose(0, 1))
        return self.action(h).transpose(0, 1)


def transformer_cls():
    inputs = {"context": torch.randn(N, 5)}
    return Foreign(ActionEncoder(True), ActionDecoder(True), torch.randn(N, 6, 4), inputs)


def transformer_time_first():
    inputs = {"context": torch.randn(N, 5)}
    return Foreign(ActionEncoder(False), ActionDecoder(False), torch.randn(N, 6, 4), inputs)


class Tokens(nn.Module):
    """Transformer encoder layers in the decoder: torch has a fast path for them in eval mode."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(3, 6 * 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(16, 4)

    def forward(self, z):
        return self.out(self.blocks(self.up(z).view(-1, 6, 16)))


def transformer_decoder_of_encoder_layers():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(24, 32), nn.GELU(), nn.Linear(32, 6))
    return Foreign(encoder, Tokens(), torch.randn(N, 6, 4))


class GRUEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 8, batch_first=True, bidirectional=True)
        self.mean, self.log_var = nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x):
        _, h = self.gru(x)
        h = h.transpose(0, 1).reshape(len(x), -1)
        return self.mean(h), self.log_var(h)


class GRUDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(3, 16)
        self.gru = nn.GRU(3, 16)
        self.out = nn.Linear(16, 4)

    def forward(self, z):
        h = torch.tanh(self.hidden(z))[None]
        y, _ = self.gru(z.expand(4, -1, -1), h)
        return self.out(y).transpose(0, 1)


def gru_sequence():
    return Foreign(GRUEncoder(), GRUDecoder(), torch.randn(N, 4, 4))


class Block(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, cin), nn.GroupNorm(4, cout)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h


class GroupNormResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList([Block(8, 8)])
        self.conv_out = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        h = self.conv_in(x)
        for block in self.blocks:
            h = F.avg_pool2d(block(h), 4)
        return self.conv_out(h)


class GroupNormDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(2, 8, 3, padding=1)
        self.blocks = nn.ModuleList([Block(8, 8), Block(8, 4)])
        self.norm_out, self.conv_out = nn.GroupNorm(2, 4), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, z):
        h = self.conv_in(z)
        for block in self.blocks:
            h = F.interpolate(block(h), scale_factor=2)
        return self.conv_out(F.silu(self.norm_out(h)))


def resnet_groupnorm():
    return Foreign(GroupNormResNet(), GroupNormDecoder(), torch.randn(N, 3, 8, 8))


class TimmEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        import timm

        self.trunk = timm.create_model(
            "resnet18", num_classes=0, in_chans=3, channels=(8, 8, 16, 16)
        )
        self.head = nn.Linear(self.trunk.num_features, 6)

    def forward(self, x):
        return self.head(self.trunk(x)).chunk(2, dim=1)


class PixelShuffleDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 8 * 4 * 4, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.up = nn.Sequential(nn.Conv2d(8, 32, 3, 1, 1), nn.PixelShuffle(2), nn.ReLU(True))
        self.out = nn.Sequential(nn.Conv2d(8, 12, 3, 1, 1), nn.PixelShuffle(2))

    def forward(self, z):
        h = self.bn(self.fc(z).reshape(-1, 8, 4, 4))
        return self.out(self.up(h.relu_())).sigmoid()


def timm_resnet18():
    return Foreign(TimmEncoder(), PixelShuffleDecoder(), torch.rand(N, 3, 16, 16))


def diffusers_autoencoder_kl():
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, latent_channels=2,
        layers_per_block=1,
    )  # fmt: skip
    return Foreign(vae, None, torch.rand(N, 3, 8, 8) * 2 - 1)


class CountEncoder(nn.Module):
    """As scVI's, whose heads are the mean and the variance's exponent."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(20, 16), nn.BatchNorm1d(16, momentum=0.01, eps=0.001), nn.ReLU(),
            nn.Dropout(0.1),
        )  # fmt: skip
        self.mean_encoder, self.var_encoder = nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x):
        q = self.layers(torch.log1p(x))
        return self.mean_encoder(q), self.var_encoder(q)


class CountDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.px_decoder = nn.Sequential(
            nn.Linear(3, 16), nn.BatchNorm1d(16, momentum=0.01, eps=0.001), nn.ReLU()
        )
        self.px_scale_decoder = nn.Linear(16, 20)

    def forward(self, z):
        return self.px_scale_decoder(self.px_decoder(z))


def scvi_counts():
    rates = torch.rand(N, 20).pow(3) * 20
    x = torch.poisson(rates)
    return Foreign(CountEncoder(), CountDecoder(), x, {"library": x.sum(1)})


class SquareDecoder(nn.Module):
    def __init__(self, tied):
        super().__init__()
        self.first, self.inner = nn.Linear(3, 16), nn.Linear(16, 16)
        self.inner.weight = tied.weight
        self.last = nn.Linear(16, 12)

    def forward(self, z):
        return self.last(F.relu(self.inner(F.relu(self.first(z)))))


def tied_parameter():
    encoder = nn.Sequential(
        nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 6)
    )
    return Foreign(encoder, SquareDecoder(encoder[2]), torch.randn(N, 12))


class TransposedDecoder(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.bias = inner, nn.Parameter(torch.zeros(12))
        self.first, self.last = nn.Linear(3, 16), nn.Linear(12, 12)

    def forward(self, z):
        return self.last(F.linear(F.relu(self.first(z)), self.inner.weight.t(), self.bias))


def tied_functional():
    encoder = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6))
    return Foreign(encoder, TransposedDecoder(encoder[0]), torch.randn(N, 12))


class TiedVAE(nn.Module):
    """One module whose decoder is the encoder transposed, the layer that makes the code too."""

    def __init__(self):
        super().__init__()
        self.inner, self.code, self.log_var = nn.Linear(12, 16), nn.Linear(16, 3), nn.Linear(16, 3)
        self.bias1, self.bias2 = nn.Parameter(torch.zeros(16)), nn.Parameter(torch.zeros(12))
        self.gain = nn.Linear(12, 12)

    def encode(self, x):
        h = F.relu(self.inner(x))
        return self.code(h), self.log_var(h)

    def decode(self, z):
        h = F.relu(F.linear(z, self.code.weight.t(), self.bias1))
        return self.gain(F.linear(h, self.inner.weight.t(), self.bias2))


def tied_code():
    return Foreign(TiedVAE(), None, torch.randn(N, 12))


class TwiceDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.again, self.norm = nn.Linear(3, 16), nn.Linear(16, 16), nn.LayerNorm(16)
        self.last = nn.Linear(16, 12)

    def forward(self, z):
        h = self.first(z)
        for _ in range(2):
            h = h + F.relu(self.norm(self.again(h)))
        return self.last(h)


class TwiceEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.again, self.head = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x):
        h = torch.tanh(self.again(torch.tanh(self.again(F.relu(self.first(x))))))
        return torch.cat([self.head(h), self.head(h.flip(1))], 1)


def layer_used_twice():
    return Foreign(TwiceEncoder(), TwiceDecoder(), torch.randn(N, 12))


class LabelEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.net = nn.Sequential(nn.Linear(16, 24), nn.SiLU(), nn.Linear(24, 6))

    def forward(self, x, y):
        return self.net(torch.cat([x, self.embed(y)], dim=-1))


class LabelDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.film = nn.Linear(5, 48)
        self.first, self.last = nn.Linear(3, 24), nn.Linear(24, 12)

    def forward(self, z, y):
        scale, shift = self.film(F.one_hot(y, 5).to(z)).chunk(2, -1)
        return self.last(F.silu(self.first(z) * (1 + scale) + shift))


def conditional_labels():
    y = torch.randint(5, (N,))
    return Foreign(LabelEncoder(), LabelDecoder(), torch.randn(N, 12), {"y": y})


class PyTorchVAE(nn.Module):
    """As PyTorch-VAE's: encode gives a list, and a forward of its own that is not called."""

    def __init__(self):
        super().__init__()
        modules, channels = [], 1
        for width in (8, 16):
            modules.append(nn.Sequential(
                nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.LeakyReLU()
            ))  # fmt: skip
            channels = width
        self.encoder = nn.Sequential(*modules)
        self.fc_mu, self.fc_var = nn.Linear(64, 3), nn.Linear(64, 3)
        self.decoder_input = nn.Linear(3, 64)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1), nn.BatchNorm2d(8), nn.LeakyReLU()
        )
        self.final_layer = nn.Sequential(
            nn.ConvTranspose2d(8, 8, 3, 2, 1, 1), nn.BatchNorm2d(8), nn.LeakyReLU(),
            nn.Conv2d(8, 1, 3, padding=1), nn.Tanh(),
        )  # fmt: skip

    def encode(self, x):
        h = torch.flatten(self.encoder(x), start_dim=1)
        return [self.fc_mu(h), self.fc_var(h)]

    def decode(self, z):
        h = self.decoder_input(z).view(-1, 16, 2, 2)
        return self.final_layer(self.decoder(h))

    def forward(self, x):
        mu, log_var = self.encode(x)
        z = mu + torch.randn_like(mu) * (0.5 * log_var).exp()
        return [self.decode(z), x, mu, log_var]


def encode_decode_module():
    return Foreign(PyTorchVAE(), None, torch.rand(N, 1, 8, 8))


class FramesEncoder(nn.Module):
    """Pictures of a film one by one, then the film: (B, T, 1, 4, 4)."""

    def __init__(self):
        super().__init__()
        self.picture, self.film = nn.Conv2d(1, 4, 3, 2, 1), nn.Linear(5 * 16, 6)

    def forward(self, x):
        h = F.relu(self.picture(x.flatten(0, 1)))
        return self.film(h.view(len(x), -1))


class FramesDecoder(nn.Module):
    def __init__(self, time_first):
        super().__init__()
        self.time_first = time_first
        self.film, self.norm = nn.Linear(3, 5 * 16), nn.LayerNorm(16)
        self.frame, self.bn = nn.Linear(16, 16), nn.BatchNorm1d(16)
        self.picture = nn.ConvTranspose2d(4, 1, 4, 2, 1)

    def forward(self, z):
        h = self.film(z).view(-1, 5, 16)
        h = F.relu(self.norm(h))
        if self.time_first:
            h = h.transpose(0, 1)
        shape = h.shape[:2]
        h = F.relu(self.bn(self.frame(h.reshape(-1, 16))))
        h = self.picture(h.view(-1, 4, 2, 2)).view(*shape, 1, 4, 4)
        return h.transpose(0, 1) if self.time_first else h


def time_in_batch_interleaved():
    return Foreign(FramesEncoder(), FramesDecoder(False), torch.randn(N, 5, 1, 4, 4))


def time_in_batch_repeated():
    return Foreign(FramesEncoder(), FramesDecoder(True), torch.randn(N, 5, 1, 4, 4))


class NormalEncoder(nn.Module):
    def __init__(self, independent):
        super().__init__()
        self.independent = independent
        self.net = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 6))

    def forward(self, x):
        loc, raw = self.net(x).chunk(2, -1)
        q = Normal(loc, F.softplus(raw) + 1e-3)
        return Independent(q, 1) if self.independent else q


class NormalDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 12))
        self.log_sigma = nn.Parameter(torch.tensor(0.0))

    def forward(self, z):
        mean = self.net(z)
        return Normal(mean, self.log_sigma.exp().expand_as(mean))


class TwoHeadedDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(3, 24)
        self.mean, self.log_sigma = nn.Linear(24, 12), nn.Linear(24, 12)

    def forward(self, z):
        h = F.relu(self.trunk(z))
        return Independent(Normal(self.mean(h), self.log_sigma(h).clamp(-3, 1).exp()), 1)


def normal_encoder():
    decoder = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 12))
    return Foreign(NormalEncoder(False), decoder, torch.randn(N, 12))


def independent_encoder_normal_decoder():
    return Foreign(NormalEncoder(True), NormalDecoder(), torch.randn(N, 12))


def decoder_distribution():
    return Foreign(NormalEncoder(True), TwoHeadedDecoder(), torch.randn(N, 12))


def padding_groups_dilation():
    encoder = nn.Sequential(
        nn.Conv2d(2, 8, 3, 2, 1, padding_mode="reflect"), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding="same", padding_mode="circular", groups=4, bias=False),
        nn.ReLU(), nn.Conv2d(8, 4, 3, 2, 1, groups=2, padding_mode="replicate"),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=2, dilation=2, padding_mode="circular", bias=False), nn.ReLU(),
        nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=2), nn.ReLU(),
        nn.ConvTranspose2d(8, 8, 3, 2, padding=2, output_padding=1, dilation=2, groups=4,
                           bias=False),
        nn.ReLU(), nn.Conv2d(8, 2, 3, padding=(1, 1), padding_mode="reflect"),
    )  # fmt: skip
    return Foreign(encoder, decoder, torch.randn(N, 2, 8, 8))


class NestedDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([
            nn.ModuleDict({
                "convs": nn.ModuleList([nn.Conv2d(cin, 8, 3, padding=1) for cin in (first, 8)]),
                "act": nn.ReLU(inplace=True),
            })
            for first in (2, 8)
        ])  # fmt: skip
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, z):
        for stage in self.stages:
            for conv in stage["convs"]:
                z = stage["act"](conv(z))
            z = F.interpolate(z, scale_factor=2)
        return self.out(z)


def nested_inplace_relu():
    encoder = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(True), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(True),
        nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    return Foreign(encoder, NestedDecoder(), torch.randn(N, 1, 8, 8))


ARCHITECTURES = {
    make.__name__: make
    for make in (
        mlp, conv1d_batchnorm_two_heads, conv3d, convtranspose_spectral_norm, audio_weight_norm,
        audio_old_weight_norm, transformer_cls, transformer_time_first,
        transformer_decoder_of_encoder_layers, gru_sequence, resnet_groupnorm, timm_resnet18,
        diffusers_autoencoder_kl, scvi_counts, tied_parameter, tied_functional, tied_code,
        layer_used_twice,
        conditional_labels, encode_decode_module, time_in_batch_interleaved,
        time_in_batch_repeated, normal_encoder, independent_encoder_normal_decoder,
        decoder_distribution, padding_groups_dilation, nested_inplace_relu,
    )
}  # fmt: skip
NEEDS = {"timm_resnet18": "timm", "diffusers_autoencoder_kl": "diffusers"}
