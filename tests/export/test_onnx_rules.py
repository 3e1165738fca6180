"""Every rule as an ONNX graph computes what the rule computes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.rules import QUICK_RULES

from ensemble.combine.calibration import fit_temperature
from ensemble.combine.fit import applied
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError


def rows(m: int, n: int, k: int, seed: int, sharp: float = 1.0) -> np.ndarray:
    """float32 (m, n, k): members of some skill; the sharper, the surer, to exact zeros and ones."""
    random = np.random.default_rng(seed)
    truth = 3 * np.eye(k)[np.arange(n) % k]
    logits = sharp * (truth + random.normal(size=(m, n, k)) * np.linspace(1, 4, m)[:, None, None])
    logits -= logits.max(axis=2, keepdims=True)
    return (np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("rule", QUICK_RULES)
@pytest.mark.parametrize(("m", "k", "sharp"), [(1, 2, 1.0), (3, 5, 1.0), (4, 3, 8.0), (3, 3, 60.0)])
def test_onnx_rule_is_the_rule(rule: str, m: int, k: int, sharp: float) -> None:
    import torch

    from ensemble.export.rules import Combined

    fit, new = rows(m, 300, k, 0, sharp), rows(m, 500, k, 1, sharp)
    targets = np.arange(300) % k
    entry = rules.get(rule)
    params = entry.fit(fit, targets)
    for temperature in (None, fit_temperature(entry.apply(params, fit), targets), 0.05, 20.0):
        used = [j for j, share in enumerate(entry.shares(params)) if share.any()]
        graph = Combined(rule, params, temperature, used)
        got = graph(torch.from_numpy(new[used]).transpose(0, 1)).numpy()
        expected = applied(entry, params, temperature, new)
        assert got.dtype == np.float32 and got.shape == (500, k)
        # the last digit of a float32 logarithm counts: twenty times with the lowest temperature, more in a table
        assert np.abs(got - expected).max() < (1e-4 if rule == "rank" else 1e-6)


def test_every_rule_has_an_onnx_graph() -> None:
    from ensemble.export.rules import Combined, exportable

    assert set(filter(exportable, rules.names())) == set(rules.names()) - {"auto"} == set(QUICK_RULES)
    with pytest.raises(DataError, match="'median' cannot be exported"):
        Combined("median", {}, None, [0])
