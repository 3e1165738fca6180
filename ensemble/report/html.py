"""Self-contained HTML pages: no external resources, images embedded."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image

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
