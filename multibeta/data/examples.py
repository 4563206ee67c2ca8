"""What is in a batch: where the examples are in it, and their numbers as a model takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "LABELS",
    "Examples",
    "Layout",
    "channels_first",
    "found",
    "labels_in",
    "on",
    "read",
    "rows_of",
    "tensor_of",
]

Layout = Literal["NCHW", "NHWC"]
"""Where the channels are: after the number of the example, or last; of any number of axes."""

KEYS = ("x", "image", "images", "img", "data", "pixel_values", "input_values", "inputs")
"""What a batch that is a dict calls its examples, the first that is there."""


LABELS = ("label", "labels", "y", "target", "targets", "class", "index", "idx", "id", "factors")
"""Names of entries that nobody expects a VAE to take."""


class Examples(NamedTuple):
    """The examples of a batch.

    Attributes:
        x: (B, *shape), floating point.
        inputs: What a dict has beside x: further inputs, by name.
    """

    x: Tensor
    inputs: dict[str, Any]


def read(
    batch: Any,
    shape: tuple[int, ...] | None = None,
    *,
    key: str | None = None,
    layout: Layout | None = None,
    counts: bool = False,
    dtype: torch.dtype | None = None,
    careful: bool = False,
) -> Examples:
    """Find the examples in a batch, and return them as floating point.

    Args:
        batch: x (B, *shape), a tensor or an array; a tuple or list with x first, or with one entry
            alone that has the shape; a dict with x under one of :data:`KEYS`, or with one entry
            alone that has the shape.
        shape: That of an example; None where it is not known.
        key: The entry of a dict.
        layout: NHWC where the channels come last; they are moved to the front.
        counts: Whether x is of whole numbers: counts or classes.
        dtype: What x is cast to; by default a floating point type is left, others become torch's
            default.
        careful: Look at the numbers too: refuse 8-bit numbers that are only 0 and 1.

    Returns:
        x: bool as 0 and 1; uint8 of 0 to 255 as 0 to 1, where it is not counts; of whole numbers
        the values. Other whole numbers that are no counts are refused: nobody knows their range.

    Raises:
        ValueError: If x is not found, or its type is none that a model takes.
    """
    raw, inputs = found(batch, shape, key, layout)
    x = _cast(raw, counts, careful)
    if layout == "NHWC":
        x = channels_first(x)
    return Examples(x if dtype is None else x.to(dtype), inputs)


def labels_in(batch: Any, n: int) -> dict[str, np.ndarray]:
    """Return what a batch says of its examples beside x: numbers or words, one for each.

    Args:
        batch: As in :func:`read`.
        n: Its number of examples.

    Returns:
        Name → (n,): of a dict the entries' names; of a tuple ``label``, or ``label_1``, and so on.
    """
    if isinstance(batch, Mapping):
        entries = dict(batch)
    elif isinstance(batch, Sequence) and not isinstance(batch, str | bytes):
        others = [entry for entry in batch if getattr(entry, "ndim", 1) == 1]
        names = ["label"] if len(others) == 1 else [f"label_{i + 1}" for i in range(len(others))]
        entries = dict(zip(names, others, strict=True))
    else:
        return {}
    found = {}
    for name, entry in entries.items():
        if isinstance(entry, Tensor):
            entry = entry.detach().cpu().numpy()
        if isinstance(entry, np.ndarray | list | tuple):
            values = np.asarray(entry)
            if values.shape == (n,) and values.dtype.kind in "biufU":
                found[str(name)] = values
    return found


def on(inputs: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return further inputs on a device."""
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in inputs.items()}


def rows_of(inputs: Mapping[str, Any], rows: slice | Tensor, count: int) -> dict[str, Any]:
    """Return some rows of further inputs; what has one row has it for all.

    Args:
        inputs: By name; what is no tensor, or has no rows, is left as it is.
        rows: Which: a slice, or numbers.
        count: How many examples there are.

    Raises:
        ValueError: If an input has neither one row nor as many as there are examples.
    """
    found, n = {}, len(torch.arange(count)[rows])
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.ndim:
            if len(value) not in (1, count):
                raise ValueError(
                    f"{name} has {len(value):,} rows, and there are {count:,} examples; give one "
                    "for each, or one for all"
                )
            if len(value) == count:
                value = value[rows if isinstance(rows, slice) else rows.to(value.device)]
            else:
                value = value.expand(n, *value.shape[1:])
        found[name] = value
    return found


def tensor_of(array: Any) -> Tensor:
    """Return an array as a tensor that may be written to.

    Raises:
        ValueError: If it is not of numbers.
    """
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        array = array.copy()
    try:
        return torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError):
        kind = getattr(array, "dtype", type(array).__name__)
        raise ValueError(f"x is of the type {kind}, which is no number; give floats") from None


def channels_first(x: Tensor) -> Tensor:
    """Return examples (B, …, C) as (B, C, …)."""
    return x.movedim(-1, 1).contiguous() if x.ndim > 2 else x


def found(
    batch: Any,
    shape: tuple[int, ...] | None = None,
    key: str | None = None,
    layout: Layout | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Return the examples of a batch, as they are, and its further inputs: see :func:`read`."""
    if shape and layout == "NHWC":
        shape = (*shape[1:], shape[0])
    if isinstance(batch, Mapping):
        name = _key(batch, shape, key)
        return tensor_of(batch[name]), {k: v for k, v in batch.items() if k != name}
    if isinstance(batch, Tensor | np.ndarray):
        return tensor_of(batch), {}
    if isinstance(batch, Sequence) and not isinstance(batch, str | bytes):
        entries = [entry for entry in batch if isinstance(entry, Tensor | np.ndarray)]
        if entries and isinstance(batch[0], Tensor | np.ndarray):
            return tensor_of(_of_several(entries, shape)), {}
        if len(fits := [entry for entry in entries if _fits(entry, shape)]) == 1:
            return tensor_of(fits[0]), {}
    kinds = ", ".join(type(v).__name__ for v in batch) if isinstance(batch, tuple | list) else ""
    raise ValueError(
        f"a batch is a {type(batch).__name__}{f' of {kinds}' if kinds else ''}; give tensors or "
        "arrays (B, …), tuples that begin with them, or dicts"
    )


def _of_several(entries: list[Any], shape: tuple[int, ...] | None) -> Any:
    """Return x of a tuple: the first entry, or the only one of the shape."""
    if _fits(entries[0], shape):
        return entries[0]
    fits = [entry for entry in entries if _fits(entry, shape)]
    return fits[0] if len(fits) == 1 else entries[0]


def _fits(entry: Any, shape: tuple[int, ...] | None) -> bool:
    """Whether an entry could be x: by its shape; where that is not known, by not being a label."""
    if not isinstance(entry, Tensor | np.ndarray):
        return False
    return entry.ndim > 1 if not shape else tuple(entry.shape[1:]) == tuple(shape)


def _key(batch: Mapping[str, Any], shape: tuple[int, ...] | None, key: str | None) -> str:
    """Return the name of x in a dict."""
    if key is not None:
        if key not in batch:
            raise ValueError(f"a batch has no entry {key!r}; it has {_listed(batch)}")
        return key
    named = [name for name in KEYS if name in batch]
    fits = [name for name, entry in batch.items() if _fits(entry, shape)]
    for names in ([n for n in named if n in fits], named, fits if len(fits) == 1 else []):
        if names:
            return names[0]
    raise ValueError(
        f"a batch has {_listed(batch)}, and which of it is x is not clear; give "
        "multibeta.data.Door(data, key=NAME), or call it x"
    )


def _listed(batch: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {tuple(v.shape)}" if isinstance(v, Tensor | np.ndarray) else str(name)
        for name, v in batch.items()
    )


def _cast(x: Tensor, counts: bool, careful: bool) -> Tensor:
    default = torch.get_default_dtype()
    if x.is_floating_point():
        return x
    if x.dtype == torch.bool:
        return x.to(default)
    if x.is_complex():
        raise ValueError(
            f"x is of the type {x.dtype}, and a VAE takes real numbers; give real and imaginary "
            "parts as channels: torch.view_as_real"
        )
    if x.dtype != torch.uint8:
        if counts:
            return x.to(default)
        raise ValueError(
            f"x holds whole numbers of the type {str(x.dtype).removeprefix('torch.')}, whose "
            "range is not known; give 8-bit pictures as uint8, others as floats, or choose a "
            "likelihood of counts, such as Poisson or NegativeBinomial"
        )
    if counts:
        binary = bool(((x == 0) | (x == 255)).all())
        return (x // 255 if binary else x).to(default)
    if careful and x.numel() and int(x.max()) == 1:
        raise ValueError(
            "x is uint8 with 0 and 1 alone, and of uint8 0 to 255 are read as 0 to 1; give it as "
            "bool or float"
        )
    return x.to(default).div_(255)
