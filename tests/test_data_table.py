"""Table: what text and parquet files become, against pandas and by hand."""

import csv

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine

from multibeta.cli import main
from multibeta.data import Table


def write(path, names, rows, delimiter=","):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([names, *rows])
    return str(path)


@pytest.fixture
def wine(tmp_path):
    data = load_wine()
    rows = [[*map(repr, x.tolist()), y, "abc"[y]] for x, y in zip(data.data, data.target)]  # noqa: B905
    return write(tmp_path / "wine.csv", [*data.feature_names, "grape", "name"], rows)


def test_rows_and_labels_stay_together(wine):
    data, known = Table(wine, label_columns="grape"), load_wine()
    data.setup()
    assert data.shape == (13,) and data.columns == tuple(known.feature_names)
    assert sum(map(len, data.splits.values())) == len(known.data)
    assert data.size_note.startswith("labels: grape, name; 0.1 of train")
    for split, x in data.splits.items():
        rows = data.rows(split)
        assert torch.equal(x, torch.from_numpy(known.data[rows].astype(np.float32)))
        assert data.labels(split)["grape"].tolist() == known.target[rows].tolist()
        assert data.labels(split)["name"].tolist() == ["abc"[y] for y in known.target[rows]]


def test_the_same_from_semicolons_tabs_and_parquet(wine, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    table = pandas.read_csv(wine)
    table.to_csv(tmp_path / "a.csv", sep=";", index=False)
    table.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    table.to_parquet(tmp_path / "a.parquet")
    expected = Table(wine, label_columns="grape")
    for name in ("a.csv", "a.tsv", "a.parquet"):
        found = Table(str(tmp_path / name), label_columns="grape")
        for split in ("train", "val", "test"):
            found.setup(), expected.setup()
            assert torch.equal(found.splits[split], expected.splits[split])
            for key, of in expected.labels(split).items():
                assert np.array_equal(found.labels(split)[key], of)


def test_a_folder_has_the_sets(tmp_path):
    for k, name in enumerate(("train", "Valid", "test")):
        write(tmp_path / "f" / f"{name}.csv", ["a", "b", "kind"], [[k, i, "x"] for i in range(4)])
    data = Table(str(tmp_path / "f"))
    data.setup()
    assert {k: v[:, 0].unique().tolist() for k, v in data.splits.items()} == {
        "train": [0], "val": [1], "test": [2],
    }  # fmt: skip
    assert data.labels("val")["kind"].tolist() == ["x"] * 4


ROWS = [["3", "4"]] * 20


@pytest.mark.parametrize(
    ("names", "rows", "message"),
    [
        (["a", "b"], [["1", "2"], ["3", ""], *ROWS], "the first in line 3, column 'b'"),
        (["a", "b"], [["1", "inf"], *ROWS], "the first in line 2, column 'b'"),
        (["a", "b"], [["1", "1e300"], *ROWS], "the first in line 2, column 'b'"),
        (["a", "b"], [["1"], *ROWS], "row 1 has 1 cells, and there are 2 columns"),
        (["1", "2"], ROWS, "has no names of columns in its first row"),
        (["a", "a"], ROWS, "has two columns 'a'"),
        (["a", "b"], [["x", "y"]] * 20, "has no column of numbers that could be x; it has a, b"),
        (["a", "b"], [], "has no rows"),
        ([], [], "has no rows"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, capsys, names, rows, message):
    path = write(tmp_path / "x.csv", names, rows)
    options = [f"--trainer.default_root_dir={tmp_path / 'runs'}", "--data.batch_size=4"]
    assert main(["fit", "--config=table.yaml", f"--data.root={path}", *options]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said
    assert not (tmp_path / "runs").exists()


def test_wrong_columns_and_files_are_named(wine, tmp_path):
    with pytest.raises(ValueError, match=r"label_columns=grap: .* has none \(did you mean grape"):
        Table(wine, label_columns="grap").setup()
    with pytest.raises(FileNotFoundError, match="does not exist; Table needs"):
        Table(str(tmp_path / "none.csv")).setup()
    (tmp_path / "x.csv").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        Table(str(tmp_path / "x.csv")).setup()
    for name, names in (("train", ["a", "b"]), ("val", ["a", "c"]), ("test", ["a", "b"])):
        write(tmp_path / "f" / f"{name}.csv", names, ROWS)
    with pytest.raises(ValueError, match=r"val\.csv has other columns of numbers than"):
        Table(str(tmp_path / "f")).setup()
