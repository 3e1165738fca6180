"""Packages that only some commands need, and what to type where one is missing."""

from __future__ import annotations

import importlib

from ensemble.errors import EnsError

_DISTRIBUTIONS = {"python_multipart": "python-multipart"}
"""What pip calls a module that it knows under another name."""


def require(purpose: str, *modules: str) -> None:
    """Raise EnsError that says what to type where a module cannot be imported. purpose: `an export`."""
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(_DISTRIBUTIONS.get(name, name))
    if missing:
        raise EnsError(f"{purpose} needs {' and '.join(missing)}; type `python -m pip install {' '.join(missing)}`")
