"""The page of a service: one document with its own style and program, which may load nothing else."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import dataclass

from ensemble import __version__
from ensemble.report.notices import LIMITS, NOT_MEDICAL
from ensemble.report.page import rendered
from ensemble.serve.limits import Limits
from ensemble.serve.predictor import Facts


@dataclass(frozen=True)
class Page:
    """policy: its Content-Security-Policy, which names its style and program by their hashes."""

    html: str
    policy: str


def page(facts: Facts, limits: Limits) -> Page:
    """The page of a model."""
    html = rendered(
        "serve.html",
        {
            "facts": facts,
            "limits": limits,
            "notice": NOT_MEDICAL if facts.medical else None,
            "limitations": LIMITS,
            "calibration": facts.calibration,
            "most_entropy": math.log(len(facts.classes)),
            "version": __version__,
        },
    )
    return Page(html, _policy(html))


def _policy(html: str) -> str:
    rules = {
        "default-src": "'none'",
        "style-src": _hashes(html, "style"),
        "script-src": _hashes(html, "script"),
        "img-src": "data: blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hashes(html: str, tag: str) -> str:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
