"""What is known of each example: the labels of the data sets, in the order of their examples."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from multibeta.data import NPZ, Digits, Folder, Sprites


def test_the_digits_are_those_of_the_pictures():
    data = Digits()
    levels, digits = load_digits(return_X_y=True)
    known = {
        np.rint(of * (255 / 16)).astype(np.uint8).tobytes(): digit
        for of, digit in zip(levels, digits, strict=True)
    }
    for split in ("train", "val", "test"):
        of_each = data.labels(split)["digit"]
        assert len(of_each) == len(data.splits[split])
        assert [known[x.numpy().tobytes()] for x in data.splits[split]] == of_each.tolist()


def test_factors_are_labels():
    data = Sprites(size=60)
    found = data.labels("test")
    assert list(found) == list(data.factor_names)
    assert np.array_equal(np.stack([*found.values()], 1), data.factors["test"].numpy())


@pytest.mark.parametrize("named", [True, False])
def test_arrays_beside_the_examples_are_their_labels(tmp_path, named):
    """Also where the sets are drawn: each example keeps its own."""
    x = np.arange(60, dtype=np.float32)[:, None].repeat(3, 1)
    others = {"labels": np.arange(60) % 4, "place": np.stack([np.arange(60), -np.arange(60)], 1)}
    words = {"label_names": np.array(["a", "b", "c", "d"]), "rate_hz": np.array(3)}
    if named:
        parts = {"train": slice(40), "val": slice(40, 50), "test": slice(50, 60)}
        arrays = {k: x[rows] for k, rows in parts.items()}
        arrays |= {f"{k}_{n}": v[rows] for k, rows in parts.items() for n, v in others.items()}
    else:
        arrays = {"x": x, **others}
    np.savez(tmp_path / "x.npz", **arrays, **words)
    data = NPZ(str(tmp_path / "x.npz"))
    data.setup()
    for split in ("train", "val", "test"):
        number = np.asarray(data.splits[split][:])[:, 0].astype(int)
        found = data.labels(split)
        assert sorted(found) == ["labels", "place_0", "place_1"]
        assert found["labels"].tolist() == [list("abcd")[i % 4] for i in number]
        assert found["place_1"].tolist() == (-number).tolist()


def test_labels_beyond_the_words_stay_numbers(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((30, 3)), y=np.arange(30), class_names=np.array(["a"]))
    assert NPZ(str(tmp_path / "x.npz")).labels("train")["y"].dtype.kind == "i"


@pytest.mark.parametrize("sets", [("",), ("train/", "Val/", "test/")])
def test_folders_are_labels_and_files_have_names(tmp_path, sets):
    for top in sets:
        for shade, name in enumerate(("cats", "dogs")):
            (tmp_path / top / name).mkdir(parents=True)
            for i in range(6):
                path = tmp_path / top / name / f"{i}.png"
                Image.new("L", (8, 8), 100 * shade + i).save(path)
    data = Folder(str(tmp_path), size=8)
    data.setup()
    for split in ("train", "val", "test"):
        pictures, files = data.splits[split], data.files(split)
        folders = data.labels(split)["folder"]
        assert len(pictures) == len(files) == len(folders) > 0
        for x, file, folder in zip(pictures, files, folders, strict=True):
            assert folder == ("dogs" if x[0, 0, 0] >= 100 else "cats")
            assert file.endswith(f"{folder}/{x[0, 0, 0] % 100}.png")


def test_one_folder_is_no_label(tmp_path):
    for i in range(6):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i}.png")
    assert Folder(str(tmp_path), size=8).labels("train") == {}


def test_nobody_knows_whose_the_files_are_once_corrupt_ones_are_left_out(tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.new("L", (8, 8), i).save(tmp_path / name / f"{i}.png")
    (tmp_path / "dogs" / "7.png").write_bytes(b"none")
    data = Folder(str(tmp_path), size=8, skip_corrupt=True)
    with pytest.raises(ValueError, match="corrupt images were left out"):
        data.labels("train")
