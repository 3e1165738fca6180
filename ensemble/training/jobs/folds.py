"""`folds` runs: pooled out-of-fold predictions of the members, and the mean of their test predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ensemble.core.errors import DataError, first_few
from ensemble.core.files import write_atomically
from ensemble.core.predictions import Predictions, align, save, stacked
from ensemble.data.dataset import Dataset
from ensemble.data.leaks import of_folds
from ensemble.recipe import text
from ensemble.recipe.resolve import as_mapping
from ensemble.runs.writing import parent_facts
from ensemble.training.jobs.member import new_tests, write_metrics
from ensemble.training.jobs.plan import Job, TrainingContext
from ensemble.training.jobs.record import new_record


def pool_folds(job: Job, dataset: Dataset) -> None:
    """Write the run of a `folds` job whose members are complete."""
    runs = [part.run for part in job.parts]
    predictions_by_split = {"valid": pooled([run.predictions("valid") for run in runs])}
    for split in dataset.tests:
        predictions_by_split[split] = mean_of([run.predictions(split) for run in runs])
    members = [run.record for run in runs]
    mean, std = members[0].normalisation
    record = new_record(job, dataset, members[0].device or "").updated(
        parents=[parent_facts(run) for run in runs],
        leaks=of_folds([member.leaks for member in members]),
        mean=list(mean),
        std=list(std),
        parameters=sum(member.parameters or 0 for member in members),
        bytes=sum(member.bytes or 0 for member in members),
        seconds=round(sum(member.seconds or 0 for member in members), 3),
        seconds_per_image=round(sum(member.seconds_per_image or 0 for member in members), 7),
    )
    write_atomically(job.path / "recipe.yaml", text.dump(as_mapping(job.recipe)))
    for split, predictions in predictions_by_split.items():
        save(job.path / f"{split}.npz", predictions)
    record.write(job.path)
    write_metrics(job.run)


def pool_students(job: Job) -> None:
    """Write the validation predictions of a student of all rows: the out-of-fold predictions of its folds."""
    save(job.path / "valid.npz", pooled([part.run.predictions("valid") for part in job.parts]))


def pool_new_tests(job: Job, dataset: Dataset, context: TrainingContext) -> list[str]:
    """Pool again if the members have predicted test sets that the complete run lacks; returns their names."""
    splits = new_tests(job, dataset)
    if splits:
        pool_folds(job, dataset)
    return splits


def pooled(parts: list[Predictions]) -> Predictions:
    """Concatenated predictions, sorted by id; the parts have disjoint rows and the same classes."""
    classes = parts[0].classes
    check_disjoint(parts)
    parts = [align(part, part.ids, classes) for part in parts]
    ids = np.concatenate([part.ids for part in parts])
    order = np.argsort(ids)
    targets = [part.targets for part in parts if part.targets is not None]
    groups = [part.groups for part in parts if part.groups is not None]
    return Predictions(
        ids=ids[order],
        probs=np.concatenate([part.probs for part in parts])[order],
        classes=classes,
        targets=np.concatenate(targets)[order] if targets else None,
        groups=np.concatenate(groups)[order] if groups else None,
        source="pooled folds",
    )


def check_disjoint(parts: list[Predictions]) -> None:
    """Raise DataError if a row is in two of the parts."""
    ids, counts = np.unique(np.concatenate([part.ids for part in parts]), return_counts=True)
    if (counts > 1).any():
        raise DataError(f"rows in two folds: {first_few(ids[counts > 1])}; train the folds again with --retry")


def mean_of(parts: list[Predictions]) -> Predictions:
    """Mean of the probabilities of several models for the same rows, computed in float64."""
    first = parts[0]
    probs = stacked([align(part, first.ids, first.classes) for part in parts]).mean(axis=0, dtype=np.float64)
    return replace(first, probs=probs.astype(np.float32))
