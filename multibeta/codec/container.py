"""What stands before the bits of a file: which model, which β, how many examples, a checksum."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

__all__ = [
    "MOST",
    "Header",
    "Kind",
    "beta_at",
    "check_room",
    "cut",
    "index_of",
    "pack",
    "unpack",
    "verify",
]

Kind = Literal["lossy", "progressive", "lossless", "cut"]
"""What the bits are: means on a grid; the same in an order that can be cut; x itself; and the
first bits of a progressive file."""

MOST = 2**28
"""The largest number of examples in a file."""

_MAGIC = b"mB"
_VERSION = 2
_MIDDLE, _PER_E = 2048, 64  # β = e^((i − 2048)/64), 12 bits
_LEAST = 4  # bytes of the shortest header
_FREE, _PER_BYTE = 256, 128  # examples that need no bytes, and those of each byte


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        kind: What its bits are.
        beta_index: The number of β on the grid of files; see :func:`beta_at`.
        count: How many examples.
        fingerprint: The first bytes of the model's: 4; of one example 2, or none.
        length: How many bytes of bits follow; None where that is up to the end of the file.
        check: The checksum: 4 bytes; of one example 2.
        size: The length of the header in bytes.
    """

    kind: Kind
    beta_index: int
    count: int
    fingerprint: bytes
    length: int | None
    check: bytes
    size: int

    @property
    def beta(self) -> float:
        """β: of a progressive file, that of the last bits."""
        return beta_at(self.beta_index)

    @property
    def in_order(self) -> bool:
        """Whether its first bits are a file, too."""
        return self.kind in ("progressive", "cut")


def beta_at(index: int) -> float:
    """Return β number i of 4,096: exp((i − 2048)/64), from 1e-14 to 8e13 in steps of 1.6 %."""
    return math.exp((index - _MIDDLE) / _PER_E)


def index_of(beta: float, low: float, high: float) -> int:
    """Return the number of the β of files that is nearest to a β, and within a range.

    Args:
        beta: The β.
        low: The least that is allowed.
        high: The greatest; where it is the least, the nearest number is returned.

    Raises:
        ValueError: If β is outside the range, or no β of files is within it.
    """
    if not low * (1 - 1e-9) <= beta <= high * (1 + 1e-9):
        raise ValueError(
            f"β = {beta:g} is outside the trained range [{low:g}, {high:g}]; choose one within"
        )
    if low <= 0:
        raise ValueError("β = 0 has no place in a file: rate costs nothing there; choose another")
    least, most = (_PER_E * math.log(end) + _MIDDLE for end in (low, high))
    first, last = math.ceil(least - 1e-9), math.floor(most + 1e-9)
    if low == high:
        first = last = round(least)
    if not 0 <= first <= last < 2 * _MIDDLE:
        raise ValueError(
            f"the range [{low:g}, {high:g}] has no β that a file can name: those are from 1e-14 "
            "to 8e13, in steps of 1.6 %"
        )
    return min(max(round(_PER_E * math.log(beta) + _MIDDLE), first), last)


def pack(kind: Kind, beta_index: int, count: int, key: bytes, payload: bytes) -> bytes:
    """Return a file.

    One example has a short header: a set bit, three of the kind and twelve of β, then two bytes of
    checksum. Others begin with ``mB``, the version, and two bytes of kind and β; then four bytes
    of the fingerprint, the count, and four bytes of checksum. Numbers are in groups of 7 bits,
    the lowest first. The checksum is BLAKE2b of all other bytes, keyed by the model's fingerprint.

    Zeros are put after the bits where there would be less than a byte for each 128 examples: so no
    small file can say that it has many; see :func:`check_room`.

    In a progressive file the number of bytes that follow stands before the checksum, which has no
    key, so that the file can be cut without the model; one example has two bytes of fingerprint.

    Args:
        kind: What the bits are.
        beta_index: The number of β.
        count: How many examples.
        key: The model's fingerprint.
        payload: The bits.

    Raises:
        ValueError: If there are too many examples.
    """
    if not 0 <= count <= MOST:
        raise ValueError(f"{count:,} examples are too many for one file; at most {MOST:,}")
    short, in_order = count == 1, kind in ("progressive", "cut")
    size = (2 if in_order else 0) if short else 4
    if kind != "lossless":
        payload = payload.ljust(_room(count), b"\0")
    header = Header(
        kind, beta_index, count, key[:size], len(payload) if in_order else None, b"", 0
    )
    return _written(header, key, payload)


def unpack(data: bytes) -> Header:
    """Read a header; the checksum is not looked at, as it needs the model.

    Raises:
        ValueError: If it is no such file, its header is cut, it says more examples than its bits
            can tell of, or it is of another version.
    """
    if len(data) < _LEAST:
        raise ValueError(f"the file has {len(data)} bytes: it is cut, or none of multibeta")
    short, at = bool(data[0] & 0x80), 0
    if not short:
        if data[:2] != _MAGIC:
            raise ValueError("this is no file of multibeta compress: it begins otherwise")
        if data[2] != _VERSION:
            older = "make the file anew" if data[2] < _VERSION else "update multibeta"
            raise ValueError(
                f"the file has version {data[2]}, and this multibeta reads {_VERSION}: {older}, "
                "unless the file is damaged"
            )
        at = 3
    word, at = int.from_bytes(data[at : at + 2], "big"), at + 2
    number = word >> 12 & (7 if short else 15)
    if number >= len(get_args(Kind)):
        raise ValueError(f"the file is of kind {number}, unknown here: it is damaged, or newer")
    kind: Kind = get_args(Kind)[number]
    in_order = kind in ("progressive", "cut")
    size = (2 if in_order else 0) if short else 4
    fingerprint, at = data[at : at + size], at + size
    count, at = (1, at) if short else _read_number(data, at)
    if count > MOST or (count == 1 and not short):
        wrong = "which have another header" if count == 1 else "too many"
        raise ValueError(f"the file says {count:,} examples, {wrong}: it is damaged")
    length, at = _read_number(data, at) if in_order else (None, at)
    check, at = data[at : at + (2 if short else 4)], at + (2 if short else 4)
    if len(data) < at:
        raise ValueError("the file is cut within its header; nothing can be read")
    if kind != "lossless":
        check_room(count, len(data) - at)
    return Header(kind, word & 0xFFF, count, fingerprint, length, check, at)


def verify(header: Header, data: bytes, key: bytes) -> tuple[bytes, str]:
    """Return the bits of a file that is whole and of this model.

    Returns:
        The bits; and what to say where a progressive file ends early: its bits are good for less,
        but no checksum can say that they are sound.

    Raises:
        ValueError: If it is damaged, cut where it must not be, or of another model.
    """
    if not key.startswith(header.fingerprint):
        raise ValueError(
            f"the file was made by another model, of fingerprint {header.fingerprint.hex()}; this "
            f"one has {key[: len(header.fingerprint)].hex()}: give the model that made it, "
            "and the labels that it was given"
        )
    payload = data[header.size :]
    if header.length is not None and len(payload) < header.length:
        lacks = f"the file ends after {len(data):,} of {header.size + header.length:,} bytes"
        return payload, f"{lacks}: what is there is decoded, and could not be checked"
    if _check(header, data[: header.size - len(header.check)], payload, key) != header.check:
        raise ValueError("the file is damaged, cut, or of another model: its checksum differs")
    return payload, ""


def check_room(count: int, length: int) -> None:
    """Refuse a file that says more examples than its bits can tell of.

    Each 128 examples, but for the first 256, need one byte: 1/16 bit each.

    Args:
        count: How many examples.
        length: How many bytes of bits.

    Raises:
        ValueError: If there are fewer.
    """
    if length < _room(count):
        raise ValueError(
            f"{length:,} bytes of bits are too few for {count:,} examples, which need "
            f"{_room(count):,} at least: the file is damaged, or cut too short"
        )


def cut(data: bytes, size: int) -> bytes:
    """Return a shorter progressive file, without the model.

    Args:
        data: A progressive file, or one that was cut before.
        size: How many bytes it may have.

    Raises:
        ValueError: If it is another file, damaged, or the size has no room for the header.
    """
    header = unpack(data)
    if not header.in_order:
        raise ValueError(
            f"the file is {header.kind}, and only progressive ones can be cut: multibeta compress "
            "--progressive"
        )
    payload, _ = verify(header, data, header.fingerprint)
    room = size - header.size  # a smaller length needs no more bytes
    if room < 0:
        raise ValueError(f"{size} bytes have no room for the header of {header.size}; give more")
    if room >= len(payload) == header.length:
        return data
    short = payload[:room]
    check_room(header.count, len(short))
    return _written(replace(header, kind="cut", length=len(short)), header.fingerprint, short)


def _written(header: Header, key: bytes, payload: bytes) -> bytes:
    """Return a header, its checksum made anew, and the bits."""
    short = header.count == 1
    word = get_args(Kind).index(header.kind) << 12 | header.beta_index | short << 15
    head = word.to_bytes(2, "big") + header.fingerprint
    if not short:
        head = _MAGIC + bytes([_VERSION]) + head + _number(header.count)
    if header.length is not None:
        head += _number(header.length)
    header = replace(header, check=bytes(2 if short else 4))
    return head + _check(header, head, payload, key) + payload


def _room(count: int) -> int:
    """Return how many bytes of bits a number of examples has at least."""
    return -(-max(0, count - _FREE) // _PER_BYTE)


def _check(header: Header, head: bytes, payload: bytes, key: bytes) -> bytes:
    """Return the checksum of a file."""
    key = b"" if header.in_order else key
    return hashlib.blake2b(head + payload, digest_size=len(header.check), key=key).digest()


def _number(value: int) -> bytes:
    """Return a whole number in groups of 7 bits, the lowest first (LEB128)."""
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of at most 35 bits and the place after it."""
    value = 0
    for shift, group in enumerate(data[at : at + 5]):
        value |= (group & 0x7F) << 7 * shift
        if not group & 0x80:
            return value, at + shift + 1
    raise ValueError("the file is cut or damaged: its header cannot be read")
