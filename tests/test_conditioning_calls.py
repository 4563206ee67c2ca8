"""How c reaches the layers: under everything that people do to a module."""

import copy
import gc
import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from multibeta.betas import Draws
from multibeta.conditioning import Call, Conditioning, Source, condition, places
from multibeta.multibeta_vae import MultiBetaVAE

pytestmark = pytest.mark.filterwarnings(
    "ignore:None of the inputs have requires_grad",  # of reentrant checkpoints under no_grad
)

LOW, HIGH = 0.02, 5.0


class Block(nn.Module):
    """A residual block, perhaps checkpointed: False, or how it is called."""

    def __init__(self, way="plain"):
        super().__init__()
        self.one, self.two, self.way = nn.Linear(8, 8), nn.Linear(8, 8), way

    def inner(self, x):
        return x + self.two(torch.tanh(self.one(x)))

    def outer(self, x):
        return checkpoint(self.inner, x.sin(), use_reentrant=self.way == "nested reentrant").cos()

    def mixed(self, x):
        return checkpoint(self.inner, x.sin(), use_reentrant=False).cos()

    def forward(self, x):
        if self.way == "plain":
            return self.inner(x)
        if self.way == "closure":
            return checkpoint(lambda: self.inner(x), use_reentrant=False)
        if self.way.startswith("nested"):
            return checkpoint(self.outer, x, use_reentrant=self.way == "nested reentrant")
        if self.way == "mixed":
            return checkpoint(self.mixed, x, use_reentrant=True)
        if self.way == "as nested":
            return self.inner(x.sin()).cos()
        return checkpoint(self.inner, x, use_reentrant=self.way == "reentrant")


class Encoder(nn.Module):
    def __init__(self, way="plain"):
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(6, 8), Block(way), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.block(self.stem(x)))


class Decoder(nn.Module):
    def __init__(self, way="plain"):
        super().__init__()
        self.stem, self.output = nn.Linear(2, 8), nn.Linear(8, 6)
        self.blocks = nn.Sequential(Block(way), nn.SiLU(), Block(way))

    def forward(self, z):
        return self.output(self.blocks(self.stem(z)))


class Cast(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return x.to(self.dtype)


def trained(vae):
    """Move what follows β away from its neutral start."""
    for name, parameter in vae.named_parameters():
        if ".condition." in name:
            nn.init.normal_(parameter, std=0.15)
    return vae


def make(way="plain", encoder=None, decoder=None, dtype=torch.float64, shape=(6,), **options):
    torch.manual_seed(1)
    vae = MultiBetaVAE(
        (encoder or Encoder(way)).to(dtype),
        (decoder or Decoder(way)).to(dtype),
        example=torch.randn(4, *shape, dtype=dtype),
        **options,
    )
    return trained(vae.to(dtype))


def data(n=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, 6, generator=generator, dtype=dtype)
    return x, torch.randn(n, 2, generator=generator, dtype=dtype)


def loss_of(vae, x, noise, beta):
    terms = vae.elbo_terms(x, beta, noise)
    return (terms.distortion + beta * terms.rate_nats).sum()


def gradients(vae, loss):
    vae.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in vae.named_parameters() if p.grad is not None}


def same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def one_by_one(vae, x, z, betas):
    """Return means, deviations and reconstructions of each example, each at its own β."""
    rows = []
    for i, beta in enumerate(betas.tolist()):
        q = vae.encode(x[i : i + 1], beta)
        rows.append((q.mean, q.stddev, vae.decode(z[i : i + 1], beta).mean))
    return [torch.cat(column) for column in zip(*rows, strict=True)]


# One β, one an example, several ----------------------------------------------------------------


def test_one_beta_and_one_an_example():
    vae, (x, z), betas = make(), data(), torch.tensor([0.02, 0.1, 1.0, 5.0])
    q = vae.encode(x, betas)
    wanted = one_by_one(vae, x, z, betas)
    torch.testing.assert_close([q.mean, q.stddev, vae.decode(z, betas).mean], wanted)
    assert not torch.allclose(q.mean, vae.encode(x, 0.1).mean)
    all_one = torch.full((4,), 0.1)
    torch.testing.assert_close(vae.encode(x, 0.1).mean, vae.encode(x, all_one).mean)
    torch.testing.assert_close(vae.decode(z, 0.1).mean, vae.decode(z, all_one).mean)


@pytest.mark.parametrize("shares", [True, False])
def test_several_betas_an_example(shares):
    vae, (x, _) = make(), data()
    assert vae.shares
    vae.shares = shares
    betas = torch.logspace(-1, 0.5, 12)
    repeated, rows = x.repeat(3, 1), []
    vae.encoder.block.register_forward_hook(lambda module, args, y: rows.append(len(y)))
    q = vae.encode(x, betas)
    assert rows == [4 if shares else 12]
    z = torch.randn(12, 2).double()
    wanted = one_by_one(vae, repeated, z, betas)
    torch.testing.assert_close([q.mean, q.stddev, vae.decode(z, betas).mean], wanted)
    terms = vae.elbo_terms(x, betas, z)
    other = vae.elbo_terms(repeated, betas, z)
    torch.testing.assert_close(terms.distortion, other.distortion)


def test_several_betas_an_example_interleaved_by_the_user():
    vae, (x, _) = make(), data()
    betas = torch.tensor([0.02, 0.3, 5.0]).repeat(4)
    z = torch.randn(12, 2).double()
    rows = x.repeat_interleave(3, 0)
    q = vae.encode(rows, betas)
    wanted = one_by_one(vae, rows, z, betas)
    torch.testing.assert_close([q.mean, q.stddev, vae.decode(z, betas).mean], wanted)


def test_a_number_of_betas_that_does_not_fit():
    vae, (x, z) = make(), data()
    with pytest.raises(ValueError, match="6 β's do not go with 4 examples"):
        vae.encode(x, torch.full((6,), 0.1))
    for n in (2, 3, 6, 8):
        with pytest.raises(ValueError, match=f"{n} β's do not go with 4 rows"):
            vae.decode(z, torch.full((n,), 0.1))


# Networks that fold other axes into the batch ---------------------------------------------------


class FoldsTime(nn.Module):
    """Time (or heads) in the batch: (B, T, D) → (B·T, D), or the other order, (T·B, D)."""

    def __init__(self, inner, order, outputs):
        super().__init__()
        self.inner, self.order, self.last = inner, order, nn.Linear(8, outputs)

    def forward(self, x):
        x = x.unflatten(1, (-1, 2))  # (B, T, 2)
        if self.order == "repeated":
            x = x.transpose(0, 1)
        first, second = x.shape[:2]
        x = self.inner(x.reshape(first * second, 2)).unflatten(0, (first, second))
        return self.last((x.transpose(0, 1) if self.order == "repeated" else x).mean(1))


@pytest.mark.parametrize("order", ["interleaved", "repeated"])
@pytest.mark.parametrize("norm", [nn.Identity, lambda: nn.LayerNorm(8), lambda: nn.GroupNorm(2, 8)])
def test_rows_folded_into_the_batch(order, norm):
    def inner():
        return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), norm())

    vae = make(
        encoder=FoldsTime(inner(), order, 8), decoder=FoldsTime(inner(), order, 6), shape=(6,)
    )
    assert {site.options["order"] for site in vae.sites["decoder"] if site.options} == {
        order, None
    }  # fmt: skip
    betas = torch.tensor([0.02, 0.1, 1.0, 5.0])
    x, z = torch.randn(4, 6).double(), torch.randn(4, 4).double()
    q = vae.encode(x, betas)
    wanted = one_by_one(vae, x, z, betas)
    torch.testing.assert_close([q.mean, q.stddev, vae.decode(z, betas).mean], wanted)
    longer = torch.randn(2, 8).double()  # T = 4 and B = 2, which the model has not seen
    betas = torch.tensor([0.02, 5.0])
    alone = [vae.decode(longer[i : i + 1], b).mean for i, b in enumerate(betas.tolist())]
    torch.testing.assert_close(vae.decode(longer, betas).mean, torch.cat(alone))
    betas, z = torch.logspace(-1, 0.5, 8), torch.randn(8, 4).double()  # several an example
    wanted = one_by_one(vae, x.repeat(2, 1), z, betas)
    torch.testing.assert_close(vae.encode(x, betas).mean, wanted[0])


def test_rows_that_cannot_be_told_are_refused():
    class Shuffles(FoldsTime):
        def forward(self, x):
            x = x.unflatten(1, (-1, 2)).flatten(0, 1)
            order = torch.arange(len(x)).flip(0)
            order[[0, 1]] = order[[1, 0]]
            y = self.inner(x[order])
            return self.last(y[order.argsort()].unflatten(0, (-1, 2)).mean(1))

    vae = make(decoder=Shuffles(nn.Sequential(nn.Linear(2, 8), nn.Tanh()), None, 6),
               encoder=nn.Linear(6, 8))  # fmt: skip
    (inner,) = [site for site in vae.sites["decoder"] if site.name == "inner.0"]
    assert inner.does == "plain" and inner.why == "its rows are not examples"


# Several calls ----------------------------------------------------------------------------------


def test_two_models_in_one_call_one_inside_the_other():
    inside = make()

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last, self.inside = nn.Linear(2, 2), nn.Linear(6, 6), [inside]

        def forward(self, z):
            return self.last(self.inside[0].decode(self.first(z), HIGH).mean)

    outside, (x, z) = make(decoder=Around()), data()
    folded = outside.at_beta(LOW)
    torch.testing.assert_close(outside.decode(z, LOW).mean, folded.decode(z).mean)
    last, first = folded.decoder.last, folded.decoder.first
    wanted = last(inside.at_beta(HIGH).decode(first(z)).mean)
    torch.testing.assert_close(outside.decode(z, LOW).mean, wanted)


def test_a_model_that_calls_itself_at_another_beta():
    vae, (x, z) = make(), data()
    inside, plain = [], vae.decode(z, LOW).mean
    hook = lambda *_: inside or inside.append(1) or inside.append(vae.decode(z, HIGH).mean)  # noqa: E731
    handle = vae.decoder.blocks[0].register_forward_hook(lambda *a: hook(*a) and None)
    assert torch.equal(vae.decode(z, LOW).mean, plain)
    handle.remove()
    assert torch.equal(inside[1], vae.decode(z, HIGH).mean)


WAYS = ["plain", "reentrant", "not reentrant", "closure", "nested reentrant", "nested", "mixed"]


@pytest.fixture(scope="module")
def separate():
    """Gradients at two β's, one after the other, without checkpoints; of both kinds of block."""
    found = {}
    for way in ("plain", "as nested"):
        vae, (x, noise) = make(way), data()
        low = gradients(vae, loss_of(vae, x, noise, LOW))
        high = gradients(vae, loss_of(vae, x, noise, HIGH))
        found[way] = low, {name: low[name] + high[name] for name in low}
    return found


def of_way(separate, way):
    return separate["as nested" if way.startswith("nested") or way == "mixed" else "plain"]


@pytest.mark.parametrize("way", WAYS)
def test_checkpoints_give_the_gradients_of_none(way, separate):
    vae, (x, noise) = make(way), data()
    low, both = of_way(separate, way)
    assert low["embedding.curves.0.weight"].any()
    same(gradients(vae, loss_of(vae, x, noise, LOW)), low)
    loss = loss_of(vae, x, noise, LOW) + loss_of(vae, x, noise, HIGH)
    same(gradients(vae, loss), both)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("outer", [
    save_on_cpu, partial(saved_tensors_hooks, lambda t: t * 1, lambda t: t * 1),
])  # fmt: skip
@pytest.mark.parametrize("backward_inside", [False, True])
def test_checkpoints_within_hooks_of_the_user(way, outer, backward_inside, separate):
    vae, (x, noise) = make(way), data()
    with outer():
        loss = loss_of(vae, x, noise, LOW) + loss_of(vae, x, noise, HIGH)
        found = gradients(vae, loss) if backward_inside else None
    same(found or gradients(vae, loss), of_way(separate, way)[1])


@pytest.mark.parametrize("way", ["plain", "not reentrant", "nested"])
def test_a_checkpoint_around_whole_calls(way, separate):
    vae, (x, noise) = make(way), data()
    for reentrant in (False, True):
        loss = sum(
            checkpoint(loss_of, vae, x.requires_grad_(), noise, beta, use_reentrant=reentrant)
            for beta in (LOW, HIGH)
        )
        same(gradients(vae, loss), of_way(separate, way)[1])


def test_checkpoints_put_on_afterwards(separate):
    """As Fabric and FSDP do it, also on networks that had no code that could checkpoint."""
    wrapper = pytest.importorskip(
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper"
    ).apply_activation_checkpointing
    vae, (x, noise) = MultiBetaVAE.of((6,), latent_dim=2).double(), data()
    trained(vae)
    x = x.sigmoid()

    def loss():
        return loss_of(vae, x, noise, LOW) + loss_of(vae, x, noise, HIGH)

    wanted = gradients(vae, loss())
    wrapper(vae, check_fn=lambda module: isinstance(module, nn.Linear | nn.SiLU))
    found = gradients(vae, loss())
    same({name.replace("_checkpoint_wrapped_module.", ""): g for name, g in found.items()}, wanted)


def test_checkpoints_of_a_betas_for_each_example():
    betas, found = torch.logspace(-1, 0.5, 12).double(), []
    for way in ("plain", "not reentrant", "reentrant"):
        vae, (x, _) = make(way), data()
        noise = torch.randn(12, 2, generator=torch.Generator().manual_seed(0)).double()
        found.append(gradients(vae, loss_of(vae, x, noise, betas)))
    same(found[1], found[0])
    same(found[2], found[0])


def test_a_failed_backward_leaves_nothing_behind(separate):
    vae, (x, noise) = make("not reentrant"), data()
    loss = loss_of(vae, x, noise, HIGH)
    handle = vae.encoder.block.two.weight.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss.backward()
    handle.remove()
    with pytest.raises(RuntimeError, match="was called without one"):
        vae.encoder(x)
    same(gradients(vae, loss_of(vae, x, noise, LOW)), separate["plain"][0])


def test_no_graph_is_kept_alive():
    vae, (x, noise) = make("not reentrant"), data()
    alive = []
    for _ in range(3):
        loss_of(vae, x, noise, LOW).backward()
        alive.append(sum(type(o) is Call for o in gc.get_objects()))
    assert alive[0] == alive[-1]


# Second derivatives, transforms, threads --------------------------------------------------------


@pytest.mark.parametrize("way", ["plain", "not reentrant"])
def test_second_derivatives(way):
    """A gradient penalty: against the folded network's, and plain operations'."""
    vae, (x, z) = make(way), data()
    z.requires_grad_()

    def penalty(network):
        (g,) = torch.autograd.grad(network(z).sin().sum(), z, create_graph=True)
        return g.square().sum()

    (mine,) = torch.autograd.grad(penalty(lambda z: vae.decode(z, LOW).mean), z)
    plain = vae.at_beta(LOW)
    (wanted,) = torch.autograd.grad(penalty(lambda z: plain.decode(z).mean), z)
    torch.testing.assert_close(mine, wanted)

    found = gradients(vae, penalty(lambda z: vae.decode(z, LOW).mean))
    for _, of in vae_conditions(vae):
        of.in_place = False
    if way == "plain":
        same(found, gradients(vae, penalty(lambda z: vae.decode(z, LOW).mean)))


def vae_conditions(vae):
    from multibeta.conditioning import conditions_of

    return [*conditions_of(vae.encoder), *conditions_of(vae.decoder)]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by jacfwd itself
def test_torch_func():
    vae, (x, z) = make(), data()
    plain, betas = vae.at_beta(LOW), torch.tensor([0.02, 0.1, 1.0, 5.0]).double()

    def decode(z, beta):
        return vae.decode(z[None], beta).mean[0]

    wanted = torch.func.vmap(torch.func.jacrev(lambda z: plain.decode(z[None]).mean[0]))(z)
    torch.testing.assert_close(
        torch.func.vmap(torch.func.jacrev(lambda z: decode(z, LOW)))(z), wanted
    )
    torch.testing.assert_close(
        torch.func.vmap(torch.func.jacfwd(lambda z: decode(z, LOW)))(z), wanted
    )
    by_beta = torch.func.vmap(torch.func.jacrev(decode))(z, betas)
    torch.testing.assert_close(by_beta[0], wanted[0])
    alone = torch.func.jacrev(lambda z: decode(z, 5.0))(z[3])
    torch.testing.assert_close(by_beta[3], alone)
    jacobian = torch.autograd.functional.jacobian(lambda z: decode(z, LOW), z[0], vectorize=True)
    torch.testing.assert_close(jacobian, wanted[0])


def test_functional_call_and_gradients_of_each_example():
    vae, (x, noise) = make(), data()
    parameters = {name: p.detach() for name, p in vae.named_parameters()}

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = vae

        def forward(self, x, noise, beta):
            return loss_of(self.vae, x, noise, beta)

    def loss(parameters, x, noise, beta):
        named = {f"vae.{name}": p for name, p in parameters.items()}
        return torch.func.functional_call(Loss(), named, (x[None], noise[None], beta))

    betas = torch.tensor([0.02, 0.1, 1.0, 5.0]).double()
    found = torch.func.vmap(torch.func.grad(loss), (None, 0, 0, 0))(parameters, x, noise, betas)
    for i, beta in enumerate(betas.tolist()):
        wanted = gradients(vae, loss_of(vae, x[i : i + 1], noise[i : i + 1], beta))
        same({name: g[i] for name, g in found.items()}, wanted)


@pytest.mark.parametrize("way", ["plain", "not reentrant", "reentrant"])
def test_threads(way):
    vae, (x, noise) = make(way), data()
    betas = torch.logspace(-1, 0.5, 8).tolist()
    parameters = list(vae.parameters())

    def work(beta, together):
        together.wait()  # all threads are inside at once
        loss = loss_of(vae, x, noise, beta)
        if way == "reentrant":
            return [loss.detach()]
        return [loss.detach(), *torch.autograd.grad(loss, parameters)]

    wanted = [work(beta, threading.Barrier(1)) for beta in betas]
    together = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = list(pool.map(lambda beta: work(beta, together), betas))
            for mine, other in zip(found, wanted, strict=True):
                torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("way", WAYS)
def test_backward_in_another_thread(way, separate):
    vae, (x, noise) = make(way), data()
    loss = loss_of(vae, x, noise, LOW) + loss_of(vae, x, noise, HIGH)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(gradients, vae, loss).result()
    same(found, of_way(separate, way)[1])


# Copies and exceptions --------------------------------------------------------------------------


def by_pickle(vae):
    return pickle.loads(pickle.dumps(vae))


def by_saving(vae):
    file = io.BytesIO()
    torch.save(vae, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_averaging(vae):
    return torch.optim.swa_utils.AveragedModel(vae).module


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle, by_saving, by_averaging])
def test_copies_follow_their_own_source(copied, separate):
    vae, (x, noise) = make("not reentrant"), data()
    other = copied(vae)
    same(gradients(other, loss_of(other, x, noise, LOW)), separate["plain"][0])
    sources = {id(of.source) for _, of in vae_conditions(vae)}
    assert sources == {id(vae._source)}
    assert {id(of.source) for _, of in vae_conditions(other)} == {id(other._source)} != sources
    with torch.no_grad():
        for _, of in vae_conditions(other):
            for parameter in of.parameters():
                parameter.zero_()
    same(gradients(vae, loss_of(vae, x, noise, LOW)), separate["plain"][0])
    assert torch.equal(other.encode(x, LOW).mean, other.encode(x, HIGH).mean)
    assert not torch.equal(vae.encode(x, LOW).mean, vae.encode(x, HIGH).mean)
    folded = other.at_beta(LOW)
    torch.testing.assert_close(folded.encode(x).mean, other.encode(x, LOW).mean)


def test_an_exception_in_the_middle_of_a_forward():
    vae, (x, z) = make(), data()
    wanted = vae.decode(z, LOW).mean
    handle = vae.decoder.blocks[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vae.decode(z, HIGH)
    handle.remove()
    with pytest.raises(RuntimeError, match="a layer that follows β was called without one") as info:
        vae.decoder(z)
    assert "\n" not in str(info.value)
    assert torch.equal(vae.decode(z, LOW).mean, wanted)


# Precision --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    torch.manual_seed(1)
    encoder, decoder = Encoder(), Decoder()
    x, z = torch.randn(4, 6), torch.randn(4, 2)
    with torch.autocast("cpu", dtype):
        wanted = encoder(x), decoder(z)
        vae = MultiBetaVAE(encoder, decoder, example=x)
        c = vae._call(vae._standardised(vae.conditions(LOW)))
        found = vae._run("encoder", c, x, {}), vae._run("decoder", c, z, {})
    for mine, other in zip(found, wanted, strict=True):
        assert mine.dtype == other.dtype == dtype
        assert torch.equal(mine, other)
    trained(vae)
    with torch.autocast("cpu", dtype):
        loss = vae.loss(x)
    assert loss.dtype == torch.float
    assert all(g.isfinite().all() for g in gradients(vae, loss).values())


@pytest.mark.parametrize("way", ["not reentrant", "reentrant"])
def test_autocast_with_checkpoints(way):
    (x, noise), found = data(dtype=torch.float32), []
    for of in ("plain", way):
        vae = make(of, dtype=torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(vae, x, noise, LOW) + loss_of(vae, x, noise, HIGH)
        found.append(gradients(vae, loss))
    same(*found, rtol=0.05, atol=0.05)


def test_networks_in_double():
    (x, noise), vae = data(), MultiBetaVAE(Encoder().double(), Decoder().double())
    assert vae.loss(x).dtype == torch.double
    trained(vae)
    assert {p.dtype for p in vae.parameters()} == {torch.double}
    mine, plain = vae.elbo_terms(x, LOW, noise), vae.at_beta(LOW).elbo_terms(x, noise)
    torch.testing.assert_close(mine.distortion, plain.distortion, rtol=1e-12, atol=0)
    torch.testing.assert_close(mine.rate_nats, plain.rate_nats, rtol=1e-12, atol=0)
    gradients(vae, vae.loss(x))


def test_an_encoder_in_half_precision():
    """A pretrained network may be in bfloat16; c is more precise, and is cast where it enters."""
    encoder = nn.Sequential(Cast(torch.bfloat16), Encoder().bfloat16(), Cast(torch.float))
    x, vae = torch.randn(4, 6), MultiBetaVAE(encoder, Decoder())
    gradients(vae, vae.loss(x))
    assert vae.encoder[1].head.condition.affine.dtype == torch.bfloat16
    assert {p.dtype for p in vae.embedding.parameters()} == {torch.float}


# Compilers --------------------------------------------------------------------------------------


@pytest.fixture
def dynamo():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters
    torch._dynamo.reset()


def check_compiled(counters, call):
    """Call at many β's, one and one an example: two compilations at most, and no break."""
    betas = [torch.tensor(b, dtype=torch.float64) for b in (0.02, 0.1, 1.0, 5.0)]
    betas += [torch.logspace(-1, 0.5, 4).double() * k for k in (1, 1.1, 1.2)]
    first = [call(beta) for beta in betas[:1] + betas[4:5]]
    compiled = counters["stats"]["unique_graphs"]
    found = [call(beta) for beta in betas]
    assert first and compiled
    assert counters["stats"]["unique_graphs"] == compiled
    assert not counters["graph_break"]
    return betas, found


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_compiled_networks(dynamo, part, backend):
    """vae.encoder.compile(): the networks alone."""
    vae, (x, z) = make(), data()
    plain = copy.deepcopy(vae)
    vae.network(part)[0].compile(backend=backend, fullgraph=True)

    def call(of, beta):
        return of.encode(x, beta).mean if part == "encoder" else of.decode(z, beta).mean

    betas, found = check_compiled(dynamo, partial(call, vae))
    for beta, mine in zip(betas, found, strict=True):
        torch.testing.assert_close(mine, call(plain, beta))
    same(gradients(vae, call(vae, betas[1]).sin().sum()),
         gradients(plain, call(plain, betas[1]).sin().sum()))  # fmt: skip


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_call_of_the_model(dynamo, backend):
    """torch.compile around the model's own call, embedding and all."""
    vae, (x, noise) = make(), data()

    def both(beta):
        q = vae.encode(x, beta)
        return vae.decode(q.mean + noise * q.stddev, beta).mean

    betas, found = check_compiled(dynamo, torch.compile(both, backend=backend, fullgraph=True))
    for beta, mine in zip(betas, found, strict=True):
        torch.testing.assert_close(mine, both(beta))


def test_a_compiled_training_step(dynamo):
    vae, (x, noise) = make(), data()
    step = torch.compile(partial(loss_of, vae), backend="aot_eager", fullgraph=True)
    for beta in torch.tensor([0.02, 0.3, 5.0]).double():
        wanted = gradients(vae, loss_of(vae, x, noise, beta))
        same(gradients(vae, step(x, noise, beta)), wanted)
    assert dynamo["stats"]["unique_graphs"] == 1


class Exported(nn.Module):
    """x and log β → mean, standard deviation and reconstruction."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, x, log_beta):
        q = self.vae.encode(x, log_beta.exp())
        return q.mean, q.stddev, self.vae.decode(q.mean, log_beta.exp()).mean


class ExportedPlain(Exported):
    def forward(self, x):
        q = self.vae.encode(x)
        return q.mean, q.stddev, self.vae.decode(q.mean).mean


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    vae, batch = make().eval(), torch.export.Dim("batch", min=2, max=64)
    x, log_beta = data(3)[0], torch.tensor([0.02, 0.3, 5.0]).double().log()
    one = torch.export.export(
        Exported(vae), (x, log_beta[:1]), dynamic_shapes=({0: batch}, None), strict=strict
    ).module()
    each = torch.export.export(
        Exported(vae), (x, log_beta), dynamic_shapes=({0: batch}, {0: batch}), strict=strict
    ).module()
    x = torch.randn(7, 6).double()
    log_betas = torch.logspace(-1, 0.5, 7).double().log()
    torch.testing.assert_close(each(x, log_betas), Exported(vae)(x, log_betas))
    for log_beta in log_betas[:3]:
        wanted = Exported(vae)(x, log_beta[None])
        torch.testing.assert_close(one(x, log_beta[None]), wanted)
        plain = ExportedPlain(vae.at_beta(log_beta.exp().item()))
        torch.testing.assert_close(plain(x), wanted)
        if log_beta is log_betas[0]:
            folded = torch.export.export(plain, (x,), dynamic_shapes=({0: batch},), strict=strict)
        torch.testing.assert_close(plain(x), wanted)
    wanted = Exported(vae)(x, log_betas[:1])
    torch.testing.assert_close(folded.module()(x), wanted)
