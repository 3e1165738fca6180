"""The mean of logits: members multiply instead of adding up."""

from __future__ import annotations

from ensemble.combine.arrays import Wide, logarithms, softmax, uniform_weights
from ensemble.combine.rules.base import Params, rule
from ensemble.predictions import Floats, Ints


def weighted_logs(params: Params, j: int, member: Floats) -> Wide:
    """The weight of member j times its log-probabilities (n, k)."""
    term: Wide = params["weights"][j] * logarithms(member)
    return term


def exponentials(params: Params, total: Wide) -> Wide:
    """The softmax of rows (n, k)."""
    return softmax(total)


@rule("logit-mean", complexity=3, term=weighted_logs, finish=exponentials)
def logit_mean(probs: Floats, targets: Ints) -> Params:
    """The normalised geometric mean (the logarithmic opinion pool, Genest and Zidek 1986)."""
    return {"weights": uniform_weights(len(probs))}
