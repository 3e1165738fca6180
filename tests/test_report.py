"""Laws of the report: its numbers are the run's, it asks for nothing, names are text, every kind has its page."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import browser, low_contrasts, watched
from fake_runs import FINGERPRINT, member, predictions
from fake_runs import run as write
from PIL import Image
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from ensemble.cli import run as ens
from ensemble.combine.candidates import candidates
from ensemble.combine.ensembler import combine
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError
from ensemble.core.files import read_json, write_json
from ensemble.core.predictions import Predictions
from ensemble.report.figures import overlaid
from ensemble.report.html import data_uri
from ensemble.report.page import Page, report_page
from ensemble.report.sections.mistakes import heat_picture, heatmaps
from ensemble.report.sections.scope import about_data, about_run, evidence
from ensemble.runs.imports import import_run
from ensemble.runs.run import Run, all_runs

SCHEMA1 = Path(__file__).parent / "fixtures" / "runs-schema1"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Parsed(HTMLParser):
    """What a page holds: tags with their attributes, tables as rows of cells, the text outside style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "caption" in self.open:
            self._caption += data
        elif self._rows and self._rows[-1] and ("td" in self.open or "th" in self.open):
            self._rows[-1][-1] += data.strip()

    def table(self, begins: str) -> list[dict[str, str]]:
        """The rows of the table whose caption begins so, by column."""
        (found,) = [rows for caption, rows in self.tables.items() if caption.startswith(begins)]
        return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def page_of(run: Run) -> Page:
    subject = about_run(run)
    return report_page(subject, evidence(subject))


def checked(html: str) -> Parsed:
    """The parsed page, after all that must be true of any: tags close, it asks for nothing, it can be heard."""
    result = Parsed(html)
    assert result.open == []
    for tag, attributes in result.tags:
        for key in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert key not in attributes or re.match(r"#|data:image/", attributes[key] or ""), (tag, attributes)
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form"), tag
        if tag == "img":
            assert (attributes.get("alt") or "").strip()
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or (attributes.get("aria-label") or "").strip()
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
    assert "http" not in re.sub(r"data:image/[^\"]*|http-equiv", "", html) or "http" in result.text
    assert "url(" not in re.sub(r"url\(#", "", html)
    tables = sum(tag == "table" for tag, _ in result.tags)
    assert tables == sum(tag == "caption" for tag, _ in result.tags)
    headings = [int(tag[1]) for tag, _ in result.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    ids = [attributes["id"] for _, attributes in result.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {(attributes.get("href") or "")[1:] for tag, attributes in result.tags if tag == "a"}
    assert anchors <= set(ids)
    named = set(re.findall(r"(?:url\(|xlink:href=\")#([\w-]+)", html))
    assert named <= set(ids)
    return result


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr("ensemble.combine.crossfit.MOST_REPEATS", 1)


def pool(folder: Path, m: int = 3, **options: Any) -> list[Run]:
    return [member(folder, f"net{i}-0000000{i}", i, skill=0.5 + 0.1 * i, **options) for i in range(m)]


def test_the_numbers_are_those_of_the_run_and_of_scikit_learn(tmp_path: Path) -> None:
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
    assert all(one["sentence"] in result.text for one in reported["against"])
    assert reported["advice"]["sentence"] in result.text
    output = rows.probs.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(rows.targets, output)
    for c, row in enumerate(result.table("Each class against the rest")):
        assert (row["class"], row["rows"]) == (rows.classes[c], str(support[c]))
        assert [row["precision"], row["recall"], row["F1"]] == [f"{one[c]:.4f}" for one in (precision, recall, f1)]
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
    right = np.stack([one == rows.targets for one in members])
    together = f"every member gets {right.all(axis=0).sum()} right and none gets {(~right.any(axis=0)).sum()} right"
    assert together in result.text
    for x, row in enumerate(result.table("How often two members")):
        for y, other in enumerate(members):
            assert row[str(y + 1)] == ("" if x == y else f"{(members[x] != other).mean():.3f}")


def test_the_summary_says_how_sure_it_is_and_what_it_does_not_cover(tmp_path: Path) -> None:
    runs = pool(tmp_path, chosen_on_valid=["best epoch"])
    created = combine(runs, folder=tmp_path)
    write_json(tmp_path / ".data" / FINGERPRINT / "leaks.json", {"valid": {"exact": 1, "near": 2}})
    page = page_of(created.run)
    honest = created.run.metrics["honest"]["accuracy"]
    hits, n = round(honest["value"] * 60), 60
    output = " ".join(page.sentences)
    assert f"right on {hits} of {n} validation rows" in output
    assert f"{100 * honest['low']:.1f} to {100 * honest['high']:.1f} % (95 % interval)" in output
    assert "always says ant, the most frequent class, is right on 33.3 %" in output
    beside = " ".join(page.warnings)
    assert "Chosen on the validation rows before: best epoch. The score does not cover that" in beside
    assert "valid: 1 image the same, 2 images nearly the same as in train" in beside
    assert all(line in checked(page.html).text for line in (*page.sentences, *page.warnings))
    assert page.facts["score"]["value"] == honest["value"] and page.facts["leaks"] == {
        "valid": {"exact": 1, "near": 2}
    }
    assert "not a medical device" not in page.html


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


def hostile(one: Any) -> Any:
    return replace(one, ids=np.array([f'"><svg onload=x>{name}' for name in one.ids.tolist()]))


@pytest.mark.parametrize("rule", rules.names())
def test_every_rule(tmp_path: Path, rule: str) -> None:
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
def test_any_number_of_classes(tmp_path: Path, k: int) -> None:
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
def test_every_kind_of_run_that_was_ever_written(run: Run) -> None:
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


def test_the_same_runs_give_the_same_bytes() -> None:
    run = next(run for run in all_runs(SCHEMA1) if run.kind == "folds")
    page = page_of(run)
    assert page == page_of(run)
    checked(page.html)
    assert page.html.count("<path") > 20 and page.html.count("<text") > 50


def test_the_legend_has_the_strokes_of_the_lines(tmp_path: Path) -> None:
    one = write(tmp_path, "net-00000001", {"valid": predictions(80, 1, classes=list("abcd"))})
    html = page_of(one).html
    (roc,) = re.findall(r'<svg role="img" aria-label="ROC.*?</svg>', html, re.DOTALL)
    (legend,) = re.findall(r'<ul class="legend".*?</ul>', html, re.DOTALL)
    drawn = {
        colour: "stroke-dasharray" in style
        for style, colour in re.findall(r'style="([^"]*stroke: var\((--c\d)\)[^"]*)"', roc)
    }
    listed = {
        colour: dash != "none" for colour, dash in re.findall(r"var\((--c\d)\).*?dasharray: ([^\"]+)", legend)
    }
    assert drawn == listed and list(listed.values()) == [False, True, True, True]


def taken(one: Predictions, rows: Any) -> Predictions:
    assert one.targets is not None
    return replace(one, ids=one.ids[rows], probs=one.probs[rows], targets=one.targets[rows])


def student_of_folds(folder: Path) -> Run:
    """One network for all rows, and two that saw half of them each."""
    teacher = combine(pool(folder), folder=folder).run
    rows, half = predictions(60, 8), np.arange(60) < 30
    folds = [
        write(folder, f"net-student-fold{i}-0000000{i}", {"valid": taken(rows, part)}, kind="student", fold=i)
        for i, part in enumerate((half, ~half))
    ]
    return write(
        folder,
        "net-student-00000009",
        {"valid": rows},
        kind="student",
        parents=[teacher, *folds],
        teacher={"run": teacher.id, "labels": "0" * 64, "temperature": 2.0, "alpha": 0.9},
        chosen_on_valid=["soft labels"],
    )


def test_a_student_is_said_to_look_too_good_and_is_made_again_by_distilling(tmp_path: Path) -> None:
    student = student_of_folds(tmp_path)
    for run in all_runs(tmp_path):
        (run.path / "recipe.yaml").write_text("arch: net\n")
        (run.path / "weights.safetensors").write_bytes(b"")
    page = page_of(student)
    result = checked(page.html)
    assert "Taught by soft labels: net-student-00000009" in " ".join(page.warnings)
    assert "Chosen on the validation rows" not in " ".join(page.warnings)
    assert "honest as it stands" not in result.text and "learnt from, but for its soft labels" in result.text
    assert "Scores on 60 out-of-fold rows" in "".join(result.tables)
    (command,) = [line for line in result.text.splitlines() if "net-student-00000009/recipe.yaml" in line][:1]
    words = shlex.split(command)
    assert words[:1] + words[3:5] == ["ens", "distill", student.record.values["teacher"]["run"]]
    assert words[-2:] == ["--temperature=2.0", "--alpha=0.9"] and "train" not in words
    # the student has learnt from every row: its folds draw where they look
    wanted = heatmaps(about_run(student), evidence(about_run(student)), 60)
    assert wanted and all(look.name in set(look.run.predictions("valid").ids.tolist()) for look in wanted)
    assert {look.run.id for look in wanted} == {f"net-student-fold{i}-0000000{i}" for i in range(2)}


def test_what_was_made_elsewhere_is_taken_on_trust(tmp_path: Path) -> None:
    runs = pool(tmp_path, m=2, kind="import")
    for run in (runs[0], combine(runs, folder=tmp_path).run):
        page = page_of(run)
        assert "taken on trust" in " ".join(page.warnings) and "not learnt from" not in " ".join(page.sentences)
        assert "honest as it stands" not in page.html


def test_the_summary_says_the_honest_score_where_that_is_a_mean_of_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensemble.combine.crossfit.MOST_REPEATS", 10)
    for seed in range(20):
        created = combine(
            [member(tmp_path / str(seed), f"n{i}-0000000{i}", 20 * seed + i) for i in range(2)],
            folder=tmp_path / str(seed),
        )
        honest = created.run.metrics["honest"]["accuracy"]["value"]
        if abs(honest - created.run.metrics["valid"]["accuracy"]) > 1e-3:
            break
    else:
        raise AssertionError("every division gave the same score")
    page = page_of(created.run)
    assert f"It is right on {100 * honest:.1f} % of 60 validation rows" in page.sentences[1]


def test_recall_of_rows_that_hang_together_is_less_sure(tmp_path: Path) -> None:
    alone = predictions(120, 1)
    # ten copies of each row are one patient
    copies = np.repeat(np.arange(0, 120), 10)
    ids = np.array([f"r{i:04d}" for i in range(1200)])
    grouped = replace(taken(alone, copies), ids=ids, groups=np.array([f"p{i}" for i in copies]))
    pages = [
        page_of(write(tmp_path / name, "n-00000001", {"valid": one}))
        for name, one in (("one", alone), ("many", grouped), ("blind", replace(grouped, groups=None)))
    ]
    widths = [
        [
            float(high) - float(low)
            for row in Parsed(page.html).table("Each class against")
            for low, high in [row["95 % interval"].split(" to ")]
        ]
        for page in pages
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.2) and max(widths[2]) < 0.5 * min(widths[0])


def test_images_are_counted_and_the_class_that_is_found_least_is_named(tmp_path: Path) -> None:
    one = predictions(90, 3)
    assert one.targets is not None
    bees = one.targets == 1
    # no bee is called one
    probs = np.where(bees[:, None], np.array([0.7, 0.1, 0.2], np.float32), one.probs)
    run = write(tmp_path, "net-00000001", {"valid": replace(one, probs=probs.astype(np.float32))})
    listed = ["train,ant"] * 6 + ["train,bee"] * 2 + ["train,cat"] * 3 + ["valid,cat"] + ["test,"] * 4
    lines = [f"{i},{i}.png,{line},\n" for i, line in enumerate(listed)]
    kept = tmp_path / ".data" / FINGERPRINT
    kept.mkdir(parents=True)
    (kept / "items.csv").write_text("id,path,split,label,group\n" + "".join(lines))
    page = page_of(run)
    result = checked(page.html)
    assert [list(row.values()) for row in result.table("Images of each class and split")] == [
        ["ant", "6", "0", "0"],
        ["bee", "2", "0", "0"],
        ["cat", "3", "1", "0"],
        ["(no label)", "0", "0", "4"],
        ["all", "11", "1", "4"],
    ]
    assert "The largest class of train is 3.0 times the smallest." in result.text
    assert any("finds bee the least often: 0 of 30, 0.0 %" in line for line in page.sentences)
    assert any("30 of the others it calls ant." in line for line in page.sentences)


def test_an_import_without_targets_says_why_there_is_no_score(tmp_path: Path) -> None:
    from ensemble.core.predictions import save

    valid = save(tmp_path / "v.npz", predictions(9, 1, labelled=False))
    created = import_run("their's vit & co", folder=tmp_path / "runs", valid=valid).run
    page = page_of(created)
    result = checked(page.html)
    assert "no row" in result.text and "has a label" in result.text and page.facts["score"] is None
    assert "Scores on" not in result.text and "confident mistakes" not in result.text


def test_a_labelled_test_stands_in_where_no_validation_row_has_a_label(tmp_path: Path) -> None:
    one = write(tmp_path, "net-00000001", {"test": predictions(40, 1, prefix="t")}, kind="refit")
    page = page_of(one)
    result = checked(page.html)
    assert result.table("Scores on 40 rows of test")[0]["score"] == f"{one.metrics['test']['accuracy']:.4f}"
    assert "There are no labelled validation rows; every score here is of test" in result.text


def test_a_member_that_is_gone_is_named(tmp_path: Path) -> None:
    runs = pool(tmp_path)
    created = combine(runs, folder=tmp_path)
    for path in runs[0].path.iterdir():
        path.unlink()
    runs[0].path.rmdir()
    result = checked(page_of(created.run).html)
    assert f"and so not shown by itself: {runs[0].id}" in result.text
    assert len(result.table("How often two members")) == 2
    assert len(result.table("Rule accuracy, threshold")) == 3


def test_predictions_that_changed_since_do_not_stop_the_page(tmp_path: Path) -> None:
    from fake_runs import rewritten

    runs = pool(tmp_path)
    created = combine(runs, folder=tmp_path)
    rewritten(runs[0], "valid", predictions(60, 0, prefix="w"))
    result = checked(page_of(created.run).html)
    assert (
        "the members' rows are not those of" in result.text.lower() and "How often two members" not in result.text
    )


def test_one_member_alone(tmp_path: Path) -> None:
    created = combine(pool(tmp_path, m=1), folder=tmp_path)
    result = checked(page_of(created.run).html)
    assert "is an ensemble of one member" in result.text and "How often two members" not in result.text


def test_a_run_without_mistakes_says_so(tmp_path: Path) -> None:
    right = predictions(30, 0, skill=1.0)
    one = write(tmp_path, "net-00000001", {"valid": replace(right, probs=np.eye(3, dtype="f4")[right.targets])})
    assert "None of 30 rows is wrong." in checked(page_of(one).html).text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        ({"threshold": 0.6, "per_arch": 0}, []),
        ({"rule": "convex", "metric": "log_loss", "calibrate": False, "name": "a b"}, ["--no-calibrate"]),
        ({"rule": "uniform", "calibrate": True, "metric": "brier"}, ["--calibrate"]),
        ({"rule": "auto", "metric": "brier"}, ["--rule", "auto"]),
    ],
)
def test_its_command_makes_the_same_ensemble_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    pool(runs, n=45)
    created = combine(candidates(runs, FINGERPRINT), folder=runs, **options)
    (typed,) = re.findall(r"^(ens combine .*)$", checked(page_of(created.run).html).text, re.MULTILINE)
    assert all(word in shlex.split(typed) for word in words)
    for path in created.run.path.iterdir():
        path.unlink()
    assert ens(shlex.split(typed)[1:]) == 0
    assert created.run.complete


def test_sweeps_of_this_data_are_shown_and_others_are_not(tmp_path: Path) -> None:
    one = member(tmp_path, "net-00000001", 1)
    for name, fingerprint, csv in (
        ("mine", FINGERPRINT, None),
        ("old", None, "net-00000001"),
        ("theirs", "c" * 64, None),
    ):
        place = tmp_path / "sweeps" / name
        place.mkdir(parents=True)
        (place / "table.md").write_text(f"| a |\n\nBest accuracy of {name} <b>.\n")
        (place / "table.csv").write_text("augment \\ lr,0.1,0.2\nnone,0.5,0.75\n<flip>,0.25,\n")
        if fingerprint:
            write_json(place / "sweep.json", {"schema": 1, "fingerprint": fingerprint, "metric": "log_loss"})
        if csv:
            (place / "runs.csv").write_text(f"augment,lr,run,accuracy\nnone,0.1,{csv},0.5\n")
    result = checked(page_of(one).html)
    assert "Best accuracy of mine <b>." in result.text and "old" in result.text and "theirs" not in result.text
    table = result.table("log_loss of each cell")
    assert table[1] == {"augment \\ lr": "<flip>", "0.1": "0.2500", "0.2": ""}
    marks = re.findall(r'<td style="--s: ([\d.]+)" class="mark">([\d.]+)', page_of(one).html)
    assert marks == [("1.000", "0.2500"), ("1.000", "0.7500")]  # the least loss, the most accuracy


def test_trials_of_a_search_are_listed_best_first(tmp_path: Path) -> None:
    one = member(tmp_path, "net-00000001", 1)
    place = tmp_path / "sweeps" / "search"
    place.mkdir(parents=True)
    (place / "table.md").write_text("Best.\n")
    (place / "trials.csv").write_text("trial,lr,accuracy\n1,0.012345678,0.5\n2,0.2,\n3,0.3,0.9\n")
    write_json(place / "sweep.json", {"schema": 1, "fingerprint": FINGERPRINT, "metric": "accuracy"})
    rows = checked(page_of(one).html).table("The best 2 of 3 trials")
    assert [(row["trial"], row["lr"], row["accuracy"]) for row in rows] == [
        ("3", "0.3", "0.9000"),
        ("1", "0.01235", "0.5000"),
    ]


def test_a_broken_run_beside_it_hides_nothing(tmp_path: Path) -> None:
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


def test_a_page_full_of_pictures_stays_below_six_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise, which no picture format can make small, at the sides of camera pictures."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 255, (300, 400, 3), dtype=np.uint8)
    runs = pool(tmp_path, n=460, classes=[f"class {c}" for c in range(23)])
    created = combine(runs, folder=tmp_path).run
    for run in runs:
        (run.path / "weights.safetensors").write_bytes(b"")
        (run.path / "recipe.yaml").write_text("arch: net\n")
    monkeypatch.setattr(
        "ensemble.report.sections.mistakes.images_of", lambda *_: lambda name: Image.fromarray(noise)
    )
    subject = about_run(created)
    result = evidence(subject)
    heat = heat_picture(noise[:224, :224], random.random((224, 224)))
    for look in heatmaps(subject, result):
        look.path.parent.mkdir(parents=True, exist_ok=True)
        look.path.write_bytes(heat)
    html = report_page(subject, result).html
    assert html.count("<img") == 12 * (1 + 3)
    assert len(html.encode()) < 6e6


# ---- the command ----


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENS_RUNS", raising=False)
    pool(tmp_path / "runs")
    return tmp_path


def test_the_command_writes_one_page(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ens(["report"]) == 0  # no ensemble yet: the best run
    out, err = capfd.readouterr()
    assert out.startswith("net2-00000002 is a network") and "95 % interval" in out
    assert err.splitlines()[0] == "data: of net2-00000002, the newest run"
    assert err.replace("\\", "/").splitlines()[1:] == ["written to runs/report/report.html"]
    created = combine(candidates(Path("runs"), FINGERPRINT), folder=Path("runs")).run
    assert ens(["report", "--json", "--out", "deep/page.html"]) == 0
    out, err = capfd.readouterr()
    facts = json.loads(out)
    assert facts["run"] == created.id and facts["bytes"] == Path("deep/page.html").stat().st_size
    assert facts["score"]["value"] == created.metrics["honest"]["accuracy"]["value"]
    assert [one["id"] for one in facts["members"]] == [f"net{i}-0000000{i}" for i in range(3)]
    board = checked(Path("deep/page.html").read_text(encoding="utf-8")).table("Runs, the best first")
    assert {row["run"] for row in board} == {run.id for run in all_runs(Path("runs"))}
    assert ens(["report", "net1"]) == 0
    board = checked(Path("runs/report/net1-00000001.html").read_text(encoding="utf-8")).table(
        "Runs, the best first"
    )
    assert [row["run"] for row in board] == ["net1-00000001"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nobody"], 3, "0 runs in runs are called"),
        (["net"], 3, "3 runs in runs are called"),
        (["net1", "--recipe", "x.yaml"], 2, "a run and a recipe found"),
        (["--recipe", "x.yaml"], 2, "there is no recipe x.yaml"),
        (["--pictures", "-1"], 2, "--pictures"),
    ],
)
def test_mistakes_are_one_line(
    here: Path, capfd: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert ens(["report", *words]) == code
    err = capfd.readouterr().err
    assert message in err and len(err.splitlines()) == 1


def test_an_empty_folder_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ens(["report"]) == 3
    assert "type `ens train`" in capfd.readouterr().err
    Path("ens.yaml").write_text("data: {form: digits}\n")
    assert ens(["report"]) == 3
    assert "no complete run of digits in" in capfd.readouterr().err


@pytest.mark.slow
def test_a_page_is_written_without_any_network_library(here: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom ensemble.cli import run\nassert run(['report']) == 0\n"
        "print(sorted({'torch', 'torchvision', 'fastai', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_grad_cam_pictures_are_found_by_row_class_and_weights(tmp_path: Path) -> None:
    one = member(tmp_path, "net-00000001", 1)
    (one.path / "weights.safetensors").write_bytes(b"")
    (one.path / "recipe.yaml").write_text("arch: net\n")
    subject = about_run(one)
    result = evidence(subject)
    wanted = heatmaps(subject, result, 3)
    assert len(wanted) == 3 and not any(look.path.exists() for look in wanted)
    wanted[1].path.parent.mkdir(parents=True)
    heat = np.zeros((20, 20))
    heat[4:6, 14:16] = 1
    wanted[1].path.write_bytes(heat_picture(np.zeros((20, 20, 3), np.uint8), heat))
    html = report_page(subject, result, pictures=3, undrawn=["net-2: no Grad-CAM (it has <no> map)"]).html
    assert "net-2: no Grad-CAM (it has <no> map)." in checked(html).text
    (shown,) = [attributes for tag, attributes in checked(html).tags if tag == "img"]
    assert f"looks for {wanted[1].class_name} in {wanted[1].name}" in str(shown["alt"])
    assert "75 % from the left and 25 % from the top" in str(shown["alt"])
    assert str(shown["src"]) == data_uri(overlaid(np.zeros((20, 20, 3), np.uint8), heat), 180)


# ---- with a browser ----


@pytest.mark.slow
def test_in_a_browser_it_asks_for_nothing_and_never_scrolls_sideways(tmp_path: Path) -> None:
    classes = [f"a rather long name of class number {c}" for c in range(23)]
    runs = tmp_path / "runs"
    created = combine(pool(runs, n=230, classes=classes), folder=runs, rule="auto").run
    path = tmp_path / "page.html"
    path.write_text(page_of(created).html, encoding="utf-8")
    with browser() as chromium:
        for scheme in ("light", "dark"):
            for width in (390, 1280):
                with watched(chromium, path.as_uri(), width=width, scheme=scheme) as seen:
                    assert seen.requests == [path.as_uri()] and seen.complaints == []
                    assert seen.overflow <= 0
                    assert low_contrasts(seen.page) == []
                    seen.page.keyboard.press("Tab")
                    assert seen.page.evaluate("document.activeElement.getAttribute('href')") == "#summary"


# ---- with networks ----


def photos(folder: Path) -> None:
    """Noise in two classes, which nobody can tell apart: there will be mistakes."""
    random = np.random.default_rng(0)
    for split, each in (("train", 10), ("valid", 6)):
        for name in ("left", "right"):
            (folder / split / name).mkdir(parents=True)
            for number in range(each):
                pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{split}-{name}{number}.png")


RECIPE = """
data: {form: folders, path: photos, medical: true}
defaults: {weights: none, image_size: 32, batch_size: 8, epochs: 1, lr: 0.001, filters: [4, 8], augment: none}
members:
  - {arch: customnet, folds: 2, name: one}
  - {arch: customnet, folds: 2, name: two, seed: 1}
"""


@pytest.mark.slow
def test_a_recipe_ends_in_a_page_with_pictures_of_where_the_folds_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENS_RUNS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos(Path("photos"))
    Path("mine.yaml").write_text(RECIPE)
    assert ens(["run", "mine.yaml", "--no-report"]) == 0
    assert not Path("runs/report").exists()
    assert ens(["run", "mine.yaml"]) == 0
    path = Path("runs/report/mine.html")
    assert f"report: {path}" in capfd.readouterr().err
    result = checked(path.read_text(encoding="utf-8"))
    assert "This is not a medical device." in result.text and "mine.yaml" in result.text
    pictures = [str(attributes["alt"]) for tag, attributes in result.tags if tag == "img"]
    cams = [says for says in pictures if "Grad-CAM" in says]
    assert len(cams) == 2 * (len(pictures) - len(cams)) > 0
    for says in cams:
        fold, name = re.fullmatch(r"Where (\S+) looks for \w+ in (\S+) \(Grad-CAM\).*", says).groups()  # type: ignore
        assert name in Run(Path("runs") / fold).predictions("valid").ids.tolist()
    drawn = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/figures/gradcam/*.png")}
    assert len(drawn) == len(cams)
    assert ens(["report", "--recipe", "mine.yaml"]) == 0
    assert drawn == {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/figures/gradcam/*.png")}
    assert path.read_text(encoding="utf-8").count("<img") == len(pictures)
    Path("photos/train/left/train-left0.png").unlink()
    (ensemble,) = Path("runs").glob("ensemble-*")
    assert ens(["report", ensemble.name, "--out", "moved.html"]) == 0
    text = checked(Path("moved.html").read_text(encoding="utf-8")).text
    assert "No images: its images have changed since." in text
