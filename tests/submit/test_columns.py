"""What the columns of a sample hold."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.fake_runs import member
from helpers.samples import rows_of_csv, write_sample

from ensemble.metrics import labels
from ensemble.recipe.schema import SubmitSpec
from ensemble.submit.submission import submit


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
def test_sample_labels_that_are_no_class_are_noted(tmp_path, net, values, spec, notes):
    text = "id,label\n" + "".join(f"t{i:03d},{values[i % 2]}\n" for i in range(20))
    created = submit(net, SubmitSpec(**spec), sample=write_sample(tmp_path, text), out=tmp_path / "a.csv")
    taken, *rest = created.notes
    assert "'label' is taken for the label" in taken
    assert len(rest) == notes
    assert all(values[0] in line for line in rest)
    assert ("label_as: index" in "".join(created.notes)) == (values == ["0", "2"] and notes == 1)


def test_sample_classes_that_look_like_probabilities(tmp_path):
    random = member(tmp_path / "runs", "net-1", seed=1, classes=["0.0", "1.0"])
    text = "id,label\n" + "".join(f"t{i:03d},0.0\n" for i in range(20))
    written = submit(random, SubmitSpec(), sample=write_sample(tmp_path, text), out=tmp_path / "a.csv")
    assert {row[1] for row in rows_of_csv(written.path)[1:]} <= {"0.0", "1.0"}
    assert len(written.notes) == 1


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
def test_single_column_of_a_sample(tmp_path, net, header, values, spec, taken):
    test = net.predictions("test")
    path = write_sample(tmp_path, f"{header}\n" + "".join(f"{item},{values}\n" for item in test.ids.tolist()))
    written = submit(net, SubmitSpec(**spec), sample=path, out=tmp_path / "a.csv")
    assert taken in written.notes[0]
    cells = [row[1] for row in rows_of_csv(written.path)[1:]]
    best = test.classes[labels(test.probs)].tolist()
    if "probability of" in taken:
        column = test.classes.tolist().index(taken.split("'")[1])
        assert np.array(cells, np.float32).tobytes() == test.probs[:, column].tobytes()
    else:
        assert cells == ([str(int(name == "bee")) for name in best] if spec else best)


def test_sample_classes_that_are_numbers(tmp_path):
    """Classes 0 and 1, a column called 1 of zeros: its name decides, and without one the values do."""
    item = member(tmp_path / "runs", "net-1", seed=1, classes=["0", "1"])
    for header, probability in (("id,1", True), ("id,label", False)):
        text = f"{header}\n" + "".join(f"t{i:03d},0\n" for i in range(20))
        written = submit(item, SubmitSpec(), sample=write_sample(tmp_path, text), out=tmp_path / "a.csv")
        cells = {row[1] for row in rows_of_csv(written.path)[1:]}
        assert (cells <= {"0", "1"}) == (not probability)
