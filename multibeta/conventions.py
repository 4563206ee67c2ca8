"""What other code means by its KL weight: its loss as sums, the β here, and what that bounds.

A loss is a·E + b·R up to a constant, E being an error summed over the d values of an example and R
the KL summed over its latents, in nats. Where E is −log p(x|z) up to a constant, β = b/a.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multibeta.options import nearest
from multibeta.tables import keyed

__all__ = ["CONVENTIONS", "ERRORS", "Convention", "Error", "Weight", "convert", "named", "table"]


@dataclass(frozen=True)
class Error:
    """A summed error, and the likelihood whose D it is, up to a constant.

    Attributes:
        symbol: How it is written.
        likelihood: The class of :mod:`multibeta.likelihoods`; "" where there is none.
        sigma: The σ at which D is this error; None where the likelihood has no σ.
        power: D at another σ is this error times (sigma/σ)^power.
    """

    symbol: str
    likelihood: str
    sigma: float | None = None
    power: int = 0


ERRORS = {
    "mse": Error("Σ(x − x̂)²", "Gaussian", math.sqrt(0.5), 2),
    "l1": Error("Σ|x − x̂|", "Laplace", math.sqrt(2), 1),
    "l1+lpips": Error("Σ(|x − x̂| + LPIPS)", "Laplace", math.sqrt(2), 1),
    "bce": Error("ΣBCE", "Bernoulli"),
    "zinb": Error("Σ−log p", "ZeroInflatedNegativeBinomial"),
    "nb": Error("Σ−log p", "NegativeBinomial"),
    "poisson": Error("Σ−log p", "Poisson"),
    "distance": Error("distance", ""),
}
"""Name → error: what ``loss`` may be."""


@dataclass(frozen=True)
class Convention:
    """How some code weighs its KL.

    Its loss is factor·E/per + w·kl·R/kl_per, the mean over a batch, w being its weight.

    Attributes:
        written: The loss, as that code writes it; {error} stands for the error's function.
        source: Repository, file and commit that were read.
        errors: The errors it offers, the default first: name in :data:`ERRORS` → factor.
        shape: What its shape is called: how many values E sums over.
        per: What E is divided by: "" nothing, "d" the number of values, "C" the last of the shape.
        kl: The factor of R.
        kl_per: What R is divided by: "" nothing, "d", "Z" the number of latents.
        rate: What R is counted for: an example or a frame.
        default: The weight that it ships with, if it ships with one.
        range: The values of its x, where these are known.
        capacity: Whether w weighs the distance of R from a capacity C, in the place of R.
        paper: Where it was published.
        note: What else is to be known, in sentences.
    """

    written: str
    source: str
    errors: Mapping[str, float]
    shape: str = "C,H,W"
    per: str = ""
    kl: float = 1.0
    kl_per: str = ""
    rate: str = "example"
    default: float | None = None
    range: tuple[float, float] | None = None
    capacity: bool = False
    paper: str = ""
    note: str = ""

    @property
    def read_in(self) -> str:
        """The source, and the paper where there is one."""
        return f"{self.source}; {self.paper}" if self.paper else self.source

    def formula(self, error: str) -> str:
        """Return β for one of its errors, as a formula: "w·d", "w/255"; "" where there is none.

        Args:
            error: The name of the error.
        """
        if not ERRORS[error].likelihood:
            return ""
        per, kl_per = (self.per, self.kl_per) if self.per != self.kl_per else ("", "")
        kl, factor = ("" if x == 1 else f"{x:g}" for x in (self.kl, self.errors[error]))
        above, below = ("·".join(filter(None, x)) for x in (("w", kl, per), (factor, kl_per)))
        return f"{above}/{below}" if below else above

    def loss(self, error: str) -> str:
        """Return the loss with one of its errors, as that code writes it.

        Args:
            error: The name of the error.
        """
        return self.written.format(error=_TORCH.get(error, error))


_TORCH = {"mse": "mse_loss", "l1": "l1_loss", "bce": "binary_cross_entropy"}
_LDM = "((x - x_hat).abs() + perceptual_weight * lpips).sum() / B + kl_weight * kl.sum() / B"
_LPIPS = (
    "The LPIPS of an example is added to each of its values: d times LPIPS beside the absolute "
    "errors, so D is that of a Laplace and more. loss l1 is perceptual_weight 0. logvar stays at "
    "its start, 0. Once the discriminator is on, its loss comes on top."
)
_ACT = "l1.mean() + kl_weight * kl.sum(-1).mean()"
_ALL: dict[str, float] = {"mse": 1, "l1": 1, "bce": 1}
_DISVAE = "YannDubs/disentangling-vae, disvae/models/losses.py at f045219"
_RECON: dict[str, float] = {"bce": 1, "mse": 255, "l1": 3}
_REC_DIST = (
    "rec_dist is bernoulli (bce), gaussian (mse, of x times 255, divided by 255) or laplace (l1, "
    "times 3)."
)

CONVENTIONS = {
    "ldm": Convention(
        _LDM,
        "CompVis/latent-diffusion, ldm/modules/losses/contperceptual.py at a506df5",
        {"l1+lpips": 1, "l1": 1},
        default=1e-6,
        range=(-1, 1),
        paper="arXiv 2112.10752",
        note=_LPIPS,
    ),
    "diffusers": Convention(
        "({error}(reduction='none') + perceptual_scale * lpips).sum() / B + "
        "kl_scale * kl.sum() / B",
        "huggingface/diffusers, examples/research_projects/autoencoderkl/train_autoencoderkl.py "
        "at 2e348b8",
        {"mse": 1, "l1": 1},
        default=1e-6,
        range=(-1, 1),
        note="LPIPS is computed without a gradient: it moves what is logged, and no weight. "
        "Once the discriminator is on, its loss comes on top.",
    ),
    "audioldm2": Convention(
        _LDM,
        "haoheliu/AudioLDM-training-finetuning, audioldm_train/losses/contperceptual.py at "
        "702a638",
        {"l1+lpips": 1, "l1": 1},
        shape="1,FRAMES,BINS",
        default=1000,
        paper="arXiv 2308.05734",
        note=f"AudioLDM2's own repository does not train; this is its authors' that does. x is a "
        f"log-mel spectrogram. {_LPIPS}",
    ),
    "rave": Convention(
        "distance + beta_factor * (mean**2 + var - log(var) - 1).sum(1).mean()",
        "acids-ircam/RAVE, rave/blocks.py and rave/model.py at f048ec4",
        {"distance": 1},
        shape="",
        kl=2,
        rate="frame",
        paper="arXiv 2111.05011",
        note="The KL lacks its ½ and is a mean over frames. The distance is that of the bands "
        "and of the whole signal, each a mean over spectra. In the second phase the encoder no "
        "longer learns, and the weight does nothing.",
    ),
    "act": Convention(
        _ACT,
        "tonyzhaozh/act, policy.py at 742c753",
        {"l1": 1},
        shape="CHUNK,DIMS",
        per="d",
        default=10,
        paper="arXiv 2304.13705",
        note="x are actions, each with mean 0 and standard deviation 1. Steps that are padded "
        "add no error but count in d.",
    ),
    "lerobot": Convention(
        _ACT,
        "huggingface/lerobot, src/lerobot/policies/act/modeling_act.py at 7427f31",
        {"l1": 1},
        shape="CHUNK,DIMS",
        per="d",
        default=10,
        paper="arXiv 2304.13705",
        note="The mean is over steps that are not padded: with padding, d is their average "
        "number times the dimensions. Earlier versions count padded steps, as act does.",
    ),
    "torchrl": Convention(
        _ACT,
        "pytorch/rl, torchrl/objectives/act.py at 2ec1a57",
        {"l1": 1},
        shape="CHUNK,DIMS",
        per="d",
        default=10,
        paper="arXiv 2304.13705",
    ),
    "scvi": Convention(
        "(-px.log_prob(x).sum(-1) + kl_weight * kl_z.sum(-1) + kl_l).mean()",
        "scverse/scvi-tools, src/scvi/module/_vae.py at 93dc4fa",
        {"zinb": 1, "nb": 1, "poisson": 1},
        shape="GENES",
        default=1,
        paper="Lopez et al. 2018, doi 10.1038/s41592-018-0229-2",
        note="kl_l, the KL of a learned library size, keeps the weight 1; it is 0 by default.",
    ),
    "cryodrgn": Convention(
        "mse_loss(y_recon, y) + beta * kld / mask.sum()",
        "ml-struct-bio/cryodrgn, cryodrgn/commands/train_vae.py at 5b18c4a",
        {"mse": 1},
        shape="PIXELS_IN_THE_MASK",
        per="d",
        kl_per="d",
        paper="arXiv 1909.05215",
        note="The default weight is 1/zdim. x is a standardised picture in Hartley space. z is "
        "one for a whole tilt series: with T tilts, β is T times this one.",
    ),
    "pytorch-vae": Convention(
        "mse_loss(recons, input) + kld_weight * kl.sum(1).mean()",
        "AntixK/PyTorch-VAE, models/vanilla_vae.py at a6896b9",
        {"mse": 1},
        per="d",
        default=0.00025,
        range=(0, 1),
        note="BetaVAE multiplies kld_weight by its beta: give the product. Validation has the "
        "weight 1.",
    ),
    "disentangling-vae": Convention(
        "reconstruction_loss.sum() / B + beta * kl.sum(1).mean()",
        _DISVAE,
        _RECON,
        default=4,
        range=(0, 1),
        note=_REC_DIST,
    ),
    "burgess": Convention(
        "reconstruction_loss.sum() / B + gamma * (kl.sum(1).mean() - C).abs()",
        _DISVAE,
        _RECON,
        default=100,
        range=(0, 1),
        capacity=True,
        paper="arXiv 1804.03599, equation 8",
        note=f"C grows during the training; give its last value. {_REC_DIST}",
    ),
    "keras": Convention(
        "reduce_sum(binary_crossentropy(data, reconstruction), (1, 2)) + weight * kl.sum(1)",
        "keras-team/keras-io, examples/generative/vae.py at cca4efb",
        {"bce": 1},
        shape="H,W,C",
        per="C",
        range=(0, 1),
        note="binary_crossentropy is a mean over channels. The example has no weight, which is "
        "1.",
    ),
    "sum": Convention(
        "{error}(x_hat, x, reduction='sum') / B + weight * kl.sum(1).mean()",
        "torch.nn.functional, reduction='sum'",
        _ALL,
        note="Where both are summed over the batch too, β is the same.",
    ),
    "sum-mean": Convention(
        "{error}(x_hat, x, reduction='sum') / B + weight * kl.mean()",
        "torch.nn.functional, reduction='sum'",
        _ALL,
        kl_per="Z",
    ),
    "mean": Convention(
        "{error}(x_hat, x) + weight * kl.sum(1).mean()",
        "torch.nn.functional, reduction='mean'",
        _ALL,
        per="d",
    ),
    "mean-mean": Convention(
        "{error}(x_hat, x) + weight * kl.mean()",
        "torch.nn.functional, reduction='mean'",
        _ALL,
        per="d",
        kl_per="Z",
    ),
}  # fmt: skip
"""Name → convention; each was read in the source that it names."""


@dataclass(frozen=True)
class Weight:
    """What a weight of other code is here.

    Attributes:
        convention: The name of the convention.
        weight: The weight w in that code.
        written: The loss, as that code writes it.
        error: The error E: a name in :data:`ERRORS`.
        a: The weight of E in the loss, up to a factor that a and b share.
        b: The weight of R in the loss, up to that factor.
        likelihood: The likelihood whose D is E up to a constant; None where there is none.
        sigma: Its σ, in units of that code's x; None where it has none.
        sigma_01: The same σ for x in [0, 1]; None where the values of that code's x are unknown.
        beta: β with this likelihood and σ; with a capacity, the largest that it can come to. None
            where E is no −log p(x|z).
        rate: What R is counted for: an example or a frame.
        capacity: C, in nats per example.
        max_rate_per_error: What R cannot exceed at the optimum, divided by the mean error per
            value at R = 0; None where the number of values is unknown, or there is a capacity.
        max_rate_nats: What R cannot exceed at the optimum; None where that error is unknown.
        source: Where the loss was read.
        note: What else is to be known.
    """

    convention: str
    weight: float
    written: str
    error: str
    a: float
    b: float
    likelihood: str | None
    sigma: float | None
    sigma_01: float | None
    beta: float | None
    rate: str
    capacity: float | None
    max_rate_per_error: float | None
    max_rate_nats: float | None
    source: str
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers and names, for JSON."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """Return what there is to say, in lines of at most 80 columns."""
        kl = "|R − C|" if self.capacity is not None else "R"
        of = CONVENTIONS[self.convention]
        a, b = ("" if x == 1 else f"{x:.6g}·" for x in (self.a, self.b))
        divided = f", divided by {of.per}" if of.per and of.per == of.kl_per else ""
        said = {
            "as written": self.written,
            "in sums": f"{a}{ERRORS[self.error].symbol} + {b}{kl}{divided}; R in nats per "
            f"{self.rate}",
            "β": self._beta(),
            "bound": self._bound(),
            "note": self.note,
            "source": self.source,
        }
        return "\n".join(keyed(key, words) for key, words in said.items() if words)

    def _beta(self) -> str:
        if self.beta is None:
            return (
                f"none: the {self.error} is no −log p(x|z). A nat per {self.rate} weighs "
                f"{self.b:.6g} in its units"
            )
        most = "at most " if self.capacity is not None else ""
        words = f"{most}{self.beta:,.6g} for {self.likelihood}"
        if self.sigma is None:
            return words
        words += f" with σ = {self.sigma:.6g} in units of that x"
        return words + (f", which is σ = {self.sigma_01:.6g} on [0, 1]" if self.sigma_01 else "")

    def _bound(self) -> str:
        if self.capacity is not None:
            return (
                f"R ≥ {self.capacity:g} nats at the optimum, where the latents can carry them: R "
                "is C, or what it is at that largest β if this is more"
            )
        if self.max_rate_nats is not None:
            return f"R ≤ {self.max_rate_nats:.6g} nats per {self.rate} at the optimum"
        symbol = ERRORS[self.error].symbol
        if self.max_rate_per_error is None:
            factor, options = self.a / self.b, "--shape and --distortion"
        else:
            factor, options = self.max_rate_per_error, "--distortion"
            symbol = symbol.replace("Σ", "mean ")
        return (
            f"R ≤ {factor:.6g} × the {symbol} of the best answer without z, at the optimum; give "
            f"{options} for a number"
        )


def named(name: str) -> Convention:
    """Return a convention.

    Args:
        name: A key of :data:`CONVENTIONS`.

    Raises:
        ValueError: If there is no such.
    """
    if name not in CONVENTIONS:
        raise ValueError(
            f"no convention {name}{nearest(name, CONVENTIONS)}; {', '.join(CONVENTIONS)}"
        )
    return CONVENTIONS[name]


def convert(
    name: str,
    weight: float,
    shape: Sequence[int] | None = None,
    latent: Sequence[int] | None = None,
    *,
    loss: str | None = None,
    sigma: float | None = None,
    distortion: float | None = None,
    capacity: float | None = None,
) -> Weight:
    r"""Return what a KL weight of other code is here.

    .. math:: a E + b R = a (D + βR) + \mathrm{const}, \qquad β = \frac ba
        \left( \frac{σ_E}{σ} \right)^k

    with E the summed error, σ_E the σ at which D is E (√½ and k = 2 for squared errors, √2 and
    k = 1 for absolute ones). As no optimum is worse than R = 0, R ≤ a E(R = 0) / b there.

    Args:
        name: A key of :data:`CONVENTIONS`.
        weight: The weight w in that code.
        shape: That of its x, in its order.
        latent: The shape of its z, where its KL is a mean over latents.
        loss: The error: a key of :data:`ERRORS` that the convention offers; by default its own.
        sigma: The σ of the likelihood, in units of that code's x; by default the one at which D is
            its error up to a constant.
        distortion: The mean error per value at R = 0, such as the mean L1 of the best answer that
            does not depend on x; for a distance, the distance.
        capacity: C of Burgess et al., in nats per example.

    Raises:
        ValueError: If a name is unknown, a number is not finite and above 0, or something that the
            convention needs is missing, or is given and not used.

    Example:
        >>> convert("act", 10, (100, 14)).beta
        14000.0
        >>> convert("act", 10, (100, 14), distortion=0.5).max_rate_nats
        0.05
    """
    of = named(name)
    for option, value in {
        "weight": weight, "sigma": sigma, "distortion": distortion, "capacity": capacity,
    }.items():  # fmt: skip
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{option}={value:g} is not a finite number above 0")
    loss = loss or next(iter(of.errors))
    if loss not in of.errors:
        raise ValueError(
            f"loss={loss} is none of {name}'s{nearest(loss, of.errors)}; {', '.join(of.errors)}"
        )
    error = ERRORS[loss]
    if sigma is not None and error.sigma is None:
        raise ValueError(f"{name} has no σ with {loss}; leave --sigma out")
    if capacity is not None and not of.capacity:
        raise ValueError(f"{name} has no capacity C; leave --capacity out, or take burgess")
    if of.capacity and capacity is None:
        raise ValueError(f"{name} needs --capacity C, in nats per example")
    if of.capacity and distortion is not None:
        raise ValueError(f"{name} has a bound from below, C; leave --distortion out")
    of_x, of_z = _sizes(name, of, shape, latent, distortion is not None and loss != "distance")
    a, b = of.errors[loss], weight * of.kl
    if of.per != of.kl_per:  # else they cancel
        size = {"": 1, "d": math.prod(of_x), "C": of_x[-1] if of_x else 1, "Z": math.prod(of_z)}
        a, b = a / size[of.per], b / size[of.kl_per]
    beta = b / a if error.likelihood else None
    if error.sigma is not None:
        sigma = error.sigma if sigma is None else sigma
        beta = b / a * (error.sigma / sigma) ** error.power
    on_01 = None if sigma is None or of.range is None else sigma / (of.range[1] - of.range[0])
    counted = not of.capacity and (bool(of_x) or not of.shape)
    per_error = a * math.prod(of_x) / b if counted else None
    most = None if distortion is None or per_error is None else per_error * distortion
    return Weight(
        name, weight, of.loss(loss), loss, a, b, error.likelihood or None, sigma, on_01, beta,
        of.rate, capacity, per_error, most, of.read_in, of.note,
    )  # fmt: skip


def _sizes(
    name: str,
    of: Convention,
    shape: Sequence[int] | None,
    latent: Sequence[int] | None,
    summed: bool,
) -> tuple[Sequence[int], Sequence[int]]:
    """Return the shapes of x and z, or refuse them."""
    for option, given in {"shape": shape, "latent": latent}.items():
        if given is not None and (not given or min(given) < 1):
            text = ",".join(map(str, given))
            raise ValueError(f"{option}={text} is no shape; write whole numbers from 1 up")
    if shape is not None and not of.shape:
        raise ValueError(f"{name} does not depend on the shape of x; leave --shape out")
    if latent is not None and of.kl_per != "Z":
        raise ValueError(f"{name} sums its KL over latents; leave --latent out")
    if latent is None and of.kl_per == "Z":
        raise ValueError(f"{name} averages its KL over latents; give --latent, such as 4,32,32")
    needed = of.per != of.kl_per and of.per
    if shape is None and of.shape and (needed or summed):
        raise ValueError(f"{name} needs --shape {of.shape}")
    if shape is not None and of.per == "C" and len(shape) < of.shape.count(",") + 1:
        raise ValueError(f"{name} has x of {of.shape}; give --shape with all of them")
    return shape or (), latent or ()


def table() -> str:
    """Return all conventions as a table in Markdown: the loss, β and its likelihood, the source.

    β is for the σ at which D is the error up to a constant. w is the weight, d the number of
    values, C of channels, Z of latents.
    """
    head = ["`--from`", "the loss, as written there", "β here", "w there", "read in"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, of in CONVENTIONS.items():
        betas = [
            f"{'≤ ' * of.capacity}{of.formula(loss)} ({_likelihood(loss)})"
            if of.formula(loss)
            else f"none; {of.kl:g}·w weighs a nat per {of.rate}"
            for loss in of.errors
        ]
        default = "" if of.default is None else f"{of.default:g}"
        written = of.loss(next(iter(of.errors)))
        cells = [f"`{name}`", f"`{written}`", "; ".join(betas), default, of.read_in]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _likelihood(name: str) -> str:
    at = {"mse": ", σ² = ½", "l1": ", scale 1", "l1+lpips": ", scale 1, and LPIPS"}
    return f"{ERRORS[name].likelihood}{at.get(name, '')}"
