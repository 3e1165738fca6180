"""The tournament as a rule of its own, for whoever has arrays and no run."""

from __future__ import annotations

import math

import numpy as np

from ensemble.combine.rules.base import Params, Rule, rule, rules
from ensemble.metrics import Metric
from ensemble.predictions import Floats, Ints


def _winner(params: Params) -> Rule:
    return rules.get(str(params["rule"]))


@rule(
    "auto",
    complexity=math.inf,
    term=lambda params, j, member: _winner(params).term(params, j, member),
    finish=lambda params, total: _winner(params).finish(params, total),
    weights=lambda params: _winner(params).weights(params),
    shares=lambda params: _winner(params).shares(params),
    optimises=True,
)
def auto(probs: Floats, targets: Ints, metric: Metric) -> Params:
    """The simplest rule whose cross-fitted score is within one paired standard error of the best one's.

    The one-standard-error rule of Breiman et al. (1984). Rows are known by their place, as nothing else is.
    """
    # the tournament knows the rules, and not the other way round
    from ensemble.combine.crossfit import repeated_folds
    from ensemble.combine.fitting import Plan, Pool
    from ensemble.combine.tournament import contest

    if len(targets) < 2:  # nothing to compare on
        return {"rule": np.array("uniform"), **rules.get("uniform").fit(probs, targets)}
    names = tuple(f"{index:05d}" for index in range(len(probs)))
    rows = np.array([f"{index:09d}" for index in range(len(targets))])
    plan = Plan(names, names, rules.get("auto"), metric=metric, calibrate=True)
    fitted = contest(plan, Pool(probs, targets), repeated_folds(rows, targets, None), None, nested=False).full
    return {"rule": np.array(fitted.rule.name), **fitted.params}
