"""The training commands: LightningCLI with multibeta's defaults, names and run folders."""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import (
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)

from multibeta.callbacks import (
    Announce,
    AtomicCheckpointIO,
    Checkpoints,
    Interrupt,
    MeasureCurve,
    ProgressBar,
    ProgressLines,
    RunLogger,
    shown,
)
from multibeta.checkpoints import find_checkpoint, read_checkpoint
from multibeta.data import Digits, ImageData
from multibeta.files import replacing
from multibeta.likelihoods import Bernoulli, Likelihood
from multibeta.module import FromSettings
from multibeta.networks import MLP, Network
from multibeta.objectives import BetaELBO, Objective
from multibeta.options import explain, nearest, read_yaml

__all__ = ["train"]


def _path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


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

_NOISE = (
    "LightningCLI's args parameter is intended",  # it is used from within Python
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # in Lightning itself
    "Checkpoint directory .* exists and is not empty",  # a resumed run goes on in place
    r"`ModelCheckpoint\(monitor='val/objective_nats'\)` could not find",  # no validation yet
    "Be aware that when using `ckpt_path`, callbacks used to create",  # measuring needs none
    ".*configure_optimizers` will be overridden",  # that is what --optimizer asks for
    "`max_epochs` was not set",  # the progress shows the epochs
    r"The number of training batches \(\d+\) is smaller than the logging interval",
)


def train(argv: list[str]) -> None:
    """Run fit, validate, test or predict.

    Args:
        argv: The command and its options; configs are paths.

    Raises:
        ValueError: If an option or a config is wrong; in one line.
    """
    # Lightning's remarks on hardware, and its advertisements, would bury the result.
    for logger in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)
    warnings.formatwarning = _said
    argv = list(argv)
    config, checkpoint = _option(argv, "--config", "-c"), _option(argv, "--ckpt_path")
    name, run = Path(config).stem if config else None, None
    if checkpoint is not None:
        path = find_checkpoint(checkpoint).absolute()
        read_checkpoint(path)
        folder = path.parent.parent
        if config is None and (folder / "config.yaml").is_file():
            # Without a config the checkpoint's run goes on: its settings, its folder.
            name, run = folder.parent.name, folder
            argv[1:1] = ["--config", str(run / "config.yaml")]
            argv += [f"--trainer.default_root_dir={run.parent.parent}"]
        argv += [f"--ckpt_path={path}"]
    try:
        _Training(_canonical(argv), name, run)
    except (MisconfigurationException, ValueError) as error:
        raise ValueError(explain(str(error))) from error
    finally:
        # Lightning does so for NCCL alone; Gloo's threads, left behind, can abort the process.
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


class _SaveConfig(SaveConfigCallback):
    """Keeps the settings of a fit in the run's config.yaml."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml, in the first process."""
        if stage == "fit":
            folder = trainer.logger.log_dir if trainer.logger else trainer.default_root_dir
            with replacing(Path(folder or ".") / "config.yaml") as temporary:
                self.parser.save(self.config, str(temporary), skip_none=False)


class _Training(LightningCLI):
    """LightningCLI for MultiBetaModule and any data.

    Args:
        argv: The command and its options.
        name: The run's name; the data's by default.
        run: The folder of a run to go on with or to measure.
    """

    def __init__(self, argv: list[str], name: str | None, run: Path | None) -> None:
        self._name, self._run = name, run
        self._subparsers: list[LightningArgumentParser] = []
        # Of the parsers of the four commands, the one that is asked for: each takes a while.
        of_command = {argv[0]: LightningCLI.subcommands()[argv[0]]}
        self.subcommands = lambda: of_command  # type: ignore[method-assign]
        super().__init__(
            FromSettings,
            LightningDataModule,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=_SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={"exit_on_error": False},
            load_from_checkpoint_support=False,
            args=argv,
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
        except argparse.ArgumentError as error:
            raise ValueError(explain(str(error), self._subparsers)) from None

    def _parse_ckpt_path(self) -> None:
        """Leave the settings alone: what the user says overrides what a checkpoint holds."""

    def before_instantiate_classes(self) -> None:
        """Make folders absolute, so that a run can go on from any other."""
        config = self.config[str(self.subcommand)]
        config.trainer.default_root_dir = _absolute(config.trainer.default_root_dir)
        init_args: Any = config.data.get("init_args", {}) if config.data else {}
        if init_args.get("root") is not None:
            init_args.root = _absolute(init_args.root)

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

    def predict(self, model: FromSettings, **kwargs: Any) -> None:
        """Compute the posterior means at each β of the grid and keep them in codes.npz."""
        batches: Any = self.trainer.predict(model, **kwargs) or []
        betas = [metric.beta for metric in model.grid]
        means = [torch.cat([batch[beta] for batch in batches]).numpy() for beta in betas]
        path = (self._run or Path.cwd()) / "codes.npz"
        with replacing(path) as temporary:
            np.savez(temporary, beta=np.array(betas), mean=np.stack(means))
        print(f"files: {shown(path)} (beta: {len(betas)}; mean: {np.shape(means)})")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the trainer its run folder, checkpoints, progress and Ctrl-C."""
        config = self._get(self.config_init, "trainer")
        callbacks = [*(config.callbacks or []), Announce(), Interrupt()]
        if self.subcommand == "fit" and not config.fast_dev_run:
            if config.logger is None:
                name = self._name or type(self.datamodule).__name__.lower()
                kwargs["logger"] = RunLogger(
                    config.default_root_dir, name, self._run.name if self._run else None
                )
            if config.enable_checkpointing is not False:
                callbacks.append(Checkpoints())
        elif config.logger is None:
            kwargs["logger"] = False
        if config.enable_progress_bar is not False:
            on_terminal = sys.stderr.isatty()
            kwargs["enable_progress_bar"] = on_terminal
            callbacks.append(ProgressBar() if on_terminal else ProgressLines())
        plugins = config.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        kwargs["plugins"] = [*plugins, AtomicCheckpointIO()]
        try:
            return super().instantiate_trainer(callbacks=callbacks, **kwargs)
        except TypeError as error:  # Lightning's word for a value that it does not take.
            raise ValueError(f"trainer: {error}") from error


def _said(message: Warning | str, *where: Any, **more: Any) -> str:
    """Return a warning in one line, without the place in the code that it comes from."""
    return f"warning: {message}\n"


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _option(argv: list[str], *names: str) -> str | None:
    """Return the last value given to an option, without parsing the others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(*names, dest="value")
    return parser.parse_known_args(argv)[0].value


def _canonical(argv: list[str]) -> list[str]:
    """Replace class names, however they are capitalised, by class paths.

    They are found after the options that choose a class, and in config files. Configs come first
    then, and choices of a class before the options of that class, in whatever order they were.
    """
    verb, *arguments = argv
    remaining = iter(arguments)
    configs: list[str] = []
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
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True), chosen


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
