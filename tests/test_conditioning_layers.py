"""Each kind of layer under a condition: the formula, the start, and folding."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from multibeta.betas import BetaRange
from multibeta.conditioning import Conditioning, Embedding, FiLM, Gate, Hyper, Source, ramps
from multibeta.conditioning.layers import _ScaleShift
from multibeta.conditioning.source import Call

F = 4

# name → (layer, an example's shape)
AFFINE = {
    "linear": (lambda: nn.Linear(6, 5), (6,)),
    "linear of a sequence": (lambda: nn.Linear(6, 5), (3, 6)),
    "linear without bias": (lambda: nn.Linear(6, 5, bias=False), (6,)),
    "conv1d": (lambda: nn.Conv1d(4, 5, 3), (4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 5, 3, stride=2, padding=1), (4, 7, 8)),
    "conv3d": (lambda: nn.Conv3d(4, 5, 2), (4, 4, 5, 3)),
    "dilated": (lambda: nn.Conv2d(4, 5, (3, 2), dilation=2), (4, 7, 8)),
    "conv without bias": (lambda: nn.Conv2d(4, 5, 3, bias=False), (4, 7, 8)),
    "padded to the same": (lambda: nn.Conv1d(4, 5, 3, padding="same", dilation=2), (4, 9)),
    "circular": (lambda: nn.Conv2d(4, 5, 3, padding=1, padding_mode="circular"), (4, 7, 8)),
    "reflected": (lambda: nn.Conv1d(4, 5, 5, padding=2, padding_mode="reflect"), (4, 9)),
    "circular to the same": (
        lambda: nn.Conv1d(4, 5, 4, padding="same", padding_mode="circular"), (4, 9),
    ),
    "transposed1d": (lambda: nn.ConvTranspose1d(4, 5, 4, stride=2), (4, 5)),
    "transposed2d": (
        lambda: nn.ConvTranspose2d(4, 5, 3, stride=2, padding=1, output_padding=1), (4, 4, 5),
    ),
    "transposed3d": (lambda: nn.ConvTranspose3d(4, 5, 2, stride=2), (4, 2, 3, 2)),
    "transposed, dilated": (lambda: nn.ConvTranspose2d(4, 5, 3, dilation=2), (4, 4, 5)),
    "transposed without bias": (lambda: nn.ConvTranspose2d(4, 5, 3, bias=False), (4, 4, 5)),
}  # fmt: skip
GROUPED = {
    "groups": (lambda: nn.Conv2d(4, 6, 3, groups=2), (4, 7, 8)),
    "depthwise": (lambda: nn.Conv1d(4, 8, 3, groups=4), (4, 9)),
    "transposed, groups": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 4, 5)),
    "transposed1d, groups": (lambda: nn.ConvTranspose1d(4, 8, 3, groups=4, bias=False), (4, 5)),
}
NORMS = {
    "layer norm": (lambda: nn.LayerNorm(6), (6,)),
    "layer norm of a sequence": (lambda: nn.LayerNorm(6), (3, 6)),
    "layer norm of maps": (lambda: nn.LayerNorm((4, 5, 3)), (4, 5, 3)),
    "layer norm of rows of maps": (lambda: nn.LayerNorm((5, 3)), (4, 5, 3)),
    "layer norm without bias": (lambda: nn.LayerNorm(6, bias=False), (6,)),
    "group norm": (lambda: nn.GroupNorm(2, 6), (6, 5, 3)),
    "batch norm of vectors": (lambda: nn.BatchNorm1d(6), (6,)),
    "batch norm 1d": (lambda: nn.BatchNorm1d(6), (6, 7)),
    "batch norm 2d": (lambda: nn.BatchNorm2d(6), (6, 5, 3)),
    "instance norm 1d": (lambda: nn.InstanceNorm1d(6, affine=True), (6, 7)),
    "instance norm 2d": (lambda: nn.InstanceNorm2d(6, affine=True), (6, 5, 3)),
    "instance norm with statistics": (
        lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True), (6, 5, 3),
    ),
    "rms norm": (lambda: nn.RMSNorm(6), (3, 6)),
    "rms norm of maps": (lambda: nn.RMSNorm((5, 3)), (4, 5, 3)),
}  # fmt: skip
CASES = [(FiLM, name, *of) for name, of in (AFFINE | GROUPED | NORMS).items()]
CASES += [(Hyper, name, *of) for name, of in AFFINE.items()]
CASES = [pytest.param(*case, id=f"{case[0].__name__} {case[1]}") for case in CASES]
GATED = [pytest.param(*of, id=name) for name, of in (AFFINE | GROUPED).items()]


def normal_(module):
    """Move parameters away from their neutral start."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def conditioned(kind, build, features=F, trained=True, **options):
    """Return a layer under a condition, and the plain layer."""
    plain = build()
    if trained:
        for parameter in plain.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    layer = copy.deepcopy(plain)
    found = kind(Source(), layer, features, **options)
    if trained:
        normal_(found)
    return layer, plain


def at(layer, c, *args, times=1, **kwargs):
    """Call a layer at c."""
    source = layer.condition.source
    return source.run(Call(c, lambda: c, times), layer, False, *args, **kwargs)


def close(a, b, tolerance):
    assert a.shape == b.shape
    assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("kind", "name", "build", "shape"), CASES)
def test_nothing_is_changed_at_the_start(kind, name, build, shape, training):
    layer, plain = conditioned(kind, build, trained=False, in_place=training)
    layer.train(training), plain.train(training)
    x = torch.randn(3, *shape)
    wanted = plain(x)
    assert torch.equal(at(layer, torch.randn(3, F), x), wanted)
    with torch.no_grad():
        assert torch.equal(at(layer, torch.randn(1, F), x), plain(x))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=["f32", "f64"]
)
@pytest.mark.parametrize(("kind", "name", "build", "shape"), CASES)
def test_folding(kind, name, build, shape, dtype, tolerance):
    layer, plain = conditioned(kind, lambda: build().to(dtype))
    layer.eval()
    x, c = torch.randn(3, *shape, dtype=dtype), torch.randn(1, F, dtype=dtype)
    wanted = at(layer, c, x)
    assert not torch.equal(wanted, plain.eval()(x))
    layer.condition.fold(layer, c)
    assert type(layer) is type(plain)
    assert list(layer.state_dict()) == list(plain.state_dict())
    assert not layer._forward_hooks and not layer._forward_pre_hooks
    close(layer(x), wanted, tolerance)


@pytest.mark.parametrize(("kind", "name", "build", "shape"), CASES)
def test_each_example_gets_its_own_condition(kind, name, build, shape):
    layer, _ = conditioned(kind, build)
    layer.eval()
    x, c = torch.randn(3, *shape), torch.randn(3, F)
    alone = torch.cat([at(layer, c[i : i + 1], x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(at(layer, c, x), alone)


@pytest.mark.parametrize(("kind", "name", "build", "shape"), CASES)
def test_neighbours_may_share_a_condition(kind, name, build, shape):
    """Values and gradients are as with a row of c each, and no output is a view of another."""
    layer, _ = conditioned(kind, lambda: build().double())
    layer.eval()
    x, c = torch.randn(6, *shape).double(), torch.randn(3, F).double().requires_grad_()
    found = []
    for call in (Call(c.repeat_interleave(2, 0), lambda: c), Call(c, lambda: c, each=2)):
        y = layer.condition.source.run(call, layer, False, x)
        assert not y._is_view()
        y.relu_().square().sum().backward()
        found.append([y, c.grad, *(p.grad for p in layer.parameters())])
        layer.zero_grad()
        c.grad = None
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_neighbours_in_a_layers_output_with_strides_of_its_own():
    layer, _ = conditioned(FiLM, lambda: nn.Linear(6, 5))
    y, c = torch.randn(5, 12).t(), torch.randn(4, F)
    shared = layer.condition.modulated(y, c)
    torch.testing.assert_close(shared, layer.condition.modulated(y, c.repeat_interleave(3, 0)))


@pytest.mark.parametrize(("kind", "name", "build", "shape"), CASES)
def test_gradients_are_those_of_plain_operations(kind, name, build, shape):
    """With a graph (_ScaleShift, in place) and in a transform (plain operations): the same."""
    layer, _ = conditioned(kind, lambda: build().double(), in_place=True)
    layer.eval()
    x, c = torch.randn(3, *shape).double(), torch.randn(3, F).double().requires_grad_()
    parameters = dict(layer.named_parameters())
    ours = torch.autograd.grad(at(layer, c, x).sin().sum(), [*parameters.values(), c])

    def loss(values, c):
        return torch.func.functional_call(Under(layer, c), values, (x,)).sin().sum()

    named = {f"layer.{k}": v.detach() for k, v in parameters.items()}
    theirs, of_c = torch.func.grad(loss, (0, 1))(named, c.detach())
    for mine, plain in zip(ours, [*theirs.values(), of_c], strict=True):
        torch.testing.assert_close(mine, plain)


class Under(nn.Module):
    """A layer at c, as a module."""

    def __init__(self, layer, c):
        super().__init__()
        self.layer, self.c = layer, c

    def forward(self, x):
        return at(self.layer, self.c, x)


@pytest.mark.parametrize(("kind", "name", "build", "shape"), CASES)
def test_the_output_may_be_overwritten(kind, name, build, shape):
    """As by ReLU(inplace=True) and out += skip, which a plain layer's output survives."""
    layer, _ = conditioned(kind, build)
    x, c = torch.randn(3, *shape), torch.randn(3, F)
    at(layer, c, x).relu().square().sum().backward()
    wanted = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    y = at(layer, c, x).relu_()
    y.square().sum().backward()
    for mine, other in zip(layer.parameters(), wanted, strict=True):
        torch.testing.assert_close(mine.grad, other)


# Formulas --------------------------------------------------------------------------------------


def test_film_formula():
    layer, plain = conditioned(FiLM, lambda: nn.Linear(6, 5))
    x, c = torch.randn(3, 6), torch.randn(3, F)
    a, t = layer.condition.affine.chunk(2)
    torch.testing.assert_close(at(layer, c, x), torch.exp(c @ a.T) * plain(x) + c @ t.T)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 7), (7, 3)])
@pytest.mark.parametrize("gain", [False, True])
def test_hyper_formula(inputs, outputs, gain):
    layer, plain = conditioned(Hyper, lambda: nn.Linear(inputs, outputs).double(), gain=gain)
    x, c = torch.randn(5, inputs).double(), torch.randn(5, F).double()
    y, of = at(layer, c, x), layer.condition
    for i in range(5):
        weight = plain.weight + of.up @ (of.mix @ c[i]).diag() @ of.down
        log_scale, shift = (of.affine @ c[i]).chunk(2)
        code = x[i] * (of.gain @ c[i]).exp() if gain else x[i]
        wanted = log_scale.exp() * (weight @ code + plain.bias) + shift
        torch.testing.assert_close(y[i], wanted)


@pytest.mark.parametrize("name", [name for name in AFFINE if "linear" not in name])
def test_hyper_formula_of_convolutions(name):
    """W(c) = W + U diag(Fc) V, with V of the same kernel; and the gains of the inputs."""
    build, shape = AFFINE[name]
    layer, plain = conditioned(Hyper, lambda: build().double(), gain=True)
    x, c = torch.randn(2, *shape).double(), torch.randn(1, F).double()
    of, transposed = layer.condition, "transposed" in name
    inward = plain.weight.transpose(0, 1) if transposed else plain.weight
    down = (of.down.transpose(0, 1) if transposed else of.down).flatten(1)
    weight = inward + (of.up @ (of.mix @ c[0]).diag() @ down).view_as(inward)
    weight = weight.transpose(0, 1) if transposed else weight
    found = (of.affine @ c[0]).view(-1, 5, *(1,) * (len(shape) - 1))
    plain.weight.data = weight.detach()
    inner = plain(x * (of.gain @ c[0]).exp().view(-1, *(1,) * (len(shape) - 1)))
    wanted = found[0].exp() * inner + (0 if plain.bias is None else found[1])
    torch.testing.assert_close(at(layer, c, x), wanted)


@pytest.mark.parametrize("gain", [False, True])
@pytest.mark.parametrize("name", AFFINE)
def test_hyper_folds_with_gains(name, gain):
    build, shape = AFFINE[name]
    layer, _ = conditioned(Hyper, lambda: build().double(), gain=gain)
    x, c = torch.randn(3, *shape).double(), torch.randn(1, F).double()
    wanted = at(layer, c, x)
    layer.condition.fold(layer, c)
    close(layer(x), wanted, 1e-12)
    assert not layer._forward_hooks and not layer._forward_pre_hooks


@pytest.mark.parametrize("options", [{"scale": False}, {"shift": False}])
def test_half_a_film(options):
    for build, shape in [AFFINE["linear"], AFFINE["transposed2d"], NORMS["group norm"]]:
        layer, plain = conditioned(FiLM, lambda b=build: b().double(), **options)
        x, c = torch.randn(3, *shape).double(), torch.randn(1, F).double()
        wanted = at(layer, c, x)
        layer.condition.fold(layer, c)
        close(layer(x), wanted, 1e-12)
        assert torch.equal(layer.weight, plain.weight) == ("scale" in options)


def test_a_layer_without_bias_gets_no_shift():
    layer, plain = conditioned(FiLM, lambda: nn.Linear(6, 5, bias=False))
    x, c = torch.randn(3, 6), torch.randn(3, F)
    ratio = at(layer, c, x) / plain(x)
    torch.testing.assert_close(ratio, (c @ layer.condition.affine.T).exp())


# Gates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize(("build", "shape"), GATED)
def test_gates_fold(build, shape, side):
    layer, plain = conditioned(Gate, lambda: build().double(), features=1, side=side)
    x, s = torch.randn(3, *shape).double(), torch.tensor([[0.7]]).double()
    wanted = at(layer, s, x)
    layer.condition.fold(layer, s)
    assert type(layer) is type(plain) and list(layer.state_dict()) == list(plain.state_dict())
    close(layer(x), wanted, 1e-12)


@pytest.mark.parametrize(
    ("side", "gate"),
    [("encoder", lambda u: 1 / (1 + math.exp(-u))),
     ("decoder", lambda u: math.sqrt(max(0.0, 1 - math.exp(u))))],
)  # fmt: skip
def test_gate_formula(side, gate):
    layer, plain = conditioned(Gate, lambda: nn.Linear(1, 1), features=1, side=side)
    nn.init.constant_(layer.condition.gate.weight, 0.7)
    nn.init.constant_(layer.condition.gate.bias, -0.2)
    x = torch.randn(1, 1)
    for s in (-1.5, 0.0, 1.5):
        wanted = gate(0.7 * s - 0.2) * plain(x)
        torch.testing.assert_close(at(layer, torch.tensor([[s]]), x), wanted)


def test_a_shut_gate_has_a_gradient_of_zero_not_nan_and_folds_to_zero():
    layer, _ = conditioned(Gate, lambda: nn.Linear(2, 3), features=1, side="decoder")
    nn.init.constant_(layer.condition.gate.bias, 5.0)
    nn.init.zeros_(layer.condition.gate.weight)
    at(layer, torch.zeros(4, 1), torch.randn(4, 2)).sum().backward()
    assert layer.condition.gate.bias.grad.tolist() == [0.0] * 3
    layer.condition.fold(layer, torch.zeros(1, 1))
    assert not layer.weight.any() and not layer.bias.any()


# Rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "options"), [
    (FiLM, {}), (Gate, {"side": "encoder"}), (Hyper, {}), (Hyper, {"gain": True}),
])  # fmt: skip
@pytest.mark.parametrize("name", ["linear", "linear of a sequence", "conv2d", "transposed1d"])
def test_several_conditions_for_each_example_are_the_batch_several_times(kind, options, name):
    build, shape = AFFINE[name]
    layer, _ = conditioned(kind, build, expands=True, **options)
    x, c = torch.randn(2, *shape), torch.randn(6, F)
    torch.testing.assert_close(at(layer, c, x, times=3), at(layer, c, torch.cat([x, x, x])))
    with pytest.raises(ValueError, match="3 β's do not go with 2 rows in layer"):
        at(layer, c[:3], x)


@pytest.mark.parametrize("order", ["interleaved", "repeated", None])
@pytest.mark.parametrize("kind", [FiLM, Hyper])
def test_rows_that_are_a_multiple_of_the_examples(kind, order):
    layer, _ = conditioned(kind, lambda: nn.Linear(6, 5), order=order, name="a.b")
    x, c = torch.randn(6, 6), torch.randn(2, F)
    if order is None:
        with pytest.raises(ValueError, match=r"2 β's do not go with 6 rows in layer a.b; .*could"):
            at(layer, c, x)
        return
    rows = [0, 0, 0, 1, 1, 1] if order == "interleaved" else [0, 1, 0, 1, 0, 1]
    torch.testing.assert_close(at(layer, c, x), at(layer, c[rows], x))


@pytest.mark.parametrize("kind", [FiLM, Hyper])
def test_examples_along_another_axis(kind):
    layer, _ = conditioned(kind, lambda: nn.Linear(6, 5), axis=1)
    x, c = torch.randn(4, 3, 6), torch.randn(3, F)
    alone = torch.cat([at(layer, c[i : i + 1], x[:, i : i + 1]) for i in range(3)], 1)
    torch.testing.assert_close(at(layer, c, x), alone)


# Parametrizations ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("norm", [parametrizations.weight_norm, nn.utils.weight_norm])
@pytest.mark.parametrize("name", ["linear", "conv1d", "groups", "transposed1d"])
@pytest.mark.parametrize("kind", [FiLM, Hyper])
def test_weight_norm_folds_into_magnitude_and_direction(kind, name, norm):
    if kind is Hyper and name == "groups":
        pytest.skip("a layer with groups has no hyper-linear form")
    build, shape = (AFFINE | GROUPED)[name]
    plain = norm(build().double())
    layer = norm(build().double())
    layer.load_state_dict(plain.state_dict())
    normal_(kind(Source(), layer, F))
    x, c = torch.randn(3, *shape).double(), torch.randn(1, F).double()
    wanted = at(layer, c, x)
    layer.condition.fold(layer, c)
    assert list(layer.state_dict()) == list(plain.state_dict())
    close(layer(x), wanted, 1e-12)
    plain.load_state_dict(layer.state_dict())
    close(plain(x), wanted, 1e-12)


@pytest.mark.parametrize("name", ["linear", "conv2d", "transposed1d"])
def test_spectral_norm_takes_a_shift(name):
    build, shape = AFFINE[name]
    plain = parametrizations.spectral_norm(build().double())
    layer = copy.deepcopy(plain)
    normal_(FiLM(Source(), layer, F, scale=False))
    layer.eval(), plain.eval()
    x, c = torch.randn(3, *shape).double(), torch.randn(1, F).double()
    wanted = at(layer, c, x)
    layer.condition.fold(layer, c)
    assert parametrize.is_parametrized(layer, "weight")
    assert list(layer.state_dict()) == list(plain.state_dict())
    close(layer(x), wanted, 1e-12)


@pytest.mark.parametrize("kind", [FiLM, Hyper])
def test_frozen_weights_stay_and_the_condition_trains(kind):
    layer, _ = conditioned(kind, lambda: nn.Linear(6, 5).requires_grad_(False))
    at(layer, torch.randn(3, F), torch.randn(3, 6)).square().sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None
    assert all(p.grad is not None and p.grad.any() for p in layer.condition.parameters())


def test_removing_it_gives_the_layer_back():
    for kind in (FiLM, Hyper, Gate):
        layer, plain = conditioned(kind, lambda: nn.Conv1d(4, 5, 3))
        x = torch.randn(3, 4, 9)
        layer.condition.remove(layer)
        assert torch.equal(layer(x), plain(x))
        assert list(layer.state_dict()) == list(plain.state_dict())


# Derivatives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5, 2)])
@pytest.mark.parametrize("conditions", [1, 3])
def test_first_and_second_derivatives_of_the_scale_and_shift(shape, conditions):
    tail = (1,) * (len(shape) - 2)
    given = [
        torch.randn(*s, dtype=torch.float64, requires_grad=True)
        for s in (shape, (conditions, 4, *tail), (conditions, 4, *tail))
    ]

    def scaled(y, a, t):
        return _ScaleShift.apply(y * 1, a, a.exp(), t)

    assert torch.autograd.gradcheck(scaled, given)
    assert torch.autograd.gradgradcheck(scaled, given)
    assert torch.autograd.gradcheck(scaled, given, check_batched_grad=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_condition_may_be_more_precise_than_the_layer(dtype):
    layer, _ = conditioned(Hyper, lambda: nn.Linear(6, 5).to(dtype), gain=True)
    layer.condition.float()
    c, x = torch.randn(3, F), torch.randn(3, 6, dtype=dtype)
    y = at(layer, c, x)
    assert y.dtype == dtype
    y.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("kind", [FiLM, Hyper, Gate])
def test_c_may_have_another_dtype_than_the_layer(kind):
    layer, _ = conditioned(kind, lambda: nn.Linear(6, 5).double(), features=F)
    c, x = torch.randn(3, F), torch.randn(3, 6).double()
    assert at(layer, c, x).dtype == torch.double
    layer.condition.fold(layer, c[:1])
    assert layer(x).dtype == torch.double


# The embedding ---------------------------------------------------------------------------------


def test_ramps_are_bounded_rise_and_bend_where_they_say():
    t = torch.linspace(-3, 3, 601, dtype=torch.float64)
    c = ramps(t, 16)
    assert c.shape == (601, 16)
    assert c.abs().max() <= 1
    assert (c.diff(dim=0) >= 0).all()
    assert ramps(torch.linspace(-1, 1, 16), 16).diagonal().abs().max() < 1e-6


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
