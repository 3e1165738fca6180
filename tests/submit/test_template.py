"""Sample submissions decide columns, spelling and order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_runs import contents, rewritten
from helpers.samples import rows_of_csv, write_sample

from ensemble.core.errors import DataError, RecipeError
from ensemble.core.predictions import Predictions
from ensemble.metrics import labels
from ensemble.recipe.schema import SubmitSpec
from ensemble.submit.submission import submit
from ensemble.submit.template import fill, read_template


def test_sample_decides_columns_spelling_and_order(tmp_path, net):
    test = net.predictions("test")
    ids = [f"{item}.JPG" if i % 2 else item for i, item in enumerate(test.ids[::-1].tolist())]
    text = "\ufeffcat,image,ant,bee\r\n" + "".join(f"0.2,{item},0.4,0.4\r\n" for item in ids)
    written = submit(
        net, SubmitSpec(id_column="image"), sample=write_sample(tmp_path, text), out=tmp_path / "a.csv"
    )
    rows = rows_of_csv(written.path)
    assert rows[0] == ["cat", "image", "ant", "bee"]
    assert [row[1] for row in rows[1:]] == ids
    ours = np.array([[row[2], row[3], row[0]] for row in rows[1:]], dtype=np.float32)
    assert ours.tobytes() == test.probs[::-1].tobytes()


def test_sample_with_labels(tmp_path, net):
    test = net.predictions("test")
    text = "name;class\n" + "".join(f"{item}.png;ant\n" for item in test.ids.tolist())
    rows = rows_of_csv(
        submit(net, SubmitSpec(), sample=write_sample(tmp_path, text), out=tmp_path / "a.csv").path, ";"
    )
    assert rows[0] == ["name", "class"]
    assert rows[1:] == [
        [f"{item}.png", str(test.classes[best])] for item, best in zip(test.ids, labels(test.probs), strict=True)
    ]


def test_sample_without_extensions_of_ids(tmp_path, net):
    test = net.predictions("test")
    rewritten(net, "test", replace(test, ids=np.char.add(test.ids, ".jpeg")))
    text = "id,label\n" + "".join(f"{item},ant\n" for item in test.ids.tolist())
    rows = rows_of_csv(submit(net, SubmitSpec(), sample=write_sample(tmp_path, text), out=tmp_path / "a.csv").path)
    assert [row[0] for row in rows[1:]] == test.ids.tolist()


def test_sample_may_leave_out_the_unnamed_class_only(tmp_path, net):
    test = net.predictions("test")
    path = write_sample(tmp_path, "id,cat,bee\n" + "".join(f"{item},0,0\n" for item in test.ids.tolist()))
    rows = rows_of_csv(submit(net, SubmitSpec(), sample=path, out=tmp_path / "a.csv", unnamed="ant").path)
    assert np.array([row[2] for row in rows[1:]], dtype=np.float32).tobytes() == test.probs[:, 1].tobytes()
    with pytest.raises(DataError, match="missing: 'ant'"):
        submit(net, SubmitSpec(), sample=path, out=tmp_path / "b.csv")


def _lines(ids):
    return "id,label\n" + "".join(f"{item},ant\n" for item in ids)


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
def test_sample_that_does_not_fit_is_refused(tmp_path, net, text, message):
    path = write_sample(tmp_path, text)
    before = contents(tmp_path)
    with pytest.raises(DataError) as caught:
        submit(net, SubmitSpec(), sample=path, out=tmp_path / "a.csv")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_sample_ids_that_differ_in_the_extension_stay_apart(tmp_path):
    ids = np.array(["a.jpg", "a.png"])
    both = Predictions(ids, np.eye(2, dtype=np.float32), np.array(["x", "y"]))
    template = read_template(write_sample(tmp_path, "id,label\na.png,x\na.jpg,x\n"), SubmitSpec(), both.classes)
    sheet = fill(template, both, SubmitSpec(), probabilities=False)
    assert sheet.rows == (("a.png", "y"), ("a.jpg", "x"))
    template = read_template(write_sample(tmp_path, "id,label\na,x\na.jpg,x\n"), SubmitSpec(), both.classes)
    with pytest.raises(DataError, match="no prediction for: 'a'"):
        fill(template, both, SubmitSpec(), probabilities=False)


def test_sample_is_never_overwritten(tmp_path, net):
    text = "id,label\n" + "".join(f"{item},ant\n" for item in net.predictions("test").ids.tolist())
    path = write_sample(tmp_path, text)
    with pytest.raises(RecipeError, match="is the sample itself"):
        submit(net, SubmitSpec(), sample=path, out=path)
    assert path.read_text() == text


def test_sample_with_an_open_quote_is_refused(tmp_path, net):
    with pytest.raises(DataError, match="CSV") as caught:
        submit(net, SubmitSpec(), sample=write_sample(tmp_path, 'id,label\n"t000,x\n'), out=tmp_path / "a.csv")
    assert len(str(caught.value).splitlines()) == 1


def test_sample_headers_and_ids_in_any_spelling(tmp_path, net):
    text = " Label , Id\n" + "".join(f"x, test/t{i:03d}.png\n" for i in range(20))
    written = submit(net, SubmitSpec(), sample=write_sample(tmp_path, text), out=tmp_path / "a.csv")
    rows = rows_of_csv(written.path)
    assert rows[0] == ["Label", "Id"]
    assert rows[1][1] == "test/t000.png"


def test_sample_may_lack_the_folders_of_ids(tmp_path, net):
    ids = [f"{'ab'[i % 2]}/{i}" for i in range(20)]
    rewritten(net, "test", replace(net.predictions("test"), ids=np.array(ids)))
    text = "id,label\n" + "".join(f"{i}.png,ant\n" for i in range(20))
    rows = rows_of_csv(submit(net, SubmitSpec(), sample=write_sample(tmp_path, text), out=tmp_path / "a.csv").path)
    assert [row[0] for row in rows[1:]] == [f"{i}.png" for i in range(20)]
    output = net.predictions("test")
    assert [row[1] for row in rows[1:]] == output.classes[labels(output.probs)].tolist()
    for taken, theirs in (("b/1", "other/0"), ("c/0", "0")):  # of another folder; the id of two rows
        rewritten(net, "test", replace(output, ids=np.array([*ids[:-1], taken if theirs == "0" else ids[-1]])))
        path = write_sample(tmp_path, text.replace("0.png", f"{theirs}.png", 1))
        with pytest.raises(DataError, match=f"no prediction for: '{theirs}.png'"):
            submit(net, SubmitSpec(), sample=path, out=tmp_path / "b.csv")


@pytest.mark.parametrize("spelled", [("e\u0301", "\u00e9"), ("\u00e9", "e\u0301")])
def test_sample_ids_in_either_unicode_form(tmp_path, spelled):
    ours, theirs = spelled
    both = Predictions(np.array([ours, "z"]), np.eye(2, dtype=np.float32), np.array(["x", "y"]))
    template = read_template(write_sample(tmp_path, f"id,label\nz,x\n{theirs},x\n"), SubmitSpec(), both.classes)
    assert fill(template, both, SubmitSpec(), probabilities=False).rows == (("z", "y"), (theirs, "x"))
