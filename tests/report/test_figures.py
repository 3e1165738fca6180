"""Figures of scores and curves."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from helpers.labelled import point, rows_of
from PIL import Image

from ensemble.report import figures


@pytest.mark.parametrize("k", [2, 3, pytest.param(50, marks=pytest.mark.slow)])
def test_figures_of_any_number_of_classes(k: int) -> None:
    random = np.random.default_rng(0)
    rows = rows_of(np.arange(4 * k) % k, random.random((4 * k, k)))
    sides = {"one": rows, "other": rows}
    points = [point(1, 0.5, 0.4), point(2, 0.6, 0.5, stage=1)]
    for created in (
        figures.curves({"one": points, "other": points[:1]}),
        figures.confusions(sides),
        figures.roc_and_precision(sides),
        figures.reliability(sides),
        figures.distribution(rows.classes, [1] * k, [2] * k),
        figures.gallery([(np.zeros((8, 8, 3), np.uint8), "zero")] * 3, "zeros"),
        figures.sheet({"none": [np.zeros((8, 8, 3), np.uint8)], "b": []}, "title"),
    ):
        assert Image.open(io.BytesIO(created)).size[0] > 300


def test_curves_are_of_the_most_mistaken_classes() -> None:
    k = 30
    targets = np.arange(4 * k) % k
    probs = np.eye(k)[np.where(targets < 5, (targets + 1) % k, targets)]  # the first five classes are always wrong
    rows = rows_of(targets, probs)
    shown = figures.most_mistaken([rows, rows])
    assert shown[:5] == [0, 1, 2, 3, 4] and len(shown) == figures.MOST_PANELS


def test_figures_draw_names_literally() -> None:
    rows = rows_of(np.arange(12) % 3, np.random.default_rng(0).random((12, 3)))
    strange = replace(rows, classes=("$\\foo$", "a$b$", "{x}_1"))
    sides = {"run$\\bar$": strange}
    for created in (figures.confusions(sides), figures.roc_and_precision(sides), figures.reliability(sides)):
        assert Image.open(io.BytesIO(created)).size[0] > 300
