"""Combining rules on arrays alone, as a scikit-learn estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import DataError

if TYPE_CHECKING:
    from ensemble.core.predictions import Floats, Wide


class Combiner:
    """m members' probabilities to one, by any combining rule.

    rule: accuracy, uniform, log-odds, logit-mean, rank, convex, greedy, per-class, stack or auto.
    metric: what greedy and auto optimise.
    calibrate: whether a temperature is fitted after averaging; None leaves it to the rule.

    Unlike scikit-learn's VotingClassifier it takes predictions, not estimators; its `score` on the rows that it was
    fitted on flatters it, which `ensemble.Project.combine` measures by cross-fitting.

    >>> import numpy as np
    >>> probs = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.6, 0.4], [0.2, 0.8]]])
    >>> Combiner(rule="uniform").fit(probs, [0, 1]).predict_proba(probs)
    array([[0.75, 0.25],
           [0.3 , 0.7 ]])
    """

    def __init__(self, rule: str = "accuracy", metric: str = "accuracy", calibrate: bool | None = None) -> None:
        self.rule, self.metric, self.calibrate = rule, metric, calibrate

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"rule": self.rule, "metric": self.metric, "calibrate": self.calibrate}

    def set_params(self, **params: Any) -> Combiner:
        """Set arguments of the constructor. Raises ValueError for others."""
        for name, value in params.items():
            if name not in self.get_params():
                raise ValueError(f"unknown parameter {name!r}; known: {', '.join(self.get_params())}")
            setattr(self, name, value)
        return self

    def fit(self, probs: npt.ArrayLike, y: npt.ArrayLike) -> Combiner:
        """Fit the rule.

        probs: (m, n, k), rows of probabilities. y: int (n,), class indices; -1 where unknown, and then left out.
        Raises DataError for other shapes, RecipeError for a rule or metric that does not exist.
        """
        from ensemble.combine.arrays import one_thread
        from ensemble.combine.calibration import fit_temperature
        from ensemble.combine.rules import rules
        from ensemble.metrics import find

        stack, targets = _checked(probs), np.asarray(y)
        if targets.shape != (stack.shape[1],) or targets.dtype.kind not in "iu":
            raise DataError(f"y is {targets.dtype} {targets.shape}, integers ({stack.shape[1]},) expected")
        if targets.max(initial=-1) >= stack.shape[2] or targets.min(initial=0) < -1:
            raise DataError(
                f"y has values outside -1 to {stack.shape[2] - 1}, the {stack.shape[2]} classes of probs"
            )
        known = targets >= 0
        if not known.any():
            raise DataError("y has no known target; at least one expected")
        stack, targets = stack[:, known], targets[known].astype(np.int64)
        rule, metric = rules.get(self.rule), find(self.metric, ())
        with one_thread(self.rule):
            self.params_ = dict(rule.fit(stack, targets, metric))
            wants = rule.calibrates if self.calibrate is None else self.calibrate
            self.temperature_ = fit_temperature(rule.apply(self.params_, stack), targets) if wants else None
        self.rule_, self.n_members_, self.classes_ = rule, stack.shape[0], np.arange(stack.shape[2])
        return self

    @property
    def weights_(self) -> Wide | None:
        """(m,): the weight of each member; None where the rule has none."""
        self._refuse_unfitted()
        return self.rule_.weights(self.params_)

    def predict_proba(self, probs: npt.ArrayLike) -> Wide:
        """float64 (n, k) from probs (m, n, k), row by row."""
        from ensemble.combine.calibration import apply_temperature

        self._refuse_unfitted()
        stack = _checked(probs)
        if (stack.shape[0], stack.shape[2]) != (self.n_members_, len(self.classes_)):
            raise DataError(
                f"probs are of {stack.shape[0]} members and {stack.shape[2]} classes, {self.n_members_} and"
                f" {len(self.classes_)} expected, as fitted"
            )
        mean = self.rule_.apply(self.params_, stack)
        return mean if self.temperature_ is None else apply_temperature(mean, self.temperature_)

    def predict(self, probs: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """int (n,): the most probable class of each row; ties go to the lower index."""
        best: npt.NDArray[np.int64] = self.predict_proba(probs).argmax(axis=1)
        return best

    def score(self, probs: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """The accuracy on rows with known targets."""
        targets = np.asarray(y)
        known = targets >= 0
        return float(np.mean(self.predict(probs)[known] == targets[known]))

    def _refuse_unfitted(self) -> None:
        if not hasattr(self, "params_"):
            raise DataError("this Combiner is not fitted yet; call fit(probs, y) first")

    def __repr__(self) -> str:
        return f"Combiner(rule={self.rule!r}, metric={self.metric!r}, calibrate={self.calibrate!r})"


def _checked(probs: npt.ArrayLike) -> Floats:
    """probs as floats (m, n, k), rows summing to one. Raises DataError."""
    stack = np.asarray(probs)
    if stack.ndim != 3 or stack.dtype.kind not in "fiu" or stack.shape[2] < 2 or not stack.shape[0]:
        raise DataError(f"probs are {stack.dtype} {stack.shape}, floats (members, rows, classes) expected")
    sums = stack.sum(axis=2, dtype=np.float64)
    if not np.isfinite(stack).all() or (stack < 0).any() or (np.abs(sums - 1) > 1e-3).any():
        raise DataError("probs have rows that are not probabilities: finite, not negative, summing to one")
    return stack.astype(np.float64 if stack.dtype.kind != "f" else stack.dtype)
