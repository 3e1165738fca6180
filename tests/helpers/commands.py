"""What a command prints as JSON, and values as JSON has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ensemble.cli import run as command


def printed_json(capfd: pytest.CaptureFixture[str], *words: str) -> Any:
    """What a command prints with --json."""
    capfd.readouterr()
    assert command([*words, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def as_json(value: Any) -> Any:
    """As JSON has it: null for numbers that are not finite, lists for tuples."""
    from ensemble.cli.terminal import as_json_text

    return json.loads(as_json_text(value))
