"""Streams of symbols with whole-number weights, by constriction's range coder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from multibeta.codec.tables import TOTAL

__all__ = ["Reader", "Writer", "coder", "readable", "shortest"]

_SHORT = 256  # bytes: of a shorter file it is tried whether fewer do
_LAST = 9  # bytes that the coder's last words can have
_CHUNK = 16  # bits that are equally probable are coded so many at a time


def coder() -> Any:
    """Return ``constriction.stream``.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        from constriction import stream
    except ImportError:
        raise ValueError("this needs constriction: pip install 'multibeta[codec]'") from None
    return stream


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Turn what the coder says of a damaged stream, be it a panic, into one line.

    Raises:
        ValueError: If it says so.
    """
    try:
        yield
    except (AssertionError, ValueError) as error:
        raise ValueError(f"the file is damaged: its bits cannot be read ({error})") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError("the file is damaged: its bits cannot be read") from None


class Writer:
    """Writes symbols."""

    def __init__(self) -> None:
        self._stream = coder()
        self._range = self._stream.queue.RangeEncoder()

    def symbols(self, symbols: np.ndarray, weights: np.ndarray) -> None:
        """Write symbols (M,) with weights (size,), or of each (M, size), ``TOTAL`` together."""
        if len(symbols):
            self._range.encode(symbols.astype(np.int32), *_model(self._stream, weights))

    def bits(self, values: np.ndarray, width: int) -> None:
        """Write numbers from 0 to 2^width − 1, all equally probable: (M,)."""
        for at in range(0, width, _CHUNK):
            size = min(_CHUNK, width - at)
            part = (values >> at & (2**size - 1)).astype(np.int32)
            if len(part):
                self._range.encode(part, self._stream.model.Uniform(2**size))

    def naturals(self, values: np.ndarray) -> None:
        """Write numbers from 0 up by Elias' gamma code: (M,)."""
        for value in values.tolist():
            length = (value + 1).bit_length()
            unary = np.array([1] * (length - 1) + [0])
            self.bits(unary, 1)
            self.bits(np.array([value + 1 - (1 << (length - 1))]), length - 1)

    def payload(self) -> bytes:
        """Return all that was written; zeros at its end are left out."""
        return self._range.get_compressed().astype(">u4").tobytes().rstrip(b"\0")


class Reader:
    """Reads what :class:`Writer` wrote.

    Args:
        payload: The bytes, of which some may be missing at the end.
        fill: What stands for those that are missing.
    """

    def __init__(self, payload: bytes, fill: int = 0) -> None:
        self._stream = coder()
        whole = payload + bytes([fill]) * (8 + -len(payload) % 4)
        words = np.frombuffer(whole, ">u4").astype(np.uint32)
        with readable():
            self._range = self._stream.queue.RangeDecoder(words)

    def symbols(self, count: int, weights: np.ndarray) -> np.ndarray:
        """Read symbols: (count,)."""
        if not count:
            return np.zeros(0, dtype=np.int64)
        with readable():
            size = [count] if weights.ndim == 1 else []
            found = self._range.decode(*_model(self._stream, weights), *size)
            return found.astype(np.int64)

    def some(self, count: int, weights: np.ndarray) -> np.ndarray:
        """Read symbols up to the first that cannot be read: at most (count,)."""
        before = self._range.clone()
        try:
            return self.symbols(count, weights)
        except ValueError:
            self._range = before
        found: list[int] = []
        with contextlib.suppress(ValueError):
            for n in range(count):
                of_it = weights if weights.ndim == 1 else weights[n : n + 1]
                found += self.symbols(1, of_it).tolist()
        return np.array(found, dtype=np.int64)

    def bits(self, count: int, width: int) -> np.ndarray:
        """Read numbers from 0 to 2^width − 1: (count,)."""
        values = np.zeros(count, dtype=np.int64)
        for at in range(0, width if count else 0, _CHUNK):
            model = self._stream.model.Uniform(2 ** min(_CHUNK, width - at))
            with readable():
                values |= self._range.decode(model, count).astype(np.int64) << at
        return values

    def naturals(self, count: int) -> np.ndarray:
        """Read numbers from 0 up.

        Raises:
            ValueError: If one has more than 62 bits: the stream is damaged.
        """
        found = []
        for _ in range(count):
            length = 1
            while self.bits(1, 1)[0]:
                length += 1
                if length > 62:
                    raise ValueError("the file is damaged: a number in it has no end")
            found.append((1 << (length - 1)) + int(self.bits(1, length - 1)[0]) - 1)
        return np.array(found, dtype=np.int64)


def shortest(payload: bytes, says: Callable[[bytes], bool]) -> bytes:
    """Return the shortest bytes that say the same: the coder's last words say more than is needed.

    Args:
        payload: All that was written.
        says: Whether bytes say the same; it may raise ValueError.
    """
    if len(payload) > _SHORT:
        return payload
    whole = int.from_bytes(payload, "big")
    for length in range(max(0, len(payload) - _LAST), len(payload)):
        cut = whole >> 8 * (len(payload) - length)
        for value in (cut, cut + 1):
            if value >> 8 * length == 0:
                with contextlib.suppress(ValueError):
                    if says(value.to_bytes(length, "big")):
                        return value.to_bytes(length, "big").rstrip(b"\0")
    return payload


def _model(stream: Any, weights: np.ndarray) -> tuple[Any, ...]:
    """Return the model of weights: whole numbers over 2²⁴ are exact in float64."""
    if weights.ndim == 1:
        return (stream.model.Categorical(weights / TOTAL, perfect=False),)
    return stream.model.Categorical(perfect=False), weights / TOTAL
