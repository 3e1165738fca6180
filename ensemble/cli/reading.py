"""Progress bars on a terminal, and reading a data set behind one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.cli.bars import bars
from ensemble.cli.context import note

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset
    from ensemble.recipe.schema import DataSpec


def load_with_progress(spec: DataSpec, runs: Path, say: Callable[[str], None] = note) -> Dataset:
    """Load and check a data set. say: told what a person should see. Raises DataError."""
    from ensemble.data.load import load_dataset

    with bars() as stage:
        return load_dataset(
            spec, runs, progress=lambda done, total: stage("checking images", done, total), note=say
        )
