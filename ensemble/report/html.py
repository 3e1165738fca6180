"""Self-contained HTML, without external resources: pages with embedded images, and boxes for notebooks."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from ensemble.core.table import Table, as_text

if TYPE_CHECKING:
    from jinja2 import Environment


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """`templates/<template>` rendered with `values`. Values are escaped; a missing one raises UndefinedError."""
    return _environment().get_template(template).render(**values)


@lru_cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("ensemble.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(image: Image.Image, side: int = 160) -> str:
    """A `data:` URI of an RGB image, resized to at most `side` pixels; PNG up to 64 pixels, else JPEG."""

    kind = "png" if max(image.size) <= 64 else "jpeg"
    image = image.copy()
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, kind, quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


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
