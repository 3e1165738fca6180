"""HTML fragments for notebooks, in the style of the report, light and dark, without scripts."""

from __future__ import annotations

from collections.abc import Sequence

from ensemble.core.table import Table, as_text
from ensemble.report.html import rendered


def fragment(
    title: str,
    sentences: Sequence[str] = (),
    table: Table | None = None,
    warnings: Sequence[str] = (),
    preformatted: str = "",
) -> str:
    """A box with a title, sentences, a table, warnings, and text in `<pre>`. Every value is escaped."""
    rows = [] if table is None else [[as_text(cell) for cell in row] for row in table.rows]
    values = {
        "title": title,
        "sentences": list(sentences),
        "columns": [] if table is None else list(table.columns),
        "rows": rows,
        "warnings": list(warnings),
        "preformatted": preformatted,
    }
    return rendered("fragment.html", values)
