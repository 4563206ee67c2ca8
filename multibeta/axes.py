r"""The principal axes of a trained VAE's code, in which latents can be shut one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from multibeta.adapters import Form, check_form, code_of, q_of
from multibeta.conditioning import Site
from multibeta.data.examples import read

if TYPE_CHECKING:
    from multibeta.multibeta_vae import MultiBetaVAE

__all__ = ["Axes", "turn"]

_CURVED = 512
"""Examples that M is a mean over; moments are those of all."""

_ROUNDS = 30
"""Rounds to the fixed point of C; latents with next to no means take longer, and matter less."""


@dataclass(frozen=True)
class Axes:
    r"""The examples by which the code of a trained VAE is turned to its principal axes.

    .. math::
        z' = Q^\top C^{-1/2} (z - m), \qquad Q Λ Q^\top = C^{1/2} M C^{1/2}, \qquad
        M = E[J^\top H J]

    with m and C the mean and covariance of the aggregated posterior, J the decoder's Jacobian and
    H the Hessian of D with respect to what the decoder returns. The layer that makes the code and
    those that read it take the change: the decoder of z' is that of z. A training at low β leaves
    the code in no particular basis, as rate is cheap. There the diagonal posterior of a high β
    has to be precise along every latent; here only along those that matter.

    A diagonal posterior is no longer diagonal when it is turned. The variances are set anew, the
    same for all examples: :math:`v_j = β/(β + Λ_j)`, the optimum for a decoder that is linear
    around m. With ``posterior="curvature"`` they have this form at every β. C is that of the code
    with these variances: the fixed point of :math:`C = S + (C^{-1} + M/β)^{-1}`, S the covariance
    of the means. For a linear VAE this is the optimum for its reconstructions of means.

    Args:
        examples: x (N, *shape), or batches of it; some thousands.
        beta: The β that the VAE was trained at.
        posterior: What the trained encoder returns beside the means, if it is not what the wrapped
            one is to return: any form can come out, as it is set anew.

    Raises:
        ValueError: If an argument is out of its domain.

    References:
        Kumar & Poole 2020, "On implicit regularization in β-VAEs", arXiv 2002.00041 (the optimal
        posterior and the decoder's Jacobian); Lucas et al. 2019, arXiv 1911.02469 (linear VAEs).

    Example:
        >>> from multibeta import wrap
        >>> x = torch.randn(64, 6)
        >>> vae = wrap(nn.Linear(6, 4), nn.Linear(2, 6), axes=Axes(x, beta=0.1))
        >>> vae.encode(x, 0.1).stddev.std(0)
        tensor([0., 0.], grad_fn=<StdBackward0>)
    """

    examples: Tensor | Iterable[Any]
    beta: float = 1.0
    posterior: Form | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"axes: beta={self.beta:g} is not a finite number above 0")
        if self.posterior is not None:
            check_form(self.posterior)

    def batches(self) -> list[Tensor]:
        """Return the examples in batches.

        Raises:
            ValueError: If there are fewer than two.
        """
        given = self.examples
        parts = list(given.split(1000) if isinstance(given, Tensor) else given)
        found = [read(part).x for part in parts]
        if sum(map(len, found)) < 2:
            raise ValueError(
                "axes need examples to find the code's moments by; give some thousands"
            )
        return found


@dataclass(frozen=True)
class _Layers:
    """The layers that make the means and what stands beside them, and those that read z."""

    means: nn.Linear
    seconds: nn.Linear
    stems: list[nn.Linear]


@torch.no_grad()
def turn(vae: MultiBetaVAE, axes: Axes) -> Tensor:
    """Turn the code to its principal axes, in place; nothing is conditioned yet.

    Args:
        vae: The VAE, with its sites found.
        axes: What was asked for.

    Returns:
        Λ: the eigenvalues of M, the largest first: (Z,).

    Raises:
        ValueError: If the code is no vector, it is not Linear layers that make and read it, or D
            has no curvature.
    """
    if callable(vae.posterior):
        raise _refusal("posterior= is a function, whose variance has no layer that could be set")
    modes = [(m, m.training) for m in vae.modules()]
    vae.eval()
    try:
        return _turn(vae, axes)
    finally:
        for module, mode in modes:
            module.training = mode


def _turn(vae: MultiBetaVAE, axes: Axes) -> Tensor:
    _, encode = vae.network("encoder")
    weight = next(vae.parameters_of_networks())
    batches = [batch.to(weight) for batch in axes.batches()]
    form, unit = axes.posterior or vae.posterior, vae.beta_range.unit
    beta = weight.new_tensor([axes.beta / unit])
    posteriors = [q_of(encode(vae.standard(batch)), form, beta) for batch in batches]
    mean, variance = (
        torch.cat([getattr(q, name) for q in posteriors]).double() for name in ("mean", "variance")
    )
    if mean.ndim != 2:
        raise _refusal(f"the code has the shape {tuple(mean.shape[1:])} and is no vector")
    rows = torch.linspace(0, len(mean) - 1, min(len(mean), _CURVED)).long()
    z, x = mean[rows].to(weight), torch.cat(batches)[rows]
    layers = _layers(vae, x, z)

    centre = mean.mean(0)
    curvature = _curvature(vae, z, x, axes.beta)
    if not (curvature.isfinite().all() and curvature.trace() > 0):
        raise _refusal("D has no curvature, as a sum of absolute values has none")
    of_means, noise = mean.T.cov(correction=0).reshape(curvature.shape), variance.mean(0).diag()
    for _ in range(_ROUNDS):
        noise = torch.linalg.inv(torch.linalg.inv(of_means + noise) + curvature / axes.beta)
    values, vectors = torch.linalg.eigh(of_means + noise)
    std = values.clamp_min(1e-12 * values.max()).sqrt()
    root, inverse = ((vectors * s) @ vectors.T for s in (std, 1 / std))
    values, vectors = torch.linalg.eigh(root @ curvature @ root)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    there, back = vectors.T @ inverse, root @ vectors
    before, kept = _decoded(vae, z), _kept(layers)
    _set(layers.means, slice(0, len(centre)), there, centre)
    for stem in layers.stems:
        stem.bias.add_((stem.weight.double() @ centre).to(stem.bias))
        stem.weight.copy_(stem.weight.double() @ back)
    _set_second(layers, vae.posterior, values, axes.beta, unit)
    q = q_of(encode(vae.standard(x)), vae.posterior, beta)
    wanted = (axes.beta / (axes.beta + values)).expand_as(q.variance)
    if not (_near(_decoded(vae, q.mean), before) and _near(q.variance, wanted)):
        for parameter, old in kept:
            parameter.copy_(old)
        raise _refusal("the code is also made or read elsewhere than in its Linear layers")
    return values.to(weight)


def _curvature(vae: MultiBetaVAE, z: Tensor, x: Tensor, beta: float) -> Tensor:
    """Return E[JᵀHJ] with respect to z, in float64: (Z, Z)."""
    _, decode = vae.network("decoder")
    likelihood = vae.likelihood.at(vae.conditions(beta))

    columns, curved = [], []
    with torch.enable_grad():
        code = z.detach().requires_grad_()
        out = _tensor(decode(code))
        # Jᵀu is linear in u, so that its derivatives are J's columns.
        u = torch.zeros_like(out, requires_grad=True)
        (back,) = torch.autograd.grad(out, code, u, create_graph=True)
        point = out.detach().requires_grad_()
        distortion = -vae.likelihood_of(point, likelihood, {}).log_prob(x).sum()
        (slope,) = torch.autograd.grad(distortion, point, create_graph=True)
        for j in range(z.shape[1]):
            (column,) = torch.autograd.grad(back[:, j].sum(), u, retain_graph=True)
            columns.append(column.flatten().double())
            if not slope.requires_grad:  # D is linear, piece by piece
                curved.append(torch.zeros_like(columns[-1]))
                continue
            (hessian,) = torch.autograd.grad(slope, point, column, retain_graph=True)
            curved.append(hessian.flatten().double())
    m = torch.stack(columns) @ torch.stack(curved).T / len(z)
    return (m + m.T) / 2


def _set(layer: nn.Linear, rows: slice, turned: Tensor, centre: Tensor) -> None:
    """Let rows of a layer give A(y − m) where they gave y."""
    layer.weight[rows] = (turned @ layer.weight[rows].double()).to(layer.weight)
    layer.bias[rows] = (turned @ (layer.bias[rows].double() - centre)).to(layer.bias)


def _set_second(layers: _Layers, form: Any, values: Tensor, beta: float, unit: float) -> None:
    """Let what stands beside the means say the variances of the eigenvalues."""
    log_variance = -(1 + values / beta).log()
    second = {
        "log_variance": log_variance,
        "log_std": log_variance / 2,
        "std": (log_variance / 2).exp(),
        "curvature": (values.clamp_min(1e-3 * beta) / unit).log(),
    }[form]
    layers.seconds.weight[-len(values) :] = 0
    layers.seconds.bias[-len(values) :] = second.to(layers.seconds.bias)


def _layers(vae: MultiBetaVAE, x: Tensor, z: Tensor) -> _Layers:
    """Find the layers that the change of basis goes to."""
    _, encode = vae.network("encoder")
    _, decode = vae.network("decoder")
    code: list[Tensor] = []

    def encoded() -> None:
        code.extend(code_of(encode(vae.standard(x))))

    heads = _seen(vae, "encoder", "head", encoded)
    mean, second = code
    both = torch.cat([mean, second], 1)

    def maker(value: Tensor, name: str) -> nn.Linear:
        for layer, _, y in heads:
            if _same(y, both) or _same(y, value):
                return layer
        raise _refusal(f"no Linear layer's output is the {name} of the code as they are")

    means, seconds = maker(mean, "means"), maker(second, "variances")
    stems = _seen(vae, "decoder", "stem", lambda: decode(z))
    if not stems or not all(_same(given, z) for _, given, _ in stems):
        raise _refusal("no Linear layer of the decoder takes the code as it is")
    found = _Layers(means, seconds, [layer for layer, _, _ in stems])
    for linear in {found.means, found.seconds, *found.stems}:
        if linear.bias is None or is_parametrized(linear) or "weight" not in linear._parameters:
            raise _refusal("a layer that makes or reads the code has no bias, or no free weight")
    return found


def _seen(
    vae: MultiBetaVAE, part: str, place: str, run: Callable[[], Any]
) -> list[tuple[nn.Linear, Tensor, Tensor]]:
    """Return the Linear layers of a place with what they take and return in a run."""
    layers = dict(vae.network(part)[0].named_modules())
    sites: list[Site] = [site for site in vae.sites[part] if site.place == place]
    found: list[tuple[nn.Linear, Tensor, Tensor]] = []
    handles = [
        layer.register_forward_hook(lambda m, args, y: found.append((m, args[0], y)))
        for site in sites
        if type(layer := layers[site.name]) is nn.Linear
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found if len(handles) == len(sites) or place == "head" else []


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b.to(a))


def _near(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() <= 2e-3 * b.norm())


def _kept(layers: _Layers) -> list[tuple[Tensor, Tensor]]:
    """Return the parameters that change, with their values."""
    all_ = {layers.means, layers.seconds, *layers.stems}
    return [(p, p.clone()) for layer in all_ for p in layer.parameters()]


def _decoded(vae: MultiBetaVAE, z: Tensor) -> Tensor:
    _, decode = vae.network("decoder")
    return _tensor(decode(z))


def _tensor(out: Any) -> Tensor:
    out = getattr(out, "sample", out) if not isinstance(out, Tensor) else out
    if not isinstance(out, Tensor):
        raise _refusal(f"the decoder returns a {type(out).__name__} and no tensor")
    return out


def _refusal(why: str) -> ValueError:
    return ValueError(
        f"{why}; axes need a vector code, made and read by Linear layers with biases, and "
        "D with curvature: leave axes out"
    )
