import copy
import warnings

import numpy as np
import pytest
import scipy.signal
import torch
from torch import nn

import multibeta
from multibeta import distortions
from multibeta.distortions import L1, MSE, SSIM, Distortion, MultiScaleSTFT
from multibeta.likelihoods import Likelihood
from multibeta.specs import build, describe

SHAPES = [(6,), (2, 5), (2, 4, 5), (1, 2, 3, 2)]
HERE = __name__


def loss(x_hat, x):
    return (x_hat - x).abs().flatten(1).sum(1)


def masked(x_hat, x, mask=None, *, weight=1.0):
    errors = (x_hat - x).square()
    return weight * (errors if mask is None else errors * mask).flatten(1).sum(1)


class Perceptual(nn.Module):
    def __init__(self, width: int = 4, features: int = 3) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, features), nn.Dropout(0.5))

    def forward(self, x_hat, x):
        return (self.net(x_hat) - self.net(x)).square().flatten(1).sum(1)


class NoModule:
    def __call__(self, x_hat, x):
        return loss(x_hat, x)


def of(distortion, x_hat, x, **inputs):
    return -distortion(x_hat, **inputs).log_prob(x)


# Shipped ones --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_l1_and_mse_are_sums(shape):
    x_hat, x = torch.randn(3, *shape), torch.randn(3, *shape)
    errors = (x_hat - x).numpy().reshape(3, -1)
    np.testing.assert_allclose(of(L1(), x_hat, x), np.abs(errors).sum(1), rtol=1e-5)
    np.testing.assert_allclose(of(MSE(), x_hat, x), (errors**2).sum(1), rtol=1e-5)


@pytest.mark.parametrize("cls", [L1, MSE, MultiScaleSTFT])
def test_a_mean_warns_of_beta(cls):
    kwargs = {"windows": [16]} if cls is MultiScaleSTFT else {}
    with pytest.warns(
        UserWarning,
        match=rf"^{cls.__name__}: a mean over d values beside a summed KL: beta here is d times "
        "as large in summed units; [^\n]*$",
    ):
        mean = cls(reduction="mean", **kwargs)
    x_hat, x = torch.randn(3, 2, 40), torch.randn(3, 2, 40)
    with pytest.warns(UserWarning, match="beta = 1 here is beta = 80 in summed units"):
        d = of(mean, x_hat, x)
    torch.testing.assert_close(d, of(cls(**kwargs), x_hat, x) / 80)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of(mean, x_hat, x)  # said once
    assert (mean.name, cls(**kwargs).name) == (f"{cls.__name__} (mean)", cls.__name__)


def test_multi_scale_stft_by_scipy():
    x_hat, x = torch.randn(2, 3, 300).double(), torch.randn(2, 3, 300).double()
    expected = 0
    for window in (64, 32):
        spectra = []
        for signal in (x_hat, x):
            hop = window // 4
            padded = np.pad(signal.numpy(), [(0, 0), (0, 0), (window // 2,) * 2], mode="reflect")
            frames = np.lib.stride_tricks.sliding_window_view(padded, window, -1)[..., ::hop, :]
            hann = scipy.signal.get_window("hann", window)
            magnitude = np.abs(np.fft.rfft(frames * hann)) / np.sqrt(window)
            spectra.append(magnitude.reshape(2, -1).clip(1e-3))
        a, b = spectra
        expected += np.abs(a - b).sum(1) + 0.5 * np.abs(np.log(a) - np.log(b)).sum(1)
    ours = MultiScaleSTFT([64, 32], log_weight=0.5, floor=1e-3)
    np.testing.assert_allclose(of(ours, x_hat, x), expected, rtol=1e-9)
    one_channel = of(ours, x_hat[:, 0], x[:, 0])
    torch.testing.assert_close(one_channel, of(ours, x_hat[:, :1], x[:, :1]))


def test_stft_of_silence_has_finite_gradients():
    x_hat = torch.zeros(1, 100, requires_grad=True)
    of(MultiScaleSTFT([16]), x_hat, torch.randn(1, 100)).sum().backward()
    assert x_hat.grad.isfinite().all()
    assert of(MultiScaleSTFT([16]), torch.zeros(1, 100), torch.zeros(1, 100)).item() == 0


def test_ssim_by_its_formula():
    x_hat, x = torch.rand(3, 2, 17, 14).double(), torch.rand(3, 2, 17, 14).double()

    def smooth(values):
        kernel = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
        padded = np.pad(values, [(0, 0), (0, 0), (5, 5), (5, 5)], mode="reflect")
        kernel = np.outer(kernel, kernel)[None, None] / kernel.sum() ** 2
        return scipy.signal.correlate(padded, kernel, mode="valid")

    a, b = x_hat.numpy(), x.numpy()
    ma, mb = smooth(a), smooth(b)
    va, vb, cov = smooth(a * a) - ma**2, smooth(b * b) - mb**2, smooth(a * b) - ma * mb
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    ssim = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    expected = 5 * (1 - ssim.reshape(3, -1).mean(1))
    np.testing.assert_allclose(of(SSIM(data_range=2, scale=5), x_hat, x), expected, rtol=1e-5)


def test_ssim_of_one_example_and_of_volumes():
    x = torch.rand(1, 1, 8, 8)
    assert of(SSIM(), x, x).shape == (1,)
    assert of(SSIM(), x, x).item() == pytest.approx(0, abs=1e-6)
    assert of(SSIM(), torch.rand(2, 1, 8, 8, 8), torch.rand(2, 1, 8, 8, 8)).shape == (2,)


@pytest.mark.parametrize(
    "distortion", [L1(), MSE(), MultiScaleSTFT([8, 4]), SSIM(scale=3), Distortion(loss)], ids=repr
)
def test_gradients_and_precision(distortion):
    x_hat = torch.rand(2, 1, 8, 8) if isinstance(distortion, SSIM) else torch.rand(2, 2, 10)
    x_hat, x = x_hat.double().requires_grad_(), torch.rand_like(x_hat)
    assert torch.autograd.gradcheck(lambda y: of(distortion, y, x.double()), x_hat)
    half = distortion(x_hat.detach().bfloat16())
    assert half.mean.dtype == torch.float32
    assert half.log_prob(x.bfloat16()).dtype == torch.float32
    assert of(distortion, x_hat[:1], x.double()).shape == (2,)  # one code for many examples


@pytest.mark.parametrize(
    ("distortion", "shape", "message"),
    [
        (MultiScaleSTFT(), (3, 20, 4), r"x has the shape \(3, 20, 4\); .* takes signals, "),
        (MultiScaleSTFT(), (1, 100), r"windows=\[512, .*, but signals have 100 values; .* 200"),
        (SSIM(), (3, 20), r"x has the shape \(3, 20\); SSIM takes pictures \(C, H, W\)"),
        (SSIM(), (1, 5, 20), r"\(1, 5, 20\); SSIM takes .* whose sides are 6 or more"),
    ],
)
def test_shapes_that_are_refused(distortion, shape, message):
    with pytest.raises(ValueError, match=message) as info:
        of(distortion, torch.rand(2, *shape), torch.rand(2, *shape))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L1("batchmean"), "reduction=batchmean is unknown; allowed: sum, mean"),
        (lambda: MultiScaleSTFT([]), r"windows=\[\]; give one or more lengths, 4 or longer"),
        (lambda: MultiScaleSTFT([2]), r"windows=\[2\]; give one"),
        (lambda: MultiScaleSTFT(floor=0), "floor=0 is not a finite number above 0"),
        (lambda: MultiScaleSTFT(log_weight=-1), "log_weight=-1 is not a finite number from 0 up"),
        (lambda: SSIM(scale=0), "scale=0 is not a finite number above 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_another_shape_is_not_broadcast():
    message = r"makes the shape \(1, 4\) for x of the shape \(4,\); L1 needs the same"
    with pytest.raises(ValueError, match=message):
        of(L1(), torch.zeros(4, 1, 4), torch.zeros(4, 4))


# Any function --------------------------------------------------------------------------------


def test_a_function():
    x_hat, x = torch.randn(3, 2, 5), torch.randn(3, 2, 5)
    distortion = Distortion(loss)
    p = distortion(x_hat)
    torch.testing.assert_close(-p.log_prob(x), loss(x_hat, x))
    assert torch.equal(p.mean, x_hat)
    assert (p.batch_shape, p.event_shape) == ((3,), (2, 5))
    assert (distortion.name, distortion.unit, distortion.is_density) == ("loss", "", False)
    assert distortion.outputs == 1
    assert Distortion(lambda a, b: loss(a, b)).name == "distortion"
    distortion.check(torch.tensor([-1e9, 1e9]))
    with pytest.raises(ValueError, match=r"^loss is a distortion and no density: .*Gaussian or L"):
        p.sample()


@pytest.mark.parametrize(
    ("returned", "came"),
    [
        (lambda a, b: (a - b).mean(), "a scalar"),
        (lambda a, b: (a - b).abs(), r"the shape \(3, 4\) for 3 examples"),
        (lambda a, b: (a - b).abs().sum(0), r"the shape \(4,\) for 3 examples"),
        (lambda a, b: 1.0, "a float"),
        (lambda a, b: None, "a NoneType"),
    ],
)
def test_what_is_no_value_an_example_is_refused(returned, came):
    cure = r"; return one value an example, such as .flatten\(1\).sum\(1\)$"
    with pytest.raises(ValueError, match=f"^distortion returned {came}{cure}"):
        of(Distortion(returned), torch.zeros(3, 4), torch.ones(3, 4))


def test_further_inputs_go_by_name():
    x_hat, x, mask = torch.randn(3, 4), torch.randn(3, 4), torch.tensor([1.0, 0, 1, 0])
    distortion = Distortion(masked)
    assert distortion.inputs == ("mask", "weight")
    assert Distortion(loss).inputs == L1().inputs == ()
    expected = 2 * (x_hat - x).square()[:, ::2].sum(1)
    d = of(distortion, x_hat, x, mask=mask, weight=2.0, context=torch.zeros(3))
    torch.testing.assert_close(d, expected)
    torch.testing.assert_close(of(distortion, x_hat, x), (x_hat - x).square().sum(1))


def test_of_a_batch_it_takes_what_it_names_alone():
    """Else a metric that draws would take the labels of a set for inputs of the networks."""
    batch = {"x": torch.rand(3, 4), "label": torch.arange(3), "mask": torch.ones(3)}
    plain, named = (
        multibeta.wrap(nn.Linear(4, 2), nn.Linear(1, 4), example=batch["x"], distortion=f)
        for f in (lambda x_hat, x: (x_hat - x).abs().sum(1), masked)
    )
    assert set(named.read(batch).inputs) == {"mask"}
    with pytest.warns(UserWarning, match="^nothing takes mask of a batch"):
        assert plain.read(batch).inputs == {}


def test_a_subclass():
    class Weighted(Distortion):
        def __init__(self, weight: float = 2.0) -> None:
            super().__init__()
            self.weight = weight

        def distance(self, x_hat, x, mask=None):
            return self.weight * masked(x_hat, x, mask)

    x_hat, x, mask = torch.randn(3, 4), torch.randn(3, 4), torch.tensor([1.0, 0, 1, 0])
    torch.testing.assert_close(
        of(Weighted(3.0), x_hat, x, mask=mask), 3 * masked(x_hat, x, mask=mask)
    )
    assert (Weighted().name, Weighted().inputs) == ("Weighted", ("mask",))
    assert describe(Weighted(3.0))["init_args"] == {"weight": 3.0}


def test_a_module_trains_unless_frozen():
    distortion, x = Distortion(Perceptual()), torch.randn(3, 4)
    assert distortion.name == "Perceptual"
    assert set(distortion.state_dict()) == {"function.net.0.weight", "function.net.0.bias"}
    of(distortion, torch.randn(3, 4), x).sum().backward()
    assert distortion.function.net[0].weight.grad.any()
    assert distortion.train().function.training

    frozen = Distortion(Perceptual().requires_grad_(False))
    assert not frozen.train().function.training  # dropout, running statistics
    x_hat = torch.randn(3, 4, requires_grad=True)
    of(frozen, x_hat, x).sum().backward()
    assert x_hat.grad.any()
    copied = copy.deepcopy(frozen)
    torch.testing.assert_close(of(copied.eval(), x_hat, x), of(frozen.eval(), x_hat, x))
    own = {p.data_ptr() for p in frozen.parameters()}
    assert own.isdisjoint(p.data_ptr() for p in copied.parameters())


# Paths ---------------------------------------------------------------------------------------


def test_a_path_of_a_function():
    distortion = Distortion(f"{HERE}.loss")
    assert (distortion.fn, distortion.fn_args, distortion.name) == (f"{HERE}.loss", None, "loss")
    assert repr(distortion) == f"Distortion({HERE}.loss)"
    x_hat, x = torch.randn(3, 4), torch.randn(3, 4)
    again = build(describe(distortion), Likelihood)
    assert describe(again) == describe(distortion)
    torch.testing.assert_close(of(again, x_hat, x), loss(x_hat, x))


def test_a_path_of_a_class():
    distortion = Distortion(f"{HERE}.Perceptual", {"features": 5})
    assert distortion.function.net[0].out_features == 5
    spec = describe(distortion)
    assert spec["init_args"] == {"fn": f"{HERE}.Perceptual", "fn_args": {"features": 5}}
    again = build(spec, Likelihood)
    again.load_state_dict(distortion.state_dict())
    x_hat, x = torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(of(again.eval(), x_hat, x), of(distortion.eval(), x_hat, x))


@pytest.mark.parametrize("fn", [loss, Perceptual()], ids=["function", "module"])
def test_an_object_cannot_be_described(fn):
    assert Distortion(fn).fn is fn
    message = rf"Distortion.fn is a {type(fn).__name__}, not a plain value"
    with pytest.raises(TypeError, match=message):
        describe(Distortion(fn))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            (),
            "a Distortion needs fn: a function of x_hat and x that returns .*package.module.name",
        ),
        (("loss",), "fn=loss cannot be imported .*; write package.module.name of something"),
        (("nowhere.loss",), "fn=nowhere.loss cannot be imported .No module named 'nowhere'."),
        ((f"{HERE}.nope",), f"fn={HERE}.nope cannot be imported .*no attribute 'nope'"),
        ((f"{HERE}.SHAPES",), f"fn={HERE}.SHAPES is no function; name a function"),
        ((f"{HERE}.NoModule",), "NoModule is a class, but no torch.nn.Module; make it one"),
        ((f"{HERE}.loss", {"a": 1}), "loss is not called with fn_args; name a function without"),
        ((f"{HERE}.Perceptual", {"a": 1}), "Perceptual does not take these fn_args: .*'a'"),
        ((loss, {"a": 1}), "fn_args are those of a class path; give fn as package.module.Class"),
    ],
)
def test_paths_that_are_refused(args, message):
    with pytest.raises(ValueError, match=message) as info:
        Distortion(*args)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("name", [n for n in distortions.__all__ if n != "Distortion"])
def test_description(name):
    distortion = getattr(distortions, name)()
    assert describe(build(describe(distortion), Likelihood)) == describe(distortion)
    assert name in repr(distortion)


def test_by_jsonargparse():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--likelihood", type=Likelihood)

    def parsed(*argv):
        config = parser.parse_args(argv)
        again = parser.parse_string(parser.dump(config))  # as config.yaml
        assert again == config
        return parser.instantiate_classes(config).likelihood

    distortion = parsed("--likelihood=Distortion", f"--likelihood.fn={HERE}.loss")
    assert distortion.fn == f"{HERE}.loss"
    for given in ("fn_args.features=7", 'fn_args={"features": 7}'):
        distortion = parsed(
            "--likelihood=Distortion",
            f"--likelihood.fn={HERE}.Perceptual",
            f"--likelihood.{given}",
        )
        assert distortion.function.net[0].out_features == 7
    stft = parsed("--likelihood=MultiScaleSTFT", "--likelihood.windows=[32,16]")
    assert stft.windows == [32, 16]
