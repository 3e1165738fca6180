"""A member with test predictions."""

from __future__ import annotations

import pytest
from helpers.fake_runs import member


@pytest.fixture
def net(tmp_path):
    return member(tmp_path / "runs", "net-00000000", seed=1)
