"""Files that were written once, and are read by every version: the same bytes come out.

They are made again, where the format has changed on purpose, by ``python -m
tests.test_codec_golden``.
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch

import multibeta
from multibeta.codec import Codec, cut
from multibeta.data import Digits
from multibeta.likelihoods import Gaussian
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP

pytest.importorskip("constriction")

FOLDER = Path(__file__).parent / "data"
DIGESTS = FOLDER / "codec.json"


def by_formula():
    """Return a model for tables whose weights no generator of random numbers has drawn."""
    model = MultiBetaVAE.of((6,), "0.01:1", network=MLP(8, 1), latent_dim=3, likelihood=Gaussian())
    with torch.no_grad():
        for scale, weight in enumerate(model.parameters(), 1):
            steps = torch.arange(weight.numel(), dtype=torch.float64).reshape(weight.shape)
            weight.copy_(torch.sin(scale + 1.7 * steps) / weight.shape[-1] ** 0.5)
    return model


def files():
    """Return the content of each file."""
    shipped, table = Codec(multibeta.load("digits")), Codec(by_formula())
    x = Digits().load()["test"][:20] / 255
    progressive = shipped.encode(x, progressive=True)
    return {
        "digits-lossy.mb": shipped.encode(x, 0.1),
        "digits-progressive.mb": progressive,
        "digits-cut.mb": cut(progressive, 70),
        "digit-lossy.mb": shipped.encode(x[:1], 0.1),
        "digit-progressive.mb": shipped.encode(x[:1], progressive=True),
        "table-lossy.mb": table.encode(torch.sin(torch.arange(120.0) ** 2).reshape(20, 6), 0.05),
    }


def digest(name):
    """Return the SHA-256 of what a file decodes to: 8 bits of pictures, float32 of tables."""
    data = (FOLDER / name).read_bytes()
    if name.startswith("table"):
        x = Codec(by_formula()).decode(data).numpy().astype("<f4")
    else:
        x = (Codec(multibeta.load("digits")).decode(data) * 255).round().to(torch.uint8).numpy()
    return hashlib.sha256(x.tobytes()).hexdigest()


def write():
    """Write all files, and what they decode to."""
    FOLDER.mkdir(exist_ok=True)
    for name, data in files().items():
        (FOLDER / name).write_bytes(data)
    found = {name: digest(name) for name in files()}
    DIGESTS.write_text(json.dumps(found, indent=1) + "\n")


GOLDEN = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_file(name):
    assert digest(name) == GOLDEN[name]


def test_there_are_golden_files():
    assert {path.name for path in FOLDER.glob("*.mb")} == GOLDEN.keys() == files().keys()
    assert len(set(GOLDEN.values())) == len(GOLDEN)


if __name__ == "__main__":
    torch.set_num_threads(1)
    write()
