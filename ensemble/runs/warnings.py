"""What a member's own history says against it: it ended below its frozen head, or has hardly learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ensemble.runs.history import Epoch

BARELY = 0.05
"""Of the way from the most frequent class's share to every row: less has hardly been learnt."""


def warnings(rows: Sequence[Epoch], head_stages: Sequence[int], count: int, largest: float) -> list[str]:
    """One line for each thing that is wrong with a member, with what to try.

    rows: its history.  head_stages: the stages in which the head trained alone.  count: of validation rows.
    largest: the share of the most frequent class among the validation rows.
    """
    judged = [row for row in rows if row.valid_accuracy is not None]
    return [*_below_head(judged, head_stages, count), *_hardly_learnt(judged, count, largest)] if judged else []


def _below_head(judged: Sequence[Epoch], head_stages: Sequence[int], count: int) -> Iterator[str]:
    last, heads = judged[-1], [row for row in judged if row.stage in head_stages]
    if not heads or last.stage in head_stages:
        return
    ended, head = last.valid_accuracy or 0.0, heads[-1].valid_accuracy or 0.0
    if ended < head - noise(head, count):
        yield (
            f"it ended at an accuracy of {ended:.4f}, below the {head:.4f} of its own frozen head: try a lower"
            " --lr, freeze_norms: true, or unfreeze: 10"
        )


def _hardly_learnt(judged: Sequence[Epoch], count: int, largest: float) -> Iterator[str]:
    ended = judged[-1].valid_accuracy or 0.0
    if ended < largest + max(noise(largest, count), BARELY * (1 - largest)):
        yield (
            f"it has hardly learnt: an accuracy of {ended:.4f}, where always saying the most frequent class gives"
            f" {largest:.4f}: try more --epochs, another --lr, or `ens check` for the labels"
        )


def noise(accuracy: float, count: int) -> float:
    """The standard error of an accuracy on so many rows."""
    return math.sqrt(accuracy * (1 - accuracy) / max(1, count))
