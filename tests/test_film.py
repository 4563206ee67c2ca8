import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from multibeta.betas import BetaRange
from multibeta.film import (
    Chain,
    Conditional,
    Conditioning,
    Embedding,
    FiLM,
    Gate,
    HyperLinear,
    _ScaleShift,
    fold,
    ramps,
)

LAYERS = {
    "linear": lambda: (nn.Linear(6, 5), torch.randn(3, 6)),
    "conv": lambda: (nn.Conv2d(2, 5, 3, stride=2, padding=1), torch.randn(3, 2, 7, 8)),
    "grouped": lambda: (nn.Conv2d(4, 6, 3, groups=2), torch.randn(3, 4, 7, 8)),
    "transposed": lambda: (nn.ConvTranspose2d(2, 5, 4, stride=2), torch.randn(3, 2, 4, 5)),
}


def randomise(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("wrap", [lambda m: FiLM(m, 4), lambda m: Gate(m, "encoder"),
                                  lambda m: Gate(m, "decoder")])  # fmt: skip
def test_a_folded_layer_is_the_conditioned_one(kind, wrap):
    layer, x = LAYERS[kind]()
    conditioned = randomise(wrap(layer).double())
    c = torch.randn(1, conditioned.condition.in_features, dtype=torch.float64)
    x = x.double()
    plain = conditioned.fold(c)
    assert type(plain) is type(layer)
    torch.testing.assert_close(plain(x), conditioned(x, c), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 7), (7, 3)])
@pytest.mark.parametrize("activate", [False, True])
@pytest.mark.parametrize("gain", [False, True])
def test_hyper_linear_formula_and_fold(inputs, outputs, activate, gain):
    layer = HyperLinear(nn.Linear(inputs, outputs), 4, activate, gain, rank=2)
    layer = randomise(layer).double()
    x, c = torch.randn(5, inputs).double(), torch.randn(5, 4).double()
    y = layer(x, c)
    for i in range(5):
        term = layer.up.weight @ layer.mix(c[i]).diag() @ layer.down.weight
        weight = layer.layer.weight + term
        log_scale, shift = layer.condition(c[i]).chunk(2)
        code = x[i] * layer.gain(c[i]).exp() if gain else x[i]
        expected = log_scale.exp() * (weight @ code + layer.layer.bias) + shift
        torch.testing.assert_close(y[i], F.silu(expected) if activate else expected)
        folded = layer.fold(c[i : i + 1])
        torch.testing.assert_close(folded(x[i : i + 1])[0], y[i], rtol=1e-10, atol=1e-12)
    assert torch.equal(layer(x, c), y)  # folding changed nothing


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 2)])
@pytest.mark.parametrize("conditions", [1, 3])
@pytest.mark.parametrize("activate", [False, True])
def test_gradient_of_the_scale_and_shift(shape, conditions, activate):
    y, a, t = (torch.randn(*s, dtype=torch.float64, requires_grad=True)
               for s in (shape, (conditions, 4), (conditions, 4)))  # fmt: skip
    assert torch.autograd.gradcheck(
        lambda *v: _ScaleShift.apply(v[0] * 1, *v[1:], activate), (y, a, t)
    )


@pytest.mark.parametrize("wrap", [FiLM, HyperLinear])
def test_the_activation_of_a_layer_is_a_silu_after_it(wrap):
    layer = randomise(wrap(nn.Linear(6, 5), 4, activate=True))
    x, c = torch.randn(3, 6), torch.randn(3, 4)
    active = layer(x, c)
    layer.activate = False
    torch.testing.assert_close(active, F.silu(layer(x, c)))
    with torch.no_grad():
        torch.testing.assert_close(active, F.silu(layer(x, c)))


def test_each_example_gets_its_own_condition():
    film = randomise(FiLM(nn.Conv2d(2, 3, 3), 4))
    x, c = torch.randn(5, 2, 6, 6), torch.randn(5, 4)
    together = film(x, c)
    alone = torch.cat([film(x[i : i + 1], c[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("layer", [
    lambda: FiLM(nn.Conv2d(2, 3, 3), 4), lambda: Gate(nn.Conv2d(2, 3, 3), "encoder"),
    lambda: HyperLinear(nn.Linear(6, 3), 4), lambda: HyperLinear(nn.Linear(6, 3), 4, gain=True),
])  # fmt: skip
def test_several_conditions_for_each_example_are_the_batch_several_times(layer):
    layer = randomise(layer())
    c = torch.randn(6, layer.condition.in_features)
    x = torch.randn(2, 6) if isinstance(layer, HyperLinear) else torch.randn(2, 2, 5, 5)
    torch.testing.assert_close(layer(x, c), layer(torch.cat([x, x, x]), c))
    with pytest.raises(ValueError, match="3 β's do not go with 2 examples; give one"):
        layer(x, c[:3])


def test_a_chain_repeats_a_picture_for_modules_that_take_a_row_for_each_condition():
    class Joined(Conditional):
        def forward(self, x, c):
            return torch.cat([x, c], 1)

    chain = Chain(nn.Linear(3, 2), Joined())
    x, c = torch.randn(2, 3), torch.randn(6, 4)
    torch.testing.assert_close(chain(x, c), chain(torch.cat([x, x, x]), c))


def test_film_does_nothing_before_training():
    layer = nn.Linear(4, 3)
    x = torch.randn(2, 4)
    torch.testing.assert_close(FiLM(layer, 8)(x, torch.randn(2, 8)), layer(x))


def test_film_formula():
    film = randomise(FiLM(nn.Linear(4, 3), 2))
    x, c = torch.randn(5, 4), torch.randn(5, 2)
    a, t = film.condition.weight[:3], film.condition.weight[3:]
    torch.testing.assert_close(film(x, c), torch.exp(c @ a.T) * film.layer(x) + c @ t.T)


@pytest.mark.parametrize(
    ("side", "gate"),
    [("encoder", lambda u: 1 / (1 + math.exp(-u))),
     ("decoder", lambda u: math.sqrt(max(0.0, 1 - math.exp(u))))],
)  # fmt: skip
def test_gate_formula(side, gate):
    gated = Gate(nn.Linear(1, 1), side)
    nn.init.constant_(gated.condition.weight, 0.7)
    nn.init.constant_(gated.condition.bias, -0.2)
    x = torch.randn(1, 1)
    for s in (-1.5, 0.0, 1.5):
        expected = gate(0.7 * s - 0.2) * gated.layer(x)
        torch.testing.assert_close(gated(x, torch.tensor([[s]])), expected)


def test_a_shut_gate_has_a_gradient_of_zero_not_nan():
    gated = Gate(nn.Linear(2, 3), "decoder")
    nn.init.constant_(gated.condition.bias, 5.0)
    gated(torch.randn(4, 2), torch.zeros(4, 1)).sum().backward()
    assert gated.condition.bias.grad.tolist() == [0.0] * 3


def test_ramps_are_bounded_rise_and_bend_where_they_say():
    t = torch.linspace(-3, 3, 601, dtype=torch.float64)
    c = ramps(t, 16)
    assert c.shape == (601, 16)
    assert c.abs().max() <= 1
    assert (c.diff(dim=0) >= 0).all()
    assert ramps(torch.linspace(-1, 1, 16), 16).diagonal().abs().max() < 1e-6


def test_gate_leaves_heads_stem_and_output_plain():
    gate = Conditioning("gate")
    for place in ("head", "stem", "output"):
        assert type(gate(nn.Linear(2, 2), place)) is nn.Linear
    for place in ("encoder", "decoder"):
        assert isinstance(gate(nn.Linear(2, 2), place), Gate)


def test_film_conditions_the_code_and_the_decoder():
    film = Conditioning("film")
    assert type(film(nn.Linear(2, 2), "encoder")) is nn.Linear
    for place in ("decoder", "output"):
        assert type(film(nn.Linear(2, 2), place)) is FiLM
    for place in ("head", "stem"):
        assert type(film(nn.Linear(2, 2), place)) is HyperLinear


@pytest.mark.parametrize("kind", ["film", "gate"])
def test_embedding_has_the_features_it_says(kind):
    conditioning = Conditioning(kind)
    s = BetaRange(0.01, 10).standardise(torch.tensor([0.01, 1.0, 10.0]))
    assert conditioning.embedding()(s[:, None]).shape == (3, conditioning.features)
    several = Conditioning(kind, 3)
    assert several.features > conditioning.features
    assert several.embedding()(torch.randn(5, 3)).shape == (5, several.features)


def test_embedding_is_centred_over_the_range():
    s = torch.linspace(-math.sqrt(3), math.sqrt(3), 33)[:, None]
    assert Embedding()(s)[:, 16:].mean(0).abs().max() < 1e-6
    two = Embedding(2)
    assert two(math.sqrt(3) * two.points)[:, 32:].mean(0).abs().max() < 1e-6


def test_no_conditioning_has_an_empty_embedding():
    assert Conditioning("none").embedding()(torch.zeros(3, 1)).shape == (3, 0)


def test_unknown_conditioning():
    with pytest.raises(ValueError, match="conditioning=flim is unknown; allowed: film, gate"):
        Conditioning("flim")


def test_a_layer_that_cannot_fold_is_refused():
    with pytest.raises(ValueError, match="no bias"):
        FiLM(nn.Linear(2, 2, bias=False), 3)
    with pytest.raises(ValueError, match="has groups"):
        FiLM(nn.ConvTranspose2d(4, 4, 3, groups=2), 3)
    with pytest.raises(TypeError, match="LayerNorm"):
        FiLM(nn.LayerNorm(2), 3)


def test_fold_shares_no_memory():
    chain = Chain(FiLM(nn.Linear(2, 2), 3), nn.SiLU(), nn.Linear(2, 1))
    folded = fold(chain, torch.zeros(1, 3))
    mine = {p.data_ptr() for p in chain.parameters()}
    assert mine.isdisjoint(p.data_ptr() for p in folded.parameters())


class ReadsC(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2 + 3, 1)

    def forward(self, x, c):
        return self.net(torch.cat([x, c], dim=1))


def test_a_network_that_reads_c_itself_gets_it_as_a_constant():
    network, c, x = ReadsC(), torch.randn(1, 3), torch.randn(4, 2)
    folded = fold(network, c)
    torch.testing.assert_close(folded(x), network(x, c.expand(4, 3)))
    assert all("c" != name.rpartition(".")[2] for name in folded.state_dict())
