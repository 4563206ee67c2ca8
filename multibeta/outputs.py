"""Where what a model makes is written: pictures, animations, arrays, one file each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from multibeta.data.given import write_picture
from multibeta.files import check_writable, replacing
from multibeta.plots import CHANNELS, ffmpeg, frames, number, over_betas
from multibeta.runs import shown

__all__ = ["Output"]


class Output:
    """Where examples that a model makes are written, found to be possible before they are made.

    Args:
        out: A picture's, an .npz file's or a folder's name.
        model: Whose examples they are.
    """

    def __init__(self, out: str, model: Any) -> None:
        self.path, self.shape = Path(out), model.shape
        self.kind = self.path.suffix.lower()
        self.bounds = model.units.span if model.units else (0.0, 1.0)
        allowed = (".png", ".pdf", ".svg", ".gif", ".mp4", ".npz")
        if self.kind not in (*allowed, ""):
            raise ValueError(f"--out {out} ends in {self.kind}; allowed: {', '.join(allowed)}, or "
                             "a folder")  # fmt: skip
        if self.kind == ".mp4":
            ffmpeg()
        channels, axes = self.shape[0], len(self.shape)
        if self.kind != ".npz" and axes not in (2, 3):
            raise ValueError(f"x {self.shape} is no picture and no signal; write --out x.npz")
        if self.kind == "" and (axes, channels) not in ((3, 1), (3, 3)):
            raise ValueError(
                f"x {self.shape} is no picture with 1 or 3 channels; write --out x.npz, or x.png"
            )
        self.note = ""  # what the picture leaves out
        if axes == 3 and channels not in (1, 3):
            self.note = f", the first of {channels} channels"
        elif axes == 2 and channels > CHANNELS:
            self.note = f", the first {CHANNELS} of {channels} channels"
        check_writable(self.path if self.kind == "" else self.path.parent)

    def tell(self, quiet: bool = False) -> None:
        """Say where it is: on stdout, or on stderr where stdout has the numbers."""
        print(f"\nfiles: {shown(self.path)}", file=sys.stderr if quiet else sys.stdout)

    def write(
        self,
        betas: tuple[float, ...],
        made: Any,
        title: str,
        rows: list[str] | None = None,
        x: Any = None,
        names: list[str] | None = None,
    ) -> None:
        """Write what was made.

        Args:
            betas: K β's.
            made: (K, n, *shape), or (K, rows, n, *shape).
            title: Of the picture.
            rows: What the rows at a β are.
            x: The examples that were reconstructed, n of them.
            names: Those of the n examples.
        """
        numbers, title = made.numpy(), title + self.note
        if self.kind == ".npz":
            arrays = {"beta": np.array(betas), "made": numbers}
            if x is not None and names is not None:
                arrays |= {"x": x.numpy(), "name": np.array(names)}
            with replacing(self.path) as temporary:
                np.savez(temporary, **arrays)  # type: ignore[arg-type]
        elif self.kind == "":
            self._files(betas, numbers, rows, names)
        else:
            top = None if x is None else x.numpy()
            span = self.bounds if len(self.shape) == 3 else None
            if self.kind in (".gif", ".mp4"):
                head = [] if top is None else [("x", top)]
                each = zip(betas, numbers, strict=True)
                frames([[*head, *self._block(*of, rows)] for of in each], self.path, title, span)
            else:
                over_betas(betas, numbers, self.path, title, span, rows, top)

    def _block(self, beta: float, of_beta: Any, rows: list[str] | None) -> list[tuple[str, Any]]:
        label = f"β = {number(beta)}"
        if rows is None:
            return [(label, of_beta)]
        return [(f"{label}, {row}", x) for row, x in zip(rows, of_beta, strict=True)]

    def _files(self, betas: Any, made: Any, rows: list[str] | None, names: Any) -> None:
        """Write a picture a file: FOLDER/beta_0.1/NAME.png."""
        for beta, of_beta in zip(betas, made, strict=True):
            for row, several in zip(rows or [""], of_beta if rows else [of_beta], strict=True):
                for i, one in enumerate(several):
                    name = Path(names[i]).with_suffix("") if names else Path(f"{i:04}")
                    folder = self.path / f"beta_{beta:g}" / row.replace(" ", "_")
                    write_picture(one, folder / f"{name}.png", self.bounds)
