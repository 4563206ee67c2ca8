"""multibeta: one variational autoencoder, conditioned on log β, in place of a sweep of β-VAEs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multibeta.betas import BetaRange, Draws, parse_betas
    from multibeta.checkpoints import load
    from multibeta.codec import Codec
    from multibeta.curve import Curve
    from multibeta.evaluation import sweep
    from multibeta.module import MultiBetaModule
    from multibeta.multibeta_vae import MultiBetaVAE, wrap
    from multibeta.vae import BetaVAE

__version__ = "0.2.0"

__all__ = [
    "BetaRange",
    "BetaVAE",
    "Codec",
    "Curve",
    "Draws",
    "MultiBetaModule",
    "MultiBetaVAE",
    "load",
    "parse_betas",
    "sweep",
    "wrap",
]

_HOME = {
    "BetaRange": "betas",
    "BetaVAE": "vae",
    "Codec": "codec",
    "Curve": "curve",
    "Draws": "betas",
    "MultiBetaModule": "module",
    "MultiBetaVAE": "multibeta_vae",
    "load": "checkpoints",
    "parse_betas": "betas",
    "sweep": "evaluation",
    "wrap": "multibeta_vae",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds to import."""
    if name not in _HOME:
        raise AttributeError(f"module 'multibeta' has no attribute {name!r}")
    return getattr(importlib.import_module(f"multibeta.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
