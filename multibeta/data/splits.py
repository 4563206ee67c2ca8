"""Training, validation and test sets: their names in files and folders, and drawing them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

__all__ = ["NAMES", "SPLITS", "check_fractions", "label_of", "named_sets", "split_rows"]

SPLITS = ("train", "val", "test")

NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_X = {"x", "image", "images", "img", "imgs", "data", "input", "inputs", "features", "samples"}
FRACTION = 0.1


def named_sets(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Find the sets among names, such as ``train``, ``x_valid``, ``Test_images`` in any case.

    Args:
        names: Those of arrays or folders.

    Returns:
        "train", "val", "test" → name; and the names that belong to a set and are not its examples:
        ``y_train``, ``test_labels``.

    Raises:
        ValueError: If two could be the same set.
    """
    found: dict[str, list[str]] = {}
    others = []
    for name in names:
        parts = [part for part in re.split(r"[\W_]+", name.lower()) if part]
        of = [NAMES[part] for part in parts if part in NAMES]
        if len(of) != 1:
            continue
        if set(parts) - set(NAMES) <= _X:
            found.setdefault(of[0], []).append(name)
        else:
            others.append(name)
    for split, of_split in found.items():
        exact = [name for name in of_split if name.lower() in NAMES]
        if len(of_split) > 1 and len(exact) != 1:
            raise ValueError(
                f"{' and '.join(of_split)} could both be the {split} set; rename one of them"
            )
        found[split] = exact if len(of_split) > 1 else of_split
    return {split: found[split][0] for split in SPLITS if split in found}, others


def label_of(name: str, split: str | None) -> str | None:
    """Return what an array says of the examples of a set: ``labels`` of ``train_labels``.

    Args:
        name: The array's.
        split: The set; None where there is one, and the name is all.

    Returns:
        The name without that of the set; None if it is of another set, or of none.
    """
    if split is None:
        return name
    parts = [part for part in re.split(r"[\W_]+", name) if part]
    of = [NAMES[part.lower()] for part in parts if part.lower() in NAMES]
    rest = [part for part in parts if part.lower() not in NAMES]
    return "_".join(rest) if of == [split] and rest else None


def check_fractions(val: float | None, test: float | None) -> None:
    """Refuse parts that leave nothing to train on.

    Raises:
        ValueError: If they are below 0, or together 1 or more.
    """
    for name, value in {"val": val, "test": test}.items():
        if value is not None and not 0 <= value < 1:
            raise ValueError(f"data.{name}_fraction={value:g} is outside [0, 1)")
    if (val or 0) + (test or 0) >= 1:
        raise ValueError(
            f"data.val_fraction={val:g} and data.test_fraction={test:g} leave nothing to train on"
        )


def split_rows(
    sizes: dict[str, int],
    where: str,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
) -> tuple[dict[str, tuple[str, np.ndarray | None]], str]:
    """Decide which examples are for training, validation and testing.

    A set that is not there is a part of the training set, drawn by a fixed seed: a tenth unless a
    fraction says otherwise, none where it is 0. Only where there is a validation set and no test
    set somebody has to say what is to be measured.

    Args:
        sizes: The number of examples of each set; "train" alone is one set to be split.
        where: What they are of, for messages.
        val_fraction: The part of the training set that is for validation.
        test_fraction: The part that is for testing.

    Returns:
        Set → (the set it is taken from, ascending row numbers, or None for all); and a note.

    Raises:
        ValueError: If there are too few examples, or it is not clear what to test on.
    """
    if "train" not in sizes:
        listed = ", ".join(sizes)
        raise ValueError(f"{where} has {listed} and no training set; name one of them train")
    if "val" in sizes and "test" not in sizes and test_fraction is None:
        raise ValueError(
            f"{where} has a training and a validation set and no test set: data.test_fraction 0 "
            "measures the validation set, 0.1 takes a tenth of the training set for testing"
        )
    given = {"val": val_fraction, "test": test_fraction}
    for split, fraction in given.items():
        if split in sizes and fraction:
            raise ValueError(
                f"data.{split}_fraction={fraction:g} is given, and {where} has a {split} set; "
                "leave it out"
            )
    count = sizes["train"]
    wanted = {
        split: FRACTION if fraction is None else fraction
        for split, fraction in given.items()
        if split not in sizes
    }
    held_out = {k: max(1, _part(count, part)) if part else 0 for k, part in wanted.items()}
    if sum(held_out.values()) >= count:
        found = "1 example" if count == 1 else f"{count} examples"
        raise ValueError(
            f"{where} holds {found}; at least {1 + sum(held_out.values())} are needed to make a "
            f"training set and {' and '.join(f'a {k}' for k, n in held_out.items() if n)} set"
        )
    order = np.random.default_rng(0).permutation(count)
    rows: dict[str, tuple[str, np.ndarray | None]] = {split: (split, None) for split in sizes}
    start = 0
    for split, n in held_out.items():
        if n:
            rows[split] = ("train", np.sort(order[start : start + n]))
        start += n
    if start:
        rows["train"] = ("train", np.sort(order[start:]))
    parts = [f"{part:.3g} of train, at random, for {k}" for k, part in wanted.items() if part]
    missing = [f"no {split} set" for split, n in held_out.items() if not n]
    return {k: rows[k] for k in SPLITS if k in rows}, ", ".join([*parts, *missing])


def _part(count: int, fraction: float) -> int:
    return count // 10 if fraction == FRACTION else int(count * fraction)
