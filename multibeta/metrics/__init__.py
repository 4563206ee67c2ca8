"""What is measured, as torchmetrics: n processes give the result of one."""

from multibeta.metrics.active_units import ActiveUnits
from multibeta.metrics.alignment import Alignment
from multibeta.metrics.base import CurveMetric, Evaluated, Source
from multibeta.metrics.bits import Bits
from multibeta.metrics.calibration import Calibration
from multibeta.metrics.clusters import Clusters
from multibeta.metrics.disentanglement import Disentanglement
from multibeta.metrics.extractors import EfficientNetLite0, Extractor, Inception
from multibeta.metrics.fid import FID
from multibeta.metrics.frechet import Frechet
from multibeta.metrics.information import Information
from multibeta.metrics.latents import Latents
from multibeta.metrics.likelihood import NLL
from multibeta.metrics.pairs import SSIM, MultiScaleSSIM, Pairs
from multibeta.metrics.predictive import Predictive
from multibeta.metrics.probe import Probe
from multibeta.metrics.psnr import PSNR
from multibeta.metrics.rate_distortion import RateDistortion
from multibeta.metrics.spectral import LogSpectralDistance
from multibeta.metrics.squared_error import SquaredError
from multibeta.metrics.viv import VIV

__all__ = [
    "FID",
    "METRICS",
    "NLL",
    "PSNR",
    "SSIM",
    "VIV",
    "ActiveUnits",
    "Alignment",
    "Bits",
    "Calibration",
    "Clusters",
    "CurveMetric",
    "Disentanglement",
    "EfficientNetLite0",
    "Evaluated",
    "Extractor",
    "Frechet",
    "Inception",
    "Information",
    "Latents",
    "LogSpectralDistance",
    "MultiScaleSSIM",
    "Pairs",
    "Predictive",
    "Probe",
    "RateDistortion",
    "Source",
    "SquaredError",
]

METRICS: dict[str, type[CurveMetric]] = {
    "active_units": ActiveUnits,
    "alignment": Alignment,
    "bits": Bits,
    "calibration": Calibration,
    "clusters": Clusters,
    "disentanglement": Disentanglement,
    "fid": FID,
    "frechet": Frechet,
    "information": Information,
    "latents": Latents,
    "log_spectral": LogSpectralDistance,
    "ms_ssim": MultiScaleSSIM,
    "nll": NLL,
    "predictive": Predictive,
    "probe": Probe,
    "psnr": PSNR,
    "squared_error": SquaredError,
    "ssim": SSIM,
    "viv": VIV,
}
"""What a curve can measure beside rate and distortion."""
