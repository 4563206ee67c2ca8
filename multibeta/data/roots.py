"""Where data sets are read from, where caches go, and torchvision's readers with clear errors."""

__all__ = ["cache_dir", "find_root", "torchvision_set"]

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def cache_dir() -> Path:
    """The folder of everything that can be made again; it need not exist.

    It is the environment variable `MULTIBETA_CACHE`, else `XDG_CACHE_HOME`/multibeta, else
    ~/.cache/multibeta.
    """
    if given := os.environ.get("MULTIBETA_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "multibeta"


def find_root(root: str | None, needs: str, may_be_empty: bool = False) -> Path:
    """The folder to read a data set from.

    Args:
        root: The folder that the user gave. None means the environment variable
            `MULTIBETA_DATA`, else the folder data in the cache folder, which need not exist.
        needs: What the data set needs in it and how to get it: the end of the error message.
        may_be_empty: Whether a download can fill the folder.

    Raises:
        FileNotFoundError: If a folder that was given does not exist, is not a folder or is empty.
    """
    name, given = "data.root", root
    if given is None:
        name, given = "MULTIBETA_DATA", os.environ.get("MULTIBETA_DATA")
    if given is None:
        return cache_dir() / "data"
    folder = Path(given).expanduser()
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
    elif not may_be_empty and not any(folder.iterdir()):
        problem = "is empty"
    else:
        return folder
    raise FileNotFoundError(f"{name}={given!r} {problem}; {needs}")


def torchvision_set(
    reader: Callable[..., T], root: str | None, download: bool, needs: str, **options: bool
) -> T:
    """One of torchvision's data sets, downloaded only if it is not there and `download` says so.

    Args:
        reader: The class in `torchvision.datasets`.
        root: As in `find_root`.
        download: Whether torchvision may download.
        needs: As in `find_root`.
        options: Further arguments of the class.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: If the files are not there and `download` is False.
        OSError: If the download failed, or the files are there and cannot be read.
    """
    name = getattr(reader, "__name__", "the data set")
    folder = find_root(root, needs, may_be_empty=download)
    try:
        return reader(str(folder), download=False, **options)
    except (RuntimeError, ValueError, AssertionError, EOFError, IndexError) as error:
        # torchvision checks that unpacked files exist, not that they are whole
        if "not found" not in str(error):
            raise OSError(
                f"the files of {name} in {str(folder)!r} cannot be read ({_line(error)}); delete"
                f" them; {needs}"
            ) from error
    if not download:
        raise FileNotFoundError(f"{name} is not in {str(folder)!r}; {needs}")
    print(f"Downloading {name} to {folder}", file=sys.stderr)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            return reader(str(folder), download=True, **options)
    except (RuntimeError, OSError) as error:  # a URLError is an OSError
        raise OSError(f"{name} could not be downloaded ({_line(error)}); {needs}") from error


def _line(error: Exception) -> str:
    """The message of an error, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
