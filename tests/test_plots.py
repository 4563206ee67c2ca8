import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from multibeta import plots
from multibeta.plots import drawing, examples

ROWS = [
    {"beta": 0.01 * 10**i, "rate_nats": 30.0 - 9 * i, "rate_se": 0.1,
     "distortion_nats": 5.0 * (i + 1), "distortion_se": 0.2}
    for i in range(4)
]  # fmt: skip

pytestmark = pytest.mark.pictures


@pytest.fixture
def figures(monkeypatch):
    kept = []

    class Kept(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            kept.append(self)

    for module in (drawing, examples):
        monkeypatch.setattr(module, "Figure", Kept)
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
    for channels, some in (1, ""), (2, ", the first of 2 channels"), (3, ""):
        x = np.zeros((9, channels, 4, 4))
        plots.strip(x, {1.0: x}, tmp_path / "s.png")
        assert figures[-1].get_suptitle() == f"Inputs x and their reconstructions{some}"


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
    assert figure.get_suptitle() == f"Signals and their reconstructions{some}"
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


# What all have in common ------------------------------------------------------------------------

X = np.random.default_rng(0).random((4, 1, 6, 6))
PER_LATENT = np.array([[2.0, 0.5], [1.0, 0.1], [0.2, 0.0], [0.0, 0.0]])
ALIGNED = [{**row, "next_correlation": 0.9, "next_cka": 0.8} for row in ROWS]
SIDES = {name: np.arange(20.0).reshape(4, 5) for name in ("distortion_nats", "rate_nats")}
AREAS = [{"beta": row["beta"], "auroc_distortion_nats": 0.6, "auroc_rate_nats": 0.7}
         for row in ROWS]  # fmt: skip
VALIDATED = {
    row["beta"]: {"step": [10, 20], "distortion_nats": [row["distortion_nats"], 1.0],
                  "rate_nats": [1.0, row["rate_nats"]], "objective_nats": [5.0, 4.0]}
    for row in ROWS
}  # fmt: skip
BETAS = [row["beta"] for row in ROWS]
MEANS = np.random.default_rng(1).normal(size=(2, 30, 3))

ONE_AXES = {
    "rate_distortion": lambda **k: plots.rate_distortion(ROWS, **k),
    "plane": lambda **k: plots.plane(ROWS, **k),
    "several": lambda **k: plots.several({"a": ROWS, "b": ROWS}, **k),
    "latents": lambda **k: plots.latents(BETAS, PER_LATENT, **k),
    "strip": lambda **k: plots.strip(X, {0.1: X, 1.0: X}, **k),
    "over_betas": lambda **k: plots.over_betas([0.1, 1.0], np.stack([X, X]), **k),
}
SEVERAL_AXES = {
    "alignment": lambda **k: plots.alignment(
        ALIGNED, np.full((4, 2, 40), 0.1), [0, 1], (-4.0, 4.0), **k
    ),
    "scores": lambda **k: plots.scores(AREAS, SIDES, SIDES, **k),
    "history": lambda **k: plots.history(VALIDATED, **k),
    "codes": lambda **k: plots.codes([0.1, 1.0], MEANS, np.full_like(MEANS, 0.5), **k),
    "signals": lambda **k: plots.signals(X[:, 0], {0.1: X[:, 0]}, **k),
}


@pytest.mark.parametrize("name", [*ONE_AXES, *SEVERAL_AXES])
def test_a_picture_is_returned_and_only_written_to_a_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = (ONE_AXES | SEVERAL_AXES)[name]
    figure = draw()
    assert isinstance(figure, Figure) and not list(tmp_path.iterdir())
    title = figure.get_suptitle()
    assert len(title) > 10
    assert isinstance(draw(path="x.svg"), Figure)
    svg = (tmp_path / "x.svg").read_text()
    for line in title.split("\n"):  # text is text
        assert re.search(rf"<text[^>]*>{re.escape(line)}</text>", svg)


@pytest.mark.parametrize("name", ONE_AXES)
def test_a_picture_of_one_axes_is_drawn_into_those_that_are_given(name):
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    assert ONE_AXES[name](ax=left) is figure
    assert left.has_data() and not right.has_data()
    assert left.get_title(loc="left")
    figure.canvas.draw()


@pytest.mark.parametrize("name", SEVERAL_AXES)
def test_a_picture_of_several_axes_is_drawn_into_a_part_of_a_figure(name):
    figure = Figure(figsize=(20, 6), layout="constrained")
    left, right = figure.subfigures(1, 2)
    assert SEVERAL_AXES[name](figure=left) is figure
    assert len(figure.axes) > 1 and not right.axes
    assert left.get_suptitle()


def test_fonts_in_a_pdf_are_fonts(tmp_path):
    plots.rate_distortion(ROWS, tmp_path / "x.pdf")
    pdf = (tmp_path / "x.pdf").read_bytes()
    assert b"/Type3" not in pdf and b"/TrueType" in pdf + b"/TrueType" * (b"/FontFile2" in pdf)


@pytest.mark.parametrize("name", ["x.jpeg", "x"])
def test_other_suffixes_are_one_line(name, tmp_path):
    with pytest.raises(ValueError, match=r"ends in (.jpeg|nothing); allowed: .png, .pdf, .svg$"):
        plots.rate_distortion(ROWS, tmp_path / name)
    assert not list(tmp_path.iterdir())


def colour_of_one(figure, betas):
    points = figure.axes[0].collections[-1]
    figure.canvas.draw()
    return tuple(points.to_rgba(betas)[list(betas).index(1.0)])


def test_a_beta_has_the_same_colour_in_every_picture():
    """Whatever else is drawn; a wider trained range is what changes it, in all alike."""
    expected = colour_of_one(plots.rate_distortion(ROWS), BETAS)
    assert colour_of_one(plots.rate_distortion(ROWS[1:3]), BETAS[1:3]) == expected
    assert colour_of_one(plots.plane(ROWS[2:], trained=(0.1, 5.0)), BETAS[2:]) == expected
    history = plots.history({beta: VALIDATED[beta] for beta in BETAS[2:]})
    line = next(of for of in history.axes[0].lines if of.get_label() == "β = 1")
    assert tuple(line.get_color()) == expected
    wide = {"trained": (1e-6, 1.0)}
    other = colour_of_one(plots.rate_distortion(ROWS, **wide), BETAS)
    assert other == colour_of_one(plots.plane(ROWS[2:], **wide), BETAS[2:]) != expected


def test_the_bar_shows_the_betas_that_are_drawn():
    _, bar = plots.rate_distortion(ROWS[1:3]).axes
    assert bar.get_ylim() == pytest.approx((0.1, 1.0))


def test_history_has_a_line_a_beta():
    distortion, rate, objective = plots.history(VALIDATED, unit="SSIM").axes
    assert distortion.get_ylabel() == "distortion D (SSIM)"
    assert [line.get_label() for line in rate.lines] == ["β = 10", "β = 1", "β = 0.1", "β = 0.01"]
    assert list(rate.lines[0].get_ydata()) == [1.0, ROWS[3]["rate_nats"]]
    assert texts(objective.get_legend().get_texts())[0] == "β = 10"
    with pytest.raises(ValueError, match="nothing was validated"):
        plots.history({})


def test_rows_of_a_latent_stand_together_with_beta_falling():
    made = np.stack([np.stack([X, X]), np.stack([X, X]) / 2])
    axes = plots.over_betas([0.1, 1.0], made, rows=["latent 4", "latent 7"], x=X).axes[0]
    labels = texts(axes.get_yticklabels())
    assert labels == ["x", "latent 4\nβ = 1", "β = 0.1", "latent 7\nβ = 1", "β = 0.1"]
    first = [image.get_array() for image in axes.images[4::4]]
    for shown, scale in zip(first, (0.5, 1.0, 0.5, 1.0), strict=True):
        assert np.allclose(shown, scale * X[0, 0])
    gaps = np.diff(axes.get_yticks())
    assert gaps[0] == gaps[2] > 1.2 * gaps[1] == 1.2 * gaps[3]


def test_a_strip_says_the_psnr_of_each_row():
    figure = plots.strip(X, {1.0: X}, None, "beta", {1.0: 2.5}, {1.0: 17.25})
    assert texts(figure.axes[0].get_yticklabels()) == ["x", "β = 1\nR = 2.5\n17.2 dB"]
    assert "PSNR" in figure.get_suptitle()


@pytest.mark.parametrize("by", ["rate", "pca"])
def test_codes_lie_in_the_plane_of_the_busiest_latents(by):
    mean = MEANS * [0.1, 2.0, 1.0]
    kinds = np.arange(30) % 3
    std = np.array([1.0, 0.1, 0.5]) * np.ones_like(mean)
    figure = plots.codes([0.1, 1.0], mean, std, kinds, name="kind", by=by)
    left, right = figure.axes
    points = [np.asarray(axes.collections[0].get_offsets()) for axes in (left, right)]
    if by == "rate":
        assert (left.get_xlabel(), left.get_ylabel()) == ("latent 1", "latent 2")
        for shown, of in zip(points, mean, strict=True):
            assert np.allclose(shown, of[:, 1:])
    else:
        from sklearn.decomposition import PCA

        flat = mean.reshape(60, 3)
        of = PCA(2).fit(flat)
        assert np.allclose(np.abs(np.concatenate(points)), np.abs(flat @ of.components_.T))
        assert (
            left.get_xlabel() == f"component 1 ({of.explained_variance_ratio_[0]:.0%} of variance)"
        )
    colours = left.collections[0].get_facecolor()
    assert len({tuple(colours[kinds == kind].mean(0)) for kind in range(3)}) == 3
    legend = right.get_legend()
    assert texts(legend.get_texts()) == ["0", "1", "2", "95 % of the prior"]
    assert legend.get_title().get_text() == "kind"


def test_many_labels_are_counted_and_many_numbers_are_a_scale():
    words = np.array([f"kind {i // 2:02}" for i in range(30)])
    std = np.full_like(MEANS, 0.5)
    legend = plots.codes([0.1, 1.0], MEANS, std, words).axes[-1].get_legend()
    assert texts(legend.get_texts())[-2:] == ["6 others", "95 % of the prior"]
    bar = plots.codes([0.1, 1.0], MEANS, std, np.arange(30.0), name="angle").axes[-1]
    assert bar.get_ylabel() == "angle"


def test_codes_without_a_plane_are_refused():
    with pytest.raises(ValueError, match="needs two latents"):
        plots.codes([0.1], np.zeros((1, 5, 1)), np.ones((1, 5, 1)))
    with pytest.raises(ValueError, match="by=x is unknown; allowed: rate, pca"):
        plots.codes([0.1, 1.0], MEANS, MEANS, by="x")
