import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from multibeta import plots

ROWS = [
    {"beta": 0.01 * 10**i, "rate_nats": 30.0 - 9 * i, "rate_se": 0.1,
     "distortion_nats": 5.0 * (i + 1), "distortion_se": 0.2}
    for i in range(4)
]  # fmt: skip


@pytest.fixture
def figures(monkeypatch):
    kept = []

    class Kept(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            kept.append(self)

    monkeypatch.setattr(plots, "Figure", Kept)
    return kept


def test_curve_has_units_and_a_colour_scale_with_ticks(tmp_path, figures):
    plots.rate_distortion(ROWS, tmp_path / "c.png", "title")
    axes, bar = figures[0].axes
    assert axes.get_xlabel() == "rate R (nats per example)"
    assert axes.get_ylabel() == "distortion D (nats per example)"
    assert bar.get_ylabel() == "β"
    ticks = [label.get_text() for label in bar.get_yticklabels()]
    assert {"0.01", "0.1", "1", "10"} <= set(ticks)
    points = axes.collections[-1].get_offsets()
    assert np.allclose(points, [[r["rate_nats"], r["distortion_nats"]] for r in ROWS])
    with Image.open(tmp_path / "c.png") as image:
        assert image.width > 900


def test_the_optimum_is_drawn_where_it_is_known(tmp_path, figures):
    rows = [{**r, "optimal_rate_nats": 1.0, "optimal_distortion_nats": 2.0} for r in ROWS]
    plots.rate_distortion(rows, tmp_path / "c.pdf")
    texts = [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()]
    assert "closed-form optimum" in texts


def test_one_point(tmp_path):
    plots.rate_distortion(ROWS[:1], tmp_path / "c.png")
    assert (tmp_path / "c.png").exists()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 9), (2, 5, 5), (1, 1, 16)])
def test_strip_has_inputs_on_top_and_beta_falling(tmp_path, figures, shape):
    x = np.random.default_rng(0).random((5, *shape))
    plots.strip(x, {0.1: x * 0.2, 10.0: x * 0.1, 1.0: x * 0.5}, tmp_path / "s.png")
    (axes,) = figures[0].axes
    assert axes.get_ylim() == (4, 0)
    labels = {
        tick.get_text(): y
        for tick, y in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    }
    for label, scale in {"x": 1.0, "β = 10": 0.1, "β = 1": 0.5, "β = 0.1": 0.2}.items():
        row = [image for image in axes.get_images() if _within(labels[label], image)]
        assert [image.get_extent()[0] // 1 for image in row] == [0, 1, 2, 3, 4]
        for image, picture in zip(row, x[:, : 3 if shape[0] == 3 else 1] * scale, strict=True):
            assert np.allclose(image.get_array().sum(), picture.sum())


def _within(y, image):
    bottom, top = image.get_extent()[2:]
    return top < y < bottom


def test_pictures_are_shown_as_they_are_and_never_stretched(tmp_path, figures):
    x = np.full((1, 1, 2, 2), 0.4)
    x[0, 0, 0, 0] = 0.6
    plots.strip(x, {1.0: x}, tmp_path / "s.png")
    assert np.allclose(figures[0].axes[0].get_images()[0].get_array(), x[0, 0])


def test_plane_has_a_tangent_of_slope_beta_at_each_point(tmp_path, figures):
    best = [{**row, "optimal_rate_nats": row["rate_nats"] - 1,
             "optimal_distortion_nats": row["distortion_nats"] - 1} for row in ROWS]  # fmt: skip
    plots.plane(best, tmp_path / "plane.png", "title")
    axes, bar = figures[0].axes
    assert bar.get_ylabel() == "β"
    tangents = [line for line in axes.lines if line.get_color() == "tab:red"][: len(ROWS)]
    for row, line in zip(ROWS, tangents, strict=True):
        (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
        assert (y1 - y0) / (x1 - x0) == pytest.approx(-row["beta"])
        assert (x0 + x1) / 2 == pytest.approx(row["rate_nats"])
    levels = [line for line in axes.lines if line.get_color() == "0.85" and len(line.get_xdata())]
    assert levels
    for line in levels:
        assert np.ptp(line.get_xdata() + np.array(line.get_ydata())) == pytest.approx(0, abs=1e-9)
    sums = [float(line.get_xdata()[0] + line.get_ydata()[0]) for line in levels]
    shown = [float(text.get_text()) for text in axes.texts]
    assert shown and {*shown} <= {round(of, 6) for of in sums}
    assert "out of reach" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_plane_shows_what_the_entropy_and_the_information_allow(tmp_path, figures):
    rows = [{**row, "information_nats": 0.5 * row["rate_nats"], "log_n_nats": 6.0} for row in ROWS]
    plots.plane(rows, tmp_path / "plane.png", entropy_nats=30.0)
    axes, _ = figures[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    bound = lines["D = H − R"]
    assert np.allclose(bound.get_xdata() + bound.get_ydata(), 30)
    shown = [0.5 * row["rate_nats"] for row in ROWS if 0.5 * row["rate_nats"] < 4]
    assert lines["I in place of R"].get_xdata() == shown


def test_a_grid_has_a_label_for_each_row(tmp_path, figures):
    rows = [np.full((3, 1, 4, 4), shade) for shade in (0.0, 0.5)]
    plots.grid(rows, ["a", "b"], tmp_path / "grid.png", "title", columns=["x", "y", "z"])
    (axes,) = figures[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "z"]
    assert [image.get_array().max() for image in axes.images] == [0, 0, 0, 0.5, 0.5, 0.5]
    plots.grid([np.zeros((2, 3, 50))], ["signals"], tmp_path / "signals.png")
    assert len(figures[1].axes[0].lines) == 6


def test_a_strip_says_the_rate_of_each_row(tmp_path, figures):
    x = np.zeros((2, 1, 4, 4))
    plots.strip(x, {1.0: x, 0.1: x}, tmp_path / "s.png", "beta", {1.0: 2.5, 0.1: 30.0})
    labels = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert labels == ["x", "β = 1\nR = 2.5", "β = 0.1\nR = 30"]


def test_latents_are_sorted_and_named(tmp_path, figures):
    rates = np.array([[0.5, 3.0, 1.0], [0.0, 1.0, 0.2]])
    plots.latents([0.1, 1.0], rates, tmp_path / "latents.png")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2", "0"]
    assert np.allclose(axes.images[0].get_array(), np.sqrt(rates[:, [1, 2, 0]].T))


def test_alignment_draws_the_chosen_latents_with_beta_falling(tmp_path):
    rows = [{"beta": b, "next_correlation": 0.9, "next_cka": 0.8} for b in (0.1, 1.0, 10.0)]
    path = tmp_path / "alignment.png"
    plots.alignment(rows, np.full((3, 2, 40), 0.1), [4, 7], (-4.0, 4.0), path)
    with Image.open(path) as image:
        width = image.width
    beside = [{**row, "against_next_correlation": 0.1, "against_next_cka": 0.9} for row in rows]
    dedicated = {0: np.full((2, 40), 0.1), 2: np.full((2, 40), 0.2)}
    plots.alignment(beside, np.full((3, 2, 40), 0.1), [4, 7], (-4.0, 4.0), path, dedicated)
    with Image.open(path) as image:
        assert image.width > 1.3 * width > 400


def test_several_curves_have_a_line_and_a_name_each(tmp_path, figures):
    plots.several({"a": ROWS, "b": ROWS[:2]}, tmp_path / "several.png")
    (axes,) = figures[0].axes
    assert [len(line.get_xdata()) for line in axes.lines] == [4, 2]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


OWN = [
    {"beta": 1e-8 * 100**i, "rate_nats": 300.0 - 90 * i, "rate_se": 0.1, "distortion": 0.1 * i,
     "objective": 1.0, "distortion_se": 0.02}
    for i in range(4)
]  # fmt: skip


def texts(labels):
    return [label.get_text() for label in labels]


def test_distortion_has_a_unit_of_its_own(tmp_path, figures):
    assert plots.measured(OWN[0], "objective", "L1") == ("objective", "objective D + βR (L1)")
    plots.rate_distortion(OWN, tmp_path / "c.png", beside={"other": OWN[:1]}, unit="SSIM")
    plots.plane(OWN, tmp_path / "p.png", unit="SSIM")
    plots.several({"a": OWN, "b": OWN[1:]}, tmp_path / "s.png", unit="SSIM")
    for figure in figures:
        assert figure.axes[0].get_ylabel() == "distortion D (SSIM)"
    # D + R is no −ELBO then.
    assert texts(figures[1].axes[0].get_legend().get_texts()) == ["slope −β", "measured"]
    own = {name: np.ones((4, 5)) for name in ("distortion", "rate_nats")}
    rows = [{"beta": row["beta"], "auroc_distortion": 0.5, "auroc_rate_nats": 0.5} for row in OWN]
    plots.scores(rows, own, own, tmp_path / "scores.png", unit="SSIM")
    assert figures[-1].axes[1].get_ylabel() == "distortion D (SSIM)"
    assert texts(figures[-1].axes[0].get_legend().get_texts()) == ["D", "R"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-8, "1e-8"), (6.31e-4, "6.3e-4"), (0.0016, "0.0016"), (0.3, "0.3"), (1, "1"),
     (100, "100"), (123_456, "1.2e5"), (0, "0")],
)  # fmt: skip
def test_numbers_far_from_one_are_short(value, text):
    assert plots.number(value) == text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(1e-8, 1e-2, {"1e-8", "1e-5", "0.01"}), (0.3, 0.8, {"0.3", "0.49", "0.8"}),
     (1e-4, 1e2, {"1e-4", "1", "100"})],
)  # fmt: skip
def test_betas_far_from_one(tmp_path, figures, low, high, expected):
    betas = np.geomspace(low, high, 4)
    rows = [
        {**row, "beta": beta, "distortion_nats": 1.0 + i, "next_correlation": 1, "next_cka": 1}
        for i, (row, beta) in enumerate(zip(OWN, betas, strict=True))
    ]
    plots.rate_distortion(rows, tmp_path / "c.png")
    assert expected <= set(texts(figures[0].axes[1].get_yticklabels()))
    plots.plane(rows, tmp_path / "plane.png")
    plots.latents(betas, np.ones((4, 2)), tmp_path / "latents.png")
    assert texts(figures[2].axes[0].get_xticklabels())[0] == plots.number(low)
    plots.alignment(rows, np.full((4, 2, 40), 0.1), [4, 7], (-4.0, 4.0), tmp_path / "a.png")
    x = np.zeros((2, 1, 4, 4))
    plots.strip(x, dict.fromkeys(betas, x), tmp_path / "s.png")
    (axes,) = figures[-1].axes
    assert axes.get_yticklabels()[1].get_text() == f"β = {plots.number(high)}"


def test_strip_says_that_it_shows_one_channel(tmp_path, figures):
    for channels, title in (1, ""), (2, "the first of 2 channels"), (3, ""):
        x = np.zeros((2, channels, 4, 4))
        plots.strip(x, {1.0: x}, tmp_path / "s.png")
        assert figures[-1].get_suptitle() == title


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_signals_are_lines_with_beta_falling(tmp_path, figures, channels):
    x = np.random.default_rng(0).random((6, channels, 50))
    betas = np.geomspace(1e-8, 1e-2, 16)
    plots.signals(x, {beta: x * (1 + i) for i, beta in enumerate(betas)}, tmp_path / "s.png")
    (figure,) = figures
    assert len(figure.axes) == 7 * 4
    labels = [axes.get_ylabel() for axes in figure.axes[::4]]
    assert (labels[0], labels[-1]) == ("β = 0.01", "β = 1e-8")
    assert figure.get_supxlabel() == "position in the signal"
    (legend,) = figure.legends
    shown = min(channels, 4)
    names = [f"channel {channel}" for channel in range(shown)] if channels > 1 else []
    assert texts(legend.get_texts()) == ["x", "reconstruction", *names]
    some = ", the first 4 of 6 channels" if channels == 6 else ""
    assert legend.get_title().get_text() == f"signals and reconstructions{some}"
    lines = figure.axes[1].lines  # the second signal at the highest β
    assert len(lines) == 2 * shown
    assert len({line.get_linestyle() for line in lines}) == shown
    for channel in range(shown):
        grey, blue = lines[2 * channel : 2 * channel + 2]
        assert np.array_equal(grey.get_ydata(), x[1, channel])
        assert np.array_equal(blue.get_ydata(), 16 * x[1, channel])


def test_one_signal_at_one_beta(tmp_path, figures):
    x = np.zeros((1, 2, 9))
    plots.signals(x, {0.5: x}, tmp_path / "s.png", "lambda_d")
    assert figures[0].axes[0].get_ylabel() == "λ_d = 0.5"
