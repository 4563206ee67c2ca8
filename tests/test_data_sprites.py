"""Sprites, rendered and from files of dSprites' format."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from multibeta.data import Digits, Sprites
from multibeta.data.npz import npz_rows
from multibeta.data.sprites import FILES, GRID, NAMES
from tests.helpers import refused

REAL = os.environ.get("MULTIBETA_DATA")


def loaded(**arguments):
    data = Sprites(**arguments)
    data.setup()
    return data


def all_of(parts):
    return torch.cat([torch.as_tensor(parts[name]) for name in ("train", "val", "test")])


def write(folder, name=FILES[0], count=40, **changed):
    """Write a file of dSprites' format, whose picture is the number of its row in bits."""
    rows = np.arange(count)
    values = np.stack(
        [
            np.ones(count),
            1.0 + rows % 3,
            0.5 + 0.1 * (rows % 2),
            rows % 5 * 0.7,
            rows / count,
            np.full(count, 0.25),
        ],
        axis=1,
    )
    bits = (rows[:, None] >> np.arange(8) & 1).astype(np.uint8)
    images = np.zeros((count, 64, 64), dtype=np.uint8)
    images[:, 0, :8] = bits
    arrays = {"imgs": images, "latents_values": values} | changed
    poison = np.array([{"a": 1}], dtype=object)  # as in dSprites; reading it would fail
    np.savez_compressed(folder / name, metadata=poison, **arrays)
    return folder / name


def row_numbers(images):
    return (images[:, 0, 0, :8] // 255).long() @ (2 ** torch.arange(8))


def test_rendered_sprites():
    data = loaded()
    assert data.shape == (1, 64, 64)
    assert data.value_range == (0.0, 1.0)
    assert {k: len(v) for k, v in data.splits.items()} == {
        "train": 36_864, "val": 4_608, "test": 4_608,
    }  # fmt: skip
    assert data.factor_names == NAMES
    assert data.size_note == "46,080 of 46,080 images rendered"
    images, factors = all_of(data.splits), all_of(data.factors)
    assert images.shape == (46_080, 1, 64, 64)
    assert images[::50].unique().tolist() == [0, 255]
    assert factors.dtype == torch.int64
    assert (factors.max(0).values + 1).tolist() == list(GRID)
    assert len(set(map(tuple, factors.tolist()))) == 46_080
    # No two pictures are equal, so that none is in two sets and all factors can be told.
    packed = np.packbits(images.flatten(1).numpy() > 0, axis=1)
    assert len({row.tobytes() for row in packed}) == 46_080
    # No shape is cut off by the frame.
    assert not (images[..., [0, -1]].any() or images[..., [0, -1], :].any())


def test_rendered_factors_are_those_of_the_picture():
    data = loaded(size=3000)
    images, factors = all_of(data.splits)[:, 0].double() / 255, all_of(data.factors).double()
    area = images.sum((1, 2))
    x = (images.sum(1) @ torch.arange(64.0).double()) / area
    y = (images.sum(2) @ torch.arange(64.0).double()) / area
    shape, scale, orientation = factors[:, 0], factors[:, 1], factors[:, 2]
    # Squares and ellipses are symmetric about the place that x and y give.
    centred = shape < 2
    for place, of_one in ((x, factors[:, 3]), (y, factors[:, 4])):
        torch.testing.assert_close(place[centred], 16.5 + 2.0 * of_one[centred])
        assert (place - 16.5 - 2.0 * of_one).abs().max() < 2.5
    size = 0.5 + 0.1 * scale
    expected = torch.where(shape == 0, 400, torch.pi * 14 * 8) * size**2
    assert ((area - expected) / expected)[centred].abs().max() < 0.15
    # The long axis of an ellipse stands at a tenth of a quarter turn times its number.
    for image, number in zip(images[shape == 1][:50], orientation[shape == 1][:50], strict=True):
        down, right = torch.nonzero(image).T.double()
        moments = torch.cov(torch.stack([right, down]))
        _, axes = torch.linalg.eigh(moments)
        angle = torch.rad2deg(torch.atan2(axes[1, 1], axes[0, 1])) % 180
        away = (angle - 9 * number).abs()
        assert min(away, 180 - away) < 5


def test_the_same_each_time_and_mixed():
    one, two = loaded(size=2000), loaded(size=2000)
    for name in one.splits:
        assert torch.equal(one.splits[name], two.splits[name])
        assert torch.equal(one.factors[name], two.factors[name])
        assert len(one.factors[name]) == len(one.splits[name])
    assert one.size_note == "2,000 of 46,080 images rendered"
    # The first ones are of all kinds.
    assert [len(column.unique()) for column in one.factors["train"][:200].T] == list(GRID)


@pytest.mark.parametrize("where", ["", "dsprites"])
@pytest.mark.parametrize("name", FILES)
def test_dsprites_in_a_folder(tmp_path, monkeypatch, where, name):
    (tmp_path / where).mkdir(exist_ok=True)
    path = write(tmp_path / where, name)
    data = loaded(root=str(tmp_path))
    assert data.size_note == f"40 of 40 images of {path.name}"
    assert data.factor_names == ("shape", "scale", "orientation", "x")  # y has one value
    assert all_of(data.splits).unique().tolist() == [0, 255]
    rows = row_numbers(all_of(data.splits))
    assert sorted(rows.tolist()) == list(range(40))
    expected = torch.stack([rows % 3, rows % 2, rows % 5, rows], 1)
    assert torch.equal(all_of(data.factors), expected)
    by_path = loaded(root=str(path))
    monkeypatch.setenv("MULTIBETA_DATA", str(tmp_path))
    for other in (by_path, loaded()):
        assert torch.equal(all_of(other.splits), all_of(data.splits))


def test_dsprites_without_the_colour(tmp_path):
    with np.load(write(tmp_path), allow_pickle=False) as archive:
        values = archive["latents_values"][:, 1:]
    data = loaded(root=str(write(tmp_path, latents_values=values)))
    assert data.factor_names == ("shape", "scale", "orientation", "x")


def test_size_draws_from_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("multibeta.data.npz.BLOCK", 7)
    data = loaded(root=str(write(tmp_path)), size=12)
    rows = row_numbers(all_of(data.splits))
    assert len(set(rows.tolist())) == 12
    assert rows.max() > 20
    assert torch.equal(all_of(data.factors)[:, 0], rows % 3)
    assert data.size_note == f"12 of 40 images of {FILES[0]}"


def test_rows_of_an_array(tmp_path, monkeypatch):
    monkeypatch.setattr("multibeta.data.npz.BLOCK", 4)
    x = np.random.default_rng(0).random((11, 2, 3))
    np.savez(tmp_path / "x.npz", x=x, turned=np.asfortranarray(x[:, 0]))
    np.testing.assert_array_equal(npz_rows(tmp_path / "x.npz", "x"), x)
    rows = np.array([0, 3, 4, 10])
    np.testing.assert_array_equal(npz_rows(tmp_path / "x.npz", "x", rows), x[rows])
    for name, given, problem in (
        ("x", np.array([11]), "it has 11 rows, and 12 are needed"),
        ("y", rows, "There is no item named"),
        ("turned", rows, "in C's order"),
    ):
        with pytest.raises(ValueError, match=problem):
            npz_rows(tmp_path / "x.npz", name, given)


def test_paths(tmp_path, monkeypatch):
    message = refused(Sprites(root=str(tmp_path / "no")), FileNotFoundError)
    assert message.startswith(f"data.root={str(tmp_path / 'no')!r} does not exist; Sprites needs")
    (tmp_path / "other").touch()
    message = refused(Sprites(root=str(tmp_path)), FileNotFoundError)
    assert message.startswith(f"dSprites is not in {str(tmp_path)!r}; Sprites needs dSprites'")
    # Where nobody asked for the file, sprites are rendered.
    monkeypatch.setenv("MULTIBETA_DATA", str(tmp_path))
    assert loaded(size=10).size_note == "10 of 46,080 images rendered"
    monkeypatch.setenv("MULTIBETA_DATA", str(tmp_path / "no"))
    assert refused(Sprites(), FileNotFoundError).startswith("MULTIBETA_DATA=")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"latents_values": np.zeros(40)}, "array 'latents_values' has the shape (40,); Sprites"),
        ({"latents_values": np.zeros((40, 3))}, "has the shape (40, 3); Sprites needs"),
        ({"imgs": np.zeros((40, 8, 8), dtype=np.uint8)}, "array 'imgs' is uint8 (40, 8, 8), not"),
        ({"imgs": np.zeros((9, 64, 64), dtype=np.uint8)}, "has 9 rows, and 40 are needed"),
        ({"imgs": np.zeros((40, 64, 64))}, "array 'imgs' is float64 (40, 64, 64), not uint8"),
    ],
)
def test_files_that_are_not_sprites(tmp_path, changed, problem):
    message = refused(Sprites(root=str(write(tmp_path, **changed))))
    assert problem in message
    assert message.startswith(str(tmp_path))


def test_damaged_files(tmp_path):
    path = tmp_path / FILES[0]
    path.write_text("no zip")
    assert "array 'latents_values' cannot be read" in refused(Sprites(root=str(path)))
    np.savez(path, other=np.zeros(3))
    assert "There is no item named 'latents_values.npy'" in refused(Sprites(root=str(path)))


def test_size_is_checked():
    with pytest.raises(ValueError, match=r"^data.size=2 is too small; choose at least 3$"):
        Sprites(size=2)


def test_other_data_have_no_factors():
    data = Digits()
    data.setup()
    assert data.factors == {}
    assert data.factor_names == ()


@pytest.mark.skipif(not REAL or not (Path(REAL) / "dsprites").is_dir(), reason="needs dSprites")
def test_real_dsprites():
    data = loaded(root=REAL)
    assert data.factor_names == NAMES
    factors = all_of(data.factors)
    images = all_of(data.splits)[:, 0] > 0
    if "downsampled" in data.size_note:
        assert (factors.max(0).values + 1).tolist() == [3, 6, 10, 16, 16]
    # The smallest square of orientation 0 has nine or ten pixels a side.
    squares = images[(factors[:, :3] == 0).all(1)]
    assert set(squares.sum((1, 2)).tolist()) <= {81, 90, 100}
    x = squares.any(1).double().argmax(1).double()
    place = factors[(factors[:, :3] == 0).all(1)][:, 3].double()
    assert torch.corrcoef(torch.stack([x, place]))[0, 1] > 0.999
