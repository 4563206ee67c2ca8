import errno
import os
import subprocess
import sys

import pytest

from multibeta.files import check_writable, lock, remove_leftovers, replacing, temporary


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as part:
        part.write_text("half")
        assert part.parent == path.parent
        assert part.suffix == ".txt"
        assert not path.exists()
    assert path.read_text() == "half"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file is not a folder; give another"):
        with replacing(tmp_path / "file" / "x.txt"):
            pass
    with pytest.raises(OSError, match="file is not a folder; give another"):
        check_writable(tmp_path / "file" / "deep")
    check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(OSError, match=r"there is no space left in .* for x.json; earlier") as info:
        with replacing(path) as part:
            part.write_text("new")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(info.value)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.json"]


def test_what_dead_processes_left_is_removed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    mine = temporary(tmp_path / "last.ckpt")
    dead = tmp_path / mine.name.replace(f"-{os.getpid()}.", f"-{done.stdout.strip()}.")
    others = [mine, tmp_path / ".last.00000000-1.ckpt", tmp_path / ".hidden", tmp_path / "a.ckpt"]
    for path in (dead, *others):
        path.touch()
    assert remove_leftovers(tmp_path) == [dead]
    assert sorted(tmp_path.iterdir()) == sorted(others)
    assert remove_leftovers(tmp_path / "nowhere") == []


def test_a_folder_is_held_by_one_process(tmp_path):
    held = lock(tmp_path)
    assert held is not None
    code = f"from multibeta.files import lock; import pathlib; print(lock(pathlib.Path({str(tmp_path)!r})))"  # noqa: E501
    other = [sys.executable, "-c", code]
    said = subprocess.run(other, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "None"
    os.close(held)
    said = subprocess.run(other, capture_output=True, text=True, check=True).stdout
    assert said.strip() != "None" and os.listdir(tmp_path) == []
