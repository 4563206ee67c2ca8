"""What multibeta's files hold: a schema for each kind, checked whenever one is read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

__all__ = ["CURVE", "PLAIN", "SAVED", "UNFINISHED", "check"]

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Spec(TypedDict):
    """A class and its arguments."""

    class_path: str
    init_args: dict[str, Any]


class Measured(TypedDict):
    """What a curve says of itself."""

    data: str
    split: str
    likelihood: str
    n: Count
    d: Count
    sigma: Positive | None
    swept: NotRequired[str]
    unit: NotRequired[str | None]
    first: NotRequired[Count | None]
    weights: NotRequired[dict[str, Finite]]
    fingerprint: NotRequired[str]


class OfCurve(TypedDict):
    """The file curve.json: a row a β; None is a number that was not finite."""

    about: Measured
    rows: Annotated[list[dict[str, float | None]], Field(min_length=1)]
    latents: NotRequired[list[dict[str, Any]]]
    sha256: NotRequired[str]


class OfUnfinished(TypedDict):
    """The file curve.unfinished.json: what is measured, and the columns by β."""

    key: str
    betas: dict[str, dict[str, Any]]


class Settings(TypedDict):
    """A model of our networks, or of classes that a path names."""

    shape: list[Count]
    betas: NotRequired[str]
    draws: NotRequired[dict[str, Any] | None]
    latent_dim: NotRequired[Count]
    network: NotRequired[Spec | None]
    likelihood: Spec
    objective: Spec
    posterior: NotRequired[str]
    standardise: NotRequired[bool]


class Wrapped(TypedDict):
    """A model of the user's own networks."""

    betas: str
    conditioning: str
    draws: dict[str, Any]
    likelihood: Spec | str
    objective: Spec | str
    posterior: str | None
    classes: dict[str, str]
    single: bool
    placed: dict[str, Any]


class Seen(TypedDict):
    """The units of x."""

    n: Count
    low: Finite
    high: Finite
    mean: list[Finite]
    std: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Training(TypedDict):
    """The arguments of the training."""

    lr: Positive
    warmup: Annotated[float, Field(ge=0, le=1)]


class OfRun(TypedDict):
    """What a checkpoint says of the run."""

    format: int
    version: str
    data: Spec | None
    examples: NotRequired[str | None]
    units: NotRequired[Seen | None]
    run_seed: int | None
    training: Training | None
    run: dict[str, Any]
    settings: NotRequired[Settings]
    wrapped: NotRequired[Wrapped]


class OfCheckpoint(TypedDict):
    """A checkpoint; the rest of it is Lightning's."""

    multibeta: OfRun
    state_dict: dict[str, Any]
    global_step: Annotated[int, Field(ge=0)]


class OfPlain(TypedDict):
    """A plain VAE at one β, saved alone."""

    kind: str
    format: int
    version: str
    beta: Positive
    unit: Positive
    shape: list[Count]
    latent_shape: Annotated[list[Count], Field(min_length=1)]
    likelihood: Spec | str
    posterior: str | None
    units: Seen | None
    standardised: bool
    channels_last: bool
    settings: dict[str, Any]
    classes: dict[str, str]
    single: bool
    about: dict[str, Any]


SAVED: TypeAdapter[Any] = TypeAdapter(OfCheckpoint)
CURVE: TypeAdapter[Any] = TypeAdapter(OfCurve)
PLAIN: TypeAdapter[Any] = TypeAdapter(OfPlain)
UNFINISHED: TypeAdapter[Any] = TypeAdapter(OfUnfinished)


def check(schema: TypeAdapter[Any], content: Any) -> None:
    """Refuse the content of a file that is not of its kind.

    Raises:
        ValueError: If it is not; the place and the value are named.
    """
    try:
        schema.validate_python(content, strict=True)  # true is no number, "1" is none
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        if first["type"] == "missing":
            raise ValueError(f"there is no {place}") from None
        said = first["msg"].removeprefix("Input ")
        raise ValueError(f"{place} is {first['input']!r:.40}: it {said}") from None
