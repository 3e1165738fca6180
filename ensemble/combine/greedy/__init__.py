"""Ensemble selection: members are added, with replacement, where they help the metric most."""

from ensemble.combine.greedy.select import BAGS, ROUNDS, greedy_weights

__all__ = ["BAGS", "ROUNDS", "greedy_weights"]
