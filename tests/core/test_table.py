"""Tables of numbers: text, CSV, HTML, aligned columns."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from helpers.fake_runs import predictions, run

import ensemble as ens
from ensemble.cli.terminal import table
from ensemble.core.table import as_csv, duration, interval, markdown, millions


def test_table_of_text_and_numbers():
    text = table(("name", "n", "share"), [("a", 1, 0.5), ("bcd", 20, None)])
    assert text == "name   n   share\na      1  0.5000\nbcd   20"
    assert interval(0.1, 0.25) == "0.1000 to 0.2500"
    assert [duration(s) for s in (None, 0.25, 42.0, 190.0, 7500.0)] == ["", "0.2s", "42s", "3m10s", "2h05m"]
    assert [millions(c) for c in (None, 12, 4_600, 23_512_130)] == ["", "12", "5k", "23.5M"]


def test_html_in_notebooks_is_escaped_without_scripts(here: Path) -> None:
    folder = Path("runs")
    classes = ["<b>ant</b>", "bee", "cat"]
    runs = [
        run(folder, f"net-{seed}{'a' * 7}", {"valid": predictions(60, seed, classes=classes)}) for seed in (1, 2)
    ]
    project = ens.Project(runs=folder, listener=ens.Listener())
    best = project.combine([entry.id for entry in runs], name="both")
    for value in (
        best,
        project.run(runs[0].id),
        project.runs(),
        project.compare([entry.id for entry in runs], figures=False),
    ):
        html = value._repr_html_()
        assert "prefers-color-scheme: dark" in html
        assert "<script" not in html
        assert "<b>ant</b>" not in html
        assert repr(value)


def test_table_as_html_csv_and_markdown() -> None:
    table = ens.Table(("name", "value"), [("a", 0.5), ("b", None)])
    assert table.text() == "name   value\na     0.5000\nb"
    assert table.records() == [{"name": "a", "value": 0.5}, {"name": "b", "value": None}]
    assert table.frame().shape == (2, 2)


def test_table_columns_stay_aligned_with_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    rows = [["a", 1.0], ["<script>", 22.5], ["猫", None]]
    bare = table(("name", "value"), rows)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert click.unstyle(table(("name", "value"), rows, {0: {"fg": "green"}})) == bare


def test_tables_escape_special_characters() -> None:
    assert "a\\|b" in markdown(["x"], [["a|b"]])
    assert as_csv(["x", "y"], [["a,b", None]]) == 'x,y\n"a,b",\n'
