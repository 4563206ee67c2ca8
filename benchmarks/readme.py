"""Put the measured table into the README.

python -m benchmarks.readme
"""

from __future__ import annotations

import re

from benchmarks.record import RESULTS
from multibeta.curve import Curve
from multibeta.files import replacing

README = RESULTS.parent.parent / "README.md"
_PLACE = re.compile(r"(<!-- made by: .*? -->\n```text\n).*?(```\n<!-- end -->)", re.DOTALL)


def with_table(text: str) -> str:
    """Return the README's text with the table of the digits result in its place."""
    table = Curve.from_json(RESULTS / "first_curves_digits.json").table()
    return _PLACE.sub(lambda found: f"{found[1]}{table}\n{found[2]}", text)


if __name__ == "__main__":
    with replacing(README) as temporary:
        temporary.write_text(with_table(README.read_text()))
