r"""The embedding c of log β, and which way β enters a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

__all__ = ["Conditioning", "Embedding", "Kind", "ramps"]

Kind = Literal["film", "gate", "none"]

_RAMPS, _CURVES = 16, 32


@dataclass(frozen=True)
class Conditioning:
    r"""One way for β to enter a network; :func:`~multibeta.conditioning.places` says where.

    - ``film``: where the code is made and read, weights depend on β (:class:`Hyper`); in the
      decoder every affine layer gets a scale and a shift per channel (:class:`FiLM`). The inside
      of the encoder stays plain: nothing was lost by it, and an example passes it once for all of
      its β's. The embedding c is 16 smooth ramps along log β and 32 learned curves
      (:class:`Embedding`): each scale and shift is a curve in log β that can bend anywhere, the
      network does not depend on β before training, and it stays bounded outside the range.
    - ``gate``: the published gates of the Multi-Rate VAE (:class:`Gate`); the latent heads,
      the decoder's first layer and its output stay ungated, as in the authors' code.
    - ``none``: layers stay plain and c has no features: a dedicated β-VAE.

    With several conditions - β and other weights - each has its 16 ramps, and the curves are
    functions of all of them.

    Args:
        kind: ``"film"``, ``"gate"`` or ``"none"``.
        conditions: The number K of weights that the network follows, β being the first.
    """

    kind: Kind = "film"
    conditions: int = 1

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"conditioning={self.kind} is unknown; allowed: film, gate, none")

    @property
    def features(self) -> int:
        """The number of features F of the embedding."""
        several = self.conditions
        return {"film": several * _RAMPS + _CURVES, "gate": several, "none": 0}[self.kind]

    def embedding(self) -> nn.Module:
        """Build the embedding.

        Returns:
            A module: standardised logarithms (see :meth:`BetaRange.standardise`), (B, K), or
            (1, K) for conditions shared by the batch → c: (B, F) or (1, F).
        """
        return Embedding(self.conditions) if self.kind == "film" else _Plain(self.features)


class Embedding(nn.Module):
    r"""An embedding of log β: ramps along its range, and learned curves.

    .. math:: c(s) = \bigl[\, r(s),\; h(r(s)) - \overline{h(r)} \,\bigr]

    with r the 16 :func:`ramps` of each condition, one after the other, h a small network with 32
    outputs, and the bar its mean over the range of log β. Centred, the curves say how a β differs
    from the others, and what is common to all β's is left to the layers' own weights.

    Args:
        conditions: The number K of conditions. The mean is that over 33 points of the range, or
            over 64 of a Sobol sequence where there are several.
    """

    points: Tensor

    def __init__(self, conditions: int = 1) -> None:
        super().__init__()
        self.curves = nn.Sequential(
            nn.Linear(conditions * _RAMPS, 2 * _CURVES),
            nn.SiLU(),
            nn.Linear(2 * _CURVES, _CURVES, bias=False),
        )
        points = torch.linspace(-1, 1, 2 * _RAMPS + 1)[:, None]
        if conditions > 1:
            points = 2 * SobolEngine(conditions).draw(64) - 1
        self.register_buffer("points", points, persistent=False)

    def forward(self, s: Tensor) -> Tensor:
        """Embed standardised conditions: (B, K) → (B, F)."""
        steps = ramps(torch.cat([s / math.sqrt(3), self.points.to(s)]), _RAMPS).flatten(1)
        dtype = next(self.curves.parameters()).dtype  # perhaps half precision; s is not
        curves, m = self.curves(steps.to(dtype)).to(steps.dtype), s.shape[0]
        return torch.cat([steps[:m], curves[:m] - curves[m:].mean(0)], dim=-1)


class _Plain(nn.Module):
    """The standardised conditions themselves, or nothing."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, s: Tensor) -> Tensor:
        return s[:, : self.features]


def ramps(t: Tensor, n: int) -> Tensor:
    r"""Embed a number in [−1, 1] by n smooth steps, evenly spaced.

    .. math:: c_k = \tanh\bigl(\tfrac n2 (t - t_k)\bigr), \qquad t_1 = -1, …, t_n = 1

    Args:
        t: (...).
        n: The number of ramps, at least 2.

    Returns:
        (..., n), within [−1, 1].
    """
    knots = torch.linspace(-1, 1, n, dtype=t.dtype, device=t.device)
    return torch.tanh((n / 2) * (t[..., None] - knots))
