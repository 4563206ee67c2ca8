"""What is measured, as torchmetrics: n processes give the result of one."""

from multibeta.metrics.active_units import ActiveUnits
from multibeta.metrics.alignment import Alignment
from multibeta.metrics.base import CurveMetric, Evaluated, Source
from multibeta.metrics.calibration import Calibration
from multibeta.metrics.disentanglement import Disentanglement
from multibeta.metrics.extractors import EfficientNetLite0, Extractor, Inception
from multibeta.metrics.fid import FID
from multibeta.metrics.frechet import Frechet
from multibeta.metrics.information import Information
from multibeta.metrics.likelihood import NLL
from multibeta.metrics.pairs import SSIM, MultiScaleSSIM, Pairs
from multibeta.metrics.psnr import PSNR
from multibeta.metrics.rate_distortion import RateDistortion
from multibeta.metrics.spectral import LogSpectralDistance
from multibeta.metrics.squared_error import SquaredError

__all__ = [
    "FID",
    "METRICS",
    "NLL",
    "PSNR",
    "SSIM",
    "ActiveUnits",
    "Alignment",
    "Calibration",
    "CurveMetric",
    "Disentanglement",
    "EfficientNetLite0",
    "Evaluated",
    "Extractor",
    "Frechet",
    "Inception",
    "Information",
    "LogSpectralDistance",
    "MultiScaleSSIM",
    "Pairs",
    "RateDistortion",
    "Source",
    "SquaredError",
]

METRICS: dict[str, type[CurveMetric]] = {
    "active_units": ActiveUnits,
    "alignment": Alignment,
    "calibration": Calibration,
    "disentanglement": Disentanglement,
    "fid": FID,
    "frechet": Frechet,
    "information": Information,
    "log_spectral": LogSpectralDistance,
    "ms_ssim": MultiScaleSSIM,
    "nll": NLL,
    "psnr": PSNR,
    "squared_error": SquaredError,
    "ssim": SSIM,
}
"""What a curve can measure beside rate and distortion."""
