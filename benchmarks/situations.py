"""Every situation of the catalogue: the right figure, or one line.

    python -m benchmarks.situations

The catalogue is ``tests/situations.py``: containers, layouts, units, pictures, Lightning's parts,
places of a checkpoint, commands, environments. A result file, situations.json, from which
``python -m benchmarks.report`` makes the table in the documentation.
"""

from __future__ import annotations

import os
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import torch
from PIL import Image

import multibeta.plots.drawing
from benchmarks.record import save
from tests.situations import catalogue

COMMAND = "python -m benchmarks.situations"


def main() -> None:
    """Try all, and write what came of them."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    # a dot for each picture: what is drawn is looked at elsewhere
    multibeta.plots.drawing.save = lambda _, path: Image.new("L", (1, 1)).save(path)  # type: ignore[assignment]
    began, failed = time.monotonic(), []
    counts: dict[str, Counter[str]] = {}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as root:
        os.environ["MULTIBETA_CACHE"] = f"{root}/cache"
        for number, situation in enumerate(catalogue(Path(root) / "runs")):
            folder = Path(root) / str(number)
            folder.mkdir()
            os.chdir(folder)
            try:
                situation.act(folder)
            except Exception:
                failed.append(f"{situation.kind}: {situation.name}")
                traceback.print_exc()
            finally:
                os.chdir(here)
            counts.setdefault(situation.kind, Counter())[situation.verdict] += 1
    result = {
        "situations": sum(sum(of.values()) for of in counts.values()), "kinds": counts,
        "failed": failed, "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    save("situations", COMMAND, result)
    print(f"{result['situations']} situations, {len(failed)} failed: {failed}")


if __name__ == "__main__":
    main()
