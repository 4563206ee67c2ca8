"""What a run keeps at its end: the curve's files, pictures, and what other loggers get of them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from PIL import Image

from multibeta import plots
from multibeta.codes import encode
from multibeta.curve import Curve
from multibeta.evaluation import draw_strip, examples_of
from multibeta.generate import busiest, samples, traversals
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.outputs import Output
from multibeta.runs import shown, tell, validated

__all__ = ["save_curve", "save_pictures", "share"]

# What samples.png, traversals.png and codes.png hold, and look at: little, for they come on top of
# every training.
_ROWS, _COLUMNS = 5, 10
_LATENTS, _STEPS, _ACTIVE = 4, 7, 250
_CODES = 1_000


def share(logger: Any, curve: Curve, folder: Path) -> None:
    """Give a foreign logger the curve and the pictures too.

    Args:
        logger: Weights & Biases', TensorBoard's, MLflow's, a CSVLogger; one that takes neither is
            named on stderr.
        curve: What was measured.
        folder: That of the run, with the pictures.
    """
    pictures = sorted(folder.glob("*.png"))
    if hasattr(logger, "log_table"):  # Weights & Biases
        logger.log_table("curve", [*curve.rows[0]], [[*row.values()] for row in curve.rows])
        for picture in pictures:
            logger.log_image(picture.stem, [str(picture)])
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text("curve", f"```\n{curve.table()}\n```")
        for picture in pictures:
            array = np.asarray(Image.open(picture).convert("RGB"))
            logger.experiment.add_image(picture.stem, array, dataformats="HWC")
    elif isinstance(logger, MLFlowLogger):
        for file in (folder / "curve.csv", *pictures):
            logger.experiment.log_artifact(logger.run_id, str(file))
    elif isinstance(logger, CSVLogger):
        Path(logger.log_dir).mkdir(parents=True, exist_ok=True)
        for file in (folder / "curve.csv", *pictures):
            shutil.copy(file, logger.log_dir)
    else:
        name = type(logger).__name__
        print(f"{name} takes no tables and pictures: they are in {shown(folder)}", file=sys.stderr)


def save_pictures(curve: Curve, model: MultiBetaVAE, data: Any, folder: Path) -> None:
    """Write what a run shows beside its curve, before the curve: that is the mark of a whole run.

    history.png, from metrics.csv; samples.png and traversals.png, of pictures and signals;
    codes.png, where the data has labels. A line on stderr says which is missing, and why.

    Args:
        curve: What was measured.
        model: The model.
        data: Anything that :class:`multibeta.data.Door` takes.
        folder: That of the run.
    """
    validations = validated(folder) if (folder / "metrics.csv").is_file() else {}
    if validations:
        about = curve.about
        title = f"What was validated at each β during the training, {about['data']}"
        plots.history(validations, folder / "history.png", title, curve.unit, curve.trained)
    else:
        tell("no history.png: nothing was validated, see trainer.check_val_every_n_epoch")
    split, betas = curve.about["split"], model.beta_range.grid(_ROWS)
    middle = betas[len(betas) // 2]
    try:
        form = Output(str(folder / "samples.png"), model)
        x, inputs = examples_of(model, data, split, _ACTIVE)
        # A sample has the further inputs of an example, such as its label.
        given = {k: v[:: max(1, len(v) // _COLUMNS)][:_COLUMNS] for k, v in inputs.items()}
        count = min([_COLUMNS, *map(len, given.values())])
        made = samples(model, betas, count, inputs=given)
        beside = f" and of one example's {', '.join(given)}" if given else ""
        title = f"Samples from the prior, a column from the same noise{beside} at each β"
        form.write(betas, made, title)
        chosen = busiest(model, x, middle, _LATENTS, inputs)
        few = tuple(dict.fromkeys((betas[0], middle, betas[-1])))
        first = {k: v[:1] for k, v in given.items()}
        made = traversals(model, few, chosen, steps=_STEPS, inputs=first)
        at = plots.number(middle)
        title = f"One latent from −3 to 3, the others at 0: those with the most rate at β = {at}"
        form = Output(str(folder / "traversals.png"), model)
        form.write(few, made, title, [f"latent {j}" for j in chosen])
    except Exception as error:  # the training is whole, whatever a network does with a code
        tell(f"no samples.png, traversals.png: {str(error).partition('; write')[0]}")
    try:
        ends = (betas[0], middle, betas[-1])
        codes = encode(model, data, dict.fromkeys(ends), splits=(split,), most=_CODES)
        if codes.label():
            codes.plot(folder / "codes.png")
    except Exception as error:
        tell(f"no codes.png: {error}")


def save_curve(curve: Curve, model: MultiBetaVAE, data: Any, folder: Path) -> None:
    """Write a curve's files and pictures into a folder.

    curve.csv, curve.png, plane.png and strip.png; latents.png and alignment.png where the curve
    has what they show; and, when all these are there, curve.json.
    """
    curve.to_csv(folder / "curve.csv")
    curve.draw_pictures(folder)
    split, path = curve.about["split"], folder / "strip.png"
    weights = {**curve.about["weights"], curve.swept: curve[curve.swept]}
    at = {name: weights[name] for name in model.pinned}
    rates = dict(zip(curve[curve.swept], curve["rate_nats"], strict=True))
    options: Any = {"at": at, "split": split, "extrapolate": True, "rates": rates}
    if not draw_strip(model, data, curve["beta"], path, **options):
        print(f"no strip.png: x {model.shape} is no picture and no signal", file=sys.stderr)
    curve.to_json(folder / "curve.json")
