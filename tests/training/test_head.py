"""The head that is fitted by regression."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.slow
def test_fitted_head_is_scikit_learns_regression(torch: Any) -> None:
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from ensemble.training.engine.features import Regression

    draw = np.random.default_rng(0)
    targets = draw.integers(0, 3, 300)
    features = (draw.normal(size=(300, 8)) + 0.7 * np.eye(8)[targets]) * [1, 10, 0.1, 1, 1, 1, 1, 1] + 5
    layer = torch.nn.Linear(8, 3)
    regression = Regression(torch.nn.functional.cross_entropy, decay=0.1)
    regression.features = [torch.tensor(features, dtype=torch.float32)]
    regression.targets = [torch.tensor(targets)]
    loss, accuracy = regression.fit(layer)
    scaled = StandardScaler().fit_transform(features)
    theirs = LogisticRegression(C=1 / (0.1 * 300), tol=1e-8, max_iter=1000).fit(scaled, targets)
    with torch.no_grad():
        ours = layer(regression.features[0]).softmax(1).numpy()
    assert np.abs(ours - theirs.predict_proba(scaled)).max() < 2e-3
    assert accuracy == pytest.approx(float((ours.argmax(1) == targets).mean()))
    assert loss == pytest.approx(float(-np.log(ours[np.arange(300), targets]).mean()), abs=1e-4)


@pytest.mark.slow
def test_fitted_head_penalty_follows_the_features(torch: Any) -> None:
    from ensemble.training.engine.features import Regression

    def chosen(signal: float) -> float:
        torch.manual_seed(2)
        targets = torch.arange(200) % 4
        features = torch.randn(200, 64)
        features[:, :4] += signal * torch.nn.functional.one_hot(targets, 4)
        regression = Regression(torch.nn.functional.cross_entropy, [features], [targets])
        regression.fit(torch.nn.Linear(64, 4))
        assert regression.decay is not None
        return regression.decay

    assert chosen(0.0) >= 10 * chosen(8.0)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 5])
def test_fitted_head_with_a_constant_feature_and_two_rows(torch: Any, classes: int) -> None:
    from ensemble.training.engine.features import Regression

    layer = torch.nn.Linear(3, classes)
    features = torch.tensor([[1.0, 7.0, 0.0], [2.0, 7.0, 0.0]])
    Regression(torch.nn.functional.cross_entropy, [features], [torch.tensor([0, 1])]).fit(layer)
    assert torch.isfinite(layer.weight).all() and torch.isfinite(layer.bias).all()
