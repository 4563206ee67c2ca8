"""Two processes give what one gives, for every kind of container."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch

import tests.loaders
from tests.ddp_door import TRAINED, measured, trained
from tests.loaders import KINDS

CODE = """
import gc
gc.disable()  # imports are quicker
import pathlib, sys
from tests.ddp_door import main
main(pathlib.Path(sys.argv[1]))
"""


def found_by_two(folder):
    """Let two processes write into a folder what they find."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder)],
        env={
            **os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "WORLD_SIZE": "2",
            "TORCHELASTIC_RUN_ID": "test", "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.dots
@pytest.mark.filterwarnings("ignore:the length of the training is not known")
def test_two_processes_find_what_one_finds(tmp_path, monkeypatch):
    """One test: the processes are started once.

    A sweep counts each example once; a training ends with the weights of one process.
    """
    found_by_two(tmp_path)
    first, second = (
        json.loads((tmp_path / f"measured-{rank}.json").read_text()) for rank in range(2)
    )
    assert first == second
    for kind in KINDS:
        alone = measured(kind)
        assert first[kind]["n"] == alone["n"] == tests.loaders.N, kind
        assert first[kind]["digest"] == alone["digest"], kind
        for row, of_one in zip(first[kind]["rows"], alone["rows"], strict=True):
            assert row == pytest.approx(of_one, rel=1e-6, nan_ok=True), kind
    monkeypatch.setattr(tests.loaders, "B", 2 * tests.loaders.B)
    for kind in TRAINED:
        alone = trained(kind, tmp_path).state_dict()
        for rank in range(2):
            weights = torch.load(tmp_path / f"{kind}-{rank}.pt", weights_only=True)
            for name, value in weights.items():
                why = f"{kind}: {name}"
                torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=2e-5, msg=why)


@pytest.mark.slow
def test_processes_that_lightning_spawns(tmp_path):
    """They end with the weights of one process with the whole batch."""
    found = []
    for options in (["--data.batch_size=128"], ["--data.batch_size=64", "--trainer.devices=2",
                                                "--trainer.strategy=ddp_spawn"]):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "multibeta", "fit", "--data=Digits", "--model.latent_dim=2",
             "--model.network.width=16", "--trainer.accelerator=cpu", "--trainer.max_epochs=1",
             "--curve.betas=1", f"--trainer.default_root_dir={len(found)}", *options],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("Digits, test set, N = 359") == 1
        assert "isinstance(treespec" not in done.stderr
        (last,) = (tmp_path / str(len(found))).rglob("last.ckpt")
        found.append(torch.load(last, weights_only=True)["state_dict"])
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_in_one_line(tmp_path):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "multibeta", "fit", "--data=Digits", "--model.latent_dim=2",
         "--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp",
         "--trainer.max_epochs=3", "--trainer.callbacks=tests.dies.Dies"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 2 and time.monotonic() - began < 60
    lines = [line for line in done.stderr.splitlines() if line.startswith("multibeta: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    assert "another process of the run has died or cannot be reached" in lines[0]
