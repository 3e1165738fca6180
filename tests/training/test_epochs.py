"""The history of epochs: sums, early stopping, rates by group."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.digit_loaders import digit_loaders
from torch import Tensor, nn
from torch.nn import functional

from ensemble.runs.history import Epoch
from ensemble.training.engine.epochs import best_epoch, should_stop
from ensemble.training.engine.learner import group_rates


def rows(*losses: float | None) -> list[Epoch]:
    return [Epoch(0, i, 1.0, loss, 0.5, 0.5, 1e-3, 1.0) for i, loss in enumerate(losses)]


def test_early_stopping_counts_epochs_since_the_best() -> None:
    assert best_epoch(rows(3, 1, 1, 2)) == 1
    assert not should_stop(rows(3, 1, 2), 2)
    assert should_stop(rows(3, 1, 2, 2), 2)
    assert not should_stop(rows(3, 1, 2, 2, 2), None)
    assert not should_stop([], 1)


def test_learning_rates_differ_by_group_only_when_fine_tuning() -> None:
    assert group_rates(1e-2, 3, 0.01) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert group_rates(1e-2, 3, 1.0) == pytest.approx([1e-2] * 3)


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "batches"), [(None, 43), (7, 9), (41, 43)])
def test_epoch_sums_on_a_gpu_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int | None, batches: int
) -> None:
    from ensemble.core.errors import TrainingFailed
    from ensemble.training.engine import epochs as module
    from ensemble.training.engine.learner import MemberLearner

    def trained() -> tuple[list[Epoch], int]:
        rows: list[Epoch] = []
        seen: list[int] = []

        def loss(logits: Tensor, targets: Tensor) -> Tensor:
            result = functional.cross_entropy(logits, targets)
            return result * math.nan if len(seen) + 1 == broken else result

        dls, _ = digit_loaders(tmp_path, batch_size=25)
        torch.manual_seed(0)
        learner = MemberLearner(dls, nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10)), loss_func=loss)
        history = module.History(0, rows.append, lambda: seen.append(1) if learner.training else None)
        try:
            with learner.no_bar(), learner.no_logging():
                learner.fit(1, 1e-3, cbs=[history])
        except TrainingFailed:
            assert broken is not None
        return rows, len(seen)

    monkeypatch.setattr(module, "CHECK_INTERVAL", 10)
    alone, at_once = trained()
    monkeypatch.setattr(module, "as_number", lambda value: value.as_subclass(Tensor).double())
    there, later = trained()
    if broken is None:
        (first,), (other,) = alone, there
        assert (first.train_loss, first.valid_loss) == (other.train_loss, other.valid_loss)
        assert (first.train_accuracy, first.valid_accuracy) == (other.train_accuracy, other.valid_accuracy)
        assert at_once == batches
    else:
        assert not alone and not there
        assert at_once == broken - 1
    assert later == batches
