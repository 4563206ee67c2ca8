"""What a page that explains has beside a report: one latent of one example, and sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from multibeta.codes import Codes

__all__ = ["SENTENCES", "one_latent"]

_LATENTS = 8
_EXAMPLES = 2000
_BINS = 72

SENTENCES: dict[str, list[str]] = {
    "One latent of one example": [
        "The dashed line is the prior N(0, 1), the grey steps are the aggregated posterior, where "
        "the codes of all examples lie, and the coloured bell is the posterior of one example.",
        "Turn β down, and the posterior becomes a needle: it says precisely which example it is "
        "of, and that costs rate.",
        "Turn β up, and it widens until it is the prior: it says nothing, and costs nothing.",
    ],
    "Numbers": [
        "The rate R is the mean divergence of a posterior from the prior: what the code may say "
        "of an example.",
        "The distortion D is what the decoder still lacks; with a likelihood it is −log p(x|z), "
        "which may be negative where x is continuous.",
        "β is the price of a nat of rate in D, and J = D + βR the bill.",
    ],
    "The rate–distortion plane": [
        "Each point is this one model at another β.",
        "The line through the point has the slope −β: there one more nat of rate takes about β "
        "off the distortion.",
        "A low β lies where the curve is flat and more rate hardly helps, a high β where it is "
        "steep and every nat counts.",
    ],
    "The curve over β": [
        "As β rises, the rate falls and the distortion rises.",
        "Where a curve is steep, a small step of β changes much; where it is flat, little.",
        "A β-VAE that is trained for one β has one point here, this model all of them.",
    ],
    "Reconstructions": [
        "Each example is encoded, and the mean of its posterior is decoded.",
        "At a low β the code pays for details, at a higher one for what tells most examples "
        "apart.",
        "At the highest, little is left to tell them apart, and the decoder answers with an "
        "average.",
    ],
    "Samples": [
        "Codes from the prior are decoded; the noise is the same at every β.",
        "At a low β many of these codes lie where no example's does, and the decoder has not "
        "learned what to make of them.",
        "They look most like data where the aggregated posterior is near the prior and the rate "
        "still buys something.",
    ],
    "Traversals": [
        "Each row moves one latent from −3 to 3; the others stay at 0.",
        "A row that stays the same is a latent that does not count at this β.",
        "Turn β up slowly: the rows fall still, the least useful first.",
    ],
    "One file": [
        "A progressive file says first what a high β would buy, and last what only the lowest "
        "does.",
        "Cut it, and you have a shorter file: its bits are those of a higher β.",
        "The slider of β does not move it: this one file is for all of them.",
    ],
    "Latents": [
        "Each bar is the mean rate of one latent; together they are R.",
        "A latent stays while what it takes off the distortion is worth β times its rate.",
        "That they switch off is called posterior collapse; here it is a price that you set.",
    ],
    "Codes": [
        "Each dot is the posterior mean of one example, in the two latents with the most rate.",
        "A dot hides the width of its posterior; dots and widths together are the aggregated "
        "posterior, which should fill the prior's circles.",
        "At a high β the dots draw together: examples are no longer told apart.",
    ],
    "Try it": [
        "The model itself runs here: what you draw is encoded and decoded at the slider's β.",
        "Move a latent to see what it means, then turn β to see whether it still does.",
        "At a low β the copy follows your hand; at a high one it becomes what the model knows.",
    ],
}
"""Part of the page → three sentences on what β does there."""


def one_latent(codes: Codes, order: np.ndarray, shown: int) -> dict[str, Any]:
    """Return posteriors of the first examples and aggregated posteriors, of the busiest latents.

    The aggregated posterior of a latent is q(z_j) = mean over n of N(z_j; μ_nj, σ_nj²); its steps
    are its exact mass in each bin, by the normal distribution function, over the bin's width.

    Args:
        codes: Codes of N examples at K β's; at most 2,000 of them, evenly spread, are taken.
        order: The numbers of the latents, the busiest first.
        shown: How many examples have their posteriors kept.

    Returns:
        latents (L), mean and std (K, shown, L), aggregated (K, L, bins), the ends of the bins
        (span), and the number of examples (n).

    Raises:
        ValueError: If the code is a map.
    """
    if codes.mean.ndim > 3:
        raise ValueError(f"the code is a map {codes.mean.shape[2:]}, no single latents")
    latents = order[:_LATENTS]
    keep = np.linspace(0, len(codes) - 1, min(_EXAMPLES, len(codes))).astype(int)
    mean, std = (v[:, :, latents].astype(float) for v in (codes.mean, codes.std))
    most = float(np.ceil(max(4.0, (np.abs(mean) + 3 * std).max())))
    edges = torch.linspace(-most, most, _BINS + 1, dtype=torch.float64)
    aggregated = []
    for of_mean, of_std in zip(mean[:, keep], std[:, keep], strict=True):
        z = (edges - torch.from_numpy(of_mean)[..., None]) / torch.from_numpy(of_std)[..., None]
        mass = torch.special.ndtr(z).mean(0).diff(dim=-1)
        aggregated.append((mass / (edges[1] - edges[0])).numpy())
    return {
        "latents": latents.tolist(),
        "mean": np.round(mean[:, :shown], 4).tolist(),
        "std": np.round(std[:, :shown], 5).tolist(),
        "aggregated": np.round(np.array(aggregated), 4).tolist(),
        "span": most,
        "n": len(keep),
    }
