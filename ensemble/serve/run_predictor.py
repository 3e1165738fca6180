"""A service's model from a run: its networks in torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ensemble.combine.predicting_members import (
    Calibration,
    EnsembleOutput,
    PredictingMember,
    PredictingMembers,
    calibration,
)
from ensemble.core.errors import DataError, one_line
from ensemble.inference.gradcam import grad_cam, why_no_map
from ensemble.inference.model import LoadedEnsemble, load_ensemble
from ensemble.runs.leaderboard import headline
from ensemble.serve.predictor import Facts, HeatMap, Reading, ServedMember, Squares


class RunPredictor:
    """A run's networks. coverage: what its conformal sets are to hold."""

    def __init__(self, loaded: LoadedEnsemble, coverage: float) -> None:
        self.loaded = loaded
        self.facts = _facts(loaded, coverage)
        self.reading = Reading(loaded.squares, loaded.background, loaded.max_pixels)

    def output(self, pixels: Squares) -> EnsembleOutput:
        """What the members with a part in the answer say, and the answer."""
        whole = self.loaded.output(pixels)
        return EnsembleOutput(whole.probs, whole.members[list(self.loaded.predicting.used)])

    def maps(self, pixels: Squares, c: int) -> Sequence[HeatMap]:
        """For each member the mean of its networks' maps."""
        found = self.loaded.predicting
        return [self._map(found.members[j], pixels, found.classes[c]) for j in found.used]

    def _map(self, member: PredictingMember, pixels: Squares, asked: str) -> HeatMap:
        networks = [self.loaded.networks[run.id] for run in member.networks]
        # the folds of a run have one recipe, and so see the same square
        picture = pixels[networks[0].square][0]
        try:
            heats = [
                grad_cam(one.network, one.normalised(picture, self.loaded.device), one.classes.index(asked))[0]
                for one in networks
            ]
        except DataError as error:
            return HeatMap(member.run.id, picture, None, one_line(error))
        return HeatMap(member.run.id, picture, torch.stack(heats).mean(0).numpy())


def load_run(found: PredictingMembers, device: torch.device, coverage: float) -> RunPredictor:
    """The networks of a run's members, ready to answer. Raises DataError where one is not there."""
    return RunPredictor(load_ensemble(found, device), coverage)


def _facts(loaded: LoadedEnsemble, coverage: float) -> Facts:
    found, score = loaded.predicting, headline(loaded.predicting.run)
    sets, why = _sets(found, coverage)
    weighted = found.ensemble is not None and found.ensemble.weights is not None
    return Facts(
        run=found.run.id,
        kind=found.run.kind,
        classes=found.classes,
        members=tuple(
            ServedMember(one.run.id, one.run.arch, float(found.weights[j]) if weighted else None)
            for j, one in enumerate(found.members)
            if j in found.used
        ),
        weights=found.weights[np.array(found.used)],
        rule=None if found.ensemble is None else found.ensemble.rule,
        temperature=None if found.ensemble is None else found.ensemble.temperature,
        medical=loaded.medical,
        score=None if score is None else str(score),
        calibration=sets,
        no_calibration=why,
        no_maps=_no_maps(loaded),
        engine=f"torch {torch.__version__} on {loaded.device}",
    )


def _no_maps(loaded: LoadedEnsemble) -> str:
    """Why no member's networks can be drawn, or nothing where one can."""
    found = loaded.predicting
    shown = [loaded.networks[run.id] for j in found.used for run in found.members[j].networks]
    why = [why_no_map(one.network, one.square.size) for one in shown]
    return why[0] if all(why) else ""


def _sets(found: PredictingMembers, coverage: float) -> tuple[Calibration | None, str]:
    try:
        return calibration(found, coverage), ""
    except DataError:
        return None, "no validation row of this run has a label"
