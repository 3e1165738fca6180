"""Complete runs on disk without any training, for tests of what comes after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.core.files import write_json
from ensemble.core.predictions import Predictions, save
from ensemble.data.digits import DIGITS_FINGERPRINT
from ensemble.runs.run import Run
from ensemble.runs.writing import parent_facts, split_metrics

CLASSES = ["ant", "bee", "cat"]
FINGERPRINT = "a" * 64
DIGITS: dict[str, Any] = {"form": "digits", "fingerprint": DIGITS_FINGERPRINT, "tests": {}}


def predictions(
    n: int,
    seed: int,
    *,
    skill: float = 0.7,
    classes: list[str] = CLASSES,
    prefix: str = "v",
    labelled: bool = True,
    groups: np.ndarray | None = None,
) -> Predictions:
    """n rows that are right about `skill` of the time; the targets go round the classes."""
    random = np.random.default_rng(seed)
    k = len(classes)
    targets = np.arange(n, dtype=np.int64) % k
    output = np.where(random.random(n) < skill, targets, random.integers(0, k, n))
    probs = random.random((n, k)) + 2 * np.eye(k)[output]
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    ids = np.array([f"{prefix}{i:03d}" for i in range(n)])
    return Predictions(ids, probs, np.array(classes), targets if labelled else None, groups)


def run(folder: Path, name: str, splits: Mapping[str, Predictions], **facts: Any) -> Run:
    """Write a complete run called `name`; facts win over those of a plain member."""
    path = folder / name
    parents = [parent_facts(parent) for parent in facts.pop("parents", ())]
    first = next(iter(splits.values()))
    write_json(
        path / "run.json",
        {
            "schema": 1,
            "kind": "member",
            "created": "2026-01-01T00:00:00+00:00",
            "parents": parents,
            "arch": name.split("-")[0],
            "fold": None,
            "data": {"form": "folders", "fingerprint": FINGERPRINT, "tests": {"test": "b" * 64}},
            "classes": first.classes.tolist(),
            "parameters": 10,
            "bytes": 40,
            "seconds": 1.0,
            "seconds_per_image": 0.001,
            "chosen_on_valid": [],
            **facts,
        },
    )
    for split, item in splits.items():
        save(path / f"{split}.npz", item)
    scores = {split: split_metrics(item) for split, item in splits.items() if item.targets is not None}
    write_json(path / "metrics.json", {"schema": 1, **scores})
    return Run(path)


def member(folder: Path, name: str, seed: int, n: int = 60, **options: Any) -> Run:
    """A member with labelled validation rows and an unlabelled test of 20 rows."""
    facts = {key: options.pop(key) for key in ("arch", "kind", "data", "chosen_on_valid") if key in options}
    splits = {
        "valid": predictions(n, seed, **options),
        "test": predictions(20, seed + 100, prefix="t", **{**options, "labelled": False, "groups": None}),
    }
    return run(folder, name, splits, **facts)


def rewritten(original: Run, split: str, changed: Predictions) -> None:
    """Replace one file of predictions."""
    save(original.path / f"{split}.npz", changed)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".locks" not in path.parts
    }
