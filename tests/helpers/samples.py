"""Sample submissions and the tables that are written."""

from __future__ import annotations

import csv


def rows_of_csv(path, separator=","):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter=separator))


def write_sample(tmp_path, text):
    path = tmp_path / "sample.csv"
    path.write_text(text, encoding="utf-8")
    return path
