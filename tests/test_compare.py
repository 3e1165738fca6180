"""Laws of runs side by side: what a history says, each class's scores, conclusions, mistakes, the pictures."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_runs import member
from helpers.fake_runs import run as write
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from ensemble.cli import run as ens
from ensemble.core.errors import DataError, MismatchedRuns
from ensemble.core.predictions import Predictions
from ensemble.report import figures
from ensemble.report.classes import Labelled, balance, class_scores, confusion, labelled
from ensemble.report.compare import Pair, conclusion, members_csv, members_markdown, ranked, sides
from ensemble.report.sections.mistakes import surest_mistakes
from ensemble.report.sections.training import training_summary
from ensemble.runs.history import Epoch, history
from ensemble.runs.run import Run


def rows_of(targets: Any, probs: Any) -> Labelled:
    probs = np.asarray(probs, np.float32)
    k = probs.shape[1]
    return Labelled(
        np.array([f"i{n}" for n in range(len(probs))]),
        probs / probs.sum(axis=1, keepdims=True),
        np.asarray(targets, np.int64),
        tuple(f"c{c}" for c in range(k)),
        None,
    )


@given(st.integers(2, 5), st.integers(8, 60), st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_class_scores_are_scikit_learns(k: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = rows_of(np.concatenate([np.arange(k), random.integers(0, k, n)]), random.random((n + k, k)) + 1e-3)
    assert confusion(rows).tolist() == confusion_matrix(rows.targets, rows.predicted, labels=range(k)).tolist()
    result = class_scores(rows)
    precision, recall, f1, support = precision_recall_fscore_support(
        rows.targets, rows.predicted, labels=range(k), zero_division=np.nan
    )
    for c, one in enumerate(result):
        assert one.precision == pytest.approx(precision[c], nan_ok=True)
        assert one.recall == pytest.approx(recall[c])
        assert one.rows == support[c]
        assert one.auc == pytest.approx(roc_auc_score(rows.targets == c, rows.probs[:, c]))
        assert one.tp + one.fn + one.fp + one.tn == n + k
        others = rows.targets != c
        assert one.specificity == pytest.approx((rows.predicted[others] != c).mean())
        if one.precision + one.recall > 0:
            assert one.f1 == pytest.approx(f1[c])
    even = balance(result)
    assert even.mean == pytest.approx(recall.mean()) and even.lowest == pytest.approx(recall.min())


def test_a_class_without_rows_says_nothing() -> None:
    rows = rows_of([0, 0, 1], [[3, 1, 1], [1, 3, 1], [1, 3, 1]])
    missing = class_scores(rows)[2]
    assert np.isnan([missing.recall, missing.precision, missing.f1, missing.auc]).all()
    assert missing.specificity == 1
    assert balance(class_scores(rows)).worst == "c0"


def point(epoch: int, train: float, valid: float | None, valid_loss: float | None = 1.0, stage: int = 0) -> Epoch:
    return Epoch(stage, epoch - 1, 1.0 - train / 2, valid_loss, train, valid, 0.1, 2.0)


def test_a_course_says_how_far_and_how_fast() -> None:
    reported = training_summary([point(1, 0.5, 0.6, 1.0), point(2, 0.8, 0.76, 0.5), point(3, 0.97, 0.8, 0.6)])
    assert reported is not None
    assert (reported.epochs, reported.best_train, reported.best_valid, reported.epochs_to_target) == (
        3,
        0.97,
        0.8,
        2,
    )
    assert reported.gap == pytest.approx(0.17) and reported.overfits
    assert reported.lowest_train_loss == pytest.approx(1 - 0.97 / 2)
    calm = training_summary([point(1, 0.5, 0.6, 1.0), point(2, 0.9, 0.7, 0.5)])
    assert calm is not None and calm.overfits is False  # the loss is at its lowest
    assert training_summary([]) is None
    blind = training_summary([point(1, 0.5, None, None)])
    assert (
        blind is not None and (blind.best_valid, blind.gap, blind.overfits, blind.epochs_to_target) == (None,) * 4
    )


def test_a_history_is_read_back_and_a_broken_one_refused(tmp_path: Path) -> None:
    one = member(tmp_path, "net-00000001", 0)
    assert history(one) == []
    path = one.path / "history.csv"
    header = "stage,epoch,train_loss,valid_loss,train_accuracy,valid_accuracy,lr,seconds\n"
    path.write_text(header + "0,0,1.5,,0.5,,0.1,2.0\n1,0,1.0,0.9,0.6,0.7,0.05,2.5\n")
    assert history(one) == [
        Epoch(0, 0, 1.5, None, 0.5, None, 0.1, 2.0),
        Epoch(1, 0, 1.0, 0.9, 0.6, 0.7, 0.05, 2.5),
    ]
    path.write_text("stage,epoch\n0,0\n")
    with pytest.raises(DataError, match="not a history"):
        history(one)


def three(folder: Path) -> list[Run]:
    return [
        member(folder, "strong-00000001", 1, n=600, skill=0.9),
        member(folder, "weak-00000002", 2, n=600, skill=0.5),
        member(folder, "alike-00000003", 3, n=600, skill=0.88),
    ]


def test_the_conclusion_follows_from_the_numbers(tmp_path: Path) -> None:
    runs = three(tmp_path)
    small = json.loads((runs[2].path / "run.json").read_text())
    (runs[2].path / "run.json").write_text(json.dumps({**small, "parameters": 5}))
    result = sides([Run(run.path) for run in runs])
    assert [one.run.id for one in ranked(result)] == ["strong-00000001", "alike-00000003", "weak-00000002"]
    output = conclusion(ranked(result))
    assert "strong-00000001 is the most accurate" in output and "do not tell alike-00000003 from it" in output
    assert "alike-00000003 has 50 % of the parameters" in output and "weak" not in output
    alone = conclusion(ranked([result[0], result[1]]))
    assert "points above the next (95 % interval" in alone
    text = members_markdown(result)
    assert text.count("**") == 2 and "**" + f"{result[0].valid:.4f}" + "**" in text
    read_back = list(csv.DictReader(io.StringIO(members_csv(result))))
    assert [float(row["validation accuracy"]) for row in read_back] == [one.valid for one in ranked(result)]


def test_a_pair_is_compared_on_the_same_rows(tmp_path: Path) -> None:
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


def test_rows_and_classes_in_another_order_are_put_right(tmp_path: Path) -> None:
    one = member(tmp_path, "one-00000001", 1, n=90)
    valid = one.predictions("valid")
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
    first, second = sides([one, other])
    assert np.array_equal(first.rows.probs, second.rows.probs)
    assert "no difference" in Pair(first, second).sentences()


def test_the_surest_mistakes_come_first() -> None:
    rows = rows_of([0, 1, 1, 0], [[9, 1], [8, 2], [6, 4], [2, 8]])
    assert surest_mistakes(rows, 9).tolist() == [1, 3, 2]
    assert surest_mistakes(rows, 1).tolist() == [1]
    assert surest_mistakes(rows_of([0], [[1, 0]]), 3).tolist() == []


@pytest.mark.parametrize("k", [2, 3, pytest.param(50, marks=pytest.mark.slow)])
def test_pictures_of_any_number_of_classes(k: int) -> None:
    random = np.random.default_rng(0)
    rows = rows_of(np.arange(4 * k) % k, random.random((4 * k, k)))
    sides = {"one": rows, "other": rows}
    points = [point(1, 0.5, 0.4), point(2, 0.6, 0.5, stage=1)]
    for created in (
        figures.curves({"one": points, "other": points[:1]}),
        figures.confusions(sides),
        figures.roc_and_precision(sides),
        figures.reliability(sides),
        figures.distribution(rows.classes, [1] * k, [2] * k),
        figures.gallery([(np.zeros((8, 8, 3), np.uint8), "zero")] * 3, "zeros"),
        figures.sheet({"none": [np.zeros((8, 8, 3), np.uint8)], "b": []}, "title"),
    ):
        assert Image.open(io.BytesIO(created)).size[0] > 300


def test_of_many_classes_those_most_often_mistaken_have_curves() -> None:
    k = 30
    targets = np.arange(4 * k) % k
    probs = np.eye(k)[np.where(targets < 5, (targets + 1) % k, targets)]  # the first five classes are always wrong
    rows = rows_of(targets, probs)
    shown = figures._most_mistaken([rows, rows])
    assert shown[:5] == [0, 1, 2, 3, 4] and len(shown) == figures.MOST_PANELS


def test_names_are_drawn_as_they_are() -> None:
    rows = rows_of(np.arange(12) % 3, np.random.default_rng(0).random((12, 3)))
    strange = replace(rows, classes=("$\\foo$", "a$b$", "{x}_1"))
    sides = {"run$\\bar$": strange}
    for created in (figures.confusions(sides), figures.roc_and_precision(sides), figures.reliability(sides)):
        assert Image.open(io.BytesIO(created)).size[0] > 300


def test_labels_are_needed(tmp_path: Path) -> None:
    run = member(tmp_path, "net-00000001", 0)
    with pytest.raises(DataError, match="no labels to compare with"):
        labelled([run], "test")


def test_the_command_writes_tables_and_figures(
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


# ---- with networks ----


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a run that has learnt that one side of an image is bright."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for split, each in (("train", 24), ("valid", 8)):
        for name, columns in (("left", slice(2, 12)), ("right", slice(20, 30))):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(each):
                pixels = random.integers(0, 60, (32, 32, 3), dtype=np.uint8)
                row = int(random.integers(4, 18))
                pixels[row : row + 10, columns] += 150
                Image.fromarray(pixels).save(folder / f"{name}{index}.png")
    words = ["train", "--arch", "customnet", "--data", "photos", "--image-size", "32", "--batch-size", "8"]
    assert ens([*words, "--epochs", "6", "--lr", "0.01", "--set", "filters=[8, 16]", "--set", "augment=none"]) == 0
    (run,) = (path.name for path in Path("runs").glob("customnet-*"))
    return run


@pytest.mark.slow
def test_grad_cam_looks_where_the_answer_is(trained: str, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    from ensemble.inference.gradcam import grad_cam
    from ensemble.inference.model import load_network

    run = Run(Path("runs") / trained)
    network = load_network(run, torch.device("cpu"))
    right = 0
    for path in sorted(Path("photos/valid").rglob("*.png")):
        pixels = network.square.of(Image.open(path))
        cam, probs = grad_cam(network.network, network.normalised(pixels, torch.device("cpu")))
        assert cam.shape == (32, 32) and float(cam.min()) >= 0 and float(cam.max()) <= 1
        reported = network.classes[int(probs.argmax())]
        half = cam[:, :16].sum() > cam[:, 16:].sum()
        right += reported == path.parent.name and bool(half) == (reported == "left")
    assert right >= 12
    capfd.readouterr()
    assert ens(["explain", trained, "photos/valid/left/left0.png", "left/left1", "--class", "left"]) == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 2 and "gradcam.png" in err
    assert (Path("runs") / trained / "figures" / "gradcam.png").is_file()
    assert ens(["explain", trained, "nothing.png"]) == 3
    assert "neither a file nor the id" in capfd.readouterr().err
    assert ens(["explain", trained, "left/left1", "--class", "lfet"]) == 2


@pytest.mark.slow
def test_a_trained_run_has_pictures_of_its_mistakes_and_its_classes(
    trained: str, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    words = ["train", "--arch", "customnet", "--data", "photos", "--image-size", "32", "--batch-size", "8"]
    assert (
        ens(
            [*words, "--epochs", "1", "--lr", "0.00001", "--set", "sampler=oversample", "--set", "sampler_count=30"]
        )
        == 0
    )
    other = capfd.readouterr().out.strip()
    assert json.loads((Path("runs") / other / "run.json").read_text())["shown"] == {
        "before": [24, 24],
        "after": [30, 30],
    }
    assert ens(["compare", trained, other]) == 0
    created = {path.name for path in (Path("runs") / other / "figures").iterdir()}
    assert created == {
        "curves.png",
        "confusion.png",
        "roc_pr.png",
        "reliability.png",
        "classes.png",
        "mistakes.png",
    }
    assert {path.suffix for path in Path("runs/compare").iterdir()} == {".md", ".csv", ".png"}
    (Path("photos") / "train" / "left" / "left0.png").unlink()
    assert ens(["compare", other]) == 0
    assert "no pictures of its mistakes (its images have changed since)" in capfd.readouterr().err


@pytest.mark.slow
def test_sheets_and_layers_are_shown(trained: str, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert ens(["show", "--data", "photos", "--image-size", "32", "--augment", "flip+noise", "--out", "a.png"]) == 0
    assert ens(["show", "--data", "photos", "--image-size", "32", "--preprocess", "all", "--out", "b.png"]) == 0
    assert Image.open("a.png").size[0] > 300 and Image.open("b.png").size[1] > 800
    assert capfd.readouterr().out.split() == ["a.png", "b.png"]
    assert ens(["show", "--layers", "3", "--arch", "resnet18"]) == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 4 and "3 of 20 layers" in err
    assert ens(["show", "--augment", "flpi", "--data", "photos"]) == 2
    assert "did you mean 'flip'" in capfd.readouterr().err
