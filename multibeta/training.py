"""The training commands: LightningCLI with multibeta's defaults, names and run folders."""

from __future__ import annotations

import argparse
import inspect
import os
import signal
import threading
from enum import Enum
from pathlib import Path
from typing import Any, Literal, cast

import torch
import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar as _ProgressBar
from lightning.pytorch.cli import (
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from lightning.pytorch.loggers import Logger

from multibeta import data as own_sets
from multibeta.callbacks import (
    STOPS,
    Announce,
    Interrupt,
    MeasureCurve,
    Terminated,
    be_quiet,
    progress_at,
)
from multibeta.checkpoints import modules_of
from multibeta.costs import Costs
from multibeta.data import Digits, ImageData
from multibeta.data.door import Door
from multibeta.files import replacing
from multibeta.likelihoods import Bernoulli, Likelihood
from multibeta.module import FromSettings
from multibeta.networks import MLP, Network
from multibeta.objectives import BetaELBO, Objective
from multibeta.options import explain, nearest, read_yaml
from multibeta.progress import place
from multibeta.resume import OF_THE_PLACE, Origin, listed
from multibeta.runs import (
    AtomicCheckpointIO,
    Checkpoints,
    RunLogger,
    tell,
)

__all__ = ["train"]


def _path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


for _name in own_sets.__all__:  # imported, they are known by their names alone
    getattr(own_sets, _name)

# Where a class is chosen by its name, and what the class must be.
_CHOICES = {
    "data": ImageData,
    "model.network": Network,
    "model.likelihood": Likelihood,
    "model.objective": Objective,
}

_DEFAULTS = {
    "data": _path_of(Digits),
    "model.network": _path_of(MLP),
    "model.likelihood": _path_of(Bernoulli),
    "model.objective": _path_of(BetaELBO),
    "trainer.default_root_dir": "runs",
    "trainer.enable_model_summary": False,
    "trainer.gradient_clip_val": 1.0,
    "trainer.num_sanity_val_steps": 0,
}

_MEASURED = ("rate", "distortion", "objective")

_RECORDED = ("seed_everything", "trainer", "curve", "optimizer", "lr_scheduler")
"""Sections of the settings that a checkpoint holds beside model and data."""

_MAY_CHANGE = ("lr", "warmup", "compile", "betas", "draws", "objective")
"""Settings of a model that another value of can train on."""


def train(argv: list[str]) -> None:
    """Run fit, validate or test.

    Args:
        argv: The command and its options; configs are paths.

    Raises:
        ValueError: If an option or a config is wrong; in one line.
    """
    # Lightning's remarks on hardware, and its advertisements, would bury the result.
    be_quiet()
    argv = list(argv)
    given = {name: _taken(argv, f"--{name}") for name in ("name", "init_from", "allow")}
    checkpoint, start = _option(argv, "--ckpt_path"), given["init_from"]
    if start is not None and (argv[0] != "fit" or checkpoint is not None):
        raise ValueError(
            "--init_from starts a new training, of fit alone; --ckpt_path goes on with one or "
            "measures it: give one of them"
        )
    origin = None
    if found := checkpoint or start:
        goes_on = checkpoint is not None and argv[0] == "fit"
        use: Literal["measure", "go on"] = "go on" if goes_on else "measure"
        origin = Origin(found, modules_of(given["allow"]), use)
    if origin is not None and checkpoint is not None:
        argv += [f"--ckpt_path={origin.path}"]
    config = _option(argv, "--config", "-c")
    of_config = Path(config).stem if config else None
    of_origin = None if origin is None else origin.name
    name = given["name"] or of_origin if checkpoint else given["name"] or of_config or of_origin
    before = _stop_on_signals()
    try:
        _Training(argv, name, origin, goes_on=checkpoint is not None)
    except (MisconfigurationException, ValueError) as error:
        raise ValueError(explain(str(error))) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        # Lightning does so for NCCL alone; Gloo's threads, left behind, can abort the process.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _stop_on_signals() -> dict[int, Any]:
    """Let SIGTERM and SIGUSR1 be exceptions, as Ctrl-C is; return what they did before."""
    if threading.current_thread() is not threading.main_thread():
        return {}

    def stop(number: int, _: Any) -> None:
        raise Terminated(number)

    return {number: signal.signal(number, stop) for number in STOPS}


def plain_config(parser: LightningArgumentParser, config: Any) -> dict[str, Any]:
    """Return settings as plain values; an enum, as callbacks have them, as its value."""
    return read_yaml(parser.dump(_without_enums(config.clone()), skip_none=False))


def _without_enums(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_enums(item) for item in value]
    if isinstance(value, Namespace):
        for key in [*value.keys(branches=True)]:
            value[key] = _without_enums(value[key])
    return value.value if isinstance(value, Enum) else value


class _SaveConfig(SaveConfigCallback):
    """Keeps the settings of a fit in the run's config.yaml, and in its checkpoints."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the settings to the module, which writes checkpoints."""
        if stage == "fit":
            self._settings = plain_config(self.parser, self.config)
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            folder = Path(trainer.log_dir or ".")
            kept = {k: v for k, v in self._settings.items() if k in _RECORDED}
            kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k not in OF_THE_PLACE}
            cast(Any, pl_module).record = {
                "name": folder.parent.name, "folder": folder.name, **kept,
            }  # fmt: skip

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml, in the first process."""
        if stage == "fit":
            folder = trainer.logger.log_dir if trainer.logger else trainer.default_root_dir
            with replacing(Path(folder or ".") / "config.yaml") as temporary:
                temporary.write_text(yaml.safe_dump(self._settings, sort_keys=False))


class _Training(LightningCLI):
    """LightningCLI for MultiBetaModule and any data.

    Args:
        argv: The command and its options.
        name: The run's name; the data's by default.
        origin: The checkpoint that says what was trained, and how; options override it.
        goes_on: Whether that training goes on, or is measured, instead of a new one.
    """

    def __init__(
        self, argv: list[str], name: str | None, origin: Origin | None, goes_on: bool
    ) -> None:
        self._name, self._origin, self._goes_on = name, origin, goes_on
        self._run = origin.folder if origin is not None and goes_on else None
        use: Any = "start" if not goes_on else "go on" if argv[0] == "fit" else "measure"
        self._settings = None if origin is None else origin.settings(use)
        self._subparsers: list[LightningArgumentParser] = []
        # Of the parsers of the four commands, the one that is asked for: each takes a while.
        of_command = {argv[0]: LightningCLI.subcommands()[argv[0]]}
        self.subcommands = lambda: of_command  # type: ignore[method-assign]
        if self._run is not None:
            argv = [*argv, f"--trainer.default_root_dir={self._run.parent.parent}"]
        super().__init__(
            FromSettings,
            LightningDataModule,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=_SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={"exit_on_error": False},
            load_from_checkpoint_support=False,
            args=_canonical(argv, self._settings),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the final curve's options, and let the model's shape follow the data."""
        self._subparsers.append(parser)
        parser.link_arguments("data.shape", "model.shape", apply_on="instantiate")
        parser.add_lightning_class_args(MeasureCurve, "curve")
        parser.set_defaults(_DEFAULTS)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and explain a mistake in one line."""
        try:
            super().parse_arguments(parser, args)
            if self._settings is not None:
                self._compare(parser, self._settings)
        except argparse.ArgumentError as error:
            raise ValueError(explain(str(error), self._subparsers)) from None

    def _compare(self, parser: LightningArgumentParser, settings: dict[str, Any]) -> None:
        """Say what is set otherwise than in the checkpoint; refuse what a trained model keeps."""
        command = str(self.config.subcommand)
        as_it_was = parser.parse_args(_canonical([command], settings))
        before, now = (_flat(config[command].as_dict()) for config in (as_it_was, self.config))
        said: list[str] = []
        others: list[str] = []
        for key in sorted({*before, *now}, key=lambda key: (".class_path" not in key, key)):
            there, here = before.get(key), now.get(key)
            section, _, rest = key.partition(".")
            rest = rest.removesuffix(".class_path")
            of_the_place = section == "trainer" and rest.partition(".")[0] in OF_THE_PLACE
            of_another_class = any(key.startswith(f"{chosen}.") for chosen in others)
            if there == here or of_the_place or key in ("ckpt_path", "config") or of_another_class:
                continue
            if key.endswith(".class_path"):
                key = key.removesuffix(".class_path")
                others.append(key)
            change = f"{key}: {there} in the checkpoint, {here} here"
            trains = command == "fit"
            may = trains and rest.partition(".")[0] in _MAY_CHANGE and key not in others
            if section == "model" and self._goes_on and not may:
                cure = "start a new one from it with --init_from" if trains else "leave it out"
                raise ValueError(f"{change}; a trained model keeps it: {cure}")
            if trains or section == "data":
                said.append(change)
        if said:
            tell("; ".join(said))

    def _parse_ckpt_path(self) -> None:
        """Leave the settings alone: what the user says overrides what a checkpoint holds."""

    def before_instantiate_classes(self) -> None:
        """Make folders absolute, so that a run can go on from any other."""
        config = self.config[str(self.subcommand)]
        if not isinstance(config.trainer, Namespace):
            raise ValueError(f"trainer={config.trainer} is no section; give settings below it")
        config.trainer.default_root_dir = _absolute(config.trainer.default_root_dir)
        init_args: Any = config.data.get("init_args", {}) if config.data else {}
        if init_args.get("root") is not None:
            init_args.root = _absolute(init_args.root)

    def before_fit(self) -> None:
        """Go on only where there is something left to do; or start from weights."""
        if self._origin is None:
            return
        if self._goes_on:
            self._origin.check_steps(self.trainer)
            self.datamodule.prepare_data()
            self.datamodule.setup("fit")
            self._origin.check_data(self.datamodule)
        else:
            self._origin.give_weights(self.model)

    def instantiate_classes(self) -> None:
        """Make data, model and trainer."""
        try:
            super().instantiate_classes()
        except TypeError as error:  # jsonargparse leaves out a link from what is not there.
            if "'shape'" not in str(error):
                raise
            data = self.config[str(self.subcommand)].data.class_path
            raise ValueError(
                f"data={data} has no shape; give the class the attribute shape, that of x"
            ) from error
        self.datamodule = Door.of(self.datamodule, self.model.vae)
        if self._origin is not None and self._goes_on:
            was, shape = tuple(self._origin.content["settings"]["shape"]), self.model.vae.shape
            if was != shape:
                raise ValueError(
                    f"the data has the shape {shape}; the model was made for {was}: give the data "
                    "it was trained on, or others of that shape"
                )
            self._origin.check_fit(self.model)

    def validate(self, model: FromSettings, **kwargs: Any) -> None:
        """Measure on the validation set, and print a table."""
        self._print("val", self.trainer.validate(model, **{**kwargs, "verbose": False}))

    def test(self, model: FromSettings, **kwargs: Any) -> None:
        """Measure on the test set, and print a table."""
        self._print("test", self.trainer.test(model, **{**kwargs, "verbose": False}))

    def _print(self, stage: str, found: Any) -> None:
        """Print the figures at each β of the grid."""
        if not self.trainer.is_global_zero:
            return
        (of,) = found
        lines = [["β", "rate R", "distortion D", "objective"]]
        for metric in self.model.grid:
            names = (f"{stage}/{name}_nats@{metric.beta:g}" for name in _MEASURED)
            lines.append([f"{metric.beta:.4g}", *(f"{of[name]:.3f}" for name in names)])
        mean = of[f"{stage}/objective_nats"]
        print("\n".join("  ".join(cell.rjust(12) for cell in line) for line in lines))
        print(f"\n{stage}/objective_nats, the mean over these β: {mean:.3f}")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer its run folder, checkpoints, progress and Ctrl-C."""
        config = self._get(self.config_init, "trainer")
        if config.barebones:
            raise ValueError("trainer.barebones keeps nothing, and a run is kept; leave it out")
        callbacks = [*listed(config.callbacks), Announce(), Costs(), Interrupt()]
        own_bar = any(isinstance(callback, _ProgressBar) for callback in callbacks)
        if self.subcommand == "fit" and not config.fast_dev_run:
            name = self._name or type(self.datamodule).__name__.lower()
            own = RunLogger(config.default_root_dir, name, self._run.name if self._run else None)
            others = [other for other in listed(config.logger) if isinstance(other, Logger)]
            kwargs["logger"] = [own, *others]
            if config.enable_checkpointing is not False:
                callbacks.append(Checkpoints())
        elif config.logger is None:
            kwargs["logger"] = False
        if config.enable_progress_bar is not False and not own_bar:
            where = place()
            kwargs["enable_progress_bar"] = where == "terminal"
            callbacks.append(progress_at(where))
        kwargs["plugins"] = [*listed(config.plugins), AtomicCheckpointIO()]
        try:
            return super().instantiate_trainer(callbacks=callbacks, **kwargs)
        except TypeError as error:  # Lightning's word for a value that it does not take.
            raise ValueError(f"trainer: {error}") from error


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _option(argv: list[str], *names: str) -> str | None:
    """Return the last value given to an option, without parsing the others."""
    return next((found for name in names if (found := _taken([*argv], name)) is not None), None)


def _canonical(argv: list[str], settings: dict[str, Any] | None = None) -> list[str]:
    """Replace class names, however they are capitalised, by class paths.

    They are found after the options that choose a class, and in config files. Configs come first
    then, and choices of a class before the options of that class, in whatever order they were.

    Args:
        argv: The command and its options.
        settings: Those of a checkpoint, which come before all others.
    """
    verb, *arguments = argv
    remaining = iter(arguments)
    configs: list[str] = [f"--config={_yaml(settings)}"] if settings else []
    choices: list[str] = []
    others: list[str] = []
    for argument in remaining:
        option, equals, value = argument.partition("=")
        key = option.removeprefix("--")
        chooses = key.removesuffix(".help") in _CHOICES
        if option not in ("--config", "-c") and not chooses:
            others.append(argument)
            continue
        value = value if equals else next(remaining, "")
        # null first: jsonargparse would hand the arguments of the class before to this one.
        if key in _CHOICES:
            choices += [f"{option}=null", f"{option}={_class_path(value, key)}"]
        elif chooses:
            others.append(f"{option}={_class_path(value, key.removesuffix('.help'))}")
        else:
            config, chosen = _canonical_config(value)
            configs += [*(f"--{choice}=null" for choice in chosen), f"--config={config}"]
    return [verb, *configs, *choices, *others]


def _canonical_config(path: str) -> tuple[str, list[str]]:
    """Return the config as YAML text, with class paths for class names, and the choices in it."""
    try:
        config = read_yaml(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds no settings; see the shipped digits.yaml for an example")
    chosen = []
    for key in _CHOICES:
        *parents, last = key.split(".")
        section: Any = config
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        value = section.get(last) if isinstance(section, dict) else None
        if isinstance(value, str):
            section[last] = _class_path(value, key)
        elif isinstance(value, dict) and isinstance(value.get("class_path"), str):
            value["class_path"] = _class_path(value["class_path"], key)
        else:
            continue
        chosen.append(key)
    return _yaml(config), chosen


def _yaml(settings: dict[str, Any]) -> str:
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _flat(settings: Any, key: str = "") -> dict[str, Any]:
    """Return nested settings by their options' names: model.likelihood.sigma."""
    if not isinstance(settings, dict):
        return {key: settings}
    found: dict[str, Any] = {}
    for name, value in settings.items():
        below = key if name == "init_args" else f"{key}.{name}" if key else str(name)
        found |= _flat(value, below)
    return found


def _taken(argv: list[str], option: str) -> str | None:
    """Take an option of ours out of the words; return its last value."""
    value = None
    for i in range(len(argv) - 1, 0, -1):
        name, equals, after = argv[i].partition("=")
        if name != option:
            continue
        if not equals and i + 1 >= len(argv):
            raise ValueError(f"{option} has no value; give one after it")
        found = after if equals else argv.pop(i + 1)
        value = found if value is None else value
        del argv[i]
    return value


def _class_path(name: str, key: str) -> str:
    """Return the class path that a name stands for; a class path stands for itself."""
    if "." in name or name.startswith(("{", "-")):
        return name
    classes = {_plain(cls.__name__): cls for cls in _subclasses(_CHOICES[key])}
    cls = classes.get(_plain(name))
    if cls is None:
        known = sorted(c.__name__ for c in classes.values())
        raise ValueError(
            f"{key}={name} is unknown{nearest(name, known)}; allowed: {', '.join(known)}, or the "
            "class path of your own"
        )
    return _path_of(cls)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _subclasses(base: Any) -> list[type]:
    found: list[type] = []
    for cls in base.__subclasses__():
        found += [*([] if inspect.isabstract(cls) else [cls]), *_subclasses(cls)]
    return found
