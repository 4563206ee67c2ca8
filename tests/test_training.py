"""Whole runs of the command line, small: resuming, interrupting, diverging, precision, DDP."""

import csv
import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import multibeta
from multibeta.betas import Draws
from multibeta.checkpoints import load_data
from multibeta.cli import main
from multibeta.curve import Curve
from tests.helpers import SMALL, STOPS, fit_digits, newest, weights

pytestmark = pytest.mark.dots


def rows_of(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    torch.set_num_threads(1)
    return fit_digits(tmp_path_factory.mktemp("a"), "--trainer.max_epochs=3")


@pytest.fixture
def mine(uninterrupted, tmp_path):
    """A copy of the run, to change."""
    folder = tmp_path / "mine" / "digits" / uninterrupted.name
    return shutil.copytree(uninterrupted, folder)


@pytest.mark.pictures
def test_a_run_has_the_files_it_promises(tmp_path):
    run = fit_digits(tmp_path, "--trainer.max_epochs=1")
    names = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert names == {
        "config.yaml", "metrics.csv", "curve.csv", "curve.json", "curve.png", "plane.png",
        "training.json", "strip.png", "history.png", "samples.png", "traversals.png", "codes.png",
        "checkpoints/last.ckpt", "checkpoints/best.ckpt",
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-1", run.name)
    assert run.parent.name == "digits"


def test_curve_files(uninterrupted):
    rows = rows_of(uninterrupted / "curve.csv")
    assert list(rows[0])[:7] == [
        "beta", "rate_nats", "rate_se", "distortion_nats", "distortion_se", "objective_nats",
        "neg_elbo_nats",
    ]  # fmt: skip
    assert [float(row["beta"]) for row in rows] == [0.01, 0.1, 1.0, 10.0]
    curve = Curve.from_json(uninterrupted / "curve.json")
    assert [row["rate_nats"] for row in curve.rows] == [float(row["rate_nats"]) for row in rows]
    about = curve.about
    assert about["data"] == "Digits"
    assert (about["split"], about["n"], about["d"], about["sigma"]) == ("test", 359, 64, 0.25)
    assert (about["likelihood"], about["network"]) == ("Gaussian", "MLP")
    assert about["versions"]["torch"] == str(torch.__version__)


def test_metrics_are_logged_a_row_a_validation(uninterrupted):
    rows = rows_of(uninterrupted / "metrics.csv")
    assert [row["step"] for row in rows] == ["18", "37", "49", "56"]
    assert float(rows[2]["train/rate_nats"]) > 0
    for row in rows[:2] + rows[3:]:
        for beta in ("0.01", "10"):
            d, r, j = (
                float(row[f"val/{k}_nats@{beta}"]) for k in ("distortion", "rate", "objective")
            )
            assert j == pytest.approx(d + float(beta) * r, rel=1e-5)


def test_curve_again_gives_the_same_numbers_from_another_folder(
    uninterrupted, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    checkpoint = str(uninterrupted / "checkpoints" / "last.ckpt")
    assert main(["curve", checkpoint, "--betas=0.01:10:4", "--out=here", "--device=cpu"]) == 0
    before, after = rows_of(uninterrupted / "curve.csv"), rows_of("here/curve.csv")
    for a, b in zip(before, after, strict=True):
        assert {k: float(v) for k, v in a.items()} == pytest.approx(
            {k: float(v) for k, v in b.items()}, rel=1e-6
        )
    printed = capsys.readouterr()
    assert "rate R" in printed.out
    assert "files: here" in printed.out
    assert printed.err == ""


def test_curves_of_other_weights_and_splits_have_folders_of_their_own(mine):
    run, before = mine, (mine / "curve.csv").read_text()
    for arguments in ([run, "--split=val"], [run / "checkpoints" / "best.ckpt"]):
        assert main(["curve", *map(str, arguments), "--betas=1", "--device=cpu"]) == 0
    assert (run / "val" / "curve.csv").exists()
    assert (run / "best" / "curve.csv").exists()
    assert (run / "curve.csv").read_text() == before


def test_curve_as_json_keeps_stdout_clean(uninterrupted, tmp_path, capsys):
    arguments = ["--json", "--betas=1", f"--out={tmp_path}", "--device=cpu", "--split=val"]
    assert main(["curve", str(uninterrupted), *arguments]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["about"]["split"] == "val"
    assert "files:" in printed.err


@pytest.mark.parametrize("step", [7, 19, 30])
def test_ctrl_c_and_resume_end_with_the_weights_of_an_uninterrupted_run(
    uninterrupted, tmp_path, capsys, step
):
    """Steps 7 and 30 are inside an epoch of 19 steps, step 19 begins one."""
    interrupt = f"--trainer.callbacks+={{class_path: tests.helpers.InterruptAt, init_args: {{step: {step}}}}}"  # noqa: E501
    arguments = [*SMALL, f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=3"]
    assert main(["fit", *arguments, interrupt]) == 130
    run = newest(tmp_path)
    last = run / "checkpoints" / "last.ckpt"
    said = capsys.readouterr().err
    assert f"stopped at step {step + 1}" in said
    assert f"multibeta fit --ckpt_path {last} --allow tests" in said
    assert not (run / "curve.csv").exists()
    assert torch.load(last, weights_only=True)["global_step"] == step + 1

    assert main(["fit", "--ckpt_path", str(last), "--allow", "tests"]) == 0
    assert [p.name for p in (tmp_path / "digits").iterdir()] == [run.name], "it goes on in place"
    before, after = weights(uninterrupted), weights(run)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert [row["step"] for row in rows_of(run / "metrics.csv")] == ["18", "37", "49", "56"]
    assert rows_of(run / "curve.csv") == rows_of(uninterrupted / "curve.csv")


def under_slurm(monkeypatch):
    for name, value in {"NTASKS": "1", "JOB_NAME": "train", "JOB_ID": "7"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    for name in ("PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_schedulers_signal_saves_and_says_how_to_go_on(
    uninterrupted, tmp_path, capsys, monkeypatch, number
):
    if number == signal.SIGUSR1:  # Lightning would requeue by itself
        under_slurm(monkeypatch)
    stop = f"--trainer.callbacks+={{class_path: tests.helpers.InterruptAt, init_args: {{step: 30, number: {number:d}}}}}"  # noqa: E501
    arguments = [*SMALL, f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=3"]
    before = signal.getsignal(number)
    assert main(["fit", *arguments, stop]) == 128 + number
    assert signal.getsignal(number) == before
    said = capsys.readouterr().err
    assert f"stopping after this step; {number.name}; a second one" in said
    assert "stopped at step 31; go on with" in said
    assert not [*tmp_path.rglob("hpc_ckpt*")]
    run = newest(tmp_path)
    assert main(["fit", "--ckpt_path", str(run), "--allow=tests"]) == 0
    one, two = weights(uninterrupted), weights(run)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_what_a_training_takes_is_said_at_its_start(tmp_path, capsys):
    """Four numbers of four bytes a parameter; a step keeps twice as much of twice the batch."""
    steps = []
    for size in (64, 128):
        arguments = [*SMALL, f"--data.batch_size={size}", "--curve.enabled=false"]
        more = ["--trainer.max_steps=1", f"--trainer.default_root_dir={tmp_path}"]
        assert main(["fit", *arguments, *more]) == 0
        said = capsys.readouterr().err
        count = int(re.search(r"([\d,]+) parameters", said)[1].replace(",", ""))
        found = re.search(r"memory: (\S+) MB for weights, .*, (\S+) MB for a step, (\S+) MB", said)
        weights, step, data = map(float, found.groups())
        assert weights == pytest.approx(16e-6 * count, rel=0.01)
        assert data == pytest.approx(1797 * 64 / 1e6, rel=0.01)
        steps.append(step)
    assert 1.5 < steps[1] / steps[0] <= 2


def test_a_run_stands_for_its_best_and_goes_on_from_its_last(tmp_path, capsys):
    """Where validation says that the last is worse: it is said, and the table is the best's."""
    run = fit_digits(tmp_path, "--trainer.max_epochs=3", "--trainer.callbacks=tests.helpers.Spoil")
    why = re.compile(
        r"measured is best.ckpt: D \+ βR on the validation set, weighed over β as in training, is "
        r"(\S+) there, (\S+)"
    )
    best, last = map(float, why.search(capsys.readouterr().err).groups())
    validated = [row for row in rows_of(run / "metrics.csv") if row["val/curve_nats"]]
    logged = [float(row["val/curve_nats"]) for row in validated]
    for row, weighed in zip(validated, logged, strict=True):
        at_betas = {float(k.partition("@")[2]): float(v) for k, v in row.items()
                    if k.startswith("val/objective_nats@")}  # fmt: skip
        assert len(at_betas) == 5
        power = Draws().balance
        mean = sum(j / (1 + beta) ** power for beta, j in at_betas.items()) / 5
        assert weighed == pytest.approx(mean, rel=1e-3)
    assert [best, last] == pytest.approx([min(logged), logged[-1]], rel=1e-4)
    files = {name: run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")}
    models = {name: multibeta.load(path).state_dict() for name, path in files.items()}
    assert "measured" not in capsys.readouterr().err, "a file stands for itself"
    of_run = multibeta.load(run).state_dict()
    assert all(torch.equal(of_run[name], value) for name, value in models["best"].items())
    assert not all(torch.equal(of_run[name], value) for name, value in models["last"].items())
    before = rows_of(run / "curve.csv")
    assert main(["curve", str(run), "--betas=0.01:10:4", "--device=cpu"]) == 0
    assert why.search(capsys.readouterr().err)
    assert rows_of(run / "curve.csv") == before
    assert main(["curve", str(files["last"]), "--betas=1", "--device=cpu"]) == 0
    assert (run / "last" / "curve.csv").exists() and rows_of(run / "curve.csv") == before
    assert main(["fit", f"--ckpt_path={run}", "--trainer.max_epochs=4", "--allow=tests"]) == 0
    steps = [int(row["step"]) for row in rows_of(run / "metrics.csv")]
    assert steps == sorted(steps) and steps[-1] == 75, "it has gone on from the last step"


def test_a_checkpoint_that_lightning_would_go_on_with_under_slurm(
    uninterrupted, tmp_path, monkeypatch, capsys
):
    under_slurm(monkeypatch)
    runs = tmp_path / "runs"
    runs.mkdir()
    shutil.copy(uninterrupted / "checkpoints" / "last.ckpt", runs / "hpc_ckpt_1.ckpt")
    assert main(["fit", *SMALL, f"--trainer.default_root_dir={runs}"]) == 2
    assert "under SLURM every run in this folder would go on with" in capsys.readouterr().err
    assert [path.name for path in runs.iterdir()] == ["hpc_ckpt_1.ckpt"]


def test_sigterm_while_the_curve_is_measured(tmp_path, monkeypatch, capsys):
    """The training is whole; going on measures what is missing."""

    def stopped(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with monkeypatch.context() as patch:
        patch.setattr("multibeta.callbacks.sweep", stopped)
        arguments = [*SMALL, f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=1"]
        assert main(["fit", *arguments]) == 143
    run = newest(tmp_path)
    assert (run / "checkpoints" / "last.ckpt").exists() and not (run / "curve.csv").exists()
    assert main(["fit", "--ckpt_path", str(run)]) == 0
    assert "no step is left, and the curve is measured" in capsys.readouterr().err
    assert (run / "curve.csv").exists()


def test_going_on_with_a_run_that_ended_measures_it_again(mine):
    run, before = mine, weights(mine)
    (run / "curve.csv").unlink()
    assert main(["fit", "--ckpt_path", str(run)]) == 0
    assert (run / "curve.csv").exists()
    after = weights(run)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_curve_of_other_weights_does_not_count_as_measured(mine, monkeypatch):
    """Killed while the curve of the further epochs is drawn, a run is measured again."""
    run = mine

    def killed(*_, **__):
        raise KeyboardInterrupt

    more = ["fit", "--ckpt_path", str(run), "--trainer.max_epochs=4"]
    with monkeypatch.context() as patched:
        patched.setattr("multibeta.results.draw_strip", killed)
        assert main(more) == 130
    assert not (run / "curve.json").exists()
    assert main(more) == 0
    assert (run / "curve.json").exists()
    assert main(more) == 2


def test_microbatches_of_one_step_draw_their_own_betas(tmp_path, monkeypatch):
    drawn = []

    def spy(self, t, w):
        if torch.is_grad_enabled():
            drawn.append(w.beta.tolist())
        return t.distortion + w.beta * t.rate

    monkeypatch.setattr("multibeta.objectives.BetaELBO.forward", spy)
    fit_digits(
        tmp_path, "--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=4",
        "--model.draws.opening=0", "--curve.enabled=false",
    )  # fmt: skip
    assert len(drawn) == 19
    assert len({tuple(betas) for betas in drawn}) == 19


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trainer.max_epochs=10", STOPS], "none below 2.51 was drawn; plan 19 steps"),
        (
            ["--trainer.max_epochs=-1", STOPS],
            "rises over 1,000 steps and stays, and the range of β is whole from the start",
        ),
    ],
)
def test_a_schedule_that_is_not_followed_is_said(tmp_path, options, said):
    opens = "--model.draws.opening=0.5"
    with pytest.warns(UserWarning, match=re.escape(said)):
        fit_digits(tmp_path, opens, "--curve.enabled=false", *options)


def test_a_second_start_has_a_folder_of_its_own(tmp_path):
    options = ["--trainer.max_epochs=1", "--curve.enabled=false"]
    first, second = (fit_digits(tmp_path, *options) for _ in range(2))
    assert first.name.endswith("-1")
    assert second.name.endswith("-2")
    assert not (first / "curve.csv").exists()
    one, two = weights(first), weights(second)
    assert all(torch.equal(one[name], two[name]) for name in one), "the seed is fixed"


def test_a_loss_that_becomes_nan_stops_and_keeps_the_last_good_checkpoint(tmp_path, capsys):
    diverge = "--trainer.callbacks+={class_path: tests.helpers.DivergeAt, init_args: {step: 25}}"
    arguments = [*SMALL, f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=3"]
    assert main(["fit", *arguments, diverge]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(r"loss is nan at step 25, beta=[\d.e-]+; checkpoints stay as they were", said)
    kept = weights(newest(tmp_path))
    assert all(value.isfinite().all() for value in kept.values())


@pytest.mark.parametrize("step", [0, 3])
def test_a_nan_before_anything_is_kept_leaves_no_folder(tmp_path, step):
    diverge = f"--trainer.callbacks+={{class_path: tests.helpers.DivergeAt, init_args: {{step: {step}}}}}"  # noqa: E501
    assert main(["fit", *SMALL, f"--trainer.default_root_dir={tmp_path}", diverge]) == 2
    assert list(tmp_path.glob("*/*")) == []


def test_values_outside_the_likelihoods_support(tmp_path, capsys):
    arguments = ["--data=Gaussian", "--model.likelihood=Bernoulli", "--trainer.max_epochs=1"]
    assert main(["fit", *arguments, f"--trainer.default_root_dir={tmp_path}"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(r"values in \[-.*\]; Bernoulli allows \[0, 1\]: rescale", said)
    assert list(tmp_path.glob("*/*")) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.precision=bf16-mixed"],
        ["--trainer.precision=64-true"],
        ["--model.draws.per=batch"],
        ["--model.conditioning=gate", "--model.draws.balance=0"],
        ["--model.conditioning=none", "--model.betas=1", "--curve.betas=1"],
        ["--model.network=conv", "--model.network.depth=2", "--model.network.width=4"],
        ["--model.network=RESNET", "--model.network.width=4"],
        ["--optimizer=SGD", "--optimizer.lr=0.1"],
        ["--trainer.callbacks=LearningRateMonitor"],  # one, without a list
        ["--model.likelihood=bernoulli", "--trainer.gradient_clip_val=0.5"],
        [
            "--model.encoder={class_path: tests.helpers.OwnEncoder, init_args: {width: 6}}",
            "--model.decoder=tests.helpers.OwnDecoder",
        ],
    ],
    ids=lambda options: options[0].removeprefix("--"),
)
def test_variants_train(tmp_path, options):
    # The network's width in SMALL belongs to the default network.
    small = [option for option in SMALL if "network" not in option]
    arguments = [*small, f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=1"]
    assert main(["fit", *arguments, *options]) == 0
    run = newest(tmp_path)
    assert all(float(row["rate_nats"]) > 0 for row in rows_of(run / "curve.csv"))
    vae = multibeta.load(run, allow="tests").at_beta(1)
    assert vae.reconstruct(torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)


def test_validate_and_test(uninterrupted, capsys):
    before = {p: p.stat().st_mtime_ns for p in uninterrupted.parent.parent.rglob("*")}
    last = str(uninterrupted / "checkpoints" / "last.ckpt")
    assert main(["validate", "--ckpt_path", last, "--trainer.accelerator=cpu"]) == 0
    shown = capsys.readouterr().out
    expected = float(rows_of(uninterrupted / "metrics.csv")[-1]["val/objective_nats"])
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", shown)]
    assert any(number == pytest.approx(expected, abs=5e-4) for number in numbers)
    assert main(["test", "--ckpt_path", last, "--trainer.accelerator=cpu"]) == 0
    assert "test/objective_nats" in capsys.readouterr().out
    after = {p: p.stat().st_mtime_ns for p in uninterrupted.parent.parent.rglob("*")}
    assert after == before, "measuring writes nothing"


def test_a_data_module_of_ones_own_and_options_in_any_order(tmp_path):
    arguments = [
        "--data.side=6", "--data=tests.helpers.Noise", "--config=digits",
        f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu", "--curve.betas=0.1,1",
    ]  # fmt: skip
    assert main(["fit", *arguments]) == 0
    run = newest(tmp_path)
    assert multibeta.load(run).shape == (1, 6, 6)
    assert load_data(run, allow=["tests.helpers"]).side == 6
    with pytest.raises(ValueError, match=r"names tests.helpers.Noise, code .* allow='tests'"):
        load_data(run)


def test_two_processes_give_the_figures_of_one(tmp_path, capfd, monkeypatch):
    """The first is this one, and starts the second as it does on the command line."""
    ddp = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1"]
    spy = "--trainer.callbacks+=tests.ddp.WriteBetas"
    arguments = ["fit", *SMALL, *ddp, spy, "--model.draws.opening=0"]
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["multibeta", *arguments])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name="multibeta"))
    status, said = main(arguments), capfd.readouterr().err
    assert status == 0, said
    assert "sync_dist" not in said
    run = newest(tmp_path / "runs")
    drawn = [json.loads((tmp_path / f"betas-{rank}.json").read_text()) for rank in range(2)]
    assert drawn[0] != drawn[1], "each process draws its own β's"
    rows = rows_of(run / "curve.csv")

    one = multibeta.sweep(multibeta.load(run), load_data(run), "0.01:10:4")
    for row, alone in zip(rows, one.rows, strict=True):
        assert {k: float(v) for k, v in row.items()} == pytest.approx(alone, rel=1e-6, nan_ok=True)
    assert main(["validate", f"--ckpt_path={run}", "--trainer.accelerator=cpu"]) == 0
    alone = capfd.readouterr().out
    for beta in ("0.01", "10"):
        logged = float(rows_of(run / "metrics.csv")[-1][f"val/objective_nats@{beta}"])
        shown = next(line for line in alone.splitlines() if line.split()[:1] == [beta]).split()[-1]
        assert float(shown) == pytest.approx(logged, abs=5e-4)
