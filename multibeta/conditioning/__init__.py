"""β in anybody's network: which layers follow it, how c reaches them, and folding it away."""

from multibeta.conditioning.embedding import Conditioning, Embedding, Kind, ramps
from multibeta.conditioning.layers import FiLM, Gate, Hyper
from multibeta.conditioning.source import Call, Source, may_checkpoint
from multibeta.conditioning.surgery import (
    Site,
    condition,
    conditions_of,
    copied,
    evaluating,
    fold,
    places,
    reasons,
    still,
    table,
    under,
    unwrap,
)

__all__ = [
    "Call",
    "Conditioning",
    "Embedding",
    "FiLM",
    "Gate",
    "Hyper",
    "Kind",
    "Site",
    "Source",
    "condition",
    "conditions_of",
    "copied",
    "evaluating",
    "fold",
    "may_checkpoint",
    "places",
    "ramps",
    "reasons",
    "still",
    "table",
    "under",
    "unwrap",
]
