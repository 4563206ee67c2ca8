"""Where β enters a network, found by running it once; putting it there, and folding it away."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode

from multibeta.conditioning.embedding import Conditioning
from multibeta.conditioning.layers import AFFINE, NORMS, PER_CHANNEL, FiLM, Gate, Hyper, put
from multibeta.conditioning.source import Call, Source

__all__ = [
    "Site", "condition", "conditions_of", "copied", "evaluating", "fold", "places", "reasons",
    "still", "table", "under", "unwrap",
]  # fmt: skip

Part = Literal["encoder", "decoder"]
Module = TypeVar("Module", bound=nn.Module)

_SHAPES = (
    "View", "Reshape", "Transpose", "Permute", "Squeeze", "Unsqueeze", "Split", "Slice", "Alias",
    "Clone", "Expand", "Contiguous", "Unbind", "Select", "Chunk", "ToCopy", "AsStrided",
    "TBackward",
)  # fmt: skip
"""Nodes of the autograd graph that only move numbers."""


@dataclass(frozen=True)
class Site:
    """A layer, and what is done to it.

    Args:
        name: Its name in the network.
        layer: Its class's name.
        place: Where it stands: ``encoder`` (inside it), ``head`` (it makes the code), ``stem`` (it
            reads the code), ``decoder`` (inside it), ``output``; empty if it is not known.
        does: ``film``, ``hyper``, ``gate``, or ``plain``.
        why: Why nothing, or less than elsewhere, is done to it.
        options: Arguments of :class:`~multibeta.conditioning.FiLM` or its subclass.
    """

    name: str
    layer: str
    place: str
    does: str
    why: str = ""
    options: Mapping[str, Any] | None = None


def condition(
    network: nn.Module, sites: Iterable[Site], conditioning: Conditioning, source: Source
) -> None:
    """Let the layers of a network follow β, in place, as :func:`places` found.

    Before training the network gives what it gave, to the last bit, at every β (but for gates).

    Args:
        network: Any module.
        sites: What to do.
        conditioning: How β enters.
        source: Where the layers find c; one for all networks of a model.

    Raises:
        ValueError: If the network has no such layer, or it has something named condition.
    """
    kinds = {"film": FiLM, "hyper": Hyper, "gate": Gate}
    layers = dict(network.named_modules())
    for site in sites:
        if site.does == "plain":
            continue
        if site.name not in layers:
            raise ValueError(f"the network has no layer {site.name}; its code has changed")
        layer = layers[site.name]
        if isinstance(getattr(layer, "condition", None), FiLM):
            continue  # of an encoder and a decoder that share it
        if hasattr(layer, "condition"):
            raise ValueError(f"layer {site.name} has an attribute named condition; rename it")
        kinds[site.does](
            source, layer, conditioning.features, name=site.name, **(site.options or {})
        )


def conditions_of(network: nn.Module) -> Iterator[tuple[nn.Module, FiLM]]:
    """Yield the layers that follow β, with what makes them."""
    for layer in list(network.modules()):
        if isinstance(found := layer._modules.get("condition"), FiLM):
            yield layer, found


def under(network: nn.Module, c: Tensor, call: Callable[..., Any] | None = None) -> Any:
    """Return a function that calls a conditioned network at c: (1, F), or a row an example.

    Args:
        network: The network.
        c: The embedding.
        call: A method of it; itself by default.
    """
    source = next((found.source for _, found in conditions_of(network)), Source())

    def run(*args: Any, **kwargs: Any) -> Any:
        return source.run(Call(c, lambda: c), call or network, True, *args, **kwargs)

    return run


def copied(network: Module, but: Iterable[nn.Module] = ()) -> Module:
    """Return a copy of a network that shares no memory with it.

    A tensor with a history, such as old weight_norm's weight, ``copy.deepcopy`` refuses. The many
    empty places for hooks of each module take it most of its time.

    Args:
        network: The network.
        but: Modules in it of which the copy has the originals.
    """
    memo: dict[int, Any] = {id(module): module for module in but}
    for module in network.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
            elif type(value) in (dict, OrderedDict) and not value:
                memo[id(value)] = type(value)()
    return copy.deepcopy(network, memo)


def fold(network: nn.Module, c: Tensor) -> nn.Module:
    """Return a copy of a network with the condition folded away at one β.

    Its layers are plain ones of their own classes, with their own keys.

    Args:
        network: A conditioned network.
        c: The embedding of one β: (1, F).

    Returns:
        A network that shares no memory with this one.
    """
    plain = copied(network, but=(found for _, found in conditions_of(network)))
    with evaluating(plain):
        for layer, found in conditions_of(plain):
            found.fold(layer, c)
    return plain


def unwrap(network: nn.Module) -> None:
    """Take the condition off, in place: the network is what it was, with its weights of now."""
    for layer, found in conditions_of(network):
        found.remove(layer)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode, then put each module back into its own.

    Dropout is off and running statistics stay; so does spectral norm's vector, which in training
    mode changes when its weight is only looked at.
    """
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class still(TorchDispatchMode):
    """A context in which nothing is random: a network's own noise is ½ everywhere.

    What a decoder with noise makes of two batches can then be compared.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation; fill what it has drawn."""
        out = func(*args, **(kwargs or {}))
        drawn = torch.Tag.nondeterministic_seeded in func.tags and isinstance(out, Tensor)
        return out.fill_(0.5) if drawn and out.is_floating_point() else out


def table(sites: Iterable[Site]) -> str:
    """Return the sites as text: layer, place, what is done to it, and why not."""
    said = {
        "film": "scale and shift", "hyper": "weights by β", "gate": "gate", "plain": "plain",
    }  # fmt: skip
    rows = [("layer", "class", "place", "β", "")]
    for site in sites:
        does = said[site.does]
        options = site.options or {}
        if site.does != "plain" and not options.get("scale", True):
            does = "shift" if site.does == "film" and options.get("shift", True) else does
        elif site.does == "film" and not options.get("shift", True):
            does = "scale"
        does += ", gain of each input" if options.get("gain") else ""
        rows.append((site.name or "(itself)", site.layer, site.place, does, site.why))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "  ".join(
            [*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def reasons(sites: Sequence[Site]) -> str:
    """Return why the first few are as they are, in one line."""
    said = [f"{site.name or '(itself)'}: {site.why}" for site in sites[:4]]
    return "; ".join([*said, *(["…"] if len(sites) > 4 else [])])


# Finding the places --------------------------------------------------------------------------


def places(
    network: nn.Module,
    part: Part,
    run: Callable[..., Sequence[Tensor]],
    x: Tensor,
    conditioning: Conditioning,
    inputs: Mapping[str, Any] | None = None,
    named: Sequence[str] = (),
    taken: Collection[int] = (),
) -> list[Site]:
    """Find where β enters a network, by running it.

    - Heads are the layers from which nothing but shapes and arithmetic leads to the code; a layer
      that feeds a head directly is one, too.
    - Stems read the code without another layer between; the output is what the decoder ends in.
    - A layer whose output is normalised is left to the normalisation's own weight and bias.

    Args:
        network: What holds the layers.
        part: ``encoder`` or ``decoder``.
        run: Calls it with x and further inputs; returns the tensors that are the code's
            parameters, or x̂'s.
        x: At least two different examples, or codes: (B, …).
        conditioning: How β enters.
        inputs: Further inputs by name.
        named: Names of the heads, or stems, where they are given and not to be found.
        taken: The ids of weights that are also those of another layer, of another network.

    Raises:
        ValueError: If a name is no layer's, or β reaches no layer.
    """
    with evaluating(network):
        trace = _Trace(network, run, x, dict(inputs or {}))
        found = _Finder(trace, part, conditioning, tuple(named), taken).sites()
    if conditioning.kind != "none" and all(site.does == "plain" for site in found):
        what, cure = ("heads", "heads=") if part == "encoder" else ("layers", "stems=")
        raise ValueError(
            f"β reaches no layer of the {part}'s {what}: none is a Linear or a convolution that "
            f"can follow it ({reasons(found) or 'it has none'}); add one, or name it with {cure}"
        )
    return found


@dataclass
class _Seen:
    """What a layer took and returned in a run."""

    x: Tensor
    y: Tensor
    version: int
    node: Any
    origin: Any


class _Trace:
    """A network's run on an example: which layers were called, and how their results flow."""

    def __init__(
        self, network: nn.Module, run: Callable[..., Sequence[Tensor]], x: Tensor, inputs: Any
    ) -> None:
        self.network = network
        self.layers = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, AFFINE + NORMS)
        }
        self.calls, ends, self.x = self._run(run, x, inputs)
        flipped = {k: _flip(v, len(x)) for k, v in inputs.items()}
        self.again, _, _ = self._run(run, x.flip(0), flipped)
        self.batch = len(x)
        self.owner = {
            seen.node: name for name, all_ in self.calls.items() for seen in all_ if seen.node
        }
        self.ends = [end.grad_fn for end in ends if end.grad_fn is not None]
        self.consumers: Counter[Any] = Counter()
        todo, known = list(self.ends), set(self.ends)
        while todo:
            for node, _ in todo.pop().next_functions:
                if node is not None:
                    self.consumers[node] += 1
                    if node not in known:
                        known.add(node)
                        todo.append(node)
        self.weights = {
            id(node.variable): self.consumers[node] for node in known if hasattr(node, "variable")
        }

    def _run(
        self, run: Callable[..., Sequence[Tensor]], x: Tensor, inputs: Any
    ) -> tuple[dict[str, list[_Seen]], Sequence[Tensor], Tensor]:
        calls: dict[str, list[_Seen]] = {}
        handles = []
        for name, layer in self.layers.items():

            def seen(module: nn.Module, args: Any, kwargs: Any, y: Any, name: str = name) -> None:
                given = next(iter([*args, *kwargs.values()]), None)
                if not (isinstance(given, Tensor) and isinstance(y, Tensor)):
                    return  # a layer with a forward of its own
                origin = given.grad_fn if given.grad_fn is not None else given
                calls.setdefault(name, []).append(
                    _Seen(given.detach().clone(), y.detach(), y._version, y.grad_fn, origin)
                )

            handles.append(layer.register_forward_hook(seen, with_kwargs=True))
        frozen = [p for p in self.network.parameters() if not p.requires_grad]
        leaf = x.detach().clone()
        try:
            for parameter in frozen:
                if parameter.is_floating_point():
                    parameter.requires_grad_(True)
            with torch.enable_grad(), still():
                leaf.requires_grad_(leaf.is_floating_point())
                return calls, run(leaf, **inputs), leaf
        finally:
            for parameter in frozen:
                parameter.requires_grad_(False)
            for handle in handles:
                handle.remove()

    def kept(self, name: str) -> bool:
        """Return whether nothing writes over a layer's output."""
        drops = (m for m in self.network.modules() if isinstance(m, nn.modules.dropout._DropoutNd))
        return not any(m.inplace for m in drops) and all(
            seen.y._version == seen.version for seen in self.calls[name]
        )

    def reached(self, nodes: Iterable[Any]) -> list[str]:
        """Return the affine layers that lead to nodes with no other between."""
        found, todo, known = [], list(nodes), set()
        while todo:
            node = todo.pop()
            if node is None or node in known or not hasattr(node, "next_functions"):
                continue
            known.add(node)
            name = self.owner.get(node)
            if name is not None and isinstance(self.layers[name], AFFINE):
                found.append(name)
                continue
            todo += [n for n, _ in node.next_functions]
        return list(dict.fromkeys(found))

    def reads_input(self, origin: Any, leaf: Tensor) -> bool:
        """Return whether the input reaches a place with no affine layer between."""
        todo, known = [origin], set()
        while todo:
            node = todo.pop()
            if node is leaf:
                return True
            if node is None or isinstance(node, Tensor) or node in known:
                continue
            known.add(node)
            if getattr(node, "variable", None) is leaf:
                return True
            name = self.owner.get(node)
            if name is None or not isinstance(self.layers[name], AFFINE):
                todo += [n for n, _ in node.next_functions]
        return False

    def straight(self, node: Any) -> str | None:
        """Return the layer whose output reaches a node by changes of shape alone."""
        while node is not None and hasattr(node, "next_functions"):
            if (name := self.owner.get(node)) is not None:
                return name
            ahead = [n for n, _ in node.next_functions if n is not None]
            if len(ahead) != 1 or not any(part in node.name() for part in _SHAPES):
                return None
            node = ahead[0]
        return None

    def differs(self, name: str) -> bool:
        """Return whether a layer's input depends on the examples."""
        pairs = zip(self.calls[name], self.again.get(name, []), strict=False)
        return any(not torch.equal(first.x, second.x) for first, second in pairs)

    def rows(self, name: str) -> dict[str, Any] | None:
        """Return how the examples lie in a layer's input; None if they do not."""
        last = 1 if isinstance(self.layers[name], nn.Linear | nn.LayerNorm | nn.RMSNorm) else None
        for first, second in zip(self.calls[name], self.again.get(name, []), strict=False):
            a, b = first.x, second.x
            found = None
            for axis in range(a.ndim - 1 if last else 1):
                size = a.shape[axis]
                if a.shape != b.shape or size % self.batch or torch.equal(a, b):
                    continue
                m = size // self.batch
                for order, view in (
                    ("interleaved", (self.batch, m)), ("repeated", (m, self.batch)),
                ):  # fmt: skip
                    along = axis + (order == "repeated")
                    if torch.allclose(
                        a.unflatten(axis, view).flip(along), b.unflatten(axis, view),
                        rtol=1e-3, atol=1e-5,
                    ):  # fmt: skip
                        found = {"axis": axis, "order": order if m > 1 else None}
                        break
                if found:
                    break
            if found is None:
                return None
        return found


class _Finder:
    """What is done to each layer."""

    def __init__(
        self,
        trace: _Trace,
        part: Part,
        conditioning: Conditioning,
        named: tuple[str, ...],
        taken: Collection[int],
    ) -> None:
        self.trace, self.part, self.conditioning, self.taken = trace, part, conditioning, taken
        self.gates = conditioning.kind == "gate"
        if unknown := [name for name in named if name not in trace.layers]:
            known = ", ".join(n for n, m in trace.layers.items() if isinstance(m, AFFINE))
            raise ValueError(f"{unknown[0]} is no layer; the {part} has {known or 'none'}")
        self.marked: dict[str, str] = {}
        if part == "encoder":
            heads = list(named) or trace.reached(trace.ends)
            for name in heads:  # grows: a layer that feeds a head directly is one, too
                before = {trace.straight(seen.origin) for seen in trace.calls.get(name, [])}
                if not self.gates and not named:
                    heads += [
                        n for n in before
                        if n is not None and n not in heads and isinstance(trace.layers[n], AFFINE)
                    ]  # fmt: skip
            self.marked = dict.fromkeys(heads, "head")
        else:
            self.marked = dict.fromkeys(trace.reached(trace.ends), "output")
            stems = named or [
                name
                for name, calls in trace.calls.items()
                if isinstance(trace.layers[name], AFFINE)
                and any(trace.reads_input(seen.origin, trace.x) for seen in calls)
            ]
            self.marked |= dict.fromkeys(stems, "stem")
        # A norm right behind an affine layer takes its condition.
        self.behind: dict[str, str] = {}
        for name, calls in trace.calls.items():
            if isinstance(trace.layers[name], NORMS):
                for seen in calls:
                    before_norm = trace.straight(seen.origin)
                    if before_norm is None or not isinstance(trace.layers[before_norm], AFFINE):
                        continue
                    if self._follows(name) or isinstance(trace.layers[name], PER_CHANNEL):
                        self.behind[before_norm] = name

    def sites(self) -> list[Site]:
        """Return a site for each layer with weights."""
        sites = []
        for name, module in self.trace.network.named_modules():
            if name in self.trace.layers:
                sites.append(self._site(name, module))
            elif not isinstance(module, ParametrizationList) and list(
                module.parameters(recurse=False)
            ):
                why = "no affine layer and no normalisation"
                sites.append(Site(name, type(module).__name__, "", "plain", why))
        if self.gates and not any(site.does == "gate" for site in sites):
            # The published gates stand on the inner layer, whatever they leave out elsewhere.
            sites = [self._site(s.name, self.trace.layers[s.name], inner=True)
                     if s.place == "stem" else s for s in sites]  # fmt: skip
        return self._first(sites)

    def _site(self, name: str, layer: Any, inner: bool = False) -> Site:
        kind, norm = type(layer).__name__.removeprefix("Parametrized"), isinstance(layer, NORMS)
        if name not in self.trace.calls:
            why = _own_forward(layer) or f"the {self.part} did not call it"
            return Site(name, kind, "", "plain", why)
        before = {n for n, by in self.behind.items() if by == name}
        place = self.marked.get(name, self.part)
        if norm:
            place = next((self.marked.get(n, self.part) for n in before), self.part)

        def plain(why: str) -> Site:
            return Site(name, kind, place, "plain", why)

        if self.conditioning.kind == "none":
            return plain("conditioning=none")
        if norm and getattr(layer, "weight", None) is None:
            return plain("it has no weight of its own (affine=False)")
        if norm and not before:
            return plain("no layer that follows β is right in front of it")
        if self.gates and place not in ("encoder", "decoder") and not inner:
            return plain("published gates leave it out")
        if not self.gates and place == "encoder":
            return plain("inside the encoder, which is the same for every β")
        rows = self.trace.rows(name)
        if rows is None and not self.trace.differs(name):
            return plain("its input is the same for all examples")
        if rows is None:
            return plain("its rows are not examples")
        scale, shift, why = self._abilities(name, layer)
        hyper = not self.gates and not norm and place in ("head", "stem")
        hyper = hyper and scale and getattr(layer, "groups", 1) == 1
        if name in self.behind:
            by = self.behind[name]
            if not hyper and not self._follows(by):
                return plain(f"{by} cancels scale and shift, and cannot follow β itself")
            if not hyper:
                return plain(f"{by} would cancel a scale; its own weight follows β")
            scale, shift, why = False, False, (
                f"scale and shift are {by}'s" if self._follows(by)
                else f"{by} would cancel scale and shift"
            )  # fmt: skip
        if not (scale or shift or hyper):
            return plain(why)
        if self.gates:
            if not scale:
                return plain(why)
            side = "encoder" if self.part == "encoder" else "decoder"
            return Site(name, kind, place, "gate", why, {"side": side, **rows})
        options = {"scale": scale, "shift": shift, "in_place": self.trace.kept(name), **rows}
        if hyper:
            return Site(name, kind, place, "hyper", why, {"gain": place == "stem", **options})
        return Site(name, kind, place, "film", why, options)

    def _follows(self, norm: str) -> bool:
        """Return whether a normalisation's own weight can follow β."""
        return self.trace.rows(norm) is not None and any(
            self._abilities(norm, self.trace.layers[norm])[:2]
        )

    def _abilities(self, name: str, layer: Any) -> tuple[bool, bool, str]:
        """Return whether a layer's weight and bias can take a scale and a shift, and why not."""
        has_bias = getattr(layer, "bias", None) is not None
        if getattr(layer, "weight", None) is None:
            return False, False, "it has no weight of its own (affine=False)"
        if why := _own_forward(layer):
            return False, False, why
        calls = len(self.trace.calls[name])

        def shared(parameter: Any) -> bool:
            used = self.trace.weights.get(id(parameter), calls)
            return isinstance(parameter, nn.Parameter) and (
                used > calls or id(parameter) in self.taken
            )

        shift = has_bias and not shared(layer.bias)
        if shared(layer.weight):
            return False, shift, "its weight is used elsewhere too: shift alone" if shift else (
                "its weight is used elsewhere too"
            )  # fmt: skip
        if not _can_be_set(layer):
            return False, shift, "its parametrization undoes a scale: shift alone" if shift else (
                "its parametrization undoes a scale"
            )  # fmt: skip
        if has_bias and not shift:
            return False, False, "its bias is used elsewhere too"
        return True, shift, ""

    def _first(self, sites: list[Site]) -> list[Site]:
        """Mark the layers at which each β first sees a row of its own."""
        if self.part == "decoder":
            return sites
        following = {site.name for site in sites if site.does != "plain"}
        return [
            Site(**{**vars(site), "options": {**(site.options or {}), "expands": True}})
            if site.name in following and not self._follows_another(site.name, following)
            else site
            for site in sites
        ]  # fmt: skip

    def _follows_another(self, name: str, following: set[str]) -> bool:
        todo = [seen.origin for seen in self.trace.calls[name]]
        known: set[Any] = set()
        while todo:
            node = todo.pop()
            if node is None or isinstance(node, Tensor) or node in known:
                continue
            known.add(node)
            if self.trace.owner.get(node) in following:
                return True
            todo += [n for n, _ in node.next_functions]
        return False


def _own_forward(layer: nn.Module) -> str:
    """Say so if a layer's forward is not that of the torch class that it is made from."""
    kind = type(layer)
    torchs: Iterator[Any] = (
        cls for cls in kind.__mro__ if cls.__module__.startswith("torch.nn.modules")
    )
    own = kind.forward is not next(torchs).forward
    return f"its class {kind.__name__} has a forward of its own" if own else ""


def _can_be_set(layer: Any) -> bool:
    """Return whether a layer's weight can be given another value."""
    hooked = any(name in layer._parameters for name in ("weight_g", "weight_orig"))
    if "weight" in layer._parameters and not hooked:
        return True
    trial = copied(layer).eval()
    if "weight_orig" in layer._parameters:
        return False
    try:
        with torch.no_grad():
            wanted = 1.5 * trial.weight
            put(trial, "weight", wanted)
            return torch.allclose(trial.weight, wanted, rtol=1e-4, atol=1e-6)
    except (RuntimeError, NotImplementedError, AttributeError, ValueError):
        return False


def _flip(value: Any, batch: int) -> Any:
    return (
        value.flip(0)
        if isinstance(value, Tensor) and value.ndim and len(value) == batch
        else value
    )
