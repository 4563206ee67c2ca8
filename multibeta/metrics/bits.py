"""Real bits: how long a file of the examples is, and how near what it says comes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from multibeta.densities import normal
from multibeta.divergences import kl_standard_normal
from multibeta.metrics.base import Spread, joined, mean_and_se
from multibeta.metrics.psnr import peak_of, psnr
from multibeta.vae import BetaVAE

__all__ = ["Bits", "per_place"]


def per_place(shape: Sequence[int]) -> tuple[str, int]:
    """Return what bits are given for, ``bpp`` or ``bits_per_dim``, and how many there are of it.

    Args:
        shape: That of x: of a picture (C, H, W) there are HW pixels.
    """
    if len(shape) == 3:
        return "bpp", math.prod(shape[1:])
    return "bits_per_dim", math.prod(shape)


class Bits(Spread):
    r"""The length of a file of examples, written by :class:`multibeta.Codec`.

    .. math:: \mathrm{overhead} = \frac{8 \cdot \mathrm{bytes}}{n R / \ln 2}

    All bytes count, the header too. PSNR is that of what the file is read as.

    Args:
        vae: The model at the β that is measured.
        most: How many examples to use, spread over the set. Tables learn, so more cost less each.
        search: At how many latents of an example to look; see the codec.
        every: Each so many-th example is used; :meth:`prepare` finds it.
    """

    n: Tensor
    sums: Tensor
    psnrs: Tensor

    needs = "it writes and reads a file at each β; ask for it by name"

    def __init__(
        self, vae: BetaVAE, most: int = 1_000, search: int = 128, *, every: int = 1
    ) -> None:
        super().__init__(vae, most, every=every)
        self.search = search
        self.add_sums(n=(), sums=(2,), psnrs=(3,))

    @classmethod
    def in_all(cls, data: object) -> bool:
        """Return that ``all`` leaves it out."""
        return False

    @classmethod
    def lacks(cls, data: object) -> str | None:
        """Return that the coder is missing, if it is."""
        found = find_spec("constriction") is not None
        return None if found else "constriction: pip install 'multibeta[codec]'"

    def finish(self) -> None:
        """Write the file of this process's examples, and read it."""
        from multibeta.codec import Codec

        if not self.chosen:
            return
        chosen, self.chosen = self.chosen, []
        x, mean, std = (torch.cat([getattr(of, k) for of in chosen]) for k in ("x", "mean", "std"))
        inputs = joined(chosen)
        codec = Codec(self.vae, search=self.search)
        data = codec.encode(x, self.vae.beta, **inputs)
        again = codec.decode(data, **inputs)
        rate = kl_standard_normal(normal(mean.double(), std.double())).sum() / math.log(2)
        self.n += len(x)
        self.sums += torch.tensor([8.0 * len(data), rate.item()]).to(self.sums)
        if peak := peak_of(self.vae, x):
            of_each = psnr(x.cpu(), again, peak)
            moments = [1.0 * len(x), of_each.sum().item(), of_each.square().sum().item()]
            self.psnrs += torch.tensor(moments).to(self.psnrs)

    def compute(self) -> dict[str, float]:
        """Return the columns.

        Returns:
            ``code_bits``, of an example; ``code_bpp``, of a pixel, or ``code_bits_per_dim``, of a
            value of what is no picture; ``code_overhead``, over R of the same examples;
            ``code_psnr_db`` and ``code_psnr_se``, where the peak of x is known;
            ``code_examples``.
        """
        bits, rate = (self.sums / self.n).tolist()
        name, size = per_place(self.vae.shape)
        row = {
            "code_bits": bits, f"code_{name}": bits / size,
            "code_overhead": bits / rate if rate else math.inf, "code_examples": self.n.item(),
        }  # fmt: skip
        n, total, squares = self.psnrs
        if n:
            mean, se = mean_and_se(n, total, squares)
            row |= {"code_psnr_db": mean.item(), "code_psnr_se": se.item()}
        return row
