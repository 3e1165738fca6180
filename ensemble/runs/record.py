"""run.json of schema 1 as a value: the kinds of runs, and a typed property for each key that is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from ensemble.core.errors import DataError, first_few
from ensemble.core.files import read_json, write_json

SCHEMA = 1

_Value = TypeVar("_Value")


class Kind(str, Enum):
    """Kind of a run: equal to its name in run.json, and printed as this name.

    A kind that a later version wrote is kept under its own name, and equals none of those below.
    """

    MEMBER = "member"
    FOLDS = "folds"
    REFIT = "refit"
    IMPORT = "import"
    ENSEMBLE = "ensemble"
    STUDENT = "student"

    @classmethod
    def _missing_(cls, value: object) -> Kind | None:
        if not isinstance(value, str):
            return None
        kind = str.__new__(cls, value)
        kind._name_, kind._value_ = "UNKNOWN", value
        return kind

    # enum.StrEnum, which prints its values, needs Python 3.11
    __str__ = str.__str__
    __repr__ = str.__repr__
    __format__ = str.__format__  # type: ignore[assignment]


KINDS = tuple(kind.value for kind in Kind)


@dataclass(frozen=True)
class Parent:
    """A run that another run was made from. sha256: checksum of its predictions, by split."""

    id: str
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class _Object:
    """A JSON object as it stands in the file, never changed in place. values: all of its keys, in their order."""

    values: Mapping[str, Any]


class _Key(Generic[_Value]):
    """Attribute of an _Object: the value of the key of the same name, None if it is not recorded."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, record: _Object, owner: type) -> _Value | None:
        value: _Value | None = record.values.get(self.name)
        return value


class _Mapping(_Key[_Value]):
    """The same for an object of its own: empty if it is not recorded."""

    def __get__(self, record: _Object, owner: type) -> Mapping[str, _Value]:  # type: ignore[override]
        values: Mapping[str, _Value] = record.values.get(self.name) or {}
        return values


class DataRecord(_Object):
    """`data` of run.json."""

    form = _Key[str]()  # None for an import of unknown data
    tests = _Mapping[str]()  # split -> fingerprint of each test set
    sizes = _Mapping[int]()  # split -> number of rows

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the train and valid rows; empty if unknown."""
        return str(self.values.get("fingerprint", ""))


class AutoRecord(_Object):
    """`auto` of run.json: the settings that the training chose."""

    format = _Key[Mapping[str, Any]]()  # as `ComputeFormat.facts` has it

    @property
    def lr(self) -> dict[int, float]:
        """Learning rate chosen for each stage."""
        return {int(stage): float(choice["value"]) for stage, choice in self.values.get("lr", {}).items()}

    @property
    def pieces(self) -> int:
        """Number of pieces that a batch is split into, so that it fits into memory."""
        return int(self.values.get("batch", {}).get("pieces", 1))

    def batch_size(self, of_recipe: int) -> int:
        """Images in a batch: fewer than `of_recipe` if the training set is small."""
        return int(self.values.get("batch_size", {}).get("value", of_recipe))


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "data": lambda value: isinstance(value, dict) and isinstance(value.get("tests", {}), dict),
    "classes": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "parents": lambda value: isinstance(value, list) and all(isinstance(entry, dict) for entry in value),
}
"""Validity checks of the keys of run.json that are read."""


class RunRecord(_Object):
    """run.json of a run. A record that is read and written has the same bytes, whatever keys it has."""

    name = _Key[str]()
    hash = _Key[str]()  # the full sha256, of which the id has eight digits
    pipeline = _Key[int]()  # version of the computation, part of the hash
    arch = _Key[str]()  # None for an ensemble and for an import of unknown architecture
    seed = _Key[int]()
    fold = _Key[int]()  # of a member of a folds run
    device = _Key[str]()
    git_commit = _Key[str]()
    parameters = _Key[int]()
    bytes = _Key[int]()  # of the weights
    seconds = _Key[float]()  # of training
    seconds_per_image = _Key[float]()  # of prediction
    imported = _Mapping[str]()  # split -> name of the file of an import
    teacher = _Mapping[Any]()  # run, temperature and alpha, of a student
    versions = _Mapping[str]()  # package -> version
    rates = _Mapping[float]()  # stage -> learning rate used
    shown = _Mapping[list[int]]()  # before and after balancing: training images of each class

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """The record in the run directory `path`. Raises DataError if unreadable, invalid or of a newer schema."""
        values = read_json(path / "run.json")
        if not isinstance(values, dict) or not isinstance(values.get("schema"), int):
            raise DataError(f"{path.name}: run.json has no schema; a run of schema {SCHEMA} expected")
        if values["schema"] > SCHEMA:
            raise DataError(
                f"{path.name} is of schema {values['schema']}, this version reads up to {SCHEMA}; upgrade ensemble"
            )
        bad_keys = [key for key, fits in _CHECKS.items() if key in values and not fits(values[key])]
        if bad_keys:
            raise DataError(
                f"{path.name}: run.json is not as it was written ({first_few(bad_keys)}); make the run again"
            )
        return cls(values)

    def write(self, path: Path) -> None:
        """Write run.json into the run directory `path`."""
        write_json(path / "run.json", dict(self.values))

    def updated(self, **values: Any) -> RunRecord:
        """The record with these keys replaced in place, or appended."""
        return RunRecord({**self.values, **values})

    def without(self, *keys: str) -> RunRecord:
        """The record without these keys."""
        return RunRecord({key: value for key, value in self.values.items() if key not in keys})

    @property
    def kind(self) -> Kind:
        """The kind; a member if run.json has none."""
        return Kind(str(self.values.get("kind", "member")))

    @property
    def schema(self) -> int:
        """Version of the layout of the run directory."""
        return int(self.values["schema"])

    @property
    def created(self) -> str:
        """Time of creation, ISO; empty if not recorded."""
        return str(self.values.get("created", ""))

    @property
    def times(self) -> tuple[str, str]:
        """Times of the last combination and of creation, ISO; empty if not recorded."""
        return str(self.values.get("combined", "")), self.created

    @cached_property
    def parents(self) -> tuple[Parent, ...]:
        """The runs that it was made from."""
        entries = self.values.get("parents") or ()
        return tuple(Parent(str(entry.get("id")), entry.get("sha256") or {}) for entry in entries)

    @property
    def data(self) -> DataRecord:
        """The data set."""
        return DataRecord(self.values.get("data", {}))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the k classes, in the order of the columns; empty if not recorded."""
        return tuple(self.values.get("classes") or ())

    @property
    def leaks(self) -> dict[str, Any]:
        """Split -> {exact, near, group: number of images that are in train too}."""
        return dict(self.values.get("leaks") or {})

    @property
    def chosen_on_valid(self) -> tuple[str, ...]:
        """What was chosen on the validation rows."""
        return tuple(str(choice) for choice in self.values.get("chosen_on_valid") or ())

    @property
    def initial_weights(self) -> tuple[str, str] | None:
        """(source, sha256) of the weights that the training started from; None from scratch or if not recorded."""
        weights = self.values.get("weights")
        if not isinstance(weights, dict) or not weights.get("source") or not weights.get("sha256"):
            return None
        return weights["source"], str(weights["sha256"])

    @property
    def auto(self) -> AutoRecord:
        """The settings that the training chose."""
        return AutoRecord(self.values.get("auto") or {})

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems of the training, one line each."""
        return tuple(self.values.get("warnings") or ())

    @property
    def weights_sha256(self) -> str | None:
        """Checksum of weights.safetensors; None without one."""
        return (self.values.get("files") or {}).get("weights")

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation (3,) of the input's channels. Raises DataError if not recorded."""
        if not self.values.get("mean") or not self.values.get("std"):
            raise DataError("run.json has no mean and std of the channels; train the run again")
        return tuple(self.values["mean"]), tuple(self.values["std"])

    @property
    def costs(self) -> dict[str, Any]:
        """parameters, bytes, seconds and seconds_per_image; None where unknown."""
        return {key: self.values.get(key) for key in ("parameters", "bytes", "seconds", "seconds_per_image")}
