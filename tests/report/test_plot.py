"""Plots are values: their ticks, and what is drawn of them on a page and in a PNG."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_curve

from ensemble.report import figures
from ensemble.report.classes import Labelled
from ensemble.report.plot import (
    MOST_TICKS,
    Axis,
    ClassSeries,
    Line,
    Plot,
    RangeTest,
    axis_of,
    confidences,
    learning_curve,
    precision_recall,
    rate_curve,
    reliability,
    reliability_bins,
    roc,
)
from ensemble.report.svg import svg, thinned
from ensemble.runs.history import Epoch

finite = st.floats(-1e6, 1e6, allow_nan=False)


def rows_of(n: int, k: int = 3, seed: int = 0) -> Labelled:
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(k), n)
    return Labelled(np.arange(n).astype(str), probs, np.arange(n) % k, tuple("abcdefgh"[:k]), None)


@given(st.lists(finite, max_size=5), st.booleans())
def test_ticks_are_few_within_the_axis_and_read_as_their_values(values: list[float], integer: bool) -> None:
    axis = axis_of("x", values, integer=integer)
    assert axis.low < axis.high and all(axis.low <= value <= axis.high for value in values)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= MOST_TICKS or (integer and not ticks)
    assert len({text for _, text in ticks}) == len(ticks)
    for value, text in ticks:
        assert -1e-9 <= axis.share([value])[0] <= 1 + 1e-9
        assert float(text.replace(",", "")) == pytest.approx(value, abs=1e-9 * (axis.high - axis.low))
        assert not integer or value == round(value)


@given(st.floats(1e-9, 1e3), st.floats(1.01, 1e9))
def test_a_logarithmic_axis_has_round_values(low: float, factor: float) -> None:
    axis = axis_of("x", [low, low * factor], log=True)
    shares = axis.share([axis.low, low, low * factor, axis.high])
    assert shares[0] == pytest.approx(0) and shares[-1] == pytest.approx(1) and (np.diff(shares) > 0).all()
    ticks = axis.ticks()
    assert len(ticks) <= 5 and (len(ticks) >= 2 or factor < 100)
    for value, text in ticks:
        assert axis.low * 0.999 <= value <= axis.high * 1.001
        assert f"{value:e}"[0] in "125" and float(text) == pytest.approx(value)


def test_thinning_keeps_the_ends_and_the_shape() -> None:
    x = np.linspace(0, 200, 20_001)
    curve = np.stack([x, 70 + 60 * np.sin(x / 15)], axis=1)
    kept = thinned(curve)
    assert len(kept) < 1_500
    assert np.array_equal(kept[[0, -1]], curve[[0, -1]])
    assert np.abs(np.interp(x, kept[:, 0], kept[:, 1]) - curve[:, 1]).max() < 0.5
    stairs = np.array([[0, 0], [0, 5], [0, 9], [4, 9], [8, 9], [8, 9], [3, 9]], float)
    assert thinned(stairs).tolist() == [[0, 0], [0, 9], [8, 9], [3, 9]]
    assert thinned(stairs[:1]).tolist() == [[0, 0]]


def test_the_curve_on_the_page_is_that_of_scikit_learn() -> None:
    rows = rows_of(60)
    picture = svg(roc([ClassSeries(rows, 1, 4, dash=1)]), "a < b")
    (data,) = re.findall(r'<path d="M([^"]*)" style="[^"]*var\(--c4\)[^"]*dasharray: 5 2', picture)
    size = [
        float(value)
        for value in re.findall(r'<svg aria-hidden[^>]* width="([\d.]+)" height="([\d.]+)"', picture)[0]
    ]
    points = np.array([list(map(float, point.split())) for point in data.split("L")]) / size
    fpr, tpr, _ = roc_curve(rows.targets == 1, rows.probs[:, 1])
    for x, y in points:  # each corner is a point of the curve
        assert np.hypot(fpr - x, tpr - 1.01 * (1 - y)).min() < 0.005
    assert 'aria-label="a &lt; b"' in picture and " id=" not in picture and "#" not in picture


def test_series_beyond_the_colours_begin_again_and_guides_are_grey() -> None:
    plot = Plot("<t>", Axis("x", 0, 1), Axis("y", 0, 1), (Line([0, 1], [0, 1], 9), Line([0, 1], [1, 0], None)))
    picture = svg(plot, "")
    assert "var(--c1)" in picture and "var(--c9)" not in picture and "&lt;t&gt;" in picture
    assert picture.count("stroke: var(--soft)") == 1


def test_a_line_that_several_series_share_is_grey() -> None:
    rows = rows_of(30)
    apart = precision_recall([ClassSeries(rows, 0, 0), ClassSeries(rows_of(31), 1, 1)])
    alike = precision_recall([ClassSeries(rows, 0, 0), ClassSeries(rows, 1, 1)])
    assert [mark.colour for mark in apart.marks if isinstance(mark, Line)][2:] == [0, 1]
    assert [mark.colour for mark in alike.marks if isinstance(mark, Line)][2:] == [None]


def test_every_plot_is_drawn_by_both(tmp_path: Path) -> None:
    rows = rows_of(40)
    epochs = [Epoch(at // 2, at, 1 / (at + 1), None if at == 1 else 0.5, at / 4, 0.5, 0.1, 1.0) for at in range(4)]
    bins = {"one": reliability_bins(rows), "other": reliability_bins(rows_of(30, seed=1))}
    test = RangeTest([1e-5, 1e-3, 1e-1], [2.0, 1.0, 9.0], 1e-3)
    plots = [
        roc([ClassSeries(rows, 0, 0)]),
        precision_recall([]),
        reliability(bins),
        confidences(bins),
        confidences({"one": bins["one"]}),
        learning_curve({"a": epochs, "b": epochs[:1]}, "loss"),
        rate_curve([test, test], "rates", lambda rate: f"{rate:g}"),
        rate_curve([RangeTest([1e-3], [1.0], None)], "a point", lambda _: None),
    ]
    for plot in plots:
        picture = svg(plot, "plot")
        assert "nan" not in picture and "inf" not in picture and picture.count("<svg") == picture.count("</svg>")
        figure = figures.new_figure(3, 3)
        figures.draw(figure.subplots(), plot)
        assert Image.open(io.BytesIO(figures.png(figure))).size[0] > 300
    assert [guide.x for guide in plots[5].guides] == [2.5]
