"""Writing files so that a kill leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["check_writable", "replacing"]


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Find out, before the work and without making anything, that a folder cannot be written.

    Raises:
        OSError: If it is not a folder, or it or the folder to make it in cannot be written.
    """
    there = Path(folder).absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise OSError(f"{folder} cannot be made: {there} is not a folder; give another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OSError(f"{folder} cannot be written: no permission in {there}; give another")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write, and rename it on success.

    Args:
        path: The file to make or replace; its folder is made if missing.

    Yields:
        The temporary path, with the same suffix. On any error it is removed.

    Raises:
        OSError: If the folder cannot be made or written.
    """
    path = Path(path)
    check_writable(path.parent)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror or error}); give a folder that can"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
