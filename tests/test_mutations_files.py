"""A file of predictions that is not as it must be is refused by name, whatever the rule, and nothing is written."""

from __future__ import annotations

import gc
import io
import os
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import CLASSES, contents, predictions, run
from hypothesis import assume, given
from hypothesis import strategies as st

from ensemble.combine.ensembler import combine
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError
from ensemble.core.predictions import Predictions, as_npz, load
from ensemble.runs.imports import read_predictions
from ensemble.runs.run import Run

M, N = 3, 12
QUICK = [name for name in rules.names() if name != "auto"]
Arrays = dict[str, Any]
Change = Callable[[Arrays], Arrays]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


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
        for one in changes:
            arrays = one(arrays)
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
def test_arrays_that_do_not_fit(whole: Path, tmp_path: Path, which: int, split: str, name: str) -> None:
    change, message = REFUSED[name]
    assert message in refused(whole, tmp_path / "runs", which, split, rewriting(change))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("which", [0, 2])
def test_targets_that_do_not_fit(whole: Path, tmp_path: Path, which: int, name: str) -> None:
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


def test_a_zip_of_something_else(whole: Path, tmp_path: Path) -> None:
    def spoil(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name in ("ids.npy", "probs.npy", "classes.npy"):
                file.writestr(name, "nothing of the kind")

    assert "a list of text expected" in refused(whole, tmp_path / "runs", 1, "valid", spoil)


def test_a_truncated_file_is_not_held_open(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(DataError):
            read(tmp_path, BYTES[:-1])
        gc.collect()
    assert not caught


ONE = predictions(9, 1)
BYTES = as_npz(ONE)


def read(folder: Path, content: bytes) -> Predictions:
    path = folder / "x.npz"
    path.write_bytes(content)
    return load(path)


@given(cut=st.integers(0, len(BYTES) - 1))
def test_no_truncated_file_is_read(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    with pytest.raises(DataError, match="not an npz of plain arrays"):
        read(tmp_path_factory.getbasetemp(), BYTES[:cut])


@given(place=st.integers(0, len(BYTES) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    content = bytearray(BYTES)
    content[place] ^= 1 << bit
    assume(place not in ENCRYPTED)  # has a test of its own
    try:
        result = read(tmp_path_factory.getbasetemp(), content)
    except DataError:
        return
    assert result.probs.tobytes() == ONE.probs.tobytes()
    assert (result.ids.tolist(), result.classes.tolist()) == (ONE.ids.tolist(), ONE.classes.tolist())


# where the directory at the end of a zip says whether a member is encrypted
ENCRYPTED = [at + 8 for at in range(len(BYTES)) if BYTES[at : at + 4] == b"PK\1\2"]


@pytest.mark.parametrize("place", ENCRYPTED)
def test_an_encrypted_file_is_refused(tmp_path: Path, place: int) -> None:
    content = bytearray(BYTES)
    content[place] ^= 1
    with pytest.raises(DataError, match="not an npz of plain arrays"):
        read(tmp_path, content)


NAMES = ["10", "2", "0001", "1", "01", "NA", "nan", "1e5", "100000", "None", "TRUE", "-1", "1.0", "é"]
STRANGE = ["10", "2", "01"]


def strange(seed: int, order: Any, columns: Any) -> Predictions:
    """Rows whose ids and classes look like numbers, in some order."""
    one = predictions(len(NAMES), seed)
    return Predictions(
        np.array(NAMES)[order],
        one.probs[order][:, columns],
        np.array(STRANGE)[columns],
        np.argsort(columns)[one.targets[order]],
    )


@pytest.mark.parametrize("rule", QUICK)
def test_names_stay_text_and_in_their_order(tmp_path: Path, rule: str) -> None:
    straight = np.arange(len(NAMES)), np.arange(3)
    plain = [run(tmp_path / "a", f"net{i}-0", {"valid": strange(i, *straight)}) for i in range(M)]
    random = np.random.default_rng(0)
    mixed = []
    for i in range(M):
        orders = straight if i else (random.permutation(len(NAMES)), random.permutation(3))
        mixed.append(run(tmp_path / "b", f"net{i}-0", {"valid": strange(i, *orders)}, classes=STRANGE))
    one, two = (combine(runs, folder=runs[0].path.parent, rule=rule).run for runs in (plain, mixed))
    for created in (one, two):
        result = created.predictions("valid")
        assert (result.ids.tolist(), result.classes.tolist()) == (NAMES, STRANGE)
        assert created.record.values["classes"] == STRANGE
        assert result.targets is not None and result.targets.tolist() == [i % 3 for i in range(len(NAMES))]
    assert one.predictions("valid").probs.tobytes() == two.predictions("valid").probs.tobytes()


def test_a_csv_keeps_them_too(tmp_path: Path) -> None:
    one = strange(1, np.arange(len(NAMES)), np.arange(3))
    lines = [
        ["id", *STRANGE],
        *([name, *map(repr, row)] for name, row in zip(NAMES, one.probs.tolist(), strict=True)),
    ]
    (tmp_path / "v.csv").write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")
    result = read_predictions(tmp_path / "v.csv")
    assert (result.ids.tolist(), result.classes.tolist()) == (NAMES, STRANGE)
    assert result.probs.tobytes() == one.probs.tobytes()


def test_names_are_in_their_natural_order_where_members_disagree(tmp_path: Path) -> None:
    ids, random = np.array(["2", "10", "9", "1"]), np.random.default_rng(0)
    runs = []
    for i in range(2):
        order = random.permutation(4)
        one = predictions(4, i)
        split = Predictions(ids[order], one.probs[order], one.classes, one.targets[order])
        runs.append(run(tmp_path, f"net{i}-0", {"valid": split}))
    runs.append(run(tmp_path, "net2-0", {"valid": Predictions(*natural(predictions(4, 2)))}))
    assert combine(runs, folder=tmp_path).run.predictions("valid").ids.tolist() == ["1", "2", "9", "10"]


def natural(one: Predictions) -> tuple[Any, ...]:
    """The rows of "2", "10", "9", "1" in their natural order."""
    order = [3, 0, 2, 1]
    assert one.targets is not None
    return np.array(["1", "2", "9", "10"]), one.probs[order], one.classes, one.targets[order]
