"""multibeta encode: the codes of a data set with its labels, against the posteriors themselves."""

import csv

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image

import multibeta
from multibeta import MultiBetaVAE
from multibeta.checkpoints import load_data
from multibeta.cli import main
from multibeta.codes import Codes, encode
from multibeta.data import NPZ, Digits, Folder
from multibeta.networks import MLP

RUN = "digits"  # the model that comes with the package


def expected(split, beta):
    data = load_data(RUN)
    data.setup()
    return multibeta.load(RUN).at_beta(beta).encode(data.splits[split].float() / 255)


def test_the_file_has_the_posteriors_and_the_labels(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["encode", RUN, "--split=val,test"]) == 0
    assert "539 examples (val, test) at 5 β's, latents (8,)" in capsys.readouterr().out
    found, data = np.load(tmp_path / "multibeta-digits" / "codes.npz"), Digits()
    assert sorted(found) == ["beta", "label_digit", "mean", "row", "split", "std"]
    assert found["beta"][[0, -1]].tolist() == [0.01, 10]
    start = 0
    for split in ("val", "test"):
        rows = slice(start, start + len(data.labels(split)["digit"]))
        start = rows.stop
        assert np.array_equal(found["label_digit"][rows], data.labels(split)["digit"])
        assert np.array_equal(found["row"][rows], data.rows(split))
        assert set(found["split"][rows]) == {split}
        for k, beta in enumerate(found["beta"]):
            q = expected(split, beta)
            torch.testing.assert_close(torch.tensor(found["mean"][k, rows]), q.mean)
            torch.testing.assert_close(torch.tensor(found["std"][k, rows]), q.stddev)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_has_a_row_for_each_beta_and_example(tmp_path, suffix):
    parquet = pytest.importorskip("pyarrow.parquet") if suffix == ".parquet" else None
    path = tmp_path / f"codes{suffix}"
    assert main(["encode", RUN, "--betas=0.1,1", f"--out={path}"]) == 0
    if parquet is None:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = parquet.read_table(path).to_pylist()
    assert len(rows) == 2 * 359
    q = expected("test", 1.0)
    assert float(rows[359]["beta"]) == 1
    assert [float(row["mean_7"]) for row in rows[359:]] == pytest.approx(
        q.mean[:, 7].tolist(), abs=1e-5
    )
    digits = [str(digit) for digit in Digits().labels("test")["digit"]]
    assert [str(row["label_digit"]) for row in rows] == 2 * digits


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out=x.txt"], "x.txt is no name for codes; end it in .npz, .csv, .parquet"),
        (["--split=dev"], "split=dev is unknown; allowed: train, val, test, with commas"),
        (["--split="], "is unknown; allowed: train, val, test, with commas"),
        (["--betas=20"], "beta=20 is outside the trained range"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["encode", RUN, *options]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["tuples", "dicts", "stream"])
def test_labels_come_from_batches_too(form):
    model = MultiBetaVAE.of((3,), network=MLP(8), latent_dim=2)
    x, y = torch.rand(10, 3), torch.arange(10)
    words = [f"w{i}" for i in range(10)]

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(x, y.tolist(), strict=True))

    batches = {
        "tuples": [(x[i : i + 4], y[i : i + 4]) for i in (0, 4, 8)],
        "dicts": [{"x": x[i : i + 4], "label": y[i : i + 4], "class": words[i : i + 4]}
                  for i in (0, 4, 8)],
        "stream": Stream(),
    }[form]  # fmt: skip
    codes = encode(model, batches, 1.0)
    assert codes.labels["label"].tolist() == list(range(10))
    assert form != "dicts" or codes.labels["class"].tolist() == words
    torch.testing.assert_close(torch.tensor(codes.mean[0]), model.encode(x, 1.0).mean.detach())


def test_columns_of_a_map_say_the_place():
    mean = np.arange(24.0).reshape(2, 3, 2, 2)
    codes = Codes(np.array([0.1, 1]), mean, mean, np.full(3, "test"), np.arange(3))
    columns = codes.columns()
    assert [name for name in columns if name.startswith("mean")] == [
        "mean_0_0", "mean_0_1", "mean_1_0", "mean_1_1"
    ]  # fmt: skip
    assert columns["mean_1_0"].tolist() == mean[:, :, 1, 0].flatten().tolist()


def test_sets_with_other_labels_are_not_mixed(tmp_path):
    x = np.random.default_rng(0).random((30, 3)).astype(np.float32)
    np.savez(tmp_path / "x.npz", train=x, val=x, test=x, test_labels=np.arange(30))
    data = NPZ(str(tmp_path / "x.npz"), batch_size=10)
    model = MultiBetaVAE.of((3,), network=MLP(8), latent_dim=2)
    with pytest.raises(ValueError, match="labels is not known in each of train, test"):
        encode(model, data, 1.0, splits=("train", "test"))


class Own(LightningDataModule):
    """A user's, with an attribute of that name."""

    labels = torch.arange(6)

    def test_dataloader(self):
        return torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(torch.rand(6, 3), self.labels), 4
        )


def test_a_datamodule_of_ones_own_may_call_its_attributes_as_it_likes():
    model = MultiBetaVAE.of((3,), network=MLP(8), latent_dim=2)
    assert encode(model, Own(), 1.0).labels["label"].tolist() == list(range(6))


def test_the_names_of_files_are_kept_in_every_format(tmp_path):
    """``file`` is also what numpy's savez calls its first argument."""
    for i in range(20):
        Image.new("L", (8, 8), 10 * i).save(tmp_path / f"{i:02}.png")
    data = Folder(str(tmp_path), size=8)
    codes = encode(multibeta.load(RUN), data, "1", splits=("train", "test"))
    names = data.files("train") + data.files("test")
    for suffix in (".npz", ".csv"):
        codes.save(tmp_path / f"codes{suffix}")
    assert np.load(tmp_path / "codes.npz")["file"].tolist() == names
    with (tmp_path / "codes.csv").open(newline="", encoding="utf-8") as file:
        assert [row["file"] for row in csv.DictReader(file)] == names
