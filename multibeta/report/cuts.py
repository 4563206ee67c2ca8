"""What a page shows of a progressive file: examples, read from its first bytes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multibeta.codec import Codec
from multibeta.codec.container import unpack
from multibeta.metrics.psnr import peak_of, psnr
from multibeta.multibeta_vae import MultiBetaVAE

__all__ = ["Cuts", "cuts"]

_LENGTHS = 24


@dataclass(frozen=True)
class Cuts:
    """Examples of one file, read at K lengths.

    Attributes:
        x: The examples: (K, N, *shape).
        lengths: How many bytes were read: from the header alone to all.
        betas: The β's that the last of these bits were for.
        psnrs: The mean PSNR, decibels; infinite where all are equal. None where the peak of x is
            not known.
        header: How many bytes of the file tell nothing of the examples.
    """

    x: Tensor
    lengths: list[int]
    betas: list[float]
    psnrs: list[float] | None
    header: int

    def as_dict(self) -> dict[str, Any]:
        """Return what the page is given beside the examples; an infinite PSNR is None."""
        finite = [None if np.isinf(v) else round(v, 3) for v in self.psnrs or []]
        return {
            "header": self.header, "lengths": self.lengths, "count": self.x.shape[1],
            "betas": [float(f"{beta:.4g}") for beta in self.betas],
            "psnrs": None if self.psnrs is None else finite,
        }  # fmt: skip


def cuts(model: MultiBetaVAE, x: Tensor, inputs: Mapping[str, Any]) -> Cuts:
    """Write one progressive file of examples, and read it at 24 lengths, evenly in log bytes.

    Args:
        model: The model.
        x: (N, *shape).
        inputs: What the networks take beside x and z, N rows each.

    Raises:
        ValueError: If constriction is missing, or the model cannot be a codec.
    """
    codec = Codec(model)
    data = codec.encode(x, progressive=True, **inputs)
    header, peak = unpack(data).size, peak_of(model, x)
    lengths = np.unique(np.geomspace(header, len(data), _LENGTHS).round().astype(int)).tolist()
    found = [codec.read(data[:length], **inputs) for length in lengths]
    again = torch.stack([each.x for each in found])
    return Cuts(
        again,
        lengths,
        [each.beta for each in found],
        [psnr(x.cpu(), of, peak).mean().item() for of in again] if peak else None,
        header,
    )
