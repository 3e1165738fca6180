"""The data set that a command is about which works from runs: one answer for all of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.cli.options import current, data_spec, recipe_path, split_overrides, with_keys
from ensemble.cli.terminal import Settings, note
from ensemble.runs.run import Run

if TYPE_CHECKING:
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import DataSpec


@dataclass(frozen=True)
class Current:
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

    @property
    def explicit(self) -> bool:
        """Whether the command line itself says something about the data."""
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
            return "the built-in digits"
        place = "the built-in digits" if self.is_digits else self.spec and self.spec.path
        return f"the data of {self.run.id}, the newest run{f' ({place})' if place else ''}"

    @property
    def is_digits(self) -> bool:
        """Whether nobody names the data and the newest run is of the digits, or there is no run."""
        if self.given is not None:
            return self.given.data.form == "digits"
        if self._named:
            return False
        return self.run is None or self.run.facts.get("data", {}).get("form") == "digits"

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
        own = current(self.recipe, self.data).data
        spec, run = (own, None) if self.trains else as_trained(own, self.runs)
        if run is not None:
            note(f"data.skip_unreadable, background and max_pixels are as {run.id} was trained")
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
        """One line on stderr where nobody has named the data."""
        if self.run is not None:
            note(f"data: {self.name.removeprefix('the data ')}")

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
            found = newest_of(self.runs, lambda spec: _is_at(spec, data))
            if found is None:
                raise
            return found[1]
        found = newest_of(self.runs, lambda spec: same_place(spec, guess))
        return guess if found is None else found[1]

    def _known(self) -> str | None:
        """The fingerprint that the newest run of this data recorded, where the images have gone."""
        from ensemble.runs.origin import newest_of, same_but_for_reading

        spec = self.spec
        if spec is None or not self.gone:
            return None
        found = newest_of(self.runs, lambda other: same_but_for_reading(other, spec))
        if found is None:
            return None
        note(f"{spec.path} is not there; its runs are those of the data of {found[0].id}, which was trained on it")
        return found[0].fingerprint


def _is_at(spec: DataSpec, data: Path) -> bool:
    return Path(data).absolute() in (Path(spec.path).absolute(), Path(spec.path, spec.train).absolute())


def run_or_newest(settings: Settings, name: str | None) -> Run:
    """The run called `name`, else the newest ensemble of ens.yaml's data, else of the newest run's; says which.

    Raises DataError where there is none.
    """
    from ensemble.combine.candidates import newest_ensemble
    from ensemble.core.errors import DataError
    from ensemble.data.file_hashes import UnreadableFiles
    from ensemble.runs.origin import named_run

    if name is not None:
        return named_run(settings.runs, name)
    here = Current(settings.runs)
    try:
        run = newest_ensemble(settings.runs, here.fingerprint, here.name)
    except UnreadableFiles as error:  # whose advice is for commands that read the data
        raise DataError(
            f"{len(error.problems)} images of {here.name} cannot be read, so its runs are not known; name RUN"
        ) from error
    note(f"RUN is {run.id}, the newest ensemble of {here.name}")
    return run
