"""Full disks, and folders without permission: one line, and earlier checkpoints are whole."""

import json
import os
import shutil
import subprocess
import sys

import pytest

NO_PRIVILEGE = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


CODE = """
import gc
gc.disable()  # imports are quicker
import sys
from tests.disks import tell
tell(*sys.argv[1:])
"""


def possible(command):
    return shutil.which(command[0]) and not subprocess.run(command, capture_output=True).returncode


def ends(command, cases, folder):
    """Return what each case ended with, in a process of its own."""
    done = subprocess.run(
        [*command, sys.executable, "-c", CODE, cases, str(folder)],
        capture_output=True, text=True, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: (status, said) for name, status, said in json.loads(done.stdout)}


@pytest.mark.slow
def test_no_permission(tmp_path):
    """Root may do anything, unless it gives that up."""
    command = NO_PRIVILEGE if os.geteuid() == 0 else []
    if command and not possible([*command, "true"]):
        pytest.skip("root cannot give up its privilege here")
    found = ends(command, "permissions", tmp_path)
    assert len(found) == 7
    for name, (status, said) in found.items():
        (line,) = [line for line in said.splitlines() if line.startswith("multibeta: ")]
        assert status == 2 and "Traceback" not in said, (name, said)
        assert "ermission" in line and str(tmp_path) in line and "damaged" not in line, (
            name,
            line,
        )


def test_a_full_disk(tmp_path):
    mount = f"mount -t tmpfs -o size=4m tmpfs {tmp_path}"
    if not possible(["unshare", "-m", "sh", "-c", mount]):
        pytest.skip("no disk can be mounted here")
    command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    found = ends(command, "full", tmp_path)
    assert "MB free, and checkpoints need" in found["full at the start"][1]
    assert "there is no space left in" in found["full in the training"][1]
    for name, (status, said) in found.items():
        assert status == 2 and "Traceback" not in said, (name, said)
        assert sum(line.startswith("multibeta: ") for line in said.splitlines()) == 1, said
