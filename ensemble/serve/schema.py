"""The JSON of a service, as the types of its OpenAPI description."""

from __future__ import annotations

import math
from dataclasses import asdict

from pydantic import BaseModel, ConfigDict, Field

from ensemble.core import __version__
from ensemble.runs.leaderboard import LIMITS, NOT_MEDICAL
from ensemble.serve.predictor import Facts, Limits, Reading


class _Json(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(_Json):
    """Why a request is not answered, in one line."""

    error: str


class MemberSaid(_Json):
    """What one member says."""

    member: str
    label: str
    probability: float
    probabilities: dict[str, float]


class Prediction(_Json):
    """A line of `ens predict --uncertain --format jsonl`, and what each member says.

    entropy, disagreement: in nats; no disagreement where one member speaks.  set: classes that hold the true one as
    often as `/model` says, the most probable first; null where nothing could be calibrated.
    """

    image: str
    label: str
    probability: float
    probabilities: dict[str, float]
    entropy: float
    disagreement: float | None
    set: list[str] | None
    members: list[MemberSaid]


class Unreadable(_Json):
    """An image of a request whose others are predicted, and why it is not."""

    image: str
    error: str


class Predictions(_Json):
    """In the order of the files; those that cannot be read are left out and named."""

    run: str
    predictions: list[Prediction]
    unreadable: list[Unreadable]


class Heat(_Json):
    """picture: a `data:` URI of what the member sees under where it looks, or null, and why."""

    member: str
    picture: str | None
    why: str


class Explanation(_Json):
    """Grad-CAM of each member for one class."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    run: str
    image: str
    asked: str = Field(alias="class")
    maps: list[Heat]


class Health(_Json):
    """waiting: requests that are being answered."""

    status: str
    run: str
    waiting: int


class Sets(_Json):
    """coverage: of the conformal sets.  rows: they were calibrated on.  measured: on random halves of them."""

    coverage: float
    rows: int
    measured: float | None
    says: str


class MemberFacts(_Json):
    """weight: null where the rule has none for each member."""

    id: str
    arch: str
    weight: float | None


class Model(_Json):
    """What is known of the model, and what the service takes on."""

    run: str
    kind: str
    classes: list[str]
    members: list[MemberFacts]
    rule: str | None
    temperature: float | None
    score: str | None
    limitations: str
    medical: bool
    notice: str | None
    sets: Sets | None
    why_no_sets: str
    gradcam: bool
    why_no_gradcam: str
    limits: dict[str, int | float]
    engine: str
    version: str


def model_facts(facts: Facts, limits: Limits, reading: Reading) -> Model:
    """The response of `/model`. reading: how files are read, with the smaller limit of pixels."""
    return Model(
        run=facts.run,
        kind=facts.kind,
        classes=list(facts.classes),
        members=[MemberFacts(**vars(member)) for member in facts.members],
        rule=facts.rule,
        temperature=facts.temperature,
        score=facts.score and str(facts.score),
        limitations=LIMITS,
        medical=facts.medical,
        notice=" ".join(NOT_MEDICAL) if facts.medical else None,
        sets=_sets(facts),
        why_no_sets=facts.no_calibration,
        gradcam=not facts.no_maps,
        why_no_gradcam=facts.no_maps,
        limits=asdict(limits) | {"pixels": reading.max_pixels},
        engine=facts.engine,
        version=__version__,
    )


def _sets(facts: Facts) -> Sets | None:
    calibration = facts.calibration
    if calibration is None:
        return None
    measured = None if math.isnan(calibration.measured) else calibration.measured
    return Sets(
        coverage=calibration.sets.coverage, rows=calibration.sets.rows, measured=measured, says=str(calibration)
    )
