"""Heat maps (Grad-CAM) of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.core.errors import DataError, RecipeError
from ensemble.core.registry import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image as PillowImage

    from ensemble.api.workspace import Workspace
    from ensemble.runs.run import Run

    Image = str | Path | PillowImage.Image | npt.NDArray[np.uint8]


@dataclass(frozen=True, repr=False)
class Explanation:
    """Heat maps (Grad-CAM) of images.

    picture: the PNG.  images: for each its name, the class asked about and the probability of every class.
    """

    run: str
    picture: Path
    images: tuple[dict[str, Any], ...] = field(default_factory=tuple)

    def facts(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"run": self.run, "picture": str(self.picture), "images": list(self.images)}

    def __repr__(self) -> str:
        return f"Explanation({str(self.picture)!r}, {len(self.images)} images)"

    def _repr_png_(self) -> bytes:
        return self.picture.read_bytes()


def explain(
    workspace: Workspace, run: Run, images: Sequence[str], *, class_name: str | None = None, out: Path | None = None
) -> Explanation:
    """As Model.explain. Raises RecipeError for an unknown class, DataError where there is no such image."""
    from PIL import Image as pillow

    from ensemble.core.files import write_atomically
    from ensemble.report import figures
    from ensemble.report.sections.mistakes import opener

    classes = list(run.record.classes)
    if class_name is not None and class_name not in classes:
        raise RecipeError(f"unknown class {class_name!r}{did_you_mean(class_name, classes)}")
    open_image = opener(run, workspace.load_quietly)
    pictures = [(name, open_image(name)) for name in images]
    # after everything that can be wrong with the names: torch takes seconds to import
    from ensemble.inference.gradcam import grad_cam, why_no_map
    from ensemble.inference.model import load_network
    from ensemble.training.engine.hardware import choose_device

    device = choose_device(workspace.device)
    trained = load_network(run, device)
    if why := why_no_map(trained.network, trained.square.size):
        raise DataError(f"{run.id} ({trained.recipe.arch}) cannot be explained: {why}")
    shown: list[tuple[pillow.Image, str]] = []
    results: list[dict[str, Any]] = []
    index = None if class_name is None else classes.index(class_name)
    for name, image in pictures:
        pixels = trained.square.of(image)
        cam, probs = grad_cam(trained.network, trained.normalised(pixels, device), index)
        about = class_name or classes[int(probs.argmax())]
        likely = sorted(zip(probs.tolist(), classes, strict=True), reverse=True)[:3]
        shown.append((pillow.fromarray(pixels), Path(name).name))
        caption = "\n".join(f"{label} {share:.3f}" for share, label in likely)
        shown.append((figures.overlaid(pixels, cam.numpy()), f"{about}?\n{caption}"))
        results.append({"image": name, "class": about, "probs": dict(zip(classes, probs.tolist(), strict=True))})
    path = out or run.path / "figures" / "gradcam.png"
    write_atomically(path, figures.gallery(shown, f"{run.id}: Grad-CAM"))
    return Explanation(run.id, path, tuple(results))
