"""The report's page: its numbers are the run's, names are text, every kind of run has one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_runs import FINGERPRINT, predictions
from helpers.fake_runs import run as write
from helpers.pages import checked, page_of, pool
from helpers.repository import SCHEMA1
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from ensemble.combine.ensembler import combine
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError
from ensemble.core.files import read_json
from ensemble.report.page import report_page
from ensemble.report.sections.scope import about_data, evidence
from ensemble.runs.run import Run, all_runs

pytestmark = pytest.mark.usefixtures("quick_report")


def test_report_numbers_are_those_of_scikit_learn(tmp_path: Path) -> None:
    created = combine(pool(tmp_path, n=240), folder=tmp_path)
    result = checked(page_of(created.run).html)
    metrics, rows = created.run.metrics, created.run.predictions("valid")
    assert rows.targets is not None
    scores = {row["metric"]: row for row in result.table("Scores on 240 validation rows")}
    honest = metrics["honest"]["accuracy"]
    assert scores["accuracy"]["honest"] == f"{honest['value']:.4f}"
    assert scores["accuracy"]["95 % interval"] == f"{honest['low']:.4f} to {honest['high']:.4f}"
    for name, row in scores.items():
        assert row["honest"] == f"{metrics['valid'][name]:.4f}"
        assert row["apparent"] == f"{metrics['apparent'][name]:.4f}"
        gap = metrics["apparent"][name] - metrics["valid"][name]
        assert float(row["flattery"]) == pytest.approx(gap if row["better is"] == "more" else -gap, abs=6e-5)
    reported = read_json(created.run.path / "report.json")
    parts = {part["id"]: part for part in reported["parts"]}
    weights = {row.id: row.weight for row in created.members}
    for row in result.table("Rule accuracy, threshold"):
        part = parts[row["member"]]
        assert row["weight"] == f"{weights[row['member']]:.4f}"
        assert row["gain"] == f"{part['gain']:+.4f}"
        assert row["95 % interval"] == f"{part['low']:+.4f} to {part['high']:+.4f}"
        assert (row["differs"], row["only it"]) == (f"{100 * part['disagreement']:.1f} %", str(part["only_right"]))
    assert all(first["sentence"] in result.text for first in reported["against"])
    assert reported["advice"]["sentence"] in result.text
    output = rows.probs.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(rows.targets, output)
    for c, row in enumerate(result.table("Each class against the rest")):
        assert (row["class"], row["rows"]) == (rows.classes[c], str(support[c]))
        assert [row["precision"], row["recall"], row["F1"]] == [
            f"{first[c]:.4f}" for first in (precision, recall, f1)
        ]
        assert row["AUC"] == f"{roc_auc_score(rows.targets == c, rows.probs[:, c]):.4f}"
        assert row["average precision"] == f"{average_precision_score(rows.targets == c, rows.probs[:, c]):.4f}"
    counts = [[int(cell) for cell in list(row.values())[1:]] for row in result.table("Confusion matrix")]
    assert counts == confusion_matrix(rows.targets, output).tolist()
    place = {name: c for c, name in enumerate(rows.classes.tolist())}
    for row in result.table("What is mistaken most often"):
        line = counts[place[row["true"]]]
        assert row["rows"] == str(line[place[row["said"]]])
        assert row["of the class"] == f"{100 * int(row['rows']) / sum(line):.1f} %"
    members = [Run(tmp_path / part["id"]).predictions("valid").probs.argmax(axis=1) for part in reported["parts"]]
    right = np.stack([first == rows.targets for first in members])
    together = f"every member gets {right.all(axis=0).sum()} right and none gets {(~right.any(axis=0)).sum()} right"
    assert together in result.text
    for x, row in enumerate(result.table("How often two members")):
        for y, other in enumerate(members):
            assert row[str(y + 1)] == ("" if x == y else f"{(members[x] != other).mean():.3f}")


def test_hostile_names_are_text(tmp_path: Path) -> None:
    classes = [
        "<script>alert(1)</script>",
        "</title><img src=x onerror=alert(1)>",
        "$x_$ & {{ 7*7 }} \u2068é \"'",
        "#010101",
    ]
    runs = [
        write(
            tmp_path,
            f"<b>net{i}' {i}-0000000{i}",
            {"valid": hostile(predictions(80, i, classes=classes))},
            arch="<i onmouseover=1>",
            chosen_on_valid=["<u>epoch"],
            versions={"<python>": "<3>"},
        )
        for i in range(2)
    ]
    (runs[0].path / "recipe.yaml").write_text("arch: '</code></pre><script>x</script>'\ndata: {medical: true}\n")
    created = combine(runs, folder=tmp_path, name="all & more", rule="per-class")
    page = page_of(created.run)
    result = checked(page.html)
    assert not {tag for tag, _ in result.tags} & {"b'", "i", "u", "em", "script"} - {"i"}
    assert all(name in result.text for name in classes) and "<b>net0' 0-00000000" in result.text
    assert (
        "{{ 7*7 }}" in page.html.replace("&#34;", '"') and "49" not in result.table("What is mistaken")[0].values()
    )
    assert "This is not a medical device." in result.text


def hostile(item: Any) -> Any:
    return replace(item, ids=np.array([f'"><svg onload=x>{name}' for name in item.ids.tolist()]))


@pytest.mark.parametrize("rule", rules.names())
def test_report_of_every_rule(tmp_path: Path, rule: str) -> None:
    created = combine(pool(tmp_path, m=2, n=30), folder=tmp_path, rule=rule)
    result = checked(page_of(created.run).html)
    rows = result.table(f"Rule {created.rule}, threshold")
    weights = [row.weight for row in sorted(created.members, key=lambda row: row.id)]
    if weights[0] is None:
        assert "has no single weight" in result.text and "weight" not in rows[0]
    else:
        assert [row["weight"] for row in rows] == [f"{weight:.4f}" for weight in weights]
    assert ("What each member weighs for each class" in result.text) == (created.rule == "per-class")
    assert ("The rules that auto compared" in result.text) == (rule == "auto")


@pytest.mark.parametrize("k", [2, 23, 40])
def test_report_of_any_number_of_classes(tmp_path: Path, k: int) -> None:
    classes = [f"class {c}" for c in range(k)]
    created = combine(pool(tmp_path, m=2, n=10 * k, classes=classes), folder=tmp_path)
    html = page_of(created.run).html
    result = checked(html)
    assert len(result.table("Each class against the rest")) == k
    assert ("Confusion matrix:" in result.text) == (k <= 30)
    assert ("With two classes one curve says all" in result.text) == (k == 2)
    assert ("The 8 of 23 classes with the smallest area" in result.text) == (k == 23)
    if k > 2:
        table = result.table("Each class against the rest")
        areas = sorted((row["AUC"], place) for place, row in enumerate(table))[:8]
        (legend,) = re.findall(r'<ul class="legend".*?</ul>', html, re.DOTALL)
        assert re.findall(r"</svg>(.*?): area", legend) == [classes[at] for at in sorted(at for _, at in areas)]


@pytest.mark.parametrize("run", all_runs(SCHEMA1), ids=lambda run: run.id)
def test_report_of_every_kind_of_run(run: Run) -> None:
    page = page_of(run)
    result = checked(page.html)
    assert run.id in result.text
    if run.kind == "refit":
        assert "There is no score" in result.text and "trained on the validation rows too" in result.text
        assert "Scores on" not in result.text and "before the refit" in result.text
        assert page.facts["why_no_score"]
    elif run.kind == "folds":
        assert "out-of-fold rows" in result.text
    if run.kind in ("member", "student") and (run.path / "history.csv").is_file():
        assert "What the training of" in result.text
    if run.metrics.get("score_of"):
        assert "nobody has scored" in result.text


def test_report_repeats_bit_for_bit() -> None:
    run = next(run for run in all_runs(SCHEMA1) if run.kind == "folds")
    page = page_of(run)
    assert page == page_of(run)
    checked(page.html)
    assert page.html.count("<path") > 20 and page.html.count("<text") > 50


def test_report_names_a_missing_member(tmp_path: Path) -> None:
    runs = pool(tmp_path)
    created = combine(runs, folder=tmp_path)
    for path in runs[0].path.iterdir():
        path.unlink()
    runs[0].path.rmdir()
    result = checked(page_of(created.run).html)
    assert f"and so not shown by itself: {runs[0].id}" in result.text
    assert len(result.table("How often two members")) == 2
    assert len(result.table("Rule accuracy, threshold")) == 3


def test_report_with_changed_predictions(tmp_path: Path) -> None:
    from helpers.fake_runs import rewritten

    runs = pool(tmp_path)
    created = combine(runs, folder=tmp_path)
    rewritten(runs[0], "valid", predictions(60, 0, prefix="w"))
    result = checked(page_of(created.run).html)
    assert (
        "the members' rows are not those of" in result.text.lower() and "How often two members" not in result.text
    )


def test_report_of_one_member(tmp_path: Path) -> None:
    created = combine(pool(tmp_path, m=1), folder=tmp_path)
    result = checked(page_of(created.run).html)
    assert "is an ensemble of one member" in result.text and "How often two members" not in result.text


def test_report_beside_a_broken_run(tmp_path: Path) -> None:
    created = combine(pool(tmp_path), folder=tmp_path).run
    for name, text in (("torn-00000001", "{"), ("newer-00000002", '{"schema": 99}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
        (tmp_path / name / "metrics.json").write_text("{}")
    (tmp_path / "net0-00000000" / "recipe.yaml").write_text("a: [")
    subject = about_data(tmp_path, FINGERPRINT, "all")
    assert subject.focus.id == created.id and len(subject.runs) == 4
    checked(report_page(subject, evidence(subject)).html)
    (created.path / "report.json").write_text('{"parts": [{}]}')
    with pytest.raises(DataError, match="not as `ens combine` writes it"):
        page_of(created)
