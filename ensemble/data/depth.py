"""16-bit files that use only their low bits, as cameras of 12 bits write them: read, they are almost black."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ensemble.data.images import raw_mode
from ensemble.data.pillow_warnings import collected
from ensemble.errors import one_line

LOW = 1 << 12
"""Values below it are what 12 bits hold."""
LOOKED_AT = 8
"""Files that training looks at."""
ADVICE = "is read as almost black; multiply the values by 16 and save the images again, with 16 or 8 bits"
_SUFFIXES = {".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm"}


def uses_low_bits(image: Image.Image) -> bool | None:
    """Whether an opened 16-bit image has no value above 4095; None for fewer bits, and for no light at all."""
    if image.mode.startswith("I"):
        highest = int(np.asarray(image).max())
    elif ";16" in raw_mode(image):
        image.load()  # of each value Pillow keeps the high byte
        colours = image.convert("RGB").getextrema()
        highest = max(high for _, high in colours) << 8  # type: ignore[misc]
    else:
        return None
    return None if highest == 0 else highest < LOW


def note_on_depth(root: Path, paths: Sequence[str]) -> str | None:
    """A line where most 16-bit images among a few of `paths` use their low bits alone."""
    likely = [path for path in paths if Path(path).suffix.lower() in _SUFFIXES]
    few = likely[:: max(1, len(likely) // LOOKED_AT)][:LOOKED_AT]
    looks = [look for look in (_look(root / path) for path in few) if look is not None]
    if 2 * sum(looks) <= len(looks):
        return None
    return (
        f"{one_line(root)}: {sum(looks)} of {len(looks)} 16-bit images looked at have no value above {LOW - 1};"
        f" that {ADVICE}"
    )


def _look(path: Path) -> bool | None:
    try:
        with collected(), Image.open(path) as image:
            return uses_low_bits(image)
    except Exception:  # what cannot be read is named by those who read all of them
        return None
