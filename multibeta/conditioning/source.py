"""How c reaches the layers of a network whose ``forward`` knows nothing of it.

The object that owns a call sets c for that call, in a place of the calling thread; the layers look
there. After the call the place is what it was before, also when the call ended in an exception.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

__all__ = ["Call", "Source", "may_checkpoint", "transforming"]


@dataclass(frozen=True)
class Call:
    """One call of a network.

    Args:
        c: The embedding of log β: (1, F) for all rows, or (M, F).
        embed: Computes c anew, with a graph of its own.
        times: How many β's each example has where M is as many times its rows.
    """

    c: Tensor
    embed: Callable[[], Tensor]
    times: int = 1


class Source:
    """Where the layers of one model find the call that is under way, a place for each thread.

    **Activation checkpointing** runs layers again in the backward pass, when the call is over, and
    perhaps after others. What it keeps of its inputs is packed by hooks of the call, and unpacking
    it says which call is run again. Reentrant checkpoints get an embedding of their own, since
    their backward passes are separate ones.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def __deepcopy__(self, memo: dict[int, Any]) -> Source:
        """Return a new place: that of the copied model."""
        return memo.setdefault(id(self), Source())

    def __reduce__(self) -> tuple[type[Source], tuple[()]]:
        """Pickle as a new place; the layers of a model share it."""
        return Source, ()

    def run(
        self, call: Call, network: Callable[..., Any], hooked: bool, *args: Any, **kwargs: Any
    ) -> Any:
        """Call a network under c.

        Args:
            call: c.
            network: What to call.
            hooked: Whether something in it may checkpoint activations.
            args: Its arguments.
            kwargs: Its arguments by name.
        """
        outer = getattr(self._local, "call", None)
        self._local.call = call
        hooked = hooked and torch.is_grad_enabled() and not transforming()
        try:
            with saved_tensors_hooks(*self._hooks(call)) if hooked else nullcontext():
                return network(*args, **kwargs)
        finally:
            self._local.call = outer

    def call(self) -> Call:
        """Return the call that is under way, or is run again by a checkpoint.

        Raises:
            RuntimeError: If there is none.
        """
        call = getattr(self._local, "call", None)
        if call is not None:
            return call
        task, again = getattr(self._local, "again", (-1, None))
        if again is None or task != torch._C._current_graph_task_id():
            raise RuntimeError(
                "a layer that follows β was called without one: call encode(x, beta), "
                "decode(z, beta) or at_beta(beta) of the model that owns it"
            )
        if torch._C._autograd._top_saved_tensors_default_hooks(True) is None:
            return Call(again.embed(), again.embed, again.times)
        return again

    def _hooks(
        self, call: Call
    ) -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
        """Return hooks that note the call when they unpack, around those that are there."""
        there = torch._C._autograd._top_saved_tensors_default_hooks(True)
        pack, inner = there or (_same, _same)

        def unpack(saved: Any) -> Tensor:
            self._local.again = torch._C._current_graph_task_id(), call
            return inner(saved)

        return pack, unpack


def _same(tensor: Tensor) -> Tensor:
    return tensor


def transforming() -> bool:
    """Return whether torch.compile, torch.export or torch.func is at work."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def may_checkpoint(network: nn.Module) -> bool:
    """Return whether a network has code beside torch's own layers, which could checkpoint."""
    own = ("torch.nn.", "multibeta.networks", "multibeta.conditioning")
    return not all(type(module).__module__.startswith(own) for module in network.modules())
