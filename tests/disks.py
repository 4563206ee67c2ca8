"""Runs that meet folders and disks which will not have them, for ``tests.test_disks``."""

import contextlib
import io
import json
import os
from pathlib import Path

from lightning.pytorch import Callback

from multibeta import costs
from multibeta.cli import main
from multibeta.curve import Curve
from tests.helpers import SMALL, dots, draw_nothing, newest

SMALLEST = [*SMALL, "--curve.betas=1", "--trainer.max_epochs=1"]


def said(*arguments):
    """Return the exit status, and what stands on stderr."""
    with (
        contextlib.redirect_stderr(io.StringIO()) as err,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        status = main([str(argument) for argument in arguments])
    return status, err.getvalue()


def fit(folder, *more):
    """Train in a folder."""
    return said("fit", *SMALLEST, f"--trainer.default_root_dir={folder}", *more)


def permissions(folder):
    """Yield what happens where permissions lack."""
    runs = folder / "runs"
    assert fit(runs)[0] == 0
    run = newest(runs)
    last = run / "checkpoints" / "last.ckpt"
    more = f"--ckpt_path={last}", "--trainer.max_epochs=2", "--trainer.accelerator=cpu"

    last.chmod(0)
    yield "a checkpoint that may not be read", *said("curve", last, "--betas=1")
    last.chmod(0o644)

    (run / "curve.json").chmod(0)
    yield "a curve that may not be read", *said("compare", run, run)
    (run / "curve.json").chmod(0o644)

    before = last.read_bytes()
    last.parent.chmod(0o555)
    yield "checkpoints/ that may not be written", *said("fit", *more)
    last.parent.chmod(0o755)
    assert last.read_bytes() == before

    run.chmod(0o555)
    yield "a run that may not be written", *said("fit", *more)
    yield "a curve that may not be written", *said("curve", run, "--betas=1", "--device=cpu")
    run.chmod(0o755)
    assert last.read_bytes() == before

    (folder / "closed").mkdir(mode=0o555)
    yield "a folder that may not be written", *fit(folder / "closed" / "runs")

    data = folder / "x.npy"
    data.write_bytes(b"")
    data.chmod(0)
    yield "data that may not be read", *fit(runs, "--data=NPZ", f"--data.root={data}")


def full(folder):
    """Yield what happens on a disk of some megabytes, of which ever less is free."""
    runs = folder / "runs"
    assert fit(runs)[0] == 0
    run = newest(runs)
    last = run / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    more = f"--ckpt_path={run}", "--trainer.max_epochs=2", "--trainer.accelerator=cpu"
    fill(folder, len(before))
    yield "full at the start", *said("fit", *more)
    (folder / "filler").unlink()
    assert last.read_bytes() == before
    callback = "--trainer.callbacks={class_path: tests.disks.Fill, init_args: {folder: %s}}"
    yield "full in the training", *said("fit", *more, callback % folder)
    (folder / "filler").unlink()
    assert last.read_bytes() == before
    assert said("fit", *more)[0] == 0, "it goes on where there is room again"


def fill(folder, but=0):
    """Leave only some bytes of a disk."""
    of = os.statvfs(folder)
    (folder / "filler").write_bytes(b"0" * (of.f_bavail * of.f_frsize - but))


class Fill(Callback):
    """Fills the disk when the training has begun."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_start(self, trainer, pl_module):
        fill(Path(self.folder))


def tell(cases, folder):
    """Print what each case ended with, as JSON."""
    draw_nothing()
    Curve.draw_pictures, costs._PAIRS = dots, 2
    print(json.dumps(list({"permissions": permissions, "full": full}[cases](Path(folder)))))
