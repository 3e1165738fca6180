"""Schedules of learning rates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ensemble.runs.history import Epoch
from ensemble.training.engine.epochs import plateaus
from ensemble.training.methods.schedules import StageSettings, schedules


def row(epoch: int, loss: float) -> Epoch:
    return Epoch(0, epoch, 1.0, loss, 0.5, 0.5, 0.1, 1.0)


@pytest.mark.parametrize("epochs", [1, 6, 7, 8, 15, 30])
@pytest.mark.parametrize("batches", [1, 3, 7, 100])
def test_schedule_step_is_torchs(epochs: int, batches: int) -> None:
    rates = schedules.get("step")(StageSettings(np.array([1.0]), epochs=epochs))["lr"]
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7)
    for epoch in range(epochs):
        for done in range(batches):
            progress = epoch / epochs + done / batches / epochs  # as fastai's pct_train adds up
            assert float(rates(progress)[0]) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


@given(st.lists(st.integers(0, 6), max_size=25), st.integers(0, 4))
def test_schedule_plateau_is_torchs(losses_: list[int], patience: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=patience, threshold=0.0, eps=0.0)
    rows: list[Epoch] = []
    rates = schedules.get("plateau")(StageSettings(np.array([1.0]), patience=patience, rows=lambda: rows))["lr"]
    for epoch, loss in enumerate(losses_):
        rows.append(row(epoch, float(loss)))
        theirs.step(float(loss))
        assert float(rates(0.0)[0]) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
    assert plateaus(rows, 99) == 0


def test_schedule_cosine_falls_to_zero() -> None:
    rates = schedules.get("cosine")(StageSettings(np.array([2.0])))["lr"]
    assert [float(rates(place)[0]) for place in (0.0, 0.5, 1.0)] == pytest.approx([2.0, 1.0, 0.0])


def test_schedule_linear_falls_to_zero() -> None:
    rate = schedules.get("linear")(StageSettings(np.array([2.0])))["lr"]
    assert [float(rate(place)[0]) for place in (0, 0.25, 1)] == pytest.approx([2.0, 1.5, 0.0])


def test_schedule_triangle_starts_peaks_and_ends() -> None:
    rate = schedules.get("triangle")(StageSettings(np.array([2.0])))["lr"]
    assert [float(rate(place)[0]) for place in (0, 0.23, 1)] == pytest.approx([0.4, 2.0, 0.14])
    assert [float(rate(place)[0]) for place in (0.115, 0.615)] == pytest.approx([1.2, 1.07])


def test_schedule_one_cycle_rises_and_falls() -> None:
    lr = schedules.get("one-cycle")(StageSettings(np.array([1.0])))["lr"]
    assert lr(0.0) == pytest.approx([1 / 25])
    assert lr(0.3) == pytest.approx([1.0])
    assert lr(1.0) == pytest.approx([1e-5])
