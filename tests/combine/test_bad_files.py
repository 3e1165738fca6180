"""A damaged or mismatched file of predictions is refused by name, by every rule, and nothing is written."""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_runs import CLASSES, contents, predictions, run

from ensemble.combine.ensembler import combine
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError
from ensemble.runs.run import Run

M, N = 3, 12


Arrays = dict[str, Any]


Change = Callable[[Arrays], Arrays]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for i in range(M):
        splits = {"valid": predictions(N, i), "test": predictions(N, i + 100, labelled=False)}
        run(folder, f"net{i}-0", splits)
    return folder


def copied(whole: Path, folder: Path) -> list[Run]:
    shutil.copytree(whole, folder)
    return [Run(folder / f"net{i}-0") for i in range(M)]


def with_(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda arrays: {**arrays, name: change(arrays[name])}


def without(name: str) -> Change:
    return lambda arrays: {key: value for key, value in arrays.items() if key != name}


def rows(places: Any) -> Change:
    """Some of the rows, in every array that has them."""
    return lambda arrays: {key: value if key == "classes" else value[places] for key, value in arrays.items()}


def put(name: str, place: Any, value: Any) -> Change:
    def change(old: Any) -> Any:
        wide = old.astype("<U40") if old.dtype.kind == "U" else old.copy()
        wide[place] = value
        return wide

    return with_(name, change)


def both(*changes: Change) -> Change:
    def change(arrays: Arrays) -> Arrays:
        for item in changes:
            arrays = item(arrays)
        return arrays

    return change


def column_more(probs: Any) -> Any:
    return np.concatenate([probs, np.zeros((len(probs), 1), probs.dtype)], axis=1)


def one_class_less(probs: Any) -> Any:
    return probs[:, :2] / probs[:, :2].sum(axis=1, keepdims=True)


TWICE = np.array([*range(N), 3])


NOT_PROBABILITIES = (
    "1 rows are not probabilities that sum to one within 0.001 (NaN, negative or another sum): 'v003'"
)


REFUSED: dict[str, tuple[Change, str]] = {
    "missing ids": (
        rows(slice(7, N)),
        "has 5 ids, 12 expected (missing: 'v000', 'v001', 'v002', 'v003', 'v004' and 2 more)",
    ),
    "an extra id": (both(rows(TWICE), put("ids", N, "new")), "has 13 ids, 12 expected (extra: 'new')"),
    "a misspelt id": (put("ids", 3, "V003"), "has 12 ids, 12 expected (missing: 'v003'; extra: 'V003')"),
    "a space in an id": (put("ids", 3, "v003 "), "(missing: 'v003'; extra: 'v003 ')"),
    "an id twice": (rows(TWICE), "the same id twice: 'v003'"),
    "another row's id": (put("ids", 3, "v004"), "the same id twice: 'v004'"),
    "an empty id": (put("ids", 3, ""), "an empty id at place 4"),
    "a newline in an id": (put("ids", 3, "a\nb"), "ids with control characters"),
    "ids that are numbers": (
        with_("ids", lambda ids: np.arange(len(ids))),
        "ids: int64 (12,) found, a list of text",
    ),
    "ids that are bytes": (with_("ids", lambda ids: ids.astype("S")), "ids: |S4 (12,) found, a list of text"),
    "ids in a table": (with_("ids", lambda ids: ids[:, None]), "(12, 1) found, a list of text"),
    "no rows": (rows(slice(0)), "has 0 ids, 12 expected (missing: 'v000', 'v001'"),
    "a misspelt class": (put("classes", 1, "Bee"), "3 classes, 3 expected (missing: 'bee'; extra: 'Bee')"),
    "a missing class": (
        both(without("targets"), with_("probs", one_class_less), with_("classes", lambda names: names[:2])),
        "has 2 classes, 3 expected (missing: 'cat')",
    ),
    "an extra class": (
        both(with_("probs", column_more), with_("classes", lambda names: np.array([*names, "dog"]))),
        "has 4 classes, 3 expected (extra: 'dog')",
    ),
    "a class twice": (put("classes", 1, "ant"), "the same class twice: 'ant'"),
    "a single class": (
        both(with_("probs", lambda p: p[:, :1] * 0 + 1), with_("classes", lambda names: names[:1])),
        "1 class found, at least 2 expected",
    ),
    "nan": (put("probs", (3, 1), np.nan), NOT_PROBABILITIES),
    "inf": (put("probs", (3, 1), np.inf), NOT_PROBABILITIES),
    "-inf": (put("probs", (3, 1), -np.inf), NOT_PROBABILITIES),
    "a negative": (put("probs", 3, [-0.1, 0.6, 0.5]), NOT_PROBABILITIES),
    "a sum too large": (put("probs", 3, [0.5, 0.3, 0.2012]), NOT_PROBABILITIES),
    "a sum too small": (put("probs", 3, [0.5, 0.3, 0.1988]), NOT_PROBABILITIES),
    "a row of zeros": (put("probs", 3, 0), NOT_PROBABILITIES),
    "logits": (with_("probs", lambda p: np.log(p)), "12 rows are not probabilities"),
    "complex": (
        with_("probs", lambda p: p.astype(complex)),
        "probs are complex128 (12, 3), floats (12, 3) expected",
    ),
    "bool": (with_("probs", lambda p: p > 0.5), "probs are bool (12, 3), floats"),
    "text": (with_("probs", lambda p: p.astype(str)), "(12, 3), floats (12, 3) expected"),
    "rows for columns": (with_("probs", lambda p: p.T), "probs are float32 (3, 12), floats (12, 3) expected"),
    "too few rows of probs": (
        with_("probs", lambda p: p[1:]),
        "probs are float32 (11, 3), floats (12, 3) expected",
    ),
    "flat probs": (with_("probs", lambda p: p.ravel()), "probs are float32 (36,), floats (12, 3) expected"),
    "deep probs": (with_("probs", lambda p: p[None]), "probs are float32 (1, 12, 3), floats (12, 3) expected"),
    "no ids": (without("ids"), "no array named 'ids'; ids, probs, classes expected"),
    "no probs": (without("probs"), "no array named 'probs'; ids, probs, classes expected"),
    "no classes": (without("classes"), "no array named 'classes'; ids, probs, classes expected"),
    "pickled probs": (with_("probs", lambda p: p.astype(object)), "not an npz of plain arrays"),
    "pickled ids": (with_("ids", lambda ids: ids.astype(object)), "not an npz of plain arrays"),
    "groups that do not fit": (
        lambda arrays: {**arrays, "groups": np.array(["a", "b"])},
        "2 groups found, 12 expected",
    ),
}


TARGETS: dict[str, tuple[Change, str]] = {
    "a class too many": (put("targets", 3, 3), "targets outside -1..2 at 'v003'"),
    "below unknown": (put("targets", 3, -2), "targets outside -1..2 at 'v003'"),
    "floats": (with_("targets", lambda t: t.astype(float)), "targets are float64 (12,), integers (12,) expected"),
    "names": (with_("targets", lambda t: np.array(CLASSES)[t]), "targets are <U3 (12,), integers (12,) expected"),
    "too few": (with_("targets", lambda t: t[1:]), "targets are int64 (11,), integers (12,) expected"),
    "one-hot": (with_("targets", lambda t: np.eye(3, dtype=int)[t]), "targets are int64 (12, 3), integers (12,)"),
    "another's": (put("targets", 3, 1), "other targets for 1 items: 'v003'; name the runs of one data set"),
}


def refused(whole: Path, folder: Path, which: int, split: str, spoil: Callable[[Path], object]) -> str:
    """What is said of a spoilt file of the member `which`, the same by every rule."""
    runs = copied(whole, folder)
    spoil(runs[which].path / f"{split}.npz")
    before, output = contents(folder), set()
    # a test is read when the rule has decided, and by the same line for all
    for rule in rules.names() if split == "valid" else ["accuracy"]:
        with pytest.raises(DataError) as caught:
            combine(runs, folder=folder, rule=rule)
        assert caught.value.exit_code == 3
        output.add(str(caught.value))
    assert contents(folder) == before
    (message,) = output
    assert len(message.splitlines()) == 1
    assert f"net{which}-0/{split}.npz" in message
    return message


def rewriting(change: Change) -> Callable[[Path], object]:
    def spoil(path: Path) -> None:
        with np.load(path) as npz:
            arrays = dict(npz)
        np.savez(path, **change(arrays))

    return spoil


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize(("which", "split"), [(0, "valid"), (2, "valid"), (1, "test")])
def test_npz_arrays_that_do_not_fit(whole: Path, tmp_path: Path, which: int, split: str, name: str) -> None:
    change, message = REFUSED[name]
    assert message in refused(whole, tmp_path / "runs", which, split, rewriting(change))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("which", [0, 2])
def test_npz_targets_that_do_not_fit(whole: Path, tmp_path: Path, which: int, name: str) -> None:
    change, message = TARGETS[name]
    assert message in refused(whole, tmp_path / "runs", which, "valid", rewriting(change))


DAMAGED: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("id,ant,bee,cat\nv000,1,0,0\n"),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "without its end": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one array": lambda path: path.write_bytes(npy(np.eye(3))),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"ids": ["v000"]})),
}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize(("which", "split"), [(0, "valid"), (1, "valid"), (2, "test")])
def test_files_that_are_no_npz(whole: Path, tmp_path: Path, which: int, split: str, name: str) -> None:
    assert "not an npz of plain arrays" in refused(whole, tmp_path / "runs", which, split, DAMAGED[name])


def test_zip_of_something_else(whole: Path, tmp_path: Path) -> None:
    def spoil(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name in ("ids.npy", "probs.npy", "classes.npy"):
                file.writestr(name, "nothing of the kind")

    assert "a list of text expected" in refused(whole, tmp_path / "runs", 1, "valid", spoil)
