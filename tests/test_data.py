"""The data sets, read from small files of the real formats."""

import inspect
import itertools
import os
import struct
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from multibeta.data import (
    CIFAR10,
    MNIST,
    NPZ,
    BinarizedMNIST,
    CelebA,
    Digits,
    FashionMNIST,
    Folder,
    Gaussian,
    Omniglot,
    Sprites,
)
from multibeta.data.gaussian import optimal_variance, water_filling
from tests.helpers import refused

REAL = os.environ.get("MULTIBETA_DATA")


@pytest.fixture(autouse=True)
def no_user_folders(monkeypatch, tmp_path):
    monkeypatch.delenv("MULTIBETA_DATA", raising=False)
    monkeypatch.setenv("MULTIBETA_CACHE", str(tmp_path / "cache"))


def rng():
    return np.random.default_rng(0)


def check_splits(data, counts):
    data.setup()
    assert {name: len(x) for name, x in data.splits.items()} == dict(
        zip(("train", "val", "test"), counts, strict=True)
    )
    for images in data.splits.values():
        assert images.shape[1:] == data.shape
        assert images.dtype in (torch.uint8, np.uint8, torch.float32)


# every class


@pytest.mark.parametrize(
    "cls",
    [
        BinarizedMNIST,
        CIFAR10,
        CelebA,
        Digits,
        FashionMNIST,
        Folder,
        Gaussian,
        MNIST,
        NPZ,
        Omniglot,
        Sprites,
    ],
)
def test_arguments_are_attributes(cls):
    data = cls()
    for name, parameter in inspect.signature(cls).parameters.items():
        assert getattr(data, name) == parameter.default
        assert f"    {name}: " in cls.__doc__, f"{name} is not documented"
    assert data.size_note == ""
    assert repr(eval(str(data))) == str(data)
    assert ("flip" in inspect.signature(cls).parameters) == (cls in (CIFAR10, CelebA, Folder, NPZ))


@pytest.mark.parametrize("cls", [BinarizedMNIST, CIFAR10, CelebA, FashionMNIST, Folder, MNIST])
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_missing_root(cls, by, tmp_path, monkeypatch):
    missing = str(tmp_path / "no-such-folder")
    if by == "environment" and cls is not Folder:
        monkeypatch.setenv("MULTIBETA_DATA", missing)
        message, name = refused(cls(), FileNotFoundError), "MULTIBETA_DATA"
    else:
        message, name = refused(cls(root=missing), FileNotFoundError), "data.root"
    assert message.startswith(f"{name}={missing!r} does not exist; {cls.__name__} needs ")


@pytest.mark.parametrize("cls", [BinarizedMNIST, CelebA, Folder])
def test_empty_root(cls, tmp_path):
    (tmp_path / "empty").mkdir()
    message = refused(cls(root=str(tmp_path / "empty")), FileNotFoundError)
    assert "is empty; " in message
    (tmp_path / "file").touch()
    assert "is not a folder; " in refused(cls(root=str(tmp_path / "file")), FileNotFoundError)


@pytest.mark.parametrize("cls", [CIFAR10, FashionMNIST, MNIST, Omniglot])
def test_empty_root_without_download(cls, tmp_path):
    (tmp_path / "empty").mkdir()
    data = cls(root=str(tmp_path / "empty"), download=False)
    assert f"is empty; {cls.__name__} needs" in refused(data, FileNotFoundError)
    (tmp_path / "empty" / "other").touch()
    data = cls(root=str(tmp_path / "empty"), download=False)
    assert "; set data.download" not in refused(data, FileNotFoundError)


@pytest.mark.parametrize("cls", [CIFAR10, FashionMNIST, MNIST, Omniglot])
def test_failed_download(cls, tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise URLError("Name or service not known")

    for module in ("mnist", "cifar", "omniglot"):
        target = f"torchvision.datasets.{module}.download_and_extract_archive"
        monkeypatch.setattr(target, no_network)
    message = refused(cls(root=None), OSError)
    assert message.startswith(f"{cls.__name__} could not be downloaded (")
    assert "Name or service not known" in message


# digits and gaussian


def test_digits():
    data = Digits()
    check_splits(data, (1258, 180, 359))
    assert data.shape == (1, 8, 8)
    assert data.value_range == (0.0, 1.0)
    images = torch.cat([data.splits[name] for name in ("train", "val", "test")])
    assert images.max() == 255
    assert len(images.unique()) == 17
    assert len(images.flatten(1).unique(dim=0)) == 1797  # no image is in two sets


def test_gaussian_has_the_given_moments():
    data = Gaussian(eigenvalues=[3.0, 1.0, 0.5, 0.01], size=500, data_seed=3)
    check_splits(data, (500, 10_000, 10_000))
    assert data.shape == (1, 1, 4)
    for images in data.splits.values():
        x = images.flatten(1).double()
        assert x.mean(0).abs().max() < 1e-6
        moments = x.T @ x / len(x)
        torch.testing.assert_close(
            torch.linalg.eigvalsh(moments),
            torch.tensor([0.01, 0.5, 1.0, 3.0], dtype=torch.double),
            rtol=1e-5,
            atol=1e-6,
        )
        assert (moments - moments.diag().diag()).abs().max() > 0.1  # U is not the identity
    low, high = data.value_range
    assert low < -3 < 3 < high
    other = Gaussian(eigenvalues=[3.0, 1.0, 0.5, 0.01], size=500, data_seed=4)
    other.setup()
    assert not torch.equal(other.splits["train"], data.splits["train"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"eigenvalues": [1.0, 0.0]},
        {"eigenvalues": [1.0, -1.0]},
        {"eigenvalues": [float("nan")]},
        {"eigenvalues": []},
        {"eigenvalues": [1.0, 1.0], "size": 2},
    ],
)
def test_gaussian_refuses(arguments):
    with pytest.raises(ValueError, match=r"^data\.(eigenvalues|size)=") as info:
        Gaussian(**arguments)
    assert "\n" not in str(info.value)


def test_gaussian_optimum_is_that_of_its_spectrum():
    data = Gaussian()
    assert data.shape == (1, 1, 16)
    assert data.optimum(0.5, 0.1, 8) == water_filling(data.spectrum, 0.5, 0.1, 8)


def test_water_filling_is_an_optimum():
    spectrum, sigma = rng().exponential(size=12), 0.7
    betas = np.geomspace(0.01, 30, 4000)
    curve = np.array([water_filling(spectrum, beta, sigma, 9) for beta in betas])
    rate, distortion = curve.T
    assert (np.diff(rate) <= 0).all()
    assert (np.diff(distortion) >= 0).all()
    middle = np.sqrt(betas[1:] * betas[:-1])  # dD = -β dR
    np.testing.assert_allclose(np.diff(distortion), -middle * np.diff(rate), rtol=1e-2, atol=1e-5)
    for i, beta in enumerate(betas[::500]):  # no other point of the curve is better at this β
        assert (distortion + beta * rate).argmin() == pytest.approx(500 * i, abs=1) or (
            rate[500 * i] == 0
        )


@pytest.mark.parametrize("beta", [0.5, 1, 2, 4])
@pytest.mark.parametrize("latents", [1, 6, 15])
def test_the_optimal_variance_is_where_the_objective_is_least(beta, latents):
    spectrum = Gaussian().spectrum

    def objective(variance):
        rate, distortion = water_filling(spectrum, beta, variance**0.5, latents)
        return distortion + beta * rate

    grid = np.exp(np.linspace(np.log(1e-3), np.log(4), 4001))
    best = grid[np.argmin([objective(variance) for variance in grid])]
    assert optimal_variance(spectrum, beta, latents) == pytest.approx(best, rel=2e-3)


def test_the_optimal_variance_is_that_of_probabilistic_pca():
    spectrum = Gaussian().spectrum
    assert optimal_variance(spectrum, 1, 6) == pytest.approx(np.mean(spectrum[6:]))
    with pytest.raises(ValueError, match=r"no optimal σ at beta=0\.5 with 16 latents for 16 dim"):
        optimal_variance(spectrum, 0.5, 16)
    with pytest.raises(ValueError, match="beta=0 must be positive"):
        optimal_variance(spectrum, 0, 6)
    assert optimal_variance(spectrum, 2, 16) > 0


def test_water_filling_of_two_values():
    rate, distortion = water_filling([1.0, 4.0, 0.0], beta=2.0, sigma=1.0, latent_dim=1)
    assert rate == pytest.approx(0.5 * np.log(2))
    assert distortion == pytest.approx((2 + 1) / 2 + 1.5 * np.log(2 * np.pi))
    with pytest.raises(ValueError, match="must be positive"):
        water_filling([1.0], beta=0.0, sigma=1.0, latent_dim=1)


@pytest.mark.skipif(
    not REAL or not (Path(REAL) / "binarized_mnist").is_dir(), reason="needs MULTIBETA_DATA"
)
def test_water_filling_of_mnist():
    """The figures of FACTS §2.1: k = 32, σ² = ½, the spectrum of the training set."""
    data = BinarizedMNIST(root=REAL)
    check_splits(data, (50_000, 10_000, 10_000))
    x = data.splits["train"].flatten(1).float() / 255
    x -= x.mean(0)
    spectrum = torch.linalg.eigvalsh((x.T @ x / len(x)).double()).clamp(min=0).numpy()
    table = {
        0.01: (83.88, 26.85),
        0.0464: (59.32, 27.44),
        0.1: (47.04, 28.29),
        0.215: (34.76, 30.14),
        0.464: (22.48, 34.12),
        1: (10.72, 42.22),
        2.15: (4.04, 51.80),
        4.64: (0.986, 61.21),
        10: (0.015, 67.18),
    }
    # the table's β's are rounded: 0.0464 is 10^(-4/3)
    for beta, (rate, squared_error) in table.items():
        exact = 10 ** (round(3 * np.log10(beta)) / 3)
        found, distortion = water_filling(spectrum, exact, 0.5**0.5, 32)
        assert found == pytest.approx(rate, abs=0.01)
        assert distortion - 392 * np.log(np.pi) == pytest.approx(squared_error, abs=0.01)


# torchvision's formats


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def write_mnist(folder, count=18):
    images = rng().integers(0, 256, (count, 28, 28), dtype=np.uint8)
    for stem, part in (("train", images), ("t10k", images[:5])):
        write_idx(folder / f"{stem}-images-idx3-ubyte", part)
        write_idx(folder / f"{stem}-labels-idx1-ubyte", np.zeros(len(part), dtype=np.uint8))
    return torch.from_numpy(images)[:, None]


@pytest.mark.parametrize("cls", [MNIST, FashionMNIST])
def test_mnist(cls, tmp_path, monkeypatch):
    images = write_mnist(tmp_path / cls.__name__ / "raw")
    data = cls(root=str(tmp_path))
    check_splits(data, (15, 3, 5))
    assert torch.equal(torch.cat([data.splits["train"], data.splits["val"]]), images)
    assert torch.equal(data.splits["test"], images[:5])
    monkeypatch.setenv("MULTIBETA_DATA", str(tmp_path))
    check_splits(cls(download=False), (15, 3, 5))


def test_mnist_reads_a_folder_it_cannot_write(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw")
    before = sorted(tmp_path.rglob("*"))
    for folder in (tmp_path / "MNIST" / "raw", tmp_path / "MNIST"):
        folder.chmod(0o555)
    check_splits(MNIST(root=str(tmp_path)), (15, 3, 5))
    assert sorted(tmp_path.rglob("*")) == before


def test_mnist_cut_off(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    message = refused(MNIST(root=str(tmp_path)), OSError)
    assert message.startswith(f"the files of MNIST in {str(tmp_path)!r} cannot be read (")


def test_cifar10(monkeypatch):
    images = rng().integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)

    class Fake:
        def __init__(self, root, train, download):
            self.data = images if train else images[:4]
            self.classes = ["airplane", "automobile"]
            self.targets = [i % 2 for i in range(len(self.data))]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fake)
    data = CIFAR10(flip=True)
    check_splits(data, (18, 2, 4))
    assert torch.equal(data.splits["val"], torch.from_numpy(images[18:]).permute(0, 3, 1, 2))
    assert data.labels("val")["class"].tolist() == ["airplane", "automobile"]
    assert CIFAR10(flip=True, batch_size=4).train_dataloader().flip


# omniglot


def character_sheet(characters):
    paper = np.ones((characters, 20, 105, 105), dtype=bool)
    paper[:, :, 20:80, 50:55] = False
    paper[:, 19, :, :] = False  # the last drawer blackens the sheet
    return paper


@pytest.mark.parametrize("folder", ["omniglot", ""])
def test_omniglot_from_npz(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    for part, count in (("background", 3), ("evaluation", 2)):
        np.savez(tmp_path / folder / f"images_{part}.npz", images=character_sheet(count))
    data = Omniglot(root=str(tmp_path))
    check_splits(data, (3 * 18, 3 * 2, 2 * 20))
    ink = data.splits["train"].float() / 255
    share = 60 * 5 / 105**2
    assert ink.mean().item() == pytest.approx(share, abs=0.002)  # antialiasing keeps the ink
    assert data.splits["val"].flatten(1).float().mean(1)[[1, 3, 5]].tolist() == [255.0] * 3
    assert Omniglot(root=str(tmp_path), size=32).shape == (1, 32, 32)


def test_omniglot_from_pictures(tmp_path, monkeypatch):
    from PIL import Image

    for part, count in (("background", 2), ("evaluation", 1)):
        for number, drawings in enumerate(character_sheet(count)):
            folder = (
                tmp_path / "omniglot-py" / f"images_{part}" / "Greek" / f"character{number:02}"
            )
            folder.mkdir(parents=True)
            for drawer, paper in enumerate(drawings):
                Image.fromarray(paper).save(folder / f"0001_{drawer + 1:02}.png")
        np.savez(tmp_path / f"images_{part}.npz", images=character_sheet(count))
    from_npz = Omniglot(root=str(tmp_path))
    from_npz.setup()
    for path in tmp_path.glob("*.npz"):
        path.unlink()
    monkeypatch.setattr(torchvision.datasets.Omniglot, "_check_integrity", lambda _: True)
    counts = {"images_background": 2, "images_evaluation": 1}
    monkeypatch.setattr("multibeta.data.omniglot.PARTS", counts)
    data = Omniglot(root=str(tmp_path), download=False)
    check_splits(data, (36, 4, 20))
    for name, images in data.splits.items():
        difference = images.int() - from_npz.splits[name].int()
        assert difference.abs().max() <= 1  # PIL and torch round differently
    (folder / "0001_07.png").unlink()
    assert "holds 19 images and not 20" in refused(Omniglot(root=str(tmp_path), download=False))


def test_omniglot_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"^data.size=0 is not possible; choose 1 to 105$"):
        Omniglot(size=0)
    np.savez(tmp_path / "images_background.npz", images=np.zeros((2, 3)))
    assert "array 'images' is float64 (2, 3)" in refused(Omniglot(root=str(tmp_path)))
    (tmp_path / "images_background.npz").write_text("no zip")
    assert "cannot be read" in refused(Omniglot(root=str(tmp_path)))


# npz and binarised MNIST


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        path = tmp_path / "images.npz"
        np.savez(path, **arrays)
        return NPZ(root=str(path))

    return write


def test_npz_with_three_sets(npz):
    x = rng().integers(0, 256, (9, 4, 5), dtype=np.uint8)
    for val in ("val", "valid"):
        data = npz(**{"train": x[:4], val: x[4:6], "test": x[6:], "labels": np.arange(9)})
        check_splits(data, (4, 2, 3))
        assert data.shape == (1, 4, 5)
        assert np.array_equal(data.splits["val"][:, 0], x[4:6])


def test_npz_takes_missing_val_from_train(npz):
    x = np.arange(60, dtype=np.uint8).reshape(-1, 1, 1).repeat(2, axis=2)
    data = npz(train=x[:40], test=x[40:])
    check_splits(data, (36, 4, 20))
    fit = torch.cat([data.splits["train"], data.splits["val"]])[:, 0, 0, 0]
    assert sorted(fit.tolist()) == list(range(40))


def test_npz_splits_one_array_the_same_way_each_time(npz):
    x = np.arange(50, dtype=np.uint8).reshape(-1, 1, 1) * np.ones((1, 3, 3), dtype=np.uint8)
    data = npz(anything=x, labels=np.arange(50))
    check_splits(data, (40, 5, 5))
    parts = [data.splits[name][:, 0, 0, 0].tolist() for name in ("train", "val", "test")]
    assert sorted(itertools.chain(*parts)) == list(range(50))
    again = NPZ(root=data.root)
    again.setup()
    assert all(torch.equal(again.splits[name], data.splits[name]) for name in data.splits)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((10, 16, 17), (1, 16, 17)),
        ((10, 6, 5), (6, 5)),
        ((10, 1, 6, 5), (1, 6, 5)),
        ((10, 3, 6, 5), (3, 6, 5)),
        ((10, 2, 6, 5), (2, 6, 5)),
        ((10, 64, 16, 16), (64, 16, 16)),
        ((10, 6, 7, 5), (6, 7, 5)),
    ],
)
def test_npz_layouts(npz, shape, expected):
    x = rng().random(shape, dtype=np.float32)
    data = npz(x=x)
    assert data.shape == expected
    check_splits(data, (8, 1, 1))
    images = torch.cat(list(data.splits.values()))
    assert images.shape[1:] == expected
    assert images.double().mean().item() == pytest.approx(x.mean(dtype=np.float64))


@pytest.mark.parametrize(
    ("array", "levels", "value_range"),
    [
        (np.eye(12, dtype=bool).reshape(12, 3, 4), [0, 255], (0.0, 1.0)),
        (np.eye(12, dtype=np.uint8).reshape(12, 3, 4), [0, 255], (0.0, 1.0)),
        (2 * np.eye(12, dtype=np.uint8).reshape(12, 3, 4), [0, 2], (0.0, 1.0)),
        (-3.0 * np.eye(12).reshape(12, 3, 4), [-3.0, 0.0], (-3.0, 0.0)),
        (np.eye(12, dtype=np.float16).reshape(12, 3, 4), [0.0, 1.0], (0.0, 1.0)),
        (np.eye(12, dtype=">f8").reshape(12, 3, 4), [0.0, 1.0], (0.0, 1.0)),
        (300 * np.eye(12, dtype=np.uint16).reshape(12, 3, 4), [0.0, 300.0], (0.0, 300.0)),
        (300 * np.eye(12, dtype=np.int64).reshape(12, 3, 4), [0.0, 300.0], (0.0, 300.0)),
        (np.eye(12, dtype=np.float32).reshape(12, 3, 4), [0.0, 1.0], (0.0, 1.0)),
    ],
)
def test_npz_types(npz, array, levels, value_range):
    data = npz(x=array)
    check_splits(data, (10, 1, 1))
    images = torch.cat(list(data.splits.values()))
    assert images.unique().tolist() == levels
    assert images.dtype == (torch.float32 if isinstance(levels[0], float) else torch.uint8)
    assert data.value_range == value_range


def test_npz_chooses_the_array(npz):
    x, y = np.zeros((10, 2, 2), dtype=np.uint8), np.ones((10, 3, 3), dtype=np.uint8)
    assert npz(first=x, images=y).shape == (1, 3, 3)
    data = npz(first=x, second=y)
    assert "several arrays of examples: first, second; choose one with --data.key" in refused(data)
    data.key = "second"
    assert data.shape == (1, 3, 3)
    data.key = "third"
    assert "no array data.key='third'; it holds first uint8 (10, 2, 2), second" in refused(data)


OBJECTS = np.empty((5, 2, 2), dtype=object)


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({"x": np.zeros((9, 4), dtype=complex)}, "array 'x' has the type complex128; allowed are"),
        ({"x": np.zeros((9, 4), dtype=str)}, "array 'x' has the type <U1; allowed are bool, int"),
        ({"x": OBJECTS}, "array 'x' has pickled Python objects; allowed are"),
        ({"x": np.zeros(9)}, "array 'x' has the shape (9,); allowed is (N, …)"),
        ({"x": np.zeros((9, 8, 8, 4))}, "shape (9, 8, 8, 4), whose channels could be first"),
        ({"x": np.zeros((0, 4, 4))}, "array 'x' has the shape (0, 4, 4); allowed is"),
        ({"x": np.zeros((1, 4, 4))}, "array 'x' holds 1 example; at least 3 are needed"),
        ({"a": np.zeros(3), "b": OBJECTS}, "array 'b' has pickled Python objects; allowed are"),
        (
            {"a": np.zeros(3), "b": np.zeros(3)},
            "has no array of examples (N, …); it holds a float64",
        ),
        ({}, "has no array of examples (N, …); it holds nothing"),
        (
            {"train": np.zeros((9, 4, 4)), "test": np.zeros((9, 5, 5))},
            "all sets need the same shape of an example; found train: (4, 4), test: (5, 5)",
        ),
        (
            {"train": np.zeros((9, 4, 4)), "test": np.zeros((9, 4, 4), dtype=np.uint8)},
            "all sets need the same type; found train: float64, test: uint8",
        ),
    ],
)
def test_npz_refuses(npz, arrays, found):
    data = npz(**arrays)
    message = refused(data)
    assert message.startswith(data.root)
    assert found in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_npz_refuses_nan_and_infinity(npz, value):
    x = np.zeros((9, 4, 4))
    x[5, 2, 2] = x[7] = value
    message = refused(npz(faces=x))
    assert "array 'faces' has NaN or infinity in 2 of 9 examples, the first at index 5" in message


def test_npz_paths(tmp_path):
    assert "data.root is not set; NPZ needs an .npz or .npy file there, or a" in refused(NPZ())
    message = refused(NPZ(root=str(tmp_path)), FileNotFoundError)
    assert message.startswith(f"data.root={str(tmp_path)!r} is a folder without .npy; NPZ needs")
    assert "does not exist" in refused(NPZ(root=str(tmp_path / "no.npz")), FileNotFoundError)
    (tmp_path / "text.npz").write_text("hello")
    assert "is not an .npz file or is damaged" in refused(NPZ(root=str(tmp_path / "text.npz")))


def test_npz_damaged(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=rng().integers(0, 256, (50, 9, 9), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[:1000] + bytes(100) + whole[1100:])
    assert "array 'x' is damaged" in refused(NPZ(root=str(path)))
    path.write_bytes(whole[:2000])
    assert "is not an .npz file or is damaged" in refused(NPZ(root=str(path)))


def test_npz_shape_reads_only_the_header(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((50, 9, 9), dtype=np.uint8))
    with zipfile.ZipFile(path) as archive:
        header = archive.read("x.npy")[:128]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header)  # no data behind it
    assert NPZ(root=str(path)).shape == (1, 9, 9)
    assert "array 'x' is damaged" in refused(NPZ(root=str(path)))


@pytest.mark.parametrize("folder", ["binarized_mnist", ""])
def test_binarized_mnist(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    x = rng().integers(0, 2, (10, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / folder / "binarized_mnist.npz", train=x[:6], valid=x[6:8], test=x[8:])
    data = BinarizedMNIST(root=str(tmp_path))
    check_splits(data, (6, 2, 2))
    assert data.shape == (1, 28, 28)
    assert np.array_equal(data.splits["train"][:, 0], 255 * x[:6])


def test_binarized_mnist_says_what_is_needed(tmp_path):
    (tmp_path / "other").touch()
    message = refused(BinarizedMNIST(root=str(tmp_path)), FileNotFoundError)
    assert "no binarized_mnist.npz in" in message
    assert "train (50000, 28, 28), valid and test" in message
