"""What anybody's encoder and decoder return, read as q(z|x) and p(x|z)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from multibeta.densities import normal
from multibeta.likelihoods import Likelihood, at_least_float32

__all__ = [
    "Form",
    "MeanStd",
    "Posterior",
    "accepted",
    "check_form",
    "code_of",
    "p_of",
    "posterior_of",
    "q_of",
    "taken_by",
]

Form = Literal["log_variance", "log_std", "std", "curvature"]
"""What stands beside the mean: log σ², log σ, σ, or the log-curvature of :func:`posterior_of`."""

Posterior = Form | Callable[[Any], Distribution]

# Its exponential and the square of that are float32 above 0; the upper one is diffusers'.
_LOG_VARIANCE = (-30.0, 20.0)


def q_of(out: Any, form: Posterior, beta: Tensor) -> Independent:
    """Return q(z|x) for what an encoder returned.

    Args:
        out: A tensor (B, 2Z, …) of means and what ``form`` says, a pair of tensors (B, Z, …), a
            Normal, or an object that holds one as ``latent_dist`` or has ``mean`` and ``std``.
        form: What stands beside the means, or a function of ``out`` that returns a Normal.
        beta: β in units of the range's: (1,) or (B,); of the form ``curvature`` alone.

    Returns:
        Batch shape (B,), event shape that of z.

    Raises:
        ValueError: If it is something else.
    """
    if callable(form):
        out = form(out)
    out = getattr(out, "latent_dist", out)
    if isinstance(out, Independent):
        out = out.base_dist
    if isinstance(out, Normal) or _has(out, "mean", "std"):
        std = out.stddev if isinstance(out, Normal) else out.std
        return normal(at_least_float32(out.mean), at_least_float32(std))
    if callable(form):
        raise ValueError(
            f"posterior= returned a {type(out).__name__}; return a torch.distributions.Normal"
        )
    mean, second = code_of(out)
    if form == "curvature":
        return posterior_of(mean, second, beta)
    std = {
        "log_variance": lambda: (0.5 * second.clamp(*_LOG_VARIANCE)).exp(),
        "log_std": lambda: second.clamp(*(v / 2 for v in _LOG_VARIANCE)).exp(),
        "std": lambda: second,
    }[form]()
    return normal(mean, std)


def code_of(out: Any) -> tuple[Tensor, Tensor]:
    """Return the means and what stands beside them: (B, Z, …) each.

    Raises:
        ValueError: If they cannot be told.
    """
    out = getattr(out, "latent_dist", out)
    if isinstance(out, Independent):
        out = out.base_dist
    if isinstance(out, Tensor):
        if out.ndim < 2 or out.shape[1] % 2:
            raise ValueError(
                f"the encoder returned {tuple(out.shape)}; (B, 2Z, …) is wanted, means and "
                "log-variances along axis 1, or a pair of tensors, a Normal, or posterior=f"
            )
        mean, second = at_least_float32(out).chunk(2, dim=1)
        return mean, second
    if isinstance(out, tuple | list) and len(out) == 2 and all(isinstance(v, Tensor) for v in out):
        if out[0].shape != out[1].shape:
            raise ValueError(
                f"the encoder returned a pair of shapes {tuple(out[0].shape)} and "
                f"{tuple(out[1].shape)}; mean and variance need the same, or give posterior=f"
            )
        return at_least_float32(out[0]), at_least_float32(out[1])
    if isinstance(out, Normal) or _has(out, "mean", "std"):
        return out.mean, out.stddev if isinstance(out, Normal) else out.std
    kind = f"{len(out)} things" if isinstance(out, tuple | list) else f"a {type(out).__name__}"
    raise ValueError(
        f"the encoder returned {kind}; (B, 2Z, …), a pair (mean, log-variance), or a Normal is "
        "wanted: give posterior=f, where f(what it returned) is a torch.distributions.Normal"
    )


def posterior_of(mean: Tensor, log_curvature: Tensor, beta: Tensor) -> Independent:
    r"""Return q(z|x) whose variance follows β by itself.

    .. math:: q(z|x) = \mathcal N(m, v), \qquad v = \frac{β}{β + e^h}, \quad
        \log v = -\log(1 + e^{h - \log β}).

    It is the form of the optimum for a decoder that is linear around m with orthogonal columns:
    the precision is then 1 from the prior plus the curvature of D over β. So a network whose h
    does not depend on β has the right variance at every β: precise where β is low, the prior's
    where it is high.

    Args:
        mean: m: (B, Z, …).
        log_curvature: h: (B, Z, …).
        beta: β: (B,), or (1,) for one β shared by the batch.

    References:
        Lucas et al. 2019, arXiv 1911.02469, section 4 (the linear case, β = 1).
    """
    return normal(mean, _std(mean, log_curvature, beta))


def _std(mean: Tensor, log_curvature: Tensor, beta: Tensor) -> Tensor:
    log_beta = beta.to(mean).log().reshape(-1, *(1,) * (mean.ndim - 1))
    log_variance = -F.softplus(log_curvature - log_beta)
    return (0.5 * log_variance.clamp(min=_LOG_VARIANCE[0])).exp()


class MeanStd(nn.Module):
    """What ends the encoder of our own networks at one β: (mean, std) of q(z|x).

    Args:
        beta: β, in units of the range's.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, (B, Z) each, for (B, 2Z)."""
        mean, h = at_least_float32(out).chunk(2, dim=1)
        return mean, _std(mean, h, mean.new_tensor([self.beta]))


def p_of(out: Any, likelihood: Likelihood, inputs: Mapping[str, Any]) -> Distribution:
    """Return p(x|z) for what a decoder returned.

    Args:
        out: A tensor, what the likelihood takes; an object with a tensor as ``sample``; or a
            distribution over x, which is taken as it is.
        likelihood: What turns a tensor into p(x|z).
        inputs: Further inputs of the likelihood.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(out, Distribution):
        over = len(out.batch_shape) - 1
        return Independent(out, over, validate_args=False) if over > 0 else out
    return likelihood(output_tensor(out), **taken_by(likelihood, inputs))


def output_tensor(out: Any) -> Tensor:
    """Return the tensor that a decoder returned, itself or in an object.

    Args:
        out: A tensor, or an object with a tensor as ``sample``, or a sequence of one tensor.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(getattr(out, "sample", None), Tensor):
        out = out.sample
    if isinstance(out, tuple | list) and len(out) == 1:
        out = out[0]
    if not isinstance(out, Tensor):
        raise ValueError(
            f"the decoder returned a {type(out).__name__}; a tensor, an object with a tensor as "
            "sample, or a torch.distributions.Distribution is wanted"
        )
    return out


def accepted(call: Callable[..., Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of further inputs that a function takes by name."""
    if not inputs:
        return {}
    parameters = inspect.signature(call).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(inputs)
    known = {p.name for p in list(parameters)[1:]}
    return {name: value for name, value in inputs.items() if name in known}


def taken_by(likelihood: Likelihood, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of further inputs that a likelihood takes."""
    if likelihood.inputs is None:
        return accepted(likelihood.forward, inputs)
    return {name: inputs[name] for name in likelihood.inputs if name in inputs}


def further_arguments(call: Callable[..., Any]) -> dict[str, bool]:
    """Return what a function takes by name beside its first argument: name → whether it must."""
    parameters = list(inspect.signature(call).parameters.values())[1:]
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return {p.name: p.default is p.empty for p in by_name}


def check_form(form: Posterior) -> None:
    """Refuse a form that is unknown."""
    if not callable(form) and form not in get_args(Form):
        raise ValueError(
            f"posterior={form} is unknown; allowed: {', '.join(get_args(Form))}, or a function of "
            "what the encoder returns"
        )


def _has(out: Any, *names: str) -> bool:
    if isinstance(out, Tensor):  # whose own mean and std torch.compile would ask for
        return False
    return all(isinstance(getattr(out, name, None), Tensor) for name in names)
