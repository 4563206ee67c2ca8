"""Two processes that measure, and train on, every kind of container; see test_ddp."""

import json
import os
import sys

import torch

import tests.loaders
from multibeta import costs
from multibeta.curve import Curve
from multibeta.data import Door
from multibeta.likelihoods import Gaussian
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from tests.helpers import dots, draw_nothing
from tests.loaders import KINDS, SHAPE

TRAINED = ("tensor", "shuffled_loader", "loader_of_a_stream", "datamodule")


def model():
    torch.manual_seed(0)
    return MultiBetaVAE.of(SHAPE, latent_dim=3, network=MLP(width=16), likelihood=Gaussian(0.3))


def measured(kind):
    """Return what a sweep on a kind of container gives; all metrics of one kind."""
    metrics = "all" if kind == "tensor" else {"active_units": {}, "nll": {"samples": 8}}
    curve = model().eval().sweep(KINDS[kind](), "0.01,1", metrics=metrics)
    return {"n": curve.about["n"], "digest": curve.about["fingerprint"], "rows": curve.rows}


def trained(kind, root, **trainer):
    """Return the model after a training on a kind of container."""
    vae, data = model(), KINDS[kind]()
    door = data if kind.startswith("datamodule") else Door(data, data, batch_size=tests.loaders.B)
    vae.fit(door, epochs=2, betas="1", root=root, accelerator="cpu", **trainer)
    return vae


def main(folder):
    """Write what two processes find. The second is forked: the imports are made once."""
    torch.set_num_threads(1)
    draw_nothing()
    Curve.draw_pictures, costs._PAIRS = dots, 2
    second = os.fork()
    rank = 0 if second else 1
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    found_by(rank, folder)
    if second:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]))


def found_by(rank, folder):
    """Write what a process finds."""
    meet = f"file://{folder}/meet"  # not at a port, which another test may take
    torch.distributed.init_process_group("gloo", meet, rank=rank, world_size=2)
    found = {kind: measured(kind) for kind in KINDS}
    (folder / f"measured-{rank}.json").write_text(json.dumps(found))
    for kind in TRAINED:
        vae = trained(kind, folder / kind, strategy="ddp", devices=2)
        torch.save(vae.state_dict(), folder / f"{kind}-{rank}.pt")
    torch.distributed.destroy_process_group()
