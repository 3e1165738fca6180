"""Submissions: places, sidecars, what is refused before anything is written, the same bytes again."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers.fake_runs import contents, member, predictions, rewritten, run

from ensemble.combine.ensembler import combine
from ensemble.core.errors import DataError, RecipeError
from ensemble.core.files import read_json, sha256_file
from ensemble.recipe.schema import SubmitSpec
from ensemble.runs.run import Run
from ensemble.submit.submission import submit


def test_submission_default_place_and_sidecar(tmp_path, net, monkeypatch):
    monkeypatch.chdir(tmp_path)
    created = combine([net, member(tmp_path / "runs", "other-00000000", seed=2)], folder=tmp_path / "runs")
    written = submit(created.run, SubmitSpec())
    assert written.path.as_posix() == f"submissions/{created.run.id}.csv"
    facts = read_json(tmp_path / "submissions" / f"{created.run.id}.csv.json")
    assert facts["sha256"] == sha256_file(written.path)
    assert (facts["rows"], facts["format"], facts["run"]) == (20, "kaggle", created.run.id)
    assert [item["id"] for item in facts["members"]] == ["net-00000000", "other-00000000"]
    assert sum(item["weight"] for item in facts["members"]) == pytest.approx(1)
    assert facts["honest"] == created.run.metrics["honest"]
    assert submit(created.run, SubmitSpec(zip=True)).path.as_posix() == f"submissions/{created.run.id}.zip"


@pytest.mark.parametrize("format", ["kaggle", "kaggle-probs", "codabench"])
def test_repeated_submission_has_the_same_bytes(tmp_path, net, format):
    for folder in ("one", "two"):
        submit(net, SubmitSpec(format=format, zip=True), out=tmp_path / folder / "a.zip")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


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
def test_impossible_submission_is_refused(tmp_path, net, spec, out, message):
    before = contents(tmp_path)
    with pytest.raises(RecipeError, match=message):
        submit(net, SubmitSpec(**spec), out=tmp_path / out)
    assert contents(tmp_path) == before


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


def test_submission_needs_test_predictions(tmp_path, net):
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


def test_submission_of_a_further_test_set(tmp_path, net, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rewritten(net, "test-night", predictions(5, 3, prefix="n"))
    written = submit(net, SubmitSpec(), split="test-night")
    assert written.path.name == "net-00000000-test-night.csv"
    assert written.facts["rows"] == 5


@pytest.mark.parametrize("refits", [False, True])
def test_submission_of_an_outdated_ensemble_is_refused(tmp_path, refits):
    runs = [member(tmp_path, f"net{i}-0", seed=i) for i in range(2)]
    if refits:
        for i, item in enumerate(runs):
            test = predictions(20, 50 + i, prefix="t", labelled=False)
            run(tmp_path, f"full{i}-1", {"test": test}, kind="refit", parents=[item])
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


def test_members_that_predict_nothing_may_change(tmp_path):
    runs = [member(tmp_path, f"net{i}-0", seed=i) for i in range(2)]
    for i, item in enumerate(runs):
        test = predictions(20, 50 + i, prefix="t", labelled=False)
        run(tmp_path, f"full{i}-1", {"test": test}, kind="refit", parents=[item])
    created = combine(runs, folder=tmp_path, refits=True).run
    rewritten(runs[0], "test", predictions(20, 77, prefix="t", labelled=False))
    assert submit(created, SubmitSpec(), out=tmp_path / "a.csv").facts["rows"] == 20
