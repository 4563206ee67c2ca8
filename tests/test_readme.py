import re

from benchmarks.readme import README, with_table


def test_the_table_is_that_of_the_result_file():
    text = README.read_text()
    assert with_table(text) == text, "run: python -m benchmarks.readme"


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
        assert (README.parent / link).exists(), link
