"""`ens explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath
from ensemble.cli.terminal import Settings, as_json_text, note


@click.command()
@click.argument("run", shell_complete=completion.runs)
@click.argument("images", nargs=-1, required=True, type=HomePath())
@click.option("--class", "asked", help="The class that is asked about. [default: the predicted one]")
@click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.option("--out", type=HomePath(path_type=Path), help="The PNG. [default: <run>/figures/gradcam.png]")
@click.option("--json", "as_json", is_flag=True, help="Print the probabilities and the picture's place as JSON.")
@click.pass_obj
def command(
    settings: Settings,
    run: str,
    images: tuple[str, ...],
    asked: str | None,
    device: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Draw where a member looks (Grad-CAM), for image files or ids of its training and validation rows.

    For networks whose last features are a map: the convolutional ones and, of timm, Swin, CoAtNet and the like.
    Vision transformers (ViT, DeiT, EVA, CaiT) have tokens instead and are refused.

    \b
    ens explain resnet34-1a2b3c4d photo.jpg
    ens explain resnet34-1a2b3c4d ISIC_0000012 ISIC_0000031 --class melanoma
    """
    from PIL import Image

    from ensemble.core.errors import DataError, RecipeError
    from ensemble.core.files import write_atomically
    from ensemble.core.registry import did_you_mean
    from ensemble.report import figures
    from ensemble.report.sections.mistakes import opener
    from ensemble.runs.origin import named_run

    found = named_run(settings.runs, run)
    classes = list(found.facts.get("classes") or ())
    if asked is not None and asked not in classes:
        raise RecipeError(f"unknown class {asked!r}{did_you_mean(asked, classes)}")
    pictures = [(name, opener(found)(name)) for name in images]
    # after everything that can be wrong with the names: torch takes seconds to import
    from ensemble.inference.gradcam import grad_cam, why_no_map
    from ensemble.inference.model import load_trained
    from ensemble.training.engine.hardware import choose_device

    chosen = choose_device(device)
    trained = load_trained(found, chosen)
    if why := why_no_map(trained.network, trained.square.size):
        raise DataError(f"{found.id} ({trained.recipe.arch}) cannot be explained: {why}")
    shown: list[tuple[Image.Image, str]] = []
    answers: list[dict[str, Any]] = []
    for name, image in pictures:
        pixels = trained.square.of(image)
        cam, probs = grad_cam(trained.network, trained.normalised(pixels, chosen), _index(classes, asked))
        named = asked or classes[int(probs.argmax())]
        likely = sorted(zip(probs.tolist(), classes, strict=True), reverse=True)[:3]
        shown.append((Image.fromarray(pixels), Path(name).name))
        told = "\n".join(f"{label} {share:.3f}" for share, label in likely)
        shown.append((figures.overlaid(pixels, cam.numpy()), f"{named}?\n{told}"))
        answers.append({"image": name, "class": named, "probs": dict(zip(classes, probs.tolist(), strict=True))})
        if not as_json:
            click.echo(f"{name}\t" + "\t".join(f"{label} {share:.4f}" for share, label in likely))
    path = out or found.path / "figures" / "gradcam.png"
    write_atomically(path, figures.gallery(shown, f"{found.id}: Grad-CAM"))
    if as_json:
        click.echo(as_json_text({"run": found.id, "picture": str(path), "images": answers}))
    note(str(path))


def _index(classes: list[str], asked: str | None) -> int | None:
    return None if asked is None else classes.index(asked)
