"""CelebA, Folder and their cache of decoded images."""

import errno
import os
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from multibeta.data import CelebA, Folder
from multibeta.data import cache as cache_module
from multibeta.files import temporary
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


def test_what_was_left_out_is_said(photos):
    (photos / "notes.txt").touch()
    (photos / "LICENSE").touch()
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    (photos / "small.png").write_bytes(b"")
    picture(1, size=(3, 3)).save(photos / "small.png")
    pages = [picture(i) for i in range(3)]
    pages[0].save(photos / "pages.tif", save_all=True, append_images=pages[1:])
    (photos / "bad.png").write_text("hello")
    message = refused(Folder(root=str(photos), size=8))
    assert message.startswith(f"{photos / 'bad.png'} is corrupt (not an image)")
    assert "; so pages.tif, small.png; replace it, or leave such files out" in message
    for _ in range(2):  # decoded, and from the cache
        whole = {"val_fraction": 0, "test_fraction": 0}
        data = Folder(root=str(photos), size=8, skip_corrupt=True, **whole)
        assert data.size_note == ""
        assert len(colours(data)) == 10
        assert data.size_note == (
            "no val set, no test set; left out: 1 .txt, 1 a broken link, 1 corrupt, 1 no suffix,"
            " 1 several pages, 1 too small"
        )


def test_links_are_followed_once(photos, tmp_path):
    linked = tmp_path / "linked"
    (linked / "inner").mkdir(parents=True)
    (linked / "of").symlink_to(photos)
    (linked / "inner" / "back").symlink_to(linked)
    picture(11).save(linked / "inner" / "x.png")
    (linked / "y.png").symlink_to(photos / "3.png")
    assert len(colours(Folder(root=str(linked), size=8))) == 12


@pytest.mark.parametrize(
    "names", [("Train", "Val", "Test"), ("training", "validation", "testing")]
)
def test_sets_in_folders_by_any_name(photos, names):
    for name, numbers in zip(names, (range(6), range(6, 8), range(8, 10)), strict=True):
        (photos / name).mkdir()
        for i in numbers:
            (photos / f"{i}.png").rename(photos / name / f"{i}.png")
    picture(0).save(photos / "cover.png")
    data = Folder(root=str(photos), size=8)
    assert colours(data, "val") == [120, 140] and colours(data, "test") == [160, 180]
    assert data.size_note == "left out: 1 beside the sets"


def test_training_and_validation_folders_alone(photos):
    for name, numbers in {"train": range(8), "val": range(8, 10)}.items():
        (photos / name).mkdir()
        for i in numbers:
            (photos / f"{i}.png").rename(photos / name / f"{i}.png")
    message = refused(Folder(root=str(photos), size=8))
    assert "no test set: data.test_fraction 0 measures the validation set" in message
    data = Folder(root=str(photos), size=8, test_fraction=0)
    assert colours(data, "train", "val") == [20 * i for i in range(10)]
    assert list(data.splits) == ["train", "val"]


@pytest.mark.parametrize("suffix", ["pgm", "ppm", "gif", "jfif"])
def test_more_formats(photos, suffix):
    for i in range(10):
        (photos / f"{i}.png").unlink()
        mode = "RGB" if suffix in ("ppm", "jfif") else "L"
        of = "JPEG" if suffix == "jfif" else None
        picture(i, mode).save(photos / f"{i}.{suffix}", of)
    data = Folder(root=str(photos), size=8, convert="L")
    np.testing.assert_allclose(colours(data), [20 * i for i in range(10)], atol=1)


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
    message = refused(Folder(root=str(photos)), FileNotFoundError)
    assert "holds no image (left out: 1 .txt); " in message
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
    assert message.startswith(f"{photos / '3.jpg'} is corrupt (") and "; so 5.jpg; " in message
    assert message.endswith("or leave such files out with --data.skip_corrupt true")
    assert not list(cache.glob("*.part")) + list(cache.glob(".*"))
    for _ in range(2):  # decoded, and from the cache
        capfd.readouterr()
        data = Folder(root=str(photos), size=8, skip_corrupt=True)
        kept = [20 * i for i in range(10) if i not in (3, 5)]
        np.testing.assert_allclose(colours(data), kept, atol=1)
        assert capfd.readouterr().out == ""
        assert data.size_note.endswith("left out: 2 corrupt")
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


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_cache_is_made_anew(photos, cache, damage):
    expected = colours(Folder(root=str(photos), size=8))
    for path in cache.iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 16
        of = {"cut": content[:150], "empty": b"", "flipped": bytes(content)}
        path.write_bytes(of[damage])
    assert colours(Folder(root=str(photos), size=8)) == expected


def test_two_folders_of_equal_names_and_times(photos, tmp_path):
    """As archives have them: the second is not given the first one's pixels."""
    twin = tmp_path / "twin"
    twin.mkdir()
    for i in range(10):
        picture(9 - i).save(twin / f"{i}.png")
        size = max((folder / f"{i}.png").stat().st_size for folder in (photos, twin))
        for folder in (photos, twin):
            with (folder / f"{i}.png").open("ab") as file:  # of equal size, too
                file.write(b"\0" * (size - file.tell()))
            os.utime(folder / f"{i}.png", ns=(0, 0))
    first = Folder(root=str(photos), size=8, val_fraction=0, test_fraction=0)
    second = Folder(root=str(twin), size=8, val_fraction=0, test_fraction=0)
    assert colours(first) == colours(second)
    assert not np.array_equal(first.splits["train"], second.splits["train"])


def test_parts_of_a_killed_build_are_removed(photos, cache):
    cache.mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    name = temporary(cache / "8px-0.npy").name
    dead = cache / name.replace(f"-{os.getpid()}.", f"-{done.stdout.strip()}.")
    alive, other = cache / name, cache / ".8px-0.00000000-1.npy"
    for path in (dead, alive, other):
        path.touch()
    colours(Folder(root=str(photos), size=8))
    assert [path.exists() for path in (dead, alive, other)] == [False, True, True]


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
    has = [f"{i + 1:06}.jpg {'-1  1' if i % 2 else ' 1 -1'}" for i in range(12)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["12", "Bald Young", *has]) + "\n")
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


@pytest.mark.parametrize("layout", ["Img and Eval", "Kaggle", "zip", "zip in Img"])
def test_celeba_layouts(celeba, layout):
    folder = celeba / "celeba"
    images, partition = folder / "img_align_celeba", folder / "list_eval_partition.txt"
    listed = folder / "list_attr_celeba.txt"
    if layout == "Img and Eval":
        for path, inner in ((images, "Img"), (partition, "Eval"), (listed, "Anno")):
            (folder / inner).mkdir()
            path.rename(folder / inner / path.name)
    elif layout == "Kaggle":
        images.rename(folder / "x")
        images.mkdir()
        (folder / "x").rename(images / "img_align_celeba")
        rows = [line.replace(" ", ",") for line in partition.read_text().splitlines()]
        partition.with_suffix(".csv").write_text("\n".join(["image_id,partition", *rows]))
        partition.unlink()
        rows = [",".join(line.split()) for line in listed.read_text().splitlines()[2:]]
        listed.with_suffix(".csv").write_text("\n".join(["image_id,Bald,Young", *rows]))
        listed.unlink()
    else:
        (folder / "Img").mkdir()
        inner = "Img/" if layout == "zip in Img" else ""
        with zipfile.ZipFile(folder / f"{inner}img_align_celeba.zip", "w") as archive:
            for path in images.iterdir():
                archive.write(path, f"img_align_celeba/{path.name}")
                path.unlink()
        images.rmdir()
    data = CelebA(root=str(celeba))
    assert colours(data, "train") == [0, 60, 120]
    assert data.size_note == "9 of 202,599 images"
    names, has = data.attributes()
    assert names == ["Bald", "Young"]
    assert has["train"].tolist() == [[True, False], [False, True], [True, False]]
    assert has["val"].tolist() == [[False, True], [True, False], [False, True]]


def test_celeba_attributes_of_all_images_or_none(celeba):
    data, listed = CelebA(root=str(celeba)), celeba / "celeba" / "list_attr_celeba.txt"
    listed.write_text(listed.read_text().replace("000004.jpg -1  1\n", "000004.jpg -1\n"))
    with pytest.raises(ValueError, match=r"has no whole row of 000004.jpg; get it again"):
        data.attributes()
    listed.unlink()
    with pytest.raises(FileNotFoundError, match=r"list_attr_celeba.txt is not beside"):
        data.attributes()


def test_celeba_quota_page(celeba):
    folder = celeba / "celeba"
    for path in (folder / "img_align_celeba").iterdir():
        path.unlink()
    (folder / "img_align_celeba").rmdir()
    (folder / "img_align_celeba.zip").write_text("<!DOCTYPE html><title>Quota exceeded</title>")
    message = refused(CelebA(root=str(celeba)))
    assert "img_align_celeba.zip is a web page, such as Google Drive shows" in message
    (folder / "img_align_celeba.zip").write_text("PK")
    assert "is no zip archive, or cut off" in refused(CelebA(root=str(celeba)))


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


def test_celeba_corrupt(celeba):
    path = celeba / "celeba" / "img_align_celeba" / "000004.jpg"
    cut_off(path)
    assert refused(CelebA(root=str(celeba))).startswith(f"{path} is corrupt (")
    data = CelebA(root=str(celeba), skip_corrupt=True)
    assert colours(data, "train") == [0, 120]
    assert data.size_note == "8 of 202,599 images; left out: 1 corrupt"
