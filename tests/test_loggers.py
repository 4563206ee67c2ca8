"""A logger beside the run's own folder holds hyperparameters, curve and pictures: read back."""

import contextlib
import csv
import json
import sqlite3
import time
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from lightning.pytorch.loggers import Logger

from multibeta.cli import main
from multibeta.curve import Curve
from tests.helpers import SMALL, newest

pytestmark = pytest.mark.dots

PICTURES = {"curve", "plane", "strip"}


class Tables(Logger):
    """One that is nobody's, with the methods of Weights & Biases for tables and pictures."""

    kept: ClassVar = {}
    name, version = "tables", 0

    def log_metrics(self, metrics, step=None):
        self.kept.setdefault("metrics", []).append(metrics)

    def log_hyperparams(self, params, *args, **kwargs):
        self.kept["hyperparameters"] = dict(params)

    def log_table(self, key, columns=None, data=None):
        self.kept[key] = (columns, data)

    def log_image(self, key, images):
        self.kept[f"picture {key}"] = images


class Bare(Tables):
    """One that takes neither."""

    log_table = property()
    log_image = property()


def fitted(tmp_path, monkeypatch, logger):
    """Return the run's folder, and its curve."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("mine: true")
    assert main(["fit", *SMALL, "--trainer.max_epochs=1", f"--trainer.logger={logger}"]) == 0
    run = newest(tmp_path / "runs")
    kept = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.csv", "checkpoints", "curve.csv", "curve.png"} <= kept
    assert Path("config.yaml").read_text() == "mine: true"
    return run, list(Curve.from_json(run / "curve.json").rows)


def of(name, **settings):
    return json.dumps({"class_path": name, "init_args": settings})


CSV = of("CSVLogger", save_dir="elsewhere")


def rows_of(path):
    with path.open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def hparams(folder):
    (path,) = Path(folder).rglob("hparams.yaml")
    return yaml.safe_load(path.read_text())


def test_csv(tmp_path, monkeypatch):
    _, rows = fitted(tmp_path, monkeypatch, CSV)
    assert hparams("elsewhere")["betas"] == "0.01:10"
    (path,) = Path("elsewhere").rglob("curve.csv")
    assert rows_of(path) == [pytest.approx(row) for row in rows]
    assert {p.stem for p in path.parent.glob("*.png")} >= PICTURES
    assert (path.parent / "metrics.csv").is_file()


def test_tensorboard(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, rows = fitted(tmp_path, monkeypatch, of("TensorBoardLogger", save_dir="elsewhere"))
    assert hparams("elsewhere")["betas"] == "0.01:10"
    (events,) = Path("elsewhere").rglob("events*")
    read = EventAccumulator(str(events)).Reload()
    assert set(read.Tags()["images"]) >= PICTURES
    assert "val/objective_nats" in read.Tags()["scalars"]
    (text,) = read.Tensors("curve/text_summary")
    printed = text.tensor_proto.string_val[0].decode()
    assert all(f"{row['rate_nats']:.3f}" in printed for row in rows)


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    _, rows = fitted(
        tmp_path, monkeypatch, of("WandbLogger", save_dir="elsewhere", offline=True, project="p")
    )
    import wandb

    wandb.finish()
    wandb.teardown()  # its process writes to the end, and ends
    folder = Path("elsewhere").resolve()
    (table,) = folder.rglob("*.table.json")
    content = json.loads(table.read_text())
    found = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    assert found == [pytest.approx(row) for row in rows]
    assert {path.name.partition("_")[0] for path in folder.rglob("*.png")} >= PICTURES
    (record,) = {path.resolve() for path in folder.rglob("run-*.wandb")}
    until = time.monotonic() + 30
    while b"0.01:10" not in record.read_bytes() and time.monotonic() < until:
        time.sleep(0.1)
    assert b"0.01:10" in record.read_bytes()


@pytest.mark.filterwarnings("ignore")  # of MLflow and SQLAlchemy about themselves
def test_mlflow_on_sqlite(tmp_path, monkeypatch):
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(package)
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    _, rows = fitted(
        tmp_path, monkeypatch, of("MLFlowLogger", tracking_uri=uri, experiment_name="x")
    )
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as database:
        hyperparameters = dict(database.execute("select key, value from params"))
        metrics = {key for (key,) in database.execute("select key from metrics")}
    assert hyperparameters["betas"] == "0.01:10" and "val/objective_nats" in metrics
    (path,) = tmp_path.glob("mlruns/*/*/artifacts/curve.csv")
    assert rows_of(path) == [pytest.approx(row) for row in rows]
    assert {p.stem for p in path.parent.glob("*.png")} >= PICTURES


def test_loggers_of_others(tmp_path, monkeypatch, capsys):
    own = "tests.test_loggers"
    run, rows = fitted(tmp_path, monkeypatch, f"[{CSV}, {own}.Tables, {own}.Bare]")
    columns, table = Tables.kept["curve"]
    assert [dict(zip(columns, row, strict=True)) for row in table] == rows
    assert Tables.kept["picture strip"] == [str(run / "strip.png")]
    assert Tables.kept["hyperparameters"]["betas"] == "0.01:10" and Tables.kept["metrics"]
    assert list(Path("elsewhere").rglob("curve.png"))
    assert "Bare takes no tables and pictures: they are in runs" in capsys.readouterr().err


def test_no_logger(tmp_path, monkeypatch):
    fitted(tmp_path, monkeypatch, "false")
