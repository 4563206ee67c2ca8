"""scvi-tools' own module, wrapped: one for all β's, read by scvi-tools again at one.

    python -m venv cells && cells/bin/pip install . scvi-tools
    cells/bin/python -m benchmarks.case_cells_scvi DATA_ROOT

Blood cells, as in benchmarks.case_cells. The encoder and decoder of ``scvi.module.VAE`` are
wrapped as they are, with scvi-tools' distribution and its dispersion of a gene. At one β the
weights go back into a module of scvi-tools, whose own loss is compared with R and D.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import scvi
import torch
from scvi.distributions import NegativeBinomial as Counts
from scvi.module import VAE
from torch import Tensor, nn

from benchmarks import cases
from benchmarks.case_cells import CASES
from benchmarks.record import is_done, save
from benchmarks.runs import arguments, curve_of
from multibeta.multibeta_vae import MultiBetaVAE

COMMAND = "python -m benchmarks.case_cells_scvi DATA_ROOT"
NAME, BETA, GENES = "case_cells_scvi", 1e-3, 200


class Encoder(nn.Module):
    """The encoder of scvi-tools' module.

    Args:
        module: It.
    """

    def __init__(self, module: VAE) -> None:
        super().__init__()
        self.z_encoder = module.z_encoder

    def forward(self, x: Tensor) -> torch.distributions.Normal:
        """Return q(z|x) of counts (B, G)."""
        return self.z_encoder(x.log1p())[0]


class OfCells(Counts):
    """scvi-tools' negative binomial; it leaves its batch shape empty, and here has one.

    Args:
        mu: Means: (B, G).
        theta: Inverse dispersion: (G,).
    """

    def __init__(self, mu: Tensor, theta: Tensor) -> None:
        super().__init__(mu=mu, theta=theta)
        self._batch_shape = mu.shape


class Decoder(nn.Module):
    """The decoder of scvi-tools' module, with its dispersion of a gene.

    Args:
        module: It.
    """

    def __init__(self, module: VAE) -> None:
        super().__init__()
        self.decoder, self.px_r = module.decoder, module.px_r

    def forward(self, z: Tensor, library: Tensor) -> OfCells:
        """Return p(x|z) for z (B, Z) and library sizes (B,)."""
        batch = torch.zeros(len(z), 1, device=z.device)
        _, _, mean, _ = self.decoder("gene", z, library.log()[:, None], batch)
        return OfCells(mean, self.px_r.exp())


def module() -> VAE:
    """Return scvi-tools' module, all but the likelihood at its defaults."""
    return VAE(n_input=GENES, n_batch=1, gene_likelihood="nb")


def networks() -> tuple[nn.Module, nn.Module]:
    """Return its encoder and decoder."""
    of = module()
    return Encoder(of), Decoder(of)


CASE = replace(
    next(case for case in CASES if case.name == "case_cells_pbmc200"), name=NAME,
    networks=networks,
)  # fmt: skip


@torch.no_grad()
def read_again(vae: MultiBetaVAE, rows: cases.Rows) -> dict[str, Any]:
    """Put the weights at one β into a fresh module of scvi-tools; compare its loss with ours."""
    plain = vae.at_beta(BETA)
    fresh = module().eval()
    fresh.z_encoder.load_state_dict(plain.encoder.z_encoder.state_dict())
    fresh.decoder.load_state_dict(plain.decoder.decoder.state_dict())
    fresh.px_r.copy_(plain.decoder.px_r)
    batch = torch.zeros(len(rows), 1)
    inferred = fresh.inference(rows.x, batch)
    made = fresh.generative(inferred["z"], inferred["library"], batch)
    loss = fresh.loss({"X": rows.x}, inferred, made, kl_weight=BETA)
    terms = plain.elbo_terms(rows.x, **rows.inputs)
    means = inferred["qz"].loc - plain.encode(rows.x).mean
    return {
        "beta": BETA,
        "largest_difference_of_means": float(means.abs().max()),
        "rate_nats": {
            "scvi": float(loss.kl_local["kl_divergence_z"].mean()),
            "multibeta": float(terms.rate_nats.mean()),
        },
        "distortion_nats": {
            "scvi": float(loss.reconstruction_loss["reconstruction_loss"].mean()),
            "multibeta": float(terms.distortion.mean()),
        },
    }


def main() -> None:
    """Train, measure, and let scvi-tools read it."""
    given = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    sets = CASE.sets(given.root)
    cases.run(CASE, sets, COMMAND, None, 0)
    if is_done(NAME):
        return
    vae, _ = cases.trained(CASE, sets, None, 0)
    curve = curve_of(CASE.result(None, 0))
    save(NAME, COMMAND, {"scvi_tools": scvi.__version__, "curve": list(curve.rows),
                         "read_again": read_again(vae, sets["test"])})  # fmt: skip


if __name__ == "__main__":
    main()
