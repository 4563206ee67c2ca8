"""Random β's, configurations and damaged files: the right value, or one line; never a wrong one.

    python -m benchmarks.fuzz

10,000 texts for β, 2,000 configurations and 2,000 damaged files (npz, checkpoint, curve.json,
PNG, JPEG: bits flipped, cut off, headers changed). Each ends with the value that it stands for, or
with a mistake in one line. Counted are also: another value in silence, other exceptions, and what
took longer than ten seconds. A result file, fuzz.json.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

import multibeta
from benchmarks.record import save
from multibeta.betas import BetaRange, parse_betas
from multibeta.cli import main as command
from multibeta.curve import Curve
from multibeta.data import NPZ
from multibeta.data.cache import CorruptError, Recipe
from multibeta.faults import fault_of
from multibeta.likelihoods import Gaussian
from multibeta.multibeta_vae import MultiBetaVAE

COMMAND = "python -m benchmarks.fuzz"
BETAS, CONFIGS, FILES, SECONDS = 10_000, 2_000, 2_000, 10


class TookLongError(BaseException):
    """Raised by the alarm."""


def verdict(run: Callable[[], Any], right: Callable[[Any], bool]) -> str:
    """Return what became of one case."""

    def alarm(*_: Any) -> None:
        raise TookLongError

    signal.signal(signal.SIGALRM, alarm)
    signal.alarm(SECONDS)
    try:
        value = run()
    except TookLongError:
        return "took long"
    except (ValueError, OSError, CorruptError) as error:
        return "refused" if "\n" not in str(error) or fault_of(error).status == 2 else "two lines"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]}"
    finally:
        signal.alarm(0)
    return "right" if right(value) else "another value"


def betas(rng: random.Random) -> Counter[str]:
    """Texts that are, or look like, β's and ranges."""
    found: Counter[str] = Counter()
    signs = "0123456789.:,eE+-_ naif∞β"
    for i in range(BETAS):
        low, high = sorted(10 ** rng.uniform(-36, 36) for _ in range(2))
        text = [
            lambda low=low, high=high: f"{low!r}:{high!r}",
            lambda low=low, high=high: f"{low!r}:{high!r}:{rng.randint(1, 40)}",
            lambda low=low, high=high: f"{high!r},{low!r}",
            lambda low=low: f"{low!r}",
            lambda: "".join(rng.choice(signs) for _ in range(rng.randint(0, 12))),
            lambda low=low, high=high: _changed(f"{low!r}:{high!r}", rng, signs),
        ][i % 6]()

        def right(value: Any, i: int = i, low: float = low, high: float = high) -> bool:
            if not value or any(not (math.isfinite(v) and v > 0) for v in value):
                return False
            if any(a >= b for a, b in itertools.pairwise(value)):
                return False
            if i % 6 < 3:
                return (value[0] == low and value[-1] == high) or len(value) == 1
            return i % 6 != 3 or value == (low,)

        found[verdict(lambda text=text: parse_betas(text), right)] += 1
        if i % 6 == 0:
            again = verdict(
                lambda text=text: BetaRange.parse(text),
                lambda of, low=low, high=high: (
                    BetaRange.parse(str(of)) == of and (of.low, of.high) == (low, high)
                ),
            )
            found[f"range, {again}"] += 1
    return found


def _changed(text: str, rng: random.Random, signs: str) -> str:
    at = rng.randrange(len(text))
    return text[:at] + rng.choice(signs) + text[at + rng.randint(0, 1) :]


def configs(rng: random.Random, folder: Path) -> Counter[str]:
    """A config in which some values are others; read, and the parts of the run made from it."""
    base: dict[str, Any] = {
        "data": {"class_path": "Digits", "init_args": {"batch_size": 64}},
        "model": {"betas": "0.01:10", "latent_dim": 2, "lr": 0.002, "warmup": 0.05,
                  "network": {"class_path": "MLP", "init_args": {"width": 8, "depth": 1}},
                  "likelihood": {"class_path": "Gaussian", "init_args": {"sigma": 0.2}},
                  "objective": {"class_path": "BetaELBO"}, "standardise": False},
        "trainer": {"max_epochs": 1, "fast_dev_run": True, "accelerator": "cpu",
                    "enable_progress_bar": False},
        "curve": {"betas": "0.01:10:3", "metrics": "active_units", "enabled": True},
    }  # fmt: skip
    odd = [
        None, True, False, 0, -1, 1, 3, 10**12, 0.5, -0.5, math.inf, -math.inf, math.nan, 1e-320,
        "", "x", "1:2", "2:1", "0.1:0.1", "nan", "null", [], [1, 2], {}, {"a": 1}, "MLP", "Conv",
        "Bernoulli", "os.system", "multibeta.networks.MLP", "β", " ", "../x",
    ]  # fmt: skip
    found: Counter[str] = Counter()
    path = folder / "config.yaml"
    for _ in range(CONFIGS):
        config = json.loads(json.dumps(base))
        for _ in range(rng.randint(1, 2)):
            places = [*_places(config)]
            of, key = rng.choice(places)
            how = rng.random()
            if how < 0.75:
                of[key] = rng.choice(odd)
            elif how < 0.9:
                of[f"{key}x"] = of.pop(key)
            else:
                del of[key]
        config.setdefault("trainer", {})
        if isinstance(config["trainer"], dict):
            config["trainer"]["fast_dev_run"] = True
            if "max_epochs" in config["trainer"]:
                config["trainer"]["max_epochs"] = 1
        path.write_text(yaml.safe_dump(config, allow_unicode=True))
        status: list[int] = []

        def run(status: list[int] = status) -> int:
            status.append(command(["fit", f"--config={path}"]))
            return status[-1]

        with _quiet() as said:
            of_run = verdict(run, lambda value: value in (0, 2))
        lines = [line for line in said() if line.startswith("multibeta: ")]
        if of_run == "right" and status == [2]:
            of_run = "refused" if len(lines) == 1 else "not one line"
        if "a fault of multibeta" in "".join(lines):
            of_run = f"fault: {lines[0][60:200]}"
        found[of_run] += 1
    return found


def _places(value: Any) -> Any:
    for key, inner in value.items():
        yield value, key
        if isinstance(inner, dict):
            yield from _places(inner)


class _quiet:
    """Keeps what is printed."""

    def __enter__(self) -> Callable[[], list[str]]:
        import contextlib
        import io

        self.err = io.StringIO()
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(contextlib.redirect_stderr(self.err))
        self.stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        return lambda: self.err.getvalue().splitlines()

    def __exit__(self, *_: Any) -> None:
        self.stack.close()


def files(rng: random.Random, folder: Path) -> dict[str, Counter[str]]:
    """Files with flipped bits, cut off, or with other bytes in their heads."""
    x = np.random.default_rng(0).random((40, 3, 20)).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    np.savez_compressed(folder / "c.npz", x=x)
    vae = MultiBetaVAE.of((1, 8, 8), latent_dim=3, likelihood=Gaussian(0.3))
    vae.fit(torch.rand(64, 1, 8, 8), epochs=1, batch_size=32, betas="0.1,1", root=folder / "runs")
    (run,) = folder.glob("runs/*/*")
    shutil.copy(run / "checkpoints" / "last.ckpt", folder / "x.ckpt")
    shutil.copy(run / "curve.json", folder / "x.json")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    picture.save(folder / "x.png")
    picture.save(folder / "x.jpg")
    recipe = Recipe(32, "RGB", convert=True)
    weights = multibeta.load(folder / "x.ckpt").state_dict()
    curve = Curve.from_json(folder / "x.json")

    def npz(path: Path) -> Any:
        data = NPZ(root=str(path))
        data.setup()
        return torch.cat([torch.as_tensor(data.splits[k][:]) for k in ("train", "val", "test")])

    wanted = npz(folder / "x.npz")
    pixels = {of: recipe.apply(folder / f"x.{of}") for of in ("png", "jpg")}
    kinds: dict[str, tuple[Callable[[Path], Any], Callable[[Any], bool]]] = {
        "x.npz": (npz, lambda v: torch.equal(v, wanted)),
        "c.npz": (npz, lambda v: torch.equal(v, wanted)),
        "x.ckpt": (
            lambda path: multibeta.load(path).state_dict(),
            lambda v: all(torch.equal(v[k], of) for k, of in weights.items()),
        ),
        "x.json": (Curve.from_json, lambda v: v.rows == curve.rows),
        "x.png": (recipe.apply, lambda v: np.array_equal(v, pixels["png"])),
        "x.jpg": (recipe.apply, lambda v: np.array_equal(v, pixels["jpg"])),
    }
    found: dict[str, Counter[str]] = {}
    for name, (read, right) in kinds.items():
        content, counts = (folder / name).read_bytes(), Counter[str]()
        path = folder / f"damaged{Path(name).suffix}"
        for i in range(FILES // len(kinds) + 1):
            damaged = bytearray(content)
            if i % 3 == 0:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            elif i % 3 == 1:
                del damaged[rng.randrange(len(damaged)) :]
            else:
                for _ in range(rng.randint(1, 8)):
                    at = rng.randrange(min(400, len(damaged)))
                    damaged[at] = rng.randrange(256)
            path.write_bytes(bytes(damaged))
            counts[verdict(lambda path=path, read=read: read(path), right)] += 1
        found[name] = counts
    return found


def main() -> None:
    """Try all, and write the counts."""
    torch.set_num_threads(1)
    rng, began = random.Random(0), time.monotonic()
    with tempfile.TemporaryDirectory() as place, _quiet():
        of_betas = betas(rng)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        of_files = files(rng, Path(place))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        of_configs = configs(rng, Path(place))
    result = {
        "betas": of_betas, "configs": of_configs, "files": of_files,
        "memory_of_files_mb": (after - before) // 1024,
        "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    save("fuzz", COMMAND, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
