"""Which runs are combined: complete members of one data set, named runs, the newest ensemble, refits."""

from __future__ import annotations

import os

import pytest
from helpers.fake_runs import member, predictions, run

from ensemble.combine.candidates import candidates, named, newest_ensemble
from ensemble.combine.ensembler import combine
from ensemble.combine.record import read_ensemble
from ensemble.core.errors import DataError, RecipeError
from ensemble.core.files import read_json, write_json
from ensemble.runs.run import Run


def test_candidates_are_the_complete_members_of_the_data_set(tmp_path, three):
    combine(three, folder=tmp_path)
    kinds = {"folds": True, "import": True, "refit": False, "student": False}
    for kind in kinds:
        member(tmp_path, f"{kind}-1", seed=8, kind=kind)
    run(tmp_path, "fold-0", {"valid": predictions(9, 1)}, fold=0)
    member(tmp_path, "elsewhere-1", seed=8, data={"fingerprint": "c" * 64})
    (member(tmp_path, "failed-1", seed=8).path / "failed.json").write_text("{}")
    (member(tmp_path, "unfinished-1", seed=8).path / "metrics.json").unlink()
    expected = [item.id for item in three] + [f"{kind}-1" for kind, joins in kinds.items() if joins]
    assert [item.id for item in candidates(tmp_path, three[0].fingerprint)] == sorted(expected)


def test_no_candidates(tmp_path):
    with pytest.raises(DataError, match="type `ens train`"):
        combine([], folder=tmp_path)


def test_candidates_named_by_the_user(tmp_path, three):
    assert [item.id for item in named(tmp_path, ["net1", "net0-00000000"])] == [
        "net1-00000001",
        "net0-00000000",
    ]
    with pytest.raises(DataError, match="named twice: 'net1-00000001'"):
        named(tmp_path, ["net1", "net1-00000001"])
    with pytest.raises(DataError, match="0 runs"):
        named(tmp_path, ["resnet"])


@pytest.mark.parametrize(("name", "valid"), [("a/b", False), ("..", False), ("-x", False), ("späte Füchse", True)])
def test_names_of_ensembles(tmp_path, three, name, valid):
    if valid:
        assert combine(three, folder=tmp_path, name=name).run.id.startswith(name)
    else:
        with pytest.raises(RecipeError, match="cannot name a folder"):
            combine(three, folder=tmp_path, name=name)


def test_refits_predict_and_the_parents_are_scored(tmp_path, three):
    plain = combine(three, folder=tmp_path)
    refits = [
        run(
            tmp_path,
            f"full{i}-1",
            {"test": predictions(20, 50 + i, prefix="t", labelled=False)},
            kind="refit",
            parents=[item],
        )
        for i, item in enumerate(three)
    ]
    created = combine(three, folder=tmp_path, refits=True)
    assert created.run.id != plain.run.id
    assert created.run.predictions("valid").probs.tobytes() == plain.run.predictions("valid").probs.tobytes()
    weights = read_ensemble(created.run).weights
    expected = sum(
        w * item.predictions("test").probs.astype(float) for w, item in zip(weights, refits, strict=True)
    )
    assert created.run.predictions("test").probs == pytest.approx(expected, abs=1e-6)
    assert any("before the refit" in line for line in created.notes)
    assert created.run.metrics["score_of"] == "the members before the refit"
    assert read_ensemble(created.run).sources == tuple(item.id for item in refits)


def test_member_without_a_refit_is_named(tmp_path, three):
    with pytest.raises(DataError, match="net0-00000000 has no refit"):
        combine(three, folder=tmp_path, refits=True)


def test_refit_cannot_be_weighed(tmp_path, three):
    refit = run(tmp_path, "full-1", {"test": predictions(20, 1, prefix="t")}, kind="refit", parents=[three[0]])
    with pytest.raises(DataError, match="name its parent and add --refits"):
        combine([*three, refit], folder=tmp_path)


def test_newest_ensemble(tmp_path, three):
    with pytest.raises(DataError, match="type `ens combine` first"):
        newest_ensemble(tmp_path, three[0].fingerprint)
    combine(three, folder=tmp_path)
    last = combine(three, folder=tmp_path, rule="uniform")
    assert newest_ensemble(tmp_path, three[0].fingerprint).id == last.run.id
    again = combine(three, folder=tmp_path)
    assert newest_ensemble(tmp_path, three[0].fingerprint).id == again.run.id
    for item in (again, last):  # a copy has the files' times in whatever order
        os.utime(item.run.path / "metrics.json")
        assert newest_ensemble(tmp_path, three[0].fingerprint).id == again.run.id


def test_ensemble_without_the_time_of_combining_uses_created(tmp_path, three):
    first, second = (combine(three, folder=tmp_path, rule=rule).run for rule in ("accuracy", "uniform"))
    for created, path in (("2026-01-02", first.path), ("2026-01-01", second.path)):
        facts = {**read_json(path / "run.json"), "created": f"{created}T00:00:00+00:00"}
        write_json(path / "run.json", {key: value for key, value in facts.items() if key != "combined"})
    os.utime(second.path / "metrics.json")
    assert newest_ensemble(tmp_path, three[0].fingerprint).id == first.id
    for path in (first.path, second.path):  # neither says anything: the files' own times are all there is
        facts = read_json(path / "run.json")
        write_json(path / "run.json", {key: value for key, value in facts.items() if key != "created"})
    os.utime(first.path / "metrics.json", (1, 1))
    assert newest_ensemble(tmp_path, three[0].fingerprint).id == second.id


def test_broken_ensemble_yaml_is_one_line(tmp_path, three):
    created = combine(three, folder=tmp_path)
    (created.run.path / "ensemble.yaml").write_text("rule: accuracy\n")
    with pytest.raises(DataError, match="combine again"):
        read_ensemble(Run(created.run.path))


@pytest.mark.parametrize("newest", [0, 1])
def test_newest_refit_predicts(tmp_path, newest):
    parent = member(tmp_path, "net-0", seed=1)
    fulls = [
        run(
            tmp_path,
            f"full-{i}",
            {"test": predictions(20, 50 + i, prefix="t", labelled=False)},
            kind="refit",
            parents=[parent],
            created=f"2026-01-0{2 if i == newest else 1}T00:00:00+00:00",
        )
        for i in range(2)
    ]
    created = combine([parent], folder=tmp_path, refits=True).run
    assert read_ensemble(created).sources == (fulls[newest].id,)
