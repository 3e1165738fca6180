"""Places of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ensemble"
RECIPES = ROOT / "recipes"
SCHEMA1 = ROOT / "tests" / "fixtures" / "runs-schema1"
SCHEMA1_EXPECTED = ROOT / "tests" / "fixtures" / "runs-schema1-expected"
