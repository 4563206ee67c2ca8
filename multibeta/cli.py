"""The command line: fit, validate and test by LightningCLI; the others beside them."""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import inspect
import io
import itertools
import json as json_
import os
import platform
import re
import signal
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from multibeta import verbs
from multibeta.faults import fault_of
from multibeta.options import check_yaml, explain, nearest
from multibeta.progress import place

__all__ = ["main"]

_TRAINING = {
    "fit": "train a model, then measure its curve",
    "validate": "measure a checkpoint on the validation set, on a small grid of β",
    "test": "measure a checkpoint on the test set, on a small grid of β",
}

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h

_FIT = """\
multibeta fit: train a model, then measure its curve

  multibeta fit --config digits.yaml                       a path, or a shipped config
  multibeta fit --data NPZ --data.root x.npz --model.likelihood Gaussian
  multibeta fit --ckpt_path runs/digits/DATE-N             go on with a run

  --config FILE               settings; several, the later ones win; options win over all
  --ckpt_path RUN             go on with a run, or with the copy of a checkpoint
  --init_from RUN             start a new run from the weights that fit
  --name NAME                 the run's name: runs/NAME/DATE-N
  --allow MODULE              let the checkpoint name classes of yours; several with commas
  --seed_everything N         seed of weights, batches, β's and noise (0)

  --data CLASS                Digits, MNIST, CelebA, Folder, NPZ, …, or your class path
  --data.root PATH            the file or folder
  --data.batch_size N         examples in a batch, on each process

  --model.betas LOW:HIGH      the range of β (0.01:10); one number for a dedicated β-VAE
  --model.network CLASS       MLP, Conv, ResNet, Linear; or --model.encoder, --model.decoder
  --model.latent_dim N        latents (32)
  --model.likelihood CLASS    Bernoulli, Gaussian, Poisson, …; a class path of yours; Distortion
  --model.likelihood.sigma S  the σ of Gaussian and Laplace, in units of x
  --model.objective CLASS     BetaELBO, BetaTCVAE, IWAE, …
  --model.standardise true    shift and scale features or channels by the training set
  --model.lr RATE             peak learning rate of Adam (0.003)

  --trainer.max_epochs N      how often to go through the training set
  --trainer.accelerator A     auto, cpu, gpu, …; --trainer.devices, --trainer.precision
  --trainer.callbacks CLASS   one of Lightning's, or of yours; += adds
  --trainer.default_root_dir FOLDER   where runs are kept (runs)

  --curve.betas BETAS         where the curve is measured: LOW:HIGH, LOW:HIGH:N, 0.1,1,4
  --curve.metrics NAMES       what else, with commas; all
  --curve.enabled false       no curve

  --print_config              all settings, resolved; =skip_default those that differ
  --data.help CLASS           the arguments of a class; so --model.network.help Conv
  --help-all                  every option, those of Lightning's Trainer too
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The exit status: 0, 2 after a user's mistake (said in one line on stderr), 1 after a fault
        of multibeta (with the place of the whole trace), 130 after Ctrl-C, 143 after SIGTERM,
        138 after SIGUSR1, or 141 where nobody reads any more.
    """
    # Pictures are files. A notebook's backend is in its environment, and perhaps not in this one.
    if place() != "notebook":
        os.environ["MPLBACKEND"] = "agg"
    # Threads that wait for each other would take the cores of others; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _keep_memory()
    argv = list(sys.argv[1:] if argv is None else argv)
    show = "--traceback" in argv
    argv = [argument for argument in argv if argument != "--traceback"]
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no β shows a question mark
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")
    before, warnings.formatwarning = warnings.formatwarning, _said
    try:
        status = _dispatch(argv)
        sys.stdout.flush()  # what nobody reads is noticed here
        return status
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt as stop:
        return _status(stop)
    except SystemExit as stop:
        # Lightning leaves with 1 after Ctrl-C.
        interrupted = isinstance(stop.__context__, KeyboardInterrupt)
        return _status(stop.__context__) if interrupted else int(stop.code or 0)
    except Exception as error:
        if show:
            traceback.print_exc()
        fault = fault_of(error)
        said = fault.line.replace("pass extrapolate=True", "pass --extrapolate")
        said = re.sub(r"pass allow='([\w,]+)'", r"pass --allow \1", said)
        print(f"multibeta: {said}", file=sys.stderr)
        return fault.status
    finally:
        warnings.formatwarning = before


def _said(message: Warning | str, *where: Any, **more: Any) -> str:
    """Return a warning in one line, without the place in the code that it comes from."""
    return f"warning: {message}\n"


def _keep_memory() -> None:
    """Let glibc keep up to 256 MB of freed memory: each step takes what the last one gave back.

    Taking it from the system anew costs a seventh of a step. Settings in MALLOC_… stay.
    """
    if platform.libc_ver()[0] != "glibc" or any(k.startswith("MALLOC_") for k in os.environ):
        return
    libc = ctypes.CDLL(None)
    for parameter, size in ((_M_MMAP_THRESHOLD, 2**25), (_M_TRIM_THRESHOLD, 2**28)):
        libc.mallopt(parameter, size)


def _status(stop: BaseException | None) -> int:
    # By its name: its module would import Lightning.
    terminated = type(stop).__name__ == "Terminated"
    return 128 + (stop.args[0] if stop is not None and terminated else signal.SIGINT)


_VERBS: dict[str, Callable[..., None]] = {
    name: getattr(verbs, name)
    for name in (
        "curve", "choose", "rate", "beta", "compare", "report", "encode", "sample", "reconstruct",
        "traverse", "interpolate", "compress", "decompress", "cut", "export", "push", "cite",
        "score",
    )
}  # fmt: skip

_LIGHT = ("beta", "cite", "cut")
"""Verbs that may need less than what the others measure with."""

_MEANT = {"train": "fit", "resume": "fit --ckpt_path", "evaluate": "curve", "measure": "curve",
          "sweep": "curve", "plot": "curve", "predict": "encode"}  # fmt: skip


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        import multibeta

        print(f"multibeta {multibeta.__version__}")
        return 0
    if argv[0] == "--print-completion":
        print(_completion(argv[1] if len(argv) > 1 else ""), end="")
        return 0
    verb = argv[0]
    if verb not in [*_TRAINING, *_VERBS]:
        known = [*_TRAINING, *_VERBS]
        meant = f" (did you mean {_MEANT[verb]}?)" if verb in _MEANT else nearest(verb, known)
        raise ValueError(f"no such command: {verb}{meant}; {', '.join(known)}")
    # A user's own classes are found in the current folder, as with python -m.
    sys.path.insert(0, os.getcwd())
    if verb in _TRAINING:
        _train(argv)
        return 0

    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=f"multibeta {verb}",
        description=_doc(_VERBS[verb]).split("\nArgs:")[0],
        exit_on_error=False,
    )
    parser.add_function_arguments(_VERBS[verb], as_positional=True)
    for action in parser._actions:  # --from: no parameter of Python's can have that name
        if action.dest.endswith("_"):
            name = action.dest.removesuffix("_")
            action.option_strings, action.metavar = [f"--{name}"], name.upper()
            parser._option_string_actions[f"--{name}"] = action
    try:
        arguments = parser.parse_args(_as_list(_with_values(argv[1:], _VERBS[verb]), _VERBS[verb]))
    except argparse.ArgumentError as error:
        raise ValueError(explain(str(error), [parser])) from None
    if verb not in _LIGHT:
        _at_once("multibeta.evaluation")
    _VERBS[verb](**arguments.as_dict())
    return 0


def _at_once(module: str) -> None:
    """Import a module, and leave garbage for later: there is none, and to look costs a quarter.

    What is there afterwards stays, and is not looked through again. A process that has torch
    already is the caller's, and is left alone.
    """
    alone = "torch" not in sys.modules and gc.isenabled()
    if alone:
        gc.disable()
    try:
        importlib.import_module(module)
    finally:
        if alone:
            gc.freeze()
            gc.enable()


def _with_values(argv: list[str], run: Callable[..., None]) -> list[str]:
    """Let a yes-or-no option stand alone, for yes, and hyphens stand for underscores in names."""
    argv = [re.sub(r"^--[a-z-]+", lambda of: "--" + of[0][2:].replace("-", "_"), w) for w in argv]
    parameters = inspect.signature(run).parameters.values()
    flags = {f"--{p.name}" for p in parameters if isinstance(p.default, bool)}
    return [
        f"{word}=true" if word in flags and after not in ("true", "false") else word
        for word, after in itertools.pairwise([*argv, ""])
    ]


def _as_list(argv: list[str], run: Callable[..., None]) -> list[str]:
    """Gather the words of each parameter that takes a list, those in front of the first option."""
    parameters = inspect.signature(run).parameters
    groups: list[tuple[str, list[str]]] = [("", [])]
    for word in argv:
        if word.startswith("-"):
            groups.append((word, []))
        else:
            groups[-1][1].append(word)
    gathered = []
    for option, words in groups:
        if option:
            parameter, single = parameters.get(option.removeprefix("--")), 0
        else:  # words for single parameters come before those of a list
            single = next((i for i, p in enumerate(parameters.values()) if _takes_list(p)), 0)
            parameter = [*parameters.values()][single]
        gathered += [*[option] * bool(option), *words[:single]]
        rest = words[single:]
        gathered += [json_.dumps(rest)] if _takes_list(parameter) and rest else rest
    return gathered


def _takes_list(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and str(parameter.annotation).startswith("list")


def _doc(run: Callable[..., None]) -> str:
    return inspect.getdoc(run) or ""


def _completion(shell: str) -> str:
    from multibeta.completion import script

    of_training = sorted({*re.findall(r"--[\w.]+", _FIT)} - {"--help"})
    of_verbs = {
        verb: [
            f"--{p.name.removesuffix('_')}" for p in inspect.signature(run).parameters.values()
            if p.default is not inspect.Parameter.empty
        ]
        for verb, run in _VERBS.items()
    }  # fmt: skip
    options = {**dict.fromkeys(_TRAINING, of_training), **of_verbs}
    return script(shell, options, [*_shipped()])


def _help() -> str:
    said = {verb: _doc(run).split("\n")[0].rstrip(".") for verb, run in _VERBS.items()}
    verbs = {**_TRAINING, **said}
    lines = "\n".join(f"  {verb:11} {text[0].lower()}{text[1:]}" for verb, text in verbs.items())
    by_kind: dict[bool, list[str]] = {True: [], False: []}
    for name, path in _shipped().items():
        by_kind[path.parent.name == "objectives"].append(name)
    shipped = {
        of_objective: textwrap.fill(
            ", ".join(names), 78, initial_indent="  ", subsequent_indent="  "
        )
        for of_objective, names in by_kind.items()
    }
    return f"""\
multibeta: one variational autoencoder, conditioned on log β, in place of a sweep of β-VAEs

  multibeta report digits                       a page with a slider, of a shipped model
  multibeta fit --config digits.yaml            a path, or the name of a shipped config
  multibeta curve runs/digits/DATE-N --betas 0.01:10
  multibeta fit --ckpt_path RUN                 goes on with a run
  multibeta fit --init_from RUN                 starts a new one from its weights

commands:
{lines}

multibeta COMMAND --help shows the options of a command. --version shows the version;
--print-completion bash (zsh, fish) what a shell reads to complete; --traceback where an error
comes from.

shipped configs:
{shipped[False]}
beside one of them, for another objective:
{shipped[True]}"""


def _train(argv: list[str]) -> None:
    """Run fit, validate or test by LightningCLI."""
    given = {argument.partition("=")[0] for argument in argv}
    if argv[0] == "fit" and given & {"--help", "-h"}:
        print(_FIT)
        return
    if "--help-all" in given:
        argv = ["--help" if argument == "--help-all" else argument for argument in argv]
        given = {"--help"}
    if argv[1:] and not argv[1].startswith("-"):
        meant = "--config" if argv[0] == "fit" and not _is_run(argv[1]) else "--ckpt_path"
        raise ValueError(f"no such option: {argv[1]} (did you mean {meant} {argv[1]}?)")
    chosen = {"--config", "-c", "--ckpt_path", "--init_from", "--data"}
    if argv[0] == "fit" and not given & chosen:
        argv[1:1] = ["--config", "digits"]
    if argv[0] != "fit" and not given & {"--ckpt_path", "--help", "-h", "--print_config"}:
        raise ValueError(f"{argv[0]} needs a trained model; give --ckpt_path RUN, a run's folder")
    for i, argument in enumerate(argv):
        option, equals, value = argument.partition("=")
        if option in ("--config", "-c") and (equals or i + 1 < len(argv)):
            if equals:
                argv[i] = f"{option}={_config(value)}"
            else:
                argv[i + 1] = _config(argv[i + 1])

    _at_once("multibeta.training")
    from multibeta.training import train

    train(argv)


def _is_run(path: str) -> bool:
    return path.endswith(".ckpt") or Path(path).is_dir()


def _config(given: str) -> str:
    """Return the path of a config, given by its path or the name of a shipped one."""
    if Path(given).is_file():
        check_yaml(given)
        return given
    shipped = _shipped()
    name = given.removesuffix(".yaml")
    if name not in shipped:
        raise ValueError(
            f"no config at {given}{nearest(name, shipped)}; shipped: {', '.join(shipped)}"
        )
    return str(shipped[name])


def _shipped() -> dict[str, Path]:
    """Return the shipped configs by name."""
    here = Path(__file__).parent
    # In the wheel they lie inside the package, in a checkout beside it.
    folder = next((f for f in (here / "configs", here.parent / "configs") if f.is_dir()), here)
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}
