"""What the executed pages share: an empty folder, the CPU, and a %%bash that can fail."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from IPython import get_ipython


def prepare() -> None:
    """Make ready for the commands of a page."""
    here = Path(__file__).parent
    os.environ |= {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",  # the networks of these pages are small
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(here / "examples"),
    }
    os.environ.pop("MULTIBETA_DATA", None)
    sys.path.insert(0, str(here / "examples"))
    folder = Path(tempfile.mkdtemp(prefix="multibeta-docs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["MULTIBETA_CACHE"] = str(folder / ".cache")
    os.chdir(folder)
    get_ipython().register_magic_function(_bash, "cell", "bash")


def _bash(line: str, cell: str) -> None:
    # IPython's own cuts the output into pieces, and puts stderr after stdout.
    done = subprocess.run(
        ["bash", "-e", "-c", cell], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(done.stdout, end="")
    done.check_returncode()
