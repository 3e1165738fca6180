"""A score and its interval: what is printed, and what is read back."""

from __future__ import annotations

import math

import pytest

from ensemble.core.estimate import Estimate
from ensemble.runs.leaderboard import Headline
from ensemble.stats.intervals import Difference


@pytest.mark.parametrize("low", [None, math.nan])
def test_bounds_that_are_not_known_are_not_printed(low: float | None) -> None:
    unknown = Estimate(0.5, low, low)
    assert (str(unknown), unknown.bounds, unknown.interval(), float(unknown)) == ("0.5000", "", "", 0.5)


def test_an_interval_has_the_digits_and_the_unit_that_are_asked_for() -> None:
    known = Estimate(0.5, -0.25, 0.75)
    assert str(known) == "0.5000 (95 % interval -0.2500 to 0.7500)"
    assert known.interval("+.2f") == "95 % interval -0.25 to +0.75"
    assert known.interval(".1f", 100) == "95 % interval -25.0 to 75.0"
    assert Estimate.of({"value": None, "low": None, "high": None, "later": 1}).bounds == ""


def test_a_headline_is_read_as_it_was_written() -> None:
    score = Headline(0.9, 0.8, 0.95, metric="accuracy", rows=60, origin="of net-1, before the refit")
    assert list(score.facts()) == ["metric", "value", "low", "high", "rows", "of"]
    assert Headline.read({**score.facts(), "later": 1}) == score
    assert str(score) == (
        "accuracy 0.9000 (95 % interval 0.8000 to 0.9500) on 60 validation rows, of net-1, before the refit"
    )


def test_a_difference_turned_round_has_its_bounds_exchanged() -> None:
    gap = Difference(0.0, -0.1, 0.3, 0.05)
    assert gap.opposite() == Difference(0.0, -0.3, 0.1, 0.05) and math.copysign(1, gap.opposite().value) == 1
    assert list(gap.facts()) == ["value", "se", "low", "high"]
    assert Difference(0.2).interval() == "" and isinstance(gap, Estimate)
