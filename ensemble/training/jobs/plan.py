"""Plan of a command: the jobs to train with their run directories, and the context that all jobs share."""

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
from ensemble.data.preprocess import Preprocess, preprocess_of
from ensemble.distill.teacher import Teacher
from ensemble.inference.image_batches import CachedImages, DeviceImages, Images, device_images
from ensemble.models.weight_sources import WeightsFile, locate_weights
from ensemble.recipe.architectures import architectures
from ensemble.recipe.resolve import run_hash
from ensemble.recipe.schema import ResolvedRecipe
from ensemble.runs.record import Kind
from ensemble.runs.run import Run, all_runs
from ensemble.tracking import NullTracker, Tracker


@dataclass(frozen=True)
class Job:
    """One run to train.

    kind: member, folds, refit or student.  hash: the full sha256.  weights: initial weights, None from scratch.
    parts: the folds of a `folds` run or of a student, or the member that a `refit` repeats; trained first.
    teacher: the model that a student learns from.
    """

    recipe: ResolvedRecipe
    kind: Kind
    hash: str
    path: Path
    weights: WeightsFile | None
    parts: tuple[Job, ...] = ()
    teacher: Teacher | None = None

    @property
    def run(self) -> Run:
        """The run of this job, whether it exists or not."""
        return Run(self.path)

    def all(self) -> Iterator[Job]:
        """Yield this job and the jobs that it needs, in training order."""
        for part in self.parts:
            yield from part.all()
        yield self


def plan(recipe: ResolvedRecipe, fingerprint: str, folder: Path, teacher: Teacher | None = None) -> Job:
    """The job of one resolved recipe; a student's if `teacher` is given. Raises RecipeError or MissingWeights.

    A student with folds is one network trained on all rows; its parts give its out-of-fold predictions.
    """
    if recipe.arch in architectures:
        architectures.get(recipe.arch)
    weights = locate_weights(recipe.arch, recipe.weights)

    def job(recipe: ResolvedRecipe, kind: Kind, name: str, parts: tuple[Job, ...] = ()) -> Job:
        hashed = None if teacher is None else teacher.hashed()
        full_hash = run_hash(recipe, fingerprint, weights.sha256 if weights else None, hashed)
        return Job(recipe, kind, full_hash, _path(folder, name, full_hash), weights, parts, teacher)

    def folds(kind: Kind, name: str) -> tuple[Job, ...]:
        numbers = range(recipe.folds or 0)
        return tuple(job(recipe.model_copy(update={"fold": fold}), kind, f"{name}-fold{fold}") for fold in numbers)

    if teacher is not None:
        name = f"{recipe.name}-student"
        return job(recipe, Kind.STUDENT, name, folds(Kind.STUDENT, name))
    if recipe.full:
        parent = job(recipe.model_copy(update={"full": False}), Kind.MEMBER, recipe.name)
        return job(recipe, Kind.REFIT, f"{recipe.name}-full", (parent,))
    if recipe.folds and recipe.fold is None:
        return job(recipe, Kind.FOLDS, recipe.name, folds(Kind.MEMBER, recipe.name))
    return job(recipe, Kind.MEMBER, recipe.name)


def _path(folder: Path, name: str, full_hash: str) -> Path:
    """The run's directory; that of an existing run with the same hash, whatever its name."""
    suffix = f"-{full_hash[:8]}"
    existing = [run.path for run in all_runs(folder) if run.id.endswith(suffix) and run.record.hash == full_hash]
    return existing[0] if existing else folder / f"{name}{suffix}"


def view_of(job: Job, dataset: Dataset) -> Dataset:
    """The job's view of the data set: its splits, with soft labels for a student."""
    dataset_view = _split_view(job, dataset)
    return dataset_view if job.teacher is None else job.teacher.with_soft_labels(dataset_view)


def _split_view(job: Job, dataset: Dataset) -> Dataset:
    if job.kind is Kind.REFIT or (job.kind is Kind.STUDENT and job.parts):
        return refit_of(dataset)
    if job.recipe.folds is None:
        if "valid" not in dataset.splits:
            raise DataError("the data set has no validation rows; set data.valid to a folder, a CSV or a fraction")
        return dataset
    if job.kind is Kind.FOLDS:
        return replace(dataset)
    assert job.recipe.fold is not None
    return fold_of(dataset, job.recipe.folds, job.recipe.fold, job.recipe.data.split_seed)


def cache_folder(runs: Path) -> Path:
    """Folder of the image stores of a runs folder."""
    return runs / ".data" / "squares"


@dataclass
class TrainingContext:
    """Data set, device, and decoded images, shared by all jobs of a command.

    folder: of the image stores.  squares: preprocessings of all members, so that each image is decoded only once.
    listener: receives notes and progress.
    tracker: receives every run.
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
        """Create every required image store, so that other processes can open it."""
        for split in self.dataset.splits:
            for square in self.squares:
                self._open(split, square, None)

    def images(self, recipe: ResolvedRecipe, split: str, progress: Progress | None = None) -> Images:
        """Images of `split` preprocessed for a recipe. Train and valid share a store, as folds split them anew."""
        key = self._open(split, preprocess_of(recipe), progress)
        _, preprocess = key
        # images with another preprocessing belong to other members
        self._placed = {
            placed_key: images for placed_key, images in self._placed.items() if placed_key[1] == preprocess
        }
        if key not in self._placed and self._may_place:
            used_bytes = sum(images.pixels.nbytes for images in self._placed.values())
            placed = device_images(self._opened[key], self.device, used_bytes)
            if placed:
                self._placed[key] = placed
        return self._placed.get(key) or CachedImages(self._opened[key])

    def _open(self, split: str, preprocess: Preprocess, progress: Progress | None) -> tuple[str, Preprocess]:
        splits = [name for name in self.dataset.splits if name == split or {name, split} <= {"train", "valid"}]
        key = splits[0], preprocess
        if key not in self._opened:
            preprocesses = tuple(dict.fromkeys([preprocess, *self.squares]))
            stores = open_images(self.dataset, splits, preprocesses, self.folder, progress, self.listener.note)
            self._opened |= {(splits[0], square): store for square, store in zip(preprocesses, stores, strict=True)}
        return key

    def clear_device(self) -> bool:
        """Remove the images from the device permanently, after it ran out of memory; whether there were any."""
        had_images, self._may_place = bool(self._placed), False
        self._placed = {}
        return had_images
