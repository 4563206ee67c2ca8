"""Real bits.

python -m benchmarks.codec DATA_ROOT [--sets mnist …]
"""

from __future__ import annotations

import PIL
import torch

from benchmarks.codec_rivals import FORMATS, measured
from benchmarks.codec_sets import SETS, fit, rows_of, test_set
from benchmarks.record import is_done, save
from benchmarks.runs import arguments

COMMAND = "python -m benchmarks.codec DATA_ROOT"
RIVALS = 400
"""Pictures that are written in other formats."""


def rivals(name: str, root: str) -> None:
    """Measure picture files of other formats.

    Args:
        name: Of the set.
        root: The data's folder.
    """
    x = test_set(name, root)
    x = x[rows_of(len(x), RIVALS)]
    found = {of.label: measured(x, of) for of in FORMATS}
    about = {
        "set": name,
        "pictures": len(x),
        "dimensions": x[0].numel(),
        "pillow": PIL.__version__,
    }
    save(f"codec_{name}_rivals", COMMAND, {**about, "formats": found})


def main() -> None:
    """Make what is missing, and the summary."""
    parser = arguments(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--fit-only", action="store_true", help="fit, and measure nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fit(given.sets, given.root, given.jobs)
    for name in () if given.fit_only else given.sets:
        if not is_done(f"codec_{name}_rivals"):
            rivals(name, given.root)


if __name__ == "__main__":
    main()
