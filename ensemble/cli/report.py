"""`ens report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble.cli import completion
from ensemble.cli.current import Current
from ensemble.cli.options import HomePath, data_settings, runs_options
from ensemble.cli.terminal import Settings, note

if TYPE_CHECKING:
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import DataSpec
    from ensemble.report.page import Page
    from ensemble.report.sections.scope import Evidence, Subject
    from ensemble.runs.run import Run

PICTURES = 12


@click.command()
@click.argument("run", required=False, shell_complete=completion.runs)
@runs_options
@click.option(
    "--out", type=HomePath(dir_okay=False, path_type=Path), help="The page. [default: <runs>/report/NAME.html]"
)
@click.option(
    "--pictures", type=click.IntRange(0), default=PICTURES, show_default=True, help="Mistakes that are shown."
)
@click.option(
    "--explain/--no-explain",
    default=True,
    help="Draw where the networks looked in them (Grad-CAM), where their weights are. [default: explain]",
)
@click.option("--device", help="For Grad-CAM: cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.option("--json", "as_json", is_flag=True, help="Print the path and the main numbers as JSON.")
@click.pass_obj
def command(
    settings: Settings,
    run: str | None,
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    out: Path | None,
    pictures: int,
    explain: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Write one HTML page on RUN, or on every run of a data set and its newest ensemble.

    Without RUN and --recipe: the runs of ens.yaml, else those of the newest run's data. The page asks for nothing
    from anywhere, so that it can be sent, printed and kept.

    \b
    ens report
    ens report ensemble-1a2b3c4d --out report.html
    ens report --recipe recipes/isic-codabench.yaml --no-explain
    """
    from ensemble.core.files import json_text

    here = Current(settings.runs, recipe, data, data_settings(settings_))
    subject = _with_changed_tests(_subject(here, run), here)
    page, path = write_report(subject, out, pictures=pictures, explain=explain, device=device)
    if as_json:
        said = {"summary": list(page.sentences), "warnings": list(page.warnings)}
        facts = {"path": str(path), "bytes": path.stat().st_size, **page.facts, **said}
        click.echo(json_text(facts), nl=False)
    else:
        click.echo("\n".join([*page.sentences, *(f"! {line}" for line in page.warnings)]))
    note(f"written to {path}")


def report_on_recipe(settings: Settings, found: RecipeFile, ensemble: Run, device: str | None) -> Path:
    """The page on the data set of a recipe and the ensemble that was just made of it; says where it is."""
    from ensemble.report.sections.scope import about_data

    recipe = Path(found.source)
    subject = about_data(settings.runs, ensemble.fingerprint, _name(found.data, recipe), recipe, focus=ensemble)
    _, path = write_report(subject, None, device=device)
    note(f"report: {path}")
    return path


def write_report(
    subject: Subject, out: Path | None, *, pictures: int = PICTURES, explain: bool = True, device: str | None = None
) -> tuple[Page, Path]:
    """Draw the pictures that are missing where `explain` says so, write the page; it and its path."""
    from ensemble.core.files import write_atomically
    from ensemble.report.page import report_page
    from ensemble.report.sections.scope import evidence

    found = evidence(subject)
    undrawn = _explain(subject, found, pictures, device) if explain and pictures else []
    page = report_page(subject, found, pictures=pictures, undrawn=undrawn)
    return page, write_atomically(out or subject.folder / "report" / f"{subject.name}.html", page.html)


def _subject(here: Current, run: str | None) -> Subject:
    from ensemble.core.errors import RecipeError
    from ensemble.report.sections.scope import about_data, about_run, data_name
    from ensemble.runs.origin import named_run

    if run is not None:
        if here.recipe or here.data:
            raise RecipeError(
                "a run and a recipe found, one of them expected; leave out RUN, or --recipe and --data"
            )
        return about_run(named_run(here.runs, run))
    here.announce()
    if here.run is not None:
        return about_data(here.runs, here.fingerprint, data_name(here.run))
    source = Path(here.name)
    return about_data(here.runs, here.fingerprint, _name(here.spec, source), source)


def _with_changed_tests(subject: Subject, here: Current) -> Subject:
    """The subject, and a note on test sets that are not those any more that its run has predicted."""
    from dataclasses import replace

    from ensemble.data.file_hashes import UnreadableFiles
    from ensemble.runs.stale import Comparison, compared

    try:
        found = compared([subject.focus], here.spec_for(subject.focus), here.runs)
    except UnreadableFiles as error:
        found = Comparison(note=str(error))
    if found.note:
        note(found.note)
    changed = tuple(
        f"its predictions of {one.split} are not of the images that are there now ({one.what})"
        for one in found.changed
    )
    return replace(subject, notes=(*subject.notes, *changed))


def _name(spec: DataSpec | None, source: Path) -> str:
    """The recipe's file, or its data's folder."""
    if spec is None or spec.form == "digits":
        return "digits"
    return source.stem if source.is_file() else source.resolve().name or "report"


def _explain(subject: Subject, found: Evidence, count: int, device: str | None) -> list[str]:
    """Draw the Grad-CAM pictures that are not there yet; a line, also on stderr, for each run that has none."""
    from ensemble.cli.terminal import bars
    from ensemble.core.errors import EnsError, one_line
    from ensemble.report.sections.mistakes import image_source, looks

    wanted = [look for look in looks(subject, found, count) if not look.path.is_file()]
    if not wanted:
        return []
    try:
        opened = image_source(subject, found)
    except (EnsError, OSError) as error:
        note(f"no Grad-CAM: {one_line(error)}")
        return []  # the page says itself why it has no images
    # after what can be wrong with the images: torch takes seconds to import
    from ensemble.inference.gradcam import draw_looks
    from ensemble.training.engine.hardware import choose_device

    with bars() as stage:
        problems = draw_looks(
            wanted, opened, choose_device(device), lambda done: stage("Grad-CAM", done, len(wanted))
        )
    for line in problems:
        note(line)
    return problems
