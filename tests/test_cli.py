import gc
import re
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from multibeta import cli
from multibeta.cli import main
from multibeta.options import explain, nearest
from tests.helpers import SMALL


def fails(capsys, *argv):
    """Run a command that a user got wrong; return the one line it said."""
    assert main(list(argv)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("multibeta: ")
    assert "Traceback" not in lines[0]
    return lines[0].removeprefix("multibeta: ")


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_names_commands_and_configs(capsys, argv):
    assert main(argv) == 0
    out = capsys.readouterr().out
    for word in ("fit", "curve", "validate", "digits", "celeba", "--traceback"):
        assert word in out


def test_help_is_fast():
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "multibeta", "--help"], capture_output=True)
    assert done.returncode == 0
    assert time.monotonic() - start < 1.5


def test_help_does_not_import_torch():
    code = "import sys; from multibeta.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"  # noqa: E501
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_new_process_imports_before_it_looks_for_garbage(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("of_a_new_one", "of_the_callers"):
        (tmp_path / f"{name}.py").write_text("import gc\nlooks = gc.isenabled()\n")
    cli._at_once("of_the_callers")
    monkeypatch.delitem(sys.modules, "torch")
    cli._at_once("of_a_new_one")
    assert sys.modules["of_the_callers"].looks and not sys.modules["of_a_new_one"].looks
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("option", "said"),
    [("--curve.metrics=nl", "metric nl is unknown (did you mean nll?); allowed: "),
     ("--curve.betas=abc", "betas=abc cannot be read; allowed: ")],
)  # fmt: skip
def test_what_the_curve_cannot_measure_is_said_before_the_training(capsys, tmp_path, option, said):
    root = f"--trainer.default_root_dir={tmp_path / 'runs'}"
    assert fails(capsys, "fit", *SMALL, root, option).startswith(said)
    assert not (tmp_path / "runs").exists()


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("multibeta 0.")


def test_curve_help_shows_every_option_with_its_default(capsys):
    assert main(["curve", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for option in ("betas", "split", "out", "device", "extrapolate", "json", "data"):
        assert f"--{option}" in out
    for default in ("default: null", "default: test", "default: auto", "default: False"):
        assert default in out


def test_fit_help_names_options_that_exist(capsys):
    assert main(["fit", "--help"]) == 0
    short = capsys.readouterr().out
    assert len(short.splitlines()) < 50
    assert main(["fit", "--help-all"]) == 0
    every = capsys.readouterr().out
    of_classes = {"--data.root", "--data.batch_size", "--model.likelihood.sigma"}
    ours = {"--ckpt_path", "--init_from", "--name", "--allow", "--help-all", "--print_config"}
    found = set(re.findall(r"--[\w.-]+", short)) - of_classes - ours - {"--data.help"}
    found -= {"--model.network.help"}
    assert len(found) > 20
    for option in found:
        assert re.search(rf"{re.escape(option)}\b", every), option
    assert "--trainer.detect_anomaly" in every


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_measuring_needs_a_trained_model(capsys, verb):
    assert "needs a trained model; give --ckpt_path" in fails(capsys, verb)


def test_unknown_command(capsys):
    assert "no such command: fti (did you mean fit?)" in fails(capsys, "fti")


@pytest.mark.parametrize("betas", ["10:0.01", "0:1", "-1:1", "a:b", "", "nan", "inf"])
def test_fit_with_bad_betas(capsys, betas, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = fails(capsys, "fit", f"--model.betas={betas}")
    assert f"betas={betas}" in said
    assert list(tmp_path.iterdir()) == []


MISTAKES = {
    "--config=digit": "no config at digit (did you mean digits?); shipped: binarized_mnist",
    "--config=nope.yaml": "no config at nope.yaml; shipped:",
    "--epochs=3": "no such option: --epochs (did you mean --trainer.max_epochs?)",
    "--lr=1": "no such option: --lr (did you mean --model.lr?)",
    "--batch_size=1": "no such option: --batch_size (did you mean --data.batch_size?)",
    "digits": "no such option: digits (did you mean --config digits?)",
    "runs/x.ckpt": "no such option: runs/x.ckpt (did you mean --ckpt_path runs/x.ckpt?)",
    "--model.netwrok=MLP": "no such option: --model.netwrok (did you mean --model.network?)",
    "--model.network.widht=3": "no such option: widht (did you mean width?)",
    "--data.bach_size=3": "no such option: bach_size (did you mean batch_size?)",
    "--model.network=mpl": "model.network=mpl is unknown (did you mean MLP?); allowed: Conv",
    "--data=digitz": "data=digitz is unknown (did you mean Digits?); allowed: Bina",
    "--model.conditioning=flim": "model.conditioning=flim is not allowed; allowed: film, gate",
    "--model.lr=fast": "model.lr=fast is not allowed; allowed: float",
    "--data.batch_size=5000": "data.batch_size=5000 is larger than the training set of 1258",
    "--data.batch_size=0": "data.batch_size=0 is too small; choose at least 1",
    "--ckpt_path=nope.ckpt": "no checkpoint at nope.ckpt",
    "--trainer.default_root_dir=/dev/null/x": "the run folder /dev/null/x/digits/",
    "--config=celeba --data.root=nope": "data.root='{here}/nope' does not exist; CelebA needs",
    "--data=my.Data": "data=my.Data cannot be used: No module named 'my'",
    "--model.network=torch.nn.Linear": "model.network=torch.nn.Linear cannot be used: Import path",
    "--trainer.max_epochs=x": "trainer.max_epochs=x is not allowed; allowed: int",
    "--trainer.devices=x": "trainer: `devices` selected with `CPUAccelerator` should be",
    "--config=folder --data.root=empty": "data.root='{here}/empty' is empty;",
    "--config=npz --data.root=file.npz": "{here}/file.npz: array 'x' has the type complex128;",
    "--data=npz --data.root=nan.npz": "{here}/nan.npz: array 'x' has NaN or infinity in 9 of 9",
    "--data=tests.helpers.Shapeless": "data=tests.helpers.Shapeless has no shape; give",
    "--model.likelihood.sigma=0": "sigma=0 is not a finite",
}


@pytest.mark.parametrize(("argv", "said"), MISTAKES.items(), ids=MISTAKES)
def test_fit_mistakes(capsys, tmp_path, monkeypatch, argv, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "file.npz", x=np.zeros((9, 4, 4), dtype=complex))
    np.savez(tmp_path / "nan.npz", x=np.full((9, 4, 4), np.nan, dtype=np.float32))
    line = fails(capsys, "fit", *argv.split())
    assert line.startswith(said.format(here=tmp_path)), line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file.npz", "nan.npz"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model:\n  lrr: 3\n", "no such key: model.lrr (did you mean model.lr?)"),
        ("modle:\n  lr: 3\n", "no such key: modle.lr (did you mean model.lr?)"),
        ("model: {network: {class_path: MLP, init_args: {widht: 3}}}", "no such option: widht"),
        ("trainer: 3", "trainer=3 is no section"),
        ("model: {lr: null}", "lr is null; give a number"),
        ("model: {warmup: null}", "warmup is null; give a number"),
        ("a: [", "is not YAML"),
        ("hello", "holds no settings"),
    ],
)
def test_config_mistakes(capsys, tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert said in fails(capsys, "fit", "--config", str(path))


def test_curve_mistakes(capsys, tmp_path):
    assert "no checkpoint at nope.ckpt" in fails(capsys, "curve", "nope.ckpt")
    assert re.search("required.*checkpoint|checkpoint.*required", fails(capsys, "curve"))
    (tmp_path / "x.ckpt").write_text("x")
    assert "truncated or no checkpoint" in fails(capsys, "curve", str(tmp_path / "x.ckpt"))
    said = fails(capsys, "curve", "x", "--bettas=1")
    assert said == "no such option: --bettas (did you mean --betas?)"
    said = fails(capsys, "curve", "x", "--split=tset")
    assert said == "split=tset is not allowed; allowed: train, val, test"


def test_a_run_in_which_much_is_asked_wrongly(capsys, tmp_path):
    root = f"--trainer.default_root_dir={tmp_path}"
    assert main(["fit", *SMALL, root, "--trainer.max_epochs=1", "--curve.enabled=false"]) == 0
    run = str(next((tmp_path / "digits").iterdir()))
    capsys.readouterr()
    said = fails(capsys, "curve", run, "--betas=20")
    assert said.endswith("outside the trained range [0.01, 10]; pass --extrapolate to try")
    assert "is upside down; write 0.01:10" in fails(capsys, "curve", run, "--betas=10:0.01")
    assert "has no argument bach_size" in fails(capsys, "curve", run, "--data.bach_size=3")
    assert "cannot be made" in fails(capsys, "curve", run, "--out=/dev/null/x")
    assert "device=gpu cannot be used" in fails(capsys, "curve", run, "--device=gpu")


def test_traceback_is_shown_when_asked_for(capsys):
    assert main(["fit", "--model.betas=0:1", "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_class_chosen_anew_has_its_own_defaults(capsys):
    assert main(["fit", "--config=binarized_mnist", "--model.network=conv", "--print_config"]) == 0
    out = capsys.readouterr().out
    assert (
        "class_path: multibeta.networks.Conv\n    init_args:\n      width: 32\n      depth: 4"
        in out
    )


def test_nearest():
    assert nearest("widht", ["depth", "width"]) == " (did you mean width?)"
    assert nearest("xyz", ["depth", "width"]) == ""


def test_an_unknown_message_is_left_as_it_is():
    assert explain("something else", []) == "something else"


def test_a_reader_that_has_had_enough_is_no_mistake():
    arguments = [sys.executable, "-m", "multibeta", "--help"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["enc"], "encode"),
        (["curve", "--bet"], "--betas"),
        (["fit", "--config", "dig"], "digits"),
        (["fit", "--model.lik"], "--model.likelihood --model.likelihood.sigma"),
        (["report", "here"], "here.txt"),
    ],
)
def test_bash_completes(words, found, tmp_path, capsys):
    assert main(["--print-completion", "bash"]) == 0
    (tmp_path / "here.txt").write_text("")
    line = " ".join(["multibeta", *words])
    code = (
        f"{capsys.readouterr().out}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _multibeta; "
        'echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == found.split()
    assert done.stderr == ""


def test_other_shells_have_completion_too(capsys):
    for shell in ("zsh", "fish"):
        assert main(["--print-completion", shell]) == 0
        assert "multibeta" in capsys.readouterr().out
    assert "--print-completion csh is unknown; allowed: bash" in fails(
        capsys, "--print-completion", "csh"
    )


def test_a_warning_is_one_line_in_every_command(monkeypatch, capsys):
    def cite(run: str) -> None:
        """Print a warning as it would be shown."""
        print(warnings.formatwarning("few", UserWarning, "there.py", 3, "line = 3"))

    before = warnings.formatwarning
    monkeypatch.setitem(cli._VERBS, "cite", cite)
    assert main(["cite", "x"]) == 0
    assert capsys.readouterr().out.strip() == "warning: few"
    assert warnings.formatwarning is before
