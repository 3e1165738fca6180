"""Formats of submissions: columns, digits, zips."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_runs import predictions, rewritten, run
from helpers.samples import rows_of_csv, write_sample
from hypothesis import given
from hypothesis import strategies as st

from ensemble.core.errors import DataError, RecipeError
from ensemble.core.predictions import Predictions
from ensemble.metrics import labels
from ensemble.recipe.schema import SubmitSpec
from ensemble.submit.formats import Sheet, numbers, zipped
from ensemble.submit.submission import check, submit


def test_format_kaggle(tmp_path, net):
    test = net.predictions("test")
    rows = rows_of_csv(submit(net, SubmitSpec(), out=tmp_path / "a.csv").path)
    assert rows[0] == ["id", "label"]
    assert [row[0] for row in rows[1:]] == test.ids.tolist()
    assert [row[1] for row in rows[1:]] == test.classes[labels(test.probs)].tolist()


def test_format_kaggle_probs_keeps_every_float(tmp_path, net):
    test = net.predictions("test")
    spec = SubmitSpec(format="kaggle-probs", id_column="image")
    rows = rows_of_csv(submit(net, spec, out=tmp_path / "a.csv").path)
    assert rows[0] == ["image", *test.classes.tolist()]
    assert np.array([row[1:] for row in rows[1:]], dtype=np.float32).tobytes() == test.probs.tobytes()


def test_format_of_one_column_of_the_positive_class(tmp_path, net):
    test = net.predictions("test")
    spec = SubmitSpec(format="kaggle-probs", positive="bee", label_column="target")
    rows = rows_of_csv(submit(net, spec, out=tmp_path / "a.csv").path)
    assert rows[0] == ["id", "target"]
    assert np.array([row[1] for row in rows[1:]], dtype=np.float32).tobytes() == test.probs[:, 1].tobytes()


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_format_numbers_name_one_float(values):
    array = np.array(values, dtype=np.float32)
    assert np.array(numbers(array), dtype=np.float32).tobytes() == array.tobytes()


@pytest.mark.parametrize("label_as", ["name", "index", "probabilities"])
def test_format_codabench_follows_the_recipe(tmp_path, net, label_as):
    test = net.predictions("test")
    shuffled = np.array([f"t{i}" for i in (10, 9, 2, *range(11, 28))])
    rewritten(net, "test", replace(test, ids=shuffled))
    spec = SubmitSpec(
        format="codabench",
        inner_name="answer.tsv",
        header=label_as != "index",
        separator="\t",
        id_column="case",
        label_as=label_as,
        order="natural",
    )
    written = submit(net, spec, out=tmp_path / "a.zip")
    with zipfile.ZipFile(written.path) as archive:
        assert archive.namelist() == ["answer.tsv"]
        text = archive.read("answer.tsv").decode()
    rows = list(csv.reader(io.StringIO(text), delimiter="\t"))
    if label_as != "index":
        assert rows.pop(0) == ["case", *(test.classes.tolist() if label_as == "probabilities" else ["label"])]
    assert [row[0] for row in rows[:4]] == ["t2", "t9", "t10", "t11"]
    best = int(labels(test.probs)[2])  # the row of t2
    expected = {
        "name": [str(test.classes[best])],
        "index": [str(best)],
        "probabilities": numbers(test.probs[2]),
    }
    assert rows[0][1:] == expected[label_as]


def test_name_that_ends_in_zip_is_a_zip(tmp_path, net):
    assert zipfile.is_zipfile(submit(net, SubmitSpec(), out=tmp_path / "a.zip").path)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["a.csv"]


def test_numeric_names_stay_text_in_submissions(tmp_path):
    classes = ["NA", "0001", 'a "quoted", name']
    ids = np.array(["0001", "1e5", "a,b"])
    test = Predictions(ids, np.eye(3, dtype=np.float32), np.array(classes))
    odd = run(tmp_path, "odd-0", {"valid": predictions(9, 1, classes=classes), "test": test})
    rows = rows_of_csv(submit(odd, SubmitSpec(), out=tmp_path / "a.csv").path)
    assert rows[1:] == [["0001", "NA"], ["1e5", "0001"], ["a,b", 'a "quoted", name']]


@pytest.mark.parametrize("format", ["kaggle", "kaggle-probs"])
def test_single_probability_needs_the_positive_class(tmp_path, net, format):
    test = net.predictions("test")
    path = write_sample(tmp_path, "id,target\n" + "".join(f"{item},0.5\n" for item in test.ids.tolist()))
    with pytest.raises(RecipeError, match="say of which class with `positive:`"):
        submit(net, SubmitSpec(format=format), sample=path, out=tmp_path / "a.csv")
    rows = rows_of_csv(
        submit(net, SubmitSpec(format=format, positive="cat"), sample=path, out=tmp_path / "a.csv").path
    )
    assert np.array([row[1] for row in rows[1:]], dtype=np.float32).tobytes() == test.probs[:, 2].tobytes()


@pytest.mark.parametrize(
    ("classes", "named"), [(["NA", "ok"], "'NA'"), (["null", "None"], "'None', 'null'"), (["na", "ok"], "")]
)
def test_labels_that_scorers_read_as_missing_are_named(tmp_path, classes, named):
    net = run(tmp_path, "net-0", {"test": predictions(40, 1, classes=classes)})
    notes = [note for note in submit(net, SubmitSpec(), out=tmp_path / "a.csv").notes if "missing values" in note]
    assert [note.partition(" may be")[0] for note in notes] == ([named] if named else [])
    assert not any(
        "missing values" in n for n in submit(net, SubmitSpec(format="kaggle-probs"), out=tmp_path / "p.csv").notes
    )


def test_positive_class_without_effect_is_noted(tmp_path, net):
    notes = submit(net, SubmitSpec(positive="ant"), out=tmp_path / "a.csv").notes
    assert any("--positive has no part in kaggle" in note for note in notes)
    probs = submit(net, SubmitSpec(format="kaggle-probs", positive="ant"), out=tmp_path / "b.csv").notes
    assert not any("--positive" in note for note in probs)


def test_class_called_like_the_id_column_is_refused(tmp_path):
    classes = ["id", "other"]
    odd = run(tmp_path, "odd-0", {"test": predictions(4, 1, classes=classes)})
    with pytest.raises(DataError, match="two columns are called 'id'"):
        submit(odd, SubmitSpec(format="kaggle-probs"), out=tmp_path / "a.csv")
    submit(odd, SubmitSpec(format="kaggle-probs", id_column="image"), out=tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        (Sheet(("id", "label"), (("a", "x"),)), "has 1 rows, 2 were predicted"),
        (Sheet(("id", "label"), (("a", "x"), ("b", ""))), "empty cell"),
        (Sheet(("id", "label"), (("a", "x"), ("b", "x", "y"))), "wrong number of cells"),
    ],
)
def test_sheets_are_checked(sheet, message):
    with pytest.raises(DataError, match=message):
        check(sheet, 2)


def test_zip_holds_no_time():
    assert zipped(b"x", "a.csv") == zipped(b"x", "a.csv")
    assert zipfile.ZipFile(io.BytesIO(zipped(b"x", "a.csv"))).infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("separator", ["\n", "\r", '"', "\0", "a", "7", "\x1b"])
def test_impossible_separators_are_refused(separator):
    with pytest.raises(ValueError, match="separator"):
        SubmitSpec(separator=separator)
    assert [SubmitSpec(separator=item).separator for item in ",;\t| "] == list(",;\t| ")
