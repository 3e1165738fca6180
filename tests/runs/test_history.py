"""Histories of trainings: read back, summarised, and what they warn of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.fake_runs import member
from helpers.labelled import point

from ensemble.core.errors import DataError
from ensemble.report.sections.training import training_summary
from ensemble.runs.history import Epoch, history


def test_training_summary_of_a_history() -> None:
    reported = training_summary([point(1, 0.5, 0.6, 1.0), point(2, 0.8, 0.76, 0.5), point(3, 0.97, 0.8, 0.6)])
    assert reported is not None
    assert (reported.epochs, reported.best_train, reported.best_valid, reported.epochs_to_target) == (
        3,
        0.97,
        0.8,
        2,
    )
    assert reported.gap == pytest.approx(0.17) and reported.overfits
    assert reported.lowest_train_loss == pytest.approx(1 - 0.97 / 2)
    calm = training_summary([point(1, 0.5, 0.6, 1.0), point(2, 0.9, 0.7, 0.5)])
    assert calm is not None and calm.overfits is False  # the loss is at its lowest
    assert training_summary([]) is None
    blind = training_summary([point(1, 0.5, None, None)])
    assert (
        blind is not None and (blind.best_valid, blind.gap, blind.overfits, blind.epochs_to_target) == (None,) * 4
    )


def test_history_is_read_back_and_a_broken_one_refused(tmp_path: Path) -> None:
    item = member(tmp_path, "net-00000001", 0)
    assert history(item) == []
    path = item.path / "history.csv"
    header = "stage,epoch,train_loss,valid_loss,train_accuracy,valid_accuracy,lr,seconds\n"
    path.write_text(header + "0,0,1.5,,0.5,,0.1,2.0\n1,0,1.0,0.9,0.6,0.7,0.05,2.5\n")
    assert history(item) == [
        Epoch(0, 0, 1.5, None, 0.5, None, 0.1, 2.0),
        Epoch(1, 0, 1.0, 0.9, 0.6, 0.7, 0.05, 2.5),
    ]
    path.write_text("stage,epoch\n0,0\n")
    with pytest.raises(DataError, match="not a history"):
        history(item)


def epochs(*accuracies: tuple[int, float]) -> list[Any]:
    from ensemble.runs.history import Epoch

    return [
        Epoch(stage, place, 1.0, 1.0, 0.5, accuracy, 0.1, 1.0) for place, (stage, accuracy) in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ([(0, 0.70), (1, 0.60)], "ended at an accuracy of 0.6000, below the 0.7000 of its own frozen head"),
        ([(0, 0.70), (1, 0.69)], None),  # within the noise of 400 rows
        ([(0, 0.70), (1, 0.60), (1, 0.80)], None),
        ([(0, 0.70)], None),
        ([(0, 0.31), (1, 0.32)], "hardly learnt: an accuracy of 0.3200, where always saying"),
        ([(0, 0.50), (1, 0.31)], "below the 0.5000"),
    ],
)
def test_history_of_a_member_that_forgot_or_hardly_learnt_warns(accuracies: Any, said: str | None) -> None:
    from ensemble.runs.history import warnings as found

    lines = found(epochs(*accuracies), [0], 400, 0.3)
    assert (said is None and not lines) or (said is not None and any(said in line for line in lines))


def test_history_without_validation_does_not_warn() -> None:
    from ensemble.runs.history import warnings as found

    assert found([], [0], 400, 0.3) == [] and found(epochs((0, None)), [0], 400, 0.3) == []  # type: ignore[arg-type]
