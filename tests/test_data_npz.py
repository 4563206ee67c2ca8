"""Arrays of any shape in .npz and .npy files."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from multibeta.data import NPZ, ImageData, arrays
from multibeta.data.arrays import Form, Rows, let_go, pieces, values_of
from tests.helpers import refused

REAL = os.environ.get("MULTIBETA_DATA")
COUNT = 20


def loaded(root, **arguments):
    data = NPZ(root=str(root), batch_size=4, **arguments)
    data.setup()
    return data


def numbered(shape, dtype=np.float32):
    """Examples of which number i is full of i."""
    rows = np.arange(COUNT).reshape(-1, *[1] * len(shape))
    return np.broadcast_to(rows, (COUNT, *shape)).astype(dtype)


def seen(data, split):
    return torch.cat(list(data.ordered(split)))


@pytest.fixture(params=["npz", "npy"])
def save(request, tmp_path):
    def write(x):
        if request.param == "npz":
            np.savez(tmp_path / "x.npz", x=x, x_labels=np.arange(len(x)))
        else:
            np.save(tmp_path / "x.npy", x)
        return tmp_path / f"x.{request.param}"

    return write


@pytest.mark.parametrize(
    ("shape", "dtype", "kind", "expected", "note"),
    [
        ((6,), "f4", "auto", (6,), "float32 read as a table (N, D)"),
        ((6,), "u2", "auto", (6,), "uint16 read as a table (N, D)"),
        ((6,), "u1", "auto", (6,), "uint8 read as a table (N, D), not divided by 255"),
        (
            (1, 140),
            "f4",
            "auto",
            (1, 140),
            "float32 read as signals (N, C, T); data.kind=pictures reads (N, H, W)",
        ),
        ((15, 40), "i2", "auto", (15, 40), "int16 read as signals (N, C, T); data.kind=pictures"),
        ((1, 140), "f4", "pictures", (1, 1, 140), "float32 read as pictures (N, H, W)"),
        (
            (16, 40),
            "f4",
            "auto",
            (1, 16, 40),
            "float32 read as pictures (N, H, W); data.kind=values keeps it as it is",
        ),
        ((16, 40), "f4", "values", (16, 40), "float32 read as it is"),
        (
            (2, 3),
            "u1",
            "auto",
            (1, 2, 3),
            "uint8 read as pictures (N, H, W), 0 to 255 as 0 to 1; data.kind=values keeps",
        ),
        ((2, 3), "u1", "pictures", (1, 2, 3), "uint8 read as pictures (N, H, W), 0 to 255 as"),
        ((2, 3), "u1", "values", (2, 3), "uint8 read as it is, not divided by 255"),
        ((3, 5, 6), "f8", "auto", (3, 5, 6), "float64 read as maps (N, C, H, W)"),
        ((64, 8, 8), "f4", "auto", (64, 8, 8), "float32 read as maps (N, C, H, W)"),
        ((5, 4, 3), "f8", "values", (5, 4, 3), "float64 read as it is"),
        ((1, 2, 3, 5), "f2", "auto", (1, 2, 3, 5), "float16 read as volumes (N, C, D, H, W)"),
        ((1, 2, 3, 5), "u1", "auto", (1, 2, 3, 5), "uint8 read as volumes (N, C, D, H, W), 0 to"),
        ((1, 2, 1, 2, 1), "i4", "auto", (1, 2, 1, 2, 1), "int32 read as it is"),
    ],
)
def test_any_shape(save, shape, dtype, kind, expected, note):
    data = NPZ(root=str(save(numbered(shape, dtype))), kind=kind)
    assert data.shape == expected
    assert data.size_note == ""
    data.setup()
    assert data.size_note.startswith(note)
    assert "\n" not in data.size_note
    parts = {split: seen(data, split) for split in ("train", "val", "test")}
    assert {split: len(x) for split, x in parts.items()} == {"train": 16, "val": 2, "test": 2}
    scaled = dtype == "u1" and kind != "values" and len(shape) > 1
    for x in parts.values():
        assert x.shape[1:] == expected
        assert x.dtype == (torch.uint8 if scaled else torch.float32)
        assert torch.equal(x, x.flatten(1)[:, :1].reshape(-1, *[1] * len(expected)).expand_as(x))
    numbers = torch.cat(list(parts.values())).flatten(1)[:, 0]
    assert sorted(numbers.tolist()) == list(range(COUNT))
    assert data.value_range == ((0, 1) if scaled else (0, COUNT - 1))
    assert data.whole == (not scaled)


@pytest.mark.parametrize("dtype", [bool, np.uint8])
@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 5), (1, 2, 2, 5)])
def test_bits_stay_bits(save, dtype, shape):
    data = loaded(save(numbered(shape) % 2 == 1 if dtype is bool else numbered(shape, dtype) % 2))
    assert seen(data, "train").unique().tolist() == [0, 255]
    assert data.value_range == (0, 1)
    assert data.whole
    assert (", 0 and 1 as they are" in data.size_note) == (dtype is np.uint8)


def test_channels_last_are_moved(save):
    x = np.random.default_rng(0).random((COUNT, 5, 4, 3), dtype=np.float32)
    data = loaded(save(x), layout="NHWC")
    assert data.shape == (3, 5, 4)
    assert "read as (N, …, C), the channels moved to the front" in data.size_note
    found = {tuple(example.flatten().tolist()) for example in seen(data, "train")}
    assert found <= {tuple(example.transpose(2, 0, 1).flatten().tolist()) for example in x}
    signals = NPZ(root=str(save(x[:, 0])), layout="NHWC")
    assert signals.shape == (3, 4)


def test_npy_is_mapped_and_split_by_rows(tmp_path):
    x = np.random.default_rng(0).random((50, 2, 7))
    np.save(tmp_path / "x.npy", x)
    data, in_memory = loaded(tmp_path / "x.npy"), tmp_path / "x.npz"
    np.savez(in_memory, x=x)
    in_memory = loaded(in_memory)
    for split, part in data.splits.items():
        assert isinstance(part, Rows)
        assert isinstance(part.array, np.memmap)
        assert part.array.shape == x.shape  # none is copied
        assert torch.equal(torch.from_numpy(part[:]), in_memory.splits[split])
    for train in (True, False):
        batches = [
            d.train_dataloader() if train else d.test_dataloader() for d in (data, in_memory)
        ]
        for a, b in zip(*batches, strict=True):
            assert torch.equal(a.flatten(1).sum(1).sort()[0], b.flatten(1).sum(1).sort()[0])
            a.zero_()  # a copy: neither read-only nor the file
    assert np.array_equal(np.load(tmp_path / "x.npy"), x)
    part = data.splits["test"]
    assert np.array_equal(part[[0, 3]], part[:][[0, 3]])
    assert len(pickle.loads(pickle.dumps(part))) == len(part) == 5


def test_npy_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "PIECE", 100)
    asked = []
    monkeypatch.setattr(
        Form,
        "__call__",
        lambda self, rows, of=Form.__call__: asked.append(len(rows)) or of(self, rows),
    )
    np.save(tmp_path / "x.npy", numbered((5,)))
    data = loaded(tmp_path / "x.npy")
    assert data.value_range == (0, COUNT - 1)
    assert asked == [5, 5, 5, 5]  # once, and not again for the range


@pytest.mark.parametrize("order", ["C", "F"])
def test_shape_needs_the_header_only(tmp_path, order):
    np.save(tmp_path / "x.npy", np.asarray(numbered((3, 40)), order=order))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:128])
    data = NPZ(root=str(tmp_path / "x.npy"))
    assert data.shape == (3, 40)
    assert "array 'x' is damaged" in refused(data)
    (tmp_path / "x.npy").write_bytes(whole)
    assert sorted(seen(loaded(tmp_path / "x.npy"), "val")[:, 0, 0].tolist()) != [0, 0]
    (tmp_path / "x.npy").write_bytes(b"no")
    assert "x.npy is not an .npy file or is damaged" in refused(data)


@pytest.mark.parametrize("val", ["val", "valid", None])
def test_folder_of_npy(tmp_path, val):
    x = numbered((1, 30))
    parts = {"train": x[:12], "test": x[15:]} | ({val: x[12:15]} if val else {})
    for name, part in parts.items():
        np.save(tmp_path / f"{name}.npy", part)
        np.save(tmp_path / f"{name}_labels.npy", np.arange(len(part)))
    data = loaded(tmp_path)
    assert data.shape == (1, 30)
    assert {k: len(v) for k, v in data.splits.items()} == (
        {"train": 12, "val": 3, "test": 5} if val else {"train": 11, "val": 1, "test": 5}
    )
    assert seen(data, "test")[:, 0, 0].tolist() == [15, 16, 17, 18, 19]
    assert all(isinstance(part.array, np.memmap) for part in data.splits.values())
    by_key = loaded(tmp_path, key="train")
    assert [len(part) for part in by_key.splits.values()] == [10, 1, 1]


def test_splits_are_the_same_each_time(save):
    root = save(numbered((4,)))
    one, two = loaded(root), loaded(root)
    assert all(torch.equal(seen(one, split), seen(two, split)) for split in one.splits)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_npy_refuses_nan_and_infinity(tmp_path, monkeypatch, value):
    monkeypatch.setattr(arrays, "PIECE", 100)
    x = numbered((2, 3), np.float64)
    x[11, 1, 2] = x[17] = value
    np.save(tmp_path / "x.npy", x)
    message = refused(NPZ(root=str(tmp_path / "x.npy")))
    assert "array 'x' has NaN or infinity in 2 of 20 examples, the first at index 11" in message


def test_kind_and_flip_are_checked(save):
    with pytest.raises(ValueError, match=r"^data.kind='x' is unknown; allowed: auto, pictures, v"):
        NPZ(kind="x")
    root = str(save(numbered((1, 30))))
    assert loaded(root, kind="pictures", flip=True).shape == (1, 1, 30)
    message = refused(NPZ(root=root, flip=True))
    assert message == (
        "data.flip=True mirrors pictures (C, H, W), and an example has the shape (1, 30); leave"
        " data.flip out"
    )


@pytest.mark.parametrize("shape", [(9,), (1, 2, 3, 5)])
def test_what_is_no_picture(save, shape):
    message = refused(NPZ(root=str(save(numbered(shape))), kind="pictures"))
    assert (
        "; pictures are (N, H, W) or (N, C, H, W), or (N, H, W, C) with data.layout=NHWC: rearr"
        in message
    )


@pytest.mark.parametrize(
    "shape",
    [(8, 8, 4), (28, 20, 1), (16, 16, 64), (3, 3, 3), (1, 28, 1), (8, 8, 8, 2), (6, 6, 6, 9)],
)
def test_channels_that_could_come_last(save, shape):
    """Their order is never guessed from sizes."""
    root = save(numbered(shape))
    message = refused(NPZ(root=str(root)))
    assert message.endswith("could be first or last; say which: --data.layout NCHW, or NHWC")
    assert loaded(root, kind="values").shape == shape
    assert loaded(root, layout="NCHW").shape == shape
    assert loaded(root, layout="NHWC").shape == (shape[-1], *shape[:-1])


@pytest.mark.parametrize("shape", [(64, 16, 16), (3, 218, 178), (1, 1, 140), (64, 20, 30)])
def test_channels_that_come_first(save, shape):
    assert loaded(save(numbered(shape))).shape == shape


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("x_train", "x_valid", "x_test"),
        ("Train_images", "VALIDATION_images", "Test_Images"),
        ("train-x", "val-x", "test-x"),
        ("train_data", "valid_data", "testing_data"),
    ],
)
@pytest.mark.parametrize("labels", ["y_{}", "{}_labels", "{}_library"])
@pytest.mark.parametrize("file", ["npz", "folder"])
def test_sets_as_the_world_names_them(names, labels, file, tmp_path):
    x = numbered((6,))
    parts = dict(zip(names, (x[:12], x[12:15], x[15:]), strict=True))
    split = dict(zip(("train", "val", "test"), (12, 3, 5), strict=True))
    arrays = parts | {labels.format(k): np.zeros((n, 2)) for k, n in split.items()}
    for name, array in arrays.items():
        if file == "folder":
            np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "x.npz", **arrays)
    data = loaded(tmp_path if file == "folder" else tmp_path / "x.npz")
    assert {k: len(v) for k, v in data.splits.items()} == split
    assert seen(data, "test")[:, 0].tolist() == [15, 16, 17, 18, 19]
    first = labels.format("test" if file == "folder" else "train")
    assert f"not trained on: {first}" in data.size_note


def test_sets_that_are_missing(tmp_path):
    x = numbered((6,))
    np.savez(tmp_path / "a.npz", train=x, val=x[:4])
    message = refused(NPZ(root=str(tmp_path / "a.npz")))
    assert "no test set: data.test_fraction 0 measures the validation set, 0.1 takes a" in message
    data = loaded(tmp_path / "a.npz", test_fraction=0)
    assert list(data.splits) == ["train", "val"] and "no test set" in data.size_note
    data = loaded(tmp_path / "a.npz", test_fraction=0.25)
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 15, "val": 4, "test": 5}
    assert "0.25 of train, at random, for test" in data.size_note
    np.savez(tmp_path / "b.npz", x=x)
    data = loaded(tmp_path / "b.npz", test_fraction=0, val_fraction=0)
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 20}
    np.savez(tmp_path / "c.npz", val=x, test=x)
    assert "has val, test and no training set" in refused(NPZ(root=str(tmp_path / "c.npz")))
    np.savez(tmp_path / "d.npz", train=x, x_train=x, test=x)
    assert len(loaded(tmp_path / "d.npz").splits["test"]) == 20
    np.savez(tmp_path / "e.npz", data_train=x, x_train=x, test=x)
    message = refused(NPZ(root=str(tmp_path / "e.npz")))
    assert "data_train and x_train could both be the train set; rename one" in message
    message = refused(NPZ(root=str(tmp_path / "d.npz"), test_fraction=0.1))
    assert "data.test_fraction=0.1 is given, and" in message
    for wrong in ({"val_fraction": -0.1}, {"val_fraction": 0.5, "test_fraction": 0.5}):
        with pytest.raises(ValueError, match=r"outside \[0, 1\)|leave nothing to train on"):
            NPZ(**wrong)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_of_npz_are_mapped(compressed, order, tmp_path, monkeypatch, capfd):
    x = np.random.default_rng(0).random((50, 3, 30)).astype(np.float32)
    write = np.savez_compressed if compressed else np.savez
    write(tmp_path / "x.npz", other=np.arange(7), x=np.asarray(x, order=order))
    small = loaded(tmp_path / "x.npz")
    monkeypatch.setattr("multibeta.data.npz.IN_MEMORY", 100)
    for _ in range(2):
        large = loaded(tmp_path / "x.npz")
        for split, part in large.splits.items():
            assert isinstance(part, Rows) and isinstance(part.array, np.memmap)
            assert torch.equal(torch.from_numpy(part[:]), small.splits[split])
    assert capfd.readouterr().err.count("unpacking") == compressed


def test_a_flipped_bit_and_a_false_header_are_refused(tmp_path, monkeypatch):
    x = np.random.default_rng(0).random((50, 3, 30)).astype(np.float32)
    path = tmp_path / "x.npz"
    for limit in (2**28, 100):
        monkeypatch.setattr("multibeta.data.npz.IN_MEMORY", limit)
        np.savez(path, x=x)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(bytes(content))
        assert "array 'x' is damaged" in refused(NPZ(root=str(path)))
        np.savez(path, x=x)
        content = path.read_bytes().replace(b"(50, 3, 30), }", b"(50000000,30)}")
        path.write_bytes(content)
        assert "its header says 6,000,000,128 bytes, it has" in refused(NPZ(root=str(path)))


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (torch.tensor([[1.0, -2.0]]), (-2, 1, True)),
        (torch.tensor([[0.5, 1.0]], dtype=torch.bfloat16), (0.5, 1, False)),
        (np.array([[3, 70_000]]), (3, 70_000, True)),
        (np.array([[3, 7]], dtype=np.uint16), (3, 7, True)),
        (torch.tensor([[True]]), (1, 1, True)),
        (torch.tensor([[0, 255]], dtype=torch.uint8), (0, 1, True)),
        (np.array([[0, 254]], dtype=np.uint8), (0, 1, False)),
    ],
)
def test_values_of_any_data_set(x, expected):
    class Own(ImageData):
        def load(self):
            return {"train": x, "val": x, "test": x}

    data = Own()
    assert (*data.value_range, data.whole) == expected


def test_pieces(monkeypatch):
    monkeypatch.setattr(arrays, "PIECE", 3)
    x = torch.arange(7, dtype=torch.uint8)
    assert [len(piece) for piece in pieces(x)] == [3, 3, 1]
    assert values_of(torch.tensor([[1.0], [np.nan], [2.0], [np.inf]]))[3:] == (2, 1)


@pytest.mark.skipif(not REAL, reason="needs MULTIBETA_DATA")
@pytest.mark.parametrize(
    ("name", "shape", "whole", "train"),
    [
        ("ecg5000/ecg5000", (1, 140), False, 3500),
        ("mitbih2/mitbih2", (2, 128), False, 12_000),
        ("cells/worm", (1200,), True, 2930),
        ("freyfaces/frey", (1, 28, 20), False, 1573),
        ("binarized_mnist/binarized_mnist", (1, 28, 28), True, 50_000),
    ],
)
def test_real_arrays(name, shape, whole, train):
    path = Path(REAL) / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    data = loaded(path)
    assert (data.shape, data.whole, len(data.splits["train"])) == (shape, whole, train)


def test_memory_of_a_mapped_file_is_given_back(tmp_path, monkeypatch):
    def resident():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))

    np.save(tmp_path / "x.npy", np.ones((40_000, 1000), np.float32))
    data, before = loaded(tmp_path / "x.npy"), resident()
    assert data.splits["train"][:].sum() == 32_000_000
    assert resident() - before > 100_000  # kB, of 160 MB
    let_go(data.splits["train"])
    assert resident() - before < 10_000
    given = []
    monkeypatch.setattr("multibeta.data.batches.let_go", given.append)
    assert len([*data.train_dataloader()]) == 8000
    assert len(given) > 50  # every 2 MB


def test_a_data_set_is_known_by_its_name_in_a_new_process(tmp_path):
    np.save(tmp_path / "x.npy", numbered((6,)))
    done = subprocess.run(
        [sys.executable, "-m", "multibeta", "fit", "--data", "NPZ", "--print_config",
         f"--data.root={tmp_path / 'x.npy'}"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "class_path: multibeta.data.npz.NPZ" in done.stdout
