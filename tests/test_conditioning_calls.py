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
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from multibeta.conditioning import Call
from multibeta.multibeta_vae import MultiBetaVAE

pytestmark = pytest.mark.filterwarnings(
    "ignore:None of the inputs have requires_grad",  # of reentrant checkpoints under no_grad
    "ignore:The .grad attribute of a Tensor that is not a leaf",  # dynamo's own, of any input
    "ignore:A saved_tensors_hooks context .* is active around a selective",  # ours do nothing
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
        if self.way == "selective":
            kept = [torch.ops.aten.addmm.default, torch.ops.aten.mm.default]
            given = {"context_fn": partial(create_selective_checkpoint_contexts, kept)}
            return checkpoint(self.inner, x, use_reentrant=False, **given)
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
        torch.testing.assert_close(
            a[name], b[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance
        )


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
@pytest.mark.parametrize(
    "norm", [nn.Identity, lambda: nn.LayerNorm(8), lambda: nn.GroupNorm(2, 8)]
)
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

    outside, (_, z) = make(decoder=Around()), data()
    folded = outside.at_beta(LOW)
    torch.testing.assert_close(outside.decode(z, LOW).mean, folded.decode(z).mean)
    last, first = folded.decoder.last, folded.decoder.first
    wanted = last(inside.at_beta(HIGH).decode(first(z)).mean)
    torch.testing.assert_close(outside.decode(z, LOW).mean, wanted)


def test_a_model_that_calls_itself_at_another_beta():
    vae, (_, z) = make(), data()
    inside, plain = [], vae.decode(z, LOW).mean
    hook = lambda *_: inside or inside.append(1) or inside.append(vae.decode(z, HIGH).mean)  # noqa: E731
    handle = vae.decoder.blocks[0].register_forward_hook(lambda *a: hook(*a) and None)
    assert torch.equal(vae.decode(z, LOW).mean, plain)
    handle.remove()
    assert torch.equal(inside[1], vae.decode(z, HIGH).mean)


WAYS = [
    "plain", "reentrant", "not reentrant", "closure", "selective", "nested reentrant", "nested",
    "mixed",
]  # fmt: skip


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


@pytest.mark.parametrize("way", WAYS[1:5])
def test_a_loss_of_features_enters_a_call_in_its_middle(way):
    (_, z), found = data(), []
    for of in ("plain", way):
        vae, features = make(of), []
        vae.decoder.blocks[1].register_forward_hook(lambda m, args, y, to=features: to.append(y))
        vae.decode(z, LOW)
        loss = features[0].square().sum() + vae.decode(z, HIGH).mean.sum()
        found.append(gradients(vae, loss))
    same(*found)


@pytest.mark.parametrize("way", WAYS)
def test_a_backward_in_the_middle_of_a_call(way, separate):
    vae, (x, noise), found = make(way), data(), []
    wanted = vae.encode(x, HIGH).mean
    loss = loss_of(vae, x, noise, LOW)
    handle = vae.encoder.block.register_forward_hook(
        lambda *_: found or found.append(1) or found.append(gradients(vae, loss))
    )
    assert torch.equal(vae.encode(x, HIGH).mean, wanted)
    handle.remove()
    same(found[1], of_way(separate, way)[0])


@pytest.mark.parametrize("way", WAYS)
def test_gradients_of_a_model_that_calls_itself_at_another_beta(way):
    """Layers run again after the inner call, and before it, are at the outer β."""
    (_, z), found = data(), []
    reference = "as nested" if way.startswith("nested") or way == "mixed" else "plain"
    for of in (reference, way):
        vae, inside = make(of), []

        def hook(module, args, y, vae=vae, inside=inside):
            if inside:
                return None
            inside.append(1)
            return y + vae.decoder.stem.out_features * vae.decode(z, HIGH).mean.mean()

        vae.decoder.blocks[1].register_forward_hook(hook)
        found.append(gradients(vae, vae.decode(z, LOW).mean.square().sum()))
    same(*found)


def test_hooks_of_the_user_see_what_a_call_saves():
    vae, (_, z), seen = make("not reentrant"), data(), []
    with saved_tensors_hooks(lambda t: seen.append(t.data_ptr()) or t, lambda t: t):
        vae.decode(z, LOW)
    assert z.data_ptr() in seen


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


# Networks that write over what a layer returned -------------------------------------------------


class Overwrites(nn.Module):
    def __init__(self, inplace):
        super().__init__()
        self.one, self.two, self.inplace = nn.Linear(2, 8), nn.Linear(8, 8), inplace
        self.last, self.relu = nn.Linear(8, 6), nn.ReLU(inplace)

    def forward(self, z):
        h = self.relu(self.one(z))
        out = self.two(h)
        if self.inplace:
            out += h
        else:
            out = out + h
        return self.last(out)


def in_place(vae):
    return [site.options["in_place"] for site in vae.sites["decoder"] if site.does != "plain"]


def test_a_network_that_writes_over_its_layers_outputs():
    (x, noise), found = data(), []
    for inplace in (False, True):
        torch.manual_seed(0)
        vae = make(decoder=Overwrites(inplace))
        found.append(gradients(vae, loss_of(vae, x, noise, LOW)))
        assert in_place(vae) == [not inplace, not inplace, True]
    same(*found)


def test_a_tensor_that_was_needed_is_written_over():
    """Torch's own error: hooks for saved tensors would switch it off."""

    class Wrong(Decoder):
        def forward(self, z):
            h = torch.tanh(self.stem(z))
            y = self.output(h)
            h.mul_(self.training + 1)  # in training alone
            return y

    vae, (_, z) = make(decoder=Wrong()).train(), data()
    with pytest.raises(RuntimeError, match="has been modified by an inplace operation"):
        vae.decode(z, LOW).mean.sum().backward()


def test_a_network_that_drops_in_place():
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5, inplace=True), nn.Linear(8, 6))
    vae, (x, noise) = make(decoder=decoder).train(), data()
    gradients(vae, loss_of(vae, x, noise, LOW))
    assert in_place(vae) == [False, False]


def test_a_hook_that_keeps_a_layers_output():
    kept, decoder = [], Decoder()
    decoder.stem.register_forward_hook(lambda module, args, y: kept.append(y.square().sum()))
    vae, (_, z) = make(decoder=decoder), data()
    kept.clear()
    (vae.decode(z, LOW).mean.sum() + sum(kept)).backward()


def test_our_own_networks_keep_no_more_maps_than_plain_ones():
    assert all(in_place(MultiBetaVAE.of((1, 8, 8), latent_dim=2)))


# Second derivatives, transforms, threads --------------------------------------------------------


@pytest.mark.parametrize("way", ["plain", "not reentrant"])
def test_second_derivatives(way):
    """A gradient penalty: against the folded network's, and plain operations'."""
    vae, (_, z) = make(way), data()
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
    vae, (_, z) = make(), data()
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
    vae, (_, z) = make(), data()
    wanted = vae.decode(z, LOW).mean
    handle = vae.decoder.blocks[1].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vae.decode(z, HIGH)
    handle.remove()
    with pytest.raises(
        RuntimeError, match="a layer that follows β was called without one"
    ) as info:
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
    for name, wanted in found[0].items():
        assert (found[1][name] - wanted).norm() <= 0.02 * wanted.norm(), name


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


@pytest.mark.parametrize(("part", "backend"), [("encoder", "eager"), ("decoder", "aot_eager")])
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


def test_a_compiled_call_of_the_model(dynamo):
    """torch.compile around the model's own call, embedding and all."""
    vae, (x, noise) = make(), data()

    def both(beta):
        q = vae.encode(x, beta)
        return vae.decode(q.mean + noise * q.stddev, beta).mean

    betas, found = check_compiled(dynamo, torch.compile(both, backend="eager", fullgraph=True))
    for beta, mine in zip(betas, found, strict=True):
        torch.testing.assert_close(mine, both(beta))


@pytest.mark.slow
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


def exported(module, x, log_beta=None, each=False, strict=False):
    batch = torch.export.Dim("batch", min=2, max=64)
    given = (x,) if log_beta is None else (x, log_beta)
    shapes = ({0: batch}, {0: batch} if each else None)[: len(given)]
    return torch.export.export(module, given, dynamic_shapes=shapes, strict=strict).module()


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")  # strict
@pytest.mark.parametrize("strict", [False, True])
def test_export_with_log_beta_as_an_input(strict):
    vae, log_betas = make().eval(), torch.logspace(-1, 0.5, 7).double().log()
    module, x = Exported(vae), torch.randn(7, 6).double()
    one = exported(module, x[:3], log_betas[:1], strict=strict)
    for log_beta in log_betas[:3]:
        torch.testing.assert_close(one(x, log_beta[None]), module(x, log_beta[None]))
    if not strict:
        each = exported(module, x[:3], log_betas[:3], each=True)
        torch.testing.assert_close(each(x, log_betas), module(x, log_betas))


def test_export_at_one_beta():
    vae, x = make().eval(), torch.randn(7, 6).double()
    folded = exported(ExportedPlain(vae.at_beta(0.3)), x[:3])
    wanted = Exported(vae)(x, torch.tensor([0.3]).double().log())
    torch.testing.assert_close(folded(x), wanted)


# Loops of other libraries -----------------------------------------------------------------------


def loop_of_ours(steps=3):
    """Train a little without any library; return the losses."""
    vae, x = make(dtype=torch.float32), data(8, torch.float32)[0]
    optimizer, losses = torch.optim.SGD(vae.parameters(), 0.01), []
    torch.manual_seed(5)
    for step in range(steps):
        loss = vae.loss(x, step / steps)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_a_loop_with_accelerate():
    accelerate = pytest.importorskip("accelerate")
    vae, x = make(dtype=torch.float32), data(8, torch.float32)[0]
    accelerator, losses = accelerate.Accelerator(cpu=True), []
    vae, optimizer = accelerator.prepare(vae, torch.optim.SGD(vae.parameters(), 0.01))
    torch.manual_seed(5)
    for step in range(3):
        with accelerator.accumulate(vae):
            loss = vae(x, step / 3)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert losses == loop_of_ours()
    assert accelerator.unwrap_model(vae).at_beta(LOW).encode(x).mean.shape == (8, 2)


def test_a_loop_with_fabric():
    fabric = pytest.importorskip("lightning").Fabric(accelerator="cpu", devices=1)
    vae, x, losses = make(dtype=torch.float32), data(8, torch.float32)[0], []
    vae, optimizer = fabric.setup(vae, torch.optim.SGD(vae.parameters(), 0.01))
    torch.manual_seed(5)
    for step in range(3):
        loss = vae(x, step / 3)
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses == loop_of_ours()
    assert vae.at_beta(LOW).encode(x).mean.shape == (8, 2)


# Several processes ------------------------------------------------------------------------------


def loss_of_rank(vae, rank, of=None):
    torch.manual_seed(10 + rank)
    return (of or vae)(torch.randn(6, 6).double())


def in_processes(work, folder, *args):
    """Run work(rank, *args) in two gloo processes; return what each returned."""
    import torch.multiprocessing as mp

    mp.start_processes(_enter, (work, str(folder), args), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def _enter(rank, work, folder, args):
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        torch.save(work(rank, *args), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks():
    """What two processes should find, in one: the mean of their gradients."""
    vae = make()
    each = [gradients(vae, loss_of_rank(vae, rank)) for rank in range(2)]
    return {name: (each[0][name] + each[1][name]) / 2 for name in each[0]}


def with_ddp(rank, way):
    vae = make(way)
    wrapped = nn.parallel.DistributedDataParallel(vae)
    return gradients(vae, loss_of_rank(vae, rank, wrapped))


@pytest.mark.parametrize("way", ["plain", "not reentrant"])
def test_ddp(tmp_path, way, two_ranks):
    for found in in_processes(with_ddp, tmp_path, way):
        same(found, two_ranks)


def with_fsdp(rank, way, parts):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    vae, mesh = make(way), init_device_mesh("cpu", (2,))
    sharded = {
        "the whole": [],
        "the networks": [vae.encoder, vae.decoder],
        "each layer": [m for m in vae.modules() if isinstance(m, nn.Linear)],
    }[parts]
    for module in [*sharded, vae]:
        fully_shard(module, mesh=mesh)
    vae.zero_grad()
    loss_of_rank(vae, rank).backward()
    found = {name: p.grad.full_tensor() for name, p in vae.named_parameters()}
    with torch.no_grad():
        torch.manual_seed(0)
        again = vae(torch.randn(6, 6).double())
    return {"found": found, "again": again}


@pytest.mark.parametrize(
    ("parts", "way"),
    [("the whole", "plain"), ("the networks", "not reentrant"), ("each layer", "plain")],
)
def test_fsdp2(tmp_path, parts, way, two_ranks):
    vae = make()
    with torch.no_grad():
        torch.manual_seed(0)
        again = vae(torch.randn(6, 6).double())
    for found in in_processes(with_fsdp, tmp_path, way, parts):
        same(found["found"], two_ranks)
        torch.testing.assert_close(found["again"], again)


def with_fsdp_in_half_precision(rank, whole):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    vae, mesh = make(dtype=torch.float32), init_device_mesh("cpu", (2,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for module in [vae.encoder, vae.decoder]:
        fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(vae, mesh=mesh, **({"mp_policy": policy} if whole else {}))
    torch.manual_seed(10 + rank)
    vae(torch.randn(6, 6)).backward()
    return {name: p.grad.full_tensor() for name, p in vae.named_parameters()}


@pytest.mark.parametrize("whole", [True, False])
def test_fsdp2_in_half_precision(tmp_path, whole, two_ranks):
    for found in in_processes(with_fsdp_in_half_precision, tmp_path, whole):
        for name in two_ranks:
            assert found[name].dtype == torch.float and found[name].isfinite().all(), name
