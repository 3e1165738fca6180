"""The Grad-CAM pictures that a report shows, drawn into the runs whose networks they are about."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ensemble.combine.arrays import Wide
from ensemble.data.pixels import Pixels
from ensemble.errors import EnsError, one_line
from ensemble.files import write_atomically
from ensemble.models.gradcam import grad_cam
from ensemble.models.trained import load_trained
from ensemble.report.figures import overlaid
from ensemble.report.sections.looks import Look


def draw_looks(
    wanted: Sequence[Look],
    opened: Callable[[str], Image.Image],
    device: torch.device,
    step: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Draw each into its file. opened: the id of a row -> its upright image.  step: told how many are done.

    Returns a line for each run whose network could not be asked; the others are drawn all the same.
    """
    problems, done = [], 0
    ordered = sorted(wanted, key=lambda look: look.run.id)
    for run, of_run in groupby(ordered, key=lambda look: look.run):
        try:
            trained = load_trained(run, device)
            for look in of_run:
                pixels = trained.square.of(opened(look.name))
                asked = trained.classes.index(look.asked)
                cam, _ = grad_cam(trained.network, trained.normalised(pixels, device), asked)
                write_atomically(look.path, picture(pixels, cam.numpy()))
                done += 1
                step(done)
        except (EnsError, ValueError, KeyError) as error:
            problems.append(f"{run.id}: no Grad-CAM ({one_line(error)})")
    return problems


def picture(pixels: Pixels, cam: Wide) -> bytes:
    """A PNG of an image, uint8 (h, w, 3), under its map, float (h, w), with words about where that is high."""
    info = PngInfo()
    info.add_itxt("Description", described(cam))
    out = io.BytesIO()
    overlaid(pixels, cam).save(out, "png", pnginfo=info)
    return out.getvalue()


def described(cam: Wide) -> str:
    """Where a map, float (h, w) between 0 and 1, has its middle, and how much of it lies in the image's middle."""
    total = float(cam.sum())
    if total <= 0:
        return "nowhere in particular"
    height, width = cam.shape
    down, across = np.mgrid[0:height, 0:width]
    x, y = (
        100 * float((cam * (at + 0.5)).sum()) / (total * side) for at, side in ((across, width), (down, height))
    )
    inner = cam[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return (
        f"the middle of the heat is {x:.0f} % from the left and {y:.0f} % from the top, and"
        f" {100 * float(inner.sum()) / total:.0f} % of it lies in the middle quarter of the image"
    )
