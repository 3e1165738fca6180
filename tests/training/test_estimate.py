"""Estimates of the duration of a training, before it and while it runs."""

from __future__ import annotations

import time

import pytest
from helpers.few_digits import few_digits
from helpers.recipes import TRAIN, VALID, cached_recipe, speednet_recipe

from ensemble.data.digits import digits_dataset
from ensemble.training.jobs.estimate import estimate
from ensemble.training.jobs.speed_probe import Speed


def test_estimate_adds_up_stages_validation_finder_and_views() -> None:
    from ensemble.training.jobs.estimate import estimate
    from ensemble.training.jobs.speed_probe import Speed

    data = digits_dataset()  # 1,078 train, 359 valid, 360 test
    train, valid, test = (len(data.splits[split]) for split in ("train", "valid", "test"))
    speed = Speed(head=200.0, all=100.0, valid=300.0, predict=150.0)
    given = speednet_recipe(epochs=4, frozen_epochs=2, lr=0.1, batch_size=50, valid_every=3)
    result = estimate(given, data, speed)
    images = train // 50 * 50
    assert result.training == pytest.approx(2 * images / 200 + 4 * images / 100 + (1 + 2) * valid / 300)
    assert result.predicting == pytest.approx((valid + test) / 150)
    assert result.seconds == result.training + result.predicting
    auto = estimate(
        speednet_recipe(epochs=4, frozen_epochs=2, lr="auto", batch_size=50, valid_every=3), data, speed
    )
    assert auto.training - result.training == pytest.approx(100 * 50 / 200)
    assert estimate(given.model_copy(update={"tta": "flip-shift"}), data, speed).predicting == pytest.approx(
        6 * result.predicting
    )


def test_estimate_of_cached_features_counts_the_body_once() -> None:
    speed = Speed(head=2.0, all=1.0, valid=4.0, predict=4.0)
    once, every = (
        estimate(cached_recipe(epochs=0, cache_features=cached), few_digits(TRAIN, VALID), speed).training
        for cached in (True, False)
    )
    assert (once, every) == ((TRAIN + VALID) / 4, 3 * (64 / 2 + VALID / 4))


def test_remaining_time_of_many_runs_is_weighted_by_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.training.jobs.estimate import RemainingTime

    class Job:
        kind, parts = "member", ()

        def __init__(self, epochs: int) -> None:
            from ensemble.recipe.resolve import resolved
            from ensemble.recipe.schema import Recipe

            self.recipe = resolved(Recipe(arch="resnet18", weights="none", epochs=epochs))
            self.run = type("R", (), {"complete": False})()

        def all(self) -> list[Job]:
            return [self]

    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    short, long = Job(2), Job(8)
    several = RemainingTime([short, long])  # type: ignore[list-item]
    assert several.left() == ""
    clock[0] = 60
    several.ended(short)  # type: ignore[arg-type]
    assert several.left() == "1 of 2 trained, about 4 min left"
    several.ended(long)  # type: ignore[arg-type]
    assert several.left() == ""
