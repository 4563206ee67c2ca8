"""A model as a codec: examples to bytes at any β, and back."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multibeta.adapters import taken_by
from multibeta.codec.container import (
    Header,
    Kind,
    beta_at,
    check_room,
    index_of,
    pack,
    unpack,
    verify,
)
from multibeta.codec.grids import Grid, fingerprint, grid_of
from multibeta.codec.lossless import decode as lossless_decode
from multibeta.codec.lossless import encode as lossless_encode
from multibeta.codec.lossy import quantised, read_numbers, write_numbers
from multibeta.codec.progressive import LEVELS, Plan, draws, plan_of, read_passes, write_passes
from multibeta.codec.streams import coder
from multibeta.data.examples import rows_of
from multibeta.likelihoods import Categorical
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.vae import BetaVAE

__all__ = ["Codec", "Decoded"]

_BATCH = 256
_MANTISSA = 17  # bits of what is decoded, where it is no picture of 8 bits
_VAES = 4  # VAEs at one β that are kept
_TIE = 2.0**-20  # of a level: 0.5 · 255 and the like are no ties, which last bits would decide


@dataclass(frozen=True)
class Decoded:
    """What a file says.

    Attributes:
        x: The examples: (N, *shape), float32.
        beta: Their β; of a file that was cut, that which its last bits were for.
        note: What is to be said of it; empty where all is there.
    """

    x: Tensor
    beta: float
    note: str


class Codec:
    r"""Turns examples into bytes, and back: one model for every rate.

    ``lossy``: means of q(z|x) at β on a grid, each latent's step √12 σ, where σ is from the model
    itself; then moves of single latents that lower D + β·nats; coded by a range coder with tables
    that begin as N(0, 1) and learn. So a file has about R(β)/ln 2 bits an example.

    ``progressive``: the same at the lowest β, the most worthy bits first; any beginning of the
    file gives the examples at the β that its bits are good for.

    ``lossless``: x itself, where it is discrete and the likelihood of such data, by bits-back
    coding: about (D + R)/ln 2 bits an example.

    What a file needs beside its bits is computed from the model on both sides, in float64, and
    rounded so that last bits do not matter; tables are whole numbers. Decoded values are rounded,
    too: to 8 bits where x fills [0, 1] or [−1, 1] as pictures do, else to 17 bits. So a file means
    the same with other batches, threads and processors.

    Args:
        model: A model for a range of β, or a plain VAE at one.
        search: At how many latents of an example to look, at most, for a better code than the
            rounded mean: each costs two decodings and more. 0 for none.

    Raises:
        ValueError: If constriction is missing, or the model's shape is not known.

    References:
        Ballé et al. 2017, arXiv 1611.01704 (uniform noise as rounding); Yang, Bamler & Mandt 2020,
        arXiv 2002.08158 (a trained VAE's posterior as precision); Bamler 2022, arXiv 2201.01741
        (the coder).

    Example:
        >>> import multibeta
        >>> codec = Codec(multibeta.load("digits"))  # doctest: +SKIP
        >>> data = codec.encode(x, beta=0.3)  # doctest: +SKIP
        >>> codec.decode(data).shape  # doctest: +SKIP
    """

    def __init__(self, model: MultiBetaVAE | BetaVAE, *, search: int = 128) -> None:
        coder()
        if not model.latent_shape or not model.shape:
            raise ValueError(
                "the shape of this model's examples is not known; run it once on a batch, or give "
                "wrap(…, example=x)"
            )
        if search < 0:
            raise ValueError(f"search={search} is negative; give 0 for none")
        self.model, self.search = copy.deepcopy(model).eval() if model.training else model, search
        fixed = {} if isinstance(model, BetaVAE) else model.pinned
        self._key = fingerprint(model, repr(sorted(fixed.items())))
        exact = copy.deepcopy(model)
        if next(exact.parameters()).device.type == "mps":  # which has no float64
            exact = exact.cpu()
        self._exact = exact.double().eval().requires_grad_(False)
        self._kept: dict[Any, Any] = {}
        self._given: dict[str, Any] = {}  # the further inputs that this was made with
        self._vaes: dict[tuple[int, bool], BetaVAE] = {}

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest β."""
        if isinstance(self.model, BetaVAE):
            return self.model.beta, self.model.beta
        return self.model.beta_range.low, self.model.beta_range.high

    def index(self, beta: float) -> int:
        """Return the number of the β of files that is nearest to β."""
        return index_of(beta, *self.ends)

    @torch.inference_mode(mode=False)  # the search needs a gradient
    def encode(
        self,
        x: Tensor,
        beta: float | None = None,
        *,
        progressive: bool = False,
        lossless: bool = False,
        **inputs: Any,
    ) -> bytes:
        """Return a file of examples.

        Args:
            x: (N, *shape), in the model's units; or batches of it.
            beta: β, which is taken to the nearest of a grid with steps of 1.6 %; the file says
                it. Of a progressive file that of the last bits, the lowest by default.
            progressive: Whether any beginning of the file is to be a file.
            lossless: Whether x is to be read again as it is; see
                :mod:`multibeta.codec.lossless`.
            inputs: What the networks take beside x and z, N rows each.

        Raises:
            ValueError: If β is missing or outside the range, or x does not fit the model.
        """
        if beta is None and not progressive:
            raise ValueError("give β: a file is for one; or progressive=True, a file for all")
        if lossless and progressive:
            raise ValueError("a file is lossless or progressive; leave one of them out")
        index = self.index(self.ends[0] if beta is None else beta)
        if lossless:
            each = [batch for batch, _ in _batches(x, {})]
            x = torch.cat(each) if each else torch.empty(0, *self.model.shape)
            self.model.check(self.model.fitting(x))
            with self._in_float64(inputs):
                given = rows_of(inputs, slice(None), len(x))
                coded = lossless_encode(self._at(index), x, given)
            return self._packed("lossless", index, len(x), b"", coded.payload)
        grid = self.plan(index, inputs).grid if progressive else self.grid(index, inputs)
        parts = []
        vae = self.vae(index)
        device = next(vae.parameters()).device
        for batch, given in _batches(x, inputs):
            batch, given = vae.fitting(_plain(batch, device)), _to(given, device)
            vae.check(batch)
            parts.append(quantised(vae, batch, grid, given, self.search))
        numbers = np.concatenate(parts, 1) if parts else np.zeros((len(grid.live), 0), np.int64)
        count = numbers.shape[1] // grid.per
        if progressive:
            plan = self.plan(index, inputs)
            return self._packed(
                "progressive", index, count, plan.digest, write_passes(plan, numbers)
            )
        return self._packed("lossy", index, count, grid.digest, write_numbers(numbers, grid))

    def decode(self, data: bytes, *, bits: float | None = None, **inputs: Any) -> Tensor:
        """Return the examples of a file: (N, *shape), float32.

        Args:
            data: The file.
            bits: Of a progressive file, how many bits an example to read at most, the header's
                included.
            inputs: As for :meth:`encode`.

        Raises:
            ValueError: If it is damaged, of another model or newer.
        """
        found = self.read(data, bits=bits, **inputs)
        if found.note:
            print(found.note, file=sys.stderr)
        return found.x

    def read(self, data: bytes, *, bits: float | None = None, **inputs: Any) -> Decoded:
        """Return the examples of a file with what there is to say of it; see :meth:`decode`."""
        header = unpack(data)
        if header.in_order:
            return self._read_in_order(header, data, bits, inputs)
        if bits is not None:
            raise ValueError(f"bits={bits:g}: the file is {header.kind}, and has no beginnings")
        if header.kind == "lossless":
            index = self._known(header)
            payload, _ = verify(header, data, self._key_with(b""))
            with self._in_float64(inputs):
                given = rows_of(inputs, slice(None), header.count)
                x = lossless_decode(self._at(index), payload, header.count, given)
            return Decoded(x.float(), header.beta, "")
        parts = [*self.batches(data, **inputs)]
        x = torch.cat(parts) if parts else torch.empty(0, *self.model.shape)
        return Decoded(x, header.beta, "")

    @torch.no_grad()
    def batches(self, data: bytes, **inputs: Any) -> Iterator[Tensor]:
        """Yield the examples of a lossy file, a batch after the other: (B, *shape), float32."""
        header = unpack(data)
        if header.kind != "lossy":
            raise ValueError(f"the file is {header.kind}, and not read in batches; use read")
        index = self._known(header)
        grid = self.grid(index, inputs)
        payload, _ = verify(header, data, self._key_with(grid.digest))
        vae, first = self.vae(index, exact=True), 0
        for z in _codes(grid, read_numbers(payload, grid, header.count * grid.per)):
            for part in z.split(_BATCH):
                given = rows_of(inputs, slice(first, first + len(part)), header.count)
                yield self._decoded(vae, [part], given)
                first += len(part)

    def made(self, data: bytes, **inputs: Any) -> bool:
        """Return whether this model made a file, and it is sound."""
        header = unpack(data)
        try:
            index = self._known(header)
            if header.kind == "lossless":
                digest = b""
            else:
                of = self.plan(index, inputs) if header.in_order else self.grid(index, inputs)
                digest = of.digest
            verify(header, data, self._key_with(digest))
        except ValueError:
            return False
        return True

    @torch.no_grad()
    def _read_in_order(
        self, header: Header, data: bytes, bits: float | None, inputs: Mapping[str, Any]
    ) -> Decoded:
        index = self._known(header)
        plan = self.plan(index, inputs)
        payload, note = verify(header, data, self._key_with(plan.digest))
        whole = header.kind == "progressive" and not note
        if bits is not None:
            most = min(max(0, bits), 8 * len(data))
            room = math.floor(most * max(1, header.count) / 8) - header.size
            if room < 0:
                raise ValueError(
                    f"bits={bits:g} have no room for the header, {header.size} bytes; give more"
                )
            whole = whole and room >= len(payload)
            payload = payload[:room]
            check_room(header.count, len(payload))
        per, vae = plan.grid.per, self.vae(index, exact=True)
        numbers, powers, done = read_passes(plan, payload, header.count * per, whole)
        found = []
        for first in range(0, header.count, _BATCH):
            here = slice(first * per, (first + _BATCH) * per)
            codes = draws(plan, numbers[:, here], powers[:, here], done == len(plan.passes))
            given = rows_of(inputs, slice(first, first + _BATCH), header.count)
            found.append(self._decoded(vae, map(plan.grid.shaped, codes), given))
        reached = plan.passes[done - 1].beta if 0 < done < len(plan.passes) else self.ends[1]
        beta = header.beta if done == len(plan.passes) else reached
        x = torch.cat(found) if found else torch.empty(0, *self.model.shape)
        return Decoded(x, beta, note)

    # What both sides compute from the model -----------------------------------------------------

    def vae(self, index: int, *, exact: bool = False) -> BetaVAE:
        """Return the plain VAE at a β of files, in the model's type or in float64."""
        model = self._exact if exact else self.model
        if isinstance(model, BetaVAE):
            return model
        if (index, exact) not in self._vaes:
            low, high = self.ends
            made = model.at_beta(min(max(beta_at(index), low), high)).requires_grad_(False)
            self._vaes[index, exact] = made
            for oldest in [*self._vaes][:-_VAES]:
                del self._vaes[oldest]
        return self._vaes[index, exact]

    def grid(self, index: int, inputs: Mapping[str, Any]) -> Grid:
        """Return the grid at a β of files."""
        return self._once(("grid", index), inputs, lambda given: grid_of(self._at(index), given))

    def plan(self, index: int, inputs: Mapping[str, Any]) -> Plan:
        """Return the order of the bits that end at a β of files."""

        def made(given: Mapping[str, Any]) -> Plan:
            top = self.index(self.ends[1])
            steps = [round(top + (index - top) * k / (LEVELS - 1)) for k in range(LEVELS)]
            return plan_of(
                self._at, sorted({*steps}, reverse=True), self.grid(index, inputs), given
            )

        return self._once(("plan", index), inputs, made)

    def _at(self, index: int) -> BetaVAE:
        return self.vae(index, exact=True)

    @torch.no_grad()
    def _once(self, name: Any, inputs: Mapping[str, Any], make: Any) -> Any:
        """Make something of the model, once for the same further inputs."""
        given = self._given
        if inputs.keys() != given.keys() or not all(_same(inputs[k], given[k]) for k in given):
            self._kept.clear()
            self._given = {k: v.clone() if isinstance(v, Tensor) else v for k, v in inputs.items()}
        if name in self._kept:
            return self._kept[name]
        with self._in_float64(inputs):
            made = make(_exact(_to(inputs, next(self._exact.parameters()).device)))
        self._kept[name] = made
        return made

    @contextlib.contextmanager
    def _in_float64(self, inputs: Mapping[str, Any]) -> Iterator[None]:
        """Turn what a network says of inputs that are wrong, or are not there, into one line.

        Raises:
            ValueError: If it says so.
        """
        self._check(inputs)
        try:
            yield
        except (TypeError, RuntimeError, IndexError) as error:
            names = ", ".join(self.model.further_arguments)
            raise ValueError(
                f"the model cannot be run in float64 ({str(error).splitlines()[0]})"
                + (f"; it takes {names} beside x and z, for each example" if names else "")
            ) from None

    def _check(self, inputs: Mapping[str, Any]) -> None:
        """Refuse further inputs that nothing takes, or that have no row.

        Raises:
            ValueError: If there are such.
        """
        given = dict(inputs)
        parts = (self.model.named_inputs(part, given) for part in ("encoder", "decoder"))
        known = set().union(*parts, taken_by(self.model.likelihood, given))
        for name, value in inputs.items():
            if name not in known:
                raise ValueError(f"nothing of this model takes the input {name}; leave it out")
            if isinstance(value, list | tuple | np.ndarray):
                raise ValueError(f"{name} is a {type(value).__name__}; give a tensor, a row each")
            if isinstance(value, Tensor) and value.ndim and not len(value):
                raise ValueError(f"{name} has no rows, and one at least says what the grid is")

    def _key_with(self, digest: bytes) -> bytes:
        return hashlib.blake2b(self._key + digest, digest_size=32).digest()

    def _packed(self, kind: Kind, index: int, count: int, digest: bytes, bits: bytes) -> bytes:
        return pack(kind, index, count, self._key_with(digest), bits)

    def _known(self, header: Header) -> int:
        """Return the number of the file's β, which is one of this model's.

        Raises:
            ValueError: If it is not.
        """
        low, high = self.ends
        if not low * 0.99 <= header.beta <= high * 1.01:
            raise ValueError(
                f"the file is at β = {header.beta:.4g}, and the model was trained for [{low:g}, "
                f"{high:g}]: it is of another model, or damaged"
            )
        return header.beta_index

    def _middle(self, each: list[Tensor]) -> Tensor:
        """Return the mean of several decodings; of classes, that which most of them have."""
        if len(each) > 1 and isinstance(self.model.likelihood, Categorical):
            classes = self.model.likelihood.classes
            votes = torch.stack([F.one_hot(x.long(), classes) for x in each]).sum(0)
            return votes.argmax(-1).to(each[0])
        return sum(each[1:], each[0]) / len(each)

    def _decoded(self, vae: BetaVAE, codes: Iterable[Tensor], inputs: Mapping[str, Any]) -> Tensor:
        """Return the mean over several codes (B, …) of what they decode to, rounded: float32."""
        device = next(vae.parameters()).device
        given = _exact(_to(inputs, device))
        each = [vae.decode(z.to(device), **given).mean for z in codes]
        x = self._middle(each)
        if not x.isfinite().all():
            raise ValueError(
                "the model gives no finite examples for these codes: the file is damaged, or the "
                "model is"
            )
        bounds = self.model.units.bounds if self.model.units else None
        if bounds is not None and len(self.model.shape) == 3:
            low, high = bounds
            levels = ((x - low) * (255 / (high - low)) + _TIE).clamp(0, 255).round()
            return (low + levels * ((high - low) / 255)).float().cpu()
        mantissa, exponent = torch.frexp(x)
        rounded = (mantissa * 2**_MANTISSA + _TIE).round() / 2**_MANTISSA
        return torch.ldexp(rounded, exponent).float().cpu()


def _batches(x: Any, inputs: Mapping[str, Any]) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Yield batches of x and of the inputs."""
    if isinstance(x, np.ndarray):
        x = torch.from_numpy(x)
    if isinstance(x, Tensor):
        if not x.ndim:
            raise ValueError("x is one number; give examples, (N, …)")
        for first in range(0, len(x), _BATCH):
            part = slice(first, first + _BATCH)
            yield x[part], rows_of(inputs, part, len(x))
        return
    if inputs:
        raise ValueError("further inputs need x as one tensor, not as batches")
    for batch in x:
        if not isinstance(batch, Tensor):
            raise ValueError(
                f"x has batches of type {type(batch).__name__}; give a tensor (N, …), or tensors"
            )
        for part in batch.split(_BATCH):
            yield part, {}


def _codes(grid: Grid, parts: Iterable[np.ndarray]) -> Iterator[Tensor]:
    """Yield whole codes (n, …) of numbers (G, m) that come in parts."""
    left = np.zeros((len(grid.live), 0), dtype=np.int64)
    for part in parts:
        left = np.concatenate([left, part], 1)
        whole = left.shape[1] // grid.per * grid.per
        if whole:
            yield grid.codes(left[:, :whole])
        left = left[:, whole:]


def _same(a: Any, b: Any) -> bool:
    """Return whether two further inputs are the same: tensors, or plain values; no others are."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return (a.dtype, a.device) == (b.dtype, b.device) and torch.equal(a, b)
    return type(a) is type(b) and isinstance(a, bool | int | float | str) and a == b


def _to(inputs: Mapping[str, Any], device: Any) -> dict[str, Any]:
    return {k: _plain(v, device) if isinstance(v, Tensor) else v for k, v in inputs.items()}


def _plain(value: Tensor, device: Any) -> Tensor:
    """Return a tensor on a device, and none of inference mode, which autograd refuses."""
    value = value.to(device)
    return value.clone() if value.is_inference() else value


def _exact(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return floats as float64."""
    floats = {k for k, v in inputs.items() if isinstance(v, Tensor) and v.is_floating_point()}
    return {k: v.double() if k in floats else v for k, v in inputs.items()}
