"""One printer for all tables on terminals: within 80 columns, and nothing lost."""

import multibeta
from multibeta.cli import main
from multibeta.compare import compare, table
from multibeta.curve import Curve
from multibeta.data import Digits
from multibeta.evaluation import sweep
from multibeta.tables import columns
from tests.test_compare import curve

ROWS = [[f"{i}", *(f"{i}.{j}{'0' * 12}" for j in range(9))] for i in range(3)]
TITLES = ["β", *(f"measure_{j}" for j in range(9))]


def widest(text):
    return max(map(len, text.splitlines()))


def test_wide_tables_are_split_and_whole():
    text = columns(TITLES, ROWS)
    assert widest(text) <= 80
    parts = [part.splitlines() for part in text.split("\n\n")]
    assert len(parts) == 3
    assert [name for part in parts for name in part[0].split()[1:]] == TITLES[1:]
    for i, row in enumerate(ROWS):
        assert all(part[2 + i].split()[0] == row[0] for part in parts)
        assert [cell for part in parts for cell in part[2 + i].split()[1:]] == row[1:]
    narrow = columns(TITLES[:4], [row[:4] for row in ROWS], most=2)
    assert [part.split("\n")[0].split() for part in narrow.split("\n\n")] == [
        ["β", "measure_0", "measure_1"], ["β", "measure_2"],
    ]  # fmt: skip


def test_a_long_cell_keeps_its_end():
    line = columns(["name", "β"], [["folder/" * 20 + "five.png", "1"]]).splitlines()[2]
    assert line.startswith("…") and line.endswith("five.png  1") and len(line) == 40 + 3


def test_the_curve_with_every_metric():
    asked = ("active_units", "alignment", "information", "psnr", "squared_error", "nll")
    metrics = {name: {"samples": 2} if name == "nll" else {} for name in asked}
    measured = sweep(multibeta.load("digits"), Digits(), "0.01:10:3", metrics=metrics)
    text = measured.table()
    assert widest(text) <= 80
    words = set(text.split())
    for name in ("next_correlation", "psnr_db", "information_nats", "nll_nats"):
        assert name in words, name
    rows = tuple({**row, **{f"optimal_{k}_nats": -1000.123 for k in (
        "rate", "distortion", "objective")}} for row in measured.rows)  # fmt: skip
    assert widest(Curve(rows, {**measured.about, "data": "a long name " * 9}).table()) <= 80


def test_comparisons_of_long_names():
    found = compare({"runs/" + "first" * 12: curve(), "runs/" + "other" * 12: curve(1.1)})
    assert widest(table(found)) <= 80


def test_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = [
        ["rate", "digits", "--psnr=18"],
        ["score", "digits", "Digits", "--betas=0.01,10", "--samples=2", "--examples=20"],
        ["sample", "digits", "--betas=1", "--n=2", "--out=" + "long" * 12],
        ["reconstruct", "digits", "long" * 12, "--betas=0.1,1", "--out=x.npz"],
    ]
    for command in commands:
        assert main(command) == 0
        assert widest(capsys.readouterr().out) <= 80, command
