"""Objects as plain values: a class path and its arguments, for checkpoints and configs."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeVar

import numpy as np

from multibeta.options import nearest

__all__ = [
    "build",
    "check_trusted",
    "class_of",
    "describe",
    "imported",
    "paths_in",
    "plain",
    "untrusted",
]

T = TypeVar("T")

_DATA = (
    "base", "binarized_mnist", "celeba", "cifar10", "digits", "fashion_mnist", "folder",
    "gaussian", "mnist", "npz", "omniglot", "sprites", "table",
)  # fmt: skip
_OURS = {
    *(
        f"multibeta.{name}"
        for name in "distortions likelihoods networks objectives principal_axes".split()
    ),
    *(f"multibeta.data.{name}" for name in _DATA),
}
"""The modules whose classes a file may name; importing them does nothing else."""


def describe(value: object) -> dict[str, Any]:
    """Describe an object by its class path and constructor arguments.

    Args:
        value: An object that keeps each constructor argument as an attribute of the same name.

    Returns:
        ``{"class_path": …, "init_args": {…}}``, plain values only.

    Raises:
        TypeError: If an argument is not kept, or is not a plain value.
    """
    cls = type(value)
    path = f"{cls.__module__}.{cls.__qualname__}"
    init_args = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(value, name):
            raise TypeError(f"{path} does not keep its argument {name} as an attribute")
        init_args[name] = plain(getattr(value, name), f"{path}.{name}")
    return {"class_path": path, "init_args": init_args}


def build(spec: str | dict[str, Any], base: type[T], **given: object) -> T:
    """Build the object that a class path, or the result of :func:`describe`, stands for.

    Only a subclass of ``base`` is called: a checkpoint cannot name any other function.

    Args:
        spec: ``"package.module.Class"`` or ``{"class_path": …, "init_args": {…}}``.
        base: What the class must be.
        given: Further constructor arguments.

    Raises:
        ValueError: If the class cannot be found, is not a ``base``, or refuses the arguments.
    """
    if isinstance(spec, str):
        spec = {"class_path": spec}
    path, init_args = spec.get("class_path"), spec.get("init_args") or {}
    cls, name = class_of(str(path), base), str(path).rpartition(".")[2]
    known = inspect.signature(cls).parameters
    if unknown := [name for name in init_args if name not in known]:
        raise ValueError(
            f"{name} has no argument {unknown[0]}{nearest(unknown[0], known)}; it has "
            f"{', '.join(known)}"
        )
    try:
        inspect.signature(cls).bind(**init_args, **given)
    except TypeError as error:
        raise ValueError(f"{path} does not take these arguments: {error}") from None
    return cls(**init_args, **given)


def imported(path: str) -> Any:
    """Return what a class path stands for: a class or a function.

    Raises:
        ValueError: If it cannot be found.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"class path {path} cannot be imported ({error}); write package.module.Class of "
            "something installed or in the current folder"
        ) from None


def class_of(path: str, base: type[T]) -> type[T]:
    """Return the class that a class path stands for.

    Raises:
        ValueError: If it cannot be found or is not a ``base``.
    """
    cls = imported(path)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ValueError(f"class path {path} is not a {base.__name__}")
    return cls


def paths_in(content: Any) -> Iterator[str]:
    """Yield the class paths, and the paths of functions, in plain values."""
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, str):
                if key == "class_path" or (key in ("encoder", "decoder", "fn") and "." in value):
                    yield value
            elif key != "classes":  # names for messages
                yield from paths_in(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from paths_in(value)


def untrusted(content: Any, allow: Iterable[str] = ()) -> list[str]:
    """Return the class paths in plain values that are neither ours nor allowed.

    Args:
        content: What a file holds. Nothing in it is imported.
        allow: Modules that may be named, with all that is in them.
    """
    found = []
    for path in paths_in(content):
        module = path.rpartition(".")[0]
        ours = module in _OURS or f"{module}.".startswith("torch.optim.")
        if not ours and not any(f"{module}.".startswith(f"{name}.") for name in allow):
            found.append(path)
    return found


def check_trusted(content: Any, allow: Iterable[str], where: object) -> None:
    """Refuse a file that names code which is neither ours nor allowed, before it is imported.

    Raises:
        ValueError: If it does.
    """
    if paths := untrusted(content, allow):
        modules = dict.fromkeys(path.partition(".")[0] for path in paths)
        raise ValueError(
            f"{where} names {paths[0]}, code that is not multibeta's, and was not imported; if "
            f"you trust it, pass allow={','.join(modules)!r}"
        )


def plain(value: object, name: str) -> object:
    """Return a value as plain values: numbers, text, lists and dicts.

    Raises:
        TypeError: If it is something else; ``name`` says what.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(item, name) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item, name) for key, item in value.items()}
    raise TypeError(f"{name} is a {type(value).__name__}, not a plain value")
