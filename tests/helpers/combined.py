"""Small runs combined by every rule."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.combine.ensembler import Combined, combine
from ensemble.combine.record import read_ensemble
from ensemble.combine.rules import rules
from ensemble.core.predictions import Predictions
from ensemble.runs.run import Run
from helpers.fake_runs import contents, predictions, run

M, N = 3, 36


Decided = dict[str, dict[str, Any]]


def written(folder: Path, *, grouped: bool = False, **facts: Any) -> list[Run]:
    """Members some of whose rows have no target; grouped: rows come in groups of two."""
    groups = np.array([f"g{i // 2}" for i in range(N)]) if grouped else None
    runs = []
    for i in range(M):
        valid = predictions(N, i, skill=0.5 + 0.1 * i, groups=groups)
        valid.targets[::11] = -1
        splits = {"valid": valid, "test": predictions(9, i + 100, prefix="t", labelled=False)}
        runs.append(run(folder, f"net{i}-0", splits, **facts))
    return runs


def combined_run(folder: Path, runs: Sequence[Run], rule: str, **options: Any) -> Combined:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ensemble.combine.crossfit.MOST_REPEATS", 1 if rule == "auto" else 3)
        return combine(runs, folder=folder, rule=rule, **options)


def by_name(item: Predictions) -> bytes:
    """The bits of every id and class."""
    return item.probs[np.argsort(item.ids)][:, np.argsort(item.classes)].tobytes()


def decided(combined: Combined) -> dict[str, Any]:
    """All that a rule decided, and what comes of it by id and class."""
    back = read_ensemble(combined.run)
    return {
        "members": [(row.id, row.accuracy, row.weight, row.kept, row.why) for row in combined.members],
        "params": {name: (array.shape, array.tobytes()) for name, array in back.params.items()},
        "rule": combined.rule,
        "temperature": combined.temperature,
        "scores": combined.scores,
        "report": combined.report,
        "classes": combined.run.record.values["classes"],
        "valid": by_name(combined.run.predictions("valid")),
        "test": by_name(combined.run.predictions("test")),
    }


def taken(item: Predictions, rows: np.ndarray, columns: np.ndarray) -> Predictions:
    """Rows and columns in another order."""
    new_index = np.append(np.argsort(columns), -1)
    return replace(
        item,
        ids=item.ids[rows],
        probs=item.probs[rows][:, columns],
        classes=item.classes[columns],
        targets=None if item.targets is None else new_index[item.targets][rows],
        groups=None if item.groups is None else item.groups[rows],
    )


def digests_by_rule(folder: Path) -> dict[str, str]:
    """The sha256 of all that every rule writes, but for the time in run.json."""
    runs, out = written(folder), {}
    for rule in rules.names():
        files = contents(combined_run(folder, runs, rule).run.path)
        whole = [content for name, content in sorted(files.items()) if name != "run.json"]
        out[rule] = hashlib.sha256(b"".join(whole)).hexdigest()
    return out
