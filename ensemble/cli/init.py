"""`ens init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.api.source import DEFAULT_RECIPE, DEFAULT_RECIPES
from ensemble.cli.options import HomePath
from ensemble.cli.terminal import as_json_text, note
from ensemble.core.errors import one_line

if TYPE_CHECKING:
    from ensemble.data.detect_tables import Guess

_QUESTIONS = {
    "id_column": "which column names the images? None has names of images that are there:",
    "label_column": "which column is the label?",
    "unnamed_class": "which class do rows of zeros mean?",
}
_REST = """\
# Every member has these keys unless its own entry says otherwise.
defaults:
  weights: imagenet      # or `none` to train from scratch, or a file
  image_size: 224
  frozen_epochs: 1       # the head alone
  epochs: 3              # then everything, with smaller rates for earlier layers
  lr: auto               # the learning-rate finder
  augment: standard      # or others: `ens help methods`
  batch_size: {batch}
members:
  - arch: resnet34
  - arch: densenet121
  - arch: efficientnet_b0
    seeds: [0, 1]        # two members
combine:
  threshold: 0.0         # keep members whose validation accuracy is strictly above this
submit:
"""


@click.command()
@click.argument("data", type=HomePath(path_type=Path))
@click.option("--force", is_flag=True, help="Write over an ens.yaml that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the file's name and the data it describes as JSON.")
def command(data: Path, force: bool, as_json: bool) -> None:
    """Write a commented recipe, ens.yaml, for a folder of images or a CSV; the other commands then use it.

    What was guessed has its reason beside it; what could not be told is a question in the file.

    \b
    ens init photos
    ens init isic/train.csv
    """
    from ensemble.core.errors import RecipeError
    from ensemble.core.files import write_atomically
    from ensemble.data.detect_form import guess
    from ensemble.data.load import training_size

    existing = [path for path in DEFAULT_RECIPES if path.exists()]
    if existing and not force:
        hint = (
            "to write over it"
            if existing[0] == DEFAULT_RECIPE
            else f"to write {DEFAULT_RECIPE}, which is read first"
        )
        raise RecipeError(f"{existing[0]} is there already; type --force {hint}")
    guessed = guess(data)
    runs = click.get_current_context().obj.runs
    write_atomically(DEFAULT_RECIPE, recipe_text(guessed, training_size(guessed.spec, runs)))
    if as_json:
        click.echo(as_json_text(_facts(guessed)))
        return
    for key, value in _keys(guessed).items():
        if key in guessed.reasons:
            note(f"{key}: {value} ({guessed.reasons[key]})")
    if guessed.questions:
        keys = ", ".join(f"data.{key}" for key, _ in guessed.questions)
        click.echo(f"{DEFAULT_RECIPE} written; answer its questions ({keys}), then type `ens check`")
    else:
        click.echo(f"{DEFAULT_RECIPE} written; read it, then type `ens train`")


def _facts(guessed: Guess) -> dict[str, Any]:
    return {
        "recipe": str(DEFAULT_RECIPE),
        "data": guessed.spec.model_dump(mode="json"),
        "reasons": dict(guessed.reasons),
        "questions": dict(guessed.questions),
        "sample": None if guessed.sample is None else str(guessed.sample),
    }


def recipe_text(guessed: Guess, images: int | None = None) -> str:
    """The text of a recipe for this data. images: number of training images, None if unknown."""
    rest = _REST.replace("{batch}", _batch_size(images))
    return f"# ens train && ens combine && ens submit\n{_data_block(guessed)}{rest}{_submit_block(guessed)}"


def _keys(guessed: Guess) -> dict[str, Any]:
    """The keys of `data` with values other than the default."""
    from ensemble.recipe.data_spec import DataSpec

    defaults = DataSpec(form=guessed.spec.form).model_dump(mode="json")
    values = guessed.spec.model_dump(mode="json")
    return {"form": guessed.spec.form, **{key: value for key, value in values.items() if value != defaults[key]}}


def _data_block(guessed: Guess) -> str:
    """The section `data:`, with reasons and questions as comments."""
    from ensemble.recipe import text

    lines = ["data:"]
    for key, value in _keys(guessed).items():
        lines += [f"  # {one_line(guessed.reasons[key])}"] if key in guessed.reasons else []
        lines += [f"  {line}" for line in text.dump({key: value}).splitlines()]
    for key, candidates in guessed.questions:
        lines += [f"  # QUESTION: {_QUESTIONS[key]} {one_line(candidates)}", f"  # {key}: ..."]
    lines += [f"  # {one_line(remark)}" for remark in guessed.remarks]
    return "\n".join(lines) + "\n"


def _submit_block(guessed: Guess) -> str:
    from ensemble.recipe import text

    form = f"  format: {guessed.format:<15}# kaggle, kaggle-probs or codabench\n"
    if guessed.sample is None:
        return form
    entry = text.dump({"sample": str(guessed.sample)}).strip()
    return (
        f"{form}  # the file of this name beside the data: its columns, its spelling of ids, its order\n  {entry}\n"
    )


def _batch_size(images: int | None) -> str:
    """The value of `batch_size`, with the reason as a comment if it is not the default."""
    if images is None or images >= 4 * 64:
        return "64"
    batch = next((size for size in (32, 16, 8, 4) if images >= 4 * size), 2)
    return f"{batch:<10}# small, so that an epoch of {images} training images has several batches"
