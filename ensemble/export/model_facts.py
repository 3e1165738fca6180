"""The properties of a model that an export records, and a service shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.core.predictions import Wide
from ensemble.runs.leaderboard import Headline, headline

if TYPE_CHECKING:
    from ensemble.inference.model import LoadedEnsemble


@dataclass(frozen=True)
class ServedMember:
    """A member that contributes to the output. weight: None where the rule has no weight per member."""

    id: str
    arch: str
    weight: float | None


@dataclass(frozen=True)
class ModelFacts:
    """The properties of a model, which are those of its run.

    members: the m members of its outputs.  weights: float64 (m,), for their disagreement.  score: None where no
    validation row has a label.
    """

    run: str
    kind: str
    classes: tuple[str, ...]
    members: tuple[ServedMember, ...]
    weights: Wide
    rule: str | None
    temperature: float | None
    medical: bool
    score: Headline | None

    @classmethod
    def of(cls, loaded: LoadedEnsemble) -> ModelFacts:
        """The properties of loaded networks."""
        predicting, ensemble = loaded.predicting, loaded.predicting.ensemble
        weighted = ensemble is not None and ensemble.weights is not None
        members = [(predicting.members[j].run, float(predicting.weights[j])) for j in predicting.used]
        return cls(
            run=predicting.run.id,
            kind=predicting.run.kind,
            classes=predicting.classes,
            members=tuple(ServedMember(run.id, run.arch, weight if weighted else None) for run, weight in members),
            weights=predicting.weights[list(predicting.used)],
            rule=None if ensemble is None else ensemble.rule,
            temperature=None if ensemble is None else ensemble.temperature,
            medical=loaded.medical,
            score=headline(predicting.run),
        )

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> ModelFacts:
        """From an export's config.json. Raises KeyError, TypeError or ValueError where it is not as written."""
        members = tuple(ServedMember(entry["id"], entry["arch"], entry["weight"]) for entry in config["members"])
        score = config.get("score")
        return cls(
            run=str(config["run"]),
            kind=str(config["kind"]),
            classes=tuple(config["classes"]),
            members=members,
            # older exports have none
            weights=np.array(config.get("weights") or [1 / len(members)] * len(members), np.float64),
            rule=config["rule"],
            temperature=config["temperature"],
            medical=bool(config["medical"]),
            score=Headline.read(score) if score else None,
        )
