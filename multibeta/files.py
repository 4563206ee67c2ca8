"""Writing files so that a kill leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "check_readable",
    "check_writable",
    "lock",
    "remove_leftovers",
    "replacing",
    "temporary",
]

_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)(\.\w+)?")


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


def check_readable(path: str | os.PathLike[str]) -> None:
    """Find out that a file may not be read: what may not is neither missing nor damaged.

    Raises:
        OSError: If it may not.
    """
    if not os.access(path, os.R_OK) and os.path.exists(path):
        raise OSError(f"{path} may not be read: no permission; give it, or another file")


def temporary(path: Path) -> Path:
    """Return the name under which a file is written: hidden, of this machine and this process."""
    return path.with_name(f".{path.stem}.{_host()}-{os.getpid()}{path.suffix}")


def remove_leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove what processes of this machine were writing in a folder when they were killed.

    Returns:
        What was removed.
    """
    removed = []
    with contextlib.suppress(OSError):
        for path in Path(folder).iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if found and found["host"] == _host() and not _alive(int(found["pid"])):
                with contextlib.suppress(OSError):
                    path.unlink()
                    removed.append(path)
    return removed


def lock(folder: Path) -> int | None:
    """Hold a folder that no other process holds, and leave nothing in it.

    It is free again when the process ends, however it ends.

    Returns:
        A file descriptor to close; None if another process holds the folder.
    """
    held = os.open(folder, os.O_RDONLY)
    try:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    except (OSError, ImportError):  # a file system, or a system, that has no such locks
        pass
    return held


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


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
    written = temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield written
        os.replace(written, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                f"there is no space left in {path.parent} for {path.name}; earlier files are "
                "whole: make room, or give another folder"
            ) from error
        raise OSError(
            f"{path} cannot be written ({error.strerror or error}); give a folder that can"
        ) from error
    finally:
        written.unlink(missing_ok=True)
