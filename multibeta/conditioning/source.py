"""How c reaches the layers of a network whose ``forward`` knows nothing of it.

The object that owns a call sets c for that call, in a place of the calling thread; the layers look
there. After the call the place is what it was before, also when the call ended in an exception.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves

__all__ = ["Call", "Source", "may_checkpoint", "transforming", "watched"]


@dataclass(frozen=True)
class Call:
    """One call of a network.

    Args:
        c: The embedding of log β: (1, F) for all rows, or (M, F).
        embed: Computes c anew, with a graph of its own.
        times: How many β's each example has where the rows of c are for as many times its rows.
        each: How many neighbouring rows each row of c is for.
    """

    c: Tensor
    embed: Callable[[], Tensor]
    times: int = 1
    each: int = 1


@dataclass(frozen=True)
class _Again:
    """A call whose layers a backward pass runs again: what stands in the place of a call."""

    call: Call
    task: int


class _Place(threading.local):
    """A place for each thread, that is empty at first."""

    def __init__(self) -> None:
        self.call: Call | _Again | None = None


class Source:
    """Where the layers of one model find the call that is under way, a place for each thread.

    **Activation checkpointing** runs layers again in the backward pass, when the call is over, and
    perhaps after others. So the backward pass notes which call it has reached: where it enters the
    call's result, and where it unpacks what was saved in it. Reentrant checkpoints get an
    embedding of their own, since their backward passes are separate ones.
    """

    def __init__(self) -> None:
        self._local = _Place()

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
        outer = self._local.call
        self._local.call = call
        noted = torch.is_grad_enabled() and not transforming()
        try:
            with saved_tensors_hooks(*self._hooks(call)) if hooked and noted else nullcontext():
                result = network(*args, **kwargs)
        finally:
            self._local.call = outer
        if noted:
            for end in tree_leaves(result):
                if isinstance(end, Tensor) and end.grad_fn is not None:
                    end.grad_fn.register_prehook(lambda _: self._note(call))
        return result

    def call(self) -> Call:
        """Return the call that is under way, or is run again by a checkpoint.

        Raises:
            RuntimeError: If there is none.
        """
        found = self._local.call
        if isinstance(found, Call):
            return found
        if found is None or torch._C._current_graph_task_id() == -1:
            raise RuntimeError(
                "a layer that follows β was called without one: call encode(x, beta), "
                "decode(z, beta) or at_beta(beta) of the model that owns it"
            )
        hooks = _hooks_there()
        if hooks is not None and hooks[0].__qualname__.startswith("_recomputation_hook."):
            return found.call  # of a checkpoint that is not reentrant: the values alone are wanted
        with saved_tensors_hooks(_same, _same):
            return replace(found.call, c=found.call.embed())

    def _hooks(self, call: Call) -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
        """Return hooks that note the call when they unpack, around those that are there."""
        there = _hooks_there()
        inner_pack, inner_unpack = there or (_same, _same)

        def pack(tensor: Tensor) -> tuple[Call, int, Any]:
            found = self._local.call  # of a backward pass in the middle of the call: another
            now = found.call if isinstance(found, _Again) else call
            return now, tensor._version, inner_pack(tensor)

        def unpack(saved: tuple[Call, int, Any]) -> Tensor:
            now, version, packed = saved
            tensor = inner_unpack(packed)
            if there is None and tensor._version != version:  # torch checks it where no hooks are
                raise RuntimeError(
                    "one of the variables needed for gradient computation has been modified by an "
                    "inplace operation"
                )
            self._note(now)
            return tensor

        return pack, unpack

    def _note(self, call: Call) -> None:
        """Let the backward pass that is under way run layers again under a call."""
        place, task = self._local.__dict__, torch._C._current_graph_task_id()
        before = place.get("call")
        if task == -1:
            return
        if not (isinstance(before, _Again) and before.task == task):  # restored at its end
            Variable._execution_engine.queue_callback(lambda: place.update(call=before))
        place["call"] = _Again(call, task)


def _hooks_there() -> Any:
    """Return the pair of hooks for saved tensors that is in force, or None."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def transforming() -> bool:
    """Return whether torch.compile, torch.export or torch.func is at work."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def watched() -> bool:
    """Return whether a mode sees each operation, such as a selective checkpoint, which keeps y."""
    return torch._C._len_torch_dispatch_stack() > 0


def may_checkpoint(network: nn.Module) -> bool:
    """Return whether a network has code beside torch's own layers, which could checkpoint."""
    own = ("torch.nn.", "multibeta.networks", "multibeta.conditioning")
    return not all(type(module).__module__.startswith(own) for module in network.modules())
