"""A row of predictions: all classes or the best, CSV or JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.rows import csv_rows

from ensemble.core.errors import RecipeError
from ensemble.report.prediction_output import Layout, Uncertainty


def test_row_holds_all_classes_or_the_best(here: Path) -> None:
    probs = np.array([[0.1, 0.2, 0.7], [0.4, 0.4, 0.2]], np.float32)
    unsure = Uncertainty(np.array([0.5, 1.0]), np.array([0.1, 0.0]), probs > 0.3)
    layout = Layout(("a", "b;,", "c"), None, "csv", True)
    output = csv_rows(layout.head() + layout.rows(["x,1", "y"], probs, unsure))
    assert output[0] == {
        "image": "x,1",
        "label": "c",
        "probability": "0.7",
        "entropy": "0.500000",
        "disagreement": "0.100000",
        "set": '["c"]',
        "a": "0.1",
        "b;,": "0.2",
        "c": "0.7",
    }
    assert output[1]["label"] == "a" and json.loads(output[1]["set"]) == ["a", "b;,"]
    best = Layout(("a", "b", "c"), 2, "csv", False)
    assert csv_rows(best.head() + best.rows(["x"], probs[:1], None)) == [
        {"image": "x", "label_1": "c", "probability_1": "0.7", "label_2": "b", "probability_2": "0.2"}
    ]
    lines = Layout(("a", "b", "image"), 9, "jsonl", True).rows(["x"], probs[:1], unsure)
    assert json.loads(lines) == {
        "image": "x",
        "top": [
            {"label": "image", "probability": 0.7},
            {"label": "b", "probability": 0.2},
            {"label": "a", "probability": 0.1},
        ],
        "entropy": 0.5,
        "disagreement": 0.1,
        "set": ["image"],
    }
    with pytest.raises(RecipeError, match="'image'; use --format jsonl"):
        Layout(("a", "image"), None, "csv", False)
    with pytest.raises(RecipeError, match="'set'"):
        Layout(("a", "set"), None, "csv", True)
