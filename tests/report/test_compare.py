"""Runs side by side: conclusions, pairs, tables."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_runs import member
from helpers.fake_runs import run as write
from helpers.labelled import rows_of

from ensemble.cli import run as ens
from ensemble.core.errors import DataError, MismatchedRuns
from ensemble.core.predictions import Predictions
from ensemble.report.classes import labelled
from ensemble.report.compare import Pair, conclusion, members_csv, members_markdown, ranked, sides
from ensemble.report.sections.mistakes import surest_mistakes
from ensemble.runs.run import Run


def three(folder: Path) -> list[Run]:
    return [
        member(folder, "strong-00000001", 1, n=600, skill=0.9),
        member(folder, "weak-00000002", 2, n=600, skill=0.5),
        member(folder, "alike-00000003", 3, n=600, skill=0.88),
    ]


def test_conclusion_follows_from_the_numbers(tmp_path: Path) -> None:
    runs = three(tmp_path)
    small = json.loads((runs[2].path / "run.json").read_text())
    (runs[2].path / "run.json").write_text(json.dumps({**small, "parameters": 5}))
    result = sides([Run(run.path) for run in runs])
    assert [item.run.id for item in ranked(result)] == ["strong-00000001", "alike-00000003", "weak-00000002"]
    output = conclusion(ranked(result))
    assert "strong-00000001 is the most accurate" in output and "do not tell alike-00000003 from it" in output
    assert "alike-00000003 has 50 % of the parameters" in output and "weak" not in output
    alone = conclusion(ranked([result[0], result[1]]))
    assert "points above the next (95 % interval" in alone
    text = members_markdown(result)
    assert text.count("**") == 2 and "**" + f"{result[0].valid:.4f}" + "**" in text
    read_back = list(csv.DictReader(io.StringIO(members_csv(result))))
    assert [float(row["validation accuracy"]) for row in read_back] == [item.valid for item in ranked(result)]


def test_pair_is_compared_on_the_same_rows(tmp_path: Path) -> None:
    runs = three(tmp_path)
    result = sides(runs)
    apart = Pair(result[1], result[0]).sentences()
    assert "strong-00000001 is" in apart and "which these rows do not settle" not in apart
    assert "strong-00000001 is better balanced" in apart
    near = Pair(result[0], result[2]).sentences()
    assert "which these rows do not settle" in near
    lines = list(csv.DictReader(io.StringIO(Pair(result[0], result[1]).csv())))
    assert len(lines) == 6 and {line["run"] for line in lines} == {"strong-00000001", "weak-00000002"}
    same = Pair(result[0], result[0]).sentences()
    assert "no difference (95 % interval" in same and "-0.0" not in same
    other = member(tmp_path, "other-00000004", 4, n=30)
    with pytest.raises(MismatchedRuns):
        sides([runs[0], other])


def test_compare_aligns_rows_and_classes(tmp_path: Path) -> None:
    item = member(tmp_path, "one-00000001", 1, n=90)
    valid = item.predictions("valid")
    order, columns = np.random.default_rng(0).permutation(90), [2, 0, 1]
    assert valid.targets is not None
    turned = Predictions(
        valid.ids[order],
        valid.probs[order][:, columns],
        valid.classes[columns],
        np.argsort(columns)[valid.targets[order]],
        None,
    )
    other = write(tmp_path, "two-00000002", {"valid": turned})
    first, second = sides([item, other])
    assert np.array_equal(first.rows.probs, second.rows.probs)
    assert "no difference" in Pair(first, second).sentences()


def test_surest_mistakes_come_first() -> None:
    rows = rows_of([0, 1, 1, 0], [[9, 1], [8, 2], [6, 4], [2, 8]])
    assert surest_mistakes(rows, 9).tolist() == [1, 3, 2]
    assert surest_mistakes(rows, 1).tolist() == [1]
    assert surest_mistakes(rows_of([0], [[1, 0]]), 3).tolist() == []


def test_compare_needs_labels(tmp_path: Path) -> None:
    run = member(tmp_path, "net-00000001", 0)
    with pytest.raises(DataError, match="no labels to compare with"):
        labelled([run], "test")


def test_compare_command_writes_tables_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    three(tmp_path / "runs")
    assert ens(["compare"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("| run") and "is the most accurate" in out
    assert (tmp_path / "runs" / "compare" / "members.md").read_text() == out
    assert err.count("no pictures of its mistakes") == 3
    created = {path.name for path in (tmp_path / "runs" / "weak-00000002" / "figures").iterdir()}
    assert created == {"confusion.png", "roc_pr.png", "reliability.png"}
    assert ens(["compare", "strong", "weak", "--out", "here", "--no-figures"]) == 0
    assert {path.name for path in Path("here").iterdir()} == {"members.md", "members.csv", "pair.md", "pair.csv"}
    assert ens(["compare", "strong", "nobody"]) == 3
    assert ens(["--runs", "empty", "compare"]) == 3
