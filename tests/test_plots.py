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
    first_column = figures[0].axes[::5]
    labels = [axes.get_ylabel() for axes in first_column]
    assert labels == ["x", "β = 10", "β = 1", "β = 0.1"]
    shown = first_column[1].get_images()[0].get_array()
    assert np.allclose(shown.sum(), (x[0] * 0.1)[: 3 if shape[0] == 3 else 1].sum())


def test_pictures_are_shown_as_they_are_and_never_stretched(tmp_path, figures):
    x = np.full((1, 1, 2, 2), 0.4)
    x[0, 0, 0, 0] = 0.6
    plots.strip(x, {1.0: x}, tmp_path / "s.png")
    assert np.allclose(figures[0].axes[0].get_images()[0].get_array(), x[0, 0])


def test_plane_has_a_tangent_of_slope_beta_at_each_point(tmp_path, figures):
    best = [{**row, "optimal_rate_nats": row["rate_nats"] - 1,
             "optimal_distortion_nats": row["distortion_nats"] - 1} for row in ROWS]  # fmt: skip
    plots.plane(best, tmp_path / "plane.png", "title")
    (axes,) = figures[0].axes
    tangents = [line for line in axes.lines if line.get_color() == "tab:red"][: len(ROWS)]
    for row, line in zip(ROWS, tangents, strict=True):
        (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
        assert (y1 - y0) / (x1 - x0) == pytest.approx(-row["beta"])
        assert (x0 + x1) / 2 == pytest.approx(row["rate_nats"])
    levels = [line for line in axes.lines if line.get_color() == "0.85" and len(line.get_xdata())]
    assert levels
    for line in levels:
        assert np.ptp(line.get_xdata() + np.array(line.get_ydata())) == pytest.approx(0, abs=1e-9)
    assert "out of reach" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_plane_shows_what_the_entropy_and_the_information_allow(tmp_path, figures):
    rows = [{**row, "information_nats": 0.5 * row["rate_nats"], "log_n_nats": 6.0} for row in ROWS]
    plots.plane(rows, tmp_path / "plane.png", entropy_nats=30.0)
    (axes,) = figures[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    bound = lines["D = H − R"]
    assert np.allclose(bound.get_xdata() + bound.get_ydata(), 30)
    shown = [0.5 * row["rate_nats"] for row in ROWS if 0.5 * row["rate_nats"] < 4]
    assert lines["I in place of R"].get_xdata() == shown


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
