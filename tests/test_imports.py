"""Predictions made elsewhere become a run that is combined like ours."""

import os
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from fake_runs import FINGERPRINT, contents, member, predictions, run

from ensemble.combine.candidates import candidates
from ensemble.combine.ensembler import combine
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError, MismatchedRuns, RecipeError
from ensemble.core.files import read_json, write_json
from ensemble.core.predictions import Predictions, save
from ensemble.data.csv_files import read_rows
from ensemble.data.dataset import Dataset, Items
from ensemble.runs.import_files import read_predictions
from ensemble.runs.imports import import_run
from ensemble.runs.run import Run
from ensemble.submit.formats import Sheet


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def as_csv(path, one, *, target=None, columns=(0, 1, 2)):
    header = ["image", *one.classes[list(columns)].tolist(), *([target] if target else [])]
    lines = [",".join(header)]
    for row, name in enumerate(one.ids.tolist()):
        label = "" if one.targets is None or one.targets[row] < 0 else str(one.classes[one.targets[row]])
        cells = [name, *(repr(float(p)) for p in one.probs[row, list(columns)]), *([label] if target else [])]
        lines.append(",".join(cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def dataset(fingerprint, n=60):
    """A data set with the rows of `predictions(n, ...)`."""
    truth, test = predictions(n, 0), predictions(20, 0, prefix="t")
    splits = {
        "valid": Items(truth.ids, truth.ids, truth.targets),
        "test": Items(test.ids, test.ids, test.targets),
    }
    return Dataset(truth.classes, splits, fingerprint, {"test": "b" * 64}, lambda path: None)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs"


def test_a_csv_is_the_same_run_as_an_npz(tmp_path, folder):
    ours = predictions(30, 1)
    from_csv = import_run("x", folder=folder, valid=as_csv(tmp_path / "v.csv", ours, target="label"))
    before = contents(from_csv.run.path)
    from_npz = import_run("x", folder=folder, valid=save(tmp_path / "v.npz", ours))
    assert from_npz.run.id == from_csv.run.id
    after = contents(from_npz.run.path)
    assert {name for name in before if before[name] != after[name]} == {"run.json"}  # which names the file
    assert (from_csv.run.kind, from_csv.run.arch) == ("import", from_csv.run.id)
    assert from_csv.run.metrics["valid"]["n"] == 30


def test_it_joins_the_data_set_of_the_run_with_its_ids(tmp_path, folder):
    ours = member(folder, "net-0", seed=1)
    valid = replace(predictions(60, 2), targets=None)
    rows = np.random.default_rng(0).permutation(60)
    valid = replace(valid, ids=valid.ids[rows], probs=valid.probs[rows])
    test = predictions(20, 3, prefix="t", labelled=False)
    created = import_run(
        "swin",
        folder=folder,
        valid=as_csv(tmp_path / "v.csv", valid, columns=(2, 0, 1)),
        test=as_csv(tmp_path / "t.csv", test, columns=(1, 0, 2)),
        arch="swin_t",
    )
    assert created.matched == ours.id
    assert created.run.fingerprint == FINGERPRINT
    assert created.run.arch == "swin_t"
    back = created.run.predictions("valid")
    assert back.classes.tolist() == ["ant", "bee", "cat"]
    assert back.targets.tolist() == ours.predictions("valid").targets.tolist()
    assert created.run.predictions("test").probs == pytest.approx(test.probs, abs=1e-7)
    assert [one.id for one in candidates(folder, FINGERPRINT)] == [ours.id, created.run.id]
    assert combine(candidates(folder, FINGERPRINT), folder=folder).has_test


def test_without_a_match_it_has_a_fingerprint_of_its_own(tmp_path, folder):
    one = import_run("x", folder=folder, valid=save(tmp_path / "v.npz", predictions(9, 1)))
    two = import_run("y", folder=folder, valid=save(tmp_path / "w.npz", predictions(9, 2)))
    assert one.run.fingerprint == two.run.fingerprint != FINGERPRINT
    assert combine([one.run, two.run], folder=folder).run.complete


def test_no_targets_anywhere(tmp_path, folder):
    created = import_run("x", folder=folder, valid=save(tmp_path / "v.npz", predictions(9, 1, labelled=False)))
    assert not created.labelled
    assert created.run.complete
    assert "valid" not in created.run.metrics


def test_the_current_data_set_knows_targets_before_any_run_does(tmp_path, folder):
    valid = save(tmp_path / "v.npz", predictions(60, 1, labelled=False))
    test = save(tmp_path / "t.npz", predictions(20, 1, prefix="t", labelled=False))
    created = import_run("x", folder=folder, valid=valid, test=test, dataset=partial(dataset, "d" * 64))
    assert created.matched == "the current data set"
    assert created.run.record.values["data"] == {"form": None, "fingerprint": "d" * 64, "tests": {"test": "b" * 64}}
    assert created.run.predictions("valid").targets.tolist() == predictions(60, 1).targets.tolist()
    second = save(tmp_path / "x.npz", predictions(60, 2, labelled=False))
    other = import_run("y", folder=folder, valid=second, dataset=partial(pytest.fail, "a run knows these ids"))
    assert other.matched == created.run.id
    short = save(tmp_path / "w.npz", predictions(59, 1, labelled=False))
    assert import_run("z", folder=folder, valid=short, dataset=partial(dataset, "d" * 64)).matched is None


def test_targets_from_a_named_run(tmp_path, folder):
    member(folder, "a-0", seed=1)
    other = run(folder, "b-0", {"valid": predictions(60, 2)}, data={"fingerprint": "c" * 64})
    valid = save(tmp_path / "v.npz", predictions(60, 3, labelled=False))
    assert import_run("x", folder=folder, valid=valid, targets_from=other).run.fingerprint == "c" * 64
    current = partial(dataset, fingerprint=FINGERPRINT)
    assert import_run("x", folder=folder, valid=valid, dataset=current).run.fingerprint == FINGERPRINT
    short = save(tmp_path / "w.npz", predictions(59, 1, labelled=False))
    with pytest.raises(MismatchedRuns, match="missing: 'v059'"):
        import_run("x", folder=folder, valid=short, targets_from=other)


def test_targets_that_disagree_are_refused(tmp_path, folder):
    member(folder, "net-0", seed=1)
    one = predictions(60, 2)
    targets = one.targets.copy()
    targets[7] = (targets[7] + 1) % 3
    before = contents(folder)
    with pytest.raises(MismatchedRuns, match="other targets for 1 items: 'v007'"):
        import_run("x", folder=folder, valid=save(tmp_path / "v.npz", replace(one, targets=targets)))
    assert contents(folder) == before


def test_a_test_file_added_later_keeps_the_id(tmp_path, folder):
    valid = save(tmp_path / "v.npz", predictions(9, 1))
    first = import_run("x", folder=folder, valid=valid).run
    test = save(tmp_path / "t.npz", predictions(4, 1, prefix="t", labelled=False))
    second = import_run("x", folder=folder, valid=valid, test=test).run
    assert first.id == second.id
    assert second.has("test")


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
def test_files_that_are_no_predictions(tmp_path, folder, text, message):
    path = tmp_path / "v.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        import_run("x", folder=folder, valid=path)
    assert not folder.exists()


def test_predicted_labels_are_not_taken_for_the_truth(tmp_path, folder):
    """`ens predict` writes a column `label`; imported, it gave an accuracy of 1."""
    ours = predictions(30, 1, skill=0.7)
    output = replace(ours, targets=ours.probs.argmax(axis=1).astype(np.int64))
    with pytest.raises(DataError, match="is the most probable class in all 30 rows, so that it is predicted"):
        import_run("x", folder=folder, valid=as_csv(tmp_path / "v.csv", output, target="label"))
    assert import_run("x", folder=folder, valid=as_csv(tmp_path / "v.csv", output, target="target")).labelled
    other = tmp_path / "other runs"
    assert import_run("y", folder=other, valid=as_csv(tmp_path / "w.csv", ours, target="label")).labelled


def test_the_row_numbers_that_pandas_writes_are_no_ids(tmp_path):
    path = tmp_path / "v.csv"
    for header in (",id,a,b", "Unnamed: 0,id,a,b"):
        path.write_text(f"{header}\n0,x,0.25,0.75\n1,y,0.5,0.5\n")
        read = read_predictions(path)
        assert read.ids.tolist() == ["x", "y"] and read.classes.tolist() == ["a", "b"]
    path.write_text(",a,b\nx,0.25,0.75\n")
    assert read_predictions(path).ids.tolist() == ["x"]


def test_ids_that_are_names_of_files_are_those_of_the_data_set(tmp_path, folder):
    """`ens` names items without the extension; a table of another tool often keeps it."""
    member(folder, "net-00000001", 1)
    theirs = {split: predictions(n, 5, prefix=split[0]) for split, n in (("valid", 60), ("test", 20))}
    paths = {}
    for split, one in theirs.items():
        named = replace(one, ids=np.array([f"{name}.png" for name in one.ids.tolist()]), targets=None)
        paths[split] = as_csv(tmp_path / f"{split}.csv", named)
    imported = import_run("x", folder=folder, **paths)
    assert imported.matched == "net-00000001"
    assert imported.run.predictions("valid").ids.tolist() == theirs["valid"].ids.tolist()
    assert imported.run.predictions("test").ids.tolist() == theirs["test"].ids.tolist()


def test_missing_files_and_pickles(tmp_path, folder):
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "none.csv")
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "none.npz")
    np.savez(tmp_path / "p.npz", ids=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="not an npz of plain arrays"):
        read_predictions(tmp_path / "p.npz")


def test_texts_stay_texts_and_are_composed(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("\ufeffid,NA,1\n0001,0.25,0.75\ne\u0301,0.5,0.5\n", encoding="utf-8")
    read = read_predictions(path)
    assert read.ids.tolist() == ["0001", "\u00e9"]
    assert read.classes.tolist() == ["NA", "1"]


def test_some_targets_may_be_unknown(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("id,a,b,Target\nx,0.5,0.5,b\ny,0.5,0.5,\n")
    assert read_predictions(path).targets.tolist() == [1, -1]


def test_a_name_that_is_no_folder(tmp_path, folder):
    valid = save(tmp_path / "v.npz", Predictions(np.array(["x"]), np.array([[1, 0]], "f4"), np.array(["a", "b"])))
    with pytest.raises(RecipeError, match="cannot name a folder"):
        import_run("../x", folder=folder, valid=valid)


def test_damaged_npz_files_are_one_line(tmp_path):
    one = predictions(30, 1)
    np.save(tmp_path / "bare.npy", one.probs)
    (tmp_path / "bare.npy").rename(tmp_path / "bare.npz")
    np.savez_compressed(tmp_path / "damaged.npz", ids=one.ids, probs=one.probs, classes=one.classes)
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
def test_names_lose_the_space_around_them_whatever_separates_them(tmp_path, separator):
    path = tmp_path / "v.csv"
    lines = [["id", " ant", "bee "], [" x", "0.25", "0.75"], ["y ", "0.5", " 0.5"]]
    path.write_text("\n".join(map(separator.join, lines)) + "\n")
    read = read_predictions(path)
    assert (read.ids.tolist(), read.classes.tolist()) == (["x", "y"], ["ant", "bee"])


def test_what_is_written_with_one_separator_and_holds_others_is_read(tmp_path):
    ours = replace(predictions(30, 1), classes=np.array(["a;b;c;d", "e;f;g", "h|i"]))
    read = read_predictions(as_csv(tmp_path / "v.csv", ours, target="target"))
    assert read.classes.tolist() == ours.classes.tolist()
    assert read.ids.tolist() == ours.ids.tolist() and read.targets.tolist() == ours.targets.tolist()
    sheet = Sheet(("id", "a,b,c,d", "x"), (("0", "0.5", "0.5"),), separator=";")
    (tmp_path / "s.csv").write_bytes(sheet.csv())
    rows, separator = read_rows(tmp_path / "s.csv")
    assert separator == ";" and [row.cells for row in rows] == [sheet.header, *sheet.rows]


def test_an_npz_is_composed_too(tmp_path):
    one = predictions(9, 1, classes=["e\u0301", "b"])
    ids = np.array([*one.ids[:-1], "e\u0301"])
    read = read_predictions(save(tmp_path / "v.npz", replace(one, ids=ids)))
    assert (read.ids[-1], read.classes[0]) == ("\u00e9", "\u00e9")
    assert read.probs.tobytes() == one.probs.tobytes()


def test_imported_again_without_a_test_there_is_none(tmp_path, folder):
    valid = save(tmp_path / "v.npz", predictions(9, 1))
    test = save(tmp_path / "t.npz", predictions(4, 1, prefix="t", labelled=False))
    created = import_run("x", folder=folder, valid=valid, test=test).run
    save(created.path / "test-night.npz", predictions(4, 1))
    assert import_run("x", folder=folder, valid=valid).run.splits() == ["valid"]


def test_a_kill_while_a_run_is_written_over_leaves_it_incomplete(tmp_path, folder, monkeypatch):
    valid = save(tmp_path / "v.npz", predictions(9, 1))
    test = save(tmp_path / "t.npz", predictions(4, 1, prefix="t", labelled=False))
    result = import_run("x", folder=folder, valid=valid, test=test).run
    created = result.record.values["created"]

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ensemble.runs.writing.write_atomically", killed)
        patch.setattr("ensemble.runs.writing.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            import_run("x", folder=folder, valid=valid, test=test)
        assert result.complete  # nothing would have changed
        other = save(tmp_path / "t.npz", predictions(4, 2, prefix="t", labelled=False))
        with pytest.raises(KeyboardInterrupt):
            import_run("x", folder=folder, valid=valid, test=other)
        assert not result.complete
    again = import_run("x", folder=folder, valid=valid, test=other).run
    assert again.complete and again.record.values["created"] >= created


def test_another_test_is_not_taken_for_the_known_one(tmp_path, folder):
    member(folder, "net-0", seed=1)
    valid = save(tmp_path / "v.npz", predictions(60, 2, labelled=False))
    for prefix, tests in (("t", {"test": "b" * 64}), ("u", {})):
        test = save(tmp_path / f"{prefix}.npz", predictions(20, 3, prefix=prefix, labelled=False))
        assert import_run("x", folder=folder, valid=valid, test=test).run.record.values["data"]["tests"] == tests


@pytest.mark.parametrize("rule", rules.names())
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("form", ["csv", "npz"])
def test_an_import_is_combined_as_the_native_run_would_be(tmp_path, folder, monkeypatch, form, labelled, rule):
    """With its rows and columns in another order, and under a name that sorts as the native one's does."""
    monkeypatch.setattr("ensemble.combine.crossfit.MOST_REPEATS", 1)
    first, native, last = [member(folder, f"net{i}-0", seed=i) for i in range(3)]
    files = {
        split: elsewhere(tmp_path / f"{split}.{form}", native.predictions(split), labelled and split == "valid")
        for split in ("valid", "test")
    }
    one = combine([first, native, last], folder=folder, rule=rule, name=native.id)
    shutil.rmtree(native.path)  # the same predictions again would be refused
    imported = import_run("net1", folder=folder, **files).run
    other = combine([first, imported, last], folder=folder, rule=rule, name=imported.id)
    for split in ("valid", "test"):
        ours, theirs = (created.run.predictions(split) for created in (one, other))
        assert ours.ids.tolist() == theirs.ids.tolist()
        assert ours.classes.tolist() == theirs.classes.tolist()
        assert ours.probs.tobytes() == theirs.probs.tobytes()
    assert one.run.metrics == other.run.metrics
    assert [row.weight for row in one.members] == [row.weight for row in other.members]


def elsewhere(path, one, labelled):
    """A file of the same predictions as somebody else would write it."""
    rows, columns = np.random.default_rng(4).permutation(len(one)), np.array([1, 2, 0])
    targets = np.argsort(columns)[one.targets[rows]] if labelled else None
    mixed = Predictions(one.ids[rows], one.probs[rows][:, columns], one.classes[columns], targets)
    return save(path, mixed) if path.suffix == ".npz" else as_csv(path, mixed, target="label" if labelled else None)


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_imported_in_another_order_it_is_the_same_run(tmp_path, folder, form):
    native = member(folder, "net-0", seed=1)
    valid = native.predictions("valid")
    shutil.rmtree(native.path)
    before = import_run("x", folder=folder, valid=save(tmp_path / "plain.npz", valid)).run
    old = contents(before.path)
    after = import_run("x", folder=folder, valid=elsewhere(tmp_path / f"v.{form}", valid, True)).run
    assert after.id == before.id
    assert {name for name in old if contents(after.path)[name] != old[name]} == {"run.json"}  # which names the file


def test_a_csv_of_float64_and_a_float64_npz_are_the_same_run(tmp_path, folder):
    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(3), 30)
    one = predictions(30, 1)
    lines = [
        "id,ant,bee,cat",
        *(",".join([name, *map(repr, row)]) for name, row in zip(one.ids, probs.tolist(), strict=True)),
    ]
    (tmp_path / "v.csv").write_text("\n".join(lines) + "\n")
    np.savez(tmp_path / "v.npz", ids=one.ids, probs=probs, classes=one.classes)
    read = [read_predictions(tmp_path / f"v.{form}").probs.tobytes() for form in ("csv", "npz")]
    assert read[0] == read[1]


def rounded(path, one, digits):
    """A CSV with so many decimals."""
    lines = [
        ",".join([name, *(f"{p:.{digits}f}" for p in row)]) for name, row in zip(one.ids, one.probs, strict=True)
    ]
    path.write_text("\n".join(["id,ant,bee,cat", *lines]) + "\n")
    return path


@pytest.mark.parametrize("digits", [4, 7])
@pytest.mark.parametrize("of", ["member", "import"])
def test_the_same_predictions_under_another_name_are_refused(tmp_path, folder, digits, of):
    one = predictions(60, 2)
    held = (
        run(folder, "net-0", {"valid": one})
        if of == "member"
        else import_run("first", folder=folder, valid=save(tmp_path / "a.npz", one)).run
    )
    before = contents(folder)
    again = rounded(tmp_path / "v.csv", one, digits)
    with pytest.raises(DataError, match=f"holds the predictions of {held.id}, which would be counted twice"):
        import_run("second", folder=folder, valid=again)
    with pytest.raises(DataError, match="counted twice"):
        import_run("first", folder=folder, valid=again, arch="other")
    assert contents(folder) == before
    # others that agree on these rows, but not on the test, are two models
    alike, test = save(tmp_path / "b.npz", one), [predictions(9, i, prefix="t", labelled=False) for i in range(2)]
    shutil.rmtree(held.path)
    created = [
        import_run(f"net{i}", folder=folder, valid=alike, test=save(tmp_path / f"t{i}.npz", test[i])).run
        for i in range(2)
    ]
    assert len(combine(created, folder=folder).members) == 2


def test_copies_that_are_there_already_count_once(tmp_path, folder):
    one, other = (member(folder, f"net{i}-0", seed=i) for i in range(2))
    plain = combine([one, other], folder=folder).run
    copy = folder / "a-copy-0"
    shutil.copytree(other.path, copy)
    write_json(copy / "run.json", {**read_json(copy / "run.json"), "kind": "import"})
    created = combine([one, other, Run(copy)], folder=folder)
    assert created.run.id == plain.id
    assert "a-copy-0 has the same predictions as net1-0 and counts once" in created.notes


def test_test_rows_that_are_validation_rows_are_refused(tmp_path, folder):
    one = predictions(30, 1)
    valid = save(tmp_path / "v.npz", one)
    some = predictions(12, 2, prefix="t")
    mixed = replace(some, ids=np.array([*some.ids[:-2], "v000", "v001"]))
    for test, message in (
        (valid, "30 of 30 ids"),
        (save(tmp_path / "t.npz", mixed), "2 of 12 ids .* 'v000', 'v001'"),
    ):
        with pytest.raises(DataError, match=message):
            import_run("x", folder=folder, valid=valid, test=test)
    assert not folder.exists()


def test_a_test_that_is_numbered_like_the_validation_rows_is_let_in(tmp_path, folder):
    """As where train.csv and test.csv both count from one."""
    run(folder, "net-0", {"valid": predictions(30, 1), "test": predictions(20, 2)})
    valid, test = save(tmp_path / "v.npz", predictions(30, 3)), save(tmp_path / "t.npz", predictions(20, 4))
    assert import_run("x", folder=folder, valid=valid, test=test).run.has("test")
    with pytest.raises(DataError, match="10 of 30 ids"):
        import_run("y", folder=folder, valid=save(tmp_path / "w.npz", predictions(30, 5)), test=tmp_path / "w.npz")


def numbered(path, one, targets, classes=("1", "2", "3")):
    """A CSV with classes of these names and a column `target` of these texts."""
    lines = [",".join(["image", *classes, "target"])]
    for name, probs, target in zip(one.ids.tolist(), one.probs, targets, strict=True):
        lines.append(",".join([name, *(repr(float(p)) for p in probs), str(target)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_targets_that_count_from_nought_where_classes_start_at_one_are_moved(tmp_path, folder):
    ours = predictions(60, 1)
    created = import_run("x", folder=folder, valid=numbered(tmp_path / "v.csv", ours, ours.targets))
    expected = import_run("y", folder=folder / "y", valid=numbered(tmp_path / "w.csv", ours, ours.targets + 1))
    assert created.run.metrics["valid"]["accuracy"] == expected.run.metrics["valid"]["accuracy"]
    assert "'0' in 'target' is no class, and no target is '3': +1 is added to each target" in created.notes[0]
    assert not expected.notes


def test_targets_that_fit_no_better_when_moved_are_refused(tmp_path, folder):
    ours = predictions(60, 1)
    moved = np.where(ours.targets == 2, 0, ours.targets)  # 0 is there, 3 is not, and the rows say nothing
    wrong = replace(ours, probs=np.random.default_rng(0).dirichlet(np.ones(3), 60))
    with pytest.raises(DataError, match=r"targets that are no class: '0'.*\(\+1 to each\)"):
        import_run("x", folder=folder, valid=numbered(tmp_path / "v.csv", wrong, moved))


def test_targets_of_the_class_beside_are_named(tmp_path, folder):
    ours = predictions(200, 1)
    beside = (ours.probs.argmax(1) + 1) % 3
    created = import_run("x", folder=folder, valid=save(tmp_path / "v.npz", replace(ours, targets=beside)))
    assert "below chance (0.3333); with the class before each target it would be" in created.notes[0]
    assert not import_run("y", folder=folder / "y", valid=save(tmp_path / "w.npz", ours)).notes


def test_a_class_may_be_called_label(tmp_path, folder):
    ours = predictions(60, 1)
    valid = numbered(tmp_path / "v.csv", ours, ours.classes[ours.targets], ("ant", "label", "cat"))
    valid.write_text(valid.read_text().replace(",bee\n", ",label\n"))
    created = import_run("x", folder=folder, valid=valid)
    assert created.run.predictions("valid").classes.tolist() == ["ant", "cat", "label"]
    assert created.run.predictions("valid").targets is not None
    assert "the column 'label' is a class" in created.notes[0]


def test_a_mended_version_says_that_the_old_one_still_votes(tmp_path, folder):
    first = import_run("x", folder=folder, valid=save(tmp_path / "v.npz", predictions(60, 1)))
    mended = predictions(60, 2)
    second = import_run("x", folder=folder, valid=save(tmp_path / "v.npz", mended), targets_from=first.run)
    assert f"{first.run.id} of this name and data is there already; it will vote" in second.notes[-1]


def test_ids_with_folders_or_extensions_are_those_of_the_run(tmp_path, folder):
    ours = member(folder, "net-0", seed=1)
    theirs = predictions(60, 2)
    theirs = replace(theirs, ids=np.array([f"images/{name}.png" for name in theirs.ids]), targets=None)
    created = import_run("x", folder=folder, valid=save(tmp_path / "v.npz", theirs))
    assert (
        created.matched == ours.id
        and created.run.predictions("valid").ids.tolist() == ours.predictions("valid").ids.tolist()
    )
    assert any("ids such as" in line for line in created.notes)
