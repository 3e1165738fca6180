"""The public names of the package, documented, and what importing it loads."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ensemble as ens


def test_every_public_name_is_documented_and_in_dir() -> None:
    assert sorted(set(ens.__all__)) == sorted(ens.__all__)
    for name in ens.__all__:
        value = getattr(ens, name)
        assert name in dir(ens)
        if name != "__version__":
            assert inspect.getdoc(value), name
            methods = [part for key, part in vars(value).items() if inspect.isfunction(part) and key[0] != "_"]
            assert all(map(inspect.getdoc, methods)), name
    with pytest.raises(AttributeError, match="no attribute 'project'"):
        _ = ens.project  # type: ignore[attr-defined]


def test_public_names() -> None:
    """Who removes or renames one breaks the notebooks of others."""
    errors = {name for name in ens.__all__ if isinstance(getattr(ens, name), type)}
    errors = {name for name in errors if issubclass(getattr(ens, name), Exception)}
    assert {"DataError", "RecipeError", "MembersFailed", "MismatchedRuns", "NothingPassed"} <= errors
    assert set(ens.__all__) - errors == {
        *("Bars", "Combiner", "Ensemble", "Estimate", "Leaderboard", "Lines", "Listener", "Members", "Model"),
        *("PredictedImages", "Predictions", "Project", "Table", "__version__"),
    }


def test_import_loads_no_library_and_a_project_no_torch(here: Path) -> None:
    code = (
        "import sys, ensemble as ens\n"
        "assert not {'numpy', 'torch', 'pandas', 'sklearn', 'pydantic', 'click'} & set(sys.modules)\n"
        "ens.Project(listener=ens.Listener()).runs()\n"
        "assert not {'torch', 'fastai', 'timm', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_api_neither_prints_nor_exits() -> None:
    for path in (Path(ens.__file__).parent / "api").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bprint\(|sys\.exit|import click|sys\.stdout", text), path
