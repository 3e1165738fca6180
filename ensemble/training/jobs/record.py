"""run.json of a trained run: what was asked, chosen and measured."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ensemble.core.files import read_json, write_json
from ensemble.data.dataset import Dataset
from ensemble.data.leaks import leaks_for_training
from ensemble.recipe.resolve import PIPELINE, chosen_on_valid
from ensemble.runs.run import SCHEMA
from ensemble.runs.writing import versions
from ensemble.training.jobs.plan import Job

_PACKAGES = ("fastai", "torch", "torchvision", "timm", "pillow", "scikit-learn")


def training_versions() -> dict[str, str]:
    """What may change a number above the waterline, beside what may below it."""
    found = versions()
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the working directory, with `-dirty` where files differ; None outside a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def new_facts(job: Job, dataset: Dataset, device: str) -> dict[str, Any]:
    """What is known before the first step; an interrupted run keeps what it had."""
    path = job.path / "run.json"
    facts: dict[str, Any] = {
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
        # members that had the validation rows to learn from gave a student its labels
        "chosen_on_valid": [*chosen_on_valid(job.recipe), *(["soft labels"] if job.teacher else [])],
    }
    if not path.is_file():
        return facts
    begun = read_json(path)
    changed = {key: facts[key] for key in ("device", "versions") if begun.get(key) != facts[key]}
    if changed:  # bit identity is promised for the same versions and machine only
        begun["resumed"] = [*begun.get("resumed", []), {"at": facts["created"], **changed}]
    # the test sets, and what is known of copies, may have changed since; everything else is as it was begun
    return {**facts, **begun, "data": facts["data"], "leaks": facts["leaks"]}


def data_facts(job: Job, dataset: Dataset) -> dict[str, Any]:
    """The data set's form, fingerprints and sizes."""
    return {
        "form": job.recipe.data.form,
        "fingerprint": dataset.fingerprint,
        "tests": dict(dataset.test_fingerprints),
        "sizes": {split: len(items) for split, items in dataset.splits.items()},
    }


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write run.json into the run directory `path`."""
    write_json(path / "run.json", facts)
