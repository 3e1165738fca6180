"""Names of rules."""

from __future__ import annotations

from ensemble.combine.rules import rules

QUICK_RULES = [name for name in rules.names() if name != "auto"]
"""All but `auto`, which fits every other one on every fold."""
