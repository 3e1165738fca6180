"""The learning rate finder."""

from __future__ import annotations

import numpy as np
import pytest

from ensemble.training.engine.lr_finder import DEFAULT_RATE, FALLBACK, VALLEY, knee_of, suggest_knee, suggest_valley


def test_lr_finder_falls_back_on_a_short_curve() -> None:
    curve = suggest_valley([1e-7] * 12, [2.0] * 12)
    assert curve.suggestion == FALLBACK
    assert "usable steps" in curve.reason


def test_lr_finder_suggests_inside_the_valley() -> None:
    rates = list(np.geomspace(1e-7, 10, VALLEY.steps))
    losses = [2.3 - 2 * np.exp(-((np.log10(rate) + 1.5) ** 2)) for rate in rates]
    assert 1e-5 < suggest_valley(rates, losses).suggestion < 3e-2


def test_lr_finder_knee_is_where_the_loss_begins_to_rise() -> None:
    noise = np.random.default_rng(0)
    rates = np.geomspace(1e-5, 1e-2, 50)
    for knee in (5e-5, 2e-4, 1e-3):
        for level in (0.02, 0.8, 4.0):
            losses = level + 0.5 * np.maximum(0, np.log(rates / knee)) + noise.normal(0, 0.1, 50)
            result = knee_of(list(rates), list(losses))
            assert result is not None and knee / 2 < result < knee * 2
            suggestion = suggest_knee(list(rates), list(losses)).suggestion
            assert suggestion == pytest.approx(min(result, (result * DEFAULT_RATE) ** 0.5))


def test_lr_finder_of_a_flat_curve_gives_the_default_rate() -> None:
    noise = np.random.default_rng(0)
    rates = list(np.geomspace(1e-5, 1e-2, 50))
    flat = suggest_knee(rates, list(noise.normal(1, 0.3, 50)))
    assert (flat.suggestion, flat.reason) == (
        DEFAULT_RATE,
        "the loss hardly depends on the rate; the usual rate instead",
    )
    assert "ran away" in suggest_knee(rates[:12], [1.0] * 12).reason
    assert suggest_knee(rates[:12], [1.0] * 12, default=0.1).suggestion == 0.1
