"""run.json of a run that is being trained: settings, automatic choices and measurements."""

from __future__ import annotations

import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ensemble.data.dataset import Dataset
from ensemble.data.leaks import leaks_for_training
from ensemble.recipe.methods import chosen_on_valid
from ensemble.recipe.resolve import PIPELINE
from ensemble.runs.record import SCHEMA, RunRecord
from ensemble.runs.writing import versions
from ensemble.training.jobs.plan import Job

_PACKAGES = ("fastai", "torch", "torchvision", "timm", "pillow", "scikit-learn")


def training_versions() -> dict[str, str]:
    """Versions of the software that may affect training results, without packages that are not installed."""
    installed = versions()
    for package in _PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def git_commit() -> str | None:
    """Commit of the working directory, with `-dirty` if files differ; None outside a repository."""
    try:
        process = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return process.stdout.strip() or None


class RecordInProgress:
    """The record of a run that is being trained, and its file, which is written when `write` is called."""

    def __init__(self, job: Job, record: RunRecord) -> None:
        self.path, self.record = job.path, record

    def update(self, **values: Any) -> None:
        """Replace or add keys of run.json."""
        self.record = self.record.updated(**values)

    def choose(self, **choices: Any) -> None:
        """Replace or add keys of `auto`."""
        self.update(auto={**self.record.auto.values, **choices})

    def write(self) -> None:
        """Write run.json."""
        self.record.write(self.path)


def new_record(job: Job, dataset: Dataset, device: str) -> RunRecord:
    """run.json before the first training step; an interrupted run keeps its earlier content."""
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": job.kind,
        "name": job.recipe.name,
        "hash": job.hash,
        "pipeline": PIPELINE,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "parents": [],
        "versions": training_versions(),
        "git_commit": git_commit(),
        "device": device,
        "arch": job.recipe.arch,
        "seed": job.recipe.seed,
        "fold": job.recipe.fold,
        "data": data_facts(job, dataset),
        "leaks": leaks_for_training(dataset, job.path.parent),
        "classes": dataset.classes.tolist(),
        "weights": None if job.weights is None else {"sha256": job.weights.sha256, "source": job.weights.source},
        **({} if job.teacher is None else {"teacher": {"run": job.teacher.run.id, **job.teacher.hashed()}}),
        "auto": {},
        # a student's soft labels come from members that may have used the validation rows
        "chosen_on_valid": [*chosen_on_valid(job.recipe), *(["soft labels"] if job.teacher else [])],
    }
    if not (job.path / "run.json").is_file():
        return RunRecord(values)
    stored = job.run.record.values
    changed = {key: values[key] for key in ("device", "versions") if stored.get(key) != values[key]}
    resumed = {}
    if changed:  # results are bit-identical only with the same versions on the same machine
        resumed = {"resumed": [*stored.get("resumed", []), {"at": values["created"], **changed}]}
    # test sets and leaks may have changed since; everything else stays as at the start of the run
    return RunRecord({**values, **stored, **resumed, "data": values["data"], "leaks": values["leaks"]})


def data_facts(job: Job, dataset: Dataset) -> dict[str, Any]:
    """Form, fingerprints and sizes of the data set."""
    return {
        "form": job.recipe.data.form,
        "fingerprint": dataset.fingerprint,
        "tests": dict(dataset.test_fingerprints),
        "sizes": {split: len(items) for split, items in dataset.splits.items()},
    }
