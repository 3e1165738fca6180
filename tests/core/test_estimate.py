"""Durations and estimates as text."""

from __future__ import annotations

import pytest

import ensemble as ens


def test_estimate_prints_short_numbers() -> None:
    assert str(ens.Estimate(0.9512, 0.9441, 0.9567)) == "0.9512 (95 % interval 0.9441 to 0.9567)"
    assert str(ens.Estimate(0.5)) == "0.5000"
    assert float(ens.Estimate(0.25)) == 0.25
    assert repr(ens.Estimate(0.5, 0.25, None)) == "Estimate(value=0.5000, low=0.2500, high=None)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.2, "3 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (5460, "1 h 31 min")]
)
def test_duration_as_text(seconds: float, text: str) -> None:
    from ensemble.training.jobs.estimate import format_duration

    assert format_duration(seconds) == text
