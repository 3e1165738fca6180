"""The Grad-CAM pictures that a report shows, drawn into the runs whose networks they are about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from PIL import Image

from ensemble.errors import EnsError, one_line
from ensemble.files import write_atomically
from ensemble.models.gradcam import grad_cam
from ensemble.models.trained import load_trained
from ensemble.report.sections.looks import Look, heat_picture


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
                write_atomically(look.path, heat_picture(pixels, cam.numpy()))
                done += 1
                step(done)
        except (EnsError, ValueError, KeyError) as error:
            problems.append(f"{run.id}: no Grad-CAM ({one_line(error)})")
    return problems
