"""multibeta: one variational autoencoder, conditioned on log β, in place of a sweep of β-VAEs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multibeta.betas import BetaRange, parse_betas
    from multibeta.checkpoints import load
    from multibeta.curve import Curve
    from multibeta.evaluation import sweep
    from multibeta.model import MultiBetaVAE
    from multibeta.vae import BetaVAE

__version__ = "0.1.0"

__all__ = ["BetaRange", "BetaVAE", "Curve", "MultiBetaVAE", "load", "parse_betas", "sweep"]

_HOME = {
    "BetaRange": "betas",
    "BetaVAE": "vae",
    "Curve": "curve",
    "MultiBetaVAE": "model",
    "load": "checkpoints",
    "parse_betas": "betas",
    "sweep": "evaluation",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds to import."""
    if name not in _HOME:
        raise AttributeError(f"module 'multibeta' has no attribute {name!r}")
    return getattr(importlib.import_module(f"multibeta.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
