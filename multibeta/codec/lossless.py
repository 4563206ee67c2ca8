"""Lossless codes of discrete data: bits-back coding with ANS, at about D + R nats an example.

A stack of bits is popped and pushed with probabilities, so that what is popped can be pushed back.
For a batch of examples: *pop* z with q(z|x), *push* x with p(x|z), *push* z with p(z). It grows by
−log p(x|z) − log p(z) + log q(z|x), whose mean is D + R. The decoder does the same backwards.

Sender and reader must find the same probabilities, on whatever machine. The networks are run in
float64, and what they return is rounded to a coarse grid before it becomes a probability. The few
numbers that lie so near to the border of two steps that another machine might round them the other
way are listed in the code. From there on all is integers and tables. The weights must agree as
well: those of ``model.at_beta(b)`` are computed in float32, and another processor finds others in
the sixth digit; those of ``model.double().at_beta(b)`` agree as the networks' outputs do.

References:
    Townsend, Bird & Barber 2019, arXiv 1901.04866 (BB-ANS).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multibeta.codec.decisions import MIDDLE, Known, Read, kind_of, nearest
from multibeta.codec.stack import DAMAGED, WORD, Stack, uniform, yes
from multibeta.codec.streams import coder
from multibeta.conditioning import copied
from multibeta.vae import BetaVAE

__all__ = ["Coded", "decode", "encode"]

_SIZES = 9  # of a batch: 1, 2, 4 … 256
_AT_ONCE = 2**22  # numbers of a batch
_PANIC = "PanicException"  # constriction's; it is no Exception
_PARTS = 16  # of a step of z: the grid of q's mean
_SHARES = 32  # of an octave: the grid of q's σ
_NARROW = 0.05  # the quantile of all σ that the step of z is at most
_FINEST, _WIDEST = 40, 20


@dataclass(frozen=True)
class Coded:
    """A lossless code.

    Args:
        payload: What :func:`decode` reads.
        initial_bits: Bits of the payload that had to be there before the first example, and say
            nothing but that it was read rightly.
        count: Examples.
        values: Values of each, d.
    """

    payload: bytes
    initial_bits: int
    count: int
    values: int

    @property
    def bits(self) -> int:
        """All bits of the payload."""
        return 8 * len(self.payload)

    @property
    def net_bits_per_example(self) -> float:
        """Bits of an example, without the initial ones: D + R in bits, in the mean."""
        return (self.bits - self.initial_bits) / self.count

    @property
    def bits_per_example(self) -> float:
        """Bits of an example, initial ones included."""
        return self.bits / self.count

    @property
    def bits_per_value(self) -> float:
        """Bits of a value (a pixel), initial ones included."""
        return self.bits_per_example / self.values


@torch.no_grad()
def encode(vae: BetaVAE, x: Tensor, inputs: Mapping[str, Any] | None = None) -> Coded:
    """Return a code of examples, from which they come back without loss.

    Nothing is drawn at random: the bits that must be there before the first example are made from
    x itself, so that they tell the reader that it has found x.

    Args:
        vae: A plain VAE with a likelihood of discrete data: ``model.at_beta(b)``.
        x: (N, *shape): 0 and 1 for Bernoulli; classes; counts; multiples of 1/255, or uint8, for
            DiscretizedLogistic.
        inputs: Further inputs of encoder, decoder and likelihood, N rows each. They are no part
            of the code.

    Raises:
        ValueError: If the likelihood is that of continuous data, x has values that it gives no
            probability to, or constriction is missing.
    """
    if not len(x):
        raise ValueError("x holds no examples; give (N, *shape) with N of 1 or more")
    model = _Model(vae, tuple(x.shape[1:]), inputs or {})
    symbols = model.symbols(x)
    mean, std = model.posteriors(symbols)
    grid = _Grid.of(mean, std)
    stack = Stack.supplied(_words(symbols))
    at = 0
    while at < len(symbols):
        size = min(model.largest, 1 << (len(symbols) - at).bit_length() - 1)
        # 1.01: σ may be rounded up.
        while size > 1 and 16 * _taken(1.01 * std[at : at + size] / grid.step) > stack.free:
            size //= 2
        rows = slice(at, at + size)
        _push(stack, model, grid, rows, symbols[rows], mean[rows], std[rows])
        at += size
    words, initial = stack.finished()
    payload = grid.header + words.astype("<u4").tobytes().rstrip(b"\0")
    return Coded(payload, WORD * initial, len(symbols), symbols.shape[1])


@torch.no_grad()
def decode(
    vae: BetaVAE,
    payload: bytes,
    count: int,
    inputs: Mapping[str, Any] | None = None,
    shape: tuple[int, ...] | None = None,
) -> Tensor:
    """Return the examples of a code.

    Args:
        vae: The VAE that made it.
        payload: The code.
        count: The number of examples, N.
        inputs: Those of :func:`encode`.
        shape: That of an example; by default the VAE's.

    Returns:
        x: (N, *shape), equal to what was encoded, as the VAE takes it: floats, 8-bit intensities
        from 0 to 1.

    Raises:
        ValueError: If the code is damaged, or of another model, count or inputs.
    """
    if count < 1:
        raise ValueError(f"count={count} is no number of examples; give that of encode, 1 or more")
    if not (shape or vae.shape):
        raise ValueError("the VAE takes x of any shape; give shape=, that of an example")
    grid, stack = _Grid.read(payload), Stack.read(payload[2:])
    model = _Model(vae, tuple(shape or vae.shape), inputs or {})
    found: list[np.ndarray] = []
    left = count
    while left > 0:
        size = 1 << int(stack.pop(uniform(_SIZES), 1)[0])
        if size > left or stack.is_spent:
            raise ValueError(DAMAGED)
        left -= size
        try:
            found.append(_pop(stack, model, grid, slice(left, left + size)))
        except BaseException as error:  # a z that q has no place for, a list beyond its end
            if isinstance(error, KeyError | IndexError) or type(error).__name__ == _PANIC:
                raise ValueError(DAMAGED) from None
            raise
    symbols = np.concatenate(found[::-1])
    words = stack.words[::-1]
    if len(words) < 2 or not np.array_equal(words, _words(symbols)(len(words))):
        raise ValueError(DAMAGED)
    x = model.kind.values(torch.from_numpy(symbols).to(vae.x_dtype))
    return x.reshape(-1, *model.shape)


def _push(
    stack: Stack,
    model: _Model,
    grid: _Grid,
    rows: slice,
    symbols: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
) -> None:
    """Put a batch on the stack; :func:`_pop` does the same backwards."""
    mean, std, unsure = grid.rounded(mean, std)
    stack.reserve(mean.size)
    stack.whiten(_noise(std, rows))
    z = np.empty(mean.size, np.int32)
    for where, near, q in _posteriors(mean, std):
        z[where] = near + stack.pop(q, mean[where] - near, std[where])
    stack.push_list(unsure)
    known = Known(model.kind.targets(symbols))
    model.kind.walk(model.likelihood(z * grid.step, rows), known)
    answers, chances, unsure = known.finished()
    stack.push(answers, yes(), chances)
    stack.push_list(unsure)
    stack.push(z, grid.prior)
    stack.push(np.array([len(symbols).bit_length() - 1], np.int32), uniform(_SIZES))


def _pop(stack: Stack, model: _Model, grid: _Grid, rows: slice) -> np.ndarray:
    """Take a batch off the stack, after its size; return the symbols: (B, d)."""
    size = rows.stop - rows.start
    z = stack.pop(grid.prior, size * math.prod(model.latent_shape))
    read = Read(lambda chances: stack.pop(yes(), chances), stack.pop_list())
    symbols = model.kind.walk(model.likelihood(z * grid.step, rows), read)
    symbols = symbols.astype(model.kind.dtype).reshape(size, -1)
    mean, std, _ = grid.rounded(*model.posterior(symbols, rows), stack.pop_list())
    for where, near, q in reversed(_posteriors(mean, std)):
        stack.push(z[where] - near, q, mean[where] - near, std[where])
    stack.whiten(_noise(std, rows))
    return symbols


class _Model:
    """The networks in float64, which CPU and GPU, one thread or many, agree on to 10⁻¹⁰.

    Args:
        vae: The VAE.
        shape: That of an example.
        inputs: Further inputs, a row for each example.
    """

    def __init__(self, vae: BetaVAE, shape: tuple[int, ...], inputs: Mapping[str, Any]) -> None:
        self.device = next(vae.parameters()).device
        if self.device.type == "mps":  # which has no float64
            self.device = torch.device("cpu")
        self.vae = copied(vae).to(self.device).double().eval()
        self.shape, self.inputs, self.dtype = shape, inputs, vae.x_dtype
        first = slice(0, 1)
        q = self._encode(np.zeros((1, math.prod(shape))), first, 1)
        self.latent_shape = tuple(q.mean.shape[1:])
        p = self._decode(np.zeros(self.latent_shape), first)
        self.kind, _ = kind_of(vae.likelihood, p)
        numbers = math.prod(shape) * self.kind.numbers
        self.largest = 1 << max(0, min(_SIZES - 1, (_AT_ONCE // numbers).bit_length() - 1))

    def symbols(self, x: Tensor) -> np.ndarray:
        """Return x as whole numbers: (N, d)."""
        x = x.detach().cpu()
        if x.dtype == torch.uint8 and not self.vae.likelihood.whole:
            x = x.double() / 255
        elif not x.is_floating_point():
            x = x.double()
        self.vae.likelihood.check(x)
        symbols = self.kind.symbols(x)
        if self.kind.classes is None and (symbols.astype(_numpy(self.dtype)) != symbols).any():
            raise ValueError(
                f"the data has counts that {self.dtype} cannot hold; give the model float64: "
                "vae.double()"
            )
        return symbols

    def posteriors(self, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and standard deviations of q(z|x): (N, Z) each."""
        n = len(symbols)
        parts = [slice(at, min(at + self.largest, n)) for at in range(0, n, self.largest)]
        found = [self.posterior(symbols[rows], rows) for rows in parts]
        mean, std = (np.concatenate(of) for of in zip(*found, strict=True))
        return mean, std

    def posterior(self, symbols: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return means and standard deviations of q(z|x): (B, Z) each."""
        q = self._encode(symbols, rows, self.kind.unit)
        mean, std = (t.flatten(1).cpu().numpy() for t in (q.mean, q.stddev))
        return mean, std

    def likelihood(self, z: np.ndarray, rows: slice) -> Any:
        """Return p(x|z), of single values."""
        return kind_of(self.vae.likelihood, self._decode(z, rows))[1]

    def _encode(self, symbols: np.ndarray, rows: slice, unit: int) -> Any:
        x = torch.from_numpy(symbols).to(self.device, torch.float64) / unit
        q = self.vae.encode(x.reshape(-1, *self.shape), **self._inputs(rows))
        if q.mean.dtype != torch.float64:
            raise ValueError(
                f"the encoder returns {q.mean.dtype} for float64; lossless coding needs float64 "
                "throughout, so that every machine finds the same: leave casts out of it"
            )
        return q

    def _decode(self, z: np.ndarray, rows: slice) -> Any:
        of = torch.from_numpy(z).to(self.device, torch.float64).reshape(-1, *self.latent_shape)
        return self.vae.decode(of, **self._inputs(rows))

    def _inputs(self, rows: slice) -> dict[str, Any]:
        """Return the rows of further inputs."""
        some = {}
        for name, value in self.inputs.items():
            if isinstance(value, Tensor) and value.ndim:
                value = value[rows].to(self.device)
                value = value.double() if value.is_floating_point() else value
            some[name] = value
        return some


@dataclass(frozen=True)
class _Grid:
    """The values that z may take: multiples of 2⁻ˢ, up to 2ʳ of them on each side of 0.

    Args:
        fine: s.
        wide: r.
    """

    fine: int
    wide: int

    @classmethod
    def of(cls, mean: np.ndarray, std: np.ndarray) -> _Grid:
        """Return one that is fine enough for q, and wide enough."""
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ValueError(
                "the encoder returns means or standard deviations that are no finite numbers"
            )
        reach = float(np.abs(mean).max() + 9 * std.max())
        fine = math.ceil(-math.log2(float(np.quantile(std, _NARROW))))
        fine = max(-_FINEST, min(fine, _FINEST, _WIDEST - 1 - math.ceil(math.log2(reach))))
        return cls(fine, max(4, math.ceil(math.log2(reach * 2.0**fine + 8))))

    @classmethod
    def read(cls, payload: bytes) -> _Grid:
        """Return that of a code."""
        if len(payload) < 3 or payload[0] > 2 * _FINEST or payload[1] > _WIDEST:
            raise ValueError(DAMAGED)
        return cls(payload[0] - _FINEST, payload[1])

    @property
    def header(self) -> bytes:
        """What :meth:`read` reads."""
        return bytes([self.fine + _FINEST, self.wide])

    @property
    def step(self) -> float:
        """The distance of two values."""
        return 2.0**-self.fine

    def rounded(
        self, mean: np.ndarray, std: np.ndarray, listed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mean and σ in steps, rounded, flat; and what is to be listed."""
        most = 2.0**self.wide
        of_mean = np.clip(mean.ravel() / self.step, -most, most) * _PARTS
        octaves = np.log2(np.clip(std.ravel() / self.step, 2.0**-6, most / 2)) * _SHARES
        both, listed = nearest(np.concatenate([of_mean, octaves]), listed)
        of_mean, octaves = both[: mean.size], both[mean.size :]
        std = np.ldexp(_powers()[octaves % _SHARES], octaves // _SHARES)
        return (of_mean + MIDDLE) / _PARTS, std, listed

    @property
    def prior(self) -> Any:
        """N(0, 1) on the grid."""
        return _normal(2**self.wide, 0.0, 1 / self.step)


def _posteriors(mean: np.ndarray, std: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, Any]]:
    """Return those q that are as wide as each other: which, what is near their mean, and the rest.

    Each reaches from 4 to 8 σ around its mean and no farther. A coder gives every value the least
    probability that it has, 2⁻²⁴; with thousands of values that would be samples far from any
    code, whose x costs hundreds of bits.
    """
    _, octave = np.frexp(std)
    found = []
    for wide in np.unique(octave):
        where = np.flatnonzero(octave == wide)
        near = np.floor(mean[where]).astype(np.int32)
        found.append((where, near, _normal(2 ** max(2 + int(wide), 2))))
    return found


def _normal(most: int, *parameters: float) -> Any:
    """Return a normal distribution of whole numbers from −most to most.

    Its distribution function is constriction's own: Rust throughout, without the system's
    mathematical library, so that it is the same on every machine.
    """
    return coder().model.QuantizedGaussian(-most, most, *parameters)


def _taken(std: np.ndarray) -> int:
    """Return how many words of 16 bits samples of q take off the stack, or a few more.

    Args:
        std: σ in steps; a sample takes log₂ 4.13 σ bits.
    """
    _, octave = np.frexp(std)
    return -(-int(np.maximum(octave + 2, 0).sum()) // 16)


def _noise(std: np.ndarray, rows: slice) -> np.ndarray:
    """Return random numbers of 16 bits, as many as samples of q take off the stack.

    What lies on top is the z of the batch before: without noise the next z would follow it, and
    be no sample of q where the codes are not spread as p(z) is.

    Args:
        std: σ in steps.
        rows: Of the batch.
    """
    drawn = hashlib.shake_128(b"%d:%d" % (rows.start, rows.stop)).digest(2 * _taken(std))
    return np.frombuffer(drawn, "<u2").astype(np.int32)


def _words(symbols: np.ndarray) -> Callable[[int], np.ndarray]:
    """Return n → n words that depend on every symbol, the first of them not 0."""
    seen = hashlib.shake_256(repr(symbols.shape).encode())
    seen.update(np.ascontiguousarray(symbols.astype(symbols.dtype.newbyteorder("<"))).data)

    def supply(n: int) -> np.ndarray:
        words = np.frombuffer(seen.digest(4 * n), "<u4").astype(np.uint32)
        words[:1] |= 1
        return words

    return supply


@cache
def _powers() -> np.ndarray:
    """Return the σ of one octave, the same on every machine."""
    of = [Decimal(share + MIDDLE) / _SHARES for share in range(_SHARES)]
    return np.array([float(Decimal(2) ** power) for power in of])


def _numpy(dtype: torch.dtype) -> Any:
    return torch.empty(0, dtype=dtype).numpy().dtype
