"""What to cite: each objective, likelihood, data set and metric, as BibTeX that parses."""

import re
from pathlib import Path

import pytest
import yaml

import multibeta
from multibeta import citations, data, distortions, likelihoods, objectives
from multibeta.checkpoints import load_data, read_checkpoint
from multibeta.cli import main
from multibeta.costs import training_of
from multibeta.metrics import METRICS
from multibeta.report.page import _about

ENTRY = re.compile(r"@(\w+)\{([\w]+),\n((?:  \w+ = \{.*?\},?\n)+)\}", re.DOTALL)
FIELD = re.compile(r"^  (\w+) = \{(.*?)\}(,?)$", re.DOTALL | re.MULTILINE)


def parsed(text):
    """Return key → fields, and refuse all that is no entry and no comment."""
    found = {}
    rest = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    for kind, key, body in ENTRY.findall(rest):
        assert body.count("{") == body.count("}") and key not in found
        fields = FIELD.findall(body)
        assert [comma for *_, comma in fields] == [","] * (len(fields) - 1) + [""]
        found[key] = {"kind": kind, **{name: value for name, value, _ in fields}}
    assert not ENTRY.sub("", rest).strip()
    return found


@pytest.mark.parametrize("key", citations.PAPERS)
def test_an_entry_is_bibtex_and_is_cited(key):
    ((name, fields),) = parsed(citations.PAPERS[key]).items()
    assert name == key and {"title", "author", "year"} <= fields.keys()
    assert fields["year"] == re.search(r"\d{4}", key)[0]
    assert all(", " in author for author in re.split(r"\s+and\s+", fields["author"]))
    if fields["kind"] == "inproceedings":
        assert "booktitle" in fields
    tables = (citations.OBJECTIVES, citations.DATA, citations.LIKELIHOODS, citations.METRICS,
              citations.CONDITIONING)  # fmt: skip
    assert any(key in keys for table in tables for keys in table.values())


def test_everything_that_comes_with_the_package_has_entries_or_a_stated_none():
    own = {
        name for name in objectives.__all__
        if isinstance(cls := getattr(objectives, name), type)
        and issubclass(cls, objectives.Objective) and cls.name
    }  # fmt: skip
    assert citations.OBJECTIVES.keys() == own and all(citations.OBJECTIVES.values())
    for name in own:  # the docstring's paper is the table's
        paper = getattr(objectives, name).paper
        for number in re.findall(r"\d{4}\.\d{5}", paper):
            assert any(number in citations.PAPERS[key] for key in citations.OBJECTIVES[name])
    assert citations.DATA.keys() == {*data.__all__} - {"Batches", "Door", "ImageData"}
    kinds = {*likelihoods.__all__, *distortions.__all__} - {"Likelihood"}
    assert citations.LIKELIHOODS.keys() == kinds
    assert citations.METRICS.keys() == METRICS.keys()
    tables = (citations.OBJECTIVES, citations.DATA, citations.LIKELIHOODS, citations.METRICS,
              citations.CONDITIONING)  # fmt: skip
    assert {k for of in tables for keys in of.values() for k in keys} <= citations.PAPERS.keys()


def test_the_command_prints_what_the_run_used(capsys):
    assert main(["cite", "digits"]) == 0
    printed = capsys.readouterr().out
    found = parsed(printed)
    assert list(found)[:4] == ["multibeta", "kingma2014vae", "higgins2017beta", "alemi2018fixing"]
    assert {"bae2023multirate", "alpaydin1998digits"} <= found.keys()
    assert "% likelihood Gaussian: no paper of its own" in printed
    cff = yaml.safe_load((Path(multibeta.__file__).parent.parent / "CITATION.cff").read_text())
    own = found["multibeta"]
    assert own["title"] == f"{{{cff['title']}}}" and own["version"] == multibeta.__version__


def test_what_is_not_known_is_said():
    content = {
        "wrapped": {"objective": "mine.Loss", "likelihood": {"class_path": "mine.Poisson"},
                    "conditioning": "none"},
        "data": None,
    }  # fmt: skip
    keys, none = citations.cited(content, ["psnr", "nll"])
    assert keys == ["kingma2014vae", "burda2016iwae"]
    assert none == [
        "objective mine.Loss: not multibeta's; cite its own source",
        "likelihood mine.Poisson: not multibeta's; cite its own source",
        "data set: not known", "metric psnr: no paper of its own",
    ]  # fmt: skip


def test_metrics_are_known_by_their_columns_and_the_report_cites():
    model = multibeta.load("digits")
    wanted = ["active_units", "alignment", "information", "nll", "psnr", "squared_error"]
    curve = multibeta.sweep(model, load_data("digits"), "0.1,1", metrics=wanted)
    assert citations.measured(curve.rows[0]) == wanted
    assert citations.measured(["mig", "fid_prior", "fd_gmm"]) == [
        "disentanglement",
        "fid",
        "frechet",
    ]
    record = read_checkpoint(Path(multibeta.__file__).parent / "models/digits.ckpt")["multibeta"]
    cite = dict(_about(record, curve, model, training_of(Path("nowhere"))))["cite"]
    assert {"multibeta", "bae2023multirate", "kornblith2019similarity"} <= parsed(cite).keys()
