"""Submission files: what they hold, what is refused before anything is written, the same bytes again."""

import csv
import io
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_runs import contents, member, predictions, rewritten, run
from hypothesis import given
from hypothesis import strategies as st

from ensemble.combine.ensembler import combine
from ensemble.core.errors import DataError, RecipeError
from ensemble.core.files import read_json, sha256_file
from ensemble.core.predictions import Predictions
from ensemble.metrics import labels
from ensemble.recipe.schema import SubmitSpec
from ensemble.runs.run import Run
from ensemble.submit.formats import Sheet, numbers, zipped
from ensemble.submit.submission import check, submit
from ensemble.submit.template import fill, read_template


@pytest.fixture
def net(tmp_path):
    return member(tmp_path / "runs", "net-00000000", seed=1)


def table(path, separator=","):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=separator))


def sample(tmp_path, text):
    path = tmp_path / "sample.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_kaggle(tmp_path, net):
    test = net.predictions("test")
    rows = table(submit(net, SubmitSpec(), out=tmp_path / "a.csv").path)
    assert rows[0] == ["id", "label"]
    assert [row[0] for row in rows[1:]] == test.ids.tolist()
    assert [row[1] for row in rows[1:]] == test.classes[labels(test.probs)].tolist()


def test_kaggle_probs_gives_back_every_float(tmp_path, net):
    test = net.predictions("test")
    spec = SubmitSpec(format="kaggle-probs", id_column="image")
    rows = table(submit(net, spec, out=tmp_path / "a.csv").path)
    assert rows[0] == ["image", *test.classes.tolist()]
    assert np.array([row[1:] for row in rows[1:]], dtype=np.float32).tobytes() == test.probs.tobytes()


def test_one_column_of_the_positive_class(tmp_path, net):
    test = net.predictions("test")
    spec = SubmitSpec(format="kaggle-probs", positive="bee", label_column="target")
    rows = table(submit(net, spec, out=tmp_path / "a.csv").path)
    assert rows[0] == ["id", "target"]
    assert np.array([row[1] for row in rows[1:]], dtype=np.float32).tobytes() == test.probs[:, 1].tobytes()


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_numbers_have_the_digits_to_name_one_float(values):
    array = np.array(values, dtype=np.float32)
    assert np.array(numbers(array), dtype=np.float32).tobytes() == array.tobytes()


@pytest.mark.parametrize("label_as", ["name", "index", "probabilities"])
def test_codabench_follows_the_recipe(tmp_path, net, label_as):
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


def test_the_default_place_and_the_sidecar(tmp_path, net, monkeypatch):
    monkeypatch.chdir(tmp_path)
    created = combine([net, member(tmp_path / "runs", "other-00000000", seed=2)], folder=tmp_path / "runs")
    written = submit(created.run, SubmitSpec())
    assert written.path.as_posix() == f"submissions/{created.run.id}.csv"
    facts = read_json(tmp_path / "submissions" / f"{created.run.id}.csv.json")
    assert facts["sha256"] == sha256_file(written.path)
    assert (facts["rows"], facts["format"], facts["run"]) == (20, "kaggle", created.run.id)
    assert [one["id"] for one in facts["members"]] == ["net-00000000", "other-00000000"]
    assert sum(one["weight"] for one in facts["members"]) == pytest.approx(1)
    assert facts["honest"] == created.run.metrics["honest"]
    assert submit(created.run, SubmitSpec(zip=True)).path.as_posix() == f"submissions/{created.run.id}.zip"


@pytest.mark.parametrize("format", ["kaggle", "kaggle-probs", "codabench"])
def test_repeated_the_bytes_are_the_same(tmp_path, net, format):
    for folder in ("one", "two"):
        submit(net, SubmitSpec(format=format, zip=True), out=tmp_path / folder / "a.zip")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_name_that_ends_in_zip_is_a_zip(tmp_path, net):
    assert zipfile.is_zipfile(submit(net, SubmitSpec(), out=tmp_path / "a.zip").path)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["a.csv"]


def test_names_that_look_like_other_things_stay_text(tmp_path):
    classes = ["NA", "0001", 'a "quoted", name']
    ids = np.array(["0001", "1e5", "a,b"])
    test = Predictions(ids, np.eye(3, dtype=np.float32), np.array(classes))
    odd = run(tmp_path, "odd-0", {"valid": predictions(9, 1, classes=classes), "test": test})
    rows = table(submit(odd, SubmitSpec(), out=tmp_path / "a.csv").path)
    assert rows[1:] == [["0001", "NA"], ["1e5", "0001"], ["a,b", 'a "quoted", name']]


def test_a_sample_decides_columns_spelling_and_order(tmp_path, net):
    test = net.predictions("test")
    ids = [f"{one}.JPG" if i % 2 else one for i, one in enumerate(test.ids[::-1].tolist())]
    text = "\ufeffcat,image,ant,bee\r\n" + "".join(f"0.2,{one},0.4,0.4\r\n" for one in ids)
    written = submit(net, SubmitSpec(id_column="image"), sample=sample(tmp_path, text), out=tmp_path / "a.csv")
    rows = table(written.path)
    assert rows[0] == ["cat", "image", "ant", "bee"]
    assert [row[1] for row in rows[1:]] == ids
    ours = np.array([[row[2], row[3], row[0]] for row in rows[1:]], dtype=np.float32)
    assert ours.tobytes() == test.probs[::-1].tobytes()


def test_a_sample_with_labels(tmp_path, net):
    test = net.predictions("test")
    text = "name;class\n" + "".join(f"{one}.png;ant\n" for one in test.ids.tolist())
    rows = table(submit(net, SubmitSpec(), sample=sample(tmp_path, text), out=tmp_path / "a.csv").path, ";")
    assert rows[0] == ["name", "class"]
    assert rows[1:] == [
        [f"{one}.png", str(test.classes[best])] for one, best in zip(test.ids, labels(test.probs), strict=True)
    ]


def test_a_run_whose_ids_have_an_extension_meets_a_sample_without(tmp_path, net):
    test = net.predictions("test")
    rewritten(net, "test", replace(test, ids=np.char.add(test.ids, ".jpeg")))
    text = "id,label\n" + "".join(f"{one},ant\n" for one in test.ids.tolist())
    rows = table(submit(net, SubmitSpec(), sample=sample(tmp_path, text), out=tmp_path / "a.csv").path)
    assert [row[0] for row in rows[1:]] == test.ids.tolist()


@pytest.mark.parametrize("format", ["kaggle", "kaggle-probs"])
def test_a_single_probability_needs_the_positive_class(tmp_path, net, format):
    test = net.predictions("test")
    path = sample(tmp_path, "id,target\n" + "".join(f"{one},0.5\n" for one in test.ids.tolist()))
    with pytest.raises(RecipeError, match="say of which class with `positive:`"):
        submit(net, SubmitSpec(format=format), sample=path, out=tmp_path / "a.csv")
    rows = table(submit(net, SubmitSpec(format=format, positive="cat"), sample=path, out=tmp_path / "a.csv").path)
    assert np.array([row[1] for row in rows[1:]], dtype=np.float32).tobytes() == test.probs[:, 2].tobytes()


def test_a_sample_may_leave_out_the_unnamed_class_alone(tmp_path, net):
    test = net.predictions("test")
    path = sample(tmp_path, "id,cat,bee\n" + "".join(f"{one},0,0\n" for one in test.ids.tolist()))
    rows = table(submit(net, SubmitSpec(), sample=path, out=tmp_path / "a.csv", unnamed="ant").path)
    assert np.array([row[2] for row in rows[1:]], dtype=np.float32).tobytes() == test.probs[:, 1].tobytes()
    with pytest.raises(DataError, match="missing: 'ant'"):
        submit(net, SubmitSpec(), sample=path, out=tmp_path / "b.csv")


def _lines(ids):
    return "id,label\n" + "".join(f"{one},ant\n" for one in ids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            _lines([f"t{i:03d}" for i in range(19)]),
            "19 ids, 20 were predicted (predicted but not in it: 't019')",
        ),
        (_lines([f"t{i:03d}" for i in range(21)]), "21 ids, 20 were predicted (no prediction for: 't020')"),
        (_lines([f"t{i:03d}" for i in range(20)] + ["t003"]), "more than once: 't003'"),
        (_lines([f"t{i:03d}" for i in range(20)] + ["t003.png"]), "more than once: 't003.png'"),
        ("id,ant,bee,dog\n", "20 were predicted (predicted but not in it"),
        (
            "id,ant,bee,dog\n" + "".join(f"t{i:03d},0,0,1\n" for i in range(20)),
            "not a class: 'dog'; missing: 'cat'",
        ),
        ("", "is empty"),
        ("id\nt000\n", "has the one column 'id'"),
        ("id,label\nt000\n", "other rows: 't000'"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path, net, text, message):
    path = sample(tmp_path, text)
    before = contents(tmp_path)
    with pytest.raises(DataError) as caught:
        submit(net, SubmitSpec(), sample=path, out=tmp_path / "a.csv")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_ids_that_differ_in_the_extension_alone_keep_apart(tmp_path):
    ids = np.array(["a.jpg", "a.png"])
    both = Predictions(ids, np.eye(2, dtype=np.float32), np.array(["x", "y"]))
    template = read_template(sample(tmp_path, "id,label\na.png,x\na.jpg,x\n"), SubmitSpec(), both.classes)
    sheet = fill(template, both, SubmitSpec(), probabilities=False)
    assert sheet.rows == (("a.png", "y"), ("a.jpg", "x"))
    template = read_template(sample(tmp_path, "id,label\na,x\na.jpg,x\n"), SubmitSpec(), both.classes)
    with pytest.raises(DataError, match="no prediction for: 'a'"):
        fill(template, both, SubmitSpec(), probabilities=False)


@pytest.mark.parametrize(
    ("spec", "out", "message"),
    [
        ({"format": "kagle"}, "a.csv", "did you mean 'kaggle'"),
        ({"format": "kaggle", "label_as": "probabilities"}, "a.csv", "--format kaggle-probs"),
        ({"format": "kaggle-probs", "positive": "be"}, "a.csv", "did you mean 'bee'"),
        ({"format": "codabench"}, "a.csv", "ends in .zip"),
        ({"zip": True}, "a.txt", "ends in .zip"),
        ({"format": "codabench", "inner_name": "a/b.csv"}, "a.zip", "without folders"),
        ({"format": "codabench", "inner_name": ".."}, "a.zip", "without folders"),
        ({}, ".", "is a folder"),
    ],
)
def test_specs_that_make_no_sense(tmp_path, net, spec, out, message):
    before = contents(tmp_path)
    with pytest.raises(RecipeError, match=message):
        submit(net, SubmitSpec(**spec), out=tmp_path / out)
    assert contents(tmp_path) == before


def test_the_sample_is_never_written_over(tmp_path, net):
    text = "id,label\n" + "".join(f"{one},ant\n" for one in net.predictions("test").ids.tolist())
    path = sample(tmp_path, text)
    with pytest.raises(RecipeError, match="is the sample itself"):
        submit(net, SubmitSpec(), sample=path, out=path)
    assert path.read_text() == text


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


def test_positive_without_a_part_is_said(tmp_path, net):
    notes = submit(net, SubmitSpec(positive="ant"), out=tmp_path / "a.csv").notes
    assert any("--positive has no part in kaggle" in note for note in notes)
    probs = submit(net, SubmitSpec(format="kaggle-probs", positive="ant"), out=tmp_path / "b.csv").notes
    assert not any("--positive" in note for note in probs)


def test_only_submissions_are_written_over(tmp_path, net):
    """A slip of the shell's completion would cost an image or the table of labels."""
    path = tmp_path / "train.csv"
    path.write_text("id,label\n")
    with pytest.raises(RecipeError, match=r"train.csv is there and was not written by `ens submit`"):
        submit(net, SubmitSpec(), out=path)
    assert path.read_text() == "id,label\n"
    path.unlink()
    submit(net, SubmitSpec(), out=path)
    submit(net, SubmitSpec(), out=path)


def test_a_class_called_like_the_id_column_is_refused(tmp_path):
    classes = ["id", "other"]
    odd = run(tmp_path, "odd-0", {"test": predictions(4, 1, classes=classes)})
    with pytest.raises(DataError, match="two columns are called 'id'"):
        submit(odd, SubmitSpec(format="kaggle-probs"), out=tmp_path / "a.csv")
    submit(odd, SubmitSpec(format="kaggle-probs", id_column="image"), out=tmp_path / "a.csv")


def test_a_run_without_test_predictions(tmp_path, net):
    (net.path / "test.npz").unlink()
    with pytest.raises(DataError, match="no predictions of 'test' \\(there are: none\\)"):
        submit(net, SubmitSpec(), out=tmp_path / "a.csv")


def test_nan_never_reaches_a_file(tmp_path, net):
    probs = net.predictions("test").probs.copy()
    probs[3, 1] = np.nan
    rewritten(net, "test", replace(net.predictions("test"), probs=probs))
    with pytest.raises(DataError, match=r"1 rows are not probabilities .* 't003'"):
        submit(net, SubmitSpec(), out=tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()


def test_a_further_test_set(tmp_path, net, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rewritten(net, "test-night", predictions(5, 3, prefix="n"))
    written = submit(net, SubmitSpec(), split="test-night")
    assert written.path.name == "net-00000000-test-night.csv"
    assert written.facts["rows"] == 5


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


def test_a_zip_holds_no_time():
    assert zipped(b"x", "a.csv") == zipped(b"x", "a.csv")
    assert zipfile.ZipFile(io.BytesIO(zipped(b"x", "a.csv"))).infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("refits", [False, True])
def test_an_ensemble_of_other_test_predictions_is_refused(tmp_path, refits):
    runs = [member(tmp_path, f"net{i}-0", seed=i) for i in range(2)]
    if refits:
        for i, one in enumerate(runs):
            test = predictions(20, 50 + i, prefix="t", labelled=False)
            run(tmp_path, f"full{i}-1", {"test": test}, kind="refit", parents=[one])
    created = combine(runs, folder=tmp_path, refits=refits).run
    who = "full1-1" if refits else "net1-0"
    rewritten(Run(tmp_path / who), "test", predictions(20, 77, prefix="t", labelled=False))
    with pytest.raises(
        DataError, match=rf"made from other predictions of '{who}'; type `ens --runs \S+ combine .* net0-0 net1-0`"
    ) as caught:
        submit(created, SubmitSpec(), out=tmp_path / "a.csv")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "a.csv").exists()
    shutil.rmtree(tmp_path / who)
    assert submit(created, SubmitSpec(), out=tmp_path / "a.csv").facts["rows"] == 20


def test_what_predicts_nothing_may_change(tmp_path):
    runs = [member(tmp_path, f"net{i}-0", seed=i) for i in range(2)]
    for i, one in enumerate(runs):
        test = predictions(20, 50 + i, prefix="t", labelled=False)
        run(tmp_path, f"full{i}-1", {"test": test}, kind="refit", parents=[one])
    created = combine(runs, folder=tmp_path, refits=True).run
    rewritten(runs[0], "test", predictions(20, 77, prefix="t", labelled=False))
    assert submit(created, SubmitSpec(), out=tmp_path / "a.csv").facts["rows"] == 20


def test_a_sample_with_an_open_quote_is_refused(tmp_path, net):
    with pytest.raises(DataError, match="CSV") as caught:
        submit(net, SubmitSpec(), sample=sample(tmp_path, 'id,label\n"t000,x\n'), out=tmp_path / "a.csv")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("separator", ["\n", "\r", '"', "\0", "a", "7", "\x1b"])
def test_separators_that_would_break_the_file(separator):
    with pytest.raises(ValueError, match="separator"):
        SubmitSpec(separator=separator)
    assert [SubmitSpec(separator=one).separator for one in ",;\t| "] == list(",;\t| ")


@pytest.mark.parametrize(
    ("values", "spec", "notes"),
    [
        (["Ant", "Bee"], {}, 1),
        (["0", "2"], {}, 1),
        (["0", "2"], {"label_as": "index"}, 0),
        (["ant", "?"], {}, 0),
        (["3", "4"], {"label_as": "index"}, 1),
    ],
)
def test_labels_of_the_sample_that_are_no_class_are_noted(tmp_path, net, values, spec, notes):
    text = "id,label\n" + "".join(f"t{i:03d},{values[i % 2]}\n" for i in range(20))
    created = submit(net, SubmitSpec(**spec), sample=sample(tmp_path, text), out=tmp_path / "a.csv")
    taken, *rest = created.notes
    assert "'label' is taken for the label" in taken
    assert len(rest) == notes
    assert all(values[0] in line for line in rest)
    assert ("label_as: index" in "".join(created.notes)) == (values == ["0", "2"] and notes == 1)


def test_classes_that_look_like_probabilities_are_labels(tmp_path):
    random = member(tmp_path / "runs", "net-1", seed=1, classes=["0.0", "1.0"])
    text = "id,label\n" + "".join(f"t{i:03d},0.0\n" for i in range(20))
    written = submit(random, SubmitSpec(), sample=sample(tmp_path, text), out=tmp_path / "a.csv")
    assert {row[1] for row in table(written.path)[1:]} <= {"0.0", "1.0"}
    assert len(written.notes) == 1


def test_headers_and_ids_of_a_sample_are_met_whatever_their_spelling(tmp_path, net):
    text = " Label , Id\n" + "".join(f"x, test/t{i:03d}.png\n" for i in range(20))
    written = submit(net, SubmitSpec(), sample=sample(tmp_path, text), out=tmp_path / "a.csv")
    rows = table(written.path)
    assert rows[0] == ["Label", "Id"]
    assert rows[1][1] == "test/t000.png"


def test_a_sample_may_lack_the_folders_of_our_ids_where_that_is_clear(tmp_path, net):
    ids = [f"{'ab'[i % 2]}/{i}" for i in range(20)]
    rewritten(net, "test", replace(net.predictions("test"), ids=np.array(ids)))
    text = "id,label\n" + "".join(f"{i}.png,ant\n" for i in range(20))
    rows = table(submit(net, SubmitSpec(), sample=sample(tmp_path, text), out=tmp_path / "a.csv").path)
    assert [row[0] for row in rows[1:]] == [f"{i}.png" for i in range(20)]
    output = net.predictions("test")
    assert [row[1] for row in rows[1:]] == output.classes[labels(output.probs)].tolist()
    for taken, theirs in (("b/1", "other/0"), ("c/0", "0")):  # of another folder; the id of two rows
        rewritten(net, "test", replace(output, ids=np.array([*ids[:-1], taken if theirs == "0" else ids[-1]])))
        path = sample(tmp_path, text.replace("0.png", f"{theirs}.png", 1))
        with pytest.raises(DataError, match=f"no prediction for: '{theirs}.png'"):
            submit(net, SubmitSpec(), sample=path, out=tmp_path / "b.csv")


@pytest.mark.parametrize("spelled", [("e\u0301", "\u00e9"), ("\u00e9", "e\u0301")])
def test_ids_meet_in_either_spelling_of_unicode(tmp_path, spelled):
    ours, theirs = spelled
    both = Predictions(np.array([ours, "z"]), np.eye(2, dtype=np.float32), np.array(["x", "y"]))
    template = read_template(sample(tmp_path, f"id,label\nz,x\n{theirs},x\n"), SubmitSpec(), both.classes)
    assert fill(template, both, SubmitSpec(), probabilities=False).rows == (("z", "y"), (theirs, "x"))


@pytest.mark.parametrize(
    ("header", "values", "spec", "taken"),
    [
        ("id,bee", "0", {}, "the probability of 'bee', as it is called so"),
        ("id,bee", "0.5", {}, "the probability of 'bee', as it is called so"),
        ("id,Bee", "1", {}, "the probability of 'bee', as it is called so"),
        ("id,bee", "0", {"label_as": "index"}, "1 where the predicted class is 'bee', else 0"),
        ("id,bee", "ant", {}, "the label, as its values are no probabilities"),
        ("id,label", "0", {}, "the label, as it is called; if it holds a probability"),
        ("id,target", "0", {}, "the label, as it is called; if it holds a probability"),
        ("id,Class", "ant", {}, "the label, as it is called"),
        ("id,what", "ant", {}, "the label, as its values are no probabilities"),
        ("id,target", "0", {"positive": "cat"}, "the probability of 'cat', as `positive` says"),
        ("id,what", "0.5", {"positive": "cat"}, "the probability of 'cat', as `positive` says"),
    ],
)
def test_what_a_samples_single_column_holds(tmp_path, net, header, values, spec, taken):
    test = net.predictions("test")
    path = sample(tmp_path, f"{header}\n" + "".join(f"{one},{values}\n" for one in test.ids.tolist()))
    written = submit(net, SubmitSpec(**spec), sample=path, out=tmp_path / "a.csv")
    assert taken in written.notes[0]
    cells = [row[1] for row in table(written.path)[1:]]
    best = test.classes[labels(test.probs)].tolist()
    if "probability of" in taken:
        column = test.classes.tolist().index(taken.split("'")[1])
        assert np.array(cells, np.float32).tobytes() == test.probs[:, column].tobytes()
    else:
        assert cells == ([str(int(name == "bee")) for name in best] if spec else best)


def test_classes_that_are_numbers_are_not_taken_for_their_own_column(tmp_path):
    """Classes 0 and 1, a column called 1 of zeros: its name decides, and without one the values do."""
    one = member(tmp_path / "runs", "net-1", seed=1, classes=["0", "1"])
    for header, probability in (("id,1", True), ("id,label", False)):
        text = f"{header}\n" + "".join(f"t{i:03d},0\n" for i in range(20))
        written = submit(one, SubmitSpec(), sample=sample(tmp_path, text), out=tmp_path / "a.csv")
        cells = {row[1] for row in table(written.path)[1:]}
        assert (cells <= {"0", "1"}) == (not probability)
