"""A project: a recipe, its data set and a folder of runs, with a method for what each command does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.api.source import DIGITS, data_spec, recipe_in_force, with_data
from ensemble.api.workspace import Workspace, flat
from ensemble.core.events import Listener, default_listener

if TYPE_CHECKING:
    from ensemble.api.checking import CheckedData
    from ensemble.api.combining import SubmittedFile
    from ensemble.api.comparing import ComparedRuns
    from ensemble.api.distilling import DistilledStudent
    from ensemble.api.models import Ensemble, Leaderboard, Model
    from ensemble.api.pipeline import Pipeline
    from ensemble.api.plans import TrainingPlan
    from ensemble.api.previews import RateCurve
    from ensemble.api.reporting import WrittenReport
    from ensemble.api.sweeping import Sweep
    from ensemble.api.training import Members
    from ensemble.data.dataset import Dataset
    from ensemble.recipe.file import RecipeFile
    from ensemble.tracking import Tracking

Names = str | Sequence[str]


class Project(Workspace):
    """A recipe, its data set, which is loaded once, and a folder of runs.

    source: a folder of images, a CSV, a recipe file, a mapping with the keys of a recipe file, or None for
    scikit-learn's digits.
    runs: the folder of runs.
    listener: is told of notes and progress; None for bars on a terminal and in a notebook, lines elsewhere.
    `Listener()` shows nothing.
    device: cpu, cuda, cuda:1 or mps; None for the best there is.
    jobs: members trained at a time; None for what is fastest on a GPU, else one.
    track: the name of a tracker, such as mlflow.  track_weights: whether weights are copied to it too.
    keys: recipe keys that win over those of every member; `data` may be a mapping with keys of the data section.

    Raises RecipeError or DataError: what the command line says, with the same text.

    >>> import ensemble as ens
    >>> project = ens.Project(runs="runs", listener=ens.Listener())
    >>> sorted(project.dataset.splits)
    ['test', 'train', 'valid']
    """

    def __init__(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        runs: str | Path = "runs",
        listener: Listener | None = None,
        device: str | None = None,
        jobs: int | None = None,
        track: str | None = None,
        track_weights: bool = False,
        **keys: Any,
    ) -> None:
        self.runs_folder = Path(runs)
        self.listener = default_listener() if listener is None else listener
        self.device, self.jobs = device, jobs
        self.track = _tracking(track, self.runs_folder, track_weights)
        overrides = flat(keys)
        _refuse_unknown(overrides)
        self._datasets: dict[str, Dataset] = {}
        self._read = _reader(source, overrides, self.listener)
        self.keys = overrides
        _ = self.source  # a source that cannot be is refused here

    def check(
        self,
        *,
        out: Path | None = None,
        pictures: int = 24,
        pairs: Path | None = None,
        groups: Path | None = None,
        computed: Callable[[CheckedData], None] = lambda result: None,
    ) -> CheckedData:
        """Look for copies, leaks between splits, odd files and wrong labels; write the page.

        out: the page, by default <runs>/check/NAME.html.  pictures: of each sort on the page.
        pairs, groups: CSV files to write, of every pair of copies, and of what to keep in one fold.
        computed: called with the result before any file is written, which may fail.
        """
        from ensemble.api.checking import check

        return check(self, out=out, pictures=pictures, pairs=pairs, groups=groups, computed=computed)

    def plan(
        self, archs: Names = (), *, seeds: Sequence[int] = (), budget: float | str | None = None, **keys: Any
    ) -> TrainingPlan:
        """What `train` would train, and how long that takes. The arguments are those of `train`."""
        from ensemble.api.plans import plan

        return plan(self, _names(archs), seeds=seeds, budget=budget, **keys)

    def train(
        self,
        archs: Names = (),
        *,
        seeds: Sequence[int] = (),
        budget: float | str | None = None,
        retry: bool = False,
        **keys: Any,
    ) -> Members:
        """Train members; those that are complete are left as they are, interrupted ones are resumed to the bit.

        archs: architectures; none for the members of the recipe.  seeds: several make several members.
        budget: seconds, or text such as 90m: train what fits into it and adds most.
        retry: train failed runs again.
        keys: recipe keys, such as epochs, folds, image_size or lr; `full=True` refits on train and valid.

        Raises MembersFailed once the others are trained; its `members` are those that are complete.
        """
        from ensemble.api.training import train

        return train(self, _names(archs), seeds=seeds, budget=budget, retry=retry, **keys)

    def lr_find(
        self,
        archs: Names = (),
        *,
        out: Path | None = None,
        computed: Callable[[RateCurve], None] = lambda curve: None,
        **keys: Any,
    ) -> list[RateCurve]:
        """The curve of the learning-rate finder for each member, written as CSV and PNG to `out`.

        computed: called with each curve as soon as it is there.
        """
        from ensemble.api.previews import lr_find

        return lr_find(self, _names(archs), out=out, computed=computed, **keys)

    def sweep(
        self,
        grid: Mapping[str, Sequence[Any]] | None = None,
        *,
        search: Mapping[str, Sequence[Any]] | None = None,
        trials: int | None = None,
        metric: str | None = None,
        seeds: Sequence[int] = (),
        retry: bool = False,
        out: Path | None = None,
        **keys: Any,
    ) -> Sweep:
        """Train the recipe for every combination of values, or guided by optuna; write the table to `out`.

        grid: keys and the values of each; the last key's are the columns.  search: keys and (low, high) or
        (low, high, "log").  trials: how many a search trains.  metric: what the table shows.
        """
        from ensemble.api.sweeping import sweep

        return sweep(
            self,
            grid=grid,
            search=search,
            trials=trials,
            metric=metric,
            seeds=seeds,
            retry=retry,
            out=out,
            **keys,
        )

    def distill(
        self,
        ensemble: str | Ensemble | None = None,
        arch: str | None = None,
        *,
        temperature: float = 1.0,
        alpha: float = 0.5,
        retry: bool = False,
        **keys: Any,
    ) -> DistilledStudent:
        """Train one network, the student, on the out-of-fold probabilities of an ensemble, and compare them.

        ensemble: the newest one unless named.  temperature: softens the probabilities.
        alpha: the ensemble's share of the loss.  keys: recipe keys of the student.
        """
        from ensemble.api.distilling import distill

        return distill(self, _id(ensemble), arch, temperature=temperature, alpha=alpha, retry=retry, **keys)

    def runs(self, *, folds: bool = False) -> Leaderboard:
        """Every run in the folder, the best first. folds: with the folds of each folds run."""
        from ensemble.api.models import leaderboard

        return leaderboard(self, folds=folds)

    def run(self, name: str) -> Model:
        """The complete run with this id, or the only one whose id begins so. Raises DataError."""
        from ensemble.api.models import named

        return named(self, name)

    def import_run(
        self,
        name: str,
        *,
        valid: str | Path,
        test: str | Path | None = None,
        arch: str | None = None,
        targets_from: str | None = None,
    ) -> Model:
        """Predictions made elsewhere, in CSV or npz files, as a run.

        arch: the architecture it counts as.  targets_from: the run with the same ids to take the targets from.
        """
        from ensemble.api.combining import import_run

        tests = None if test is None else Path(test)
        return import_run(self, name, valid=Path(valid), test=tests, arch=arch, targets_from=targets_from)

    def combine(self, members: Iterable[str | Model] | None = None, **options: Any) -> Ensemble:
        """Combine members into an ensemble.

        members: runs or their ids; None for the candidates of the data set.
        options: threshold, per_arch, rule, metric, calibrate, refits and name, as in a recipe's `combine`, whose
        values they replace. Raises NothingPassed, MismatchedRuns, DataError or RecipeError.
        """
        from ensemble.api.combining import combine

        return combine(self, None if members is None else [_id(member) for member in members], **options)

    def submit(
        self,
        model: str | Model | None = None,
        *,
        split: str = "test",
        fill: str | None = None,
        **options: Any,
    ) -> SubmittedFile:
        """Check test predictions, and write the file to upload; of the newest ensemble unless a model is named.

        split: the test set: test, or test-NAME.  fill: uniform, prior or a class, for rows that are missing.
        options: format, sample, out, zip and positive, as in a recipe's `submit`, whose values they replace.
        """
        from ensemble.api.combining import submit

        return submit(self, _id(model), split=split, fill=fill, **options)

    def compare(
        self,
        models: Iterable[str | Model] | None = None,
        *,
        out: Path | None = None,
        mistakes: int = 12,
        figures: bool = True,
    ) -> ComparedRuns:
        """Put runs side by side: tables, a conclusion from the numbers, and figures, written to `out`."""
        from ensemble.api.comparing import compare

        ids = None if models is None else [_id(model) for model in models]
        return compare(self, ids, out=out, mistakes=mistakes, figures=figures)

    def report(
        self,
        model: str | Model | None = None,
        *,
        out: Path | None = None,
        pictures: int = 12,
        explain: bool = True,
    ) -> WrittenReport:
        """Write one HTML page on a run, or on every run of the data set and its newest ensemble.

        pictures: mistakes that are shown.  explain: with Grad-CAM heat maps, where the weights are.
        """
        from ensemble.api.reporting import report

        return report(self, _id(model), out=out, pictures=pictures, explain=explain)

    def pipeline(self, *, retry: bool = False, report: bool = True, **keys: Any) -> Pipeline:
        """Train the recipe's members, combine, refit where the recipe says so, submit and report: `ens run`."""
        from ensemble.api.pipeline import pipeline

        return pipeline(self, retry=retry, report=report, **keys)


def _names(archs: Names) -> list[str]:
    return [archs] if isinstance(archs, str) else list(archs)


def _id(model: str | Model | None) -> Any:
    return model if model is None or isinstance(model, str) else model.id


def _refuse_unknown(overrides: Mapping[str, Any]) -> None:
    """Raise RecipeError for keys that no recipe has; those of data are refused where they are read."""
    from ensemble.core.errors import RecipeError
    from ensemble.core.registry import did_you_mean
    from ensemble.recipe.schema import Recipe

    known = [*Recipe.model_fields, "seeds"]
    for key in overrides:
        if key not in known and not key.startswith("data."):
            raise RecipeError(f"unknown key {key!r}{did_you_mean(key, known)}")


def _reader(
    source: str | Path | Mapping[str, Any] | None, overrides: Mapping[str, Any], listener: Listener
) -> Callable[[Mapping[str, Any]], RecipeFile]:
    """A function that reads the recipe of a Project's source, with further keys that win."""
    from ensemble.recipe.file import build
    from ensemble.recipe.text import recipe_file

    if isinstance(source, Mapping):
        raw = dict(source)
        return lambda keys: with_data(
            lambda data, members: build(raw, source="the mapping", data=data, overrides=members),
            {**overrides, **keys},
        )
    if source is None:
        return lambda keys: with_data(
            lambda data, members: build({}, source=DIGITS, data=data, overrides=members), {**overrides, **keys}
        )
    path = recipe_file(Path(source).expanduser())
    if path.suffix.lower() in (".yaml", ".yml"):
        return lambda keys: recipe_in_force(path, None, {**overrides, **keys}, listener)
    spec = data_spec(path)  # guessed once: the folder is listed
    return lambda keys: with_data(
        lambda data, members: build({}, source=str(path), data=data or spec, overrides=members),
        {**overrides, **keys},
    )


def _tracking(name: str | None, runs: Path, weights: bool) -> Tracking | None:
    from ensemble.core.errors import RecipeError

    if name is None:
        if weights:
            raise RecipeError("track_weights needs a tracker; name one, such as track='mlflow'")
        return None
    from ensemble.tracking import tracking

    return tracking(name, runs, weights)
