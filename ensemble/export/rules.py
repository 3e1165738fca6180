"""The combining rules as torch modules, for use in an exported graph.

The same computations as in `ensemble.combine.rules`, in the same precisions; a test compares the two on random rows
for every rule. A rule consists of two functions: the term of each member, and the conversion of the sum to
probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ensemble.combine.arrays import MIN_PROBABILITY
from ensemble.combine.rules import Params, rules
from ensemble.combine.rules.means import CELLS, REACH
from ensemble.core.errors import DataError
from ensemble.core.registry import load
from ensemble.metrics import SMALLEST

Arrays = Callable[[str], Tensor]


@dataclass(frozen=True)
class GraphRule:
    """term: (parameters by name, member j, its float32 (n, k)) -> float64 (n, k).  finish: their sum -> rows."""

    term: Callable[[Arrays, int, Tensor], Tensor]
    finish: Callable[[Arrays, Tensor], Tensor]


def exportable(name: str) -> bool:
    """Whether the combining rule called `name` has a graph."""
    return name in rules and rules.get(name).graph is not None


def graph_of(name: str) -> GraphRule:
    """The graph of a combining rule. Raises DataError for a rule without one."""
    if not exportable(name):
        known = ", ".join(filter(exportable, rules.names()))
        raise DataError(f"the rule {name!r} cannot be exported; combine with {known}")
    graph = rules.get(name).graph
    resolved: GraphRule = load(graph) if isinstance(graph, str) else graph
    return resolved


class Combined(nn.Module):
    """float32 (n, u, k) of the `used` members -> float32 (n, k): a rule and its temperature.

    used: the indices of these members, in order. Raises DataError for a rule without an implementation here.
    """

    def __init__(self, rule: str, params: Params, temperature: float | None, used: Sequence[int]) -> None:
        super().__init__()
        self.rule, self.temperature, self.used = graph_of(rule), temperature, tuple(used)
        for name, values in params.items():
            self.register_buffer(name, torch.from_numpy(np.array(values)))

    def forward(self, members: Tensor) -> Tensor:
        total = self.rule.term(self.get_buffer, self.used[0], members[:, 0])
        for position, j in enumerate(self.used[1:], start=1):
            total = total + self.rule.term(self.get_buffer, j, members[:, position])
        mixed = self.rule.finish(self.get_buffer, total)
        return (mixed if self.temperature is None else apply_temperature(mixed, self.temperature)).float()


def normalised(rows: Tensor) -> Tensor:
    """Rows (n, k) divided by their sums."""
    return rows / rows.sum(1, keepdim=True)


def apply_temperature(rows: Tensor, temperature: float | Tensor) -> Tensor:
    """Rows (n, k) to the power of 1 / temperature, summing to one again, float64."""
    return (rows.double().clamp(min=SMALLEST).log() / temperature).softmax(1)


def _weighted(arrays: Arrays, j: int, member: Tensor) -> Tensor:
    return arrays("weights")[j] * member.double()


def _rows_to_one(arrays: Arrays, total: Tensor) -> Tensor:
    return normalised(total)


WEIGHTED_MEAN = GraphRule(_weighted, _rows_to_one)


def _weighted_calibrated(arrays: Arrays, j: int, member: Tensor) -> Tensor:
    return arrays("weights")[j] * apply_temperature(member, arrays("temperatures")[j])


CALIBRATED_MEAN = GraphRule(_weighted_calibrated, _rows_to_one)


def _weighted_logs(arrays: Arrays, j: int, member: Tensor) -> Tensor:
    return arrays("weights")[j] * member.double().clamp(min=MIN_PROBABILITY).log()


GEOMETRIC_MEAN = GraphRule(_weighted_logs, lambda arrays, total: total.softmax(1))


def _weighted_by_class(arrays: Arrays, j: int, member: Tensor) -> Tensor:
    return arrays("by_class")[j] * member.double()


def _rows_to_one_or_even(arrays: Arrays, total: Tensor) -> Tensor:
    return normalised(torch.where(total.sum(1, keepdim=True) > 0, total, torch.ones_like(total)))


MEAN_BY_CLASS = GraphRule(_weighted_by_class, _rows_to_one_or_even)


def _regressed(arrays: Arrays, j: int, member: Tensor) -> Tensor:
    logs = member.clamp(min=MIN_PROBABILITY).log()
    features = logs - logs.mean(1, keepdim=True)
    return features.double() @ arrays("coefficients")[j]


REGRESSION = GraphRule(_regressed, lambda arrays, total: (total + arrays("bias")).softmax(1))


def _interpolated(tables: Tensor, positions: Tensor) -> Tensor:
    """Row c of tables (k, steps + 1), linearly interpolated at column c of positions (n, k); float64."""
    last = tables.shape[1] - 1
    cells = positions.int().clamp(max=last - 1).long()
    indices = cells + torch.arange(tables.shape[0]) * (last + 1)
    values = tables.reshape(-1)
    below, above = values[indices], values[indices + 1]
    return (below + (positions - cells) * (above - below)).double()


def _weighted_ranks(arrays: Arrays, j: int, member: Tensor) -> Tensor:
    tiny = float(np.float32(np.exp(-REACH)))
    odds = member.clamp(min=tiny) / (1 - member).clamp(min=tiny)
    positions = ((odds.log() + REACH) * (CELLS / 2 / REACH)).clamp(0, CELLS)
    return arrays("weights")[j] * _interpolated(arrays("levels")[j], positions)


def _as_probabilities(arrays: Arrays, total: Tensor) -> Tensor:
    return normalised(_interpolated(arrays("scale"), total.clamp(0, 1).float() * CELLS))


MEAN_RANK = GraphRule(_weighted_ranks, _as_probabilities)
