"""Sections of the report: summary, scope, members, classes, training, sweeps, mistakes."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_runs import FINGERPRINT, member, predictions
from helpers.fake_runs import run as write
from helpers.pages import Parsed, checked, page_of, pool, rows_taken
from PIL import Image

from ensemble.cli import run as ens
from ensemble.combine.candidates import candidates
from ensemble.combine.ensembler import combine
from ensemble.core.files import write_json
from ensemble.report.figures import overlaid
from ensemble.report.html import data_uri
from ensemble.report.page import report_page
from ensemble.report.sections.mistakes import heat_picture, heatmaps
from ensemble.report.sections.scope import about_run, evidence
from ensemble.runs.imports import import_run
from ensemble.runs.run import Run, all_runs

pytestmark = pytest.mark.usefixtures("quick_report")


def test_summary_states_interval_and_scope(tmp_path: Path) -> None:
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


def test_legend_has_the_strokes_of_the_lines(tmp_path: Path) -> None:
    item = write(tmp_path, "net-00000001", {"valid": predictions(80, 1, classes=list("abcd"))})
    html = page_of(item).html
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


def student_of_folds(folder: Path) -> Run:
    """One network for all rows, and two that saw half of them each."""
    teacher = combine(pool(folder), folder=folder).run
    rows, half = predictions(60, 8), np.arange(60) < 30
    folds = [
        write(folder, f"net-student-fold{i}-0000000{i}", {"valid": rows_taken(rows, part)}, kind="student", fold=i)
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


def test_section_of_a_student(tmp_path: Path) -> None:
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


def test_section_of_an_import(tmp_path: Path) -> None:
    runs = pool(tmp_path, m=2, kind="import")
    for run in (runs[0], combine(runs, folder=tmp_path).run):
        page = page_of(run)
        assert "taken on trust" in " ".join(page.warnings) and "not learnt from" not in " ".join(page.sentences)
        assert "honest as it stands" not in page.html


def test_summary_states_an_honest_score_of_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_recall_of_grouped_rows_has_a_wider_interval(tmp_path: Path) -> None:
    alone = predictions(120, 1)
    # ten copies of each row are one patient
    copies = np.repeat(np.arange(0, 120), 10)
    ids = np.array([f"r{i:04d}" for i in range(1200)])
    grouped = replace(rows_taken(alone, copies), ids=ids, groups=np.array([f"p{i}" for i in copies]))
    pages = [
        page_of(write(tmp_path / name, "n-00000001", {"valid": item}))
        for name, item in (("one", alone), ("many", grouped), ("blind", replace(grouped, groups=None)))
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


def test_class_with_lowest_recall_is_named(tmp_path: Path) -> None:
    item = predictions(90, 3)
    assert item.targets is not None
    bees = item.targets == 1
    # no bee is called one
    probs = np.where(bees[:, None], np.array([0.7, 0.1, 0.2], np.float32), item.probs)
    run = write(tmp_path, "net-00000001", {"valid": replace(item, probs=probs.astype(np.float32))})
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


def test_import_without_targets_has_no_score(tmp_path: Path) -> None:
    from ensemble.core.predictions import save

    valid = save(tmp_path / "v.npz", predictions(9, 1, labelled=False))
    created = import_run("their's vit & co", folder=tmp_path / "runs", valid=valid).run
    page = page_of(created)
    result = checked(page.html)
    assert "no row" in result.text and "has a label" in result.text and page.facts["score"] is None
    assert "Scores on" not in result.text and "confident mistakes" not in result.text


def test_labelled_test_replaces_unlabelled_validation(tmp_path: Path) -> None:
    item = write(tmp_path, "net-00000001", {"test": predictions(40, 1, prefix="t")}, kind="refit")
    page = page_of(item)
    result = checked(page.html)
    assert result.table("Scores on 40 rows of test")[0]["score"] == f"{item.metrics['test']['accuracy']:.4f}"
    assert "There are no labelled validation rows; every score here is of test" in result.text


def test_section_of_a_run_without_mistakes(tmp_path: Path) -> None:
    right = predictions(30, 0, skill=1.0)
    item = write(tmp_path, "net-00000001", {"valid": replace(right, probs=np.eye(3, dtype="f4")[right.targets])})
    assert "None of 30 rows is wrong." in checked(page_of(item).html).text


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
def test_reproduce_command_repeats_the_ensemble(
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


def test_sweeps_of_the_data_are_shown(tmp_path: Path) -> None:
    item = member(tmp_path, "net-00000001", 1)
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
    result = checked(page_of(item).html)
    assert "Best accuracy of mine <b>." in result.text and "old" in result.text and "theirs" not in result.text
    table = result.table("log_loss of each cell")
    assert table[1] == {"augment \\ lr": "<flip>", "0.1": "0.2500", "0.2": ""}
    marks = re.findall(r'<td style="--s: ([\d.]+)" class="mark">([\d.]+)', page_of(item).html)
    assert marks == [("1.000", "0.2500"), ("1.000", "0.7500")]  # the least loss, the most accuracy


def test_trials_of_a_search_are_listed_best_first(tmp_path: Path) -> None:
    item = member(tmp_path, "net-00000001", 1)
    place = tmp_path / "sweeps" / "search"
    place.mkdir(parents=True)
    (place / "table.md").write_text("Best.\n")
    (place / "trials.csv").write_text("trial,lr,accuracy\n1,0.012345678,0.5\n2,0.2,\n3,0.3,0.9\n")
    write_json(place / "sweep.json", {"schema": 1, "fingerprint": FINGERPRINT, "metric": "accuracy"})
    rows = checked(page_of(item).html).table("The best 2 of 3 trials")
    assert [(row["trial"], row["lr"], row["accuracy"]) for row in rows] == [
        ("3", "0.3", "0.9000"),
        ("1", "0.01235", "0.5000"),
    ]


def test_pictures_stay_below_six_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_gradcam_pictures_are_found_by_row_class_and_weights(tmp_path: Path) -> None:
    item = member(tmp_path, "net-00000001", 1)
    (item.path / "weights.safetensors").write_bytes(b"")
    (item.path / "recipe.yaml").write_text("arch: net\n")
    subject = about_run(item)
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
