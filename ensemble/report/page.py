"""Self-contained HTML pages: one file that asks for nothing, pictures and all."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """The page that `templates/<template>` makes of `values`; every value is escaped, a missing one is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ensemble.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def data_uri(image: Image.Image, side: int = 160) -> str:
    """An RGB image, its longer side at most `side` pixels, as a `data:` URI; small ones stay pixel for pixel."""
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side))
        kind, options = "jpeg", {"quality": 85}
    else:
        kind, options = ("png", {"optimize": True}) if max(image.size) <= 64 else ("jpeg", {"quality": 90})
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
