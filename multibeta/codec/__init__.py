"""Real bits: a model as a codec, whose rate is chosen after training."""

from multibeta.codec.codec import Codec, Decoded
from multibeta.codec.container import cut

__all__ = ["Codec", "Decoded", "cut"]
