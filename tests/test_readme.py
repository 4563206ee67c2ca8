import re

import pytest

from benchmarks.report import PAGES, filled


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_result_files(page):
    text = page.read_text()
    assert "<!-- report: " in text
    assert filled(text) == text, "run: python -m benchmarks.report"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
