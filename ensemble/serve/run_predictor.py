"""A service's model from a run: its networks in torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ensemble.combine.predicting_members import (
    Calibration,
    EnsembleOutput,
    PredictingMember,
    PredictingMembers,
    calibration,
)
from ensemble.core.errors import DataError, one_line
from ensemble.export.model_facts import ModelFacts
from ensemble.inference.gradcam import grad_cam, why_no_map
from ensemble.inference.model import LoadedEnsemble, load_ensemble
from ensemble.serve.predictor import Facts, HeatMap, Reading, Squares


class RunPredictor:
    """A run's networks. coverage: the nominal coverage of its conformal sets."""

    def __init__(self, loaded: LoadedEnsemble, coverage: float) -> None:
        self.loaded = loaded
        self.facts = _facts(loaded, coverage)
        self.reading = Reading(loaded.squares, loaded.background, loaded.max_pixels)

    def output(self, pixels: Squares) -> EnsembleOutput:
        """The combined output, and those of the members that contribute to it."""
        output = self.loaded.output(pixels)
        return EnsembleOutput(output.probs, output.members[list(self.loaded.predicting.used)])

    def maps(self, pixels: Squares, c: int) -> Sequence[HeatMap]:
        """For each member, the mean of the maps of its networks."""
        predicting = self.loaded.predicting
        return [self._map(predicting.members[j], pixels, predicting.classes[c]) for j in predicting.used]

    def _map(self, member: PredictingMember, pixels: Squares, class_name: str) -> HeatMap:
        networks = [self.loaded.networks[run.id] for run in member.networks]
        # the folds of a run have the same recipe, and so the same square
        picture = pixels[networks[0].square][0]
        try:
            heats = [
                grad_cam(
                    trained.network,
                    trained.normalised(picture, self.loaded.device),
                    trained.classes.index(class_name),
                )[0]
                for trained in networks
            ]
        except DataError as error:
            return HeatMap(member.run.id, picture, None, one_line(error))
        return HeatMap(member.run.id, picture, torch.stack(heats).mean(0).numpy())


def load_run(predicting: PredictingMembers, device: torch.device, coverage: float) -> RunPredictor:
    """The loaded networks of a run's members. Raises DataError where one is missing."""
    return RunPredictor(load_ensemble(predicting, device), coverage)


def _facts(loaded: LoadedEnsemble, coverage: float) -> Facts:
    sets, reason = _sets(loaded.predicting, coverage)
    return Facts(
        **vars(ModelFacts.of(loaded)),
        calibration=sets,
        no_calibration=reason,
        no_maps=_no_maps(loaded),
        engine=f"torch {torch.__version__} on {loaded.device}",
    )


def _no_maps(loaded: LoadedEnsemble) -> str:
    """Why Grad-CAM supports none of the networks, or an empty text where it supports one."""
    predicting = loaded.predicting
    networks = [loaded.networks[run.id] for j in predicting.used for run in predicting.members[j].networks]
    reasons = [why_no_map(trained.network, trained.square.size) for trained in networks]
    return reasons[0] if all(reasons) else ""


def _sets(predicting: PredictingMembers, coverage: float) -> tuple[Calibration | None, str]:
    try:
        return calibration(predicting, coverage), ""
    except DataError:
        return None, "no validation row of this run has a label"
