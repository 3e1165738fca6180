"""What every call works on: a recipe, its data set, a folder of runs, and who is told of progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.api.source import DataSource, recipe_in_force
from ensemble.core.events import Listener, default_listener

if TYPE_CHECKING:
    from typing_extensions import Self

    from ensemble.data.dataset import Dataset
    from ensemble.recipe.data_spec import DataSpec
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import ResolvedRecipe
    from ensemble.tracking import Tracking


class Workspace:
    """A recipe, its data set, which is loaded once, and a folder of runs.

    runs_folder: of the runs.  listener: is told of notes and progress.  keys: win over those of every member.
    device: cpu, cuda, cuda:1 or mps; None for the best there is.  jobs: members trained at a time; None for what is
    fastest on a GPU, else one.  track: the tracker that is told of runs.
    """

    runs_folder: Path
    listener: Listener
    keys: Mapping[str, Any]
    device: str | None
    jobs: int | None
    track: Tracking | None
    _read: Callable[[Mapping[str, Any]], RecipeFile]
    _datasets: dict[str, Dataset]

    @classmethod
    def for_training(
        cls,
        recipe: Path | None,
        data: Path | None,
        overrides: Mapping[str, Any],
        **settings: Any,
    ) -> Self:
        """That of a command that trains: of --recipe, else --data, else ens.yaml, else the digits."""
        workspace = cls._bare(**settings)
        workspace.keys = overrides
        workspace._read = lambda keys: recipe_in_force(recipe, data, {**overrides, **keys}, workspace.listener)
        return workspace

    @classmethod
    def for_runs(
        cls,
        recipe: Path | None,
        data: Path | None,
        overrides: Mapping[str, Any],
        *,
        trains: bool = False,
        **settings: Any,
    ) -> Self:
        """That of a command about runs: as for_training, but the newest run's data before the digits."""
        workspace = cls._bare(**settings)
        source = DataSource(
            workspace.runs_folder, recipe, data, overrides, trains=trains, listener=workspace.listener
        )
        workspace._read = lambda keys: (replace(source, overrides={**overrides, **keys}) if keys else source).file
        workspace.keys, workspace.source = overrides, source
        return workspace

    @classmethod
    def _bare(
        cls,
        *,
        runs: Path,
        listener: Listener | None = None,
        device: str | None = None,
        jobs: int | None = None,
        track: Tracking | None = None,
    ) -> Self:
        workspace = cls.__new__(cls)
        workspace.runs_folder, workspace.device, workspace.jobs, workspace.track = runs, device, jobs, track
        workspace.listener = default_listener() if listener is None else listener
        workspace._datasets = {}
        return workspace

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source.name!r}, runs={str(self.runs_folder)!r})"

    @cached_property
    def source(self) -> DataSource:
        """The data that is meant: unless it is set, those of the recipe in force."""
        return DataSource(self.runs_folder, given=self._read({}), listener=self.listener)

    def recipe(self, **keys: Any) -> RecipeFile:
        """The validated recipe: data, members, combine, submit, sweep. keys: win over those of every member."""
        return self._read(flat(keys))

    @cached_property
    def dataset(self) -> Dataset:
        """The data set, listed and checked. Raises DataError."""
        return self.load(self._read({}).data)

    def load(self, spec: DataSpec, *, recipes: Sequence[ResolvedRecipe] = (), quiet: bool = False) -> Dataset:
        """The data set that `spec` stands for, read once for each spec. Raises DataError.

        recipes: members that will be trained on it: images that are decoded for the check are kept for them.
        quiet: without notes, for images that are only looked up.
        """
        from ensemble.data.decoded_images import DecodedImages
        from ensemble.data.load import load_dataset
        from ensemble.data.preprocess import preprocess_of

        key = spec.model_dump_json()
        if key not in self._datasets:
            with self.listener as listener:
                self._datasets[key] = load_dataset(
                    spec,
                    self.runs_folder,
                    progress=lambda done, total: listener.progress("checking images", done, total),
                    note=None if quiet else listener.note,
                    decoded=DecodedImages.within_memory([preprocess_of(recipe) for recipe in recipes]),
                )
                listener.finished("checking images")
        return self._datasets[key]

    def load_quietly(self, spec: DataSpec, folder: Path) -> Dataset:
        """As `load`, for what looks images up. folder: of the runs, which is that of the workspace."""
        return self.load(spec, quiet=True)


def flat(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Recipe keys as overrides: those of a mapping `data` become `data.key`."""
    data = keys.get("data")
    if not isinstance(data, Mapping):
        return dict(keys)
    rest = {key: value for key, value in keys.items() if key != "data"}
    return {**rest, **{f"data.{key}": value for key, value in data.items()}}
