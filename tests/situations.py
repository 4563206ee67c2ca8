"""The catalogue: what users do, and what comes of it, the right figure or one line.

Each situation is a kind, a name, and a function of an empty folder that is the current one; the
function fails if what comes of it is neither. The suite tries every seventh, and
``python -m benchmarks.situations`` all of them.
"""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import multibeta
from multibeta.cli import main
from multibeta.data import NPZ, CelebA, Door, Folder
from multibeta.fitting import fit
from multibeta.likelihoods import Gaussian
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.scores import score
from tests import test_data_door, test_parts, test_resume
from tests.helpers import newest
from tests.loaders import KINDS, SHAPE, N, examples

RIGHT, REFUSED = "right figure", "one line"


@dataclass(frozen=True)
class Situation:
    """One of the catalogue.

    Attributes:
        kind: What it is about.
        name: What is done.
        verdict: What must come of it.
        act: Does it, in an empty current folder.
    """

    kind: str
    name: str
    verdict: str
    act: Callable[[Path], Any]


def model() -> MultiBetaVAE:
    """Return a model that was not trained."""
    torch.manual_seed(0)
    return MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(0.3)).eval()


@cache
def reference() -> Any:
    """Return the curve of the array."""
    return model().sweep(examples(), "0.01,1")


def near(found: float, wanted: float, part: float = 1e-5) -> None:
    """Fail if a figure is another."""
    assert abs(found - wanted) <= part * abs(wanted), (found, wanted)


def refused(run: Callable[[], Any], message: str = "") -> None:
    """Fail unless it is refused, in one line."""
    try:
        run()
    except (ValueError, OSError) as error:
        assert "\n" not in str(error).strip() and message in str(error), error
    else:
        raise AssertionError("it was not refused")


def command(*arguments: str, status: int = 0, message: str = "") -> str:
    """Run the command line; fail if its status or what it says is another. Return its output."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        found = main([*arguments])
    assert found == status, err.getvalue()[-2000:]
    assert "Traceback" not in err.getvalue() and message in err.getvalue() + out.getvalue()
    if status == 2:
        assert err.getvalue().strip().splitlines()[-1].startswith("multibeta: ")
    return out.getvalue()


# Containers ------------------------------------------------------------------------------------


def swept(kind: str, folder: Path) -> None:
    """A container is measured as the array is."""
    found = model().sweep(KINDS[kind](), "0.01,1")
    assert found.about["n"] == N
    assert found.about["fingerprint"] == reference().about["fingerprint"]
    for mine, wanted in zip(found.rows, reference().rows, strict=True):
        near(mine["rate_nats"], wanted["rate_nats"])


def scored(kind: str, folder: Path) -> None:
    """A container is told from other examples, and not from itself."""
    own = score(model(), KINDS[kind](), examples(), "1", examples=60, samples=2)
    near(own.rows[0]["auroc_distortion_nats"], 0.5, 0.2)


def trained(kind: str, folder: Path) -> None:
    """A container is trained on, and its units are kept."""
    data = KINDS[kind]()
    door = data if kind.startswith("datamodule") else Door(data, data, batch_size=64)
    run = fit(model(), door, epochs=1, betas="1", root=folder)
    kept = multibeta.load(run.folder).units
    assert kept is not None and run.curve is not None and run.curve.about["n"] == N
    near(kept.total[0], examples().mean().item(), 0.05)


def containers() -> list[Situation]:
    """Every container × sweep, score and fit."""
    acts = {"measured": swept, "scored": scored, "trained on": trained}
    return [
        Situation("container", f"{kind}, {what}", RIGHT, partial(act, kind))
        for what, act in acts.items()
        for kind in KINDS
    ]


def wrong_data() -> list[Situation]:
    """What is no data, or not the model's."""
    return [
        Situation("wrong data", f"{i}: {message[:60]}", REFUSED,
                  lambda _, data=data: refused(lambda: model().sweep(data, "1")))
        for i, (data, message) in enumerate(test_data_door.WRONG)
        if not isinstance(data, type(iter([])))
    ]  # fmt: skip


def batches() -> list[Situation]:
    """The forms of a batch."""

    def act(form: Any, _: Path) -> None:
        parts = [form(part) for part in examples().split(50)]
        found = model().sweep(parts, "0.01,1")
        assert found.about["fingerprint"] == reference().about["fingerprint"]

    return [
        Situation("form of a batch", str(i), RIGHT, partial(act, form))
        for i, form in enumerate(test_data_door.FORMS)
    ]


def units() -> list[Situation]:
    """Data in other units."""
    return [
        Situation(
            "units", f"{trained}, then {other}", REFUSED if verdict == "refused" else RIGHT,
            lambda _, case=(trained, other, verdict): test_data_door.test_other_units(*case),
        )
        for trained, other, verdict in test_data_door.UNITS
    ]  # fmt: skip


# Files -----------------------------------------------------------------------------------------

LAYOUTS: list[tuple[tuple[int, ...], str, dict[str, str], tuple[int, ...] | None]] = [
    ((6,), "f4", {}, (6,)), ((6,), "u1", {}, (6,)), ((6,), "u2", {}, (6,)),
    ((2, 40), "f4", {}, (2, 40)), ((16, 40), "f4", {}, (1, 16, 40)),
    ((8, 9), "u1", {}, (1, 8, 9)), ((8, 9), "?", {}, (1, 8, 9)),
    ((3, 20, 30), "f4", {}, (3, 20, 30)), ((64, 16, 16), "f4", {}, (64, 16, 16)),
    ((16, 16, 64), "f4", {}, None), ((28, 28, 1), "u1", {}, None), ((28, 20, 3), "u1", {}, None),
    ((28, 28, 1), "u1", {"layout": "NHWC"}, (1, 28, 28)),
    ((28, 20, 3), "f8", {"layout": "NHWC"}, (3, 28, 20)),
    ((140, 2), "f4", {"layout": "NHWC"}, (2, 140)),
    ((16, 16, 64), "f2", {"layout": "NCHW"}, (16, 16, 64)),
    ((1, 4, 5, 6), "f4", {}, (1, 4, 5, 6)), ((8, 8, 8, 2), "f4", {}, None),
    ((9,), "c8", {}, None), ((9,), "U3", {}, None), ((9,), "O", {}, None), ((), "f4", {}, None),
    ((0, 4), "f4", {}, None), ((8, 9), "f4", {"kind": "values"}, (8, 9)),
    ((8, 9), "f4", {"kind": "pictures"}, (1, 8, 9)), ((9,), "f4", {"kind": "pictures"}, None),
    ((8, 9), "f4", {"layout": "HWC"}, None), ((8, 9), "f4", {"key": "y"}, None),
]  # fmt: skip


def layouts() -> list[Situation]:
    """Arrays of every layout and type, in .npz and .npy."""

    def act(case: Any, suffix: str, folder: Path) -> None:
        shape, dtype, options, wanted = case
        x = (np.arange(30 * int(np.prod(shape))).reshape(30, *shape) % 200).astype(dtype)
        path = folder / f"x{suffix}"
        np.savez(path, x=x) if suffix == ".npz" else np.save(path, x)

        def load() -> NPZ:
            data = NPZ(root=str(path), **options)
            data.setup()
            return data

        if wanted is None:
            refused(load)
            return
        data = load()
        assert data.shape == wanted
        of = {name: len(part) for name, part in data.splits.items()}
        assert of == {"train": 24, "val": 3, "test": 3}

    return [
        Situation("layout", f"{suffix} {case[1]} {case[0]} {case[2] or ''}",
                  REFUSED if case[3] is None else RIGHT, partial(act, case, suffix))
        for case in LAYOUTS
        for suffix in (".npz", ".npy")
    ]  # fmt: skip


def sets() -> list[Situation]:
    """Sets by their names, and sets that are missing."""
    x = np.arange(180.0).reshape(30, 6)
    cases: dict[str, tuple[dict[str, Any], dict[str, Any], list[int] | None]] = {
        "train, val, test": ({"train": x, "val": x[:9], "test": x[:5]}, {}, [30, 9, 5]),
        "Keras": ({"x_train": x, "y_train": x[:, 0], "x_test": x[:5], "y_test": x[:5, 0]}, {},
                  [27, 3, 5]),
        "MedMNIST": ({"train_images": x, "val_images": x[:9], "test_images": x[:5],
                      "train_labels": x[:, :1]}, {}, [30, 9, 5]),
        "capitals": ({"TRAIN": x, "Valid": x[:9], "Test": x[:5]}, {}, [30, 9, 5]),
        "no test set": ({"train": x, "val": x[:9]}, {}, None),
        "measured on val": ({"train": x, "val": x[:9]}, {"test_fraction": 0}, [30, 9]),
        "no test set, a part": ({"train": x, "val": x[:9]}, {"test_fraction": 0.5}, [15, 9, 15]),
        "everything": ({"x": x}, {"test_fraction": 0, "val_fraction": 0}, [30]),
        "no training set": ({"val": x, "test": x}, {}, None),
        "two of a name": ({"x_train": x, "data_train": x, "test": x}, {}, None),
        "several arrays": ({"a": x, "b": x}, {}, None),
        "sizes that differ": ({"train": x, "test": x[:, :3]}, {}, None),
        "NaN": ({"x": np.where(x == 7, np.nan, x)}, {}, None),
    }  # fmt: skip

    def act(case: Any, folder: Path) -> None:
        arrays, options, wanted = case
        np.savez(folder / "x.npz", **arrays)
        data = NPZ(root=str(folder / "x.npz"), **options)
        if wanted is None:
            refused(data.setup)
            return
        data.setup()
        assert [len(part) for part in data.splits.values()] == wanted

    return [
        Situation("sets", name, REFUSED if case[2] is None else RIGHT, partial(act, case))
        for name, case in cases.items()
    ]


def pictures() -> list[Situation]:
    """Folders of pictures of every format, and files that are none."""
    suffixes = ["png", "jpg", "jpeg", "jfif", "bmp", "webp", "tif", "tiff", "gif", "pgm", "ppm"]

    def of_format(suffix: str, folder: Path) -> None:
        (folder / "p").mkdir()
        for i in range(12):
            of = "JPEG" if suffix == "jfif" else None
            Image.new("L", (9, 8), 20 * i).save(folder / "p" / f"{i}.{suffix}", of)
        (folder / "p" / "notes.txt").touch()
        data = Folder(root=str(folder / "p"), size=8, convert="L")
        data.setup()
        assert sum(map(len, data.splits.values())) == 12 and "1 .txt" in data.size_note
        levels = sorted(int(x.mean()) for part in data.splits.values() for x in part)
        np.testing.assert_allclose(levels, [20 * i for i in range(12)], atol=2)

    bad: dict[str, Callable[[Path], Any]] = {
        "text": lambda path: path.write_text("hello"),
        "nothing": lambda path: path.write_bytes(b""),
        "small": lambda path: Image.new("L", (3, 3)).save(path),
        "another mode": lambda path: Image.new("RGB", (9, 8)).save(path),
        "floats": lambda path: path.write_bytes(tiff_of_floats()),
        "cut off": lambda path: path.write_bytes(path.read_bytes()[:40]),
        "a folder that is empty": lambda path: [p.unlink() for p in path.parent.iterdir()],
        "two pictures": lambda path: [p.unlink() for p in [*path.parent.iterdir()][:10]],
    }

    def with_bad(spoil: Callable[[Path], Any], folder: Path) -> None:
        (folder / "p").mkdir()
        for i in range(12):
            Image.new("L", (9, 8), 20 * i).save(folder / "p" / f"{i}.png")
        spoil(folder / "p" / "3.png")
        refused(Folder(root=str(folder / "p"), size=8).setup)

    found = [Situation("pictures", of, RIGHT, partial(of_format, of)) for of in suffixes]
    found += [
        Situation("pictures", f"one is {of}", REFUSED, partial(with_bad, spoil))
        for of, spoil in bad.items()
    ]
    return [
        *found,
        Situation("pictures", "no such folder", REFUSED,
                  lambda folder: refused(Folder(root=str(folder / "x")).setup)),
        Situation("pictures", "no CelebA", REFUSED,
                  lambda folder: refused(CelebA(root=str(folder)).setup)),
    ]  # fmt: skip


def tiff_of_floats() -> bytes:
    """Return a picture of 32-bit floats."""
    file = io.BytesIO()
    Image.new("F", (9, 8), 0.5).save(file, "TIFF")
    return file.getvalue()


# Runs ------------------------------------------------------------------------------------------


def parts() -> list[Situation]:
    """Lightning's own parts."""

    def works(options: list[str], said: str, folder: Path) -> None:
        command(*test_parts.RUN, *options, message=said)

    def is_refused(options: list[str], message: str, folder: Path) -> None:
        command(*test_parts.RUN, *options, status=2, message=message)
        assert not [*folder.rglob("*.ckpt")]

    found = [
        Situation("trainer part", name, RIGHT, partial(works, *case))
        for name, case in test_parts.WORKS.items()
        if name != "device stats" or find_spec("psutil")
    ]
    return found + [
        Situation("trainer part", name, REFUSED, partial(is_refused, *case))
        for name, case in test_parts.REFUSED.items()
    ]


@cache
def run_of(root: Path) -> Path:
    """Return a run, trained once."""
    command("fit", *test_resume.RUN, f"--trainer.default_root_dir={root}")
    return newest(root)


def places(root: Path) -> list[Situation]:
    """Every verb × every place of a checkpoint."""
    first: dict[str, list[str]] = {}

    def act(verb: str, place: Any, folder: Path) -> None:
        path = place(run_of(root), folder)
        named = ["--ckpt_path", str(path)] if verb in test_parts_of_training else [str(path)]
        printed = [
            line for line in command(verb, *named, *test_resume.VERBS[verb]).splitlines()
            if "files:" not in line
        ]  # fmt: skip
        assert printed == first.setdefault(verb, printed)

    test_parts_of_training = ("validate", "test")
    found = [
        Situation("place of a checkpoint", f"{verb}, {place.__name__}", RIGHT,
                  partial(act, verb, place))
        for place in test_resume.PLACES
        for verb in ("validate", "test", "encode", "curve", "rate")
    ]  # fmt: skip
    wrong = {
        "no such file": ["curve", "nowhere.ckpt"], "a folder": ["curve", "."],
        "no run": ["validate", "--ckpt_path", "."], "no step left": ["fit", "--ckpt_path", "RUN"],
        "another sigma": ["validate", "--ckpt_path", "RUN", "--model.likelihood.sigma=1"],
        "another size": ["fit", "--ckpt_path", "RUN", "--model.latent_dim=5"],
        "β outside": ["curve", "RUN", "--betas=20"], "β unreadable": ["curve", "RUN", "--betas=x"],
        "β upside down": ["curve", "RUN", "--betas=3:1"],
        "a metric that is none": ["curve", "RUN", "--metrics=fidd"],
        "a split that is none": ["curve", "RUN", "--split=dev"],
        "data that is none": ["score", "RUN", "Nope"],
        "data of another shape": ["score", "RUN", "MNIST", "--other_data.download=false"],
        "a folder that is a file": ["curve", "RUN", "--out", "RUN/config.yaml/x"],
        "a word that is no verb": ["sampel", "RUN"],
        "an option that is none": ["curve", "RUN", "--bets=1"],
        "comparing one": ["compare", "RUN"], "comparing nothing": ["compare", "x", "y"],
    }  # fmt: skip

    def mistake(arguments: list[str], _: Path) -> None:
        command(*(a.replace("RUN", str(run_of(root))) for a in arguments), status=2)

    return found + [
        Situation("command", name, REFUSED, partial(mistake, arguments))
        for name, arguments in wrong.items()
    ]


def environments() -> list[Situation]:
    """What surrounds a process."""
    surroundings: dict[str, dict[str, str]] = {
        "a notebook's backend": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        "a backend that is not here": {"MPLBACKEND": "module://nothing.backend_inline"},
        "no home": {"HOME": "/nonexistent"}, "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0"},
        "no terminal": {"TERM": "dumb"}, "a narrow terminal": {"COLUMNS": "20"},
        "no colours": {"NO_COLOR": "1"}, "two threads": {"OMP_NUM_THREADS": "2"},
        "SLURM": {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "interactive"},
    }  # fmt: skip

    def act(given: dict[str, str], folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "multibeta", "fit", *test_resume.RUN], cwd=folder,
            capture_output=True, check=False, timeout=120,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **given},
        )  # fmt: skip
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr[-1500:]
        assert (newest(folder / "runs") / "curve.png").exists()

    return [
        Situation("environment", name, RIGHT, partial(act, given))
        for name, given in surroundings.items()
    ]


def catalogue(root: Path) -> list[Situation]:
    """Return all situations; ``root`` is where the runs are that several share."""
    return [
        *containers(), *wrong_data(), *batches(), *units(), *layouts(), *sets(), *pictures(),
        *parts(), *places(root), *environments(),
    ]  # fmt: skip
