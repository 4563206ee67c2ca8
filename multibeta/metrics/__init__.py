"""What is measured, as torchmetrics: n processes give the result of one."""

from multibeta.metrics.active_units import ActiveUnits
from multibeta.metrics.alignment import Alignment
from multibeta.metrics.base import CurveMetric, Evaluated, Source
from multibeta.metrics.clusters import Clusters
from multibeta.metrics.disentanglement import Disentanglement
from multibeta.metrics.extractors import Extractor, Inception
from multibeta.metrics.fid import FID
from multibeta.metrics.information import Information
from multibeta.metrics.latents import Latents
from multibeta.metrics.likelihood import NLL
from multibeta.metrics.predictive import Predictive
from multibeta.metrics.probe import Probe
from multibeta.metrics.psnr import PSNR
from multibeta.metrics.rate_distortion import RateDistortion
from multibeta.metrics.squared_error import SquaredError
from multibeta.metrics.viv import VIV

__all__ = [
    "FID",
    "METRICS",
    "NLL",
    "PSNR",
    "VIV",
    "ActiveUnits",
    "Alignment",
    "Clusters",
    "CurveMetric",
    "Disentanglement",
    "Evaluated",
    "Extractor",
    "Inception",
    "Information",
    "Latents",
    "Predictive",
    "Probe",
    "RateDistortion",
    "Source",
    "SquaredError",
]

METRICS: dict[str, type[CurveMetric]] = {
    "active_units": ActiveUnits,
    "alignment": Alignment,
    "clusters": Clusters,
    "disentanglement": Disentanglement,
    "fid": FID,
    "information": Information,
    "latents": Latents,
    "nll": NLL,
    "predictive": Predictive,
    "probe": Probe,
    "psnr": PSNR,
    "squared_error": SquaredError,
    "viv": VIV,
}
"""What a curve can measure beside rate and distortion."""
