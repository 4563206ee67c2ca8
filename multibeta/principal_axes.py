"""A change of the code to its principal axes in the middle of a training."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from multibeta.axes import Axes, turn
from multibeta.conditioning import fold
from multibeta.module import MultiBetaModule
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.runs import tell

__all__ = ["PrincipalAxes", "turn_at"]


class PrincipalAxes(Callback):
    r"""Turns the code to its principal axes, once, early in the training: :func:`turn_at`.

    For fully connected networks, which are behind at low β: a high β shuts latents in the first
    epochs, at every β, and they hardly open again. Turned and whitened, each latent stands for a
    direction of its own, the most important ones first, and has the spread of all others.

    Args:
        at: The fraction of the training after which examples are gathered, and the code turned.
        beta: The β whose axes are taken; None is the lowest of the range, where most latents live.
        examples: How many examples the moments are taken of.

    Raises:
        ValueError: If an argument is out of its domain; with the first batch, if the code cannot
            be turned, by the reasons of :class:`~multibeta.axes.Axes`, if the length of the
            training is unknown or less than ten times what is gathered, or there are several
            processes.
    """

    def __init__(self, at: float = 0.1, beta: float | None = None, examples: int = 2048) -> None:
        if not 0 < at < 1:
            raise ValueError(f"PrincipalAxes: at={at:g} is outside (0, 1)")
        if examples < 2:
            raise ValueError(f"PrincipalAxes: examples={examples} is too few; give some thousands")
        self.at, self.beta, self.examples = at, beta, examples
        self._tried = self._done = False
        self._rows: list[Tensor] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Gather the batch, and turn the code when there are enough."""
        if self._done:
            return
        vae = cast(MultiBetaModule, pl_module).vae
        steps = trainer.estimated_stepping_batches
        if not self._tried:
            x, inputs = vae.read(batch)
            self._check(trainer, vae, inputs, len(x))
            _turned(vae, x, self._beta(vae))
            self._tried = True
        if trainer.global_step < self.at * steps or batch_idx % trainer.accumulate_grad_batches:
            return
        self._rows.append(vae.read(batch)[0].cpu())
        count = sum(map(len, self._rows))
        if count < self.examples:
            return
        beta = self._beta(vae)
        changed = {id(p) for p in turn_at(vae, torch.cat(self._rows), beta)}
        for optimizer in trainer.optimizers:
            for parameter, state in optimizer.state.items():
                if id(parameter) in changed:
                    for name in _MOMENTS & state.keys():
                        state[name].zero_()
        tell(
            f"step {trainer.global_step}: the code is turned to its principal axes at "
            f"β = {beta:g}, by {count:,} examples"
        )
        self._done, self._rows = True, []

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say that the code was not turned, where the training ended before it could be."""
        if not self._done:
            tell(
                f"PrincipalAxes: the code was not turned, as the training ended at step "
                f"{trainer.global_step}, before it was to be"
            )

    def _beta(self, vae: MultiBetaVAE) -> float:
        return vae.beta_range.low if self.beta is None else vae.beta_range.check(self.beta)

    def _check(
        self, trainer: Trainer, vae: MultiBetaVAE, inputs: dict[str, Any], batch: int
    ) -> None:
        """Refuse what would be noticed after a part of the training."""
        steps, wanted = trainer.estimated_stepping_batches, math.ceil(self.examples / batch)
        why = ""
        if not math.isfinite(steps):
            why = "the length of the training is unknown; give trainer.max_steps"
        elif trainer.world_size > 1:
            why = f"it is for one process, and there are {trainer.world_size}; leave it out"
        elif vae.conditioning.kind != "film":
            why = f"it is for conditioning=film, not {vae.conditioning.kind}; leave it out"
        elif vae.frozen:
            why = "freeze=True keeps the weights of head and stem; leave one of them out"
        elif (vae.draws.opening or 0) > self.at:
            why = (
                f"at={self.at:g} is before low β's are drawn, as draws.opening is "
                f"{vae.draws.opening:g}; give at={vae.draws.opening:g}, or draws.opening=0"
            )
        elif wanted > steps / 10:
            why = (
                f"examples={self.examples:,} are {wanted} batches, and the training has {steps:g} "
                f"steps, of which they may take a tenth; give {steps // 10 * batch:,.0f} or fewer"
            )
        elif wanted > steps * (1 - self.at):
            why = f"at={self.at:g} leaves too few steps to gather examples in; give at=0.1"
        elif inputs:
            why = f"the networks take {', '.join(inputs)} beside x; leave it out"
        if why:
            raise ValueError(f"PrincipalAxes: {why}")

    def state_dict(self) -> dict[str, Any]:
        """Return whether the code was turned, and what is gathered: a resumed run goes on so."""
        return {"done": self._done, "rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._done, self._rows = state_dict["done"], list(state_dict["rows"])


_MOMENTS = {"exp_avg", "momentum_buffer"}
"""What optimisers of PyTorch call the mean of past gradients."""


@torch.no_grad()
def turn_at(vae: MultiBetaVAE, examples: Tensor, beta: float) -> list[nn.Parameter]:
    r"""Turn the code of a conditioned VAE to the principal axes that it has at β, in place.

    The layers that make the code and those that read it become what they are at this β, turned as
    by :class:`~multibeta.axes.Axes`, and depend on β no more: their conditions start anew, from
    the identity. The rest of the network stays. So at this β the decoder of z′ is that of z, and
    the posterior is :math:`v_j = β/(β + Λ_j)`; at other β's head and stem have to follow again.

    Args:
        vae: The VAE, whose code is a vector that Linear layers make and read.
        examples: x (N, *shape); some thousands.
        beta: β, within the trained range.

    Returns:
        The parameters that changed.

    Raises:
        ValueError: By the reasons of :class:`~multibeta.axes.Axes`; nothing has changed then.

    References:
        Kumar & Poole 2020, arXiv 2002.00041; Lucas et al. 2019, arXiv 1911.02469 (for a linear
        VAE these axes are the optimum at every β).
    """
    turned = _turned(vae, examples, beta)
    changed: list[nn.Parameter] = []
    for part in ("encoder", "decoder"):
        mine, other = (dict(of.network(part)[0].named_modules()) for of in (vae, turned))
        for site in vae.sites[part]:
            if site.place not in ("head", "stem"):
                continue
            layer: Any = mine[site.name]
            for name, parameter in layer.named_parameters():
                if name.startswith("condition."):
                    if name.rpartition(".")[2] in ("affine", "gain", "mix"):
                        parameter.zero_()
                else:
                    parameter.copy_(getattr(other[site.name], name))
                changed.append(parameter)
    return changed


def _turned(vae: MultiBetaVAE, examples: Tensor, beta: float) -> MultiBetaVAE:
    """Return the VAE with plain networks, those of β with the code turned."""
    with torch.no_grad():
        c = vae.embedding(vae._standardised(vae.conditions(beta)))
    plain = copy.copy(vae)
    names = [name for name in ("encoder", "decoder", "autoencoder") if name in vae._modules]
    parts: Any = fold(nn.ModuleList([cast(nn.Module, vae._modules[name]) for name in names]), c)
    plain._modules = {**vae._modules, **dict(zip(names, parts, strict=True))}
    turn(plain, Axes(examples, beta=beta))
    return plain
