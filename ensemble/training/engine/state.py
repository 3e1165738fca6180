"""What a training has reached: everything that a checkpoint restores beside the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from fastai.learner import Learner

from ensemble.models.network import Network
from ensemble.runs.history import Epoch
from ensemble.training.engine.checkpoint import Checkpoint, Tensors, copied_state, optimizer_state, random_states
from ensemble.training.engine.epochs import best_epoch
from ensemble.training.methods.averaging import Average
from ensemble.training.methods.samplers import state_of


@dataclass
class TrainingState:
    """rows: the history of all stages.  best: the weights of the best epoch of a stage, if they are kept.

    rates: the learning rate of each stage of gradient steps.  decisions: what else was chosen, for run.json.
    average, scaler: of the current stage.
    """

    keeps_best: bool
    rows: list[Epoch] = field(default_factory=list)
    best: Tensors = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)
    average: Average | None = None
    scaler: torch.amp.GradScaler | None = None

    def restore(self, checkpoint: Checkpoint, network: Network) -> None:
        """Go on from a checkpoint."""
        network.load_state_dict(checkpoint.model)
        self.rows, self.best = list(checkpoint.rows), checkpoint.best

    def of_stage(self, index: int) -> list[Epoch]:
        """The history of a stage."""
        return [row for row in self.rows if row.stage == index]

    def add(self, row: Epoch, network: Network) -> None:
        """Add an epoch to the history; keeps the weights if it is the best of its stage."""
        self.rows.append(row)
        rows = self.of_stage(row.stage)
        if self.keeps_best and best_epoch(rows) == len(rows) - 1:
            self.best = copied_state(network)

    def checkpoint(self, stage: int, epoch: int, learner: Learner) -> Checkpoint:
        """The checkpoint after an epoch."""
        tensors, scalars = optimizer_state(learner.opt)
        loader = learner.dls.train
        return Checkpoint(
            stage=stage,
            epoch=epoch,
            model=learner.model.state_dict(),
            optimizer=tensors,
            scalars=scalars,
            states=random_states(loader.rng),
            rows=tuple(self.rows),
            best=self.best,
            average=self.average.state() if self.average else {},
            sampler=state_of(loader.sampler),
            scaler=self.scaler.state_dict() if self.scaler is not None else {},
        )
