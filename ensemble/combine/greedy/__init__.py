"""Greedy ensemble selection: members are added, with replacement, by the best improvement of the metric."""

from ensemble.combine.greedy.select import BAGS, ROUNDS, greedy_weights

__all__ = ["BAGS", "ROUNDS", "greedy_weights"]
