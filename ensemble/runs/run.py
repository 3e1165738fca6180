"""Run directories of schema 1: reading and locking.

Locks are file locks of the operating system, so a killed process never leaves one behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ensemble.core.errors import EnsError, RunLocked, one_line
from ensemble.core.files import read_json, write_json
from ensemble.core.predictions import Predictions, load
from ensemble.runs.record import Kind, RunRecord


@contextlib.contextmanager
def locked(folder: Path, run_id: str) -> Iterator[None]:
    """Context manager that holds the lock `<folder>/.locks/<run_id>`. Raises RunLocked that names the holder."""
    locks = folder / ".locks"
    holder = locks / f"{run_id}.json"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{run_id}.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise RunLocked(f"{run_id} is in use by {_holder_text(holder)}; wait for it, or stop it") from None
    except OSError as error:
        raise EnsError(f"cannot lock {one_line(locks / run_id)}: {error.strerror or error}") from error
    try:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": now})
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _holder_text(holder: Path) -> str:
    # the holder writes this file just after taking the lock, so it may not exist yet
    try:
        facts = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"


@dataclass(frozen=True)
class Run:
    """A directory `runs/<name>-<hash8>/`."""

    path: Path

    @property
    def id(self) -> str:
        """Name of the directory: `<name>-<hash8>`."""
        return self.path.name

    @cached_property
    def record(self) -> RunRecord:
        """run.json. Raises DataError if it is unreadable, invalid or of a newer schema."""
        return RunRecord.read(self.path)

    @property
    def kind(self) -> Kind:
        """The kind of the run."""
        return self.record.kind

    @property
    def is_ensemble(self) -> bool:
        """Whether it combines other runs."""
        return self.kind is Kind.ENSEMBLE

    @property
    def is_import(self) -> bool:
        """Whether its predictions were made elsewhere, so that it has no network."""
        return self.kind is Kind.IMPORT

    @property
    def arch(self) -> str:
        """The architecture; the id for an import without one, which counts as its own architecture."""
        return str(self.record.arch or self.id)

    @property
    def complete(self) -> bool:
        """Whether metrics.json, which is written last, exists."""
        return (self.path / "metrics.json").is_file()

    @property
    def failed(self) -> bool:
        """Whether failed.json exists."""
        return (self.path / "failed.json").is_file()

    @property
    def is_fold(self) -> bool:
        """Whether this is the member of a single fold, which is combined only if named explicitly."""
        return self.record.fold is not None

    @property
    def pools_folds(self) -> bool:
        """Whether its validation predictions are out-of-fold: a folds run, or a student trained on folds."""
        return self.kind is Kind.FOLDS or (self.kind is Kind.STUDENT and len(self.record.parents) > 1)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the train and valid rows; empty if unknown."""
        return self.record.data.fingerprint

    @cached_property
    def metrics(self) -> Mapping[str, Any]:
        """Content of metrics.json; empty if the run is not complete."""
        return read_json(self.path / "metrics.json") if self.complete else {}

    def has(self, split: str) -> bool:
        """Whether predictions of `split` (`valid`, `test`, `test-<name>`) exist."""
        return (self.path / f"{split}.npz").is_file()

    def predictions(self, split: str, like: Predictions | None = None) -> Predictions:
        """The validated predictions of one split. like: as for `predictions.checked`. Raises DataError."""
        return load(self.path / f"{split}.npz", source=f"{self.id}/{split}.npz", like=like)

    def splits(self) -> list[str]:
        """The splits with predictions, `valid` and `test` first."""
        names = sorted(path.stem for path in self.path.glob("*.npz") if path.stem != "ensemble")
        return sorted(names, key=lambda name: (name != "valid", name != "test", name))


def all_runs(folder: Path) -> list[Run]:
    """Every run under `folder`, complete or not, by id. Directories without a run.json are skipped."""
    if not folder.is_dir():
        return []
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [Run(path) for path in paths if (path / "run.json").is_file()]
