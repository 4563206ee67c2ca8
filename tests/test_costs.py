"""What a training costs: its threads, and a sweep in its place."""

import json
import os
import platform
import re
import subprocess
import sys
import time
import warnings

import pytest
import torch
from torch import nn

import multibeta
from multibeta.cli import main
from multibeta.costs import Costs, training_of
from multibeta.data import Digits
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from tests.helpers import PAIRS, SMALL, newest, weights

pytestmark = pytest.mark.dots

COMPARED = re.compile(
    r"(\d+) β's in (\S+) s of training; \1 dedicated models of this network: about (\S+) s "
    r"\(a plain step takes (\S+) of one of these; (\d+) pairs\)"
)


@pytest.fixture(autouse=True)
def all_pairs(monkeypatch):
    """Time as many steps as a user's run does."""
    monkeypatch.setattr("multibeta.costs._PAIRS", PAIRS)


@pytest.fixture
def two_threads(monkeypatch):
    """Two threads that nobody has asked for."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_the_last_words_compare_with_a_sweep(tmp_path, capsys):
    assert (
        main(["fit", *SMALL, "--trainer.max_epochs=3", f"--trainer.default_root_dir={tmp_path}"])
        == 0
    )
    count, ours, theirs, ratio, pairs = COMPARED.search(capsys.readouterr().out).groups()
    assert (count, pairs) == ("4", "10")
    assert float(theirs) == pytest.approx(4 * float(ratio) * float(ours), rel=0.02)
    assert 0 < float(ratio) < 2, "a plain step does less; other processes disturb"


def trained():
    """Return what compares a training of ten steps with a sweep, and its model."""
    torch.manual_seed(0)
    data = Digits(batch_size=64)
    vae = MultiBetaVAE.of(data.shape, network=MLP(width=8, depth=1), latent_dim=2)
    costs = Costs()
    costs._seconds, costs._steps, costs._total = 1.0, 10, 10
    data.setup("fit")
    costs._batch = next(iter(data.train_dataloader()))
    return costs, vae


def test_waiting_for_the_processor_is_not_work(monkeypatch):
    """Another process may have it while one of the two is timed: ten times as long, here."""
    costs, vae = trained()
    loss = MultiBetaVAE.loss

    def waiting(*args, **inputs):
        time.sleep(0.05)
        return loss(*args, **inputs)

    monkeypatch.setattr(MultiBetaVAE, "loss", waiting)
    plain, own = zip(*costs._pairs(vae), strict=True)
    assert sum(own) < 5 * sum(plain)


@pytest.mark.parametrize("options", [["--model.betas=1"], []])
def test_there_is_nothing_to_compare(options, tmp_path, capsys):
    more = ["--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path}", "--curve.betas=1"]
    assert main(["fit", *SMALL, *more, *options]) == 0
    assert "dedicated models" not in capsys.readouterr().out


def test_the_comparison_leaves_the_model_as_it_is():
    costs, vae = trained()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    state = torch.get_rng_state()
    curve = vae.sweep(costs._batch, "0.1,1")
    assert costs.compared(vae, curve)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert all(p.grad is None for p in vae.parameters())


def test_a_comparison_that_has_no_room_does_not_end_the_run(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("multibeta.costs._step", full)
    more = ["--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path}"]
    assert main(["fit", *SMALL, *more]) == 0
    assert "not compared with dedicated models: not enough memory" in capsys.readouterr().out


def test_threads_are_chosen_said_and_kept(tmp_path, capsys, two_threads):
    """Who goes on takes those of the checkpoint; afterwards the process has what it had."""
    arguments = [*SMALL, "--curve.enabled=false", f"--trainer.default_root_dir={tmp_path}"]
    assert main(["fit", *arguments, "--trainer.max_epochs=1"]) == 0
    said = re.search(
        r"threads: (\d); a step takes \S+ ms with 2, \S+ ms with 1", capsys.readouterr().err
    )
    assert torch.get_num_threads() == 2
    last = newest(tmp_path) / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    assert content["multibeta"]["run"]["threads"] == int(said[1])
    other = 3 - int(said[1])
    content["multibeta"]["run"]["threads"] = other
    torch.save(content, last)
    assert (
        main(["fit", f"--ckpt_path={last}", "--trainer.max_epochs=2", "--trainer.accelerator=cpu"])
        == 0
    )
    assert "threads:" not in capsys.readouterr().err
    assert torch.load(last, weights_only=True)["multibeta"]["run"]["threads"] == other


@pytest.mark.filterwarnings("ignore")
def test_a_frozen_network_is_compared_with_one_that_learns(tmp_path, capsys):
    encoder, decoder, x = nn.Linear(6, 4), nn.Linear(2, 6), torch.randn(64, 6)
    vae = multibeta.wrap(encoder, decoder, example=x, freeze=True)
    vae.fit(x, epochs=1, batch_size=16, betas="0.1,1", root=tmp_path, accelerator="cpu")
    assert COMPARED.search(capsys.readouterr().out)


@pytest.mark.filterwarnings("ignore")
def test_weights_with_a_history_do_not_end_a_training(tmp_path, capsys, two_threads):
    """Old weight_norm keeps a weight that copy.deepcopy refuses: at the start and at the end."""
    old = torch.nn.utils.weight_norm
    encoder = nn.Sequential(old(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 4))
    decoder = nn.Sequential(old(nn.Linear(2, 8)), nn.ReLU(), nn.Linear(8, 6))
    x = torch.randn(64, 6)
    vae = multibeta.wrap(encoder, decoder, example=x)
    vae.fit(x, epochs=1, batch_size=16, betas="0.1,1", root=tmp_path, accelerator="cpu")
    printed = capsys.readouterr()
    assert "threads: " in printed.err and COMPARED.search(printed.out)


@pytest.mark.filterwarnings("ignore")
def test_statistics_of_a_vae_with_weights_with_a_history_are_measured_again():
    old = torch.nn.utils.weight_norm
    encoder = nn.Sequential(old(nn.Linear(6, 8)), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    x = torch.randn(64, 6)
    plain = multibeta.wrap(encoder, nn.Linear(2, 6), example=x).at_beta(1.0)
    plain.elbo_terms(x)  # gives the weight its history
    assert plain.recalibrated([x]).reconstruct(x).isfinite().all()


def test_the_choice_of_threads_changes_no_draw(tmp_path, monkeypatch, two_threads):
    """The training that follows draws what it would have drawn."""
    ends = []
    for asked in (None, "1"):
        if asked:
            monkeypatch.setenv("OMP_NUM_THREADS", asked)
            torch.set_num_threads(1)
        folder = tmp_path / str(asked)
        arguments = [*SMALL, "--curve.enabled=false", "--trainer.max_epochs=1"]
        assert main(["fit", *arguments, f"--trainer.default_root_dir={folder}"]) == 0
        ends.append(weights(newest(folder)))
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("given", [None, "MALLOC_ARENA_MAX"])
def test_freed_memory_is_kept_unless_the_user_says_otherwise(given, monkeypatch):
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    if given:
        monkeypatch.setenv(given, "2")
    code = (
        "import ctypes, resource\nfrom multibeta.cli import main\nmain(['--version'])\n"
        "malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free\n"
        "malloc.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20):\n"
        "        places = [malloc(16_000_000) for _ in range(4)]\n"
        "        for place in places:\n"
        "            ctypes.memset(place, 1, 16_000_000)\n"
        "        for place in places:\n"
        "            free(place)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults()\nprint(faults())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pages = int(done.stdout.split()[-1])
    if platform.libc_ver()[0] == "glibc":
        assert (pages < 1000) == (given is None), pages


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given):
    code = (
        "import sys, os\nfrom multibeta.cli import main\nmain(['--help'])\n"
        "assert 'torch' not in sys.modules\nprint(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split()[-1] == (given or "PASSIVE")


class Warns(nn.Identity):
    """A layer that says something twice in its training."""

    said = 0

    def forward(self, x):
        if self.training and self.said < 2:
            self.said += 1
            warnings.warn("the\nlayer is old", stacklevel=2)
        return super().forward(x)


@pytest.mark.filterwarnings("always::UserWarning")
def test_a_run_keeps_what_it_cost_and_the_warnings_that_were_given(tmp_path, capsys):
    x = torch.randn(64, 6)
    encoder = nn.Sequential(Warns(), nn.Linear(6, 4))
    vae = multibeta.wrap(encoder, nn.Linear(2, 6), example=x)
    before = warnings.showwarning
    options = {"batch_size": 16, "betas": "0.1,1", "root": tmp_path, "accelerator": "cpu"}
    run = vae.fit(x, epochs=2, val=x, **options)
    found = json.loads((run.folder / "training.json").read_text())
    assert (
        found["steps"] == 8
        and found["device"] == "cpu"
        and found["warnings"] == ["the layer is old"]
    )
    assert 0 < found["seconds"] < 60
    encoder = nn.Sequential(Warns(), nn.Linear(6, 4))
    again = multibeta.wrap(encoder, nn.Linear(2, 6), example=x)
    gone_on = again.fit(x, epochs=3, val=x, ckpt_path=run.folder, **options)
    more = json.loads((gone_on.folder / "training.json").read_text())
    assert more["steps"] == 12 and more["seconds"] > found["seconds"]
    assert warnings.showwarning is before
    assert training_of(tmp_path) == {"steps": 0, "seconds": 0.0, "warnings": []}


def test_no_step_on_a_processor_looks_for_a_gpu(tmp_path, monkeypatch):
    """Adam asks at each step whether there is one, and Lightning has it ask the driver."""
    monkeypatch.setattr("torch.cuda.is_available", asked := Asked())
    steps = []
    for epochs in (1, 3):
        monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        x, asked.driver = torch.randn(64, 6), 0
        vae = multibeta.wrap(nn.Linear(6, 4), nn.Linear(2, 6), example=x)
        options = {"batch_size": 16, "betas": "1", "root": tmp_path, "accelerator": "cpu"}
        vae.fit(x, epochs=epochs, val=x, **options)
        steps.append(asked.driver)
    assert asked.times > 16
    assert steps[0] == steps[1]


class Asked:
    """Whether there is a GPU: no. Counts how often it was asked, and by the driver."""

    times = driver = 0

    def __call__(self):
        self.times += 1
        self.driver += os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK") == "1"
        return False
