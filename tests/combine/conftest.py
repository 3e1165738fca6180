"""Members on disk."""

from __future__ import annotations

import pytest
from helpers.combined import Decided, combined_run, decided, written
from helpers.fake_runs import member

from ensemble.combine.rules import rules


@pytest.fixture
def three(tmp_path):
    return [member(tmp_path, f"net{i}-0000000{i}", seed=i, skill=0.5 + 0.1 * i) for i in range(3)]


@pytest.fixture(scope="session")
def decided_by_rule(tmp_path_factory: pytest.TempPathFactory) -> Decided:
    """What every rule decides on members as they are."""
    folder = tmp_path_factory.mktemp("plain")
    runs = written(folder)
    return {rule: decided(combined_run(folder, runs, rule)) for rule in rules.names()}
