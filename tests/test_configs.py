"""Each shipped config is run, on a few pictures in the real formats."""

import csv
import json
from itertools import cycle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torchvision
import yaml
from PIL import Image

from multibeta.cli import main
from multibeta.objectives import table as objectives_table
from tests.helpers import newest
from tests.test_data import character_sheet, write_mnist

pytestmark = pytest.mark.dots

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def mnist(root):
    write_mnist(root / "MNIST" / "raw")


def fashion_mnist(root):
    write_mnist(root / "FashionMNIST" / "raw")


def binarized_mnist(root):
    x = np.random.default_rng(0).integers(0, 2, (12, 28, 28), dtype=np.uint8)
    np.savez(root / "binarized_mnist.npz", train=x[:8], valid=x[8:10], test=x[10:])


def omniglot(root):
    for part in ("background", "evaluation"):
        np.savez(root / f"images_{part}.npz", images=character_sheet(1))


def celeba(root):
    (root / "img_align_celeba").mkdir()
    lines = []
    for i in range(9):
        Image.new("RGB", (178, 218), (20 * i, 0, 99)).save(root / "img_align_celeba" / f"{i}.jpg")
        lines.append(f"{i}.jpg {i % 3}")
    (root / "list_eval_partition.txt").write_text("\n".join(lines))


def folder(root):
    for i in range(9):
        Image.new("RGB", (70, 64), (20 * i, 0, 99)).save(root / f"{i}.png")


def npz(root):
    np.savez(root / "mine.npz", x=np.random.default_rng(0).random((12, 9, 7)).astype(np.float32))
    return root / "mine.npz"


def table(root):
    path = root / "x.csv"
    path.write_text("a,b,kind\n" + "".join(f"{i},{i % 7},x\n" for i in range(60)))
    return path


def cifar10(root, monkeypatch):
    class Reader:
        classes: ClassVar = ["airplane", "automobile", "bird"]
        targets: ClassVar = [0, 1, 2, 0, 1, 2, 0, 1, 2]

        def __init__(self, root, train, download):
            self.data = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Reader)
    (root / "there").touch()


SETS = (mnist, fashion_mnist, binarized_mnist, omniglot, celeba, folder, npz, table)
MAKE = {f.__name__: f for f in SETS}


OBJECTIVES = sorted((Path(__file__).parent.parent / "configs" / "objectives").glob("*.yaml"))


@pytest.mark.parametrize(
    ("config", "data"),
    list(zip(OBJECTIVES, cycle(["digits", "binarized_mnist"]), strict=False)),
    ids=lambda given: getattr(given, "stem", given),
)
def test_the_config_of_an_objective_beside_that_of_data(config, data, tmp_path):
    options = ["--model.network=MLP", "--model.network.width=8"]
    if data == "binarized_mnist":
        binarized_mnist(tmp_path)
        options += [f"--data.root={tmp_path}"]
    arguments = [
        "--config", data, "--config", config.stem, *options, "--data.batch_size=4",
        "--trainer.max_steps=1", "--trainer.accelerator=cpu", "--curve.betas=0.01,10",
        "--trainer.limit_val_batches=0", f"--trainer.default_root_dir={tmp_path / 'runs'}",
    ]  # fmt: skip
    if config.stem == "vae":
        arguments[-3] = "--curve.betas=1"
    assert main(["fit", *arguments]) == 0
    about = json.loads((newest(tmp_path / "runs") / "curve.json").read_text())["about"]
    chosen = yaml.safe_load(config.read_text())["model"]["objective"]
    assert about["objective"] == chosen["class_path"]
    numbers = {k: v for k, v in chosen.get("init_args", {}).items() if k in about["weights"]}
    assert about["weights"] == numbers


def test_there_is_a_config_for_each_objective():
    chosen = {
        yaml.safe_load(c.read_text())["model"]["objective"]["class_path"] for c in OBJECTIVES
    }
    rows = {line.split("`")[1] for line in objectives_table().splitlines() if "| `" in line[3:]}
    assert rows - {"model.objective"} == chosen | {"BetaELBO"}


def test_there_is_a_config_for_each_data_set():
    assert {c.stem for c in CONFIGS} == {*MAKE, "cifar10", "digits", "gaussian", "sprites"}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.stem)
def test_config(config, tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    options = []
    if config.stem in MAKE:
        options = [f"--data.root={MAKE[config.stem](root) or root}"]
    elif config.stem == "cifar10":
        cifar10(root, monkeypatch)
        options = [f"--data.root={root}"]
    elif config.stem == "sprites":
        options = ["--data.size=30"]
    elif config.stem == "gaussian":
        options = ["--data.batch_size=500"]
    arguments = [
        "--config", config.name, "--data.batch_size=3", *options, "--trainer.max_steps=1",
        "--trainer.accelerator=cpu", "--trainer.check_val_every_n_epoch=1",
        "--trainer.limit_val_batches=1", "--curve.betas=0.01,10",
        f"--trainer.default_root_dir={tmp_path / 'runs'}",
    ]  # fmt: skip
    assert main(["fit", *arguments]) == 0
    run = newest(tmp_path / "runs")
    assert run.parent.name == config.stem
    with (run / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["beta"] for row in rows] == ["0.01", "10.0"]
    assert ("optimal_rate_nats" in rows[0]) == (config.stem == "gaussian")
    assert yaml.safe_load(config.read_text())["model"]["betas"] == "0.01:10"


def test_shipped_configs_are_read_in_any_locale():
    for path in [*CONFIGS, *OBJECTIVES]:
        assert path.read_bytes().isascii(), path
