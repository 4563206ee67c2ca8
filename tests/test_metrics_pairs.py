import json
import math

import pytest
import torch
import torchmetrics
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

import multibeta
from multibeta.cli import main
from multibeta.data import Digits
from multibeta.data.units import Summary
from multibeta.evaluation import metrics_of, sweep
from multibeta.likelihoods import Gaussian
from multibeta.metrics import METRICS, CurveMetric
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from tests.helpers import l1
from tests.test_evaluation import model

PATH = "torchmetrics.image.StructuralSimilarityIndexMeasure"


class Brightness(CurveMetric):
    """A metric as a user writes one."""

    def __init__(self, vae, gain: float = 1.0) -> None:
        super().__init__(vae)
        self.gain = gain
        self.add_sums(n=(), total=())

    def update(self, batch):
        self.n += len(batch.x)
        self.total += batch.x.double().flatten(1).mean(1).sum()

    def compute(self):
        return {"brightness": self.gain * (self.total / self.n).item()}


class OfRows(torchmetrics.Metric):
    """A metric with several values, none of them an example's."""

    def update(self, x_hat, x):
        self.found = (x_hat - x).mean((0, 1, 3))

    def compute(self):
        return self.found


@pytest.fixture(scope="module")
def digits():
    data = Digits(batch_size=100)
    data.setup()
    vae = multibeta.load("digits")
    x = data.splits["test"].float() / 255
    with torch.no_grad():
        return vae, data, x, vae.at_beta(1.0).reconstruct(x)


def measured(digits, metrics):
    return sweep(*digits[:2], "1", metrics=metrics)


def refused(digits, metrics):
    with pytest.raises(ValueError) as info:
        measured(digits, metrics)
    message = str(info.value)
    assert "\n" not in message
    return message


def test_a_class_an_instance_and_a_path_are_one_metric(digits):
    _, _, x, again = digits
    expected = structural_similarity_index_measure(again, x, data_range=1.0).item()
    for given in (
        StructuralSimilarityIndexMeasure, StructuralSimilarityIndexMeasure(data_range=1.0), PATH,
        [StructuralSimilarityIndexMeasure], {PATH: {"data_range": 1.0}},
    ):  # fmt: skip
        curve = measured(digits, given)
        assert curve["StructuralSimilarityIndexMeasure"] == pytest.approx([expected], rel=1e-5)
        assert curve.columns[-1] == "StructuralSimilarityIndexMeasure"
    (row,) = measured(digits, {"mine": StructuralSimilarityIndexMeasure, PATH: None}).rows
    assert row["mine"] == row["StructuralSimilarityIndexMeasure"]


def test_an_instance_is_left_as_it_was(digits):
    metric = MeanSquaredError()
    metric.update(torch.ones(3), torch.zeros(3))
    found = measured(digits, metric)["MeanSquaredError"]
    assert found == pytest.approx([(digits[3] - digits[2]).square().mean().item()], rel=1e-5)
    assert metric.compute() == 1


def test_values_of_examples_have_a_mean_and_an_error(digits, tmp_path):
    _, _, x, again = digits
    of_each = structural_similarity_index_measure(again, x, data_range=1.0, reduction="none")
    curve = measured(digits, {PATH: {"reduction": "none"}, "f": l1})
    name = "StructuralSimilarityIndexMeasure"
    errors = of_each.std().item() / math.sqrt(len(x))
    assert curve[name] == pytest.approx([of_each.mean().item()], rel=1e-5)
    assert curve[f"{name}_se"] == pytest.approx([errors], rel=1e-4)
    of_each = (again - x).abs().flatten(1).sum(1)
    assert curve["f"] == pytest.approx([of_each.mean().item()], rel=1e-5)
    assert curve["f_se"] == pytest.approx([of_each.std().item() / math.sqrt(len(x))], rel=1e-4)
    curve.to_json(tmp_path / "curve.json")
    about = json.loads((tmp_path / "curve.json").read_text())["about"]
    assert about["f"] == {"measure": "tests.helpers.l1"}
    assert about[PATH] == {
        "measure": "torchmetrics.image.ssim.StructuralSimilarityIndexMeasure",
        "reduction": "none", "data_range": 1.0,
    }  # fmt: skip


def test_a_collection_and_a_function_beside_each_other(digits):
    collection = torchmetrics.MetricCollection(
        {"a": MeanAbsoluteError(), "b": PeakSignalNoiseRatio(data_range=1.0)}
    )
    (row,) = measured(digits, [collection, l1, "psnr"]).rows
    assert row["a"] == pytest.approx(row["l1"] / 64, rel=1e-5)
    error = (digits[3] - digits[2]).square().mean().item()
    assert row["b"] == pytest.approx(-10 * math.log10(error), rel=1e-5)
    assert {"psnr_db", "psnr_se"} < row.keys()


def test_the_range_is_that_of_the_training_data():
    torch.manual_seed(0)
    vae = MultiBetaVAE.of((1, 8, 8), network=MLP(8), latent_dim=3, likelihood=Gaussian(0.3))
    x = 2 * torch.rand(20, 1, 8, 8) - 1
    with pytest.raises(ValueError, match="has a data_range of 1, and x has values in"):
        sweep(vae, [x], "1", metrics=PeakSignalNoiseRatio)
    given = {"torchmetrics.image.PeakSignalNoiseRatio": {"data_range": 2.0}}
    wide = sweep(vae, [x], "1", metrics=given)["PeakSignalNoiseRatio"]
    (seen := Summary()).add(x)
    vae.units = seen.units()
    curve = sweep(vae, [x], "1", metrics=PeakSignalNoiseRatio)
    assert curve.about["PeakSignalNoiseRatio"]["data_range"] == vae.units.peak
    assert vae.units.peak == 2
    assert curve["PeakSignalNoiseRatio"] == pytest.approx(wide)


def test_a_metric_of_the_users_own(digits):
    path = "tests.test_metrics_pairs.Brightness"
    mean = digits[2].mean().item()
    assert measured(digits, path)["brightness"] == pytest.approx([mean], rel=1e-5)
    (row,) = measured(digits, {path: {"gain": 2.0}, "psnr": {}}).rows
    assert row["brightness"] == pytest.approx(2 * mean, rel=1e-5)
    message = refused(digits, [Brightness, path])
    assert "has a column brightness, and so has another; give it another name" in message
    assert "has no setting gian (did you mean gain?)" in refused(digits, {path: {"gian": 2.0}})


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("torchmetrics.classification.BinaryAccuracy",
         "BinaryAccuracy does not take reconstructions and x of shape (100, 1, 8, 8): "),
        (torchmetrics.PearsonCorrCoef, "does not take reconstructions and x of shape (100, 1, 8"),
        ({"f": lambda x_hat, x: x}, "gives shape (100, 1, 8, 8) for 100 examples; it must give"),
        ({"f": lambda x_hat, x: 1.0}, "gives float for 100 examples; it must give (100,)"),
        ({"f": lambda x_hat, x: 1 / 0}, "(100, 1, 8, 8): division by zero"),
        ([lambda x_hat, x: x], 'a metric has no name; give it one, as in metrics={"name": f}'),
        ([MeanSquaredError(), MeanSquaredError()], "two metrics are MeanSquaredError; give names"),
        (torch.nn.Linear, "metric Linear is a Linear; give a metric of torchmetrics, a CurveMet"),
        ("torch.nn.Linearr", "class path torch.nn.Linearr cannot be imported"),
        ("psnrr", "metric psnrr is unknown (did you mean psnr?); allowed: active_units, "),
        ({PATH: {"sgima": 1.0}}, "has no setting sgima (did you mean sigma?); it has gaussian_k"),
        (OfRows, "metric OfRows gives shape (8,); it must give one number, or one an example"),
        ({"torchmetrics.MeanSquaredError": {"num_outputs": "two"}},
         "MeanSquaredError cannot be made: Expected num_outputs to be a positive integer"),
        ("ssim", "metric ssim cannot be measured: it needs 11×11 pixels, and x has 8×8"),
        ("ms_ssim", "metric ms_ssim cannot be measured: it needs 176×176 pixels, and x has 8×8"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured(digits, metrics, message):
    assert message in refused(digits, metrics)


@pytest.mark.parametrize(
    ("name", "side", "theirs"),
    [
        ("ssim", 11, structural_similarity_index_measure),
        ("ms_ssim", 176, multiscale_structural_similarity_index_measure),
    ],
)
def test_structural_similarity_is_that_of_torchmetrics(name, side, theirs):
    torch.manual_seed(0)
    vae = MultiBetaVAE.of((1, side, side), network=MLP(4), latent_dim=2)
    x = torch.rand(5, 1, side, side)
    (row,) = sweep(vae, [x[:3], x[3:]], "1", metrics=name).rows
    with torch.no_grad():
        of_each = theirs(vae.at_beta(1.0).reconstruct(x), x, data_range=1.0, reduction="none")
    assert row[name] == pytest.approx(of_each.mean().item(), rel=1e-4)
    assert row[f"{name}_se"] == pytest.approx(of_each.std().item() / math.sqrt(5), rel=1e-3)
    small = MultiBetaVAE.of((1, side, side - 1), network=MLP(4), latent_dim=2)
    assert f"{side}×{side} pixels" in METRICS[name].refuses(small)


def test_names_are_checked_without_data():
    assert metrics_of([PATH, l1]) == {PATH: {}, "l1": {"measure": l1}}
    assert metrics_of({"a": l1}, Digits(), model()) == {"a": {"measure": l1}}


@pytest.mark.parametrize("prefix", [PATH, PATH.rpartition(".")[2]])
def test_a_class_path_on_the_command_line(digits, prefix, tmp_path, capsys):
    given = ["curve", "digits", "--betas=1", f"--metrics={PATH},tests.helpers.l1", "--json"]
    assert main([*given, f"--settings.{prefix}.sigma=0.5", f"--out={tmp_path}"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    again = structural_similarity_index_measure(digits[3], digits[2], sigma=0.5, data_range=1.0)
    assert row["StructuralSimilarityIndexMeasure"] == pytest.approx(again.item(), rel=1e-5)
    assert row["l1"] > 0


def _measured_by_all():
    metrics = {PATH: {"reduction": "none"}, "mean": StructuralSimilarityIndexMeasure, "f": l1}
    return sweep(multibeta.load("digits"), Digits(batch_size=100), "1", metrics=metrics).rows


def _two_processes(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    rows = _measured_by_all()
    with open(f"{folder}/{rank}.json", "w") as file:
        json.dump(rows, file)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(tmp_path):
    torch.multiprocessing.spawn(_two_processes, (str(tmp_path),), nprocs=2)
    (row,) = _measured_by_all()
    for rank in (0, 1):
        (found,) = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == pytest.approx(row, rel=1e-6)
