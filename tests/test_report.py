"""The page about a run: what it holds, and in a browser that all of it follows the slider."""

import base64
import io
import json
import math
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import multibeta
from multibeta import MultiBetaVAE
from multibeta.cli import main
from multibeta.codec import cut
from multibeta.codes import Codes, encode
from multibeta.data import Digits
from multibeta.generate import samples
from multibeta.networks import MLP, Conv
from multibeta.report.cuts import Cuts
from multibeta.report.explain import SENTENCES, one_latent
from multibeta.report.live import Live, live
from multibeta.report.page import _page
from tests.helpers import newest

CPU = "--trainer.accelerator=cpu"


RUN = "digits"  # the model that comes with the package


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", RUN, f"--out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "explained.html"
    assert main(["report", RUN, "--explain", f"--out={out}"]) == 0
    return out


def content_of(page):
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script id="content" type="application/json">(.*?)</script>', text, re.S)
    return json.loads(found[1])


def tiles_of(sheet, side=8):
    """Return the grey pictures in a row, (N, side, side), of a page; between them is nothing."""
    data = base64.b64decode(sheet.partition("base64,")[2])
    with Image.open(io.BytesIO(data)) as image:
        pixels = torch.from_numpy(np.array(image))
    tiles = torch.stack([pixels[:side, i : i + side] for i in range(0, pixels.shape[1], side + 1)])
    assert (tiles[..., 3] == 255).all()
    return tiles[..., 0] / 255


def test_the_page_is_one_file_without_a_network(page):
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 15e6
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "@" not in re.sub(r"@media|<script id.*</script>", "", text, flags=re.S)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)[\w.]+", text)


def test_its_numbers_are_those_of_a_sweep(page):
    (of,) = content_of(page)["runs"]
    curve = multibeta.sweep(
        multibeta.load(RUN), Digits(), of["betas"], metrics=["active_units", "psnr"]
    )
    assert len(of["rows"]) == len(curve.rows) == 25
    for row, expected in zip(of["rows"], curve.rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-5)
    rates = np.array([of_beta["latent_rate_nats"] for of_beta in curve.latents])
    np.testing.assert_allclose(of["latentRates"], rates, atol=6e-4)


def test_its_pictures_are_what_the_model_makes(page):
    (of,) = content_of(page)["runs"]
    expected = samples(multibeta.load(RUN), of["betas"], 8).clamp(0, 1)
    for sheet, pictures in zip(of["examples"]["samples"], expected, strict=True):
        assert (tiles_of(sheet) - pictures[:, 0]).abs().max() < 0.51 / 255


def test_its_file_says_at_each_length_what_the_codec_reads_there(page):
    (of,) = content_of(page)["runs"]
    file, sheets = (of["examples"][name] for name in ("file", "cut"))
    codec = multibeta.Codec(multibeta.load(RUN))
    x, _ = codec.model.read(next(iter(Digits().ordered("test"))))
    x = x[:8]
    data = codec.encode(x, progressive=True)
    lengths = file["lengths"]
    assert (lengths[0], lengths[-1]) == (file["header"], len(data))
    assert len(lengths) >= 20 and all(np.diff(lengths) > 0)
    assert len({*sheets}) >= 20  # nearly each of them is another
    for length, sheet, beta, db in zip(lengths, sheets, file["betas"], file["psnrs"], strict=True):
        found = codec.read(cut(data, length))
        assert (tiles_of(sheet) - found.x[:, 0]).abs().max() < 1e-6
        assert beta == pytest.approx(found.beta, rel=1e-3)
        error = (found.x - x).double().square().flatten(1).mean(1)
        assert db == pytest.approx((-10 * error.log10()).mean().item(), abs=1e-3)


def test_a_psnr_that_is_infinite_has_a_place_in_json():
    x = torch.zeros(2, 1, 1, 4, 4)
    made = Cuts(x, [4, 6], [1.0, 0.1], [3.0, math.inf], 4).as_dict()
    assert json.loads(json.dumps(made, allow_nan=False))["psnrs"] == [3.0, None]
    assert Cuts(x, [4, 6], [1.0, 0.1], None, 4).as_dict()["psnrs"] is None


def test_its_codes_have_the_labels_of_the_data(page):
    (of,) = content_of(page)["runs"]
    scatter = of["scatter"]
    digits = Digits().labels("test")["digit"]
    assert scatter["label"] == "digit"
    words = [int(scatter["labels"]["words"][i]) for i in scatter["labels"]["of"]]
    assert words == digits.tolist()
    assert len(scatter["points"][0]) == len(digits)


@pytest.mark.parametrize("activation", [torch.nn.SiLU, torch.nn.ReLU, torch.nn.Tanh])
@pytest.mark.parametrize("likelihood", ["Bernoulli", "Gaussian"])
def test_what_the_page_computes_is_what_torch_does(activation, likelihood):
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(12, 16), activation(), torch.nn.Linear(16, 6)
    )
    decoder = torch.nn.Sequential(
        torch.nn.Linear(3, 16), activation(), torch.nn.Linear(16, 12),
        torch.nn.Unflatten(1, (3, 4)),
    )  # fmt: skip
    of = getattr(multibeta.likelihoods, likelihood)
    model = multibeta.wrap(
        encoder, decoder, likelihood=of(0.3) if likelihood == "Gaussian" else of(),
        example=torch.rand(5, 3, 4),
    )  # fmt: skip
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn_like(p)
    plain = [model.at_beta(beta) for beta in (0.01, 0.3, 10)]
    found = Live(plain)
    x, z = torch.rand(7, 3, 4), torch.randn(7, 3)
    for k, vae in enumerate(plain):
        mean = vae.decode(z).mean.flatten(1).detach().numpy()
        np.testing.assert_allclose(found.run(found.decoder, k, z.numpy()), mean, atol=1e-4)
        code = found.run(found.encoder, k, x.numpy())[:, :3]
        np.testing.assert_allclose(code, vae.encode(x).mean.detach().numpy(), atol=1e-4)
    assert ["scale" in layer for layer in found.decoder if layer["op"] == "linear"][1]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (
            lambda: MultiBetaVAE.of((1, 8, 8), network=Conv(4, 1), latent_dim=2),
            "a layer is Conv2d",
        ),
        (lambda: MultiBetaVAE.of((2000,), network=MLP(256), latent_dim=2), "more than 1,048,576"),
    ],
)
def test_a_page_says_why_it_cannot_compute(model, why):
    found, said = live([model().at_beta(1.0)])
    assert found is None
    assert why in said


def test_signals_and_tables_have_pages_too(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = {"signals": rng.random((60, 2, 32)), "table": rng.random((60, 5))}
    for name, array in x.items():
        np.savez(tmp_path / f"{name}.npz", x=array.astype(np.float32), labels=np.arange(60) % 3)
        assert main(["fit", "--data=NPZ", f"--data.root={tmp_path / name}.npz", CPU,
                     "--data.batch_size=16", "--model.network.width=16",
                     "--model.likelihood=Gaussian", f"--name={name}",
                     "--trainer.max_epochs=1", "--curve.enabled=false",
                     f"--trainer.default_root_dir={tmp_path / 'runs'}"]) == 0  # fmt: skip
    runs = [next((tmp_path / "runs" / name).iterdir()) for name in x]
    capsys.readouterr()
    out = tmp_path / "both.html"
    assert main(["report", *map(str, runs), f"--out={out}"]) == 0
    said = capsys.readouterr().err
    assert "table/" in said and "is no picture and no signal; the page shows none" in said
    assert "not compared:" in said
    content = content_of(out)
    signals, table = content["runs"]
    assert np.shape(signals["examples"]["again"]) == (25, 6, 2, 32)
    shown, file = signals["examples"]["x"], signals["examples"]["file"]
    rows = [np.abs(x["signals"] - of).sum((1, 2)).argmin() for of in shown]  # they are rounded
    codec = multibeta.Codec(multibeta.load(runs[0]))
    data = codec.encode(x["signals"][rows].astype(np.float32), progressive=True)
    assert file["count"] == 6 and file["lengths"][-1] == len(data) > file["header"]
    for length, found in zip(file["lengths"], signals["examples"]["cut"], strict=True):
        np.testing.assert_allclose(found, codec.read(cut(data, length)).x, atol=6e-4)
    assert table["examples"] is None
    assert content["verdict"].startswith("not compared")


def test_what_is_left_out_is_said(tmp_path, capsys, monkeypatch):
    """Labels all different; channels beyond two; values of a long signal; a file, unless coded."""
    data = np.random.default_rng(0).random((300, 3, 300)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=data, number=np.arange(300))
    options = ["--data=NPZ", f"--data.root={tmp_path / 'x.npz'}", "--data.batch_size=64", CPU,
               "--model.likelihood=Gaussian", "--model.latent_dim=2", "--trainer.max_epochs=1",
               "--curve.enabled=false", f"--trainer.default_root_dir={tmp_path}"]  # fmt: skip
    assert main(["fit", *options, "--model.network.width=8"]) == 0
    run = next(path.parent for path in tmp_path.rglob("config.yaml"))
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "constriction", None)
    assert main(["report", str(run), f"--out={tmp_path / 'r.html'}"]) == 0
    said = capsys.readouterr().err
    assert "codes have no colours: no label of number has 2 to 20 values" in said
    (of,) = content_of(tmp_path / "r.html")["runs"]
    assert of["examples"]["note"] == ", the first 2 of 3 channels, 200 of 300 values"
    assert np.shape(of["examples"]["again"])[2:] == (2, 200)
    lacks = "this needs constriction: pip install 'multibeta[codec]'"
    assert f"no file that is cut: {lacks}\n" in said
    assert (of["examples"]["file"], of["examples"]["cut"]) == ({"lacks": lacks}, [])


def test_the_densities_of_one_latent_are_those_of_the_codes(explained):
    (of,) = content_of(explained)["runs"]
    one, model = of["one"], multibeta.load(RUN)
    x, _ = model.read(next(iter(Digits().ordered("test"))))
    edges = np.linspace(-one["span"], one["span"], len(one["aggregated"][0][0]) + 1)
    for k in (0, 24):
        q = model.at_beta(of["betas"][k]).encode(x[:8])
        for name, value in (("mean", q.mean), ("std", q.stddev)):
            expected = value.detach()[:, one["latents"]].numpy()
            np.testing.assert_allclose(one[name][k], expected, atol=1e-4)
    codes = encode(model, Digits(), of["betas"][:1])
    drawn = torch.normal(*(torch.from_numpy(v[0, :, 2]).repeat(500, 1) for v in
                           (codes.mean, codes.std)))  # fmt: skip
    expected, _ = np.histogram(drawn.numpy(), edges, density=True)
    at = one["latents"].index(2)
    np.testing.assert_allclose(one["aggregated"][0][at], expected, atol=0.01)
    np.testing.assert_allclose(np.sum(one["aggregated"], 2) * np.diff(edges)[0], 1, atol=0.005)


def test_a_code_that_is_a_map_has_no_single_latents():
    ones, n = np.ones((1, 3, 2, 4, 4)), np.arange(3)
    codes = Codes(beta=np.ones(1), mean=ones, std=ones, split=n, row=n)
    with pytest.raises(ValueError, match=r"the code is a map \(2, 4, 4\)"):
        one_latent(codes, np.arange(2), 2)


def test_two_models_of_the_same_data_have_a_verdict(tmp_path, capsys):
    assert main(["fit", "--config=digits", "--trainer.max_epochs=1", "--curve.enabled=false", CPU,
                 "--model.network.width=16",
                 f"--trainer.default_root_dir={tmp_path}"]) == 0  # fmt: skip
    out = tmp_path / "two.html"
    assert main(["report", RUN, str(newest(tmp_path)), f"--out={out}"]) == 0
    content = content_of(out)
    names = [of["name"] for of in content["runs"]]
    assert len(set(names)) == 2
    assert "β" in content["verdict"] and "not compared" not in content["verdict"]
    shipped, own = (dict(of["about"]) for of in content["runs"])
    assert re.fullmatch(r"9 steps in [\d.]+ s of training, on cpu", own["cost"])
    assert "cost" not in shipped and "warnings" not in own


def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "nowhere"]) == 2
    error = capsys.readouterr().err
    assert "no checkpoint at nowhere" in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# In a browser -----------------------------------------------------------------------------------

_CHROMIUM = shutil.which("chromium")
_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip

_SEEN = """() => ({
  now: [...document.querySelectorAll('circle.now')].map(c => c.outerHTML),
  pictures: [...document.querySelectorAll('img')].map(i => i.src),
  cells: [...document.querySelectorAll('td:last-child')].map(c => c.textContent),
  bars: [...document.querySelectorAll('rect')].map(r => r.getAttribute('height')),
  dots: [...document.querySelectorAll('circle:not(.now)')].slice(-100).map(c => c.outerHTML),
  made: [...document.querySelectorAll('.live canvas')].map(c => c.toDataURL()),
  value: document.getElementById('value').textContent,
})"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if _CHROMIUM is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=_CHROMIUM, args=_FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, page):
    """Return a function that opens the page; what it must not do is gathered."""
    wrong, views = [], []

    def open_it(width=1440, scheme="light", page=page):
        view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        view.on("console", lambda message: wrong.append(message.text))
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.on("request", lambda of: wrong.append(of.url) if "data:" not in of.url[:5] and
                not of.url.startswith("file:") else None)  # fmt: skip
        view.goto(page.as_uri())
        views.append(view)
        return view

    yield open_it
    for view in views:
        view.close()
    assert wrong == []


@pytest.mark.parametrize("how", ["keys", "mouse"])
def test_everything_follows_the_slider(opened, how):
    view = opened()
    before = view.evaluate(_SEEN)
    if how == "keys":
        view.focus("#beta")
        for _ in range(6):
            view.keyboard.press("ArrowRight")
    else:
        box = view.locator("#beta").bounding_box()
        view.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    after = view.evaluate(_SEEN)
    assert before["value"] != after["value"]
    assert all(a != b for a, b in zip(before["now"], after["now"], strict=True))
    same = [a == b for a, b in zip(before["pictures"], after["pictures"], strict=True)]
    assert same == [True, False, False, False, True, True]  # the examples stay, and the file
    for part in ("cells", "bars", "dots"):
        assert before[part] != after[part]
    made = [a == b for a, b in zip(before["made"], after["made"], strict=True)]
    assert made == [False, True, False]  # what was drawn stays


def test_a_file_is_cut_by_its_own_slider(opened, page):
    view = opened()
    (of,) = content_of(page)["runs"]
    file, sheets = (of["examples"][name] for name in ("file", "cut"))
    part = view.locator("section.card", has=view.get_by_text("One file, cut anywhere"))
    slider, beta = part.get_by_label("bytes", exact=True), view.locator("#value").inner_text()
    slider.focus()
    at, width = 0, slider.bounding_box()["width"]
    for key, at in (("Home", 0), ("ArrowRight", 1), ("End", len(sheets) - 1)):
        view.keyboard.press(key)
        text = f"{file['lengths'][at]} of {file['lengths'][-1]}"
        assert part.locator("output").inner_text() == text
        assert slider.get_attribute("aria-valuetext").startswith(f"{text}, bits an example: ")
        bits, last, db = map(number_of, part.locator("td:last-child").all_inner_texts())
        assert bits == pytest.approx(8 * file["lengths"][at] / 8, rel=1e-3)
        assert last == (pytest.approx(file["betas"][at], rel=0.01) if at else None)
        assert db == pytest.approx(file["psnrs"][at], rel=1e-3)
        assert part.locator("img").last.get_attribute("src") == sheets[at]
        assert slider.bounding_box()["width"] == width
    assert view.locator("#value").inner_text() == beta


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ({"lacks": "this needs a coder"}, "There is none here: this needs a coder"),
        ({"psnrs": None}, "bits an example"),
        ({"psnrs": [None] * 24}, "∞"),
    ],
)
def test_a_page_has_no_file_or_no_psnr(opened, page, tmp_path, file, says):
    content = content_of(page)
    content["runs"][0]["examples"]["file"] |= file
    other = tmp_path / "other.html"
    other.write_text(_page(content, "other"), encoding="utf-8")
    part = opened(page=other).locator("section.card", has_text="One file, cut anywhere")
    text = part.inner_text()
    assert says in text
    assert ("PSNR" in text) == (says == "∞")
    assert part.locator("input").count() == ("lacks" not in file)


def number_of(text):
    return None if text == "–" else float(text)


def test_the_page_computes_what_torch_does(opened):
    view, model = opened(), multibeta.load(RUN)
    (betas,) = view.evaluate("() => multibeta.content.runs.map(run => run.betas)")
    x = torch.rand(64)
    for k in (0, 12, 24):
        plain = model.at_beta(betas[k])
        code = view.evaluate(
            f"x => [...multibeta.content.runs[0].compute('encoder', {k}, x)]", x.tolist()
        )
        expected = plain.encode(x.reshape(1, 1, 8, 8)).mean[0]
        assert code[:8] == pytest.approx(expected.tolist(), abs=1e-3)
        made = view.evaluate(
            f"z => [...multibeta.content.runs[0].compute('decoder', {k}, z)]", expected.tolist()
        )
        again = plain.decode(expected[None]).mean.flatten().tolist()
        assert made == pytest.approx(again, abs=1e-3)


def test_drawing_sliding_and_sampling(opened):
    view = opened()
    pad = view.locator("canvas.pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    before = view.evaluate(_SEEN)["made"]
    view.mouse.move(box["x"] + 40, box["y"] + 20)
    view.mouse.down()
    view.mouse.move(box["x"] + 90, box["y"] + 140, steps=8)
    view.mouse.up()
    drawn = view.evaluate(_SEEN)["made"]
    assert [a == b for a, b in zip(before, drawn, strict=True)] == [True, False, False]
    view.locator(".sliders input").first.fill("2")
    view.get_by_role("button", name="sample").click()
    assert view.evaluate(_SEEN)["made"][0] != before[0]
    view.get_by_role("button", name="clear").click()
    view.get_by_role("button", name="zero").click()
    assert view.evaluate(_SEEN)["made"] == before


@pytest.mark.parametrize(("width", "scheme"), [(375, "light"), (1440, "dark")])
@pytest.mark.parametrize("kind", ["page", "explained"])
def test_it_fits_has_labels_and_can_be_read(opened, request, kind, width, scheme):
    """The rules of axe-core: WCAG 2.2 A and AA, contrast and labels among them."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    view = opened(width, scheme, request.getfixturevalue(kind))
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.run(view).response["violations"]
    assert [(of["id"], [node["html"] for node in of["nodes"]]) for of in found] == []


_DENSITIES = """() => Object.fromEntries(['prior', 'posterior', 'aggregated'].map(
  name => [name, document.querySelector(`path.${name}`).getAttribute('d')]))"""


def test_the_explainer_moves_and_says_three_sentences_at_each_part(opened, explained):
    view = opened(page=explained)
    before = view.evaluate(_DENSITIES)
    view.focus("#beta")
    view.keyboard.press("End")
    turned = view.evaluate(_DENSITIES)
    assert before["prior"] == turned["prior"]
    assert before["posterior"] != turned["posterior"]
    assert before["aggregated"] != turned["aggregated"]
    view.get_by_role("button", name="example 3").click()
    another = view.evaluate(_DENSITIES)
    assert another["aggregated"] == turned["aggregated"]
    assert another["posterior"] != turned["posterior"]
    view.get_by_label("latent", exact=True).select_option(index=1)
    assert view.evaluate(_DENSITIES)["aggregated"] != turned["aggregated"]
    (of,) = content_of(explained)["runs"]
    mean, std = (of["one"][name][24][2][1] for name in ("mean", "std"))
    rate = (mean**2 + std**2 - 1) / 2 - np.log(std)
    said = re.search(r"from the prior is ([\d.e−]+) nats", view.locator(".says").inner_text())
    assert float(said[1].replace("−", "-")) == pytest.approx(rate, rel=0.05, abs=1e-3)
    cards = view.evaluate(
        "[...document.querySelectorAll('.card')].map("
        "c => [...c.querySelectorAll('.sentences li')].map(l => l.innerText))"
    )
    *parts, about = cards
    assert about == []
    assert parts == list(SENTENCES.values())
    assert all(len(of) == 3 and all(text.endswith(".") for text in of) for of in parts)
