"""`ens distill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import (
    Execution,
    FiniteFloat,
    parse_settings,
    runs_data_options,
    runs_project,
    share,
    track_options,
    with_execution,
)
from ensemble.cli.terminal import Settings, as_json_text, table
from ensemble.cli.train import RECIPE_OPTIONS, TRAINING_OPTIONS, add_options, print_plan
from ensemble.core.table import Cell, milliseconds, size

if TYPE_CHECKING:
    from ensemble.distill.evaluate import Distillation


@click.command()
@click.argument("ensemble", required=False, shell_complete=completion.runs)
@click.option(
    "--arch",
    shell_complete=completion.names("ensemble.recipe.architectures:architectures"),
    help="The student's architecture. [default: the recipe's, where it has one member]",
)
@click.option(
    "--temperature",
    type=FiniteFloat(0.01, 100),
    default=1.0,
    show_default=True,
    help="Softens the ensemble's probabilities and the student's: 1 leaves them as they are.",
)
@click.option(
    "--alpha",
    type=share,
    default=0.5,
    show_default=True,
    help="The ensemble's share of the loss; the labels have the rest.",
)
@runs_data_options
@add_options(RECIPE_OPTIONS)
@click.option("--seed", type=int, help="The seed of student and baseline. [default: 0]")
@add_options(TRAINING_OPTIONS)
@click.option("--dry-run", is_flag=True, help="Say what would be trained and how long it takes, and stop.")
@track_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
@with_execution
def command(
    settings: Settings,
    /,
    ensemble: str | None,
    arch: str | None,
    temperature: float,
    alpha: float,
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    retry: bool,
    dry_run: bool,
    as_json: bool,
    execution: Execution,
    **keys: Any,
) -> None:
    """Train one network, the student, on the out-of-fold probabilities of ENSEMBLE, by default the newest.

    The members must have been trained with --folds, so that the ensemble has predicted every training row without
    having learnt from it. Beside the student the same network is trained on the labels alone, the baseline; what
    share of the ensemble's gain over it the student keeps is printed, with an interval, and what each costs.

    With --folds K the student is one network for all rows, and K more that tell how good it is.

    \b
    ens train --arch resnet34 --arch densenet121 --folds 5 && ens combine
    ens distill --arch mobilenet_v2 --folds 5
    ens distill ensemble-1a2b3c4d --arch mobilenet_v2 --temperature 4 --epochs 10
    """
    overrides = {key: value for key, value in keys.items() if value is not None} | parse_settings(settings_)
    project = runs_project(settings, recipe, data, overrides, execution, trains=True)
    options: dict[str, Any] = {"temperature": temperature, "alpha": alpha}
    if dry_run:
        from ensemble.api.distilling import plan_distillation

        print_plan(plan_distillation(project, ensemble, arch, **options))
        return
    distilled = project.distill(ensemble, arch, **options, retry=retry)
    click.echo(as_json_text(distilled.facts()) if as_json else _text(distilled.result))


def _text(evaluation: Distillation) -> str:
    tests = (
        ()
        if evaluation.test is None
        else (evaluation.test.ensemble, evaluation.test.student, evaluation.test.baseline)
    )
    header = ("", "run", evaluation.valid.metric, *(["on the test"] if tests else []), "an image", "size")
    rows: list[list[Cell]] = [
        [
            line.name,
            line.run,
            line.score,
            *tests[index : index + 1],
            milliseconds(line.seconds_per_image),
            size(line.bytes),
        ]
        for index, line in enumerate(evaluation.lines)
    ]
    on_test = [] if evaluation.test is None else [f"On the test: {line}" for line in evaluation.test.sentences]
    return "\n".join(
        [
            table(header, rows),
            "",
            *on_test,
            *evaluation.valid.sentences,
            *(f"({line})" for line in evaluation.notes),
            "",
            evaluation.lines[1].run,
        ]
    )
