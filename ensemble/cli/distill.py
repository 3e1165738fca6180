"""`ens distill`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.current import Current
from ensemble.cli.options import FiniteFloat, parse_settings, runs_data_options, share, track_options, tracked
from ensemble.cli.terminal import Cell, Settings, as_json_text, note, table
from ensemble.cli.train import HOW, KEYS, named_members, several, train_jobs, warn_of_leaks
from ensemble.core.table import milliseconds, size

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset
    from ensemble.distill.evaluate import Distillation
    from ensemble.distill.teacher import Teacher
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import Recipe


@click.command()
@click.argument("ensemble", required=False, shell_complete=completion.runs)
@click.option(
    "--arch",
    shell_complete=completion.archs,
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
@several(KEYS)
@click.option("--seed", type=int, help="The seed of student and baseline. [default: 0]")
@several(HOW)
@click.option("--dry-run", is_flag=True, help="Say what would be trained and how long it takes, and stop.")
@track_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
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
    device: str | None,
    jobs: int | None,
    retry: bool,
    dry_run: bool,
    as_json: bool,
    track: str | None,
    track_weights: bool,
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
    settings = tracked(settings, track, track_weights)
    overrides = {key: value for key, value in keys.items() if value is not None} | parse_settings(settings_)
    from ensemble.core.errors import DataError

    here = Current(settings.runs, recipe, data, overrides, trains=True)
    if here.spec is None:
        raise DataError(f"{here.name}: where its images are is not known; give --data or --recipe")
    found = named_members(here.file, (arch,) if arch else (), overrides)
    member = _only_member(found)
    here.announce()
    dataset, teacher = _teacher(settings, found, ensemble, temperature, alpha)
    judged = _train(settings, member, dataset, teacher, device=device, workers=jobs, retry=retry, dry_run=dry_run)
    if judged is None:
        return
    if as_json:
        click.echo(as_json_text(judged.facts()))
    else:
        click.echo(_text(judged))


def _only_member(found: RecipeFile) -> Recipe:
    from ensemble.core.errors import RecipeError
    from ensemble.distill.teacher import refuse_unfit_student

    if len(found.members) != 1:
        raise RecipeError(
            f"{found.source} has {len(found.members)} members, one student expected; type --arch mobilenet_v2"
        )
    refuse_unfit_student(found.members[0])
    return found.members[0]


def _teacher(
    settings: Settings, found: RecipeFile, name: str | None, temperature: float, alpha: float
) -> tuple[Dataset, Teacher]:
    """The data set, and the ensemble as a teacher of it."""
    from ensemble.cli.terminal import load_with_progress
    from ensemble.combine.candidates import newest_ensemble
    from ensemble.combine.record import other_test
    from ensemble.data.load import tests_of
    from ensemble.distill.teacher import teacher_of
    from ensemble.runs.origin import named_run
    from ensemble.runs.stale import changes

    named = named_run(settings.runs, name) if name else None
    dataset = load_with_progress(found.data, settings.runs)
    run = named or newest_ensemble(settings.runs, dataset.fingerprint, found.source)
    if named is None:
        note(f"the teacher is {run.id}, the newest ensemble of {found.source}")
    teacher, notes = teacher_of(run, dataset, temperature, alpha)
    for change in changes([run], tests_of(dataset)):  # on which ensemble and student would be compared
        raise other_test(run, change, found.data)
    warn_of_leaks(dataset, settings.runs)
    for line in notes:
        note(line)
    return dataset, teacher


def _train(
    settings: Settings, member: Recipe, dataset: Dataset, teacher: Teacher, *, dry_run: bool, **how: Any
) -> Distillation | None:
    """Train student and baseline, and compare them; None for a dry run."""
    from ensemble.distill.evaluate import judge
    from ensemble.training.jobs.train import failure, plans

    students, lacking = plans([member], dataset.fingerprint, settings.runs, teacher)
    baselines, _ = plans([member], dataset.fingerprint, settings.runs)
    if lacking:
        raise failure(lacking, 0)
    _, errors = train_jobs(settings, [*students, *baselines], dataset, dry_run=dry_run, list_runs=dry_run, **how)
    if errors:
        raise failure(errors, 2 - len(errors))
    if dry_run:
        return None
    note(f"{baselines[0].path.name}, the baseline, is a member like any other: `ens combine` may take it")
    return judge(teacher.run, students[0].run, baselines[0].run)


def _text(judged: Distillation) -> str:
    tests = () if judged.test is None else (judged.test.ensemble, judged.test.student, judged.test.baseline)
    header = ("", "run", judged.valid.metric, *(["on the test"] if tests else []), "an image", "size")
    rows: list[list[Cell]] = [
        [
            line.name,
            line.run,
            line.score,
            *tests[at : at + 1],
            milliseconds(line.seconds_per_image),
            size(line.bytes),
        ]
        for at, line in enumerate(judged.lines)
    ]
    on_test = [] if judged.test is None else [f"On the test: {line}" for line in judged.test.sentences]
    return "\n".join(
        [
            table(header, rows),
            "",
            *on_test,
            *judged.valid.sentences,
            *(f"({line})" for line in judged.notes),
            "",
            judged.lines[1].run,
        ]
    )
