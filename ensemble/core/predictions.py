"""Predicted probabilities of a set of items: checks, npz files and alignment.

Shapes: m members, n items, k classes.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import DataError, MismatchedRuns, first_few, one_line
from ensemble.core.files import write_atomically
from ensemble.core.names import has_control

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Wide = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]

ROW_TOLERANCE = 1e-3
"""Maximum deviation from 1 of the sum of a row of probabilities."""

_READ_ERRORS = (OSError, ValueError, EOFError, AttributeError, KeyError, TypeError, RuntimeError)
"""Exceptions of numpy and zipfile for a file that is not a valid npz."""

UNKNOWN = -1
"""Target of an item whose label is unknown."""


@dataclass(frozen=True)
class Predictions:
    """Probabilities for n items and k classes.

    ids: str (n,), unique.  probs: float32 (n, k), rows sum to 1.  classes: str (k,), unique.
    targets: int64 (n,), an index into `classes` or -1 where unknown; None if there are no labels.
    groups: str (n,) or None.  source: origin, for messages.
    """

    ids: Texts
    probs: Floats
    classes: Texts
    targets: Ints | None = None
    groups: Texts | None = None
    source: str = "predictions"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """bool (n,): True where the target is known."""
        return np.zeros(len(self), bool) if self.targets is None else self.targets != UNKNOWN


def checked(
    ids: Any,
    probs: Any,
    classes: Any,
    targets: Any = None,
    groups: Any = None,
    *,
    source: str,
    like: Predictions | None = None,
) -> Predictions:
    """Predictions after validation of classes and rows.

    probs may have any float type. Rows whose sum differs from 1 by at most 1e-3 are renormalised in float64; the
    result is float32. like: checked predictions; if their names are equal, they are used without another check or
    copy. Raises DataError that names `source` and the first five invalid entries.
    """
    ids, classes = as_texts(ids, f"{source}: ids"), as_texts(classes, f"{source}: classes")
    if like is not None and np.array_equal(ids, like.ids) and np.array_equal(classes, like.classes):
        ids, classes = like.ids, like.classes
    else:
        for names, noun, plural in ((ids, "id", "ids"), (classes, "class", "classes")):
            _refuse_invalid_names(names, noun, plural, source)
            _refuse_repeats(names, f"{source}: the same {noun} twice")
    if len(classes) < 2:
        raise DataError(f"{source}: {len(classes)} class found, at least 2 expected")
    probs = np.asarray(probs)
    if probs.shape != (len(ids), len(classes)) or probs.dtype.kind not in "fiu":
        raise DataError(
            f"{source}: probs are {probs.dtype} {probs.shape}, floats {(len(ids), len(classes))} expected"
        )
    return Predictions(
        ids=ids,
        probs=_normalised(probs, ids, source),
        classes=classes,
        targets=_checked_targets(targets, ids, len(classes), source),
        groups=None if groups is None else _checked_groups(groups, len(ids), source),
        source=source,
    )


def as_texts(values: Any, where: str) -> Texts:
    """`values` as a one-dimensional array of str. Raises DataError, which begins with `where`."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind != "U"):
        raise DataError(f"{where}: {array.dtype} {array.shape} found, a list of text expected")
    return array.astype(np.str_)


def _refuse_invalid_names(names: Texts, noun: str, plural: str, source: str) -> None:
    texts = names.tolist()
    if "" in texts:
        raise DataError(f"{source}: an empty {noun} at place {texts.index('') + 1}; give it a name")
    invalid = [name for name in texts if has_control(name)]
    if invalid:
        raise DataError(
            f"{source}: {plural} with control characters: {first_few(map(one_line, invalid))}; rename them"
        )


def _refuse_repeats(names: Texts, message: str) -> None:
    if len(set(names.tolist())) < len(names):
        unique, counts = np.unique(names, return_counts=True)
        raise DataError(f"{message}: {first_few(unique[counts > 1])}")


def _normalised(probs: Floats, ids: Texts, source: str) -> Floats:
    doubles = probs.astype(np.float64)
    totals = doubles.sum(axis=1)
    at_limit = np.abs(np.abs(totals - 1) - ROW_TOLERANCE) < 1e-9
    # sorted before the sum, so that the order of the classes does not decide whether a row at the limit passes
    totals[at_limit] = np.sort(doubles[at_limit], axis=1).sum(axis=1)
    with np.errstate(invalid="ignore"):
        invalid = ~(
            np.isfinite(doubles).all(axis=1) & (doubles >= 0).all(axis=1) & (np.abs(totals - 1) <= ROW_TOLERANCE)
        )
    if invalid.any():
        raise DataError(
            f"{source}: {invalid.sum()} rows are not probabilities that sum to one within {ROW_TOLERANCE:g}"
            f" (NaN, negative or another sum): {first_few(ids[invalid])}"
        )
    singles: Floats = probs.astype(np.float32, copy=False)
    if bool((np.abs(totals - 1) <= 1e-6).all()) and np.array_equal(singles, doubles):
        return singles  # a saved file is read back with identical values
    # sorted before the sum, so that the result does not depend on the order of the classes
    totals = np.sort(doubles, axis=1).sum(axis=1)
    rows: Floats = (doubles / totals[:, None]).astype(np.float32)
    return rows


def _checked_targets(targets: Any, ids: Texts, k: int, source: str) -> Ints | None:
    if targets is None:
        return None
    array = np.asarray(targets)
    if array.shape != (len(ids),) or array.dtype.kind not in "iu":
        raise DataError(f"{source}: targets are {array.dtype} {array.shape}, integers {(len(ids),)} expected")
    array = array.astype(np.int64)
    outside = (array < UNKNOWN) | (array >= k)
    if outside.any():
        raise DataError(f"{source}: targets outside -1..{k - 1} at {first_few(ids[outside])}")
    return None if (array == UNKNOWN).all() else array


def _checked_groups(groups: Any, n: int, source: str) -> Texts:
    array = as_texts(groups, f"{source}: groups")
    if len(array) != n:
        raise DataError(f"{source}: {len(array)} groups found, {n} expected")
    return array


def save(path: Path, predictions: Predictions) -> Path:
    """Write `as_npz` to `path`."""
    return write_atomically(path, as_npz(predictions))


def as_npz(predictions: Predictions) -> bytes:
    """An npz with ids, probs, classes and, where known, targets and groups. The bytes are reproducible."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "ids": predictions.ids,
        "probs": predictions.probs.astype(np.float32),
        "classes": predictions.classes,
    }
    if predictions.targets is not None:
        arrays["targets"] = predictions.targets
    if predictions.groups is not None:
        arrays["groups"] = predictions.groups
    return npz_bytes(arrays)


def npz_bytes(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An npz of plain arrays with reproducible bytes."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def load(path: Path, *, source: str | None = None, like: Predictions | None = None) -> Predictions:
    """Read and check an npz written by `save` or another program. Raises DataError; never unpickles.

    like: as for `checked`.
    """
    source = source or str(path)
    arrays = read_arrays(path, source)
    missing = {"ids", "probs", "classes"} - arrays.keys()
    if missing:
        raise DataError(f"{source}: no array named {first_few(sorted(missing))}; ids, probs, classes expected")
    return checked(
        arrays["ids"],
        arrays["probs"],
        arrays["classes"],
        arrays.get("targets"),
        arrays.get("groups"),
        source=source,
        like=like,
    )


def read_arrays(path: Path, source: str) -> dict[str, npt.NDArray[Any]]:
    """Every array of an npz file. Raises DataError for a file that is missing, broken or pickled."""
    try:
        # opened here, as numpy does not close an incomplete zip file
        with path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            return {name: npz[name] for name in npz.files}
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such file") from error
    except (*_READ_ERRORS, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{source}: not an npz of plain arrays ({one_line(error)})") from error


def sha256_of(predictions: Predictions, *, with_probs: bool = False) -> str:
    """The SHA-256 of ids and classes in any order; `with_probs`: of the probabilities too."""
    rows, columns = np.argsort(predictions.ids), np.argsort(predictions.classes)
    names = [*predictions.ids[rows].tolist(), "", *predictions.classes[columns].tolist()]
    digest = hashlib.sha256("\0".join(names).encode())
    if with_probs:
        digest.update(np.ascontiguousarray(predictions.probs[rows][:, columns], dtype="<f4").tobytes())
    return digest.hexdigest()


def align(predictions: Predictions, ids: Texts, classes: Texts) -> Predictions:
    """The predictions with rows in the order of `ids` and columns in the order of `classes`.

    Aligned by name, never by position. Raises MismatchedRuns when a class or an id is missing or extra.
    """
    if np.array_equal(predictions.ids, ids) and np.array_equal(predictions.classes, classes):
        return predictions
    columns = _positions(predictions.classes, classes, "classes", predictions.source)
    rows = _positions(predictions.ids, ids, "ids", predictions.source)
    targets = predictions.targets
    if targets is not None:
        new_index = np.append(np.argsort(columns), UNKNOWN)  # index -1, UNKNOWN, maps to itself
        targets = new_index[targets][rows]
    groups = None if predictions.groups is None else predictions.groups[rows]
    return replace(
        predictions,
        ids=predictions.ids[rows],
        probs=np.ascontiguousarray(predictions.probs[rows][:, columns]),
        classes=predictions.classes[columns],
        targets=targets,
        groups=groups,
    )


def _positions(actual: Texts, expected: Texts, noun: str, source: str) -> Ints:
    if len(actual) == len(expected) and bool((actual == expected).all()):
        return np.arange(len(actual))
    missing, extra = np.setdiff1d(expected, actual), np.setdiff1d(actual, expected)
    if len(missing) or len(extra):
        differences = "; ".join(
            f"{label}: {first_few(names)}"
            for label, names in (("missing", missing), ("extra", extra))
            if len(names)
        )
        raise MismatchedRuns(
            f"{source} has {len(actual)} {noun}, {len(expected)} expected ({differences});"
            " retrain it, or name the runs to combine"
        )
    order = np.argsort(actual)
    return order[np.searchsorted(actual[order], expected)]


def stacked(members: Sequence[Predictions]) -> Floats:
    """float32 (m, n, k) of aligned members."""
    return np.stack([member.probs for member in members])
