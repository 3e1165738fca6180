"""`ens init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble.cli.context import as_json_text
from ensemble.cli.options import DEFAULT_RECIPE

if TYPE_CHECKING:
    from ensemble.recipe.schema import DataSpec

_REST = """\
# Every member has these keys unless its own entry says otherwise.
defaults:
  weights: imagenet      # or `none` to train from scratch, or a file
  image_size: 224
  frozen_epochs: 1       # the head alone
  epochs: 3              # then everything, with smaller rates for earlier layers
  lr: auto               # the learning-rate finder
  augment: standard      # none, flip, flip-shift, orientation, standard
  batch_size: {batch}
members:
  - arch: resnet34
  - arch: densenet121
  - arch: efficientnet_b0
    seeds: [0, 1]        # two members
combine:
  threshold: 0.0         # keep members whose validation accuracy is strictly above this
submit:
  format: kaggle         # kaggle, kaggle-probs or codabench
"""


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over an ens.yaml that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the file's name and the data it describes as JSON.")
def command(data: Path, force: bool, as_json: bool) -> None:
    """Write a commented recipe, ens.yaml, for a folder of images or a CSV; the other commands then use it.

    \b
    ens init photos
    """
    from ensemble.data.guess import guess_spec
    from ensemble.data.load import training_size
    from ensemble.errors import RecipeError
    from ensemble.files import write_atomically

    if DEFAULT_RECIPE.exists() and not force:
        raise RecipeError(f"{DEFAULT_RECIPE} is there already; type --force to write over it")
    spec = guess_spec(data)
    runs = click.get_current_context().obj.runs
    write_atomically(DEFAULT_RECIPE, commented(spec, training_size(spec, runs)))
    if as_json:
        click.echo(as_json_text({"recipe": str(DEFAULT_RECIPE), "data": spec.model_dump(mode="json")}))
    else:
        click.echo(f"{DEFAULT_RECIPE} written; read it, then type `ens train`")


def commented(spec: DataSpec, images: int | None = None) -> str:
    """The recipe's text for this data. images: how many train has, None where nobody knows."""
    from ensemble.recipe import text
    from ensemble.recipe.schema import DataSpec

    plain = DataSpec(form=spec.form).model_dump(mode="json")
    keys = {key: value for key, value in spec.model_dump(mode="json").items() if value != plain[key]}
    block = text.dump({"data": {"form": spec.form, **keys}})
    return f"# ens train && ens combine && ens submit\n{block}{_REST.replace('{batch}', _batch(images))}"


def _batch(images: int | None) -> str:
    """The value of `batch_size`, with the reason where it is not the default."""
    if images is None or images >= 4 * 64:
        return "64"
    batch = next((size for size in (32, 16, 8, 4) if images >= 4 * size), 2)
    return f"{batch:<10}# small, so that an epoch of {images} training images has several batches"
