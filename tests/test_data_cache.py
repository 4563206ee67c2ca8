"""CelebA, Folder and their cache of decoded images."""

import errno
import os
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from multibeta.data import CelebA, Folder
from multibeta.data import cache as cache_module
from tests.helpers import refused


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.delenv("MULTIBETA_DATA", raising=False)
    monkeypatch.setenv("MULTIBETA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def photos(tmp_path):
    """A folder of ten RGB images of one colour each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(10):
        picture(i).save(folder / f"{i}.png")
    return folder


def picture(i, mode="RGB", size=(10, 8)):
    return Image.new("RGB", size, (20 * i, 20 * i, 20 * i)).convert(mode)


def colours(data, *names):
    data.setup()
    return sorted(int(x[0, 0, 0]) for name in names or data.splits for x in data.splits[name])


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-40])


# folder


def test_folder_splits_by_a_fixed_seed(photos):
    data = Folder(root=str(photos), size=8)
    assert data.shape == (3, 8, 8)
    assert colours(data) == [20 * i for i in range(10)]
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [8, 1, 1]
    assert all(x.dtype == np.uint8 and x.shape[1:] == (3, 8, 8) for x in data.splits.values())
    assert data.value_range == (0.0, 1.0)
    again = Folder(root=str(photos), size=8)
    assert colours(again, "val") == colours(data, "val")
    batch = next(iter(Folder(root=str(photos), size=8, batch_size=4).train_dataloader()))
    assert batch.shape == (4, 3, 8, 8)


@pytest.mark.parametrize("val", ["val", "valid", None])
def test_folder_with_sets(photos, val):
    kept = {"train": range(6), "test": range(6, 8), val: range(8, 10)}
    for name, numbers in kept.items():
        if name is not None:
            (photos / name / "deep").mkdir(parents=True)
            for i in numbers:
                (photos / f"{i}.png").rename(photos / name / "deep" / f"{i}.png")
    data = Folder(root=str(photos), size=8)
    assert colours(data, "test") == [120, 140]
    if val:
        assert colours(data, "train") == [0, 20, 40, 60, 80, 100]
        assert colours(data, "val") == [160, 180]
    else:
        assert len(colours(data, "train")) == 5
        assert colours(data, "train", "val") == [0, 20, 40, 60, 80, 100]


def test_folder_takes_images_only(photos):
    (photos / "note.txt").write_text("no image")
    (photos / "._0.png").write_text("what macOS leaves behind")
    (photos / "9.png").rename(photos / "9.PNG")
    for suffix in ("bmp", "webp", "tif", "tiff", "jpeg"):
        picture(10).save(photos / f"a.{suffix}")
    assert len(colours(Folder(root=str(photos), size=8))) == 15


def test_folder_crops_the_centre(photos):
    image = Image.new("RGB", (30, 20), "red")
    image.paste("white", (9, 4, 21, 16))
    image.save(photos / "0.png")
    for i in range(10):
        image.save(photos / f"{i}.png")
    data = Folder(root=str(photos), size=4, crop=12)
    data.setup()
    assert all((x == 255).all() for x in data.splits.values())
    largest = Folder(root=str(photos), size=20)  # columns 5 to 25
    largest.setup()
    assert largest.splits["test"][0, 1].sum() == 255 * 12 * 12
    assert (largest.splits["test"][0, 1, 4:16, 4:16] == 255).all()


def test_folder_antialiases(photos):
    board = np.indices((64, 64)).sum(0) % 2 * 255
    for i in range(10):
        Image.fromarray(np.uint8(board)).save(photos / f"{i}.png")
    data = Folder(root=str(photos), size=8)
    data.setup()
    assert data.shape == (1, 8, 8)
    assert abs(data.splits["train"].astype(int) - 127.5).max() < 2


def test_folder_turns_photos_upright(photos):
    image = Image.new("RGB", (10, 8), "black")
    image.paste("white", (0, 0, 10, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    for i in range(10):
        image.save(photos / f"{i}.png", exif=exif)
    data = Folder(root=str(photos), size=8)
    data.setup()
    assert data.splits["train"][0, 0, :, 0].tolist() == [0] * 4 + [255] * 4


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "LA", "1", "I;16"])
def test_folder_refuses_a_mixture(photos, mode):
    path = photos / ("5.tif" if mode == "CMYK" else "5.png")
    (photos / "5.png").unlink()
    if mode == "I;16":
        Image.fromarray(np.full((8, 10), 20_000, dtype=np.uint16)).save(path)
    else:
        picture(5, mode).save(path)
    message = refused(Folder(root=str(photos), size=8))
    assert message.startswith(f"{path} has the mode {mode} and not RGB; ")
    assert "--data.convert RGB" in message
    data = Folder(root=str(photos), size=8, convert="RGB")
    assert data.shape == (3, 8, 8)
    assert len(colours(data)) == 10
    assert Folder(root=str(photos), size=8, convert="L").shape == (1, 8, 8)


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK"])
def test_folder_refuses_a_mode(photos, mode):
    for i in range(10):
        (photos / f"{i}.png").unlink()
        picture(i, mode).save(photos / f"{i}.tif")
    message = refused(Folder(root=str(photos), size=8))
    assert f"has the mode {mode}; all images must be 8-bit grey (L) or all RGB" in message
    assert "--data.convert RGB" in message


def test_folder_of_grey_images(photos):
    for i in range(10):
        picture(i, "L").save(photos / f"{i}.png")
    assert Folder(root=str(photos), size=8).shape == (1, 8, 8)
    assert colours(Folder(root=str(photos), size=8)) == [20 * i for i in range(10)]


@pytest.mark.parametrize("convert", ["RGB", "L"])
@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), 255),  # nothing, over white
        (Image.new("RGBA", (8, 8), (0, 0, 0, 51)), 204),
        (Image.new("LA", (8, 8), (100, 255)), 100),
        (Image.fromarray(np.full((8, 8), 100 * 257, dtype=np.uint16)), 100),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 255)), 0),
        (Image.new("1", (8, 8), 1), 255),
        (
            Image.new(
                "P",
                (8, 8),
                0,
            ),
            0,
        ),
        (Image.new("L", (8, 8), 77), 77),
    ],
)
def test_conversion(photos, convert, image, grey):
    for i in range(10):
        (photos / f"{i}.png").unlink()
        image.save(photos / f"{i}.tif")
    data = Folder(root=str(photos), size=8, convert=convert)
    data.setup()
    values = np.concatenate([x.ravel() for x in data.splits.values()])
    assert np.unique(values).tolist() == [grey]


def test_conversion_of_a_transparent_palette(photos):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 10, 10, 200, 0, 0])
    for i in range(10):
        image.save(photos / f"{i}.png", transparency=1)
    data = Folder(root=str(photos), size=8, convert="RGB")
    data.setup()
    assert (data.splits["train"] == 255).all()


def test_conversion_of_unknown_range(photos):
    (photos / "3.png").unlink()
    Image.new("F", (8, 8), 0.5).save(photos / "3.tif")
    message = refused(Folder(root=str(photos), size=8, convert="L"))
    assert message.startswith(f"{photos / '3.tif'} has the mode F (32 bits)")


def test_small_images(photos):
    message = refused(Folder(root=str(photos), size=9))
    assert message.startswith(f"{photos}/")
    assert "has 10x8 pixels, less than data.size=9; choose --data.size 8 or less" in message
    message = refused(Folder(root=str(photos), size=4, crop=9))
    assert "has 10x8 pixels, less than data.crop=9; choose --data.crop 8 or less" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "data.size=0 is too small; choose at least 1"),
        ({"size": 8, "crop": 4}, "data.crop=4 is smaller than data.size=8; choose a crop of at"),
        ({"convert": "RGBA"}, "data.convert='RGBA' is not allowed; choose L or RGB"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError) as info:
        Folder(root="x", **arguments)
    assert str(info.value).startswith(message)


def test_too_few_images(photos):
    for i in range(1, 10):
        (photos / f"{i}.png").unlink()
    assert "holds 1 example; at least 3 are needed" in refused(Folder(root=str(photos), size=8))
    (photos / "0.png").unlink()
    (photos / "readme.txt").touch()
    assert "holds no image; " in refused(Folder(root=str(photos)), FileNotFoundError)
    assert "data.root is not set; " in refused(Folder())


def test_shape_raises_the_same_errors(tmp_path):
    for cls in (Folder, CelebA):
        with pytest.raises(FileNotFoundError, match="does not exist; "):
            _ = cls(root=str(tmp_path / "nowhere")).shape
    with pytest.raises(FileNotFoundError, match="does not exist; "):
        _ = Folder(root=str(tmp_path / "nowhere"), convert="L").shape


# corrupt files


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_corrupt_files(photos, damage, capfd, cache):
    for i in (3, 5):  # both in the training set
        path = photos / f"{i}.jpg"
        (photos / f"{i}.png").unlink()
        picture(i).save(path)
        if damage == "cut":
            cut_off(path)
        else:
            path.write_text("hello" if damage == "text" else "")
    message = refused(Folder(root=str(photos), size=8))
    assert message.startswith((f"{photos / '3.jpg'} is corrupt (", f"{photos / '5.jpg'} is corr"))
    assert message.endswith("or leave such files out with --data.skip_corrupt true")
    assert not list(cache.glob("*.part")) + list(cache.glob(".*"))
    for _ in range(2):  # decoded, and from the cache
        capfd.readouterr()
        data = Folder(root=str(photos), size=8, skip_corrupt=True)
        kept = [20 * i for i in range(10) if i not in (3, 5)]
        np.testing.assert_allclose(colours(data), kept, atol=1)
        out, err = capfd.readouterr()
        assert "left out" in err
        assert out == ""
    assert "is corrupt" in refused(Folder(root=str(photos), size=8))  # the option is in the key


def test_corrupt_first_file(photos):
    (photos / "0.png").write_text("hello")
    data = Folder(root=str(photos), size=8, skip_corrupt=True)
    assert data.shape == (3, 8, 8)
    assert "0.png is corrupt (not an image)" in refused(Folder(root=str(photos), size=8))


def test_all_files_corrupt(photos):
    for path in photos.iterdir():
        path.write_text("hello")
    assert "can be read" in refused(Folder(root=str(photos), size=8, skip_corrupt=True))


def test_unreadable_file_is_not_called_corrupt(photos, monkeypatch):
    def denied(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    data = Folder(root=str(photos), size=8, skip_corrupt=True)
    assert data.shape
    monkeypatch.setattr(cache_module.Path, "open", denied)
    message = refused(data, OSError)
    assert "Permission denied" in message


# the cache


def test_second_use_reads_the_cache(photos, monkeypatch, capfd, cache):
    first = Folder(root=str(photos), size=8)
    first.setup()
    out, err = capfd.readouterr()
    assert out == ""
    assert "photos train: decoding 8 images" in err
    assert len(list(cache.iterdir())) == 3
    monkeypatch.setattr(cache_module.Recipe, "apply", None)  # nothing is decoded again
    second = Folder(root=str(photos), size=8)
    assert colours(second) == colours(first)
    assert isinstance(second.splits["train"], np.memmap)
    assert capfd.readouterr() == ("", "")


def test_cache_follows_moved_folder_and_not_the_source(photos, tmp_path, monkeypatch):
    before = sorted(photos.rglob("*"))
    colours(Folder(root=str(photos), size=8))
    assert sorted(photos.rglob("*")) == before
    photos.rename(tmp_path / "moved")
    monkeypatch.setattr(cache_module.Recipe, "apply", None)
    assert len(colours(Folder(root=str(tmp_path / "moved"), size=8))) == 10


@pytest.mark.parametrize("change", ["content", "file", "size", "crop", "convert"])
def test_cache_key(photos, cache, change):
    colours(Folder(root=str(photos), size=8))
    old = set(cache.iterdir())
    arguments = {"size": 8}
    if change == "content":
        path = photos / "5.png"
        picture(12).save(path)
        os.utime(path, ns=(1, 1))
    elif change == "file":
        picture(12).save(photos / "new.png")
    else:
        arguments |= {"size": {"size": 7}, "crop": {"crop": 8}, "convert": {"convert": "RGB"}}[
            change
        ]
    now = colours(Folder(root=str(photos), **arguments))
    assert set(cache.iterdir()) > old
    assert (240 in now) == (change in ("content", "file"))


def test_damaged_cache_is_made_anew(photos, cache):
    expected = colours(Folder(root=str(photos), size=8))
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:150])
    assert colours(Folder(root=str(photos), size=8)) == expected


def test_interrupt_leaves_nothing(photos, monkeypatch, cache):
    def interrupted(self, path):
        assert threading.current_thread() is not threading.main_thread()
        assert len(list(cache.iterdir())) == 1  # the part that has been written
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module.Recipe, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Folder(root=str(photos), size=8).setup()
    assert list(cache.iterdir()) == []


def test_cache_folder_that_cannot_be_written(photos, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MULTIBETA_CACHE", str(tmp_path / "file"))
    message = refused(Folder(root=str(photos), size=8), OSError)
    assert message.startswith("cannot write the image cache in ")
    assert "set MULTIBETA_CACHE to another folder" in message


def test_full_disk(photos, monkeypatch, cache):
    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = cache_module.Path.open
    monkeypatch.setattr(
        cache_module.Path,
        "open",
        lambda path, mode="r": Full(opened(path, mode)) if "w" in mode else opened(path, mode),
    )
    monkeypatch.setattr(cache_module, "_header", lambda *_: None)
    message = refused(Folder(root=str(photos), size=8), OSError)
    assert "(No space left on device); make room there" in message
    assert list(cache.iterdir()) == []


def test_cache_folders(monkeypatch, tmp_path):
    from multibeta.data.roots import cache_dir

    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("MULTIBETA_CACHE")
    assert str(cache_dir()) == "/xdg/multibeta"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache_dir()) == "/home/someone/.cache/multibeta"


def test_progress_bar_on_a_terminal(photos, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    colours(Folder(root=str(photos), size=8))
    out, err = capsys.readouterr()
    assert out == ""
    assert "photos train" in err
    assert "8/8" in err


# celeba


@pytest.fixture
def celeba(tmp_path):
    folder = tmp_path / "root" / "celeba"
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    lines = []
    for i in range(12):
        name = f"{i + 1:06}.jpg"
        lines.append(f"{name} {i % 3}")
        if i < 9:  # the others are listed and not at hand
            picture(i, size=(178, 218)).save(images / name)
    (folder / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "root"


@pytest.mark.parametrize("direct", [True, False])
def test_celeba(celeba, direct):
    data = CelebA(root=str(celeba / "celeba" if direct else celeba), flip=True, batch_size=3)
    assert data.shape == (3, 64, 64)
    assert data.size_note == ""
    assert colours(data, "train") == [0, 60, 120]
    assert colours(data, "val") == [20, 80, 140]
    assert colours(data, "test") == [40, 100, 160]
    assert data.size_note == "9 of 202,599 images"
    assert data.train_dataloader().flip
    assert not data.test_dataloader().flip


def test_celeba_crop(celeba):
    image = Image.new("RGB", (178, 218), "red")
    image.paste("white", (19, 39, 159, 179))
    for path in (celeba / "celeba" / "img_align_celeba").iterdir():
        image.save(path, "PNG")  # no rings at the edges; PIL goes by the content
    data = CelebA(root=str(celeba), size=32)
    data.setup()
    assert data.splits["train"].shape[1:] == (3, 32, 32)
    assert data.splits["train"].min() > 235  # no red at the edges of the centre 140x140


def test_celeba_missing(celeba, tmp_path):
    (celeba / "celeba" / "list_eval_partition.txt").unlink()
    message = refused(CelebA(root=str(celeba)), FileNotFoundError)
    assert message.startswith(f"CelebA is not in {str(celeba)!r}; CelebA needs img_align_celeba/")
    assert "official page" in message


def test_celeba_without_test_images(celeba):
    for i in (3, 6, 9):
        (celeba / "celeba" / "img_align_celeba" / f"{i:06}.jpg").unlink()
    message = refused(CelebA(root=str(celeba)))
    assert "has no image of the test set" in message
    assert "(train: 3, val: 3, test: 0)" in message


def test_celeba_corrupt(celeba, capfd):
    path = celeba / "celeba" / "img_align_celeba" / "000004.jpg"
    cut_off(path)
    assert refused(CelebA(root=str(celeba))).startswith(f"{path} is corrupt (")
    data = CelebA(root=str(celeba), skip_corrupt=True)
    assert colours(data, "train") == [0, 120]
    assert data.size_note == "8 of 202,599 images"
    assert "CelebA train: left out 1 corrupt of 3" in capfd.readouterr().err
