"""The data that a call is about, and the recipe in force on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.core.errors import one_line
from ensemble.core.events import Listener
from ensemble.runs.run import Run

if TYPE_CHECKING:
    from ensemble.recipe.data_spec import DataSpec
    from ensemble.recipe.file import RecipeFile

DEFAULT_RECIPE = Path("ens.yaml")
DEFAULT_RECIPES = (DEFAULT_RECIPE, Path("ens.yml"))
DIGITS = "the built-in digits"


@dataclass(frozen=True)
class DataSource:
    """The data of --recipe, of --data, of ens.yaml, else of the newest complete run, else the digits.

    runs: the folder of runs.  recipe, data: those options.  overrides: keys by --set, of data as `data.key`.
    given: a recipe that is in force already and stands for all of these.  trains: whether networks will learn from
    it, and a recipe file therefore means what it says.
    """

    runs: Path
    recipe: Path | None = None
    data: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    given: RecipeFile | None = None
    trains: bool = False
    listener: Listener = field(default_factory=Listener)

    @property
    def explicit(self) -> bool:
        """Whether the call itself says something about the data."""
        return bool(self.recipe or self.data or self._keys)

    @cached_property
    def run(self) -> Run | None:
        """The newest run, where neither an option nor ens.yaml names the data."""
        from ensemble.runs.origin import newest_run

        return None if self._named else newest_run(self.runs)

    @property
    def name(self) -> str:
        """What to call it in a message."""
        if self.given is not None:
            return self.given.source
        if self._path or self.data:
            return str(self._path or self.data)
        if self.run is None:
            return DIGITS
        place = DIGITS if self.is_digits else self.spec and self.spec.path
        return f"the data of {self.run.id}, the newest run{f' ({place})' if place else ''}"

    @property
    def is_digits(self) -> bool:
        """Whether nobody names the data and the newest run is of the digits, or there is no run."""
        if self.given is not None:
            return self.given.data.form == "digits"
        if self._named:
            return False
        return self.run is None or self.run.record.data.form == "digits"

    @cached_property
    def has_settings(self) -> bool:
        """Whether a recipe file gives defaults to `combine` and `submit`."""
        return self._path is not None or self.given is not None

    @property
    def gone(self) -> bool:
        """Whether its images are not known, or not there any more."""
        return self.spec is None or (self.spec.form != "digits" and not os.path.lexists(self.spec.path))

    @cached_property
    def spec(self) -> DataSpec | None:
        """Where its images are; None where no recipe in the runs says so, as with imports alone.

        What was chosen with `--set` to read the images when its newest run was trained still holds.
        """
        from ensemble.runs.origin import as_trained, data_of

        if self.given is not None:
            return self.given.data
        if self.run is not None:
            own = data_spec(None) if self.is_digits else data_of(self.run)
            return None if own is None else with_keys(own, self._keys)
        if self._path is None and self.data is not None:
            return with_keys(self._kept_or_guessed(self.data), self._keys)
        own = recipe_in_force(self.recipe, self.data, listener=self.listener).data
        spec, run = (own, None) if self.trains else as_trained(own, self.runs)
        if run is not None:
            self.listener.note(f"data.skip_unreadable, background and max_pixels are as {run.id} was trained")
        return with_keys(spec, self._keys)

    @cached_property
    def file(self) -> RecipeFile:
        """The recipe in force on this data, which is the digits' where `spec` is not known."""
        from ensemble.recipe.file import RecipeFile, read_recipe_file

        if self.given is not None:
            return self.given
        if self._path is None:
            return RecipeFile(data=self.spec or data_spec(None), source=self.name)
        members, _ = split_overrides(self.overrides)
        return read_recipe_file(self._path, data=self.spec, overrides=members)

    @cached_property
    def fingerprint(self) -> str:
        """Of its train and valid. From the runs where the images are not there any more."""
        if self.run is not None and not self._keys:
            return self.run.fingerprint
        if self.is_digits and not self._keys:
            from ensemble.data.digits import DIGITS_FINGERPRINT

            return DIGITS_FINGERPRINT
        from ensemble.core.errors import DataError
        from ensemble.data.load import current_fingerprint

        if self.spec is None:
            raise DataError(f"{self.name}: where its images are is not known; give --data or --recipe")
        return self._known() or current_fingerprint(self.spec, self.runs)

    def announce(self) -> None:
        """A note where nobody has named the data."""
        if self.run is not None:
            self.listener.note(f"data: {self.name.removeprefix('the data ')}")

    def spec_for(self, run: Run) -> DataSpec | None:
        """Where the images are that `run` was trained on and predicted; None where nobody knows."""
        from ensemble.runs.origin import data_of

        own = data_of(run)
        if not self.explicit or own is None or own.form == "digits":
            return own
        if self.run is not None:
            return with_keys(own, self._keys)
        return self.spec if self.fingerprint == run.fingerprint else own

    @cached_property
    def _keys(self) -> dict[str, Any]:
        return split_overrides(self.overrides)[1]

    @property
    def _named(self) -> bool:
        """Whether an option, ens.yaml or a recipe in force names the data."""
        return self.given is not None or self._path is not None or self.data is not None

    @cached_property
    def _path(self) -> Path | None:
        return recipe_path(self.recipe, self.data)

    def _kept_or_guessed(self, data: Path) -> DataSpec:
        """The data of the newest run of this folder or table; else what it looks like."""
        from ensemble.core.errors import DataError
        from ensemble.runs.origin import newest_of, same_place

        try:
            guess = data_spec(data)
        except DataError:
            kept = newest_of(self.runs, lambda spec: _is_at(spec, data))
            if kept is None:
                raise
            return kept[1]
        kept = newest_of(self.runs, lambda spec: same_place(spec, guess))
        return guess if kept is None else kept[1]

    def _known(self) -> str | None:
        """The fingerprint that the newest run of this data recorded, where the images have gone."""
        from ensemble.runs.origin import newest_of, same_but_for_reading

        spec = self.spec
        if spec is None or not self.gone:
            return None
        kept = newest_of(self.runs, lambda other: same_but_for_reading(other, spec))
        if kept is None:
            return None
        self.listener.note(
            f"{spec.path} is not there; its runs are those of the data of {kept[0].id}, which was trained on it"
        )
        return kept[0].fingerprint


def _is_at(spec: DataSpec, data: Path) -> bool:
    return Path(data).absolute() in (Path(spec.path).absolute(), Path(spec.path, spec.train).absolute())


def recipe_path(recipe: Path | None, data: Path | None) -> Path | None:
    """--recipe, else ens.yaml (or ens.yml) where there is one and --data does not stand for it."""
    if recipe:
        from ensemble.recipe.text import recipe_file

        return recipe_file(recipe)
    if data is not None:
        return None
    return next((path for path in DEFAULT_RECIPES if path.is_file()), None)


def recipe_in_force(
    recipe: Path | None,
    data: Path | None,
    overrides: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
) -> RecipeFile:
    """--recipe, else --data alone, else ens.yaml, else the built-in digits.

    overrides: keys that win over those of every member. Raises RecipeError or DataError.
    """
    from ensemble.recipe.file import RecipeFile, read_recipe_file

    member_keys, data_keys = split_overrides(overrides or {})
    path = recipe_path(recipe, data)
    if path is None:
        return RecipeFile(data=with_keys(data_spec(data), data_keys), source=str(data or DIGITS))
    file = read_recipe_file(path, overrides=member_keys)
    spec = file.data
    if data is not None:
        fits = spec.form != "digits" and data.is_dir()
        spec = spec.model_copy(update={"path": str(data)}) if fits else data_spec(data)
    spec = with_keys(spec, data_keys)
    if spec != file.data:
        file = read_recipe_file(path, data=spec, overrides=member_keys)
    _note_data_beside(path, spec, listener or Listener())
    return file


def with_data(
    build: Callable[[DataSpec | None, Mapping[str, Any]], RecipeFile], overrides: Mapping[str, Any]
) -> RecipeFile:
    """The recipe that `build` makes of (data or None for its own, keys of members), with other keys of its data."""
    member_keys, data_keys = split_overrides(overrides)
    file = build(None, member_keys)
    spec = with_keys(file.data, data_keys)
    return file if spec == file.data else build(spec, member_keys)


def _note_data_beside(recipe: Path, spec: DataSpec, listener: Listener) -> None:
    """A note where the data lie beside the recipe file, which is elsewhere, and not here."""
    beside = recipe.parent / spec.path
    if spec.form == "digits" or Path(spec.path).exists() or not beside.is_dir():
        return
    name = one_line(beside.as_posix())
    listener.note_once(
        f"{name} is beside the recipe, but data.path is relative to where `ens` is typed: add --set"
        f" data.path={name}"
    )


def split_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys of members, and keys of `data` (written `data.key`) without their prefix."""
    data = {key.removeprefix("data."): value for key, value in overrides.items() if key.startswith("data.")}
    return {key: value for key, value in overrides.items() if not key.startswith("data.")}, data


def data_spec(path: Path | None) -> DataSpec:
    """The data at `path` as it looks; without a path the digits. Raises DataError."""
    from ensemble.recipe.data_spec import DataSpec

    if path is None:
        return DataSpec()
    from ensemble.data.detect_form import guess_spec

    return guess_spec(path)


def with_keys(spec: DataSpec, keys: Mapping[str, Any]) -> DataSpec:
    """`spec` with other values for `keys`. Raises RecipeError."""
    if not keys:
        return spec
    from ensemble.recipe.data_spec import DataSpec
    from ensemble.recipe.text import refuse, validated

    problems: list[str] = []
    merged = validated(DataSpec, {**spec.model_dump(), **keys}, "data", problems)
    refuse(problems, "--set")
    assert merged is not None
    return merged


def with_members(file: RecipeFile, entries: Sequence[Mapping[str, Any]]) -> RecipeFile:
    """The recipe with other members, each validated on its data. Raises RecipeError."""
    from ensemble.recipe.file import build

    raw = {"defaults": file.defaults, "members": list(entries)}
    members = build(raw, source="command line", data=file.data).members
    return replace(file, members=members)


def named_members(file: RecipeFile, archs: Sequence[str], overrides: Mapping[str, Any]) -> RecipeFile:
    """The recipe with the architectures that are named as its members, or as it is. Raises RecipeError for none."""
    from ensemble.core.errors import RecipeError

    if archs:
        member_keys, _ = split_overrides(overrides)
        return with_members(file, [{**member_keys, "arch": arch} for arch in archs])
    if not file.members:
        raise RecipeError(
            f"no member to train: {file.source} names none; type --arch densenet121, or write members"
        )
    return file


def note_digits(file: RecipeFile, listener: Listener) -> None:
    """A note where the digits stand in for data that nobody named."""
    if file.data.form == "digits":
        listener.note_once(
            "data: scikit-learn's built-in digits (8 x 8 pixels), where --weights is none unless you say otherwise;"
            " `ens init FOLDER` sets up your own images"
        )
