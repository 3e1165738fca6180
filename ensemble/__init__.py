"""The most accurate and most honest prediction out of several fine-tuned vision models.

>>> import ensemble as ens
>>> project = ens.Project()                                  # scikit-learn's digits
>>> members = project.train(["resnet18", "densenet121"])     # doctest: +SKIP
>>> best = project.combine(members, threshold=0.9)           # doctest: +SKIP
>>> best.honest                                              # doctest: +SKIP
Estimate(value=0.9512, low=0.9441, high=0.9567)

Everything is imported when it is first used, so that `import ensemble` is quick and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ensemble.core import __version__

if TYPE_CHECKING:
    from ensemble.api.combiner import Combiner
    from ensemble.api.models import Ensemble, Leaderboard, Model
    from ensemble.api.prediction import PredictedImages
    from ensemble.api.project import Project
    from ensemble.api.training import Members
    from ensemble.core.errors import (
        DataError,
        EnsError,
        MembersFailed,
        MismatchedRuns,
        MissingWeights,
        NothingPassed,
        RecipeError,
        RunLocked,
        TrainingFailed,
    )
    from ensemble.core.estimate import Estimate
    from ensemble.core.events import Bars, Lines, Listener
    from ensemble.core.predictions import Predictions
    from ensemble.core.table import Table

_HOMES = {
    "ensemble.api.combiner": ("Combiner",),
    "ensemble.api.models": ("Ensemble", "Leaderboard", "Model"),
    "ensemble.api.prediction": ("PredictedImages",),
    "ensemble.api.project": ("Project",),
    "ensemble.api.training": ("Members",),
    "ensemble.core.errors": (
        *("DataError", "EnsError", "MembersFailed", "MismatchedRuns", "MissingWeights", "NothingPassed"),
        *("RecipeError", "RunLocked", "TrainingFailed"),
    ),
    "ensemble.core.estimate": ("Estimate",),
    "ensemble.core.events": ("Bars", "Lines", "Listener"),
    "ensemble.core.predictions": ("Predictions",),
    "ensemble.core.table": ("Table",),
}

__all__ = [
    "Bars",
    "Combiner",
    "DataError",
    "EnsError",
    "Ensemble",
    "Estimate",
    "Leaderboard",
    "Lines",
    "Listener",
    "Members",
    "MembersFailed",
    "MismatchedRuns",
    "MissingWeights",
    "Model",
    "NothingPassed",
    "PredictedImages",
    "Predictions",
    "Project",
    "RecipeError",
    "RunLocked",
    "Table",
    "TrainingFailed",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    import importlib

    for module, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'ensemble' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
