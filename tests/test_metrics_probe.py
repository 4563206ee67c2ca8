import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neighbors import KNeighborsClassifier

import multibeta
from multibeta.checkpoints import load_data
from multibeta.codes import Codes
from multibeta.evaluation import metrics_of
from multibeta.metrics import Probe, Source
from multibeta.metrics.probe import balanced, r_squared
from multibeta.vae import BetaVAE

VAE = BetaVAE(torch.nn.Identity(), torch.nn.Identity(), None, (2,), 1.0)


def codes(z, **labels):
    z = np.asarray(z, dtype=np.float32)[None]
    rows = np.arange(z.shape[1])
    return Codes(np.array([1.0]), z, np.ones_like(z), rows.astype(str), rows, None, labels)


def probe(measured, train=None, **settings):
    """The metric on codes: those of the set that is measured, and of the train set."""
    sets = {"test": measured, "train": train}
    source = Source(None, "test", None, lambda: iter(()), lambda vae, split, most: sets[split])
    return Probe(VAE, source=source, **settings)


def computed(*sets, **settings):
    metric = probe(*sets, **settings)
    metric._update_count = 1
    return metric.compute()


def blobs(n, seed, classes=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    return rng.normal(size=(n, 2)) + 2 * np.eye(classes)[y][:, :2] * [1, 3], y


def test_accuracy_is_scikit_learns_on_the_digits():
    model, data = multibeta.load("digits"), load_data("digits")
    curve = multibeta.sweep(model, data, "0.3", metrics={"probe": {"draws": 2}})
    row, about = curve.rows[0], curve.about["probe"]
    vae, x, y = model.at_beta(0.3), {}, {}
    for split in ("train", "test"):
        data.setup()
        x[split] = vae.encode(data.splits[split].float() / 255).mean.detach().double().numpy()
        y[split] = data.labels(split)["digit"]
    mean, std = x["train"].mean(0), x["train"].std(0)
    linear = LogisticRegression(max_iter=2000).fit((x["train"] - mean) / std, y["train"])
    right = accuracy_score(y["test"], linear.predict((x["test"] - mean) / std))
    assert row["probe_accuracy"] == pytest.approx(right, abs=0.003)
    assert row["probe_accuracy_se"] == pytest.approx(
        math.sqrt(right * (1 - right) / 359), rel=0.02
    )
    near = KNeighborsClassifier(5).fit(x["train"], y["train"]).predict(x["test"])
    assert row["knn_accuracy"] == pytest.approx(accuracy_score(y["test"], near), abs=0.003)
    assert 0.2 < row["probe_accuracy_10"] < row["probe_accuracy_100"] < row["probe_accuracy"]
    assert about["label"] == "digit" and about["task"] == "10 classes"
    assert (about["fit"], about["fit_examples"], about["test_examples"]) == (
        "the train set", 1258, 359,
    )  # fmt: skip


def test_real_values_by_ridge_regression():
    rng = np.random.default_rng(0)
    z, z_test = rng.normal(size=(300, 2)), rng.normal(size=(200, 2))
    age, test = (of @ [2.0, -1.0] + rng.normal(size=len(of)) for of in (z, z_test))
    found = computed(codes(z_test, age=test), codes(z, age=age))
    scaled = [((of - z.mean(0)) / z.std(0)) for of in (z, z_test)]
    told = Ridge().fit(scaled[0], age).predict(scaled[1])
    assert found["probe_r2"] == pytest.approx(r2_score(test, told), abs=1e-5)
    assert found["probe_r2"] == pytest.approx(5 / 6, abs=0.06)  # the share that is no noise
    assert found["probe_r2_10"] < found["probe_r2_100"] < found["probe_r2"]
    assert "probe_accuracy" not in found and found["knn_r2"] > 0.6


def test_what_the_label_is_may_be_said():
    z, y = blobs(200, 0)
    assert "probe_accuracy" in computed(codes(z, label=y))
    assert "probe_r2" in computed(codes(z, label=y), task="numbers")
    ids = np.arange(200) // 8  # 25 numbers of classes
    assert probe(codes(z, label=ids)).about()["task"] == "numbers"
    assert probe(codes(z, label=ids), task="classes").about()["task"] == "25 classes"
    with pytest.raises(ValueError, match="task=numbers, and the label has words, such as"):
        computed(codes(z, label=y.astype(str)), task="numbers")
    with pytest.raises(ValueError, match="task=class is unknown; allowed: classes, numbers"):
        probe(codes(z, label=y), task="class")


def test_the_error_of_r_squared_is_that_of_many_tests():
    rng = np.random.default_rng(0)
    y = rng.laplace(size=(500, 300))
    found = [r_squared(of, of + rng.normal(size=300)) for of in y]
    spread = np.std([value for value, _ in found])
    assert np.mean([se for _, se in found]) == pytest.approx(spread, rel=0.15)
    assert all(map(math.isnan, r_squared(np.ones(4), np.zeros(4))))


def test_few_labels_are_balanced_and_the_same_each_time():
    y = np.repeat([3, 5, 9], [200, 40, 2])
    for n, expected in ((9, [4, 3, 2]), (30, [14, 14, 2]), (242, [200, 40, 2])):
        rows = balanced(y, n, seed=1)
        assert len(set(rows.tolist())) == n
        counts = np.unique(y[rows], return_counts=True)[1]
        assert np.abs(counts - expected).max() <= 1 and counts[2] == 2
        assert rows.tolist() == balanced(y, n, seed=1).tolist() != balanced(y, n, 2).tolist()
    taken = {tuple(np.unique(y[balanced(y, 2, seed)])) for seed in range(20)}
    assert len(taken) == 3  # fewer labels than classes: any of them


def test_without_a_train_set_half_is_fitted_on_and_it_is_said():
    z, y = blobs(400, 0)
    metric = probe(codes(z, kind=y.astype(str)))
    about = metric.about()
    assert about["fit"] == "half of the measured set: there is no other train set"
    assert about["fit_examples"] == about["test_examples"] == 200
    split = metric.split()
    order = np.random.default_rng(0).permutation(400)
    np.testing.assert_allclose(split.z, z[order[:200]], rtol=1e-6)
    assert computed(codes(z, kind=y))["probe_accuracy"] > 0.75


def test_a_train_set_of_other_classes():
    (z, y), (z_train, _) = blobs(100, 0), blobs(300, 1)
    about = probe(codes(z, kind=y), codes(z_train, kind=np.arange(300) % 5 + 10)).about()
    assert about["fit"] == "half of the measured set: the train set has no such kind"


def test_the_label_is_chosen_or_the_usual_one(capsys):
    z, y = blobs(200, 0)
    both = codes(z, batch=np.arange(200) % 7, label=y)
    metric = probe(both)
    assert metric.about()["label"] == metric.about()["label"] == "label"
    assert capsys.readouterr().err == "probe: label label of batch, label; label= takes another\n"
    about = probe(both, label="batch").about()
    assert about["label"] == "batch" and about["task"] == "7 classes"
    with pytest.raises(ValueError, match="label=age is unknown; the data has batch, label"):
        computed(both, label="age")


def test_too_few_labels_leave_columns_out():
    z, y = blobs(60, 0)
    found = computed(codes(z, label=y))
    assert "probe_accuracy_10" in found and "probe_accuracy_100" not in found
    assert probe(codes(z, label=y)).about()["few"] == "10 labels in all, 10 draws"
    assert math.isnan(computed(codes(z, label=y), draws=1)["probe_accuracy_10_se"])


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ({}, "it needs a label .* and the data has none"),
        ({"id": np.arange(60).astype(str)}, "and the data has id; give labels beside x"),
        ({"age": np.r_[np.nan, np.arange(59.0)]}, "label age is not finite at 1 of 60 examples"),
    ],
)
def test_labels_that_cannot_be_told(labels, problem):
    with pytest.raises(ValueError, match=f"metric probe cannot be measured: .*{problem}"):
        computed(codes(np.random.default_rng(0).normal(size=(60, 2)), **labels))


def test_settings_out_of_range_and_data_without_labels():
    for settings in ({"few": [1]}, {"draws": 0}, {"neighbours": 0}, {"most": 1}):
        (name,) = settings
        with pytest.raises(ValueError, match=f"{name}=. is too small; it is at least"):
            Probe(VAE, **settings)
    with pytest.raises(ValueError, match="it needs labels, which a ndarray has not"):
        metrics_of("probe", np.zeros((4, 2)))
    with pytest.raises(ValueError, match="measure on one, by"):
        computed(None)


def test_labels_of_batches_and_one_set_that_is_the_train_set():
    model, data = multibeta.load("digits"), load_data("digits")
    data.setup()
    x, y = data.splits["test"], torch.from_numpy(data.labels("test")["digit"])
    batches = list(zip(x.split(100), y.split(100), strict=True))
    curve = multibeta.sweep(model, batches, "0.3", metrics={"probe": {"draws": 2}})
    about = curve.about["probe"]
    assert about["label"] == "label" and about["fit"].startswith("half of the measured set")
    assert about["fit_examples"] + about["test_examples"] == 359
    assert curve["probe_accuracy"][0] > 0.8
