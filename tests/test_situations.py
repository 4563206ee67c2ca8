"""Every ninth situation of the catalogue; all of them by ``python -m benchmarks.situations``."""

from pathlib import Path

import pytest

from tests.situations import catalogue

EVERY = 9
CATALOGUE = catalogue(Path("runs"))


def test_the_catalogue_is_large_and_has_no_two_of_a_name():
    names = [(situation.kind, situation.name) for situation in CATALOGUE]
    assert len(set(names)) == len(names) >= 200


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(0, len(CATALOGUE), EVERY))
def test_a_situation(number, tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path_factory.getbasetemp() / "situations"
    catalogue(root)[number].act(tmp_path)
