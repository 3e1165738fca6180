"""`ens explain`."""

from __future__ import annotations

from pathlib import Path

import click

from ensemble.cli import completion
from ensemble.cli.options import Execution, HomePath, runs_project
from ensemble.cli.terminal import Settings, as_json_text, note


@click.command()
@click.argument("run", shell_complete=completion.runs)
@click.argument("images", nargs=-1, required=True, type=HomePath())
@click.option("--class", "class_name", help="The class that is asked about. [default: the predicted one]")
@click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.option("--out", type=HomePath(path_type=Path), help="The PNG. [default: <run>/figures/gradcam.png]")
@click.option("--json", "as_json", is_flag=True, help="Print the probabilities and the picture's place as JSON.")
@click.pass_obj
def command(
    settings: Settings,
    run: str,
    images: tuple[str, ...],
    class_name: str | None,
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
    model = runs_project(settings, execution=Execution(device)).run(run)
    explanation = model.explain(images, class_name=class_name, out=out)
    if as_json:
        click.echo(as_json_text(explanation.facts()))
    else:
        for image in explanation.images:
            top_classes = sorted(((share, label) for label, share in image["probs"].items()), reverse=True)[:3]
            click.echo(f"{image['image']}\t" + "\t".join(f"{label} {share:.4f}" for share, label in top_classes))
    note(str(explanation.picture))
