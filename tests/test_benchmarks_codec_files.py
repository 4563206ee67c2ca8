import time

import numpy as np
import pytest
import torch

import multibeta
from benchmarks import codec_prefix as prefix
from benchmarks import codec_summary as summary
from benchmarks.codec import unquantised
from benchmarks.codec_speed import in_network, speed
from benchmarks.codec_strip import beginnings, draw_strip
from multibeta.codec import Codec
from multibeta.data import Digits
from multibeta.metrics.psnr import psnr


@pytest.fixture(scope="module")
def model():
    return multibeta.load("digits").eval()


@pytest.fixture(scope="module")
def digits():
    data = Digits()
    data.setup()
    return {split: data.splits[split][:] for split in ("train", "test")}


POINTS = [(10.0, 15.0), (20.0, 18.0), (40.0, 20.5), (80.0, 22.0)]


def test_bd_of_more_bits_and_of_more_decibels():
    more = summary.bd(POINTS, [(1.2 * bits, psnr) for bits, psnr in POINTS])
    assert more["bd_rate_percent"] == pytest.approx(20)
    assert more["bd_psnr_db"] < 0
    better = summary.bd(POINTS, [(bits, psnr + 1) for bits, psnr in POINTS])
    assert better["bd_psnr_db"] == pytest.approx(1)
    assert better["bd_rate_percent"] < 0
    apart = summary.bd(POINTS, [(bits, psnr + 50) for bits, psnr in POINTS])
    assert apart["bd_rate_percent"] is None


def test_psnr_between_two_points_is_linear_in_the_logarithm_of_bits():
    assert summary.psnr_at(POINTS, 20 * 2**0.5) == pytest.approx((18 + 20.5) / 2)
    assert summary.psnr_at(POINTS, 80) == 22
    assert summary.psnr_at(POINTS, 81) is None


def test_the_gap_of_a_cut_file_is_taken_at_the_bits_of_its_own_encoding():
    own = [{"beta": b, "bits": bits, "psnr_db": psnr + 0.4}
           for b, (bits, psnr) in zip((3, 1, 0.3, 0.01), POINTS, strict=True)]  # fmt: skip
    cut = [{"bits": bits, "psnr_db": psnr} for bits, psnr in POINTS]
    found = summary._progressive({"apart": {"one": own}, "cut": {"one": cut}})
    assert [gap["cut_minus_own_db"] for gap in found["gaps"]] == pytest.approx([-0.4] * 4)
    assert found["apart"]["one"]["bd_rate_percent"] == pytest.approx(0)
    assert found["cut"]["one"]["bd_psnr_db"] == pytest.approx(-0.4)


def test_methods_are_compared_with_rounding_counted_in_the_same_way():
    def row(beta, bits, psnr):
        of = {"rounded": (1.0, True), "rounded, in a file": (1.1, False),
              "searched": (1.21, False), "vbq": (1.5, True)}  # fmt: skip
        ways = {
            way: {"bits": factor * bits, "psnr_db": psnr} | ({"distortion_nats": 0.0} if d else {})
            for way, (factor, d) in of.items()
        }
        return {"beta": beta, "rate_bits": bits, "mean": {"psnr_db": psnr + 1}, "ways": ways}

    rows = [row(b, *point) for b, point in zip((3, 1, 0.3, 0.01), POINTS, strict=True)]
    found = summary._methods({"rows": rows, "requantised": {}})
    assert found["searched"]["bd_rate_percent"] == pytest.approx(10)
    assert found["vbq"]["bd_rate_percent"] == pytest.approx(50)
    assert found["rounded"]["bd_rate_percent"] == pytest.approx(0)
    assert found["vbq"]["rows"][0] == {
        "beta": 3, "bits_over_rate": pytest.approx(1.5), "psnr_minus_mean_db": pytest.approx(-1)
    }  # fmt: skip


def test_other_formats_are_compared_three_ways():
    files = {"rows": [
        {"search": True, "beta": b, "bits": bits, "psnr_shared_db": psnr,
         "alone": {"bits": bits + 32}}
        for b, (bits, psnr) in zip((3, 1, 0.3, 0.01), POINTS, strict=True)
    ]}  # fmt: skip
    rows = [
        {"bits_whole": 3 * (bits + 32), "bits_payload": 2 * bits, "sheet_bits": bits,
         "psnr_db": psnr, "sheet_psnr_db": psnr}
        for bits, psnr in POINTS
    ]  # fmt: skip
    found = summary._rivals({"files": files, "rivals": {"formats": {"WebP": rows}}})["WebP"]
    assert found["whole"]["bd_rate_percent"] == pytest.approx(200)
    assert found["payload"]["bd_rate_percent"] == pytest.approx(100)
    assert found["together"]["bd_rate_percent"] == pytest.approx(0)


def test_a_matched_model_is_the_same_in_other_coordinates(model, digits):
    vae = model.at_beta(0.1)
    draw = np.random.default_rng(0)
    weight = draw.standard_normal((vae.latent_dim,) * 2) + 3 * np.eye(vae.latent_dim)
    inverse = np.linalg.inv(weight)
    other = prefix.Matched(vae, lambda z: z @ weight + 0.5, lambda z: (z - 0.5) @ inverse)
    x = digits["test"][:20]
    q, moved = vae.encode(x), other.encode(x)
    assert other.decode(moved.mean).mean.detach().numpy() == pytest.approx(
        vae.decode(q.mean).mean.detach().numpy(), abs=1e-4
    )
    samples = q.sample((4000,)).numpy() @ weight + 0.5
    assert moved.stddev.detach().numpy() == pytest.approx(samples.std(0), rel=0.1)


def test_a_spread_posterior_widens_with_beta_and_not_beyond_one(model, digits):
    vae = model.at_beta(0.1)
    x = digits["test"][:20]
    q = vae.encode(x)
    same, wider, shut = (prefix.Spread(vae, beta).encode(x) for beta in (0.1, 0.2, 1e6))
    live = q.variance < 0.4
    assert same.mean[live].detach() == pytest.approx(q.mean[live].detach(), abs=1e-4)
    assert wider.variance[live].detach() == pytest.approx(2 * q.variance[live].detach(), rel=1e-4)
    assert shut.variance.min() > 0.999
    assert shut.mean.abs().max() < 0.1


def test_a_line_for_each_latent_is_found():
    of = np.random.default_rng(0).standard_normal((500, 3))
    sides = [type("Side", (), {"train": means}) for means in (of, of * [1, -2, 0.5] + [0, 1, 2])]
    assert prefix.straight(*sides)(of) == pytest.approx(sides[1].train)


def test_the_one_model_is_cut_as_the_codec_cuts(model, digits):
    x = digits["test"][:60]
    x = x / 255 if x.dtype == torch.uint8 else x
    codec = Codec(model)
    file = codec.encode(x, progressive=True)
    found = prefix.sides_of(model, {}, x, digits["train"][:], [])
    assert found.keys() == {"one", "first"}
    whole = psnr(x, codec.decode(file)).mean().item()
    assert found["one"][-1]["psnr_db"] == pytest.approx(whole, abs=0.05)
    for row in found["one"][8::5]:
        header = len(file) - round(found["one"][-1]["bits"] * len(x) / 8)
        length = header + round(row["bits"] * len(x) / 8)
        near = psnr(x, codec.read(file[:length]).x).mean().item()
        assert row["psnr_db"] == pytest.approx(near, abs=0.05)


def test_what_is_not_quantised_agrees_with_the_curve(model, digits):
    x = digits["test"][:50]
    x = (x * 255).round().to(torch.uint8) if x.is_floating_point() else x
    rate, near, distortion = unquantised(model, x, 0.3)
    terms = model.at_beta(0.3).elbo_terms(x / 255)
    assert rate.mean() == pytest.approx(terms.rate_nats.mean().item() / np.log(2), rel=1e-5)
    again = model.at_beta(0.3).reconstruct(x / 255).clamp(0, 1)
    assert near == pytest.approx(psnr(x / 255, again).detach(), abs=1e-4)
    assert distortion.shape == (50,)


def test_the_share_of_the_network_counts_nested_calls_once(model, digits):
    vae = model.at_beta(1.0)
    x = digits["test"][:5]
    with in_network() as seconds:
        start = time.process_time()
        vae.decode(vae.encode(x).mean)
        z = torch.zeros(5, vae.latent_dim, requires_grad=True)
        torch.autograd.grad(vae.decode(z).mean.sum(), z)
        took = time.process_time() - start
    assert len(seconds) == 4
    assert 0 < sum(seconds) <= took
    vae.encode(x)
    assert len(seconds) == 4


def test_speed_is_that_of_the_whole_call(model, digits):
    x = digits["test"][:40]
    x = x / 255 if x.dtype == torch.uint8 else x
    start = time.process_time()
    found = speed(Codec(model, search=0), x, 0.3)
    took = time.process_time() - start
    for way in ("encode", "decode"):
        assert found[way]["pictures_a_second"] > 2 * len(x) / took
        assert 0 < found[way]["network_share"] <= 1


def test_a_strip_has_longer_beginnings_nearer_to_the_pictures(model, digits):
    x = digits["test"][:6] / 255
    lengths = (8, 10)
    rows, whole = beginnings(Codec(model), x, lengths)
    near = [psnr(x, row).mean().item() for row in rows]
    assert near == sorted(near)
    assert near[0] < near[-1] - 1
    assert min(whole) > lengths[-1]


@pytest.mark.pictures
def test_a_strip_is_drawn(model, digits, tmp_path):
    draw_strip(Codec(model), digits["test"][:2] / 255, (10,), tmp_path / "strip.png")
    assert (tmp_path / "strip.png").stat().st_size > 5_000
