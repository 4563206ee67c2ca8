"""Lightning's own parts: each works, or is refused in one line before it costs an hour."""

import csv
import json
import math

import pytest
import torch

import multibeta
from multibeta.checkpoints import load_data
from multibeta.cli import main
from multibeta.likelihoods import Gaussian
from multibeta.multibeta_vae import MultiBetaVAE
from tests.helpers import newest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.dots]

RUN = [
    "fit", "--data=Digits", "--data.batch_size=64", "--model.network=MLP",
    "--model.network.width=32", "--model.network.depth=1", "--model.latent_dim=4",
    "--model.likelihood=Gaussian", "--curve.betas=0.01,1", "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
]  # fmt: skip


def callback(name, **arguments):
    """Options that add one callback, without a list."""
    given = [f"--trainer.callbacks.{key}={value}" for key, value in arguments.items()]
    return [f"--trainer.callbacks={name}", *given]


MONITOR = "val/objective_nats"

# name → options and what is said, where that matters
WORKS = {
    "learning rate monitor": (callback("LearningRateMonitor"), ""),
    "learning rate finder": (
        callback("LearningRateFinder", num_training_steps=40, max_lr=0.003),
        "in the place of 0.003",
    ),
    "overfit 3 batches": (["--trainer.overfit_batches=3"], ""),
    "bfloat16": (["--trainer.precision=bf16-true"], ""),
    "float64": (["--trainer.precision=64-true"], ""),
    "mixed bfloat16": (["--trainer.precision=bf16-mixed"], ""),
    "mixed float16": (["--trainer.precision=16-mixed"], ""),
    "early stopping": (
        [*callback("EarlyStopping", monitor=MONITOR, patience=1, min_delta=1e9),
         "--trainer.max_epochs=5"],
        "stopped early, after epoch 2: Monitored metric val/objective_nats did not improve",
    ),
    "early stopping at a threshold": (
        [*callback("EarlyStopping", monitor=MONITOR, stopping_threshold=1e9)],
        "stopped early, after epoch 1: Stopping threshold reached",
    ),
    "own checkpoints": (callback("ModelCheckpoint", every_n_epochs=1, save_top_k=-1), ""),
    "averaged weights": (
        callback("StochasticWeightAveraging", swa_lrs=1e-3, swa_epoch_start=1), ""
    ),
    "moving average": (callback("EMAWeightAveraging"), ""),
    "batch size finder": (
        [*callback("BatchSizeFinder", max_trials=2, steps_per_trial=1),
         "--trainer.limit_train_batches=20", "--trainer.limit_val_batches=5"],
        "in batches of 4",
    ),
    "accumulation scheduler": (
        callback("GradientAccumulationScheduler", scheduling="{0: 2}"), ""
    ),
    "throughput": (callback("ThroughputMonitor", batch_size_fn="builtins.len"), ""),
    "device stats": (callback("DeviceStatsMonitor"), ""),
    "model summary": (callback("ModelSummary"), ""),
    "rich bar": (callback("RichProgressBar"), ""),
    "tqdm bar": (callback("TQDMProgressBar"), ""),
    "timer": (callback("Timer", duration="00:00:01:00"), ""),
    "pruning": (callback("ModelPruning", pruning_fn="l1_unstructured", amount=0.1), ""),
    "max time": (
        ["--trainer.max_time=00:00:00:01", "--trainer.max_epochs=2000",
         "--trainer.check_val_every_n_epoch=100"],
        "the time is over: stopped at step",
    ),
    "limits": (["--trainer.limit_train_batches=3", "--trainer.limit_val_batches=1"], ""),
    "no validation": (["--trainer.limit_val_batches=0"], ""),
    "validation inside an epoch": (["--trainer.val_check_interval=5"], ""),
    "validation every second epoch": (["--trainer.check_val_every_n_epoch=2"], ""),
    "reloaded loaders": (["--trainer.reload_dataloaders_every_n_epochs=1"], ""),
    "profiler": (["--trainer.profiler=simple"], ""),
    "anomaly detection": (
        ["--trainer.detect_anomaly=true", "--trainer.limit_train_batches=2"], ""
    ),
    "deterministic": (["--trainer.deterministic=true"], ""),
    "no inference mode": (["--trainer.inference_mode=false"], ""),
    "no sampler": (["--trainer.use_distributed_sampler=false"], ""),
    "a dry run": (["--trainer.fast_dev_run=true"], ""),
    "accumulated gradients": (["--trainer.accumulate_grad_batches=2"], ""),
    "clipped values": (["--trainer.gradient_clip_algorithm=value"], ""),
    "no checkpoints": (["--trainer.enable_checkpointing=false"], ""),
    "no logger": (["--trainer.logger=false"], ""),
    "a check before": (["--trainer.num_sanity_val_steps=2"], ""),
    "no epoch": (["--trainer.max_epochs=0"], "no step was trained"),
    "some steps": (["--trainer.max_steps=5"], ""),
    "one process of ddp": (["--trainer.strategy=ddp", "--trainer.devices=1"], ""),
    "another optimiser": (["--optimizer=AdamW", "--optimizer.lr=1e-3"], ""),
    "a plateau": (
        ["--optimizer=AdamW", "--optimizer.lr=1e-3", "--lr_scheduler=ReduceLROnPlateau",
         f"--lr_scheduler.monitor={MONITOR}"], "",
    ),
}  # fmt: skip

REFUSED = {
    "monitor": (callback("EarlyStopping", monitor="val_loss"),
                "EarlyStopping waits for val_loss, which nothing measures; measured are val/cur"),
    "monitor of a checkpoint": (callback("ModelCheckpoint", monitor="val/objective"),
                                "(did you mean val/objective_nats?)"),
    "float16": (["--trainer.precision=16-true"], "where Adam's steps underflow; choose bf16"),
    "no training batch": (["--trainer.limit_train_batches=0"], "trains nothing; leave it out"),
    "barebones": (["--trainer.barebones=true"], "barebones keeps nothing, and a run is kept"),
    "callback": (callback("Nope"), "trainer.callbacks=Nope is not allowed"),
    "argument of a callback": (callback("EarlyStopping"), "arguments are required: monitor"),
    "callback for others": (callback("BackboneFinetuning"),
                            "Lightning does not take this setting"),
    "missing package": (["--trainer.precision=transformer-engine"], "pip install"),
    "precision": (["--trainer.precision=7"], "trainer.precision=7 is not allowed; allowed: 64"),
    "strategy": (["--trainer.strategy=nope"], "invalid strategy name"),
    "accelerator": (["--trainer.devices=0"], "`Trainer(devices='0')` value is not a valid"),
    "validation interval": (["--trainer.val_check_interval=5000"], "must be less than or equal"),
    "unknown profiler": (["--trainer.profiler=nope"], "it can only be one of ['simple'"),
    "little of a small set": (["--trainer.overfit_batches=0.01"], "0.01 * 20 < 1"),
}  # fmt: skip


def rows_of(path):
    with path.open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "part",
    # every third here; benchmarks.situations tries all, too
    [pytest.param(part, marks=[pytest.mark.slow] * (i % 3 > 0)) for i, part in enumerate(WORKS)],
)
def test_a_part_that_works(part, tmp_path, capsys, monkeypatch):
    options, said = WORKS[part]
    if part == "device stats":
        pytest.importorskip("psutil")
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, *options]) == 0
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err
    if part == "a dry run":
        assert not (tmp_path / "runs").exists()
        return
    run = newest(tmp_path / "runs")
    rows = rows_of(run / "curve.csv")
    assert all(math.isfinite(value) for row in rows for value in row.values())
    if part in ("no checkpoints", "no epoch"):
        return
    # the curve is that of the checkpoint, whatever the part does to the weights
    again = multibeta.load(run).sweep(load_data(run), "0.01,1")
    digits = 1e-2 if part == "bfloat16" else 1e-5
    for row, mine in zip(rows, again.rows, strict=True):
        assert row["objective_nats"] == pytest.approx(mine["objective_nats"], rel=digits)


@pytest.mark.parametrize("part", REFUSED)
def test_a_part_that_is_refused(part, tmp_path, capsys, monkeypatch):
    options, message = REFUSED[part]
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, *options]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warn")]
    assert message in lines[-1] and lines[-1].startswith("multibeta: ")
    assert not list(tmp_path.rglob("*.ckpt"))


def test_overfitting_takes_the_same_batches_each_epoch(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "multibeta.multibeta_vae.MultiBetaVAE.step",
        lambda self, x, *given, of=MultiBetaVAE.step, **more: (
            seen.append(x.sum().item()) or of(self, x, *given, **more)
        ),
    )
    root = f"--trainer.default_root_dir={tmp_path}"
    assert main([*RUN, "--trainer.overfit_batches=3", "--curve.enabled=false", root]) == 0
    assert len(seen) == 6 and seen[:3] == seen[3:] and len(set(seen)) == 3


def test_a_found_learning_rate_lasts(tmp_path, capsys):
    finder = callback("LearningRateFinder", num_training_steps=40, max_lr=0.003)
    root = f"--trainer.default_root_dir={tmp_path}"
    assert main([*RUN, *finder, root, "--trainer.callbacks+=LearningRateMonitor",
                 "--trainer.log_every_n_steps=1", "--model.warmup=0.1"]) == 0  # fmt: skip
    found = float(capsys.readouterr().err.split("learning rate ")[1].split(",")[0])
    run = newest(tmp_path)
    with (run / "metrics.csv").open(newline="") as file:
        rates = [float(row["lr-Adam"]) for row in csv.DictReader(file) if row.get("lr-Adam")]
    assert max(rates) == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_plain_vae_in_another_precision(dtype):
    torch.manual_seed(0)
    vae = MultiBetaVAE.of((1, 8, 8), latent_dim=3, likelihood=Gaussian(0.3)).at_beta(1)
    x = torch.rand(5, 1, 8, 8)
    wanted = vae.reconstruct(x), vae.encode(x).mean, vae.sample(3).shape
    other = vae.to(dtype)
    digits = {"rtol": 0.05, "atol": 0.02}
    torch.testing.assert_close(other.reconstruct(x).float(), wanted[0], **digits)
    torch.testing.assert_close(other.encode(x).mean.float(), wanted[1], **digits)
    terms = other.elbo_terms(x)
    assert terms.distortion.isfinite().all() and other.sample(3).shape == wanted[2]


class HasAMistake(multibeta.data.Digits):
    def setup(self, stage=None):
        super().setup(stage)
        None.nothing  # noqa: B018


def test_a_mistake_in_the_users_code_names_its_place(tmp_path, capsys):
    assert main([*RUN, "--data=tests.test_parts.HasAMistake"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "test_parts.py, line " in said
    assert said.endswith("AttributeError: 'NoneType' object has no attribute 'nothing'")


def test_a_fault_of_ours_says_so_and_keeps_the_trace(tmp_path, capsys, monkeypatch):
    def broken(*_, **__):
        raise KeyError("inside")

    broken.__code__ = broken.__code__.replace(co_filename=multibeta.__file__)
    monkeypatch.setattr("multibeta.checkpoints.find_checkpoint", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["curve", "x.ckpt"]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"multibeta: a fault of multibeta {multibeta.__version__}: please rep")
    (file,) = tmp_path.glob("multibeta-*.txt")
    assert str(file) in said and "KeyError: 'inside'" in file.read_text()


def test_json_of_a_run_is_plain(tmp_path):
    assert main([*RUN, *callback("Timer"), f"--trainer.default_root_dir={tmp_path}"]) == 0
    run = newest(tmp_path)
    assert "interval: step" in (run / "config.yaml").read_text()
    assert json.loads((run / "curve.json").read_text())["about"]["n"] == 359


def test_a_folder_that_vanishes_ends_the_run(tmp_path, capsys):
    harm = callback("tests.dies.RemovesTheFolder")
    root = f"--trainer.default_root_dir={tmp_path}"
    assert main([*RUN, *harm, "--trainer.max_epochs=5", root]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("multibeta: the run's folder") and "has vanished; start the run" in said


def test_a_stream_that_is_read_again_says_so(tmp_path):
    from tests.loaders import Again, examples

    vae = MultiBetaVAE.of((1, 8, 8), latent_dim=3, likelihood=Gaussian(0.3))
    run = vae.fit(Again(), examples(), epochs=1, betas="1", root=tmp_path)
    with pytest.warns(UserWarning, match="Again has no positions: it is read from its beginning"):
        vae.fit(Again(), examples(), epochs=2, betas="1", root=tmp_path, ckpt_path=run.folder)
