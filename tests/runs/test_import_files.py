"""Files of predictions made elsewhere: separators, names, damage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_runs import predictions
from helpers.imported import as_csv, numbered

from ensemble.core.errors import DataError
from ensemble.core.predictions import save
from ensemble.data.csv_files import read_rows
from ensemble.runs.import_files import read_predictions
from ensemble.runs.imports import import_run
from ensemble.submit.formats import Sheet


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a header with an id and a column for each class, and rows, expected"),
        ("id,a,b\n", "and rows, expected"),
        ("id,a,target\nx,1,a\n", "a column for each class"),
        ("id,a,b\nx,0.5\n", "rows with other than 3 cells: 'x'"),
        ("id,a,b\nx,0.5,half\ny,0.5,0.5\n", "not a number in the rows 'x'"),
        ("id,a,b\nx,0.5,nan\n", "are not probabilities"),
        ("id,a,b\nx,0.7,0.4\ny,0.5,0.5\n", "are not probabilities"),
        ("id,a,b\nx,70,30\ny,50,50\n", "'a', 'b' sums to one; the rows sum to 100; divide by 100"),
        ("id,a,b\nx,-1.5,2\ny,0.5,-0.7\n", "apply softmax to logits, exp to log-probabilities"),
        ("id,a,b,fold\nx,0.5,0.5,1\ny,0.1,0.9,2\n", "'a', 'b', 'fold' sums to one; if one of them is no class"),
        ("id;a;b\nx;0,5;0,5\n", "not a number in the rows 'x'; write decimal points, not commas"),
        ("id,a,b\nx,0.5,0.5\nx,0.5,0.5\n", "the same id twice: 'x'"),
        ("id,a,a\nx,0.5,0.5\n", "the same class twice: 'a'"),
        ("id,a,b,label\nx,0.5,0.5,c\n", "targets that are no class: 'c'"),
    ],
)
def test_import_of_files_without_predictions(tmp_path, runs, text, message):
    path = tmp_path / "v.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        import_run("x", folder=runs, valid=path)
    assert not runs.exists()


def test_predicted_labels_are_not_targets(tmp_path, runs):
    """`ens predict` writes a column `label`; imported, it gave an accuracy of 1."""
    ours = predictions(30, 1, skill=0.7)
    output = replace(ours, targets=ours.probs.argmax(axis=1).astype(np.int64))
    with pytest.raises(DataError, match="is the most probable class in all 30 rows, so that it is predicted"):
        import_run("x", folder=runs, valid=as_csv(tmp_path / "v.csv", output, target="label"))
    assert import_run("x", folder=runs, valid=as_csv(tmp_path / "v.csv", output, target="target")).labelled
    other = tmp_path / "other runs"
    assert import_run("y", folder=other, valid=as_csv(tmp_path / "w.csv", ours, target="label")).labelled


def test_row_numbers_of_pandas_are_no_ids(tmp_path):
    path = tmp_path / "v.csv"
    for header in (",id,a,b", "Unnamed: 0,id,a,b"):
        path.write_text(f"{header}\n0,x,0.25,0.75\n1,y,0.5,0.5\n")
        read = read_predictions(path)
        assert read.ids.tolist() == ["x", "y"] and read.classes.tolist() == ["a", "b"]
    path.write_text(",a,b\nx,0.25,0.75\n")
    assert read_predictions(path).ids.tolist() == ["x"]


def test_import_of_missing_files_and_pickles(tmp_path, runs):
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "none.npz")
    np.savez(tmp_path / "p.npz", ids=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="not an npz of plain arrays"):
        read_predictions(tmp_path / "p.npz")


def test_import_keeps_text_and_composes_unicode(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("\ufeffid,NA,1\n0001,0.25,0.75\ne\u0301,0.5,0.5\n", encoding="utf-8")
    read = read_predictions(path)
    assert read.ids.tolist() == ["0001", "\u00e9"]
    assert read.classes.tolist() == ["NA", "1"]


def test_import_with_some_unknown_targets(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("id,a,b,Target\nx,0.5,0.5,b\ny,0.5,0.5,\n")
    assert read_predictions(path).targets.tolist() == [1, -1]


def test_import_of_damaged_npz_is_one_line(tmp_path):
    item = predictions(30, 1)
    np.save(tmp_path / "bare.npy", item.probs)
    (tmp_path / "bare.npy").rename(tmp_path / "bare.npz")
    np.savez_compressed(tmp_path / "damaged.npz", ids=item.ids, probs=item.probs, classes=item.classes)
    content = bytearray((tmp_path / "damaged.npz").read_bytes())
    content[80:140] = bytes(60)
    (tmp_path / "damaged.npz").write_bytes(content)
    for name in ("bare.npz", "damaged.npz"):
        with pytest.raises(DataError, match="not an npz of plain arrays") as caught:
            read_predictions(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('id,a,b\nx,0.5,"0.5\n', "CSV"),
        ('id,a,b\n"x\ny",0.5,0.5\n', "ids with control characters"),
        ("id,a,b\n ,0.5,0.5\n", "an empty id"),
        ("id,a, \nx,0.5,0.5\n", "an empty class"),
    ],
)
def test_mangled_names_are_refused(tmp_path, text, message):
    path = tmp_path / "v.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_predictions(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_import_strips_names(tmp_path, separator):
    path = tmp_path / "v.csv"
    lines = [["id", " ant", "bee "], [" x", "0.25", "0.75"], ["y ", "0.5", " 0.5"]]
    path.write_text("\n".join(map(separator.join, lines)) + "\n")
    read = read_predictions(path)
    assert (read.ids.tolist(), read.classes.tolist()) == (["x", "y"], ["ant", "bee"])


def test_import_reads_cells_with_other_separators(tmp_path):
    ours = replace(predictions(30, 1), classes=np.array(["a;b;c;d", "e;f;g", "h|i"]))
    read = read_predictions(as_csv(tmp_path / "v.csv", ours, target="target"))
    assert read.classes.tolist() == ours.classes.tolist()
    assert read.ids.tolist() == ours.ids.tolist() and read.targets.tolist() == ours.targets.tolist()
    sheet = Sheet(("id", "a,b,c,d", "x"), (("0", "0.5", "0.5"),), separator=";")
    (tmp_path / "s.csv").write_bytes(sheet.csv())
    rows, separator = read_rows(tmp_path / "s.csv")
    assert separator == ";" and [row.cells for row in rows] == [sheet.header, *sheet.rows]


def test_import_composes_unicode_of_npz(tmp_path):
    item = predictions(9, 1, classes=["e\u0301", "b"])
    ids = np.array([*item.ids[:-1], "e\u0301"])
    read = read_predictions(save(tmp_path / "v.npz", replace(item, ids=ids)))
    assert (read.ids[-1], read.classes[0]) == ("\u00e9", "\u00e9")
    assert read.probs.tobytes() == item.probs.tobytes()


def test_class_may_be_called_label(tmp_path, runs):
    ours = predictions(60, 1)
    valid = numbered(tmp_path / "v.csv", ours, ours.classes[ours.targets], ("ant", "label", "cat"))
    valid.write_text(valid.read_text().replace(",bee\n", ",label\n"))
    created = import_run("x", folder=runs, valid=valid)
    assert created.run.predictions("valid").classes.tolist() == ["ant", "cat", "label"]
    assert created.run.predictions("valid").targets is not None
    assert "the column 'label' is a class" in created.notes[0]
