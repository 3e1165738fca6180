"""What a command trains: the directory of each run, its state, and what all runs share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ensemble.core.errors import DataError
from ensemble.core.events import Listener
from ensemble.data.dataset import Dataset
from ensemble.data.file_hashes import Progress
from ensemble.data.image_cache import PreprocessedImages, open_images
from ensemble.data.load import fold_of, refit_of
from ensemble.data.preprocess import Preprocess
from ensemble.distill.teacher import Teacher
from ensemble.inference.image_batches import CachedImages, DeviceImages, Images, device_images
from ensemble.models.weight_sources import WeightsFile, locate_weights
from ensemble.recipe.architectures import architectures
from ensemble.recipe.resolve import run_hash
from ensemble.recipe.schema import Recipe
from ensemble.runs.run import Run, all_runs
from ensemble.tracking import NullTracker, Tracker


@dataclass(frozen=True)
class Job:
    """One run to be made.

    kind: member, folds, refit or student.  hash: the full sha256.  weights: the initial weights, None from scratch.
    parts: the folds of a `folds` run or of a student, or the member that justifies a `refit`; they come first.
    teacher: whom a student learns from.
    """

    recipe: Recipe
    kind: str
    hash: str
    path: Path
    weights: WeightsFile | None
    parts: tuple[Job, ...] = ()
    teacher: Teacher | None = None

    @property
    def run(self) -> Run:
        """The run that this job makes, there or not."""
        return Run(self.path)

    def all(self) -> Iterator[Job]:
        """This job and what it needs, in the order in which they are trained."""
        for part in self.parts:
            yield from part.all()
        yield self


def plan(recipe: Recipe, fingerprint: str, folder: Path, teacher: Teacher | None = None) -> Job:
    """The job of one resolved recipe, of a student where there is a teacher. Raises RecipeError or MissingWeights.

    A student with folds is one network for all rows, whose parts say how good it is on rows that they never saw.
    """
    if recipe.arch in architectures:
        architectures.get(recipe.arch)
    assert recipe.weights is not None and recipe.name is not None
    weights = locate_weights(recipe.arch, recipe.weights)

    def job(recipe: Recipe, kind: str, name: str, parts: tuple[Job, ...] = ()) -> Job:
        hashed = None if teacher is None else teacher.hashed()
        full_hash = run_hash(recipe, fingerprint, weights.sha256 if weights else None, hashed)
        return Job(recipe, kind, full_hash, _path(folder, name, full_hash), weights, parts, teacher)

    def folds(kind: str, name: str) -> tuple[Job, ...]:
        numbers = range(recipe.folds or 0)
        return tuple(job(recipe.model_copy(update={"fold": fold}), kind, f"{name}-fold{fold}") for fold in numbers)

    if teacher is not None:
        name = f"{recipe.name}-student"
        return job(recipe, "student", name, folds("student", name))
    if recipe.full:
        parent = job(recipe.model_copy(update={"full": False}), "member", recipe.name)
        return job(recipe, "refit", f"{recipe.name}-full", (parent,))
    if recipe.folds and recipe.fold is None:
        return job(recipe, "folds", recipe.name, folds("member", recipe.name))
    return job(recipe, "member", recipe.name)


def _path(folder: Path, name: str, full_hash: str) -> Path:
    """The run's directory; a run that was made under another name is the same run."""
    suffix = f"-{full_hash[:8]}"
    same = [run.path for run in all_runs(folder) if run.id.endswith(suffix) and run.facts.get("hash") == full_hash]
    return same[0] if same else folder / f"{name}{suffix}"


def view_of(job: Job, dataset: Dataset) -> Dataset:
    """The data set as this job sees it."""
    view = _divided(job, dataset)
    return view if job.teacher is None else job.teacher.taught(view)


def _divided(job: Job, dataset: Dataset) -> Dataset:
    if job.kind == "refit" or (job.kind == "student" and job.parts):
        return refit_of(dataset)
    if job.recipe.folds is None:
        if "valid" not in dataset.splits:
            raise DataError("the data set has no validation rows; set data.valid to a folder, a CSV or a fraction")
        return dataset
    if job.kind == "folds":
        return replace(dataset)
    assert job.recipe.fold is not None
    return fold_of(dataset, job.recipe.folds, job.recipe.fold, job.recipe.data.split_seed)


def preprocess_of(recipe: Recipe) -> Preprocess:
    """What a resolved recipe makes of every image."""
    assert recipe.image_size is not None
    return Preprocess(recipe.image_size, recipe.resize, recipe.preprocess)


def cache_folder(runs: Path) -> Path:
    """Where the stores of a runs folder lie."""
    return runs / ".data" / "squares"


@dataclass
class TrainingContext:
    """The data set, the device, and the images once they are decoded.

    folder: where stores of squares lie.  squares: what all members want, so that an image is decoded once for all.
    listener: told of notes and progress.
    tracker: told of every run.
    """

    dataset: Dataset
    device: torch.device
    folder: Path
    squares: Iterable[Preprocess] = ()
    listener: Listener = field(default_factory=Listener)
    tracker: Tracker = field(default_factory=NullTracker)
    _opened: dict[tuple[str, Preprocess], PreprocessedImages] = field(default_factory=dict)
    _placed: dict[tuple[str, Preprocess], DeviceImages] = field(default_factory=dict)
    _may_place: bool = True

    def decode(self) -> None:
        """Make every store that is wanted, so that other processes find them."""
        for split in self.dataset.splits:
            for square in self.squares:
                self._open(split, square, None)

    def images(self, recipe: Recipe, split: str, progress: Progress | None = None) -> Images:
        """The images of `split` as this recipe wants them. Train and valid are one: folds divide them anew."""
        key = self._open(split, preprocess_of(recipe), progress)
        _, wanted = key
        # squares of other sizes are those of other members
        self._placed = {place: images for place, images in self._placed.items() if place[1] == wanted}
        if key not in self._placed and self._may_place:
            taken = sum(images.pixels.nbytes for images in self._placed.values())
            placed = device_images(self._opened[key], self.device, taken)
            if placed:
                self._placed[key] = placed
        return self._placed.get(key) or CachedImages(self._opened[key])

    def _open(self, split: str, wanted: Preprocess, progress: Progress | None) -> tuple[str, Preprocess]:
        splits = [name for name in self.dataset.splits if name == split or {name, split} <= {"train", "valid"}]
        key = splits[0], wanted
        if key not in self._opened:
            every = tuple(dict.fromkeys([wanted, *self.squares]))
            found = open_images(self.dataset, splits, every, self.folder, progress, self.listener.note)
            self._opened |= {(splits[0], square): one for square, one in zip(every, found, strict=True)}
        return key

    def clear_device(self) -> bool:
        """Take the squares off the device, for good, as memory ran out there. Whether there were any."""
        there, self._may_place = bool(self._placed), False
        self._placed = {}
        return there
