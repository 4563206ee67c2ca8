"""Pictures of what was measured, and of what a model makes.

Each function returns the matplotlib Figure. With ``path`` (.png, .pdf, .svg) it is written, too;
without, nothing is. A picture of one axes takes ``ax=``, Axes of yours to draw into; one of
several takes ``figure=``, a Figure or SubFigure of yours. Then ``path`` writes the whole figure.

The colour of β is the same in all pictures: see :func:`multibeta.plots.drawing.beta_colours`.
"""

from multibeta.plots.curves import (
    choice,
    history,
    measured,
    plane,
    rate_distortion,
    scores,
    several,
)
from multibeta.plots.drawing import number, symbol
from multibeta.plots.examples import (
    CHANNELS,
    ffmpeg,
    frames,
    grid,
    over_betas,
    signals,
    strip,
)
from multibeta.plots.posteriors import alignment, codes, latents

__all__ = [
    "CHANNELS",
    "alignment",
    "choice",
    "codes",
    "ffmpeg",
    "frames",
    "grid",
    "history",
    "latents",
    "measured",
    "number",
    "over_betas",
    "plane",
    "rate_distortion",
    "scores",
    "several",
    "signals",
    "strip",
    "symbol",
]
