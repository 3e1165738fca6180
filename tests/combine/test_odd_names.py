"""Ids and classes that look like numbers stay text, in their natural order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_runs import predictions, run
from helpers.rules import QUICK_RULES

from ensemble.combine.ensembler import combine
from ensemble.core.predictions import Predictions
from ensemble.runs.imports import read_predictions

M, N = 3, 12


NAMES = ["10", "2", "0001", "1", "01", "NA", "nan", "1e5", "100000", "None", "TRUE", "-1", "1.0", "é"]


STRANGE = ["10", "2", "01"]


def strange(seed: int, order: Any, columns: Any) -> Predictions:
    """Rows whose ids and classes look like numbers, in some order."""
    item = predictions(len(NAMES), seed)
    return Predictions(
        np.array(NAMES)[order],
        item.probs[order][:, columns],
        np.array(STRANGE)[columns],
        np.argsort(columns)[item.targets[order]],
    )


@pytest.mark.parametrize("rule", QUICK_RULES)
def test_numeric_names_stay_text_in_their_order(tmp_path: Path, rule: str) -> None:
    straight = np.arange(len(NAMES)), np.arange(3)
    plain = [run(tmp_path / "a", f"net{i}-0", {"valid": strange(i, *straight)}) for i in range(M)]
    random = np.random.default_rng(0)
    mixed = []
    for i in range(M):
        orders = straight if i else (random.permutation(len(NAMES)), random.permutation(3))
        mixed.append(run(tmp_path / "b", f"net{i}-0", {"valid": strange(i, *orders)}, classes=STRANGE))
    first, second = (combine(runs, folder=runs[0].path.parent, rule=rule).run for runs in (plain, mixed))
    for created in (first, second):
        result = created.predictions("valid")
        assert (result.ids.tolist(), result.classes.tolist()) == (NAMES, STRANGE)
        assert created.record.values["classes"] == STRANGE
        assert result.targets is not None and result.targets.tolist() == [i % 3 for i in range(len(NAMES))]
    assert first.predictions("valid").probs.tobytes() == second.predictions("valid").probs.tobytes()


def test_numeric_names_survive_csv(tmp_path: Path) -> None:
    item = strange(1, np.arange(len(NAMES)), np.arange(3))
    lines = [
        ["id", *STRANGE],
        *([name, *map(repr, row)] for name, row in zip(NAMES, item.probs.tolist(), strict=True)),
    ]
    (tmp_path / "v.csv").write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")
    result = read_predictions(tmp_path / "v.csv")
    assert (result.ids.tolist(), result.classes.tolist()) == (NAMES, STRANGE)
    assert result.probs.tobytes() == item.probs.tobytes()


def test_names_are_in_natural_order_where_members_disagree(tmp_path: Path) -> None:
    ids, random = np.array(["2", "10", "9", "1"]), np.random.default_rng(0)
    runs = []
    for i in range(2):
        order = random.permutation(4)
        item = predictions(4, i)
        split = Predictions(ids[order], item.probs[order], item.classes, item.targets[order])
        runs.append(run(tmp_path, f"net{i}-0", {"valid": split}))
    runs.append(run(tmp_path, "net2-0", {"valid": Predictions(*natural(predictions(4, 2)))}))
    assert combine(runs, folder=tmp_path).run.predictions("valid").ids.tolist() == ["1", "2", "9", "10"]


def natural(item: Predictions) -> tuple[Any, ...]:
    """The rows of "2", "10", "9", "1" in their natural order."""
    order = [3, 0, 2, 1]
    assert item.targets is not None
    return np.array(["1", "2", "9", "10"]), item.probs[order], item.classes, item.targets[order]
