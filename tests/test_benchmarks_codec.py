import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from benchmarks import codec_methods as methods
from benchmarks import codec_rivals as rivals
from benchmarks.codec_sets import rows_of


def pictures(n=3, channels=1, side=28):
    """Return smooth pictures of 8 bits, (n, channels, side, side), no two alike."""
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] / side
    waves = draw.uniform(1, 9, (n, channels, 2, 1, 1))
    x = np.sin(waves[:, :, 0] * rows + waves[:, :, 1] * columns)
    return np.round(127.5 + 127.5 * x).astype(np.uint8)


PLAIN = {
    "JPEG": {"quality": 40, "optimize": False},
    "JPEG2000": {
        "quality_mode": "dB",
        "quality_layers": [30],
        "irreversible": True,
        "no_jp2": True,
    },
    "WEBP": {"quality": 40},
    "AVIF": {"quality": 40, "max_threads": 1},
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PLAIN)
def test_two_files_of_the_same_settings_differ_by_what_their_payloads_do(name, channels):
    files = [
        rivals.written(rivals.picture(x), name, PLAIN[name]) for x in pictures(3, channels, 64)
    ]
    headers = [len(file) - rivals.payload(file, name) for file in files]
    assert min(map(len, files)) > min(headers) > 20
    assert len(set(map(len, files))) == 3
    slack = {"WEBP": 1, "AVIF": 3}.get(name, 0)  # an even length; lengths of one or two bytes
    assert max(headers) - min(headers) <= slack


def test_a_file_that_is_built_otherwise_is_refused():
    file = rivals.written(rivals.picture(pictures()[0]), "WEBP", {"lossless": True})
    with pytest.raises(ValueError, match="VP8L"):
        rivals.payload(file, "WEBP")
    with pytest.raises(ValueError, match="marker"):
        rivals.payload(b"\xff\xd8\x00\x00", "JPEG")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("of", rivals.FORMATS, ids=lambda of: of.name)
def test_a_format_that_takes_more_bits_is_nearer(of, channels):
    x = pictures(2, channels, 32)
    settings = [*of.settings(channels)]
    low, high = (
        rivals.measured(x, rivals.Format(of.name, "", {k: (v,) for k, v in one.items()}))[0]
        for one in (settings[0], settings[-1])
    )
    assert low["bits_whole"] < high["bits_whole"]
    assert low["sheet_bits"] < high["sheet_bits"]
    assert low["psnr_db"] < high["psnr_db"]
    for row in (low, high):
        assert row["bits_payload"] < row["bits_whole"]


def test_psnr_of_an_error_of_one_and_of_none():
    x = pictures()
    again = np.where(x < 255, x + 1, 254).astype(np.uint8)
    assert rivals.psnr_db(x, again) == pytest.approx(20 * math.log10(255))
    assert rivals.psnr_db(x, x) == pytest.approx(10 * math.log10(255**2 * 12))


@pytest.mark.parametrize("n", [3, 40, 41])
def test_a_sheet_is_taken_apart_again(n):
    x = pictures(n, 3, 12)
    sheet = rivals.sheet(x)
    assert sheet.shape == (3, 16 * math.ceil(n / 40), 40 * 16)
    assert (rivals.unsheet(sheet, x) == x).all()


def test_half_size_is_given_back_at_the_old_size():
    x = pictures(2, 3, 28)
    again = rivals.resized(rivals.resized(x, (14, 14)), (28, 28))
    assert again.shape == x.shape
    assert rivals.psnr_db(x, again).min() > 30  # they are smooth


def test_best_keeps_what_nothing_beats_in_both():
    points = [(10.0, 20.0), (12.0, 19.0), (12.0, 25.0), (30.0, 25.0), (9.0, 5.0)]
    assert rivals.best(points) == [(9.0, 5.0), (10.0, 20.0), (12.0, 25.0)]


def test_rows_are_spread_over_the_set():
    assert rows_of(10, 4).tolist() == [0, 3, 6, 9]
    assert rows_of(3, 9).tolist() == [0, 1, 2]


class Scaled:
    """A decoder whose output is twice the code, with σ = 1."""

    def decode(self, z):
        """Return p(x|z)."""
        return Independent(Normal(2 * z, 1.0), 1)


def codes(n=20_000, latents=2, std=0.02, vae=None):
    """Return codes whose means are N(0, 1), all with the same σ."""
    draw = np.random.default_rng(0)
    train, mean = draw.standard_normal((2, n, latents))
    same = np.full((n, latents), std)
    x = torch.zeros(n, latents)
    return methods.Codes(vae or Scaled(), train, same, x, mean, same, x)


@pytest.mark.parametrize("method", [methods.rounded, methods.dithered])
def test_a_fine_grid_costs_the_entropy_of_the_means_less_the_logarithm_of_the_step(method):
    of = codes()
    coded = method(of)
    step = math.sqrt(12) * 0.02
    ideal = 2 * (0.5 * math.log2(2 * math.pi * math.e) - math.log2(step))
    assert coded.bits.mean() == pytest.approx(ideal, rel=0.01)
    error = coded.z - of.mean
    assert np.abs(error).max() <= step / 2 + 1e-9
    assert error.std() == pytest.approx(0.02, rel=0.02)


def test_the_error_of_dither_is_independent_of_the_mean():
    of = codes(std=0.5)
    for method, least in ((methods.dithered, 0.0), (methods.rounded, 0.01)):
        error = method(of).z - of.mean
        bins = np.digitize(of.mean[:, 0], [-1.5, -0.5, 0.5, 1.5])
        apart = max(abs(error[bins == b, 0].mean()) for b in range(5))
        assert apart < 0.03 if method is methods.dithered else apart > least


def test_vbq_chooses_the_median_where_bits_are_dear_and_the_nearest_where_they_are_cheap():
    of = codes(2_000)
    dear = methods.vbq(of, price=1e9)
    assert (dear.z == 0).all()
    assert dear.bits.max() < 0.02
    cheap, usual = methods.vbq(of, price=1e-9), methods.vbq(of)
    inside = np.abs(of.mean) < 2
    assert np.abs(cheap.z - of.mean)[inside].max() < 0.02
    assert dear.bits.mean() < usual.bits.mean() < cheap.bits.mean()


def test_relative_entropy_coding_sends_a_sample_of_q_at_nearly_its_rate():
    of = codes(300, latents=1, std=0.1)
    coded = methods.poisson(of, candidates=2**12)
    error = (coded.z - of.mean) / 0.1
    assert abs(error.mean()) < 0.2
    assert error.std() == pytest.approx(1, abs=0.12)
    rate = of.rates.mean()
    assert rate < coded.bits.mean() < rate + math.log2(rate + 1) + 4
    promised = methods.relative(of).bits
    each = of.rates[:, 0]
    assert promised == pytest.approx(each + np.log2(each + 1) + 4)


def test_rates_are_those_of_the_closed_form():
    of = codes(5, std=0.5)
    q = Normal(torch.from_numpy(of.mean), torch.from_numpy(of.std))
    kl = torch.distributions.kl_divergence(q, Normal(0.0, 1.0)) / math.log(2)
    assert of.rates == pytest.approx(kl.numpy(), abs=1e-6)


def test_blocks_hold_each_latent_once_and_no_more_bits_than_asked():
    rates = np.array([1.0, 12.0, 4.0, 5.0, 3.0, 0.0])
    blocks = methods.blocks_of(rates, most=9.0)
    assert sorted(j for block in blocks for j in block) == [*range(6)]
    assert all(rates[block].sum() <= 9 or len(block) == 1 for block in blocks)
    assert len(blocks) == 3


def test_the_map_before_the_decoder_undoes_what_the_codes_are_off_by():
    of = codes(2_000, std=0.1)
    x = torch.from_numpy(of.mean).float() + 0.3  # twice the code is decoded: half of it is right
    pictures_ = methods.Codes(of.vae, of.mean, of.std, 255 * x, of.mean, of.std, x)
    weight, bias = methods.tuned(pictures_, methods.rounded, steps=1_500)
    assert weight.numpy() == pytest.approx(0.5 * np.eye(2), abs=0.05)
    assert bias.numpy() == pytest.approx([0.15, 0.15], abs=0.02)
    before, after = (
        methods.quality(pictures_, z)["distortion_nats"]
        for z in (of.mean, torch.from_numpy(of.mean).float() @ weight + bias)
    )
    assert after < before - 0.4
