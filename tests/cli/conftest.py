"""Runs of the digits."""

from __future__ import annotations

import pytest
from helpers.fake_runs import DIGITS, member


@pytest.fixture
def digit_runs(tmp_path, monkeypatch):
    """A folder without a recipe, with three members of the digits."""
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        member(tmp_path / "runs", f"net{i}-0000000{i}", seed=i, skill=0.5 + 0.1 * i, data=DIGITS)
    return tmp_path
