"""What is said when something fails: the one place that decides whose fault it is."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import sysconfig
import tempfile
import traceback
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

__all__ = ["Fault", "fault_of"]

_ROOT = Path(__file__).parent
_LIBRARIES = tuple(
    {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
)
_MISTAKES = (ValueError, OSError, FloatingPointError, NotImplementedError)


class Fault(NamedTuple):
    """What to say, and the exit status.

    Attributes:
        line: One line.
        status: 2 after a mistake of the user's, or in the user's code; 1 after one of ours.
    """

    line: str
    status: int


def fault_of(error: BaseException) -> Fault:
    """Return what to say of an error.

    Errors of our own are mistakes of the user's, and say what was given, what is allowed and the
    cure. Others may come from the user's code, from a library that did not like a setting, or be
    faults of multibeta: then the whole trace goes to a file.
    """
    said = _one_line(error)
    kind = type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in said or "can't allocate" in said:
        return Fault(f"not enough memory ({said}); a smaller data.batch_size or model helps", 2)
    if re.search(r"gloo|NCCL|Connection (closed|reset) by peer|DistBackend", f"{kind} {said}"):
        return Fault(
            f"another process of the run has died or cannot be reached ({said[:120]}); the "
            "checkpoints are whole: go on with multibeta fit --ckpt_path RUN", 2,
        )  # fmt: skip
    if isinstance(error, ImportError):
        return Fault(said if "install" in said else f"{said}; install it", 2)
    whose, frame = _whose(error.__traceback__)
    if "in DataLoader worker" in said:
        return Fault(_of_worker(error), 2)
    if isinstance(error, _MISTAKES) and whose != "theirs":
        return Fault(said, 2)
    if whose == "theirs" and frame is not None:
        return Fault(f"{frame.filename}, line {frame.lineno}: {kind}: {said}", 2)
    if kind == "MisconfigurationException" or whose == "a setting":
        return Fault(f"{said or kind}; Lightning does not take this setting", 2)
    import multibeta

    ours = f"a fault of multibeta {multibeta.__version__}: please report it, with "
    return Fault(f"{ours}{_written(error)} ({kind}: {said[:200]})", 1)


def _whose(trace: TracebackType | None) -> tuple[str, traceback.FrameSummary | None]:
    """Return where an error comes from: our code, theirs (the user's), or a setting."""
    frames = traceback.extract_tb(trace)
    for index, frame in reversed([*enumerate(frames)]):
        path = os.path.realpath(frame.filename)
        if Path(path).is_relative_to(_ROOT):
            by_lightning = any("lightning" in after.filename for after in frames[index + 1 :])
            return "a setting" if by_lightning else "ours", frame
        if not path.startswith(_LIBRARIES) and not frame.filename.startswith("<"):
            return "theirs", frame
    return "ours", None


def _of_worker(error: BaseException) -> str:
    """Return what a worker of a DataLoader has said: the last line of its trace, and where."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    places = [line for line in lines if line.startswith("File ")]
    where = re.match(r'File "(.*)", line (\d+)', places[-1]) if places else None
    return f"{f'{where[1]}, line {where[2]}: ' if where else ''}{lines[-1]}"


def _written(error: BaseException) -> str:
    """Write the whole trace to a file; return its path, or the reason why there is none."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):
        handle, path = tempfile.mkstemp(".txt", f"multibeta-{stamp}-")
        with os.fdopen(handle, "w") as file:
            file.write(text)
        return path
    return "what --traceback shows"


def _one_line(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"there is no {error}"
    return re.sub(r"\s*\n\s*", "; ", str(error).strip())
