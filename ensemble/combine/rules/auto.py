"""`auto` as a rule: for arrays alone, and to apply what it selected."""

from __future__ import annotations

import math

import numpy as np

from ensemble.combine.crossfit import repeated_folds
from ensemble.combine.fit import Plan, Pool
from ensemble.combine.rule_selection import select_rule
from ensemble.combine.rules import Params, Rule, rule, rules
from ensemble.core.predictions import Floats, Ints
from ensemble.metrics import Metric


def _selected_rule(params: Params) -> Rule:
    return rules.get(str(params["rule"]))


@rule(
    "auto",
    complexity=math.inf,
    term=lambda params, j, member: _selected_rule(params).term(params, j, member),
    finish=lambda params, total: _selected_rule(params).finish(params, total),
    weights=lambda params: _selected_rule(params).weights(params),
    shares=lambda params: _selected_rule(params).shares(params),
    optimises=True,
)
def auto(probs: Floats, targets: Ints, metric: Metric) -> Params:
    """The simplest rule whose cross-fitted score is within one paired standard error of the best one's.

    The one-standard-error rule of Breiman et al. (1984). Positions serve as the ids of rows and members.
    """
    if len(targets) < 2:  # nothing to compare on
        return {"rule": np.array("uniform"), **rules.get("uniform").fit(probs, targets)}
    member_ids = tuple(f"{index:05d}" for index in range(len(probs)))
    row_ids = np.array([f"{index:09d}" for index in range(len(targets))])
    plan = Plan(member_ids, member_ids, rules.get("auto"), metric=metric, calibrate=True)
    fitted = select_rule(
        plan, Pool(probs, targets), repeated_folds(row_ids, targets, None), None, nested=False
    ).full
    return {"rule": np.array(fitted.rule.name), **fitted.params}
