"""HTML reports on runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.core.errors import EnsError, RecipeError, one_line
from ensemble.core.files import write_atomically
from ensemble.runs.origin import named_run

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.recipe.data_spec import DataSpec
    from ensemble.recipe.file import RecipeFile
    from ensemble.report.page import Page
    from ensemble.report.sections.scope import Evidence, Subject
    from ensemble.runs.run import Run

PICTURES = 12
"""Mistakes that a page shows."""


@dataclass(frozen=True, repr=False)
class WrittenReport:
    """A report. page: its content.  path: the HTML file."""

    page: Page
    path: Path

    @property
    def sentences(self) -> tuple[str, ...]:
        """The summary."""
        return tuple(self.page.sentences)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be said beside it."""
        return tuple(self.page.warnings)

    def facts(self) -> dict[str, Any]:
        """The path and the main numbers as plain values."""
        text = {"summary": list(self.page.sentences), "warnings": list(self.page.warnings)}
        return {"path": str(self.path), "bytes": self.path.stat().st_size, **self.page.facts, **text}

    def __repr__(self) -> str:
        return "\n".join([str(self.path), *self.sentences, *(f"! {line}" for line in self.warnings)])

    def _repr_html_(self) -> str:
        from ensemble.report.html import fragment

        return fragment(str(self.path), self.sentences, warnings=self.warnings)


def report(
    workspace: Workspace,
    name: str | None,
    *,
    out: Path | None = None,
    pictures: int = PICTURES,
    explain: bool = True,
) -> WrittenReport:
    """As Project.report."""
    subject = _with_changed_tests(workspace, _subject(workspace, name))
    return write_report(workspace, subject, out, pictures=pictures, explain=explain)


def report_on_ensemble(workspace: Workspace, file: RecipeFile, ensemble: Run) -> Path:
    """The page on the data set of a recipe and the ensemble that was just made of it; a note says where it is."""
    from ensemble.report.sections.scope import about_data

    recipe = Path(file.source)
    name = _name(file.data, recipe)
    subject = about_data(workspace.runs_folder, ensemble.fingerprint, name, recipe, focus=ensemble)
    path = write_report(workspace, subject, None).path
    workspace.listener.note(f"report: {path}")
    return path


def write_report(
    workspace: Workspace, subject: Subject, out: Path | None, *, pictures: int = PICTURES, explain: bool = True
) -> WrittenReport:
    """Draw the heat maps that are missing where `explain` says so, and write the page."""
    from ensemble.report.page import report_page
    from ensemble.report.sections.scope import evidence

    subject = replace(subject, load=workspace.load_quietly)
    rows = evidence(subject)
    undrawn = _explain(workspace, subject, rows, pictures) if explain and pictures else []
    page = report_page(subject, rows, pictures=pictures, undrawn=undrawn)
    return WrittenReport(
        page, write_atomically(out or subject.folder / "report" / f"{subject.name}.html", page.html)
    )


def _subject(workspace: Workspace, name: str | None) -> Subject:
    from ensemble.report.sections.scope import about_data, about_run, data_name

    source = workspace.source
    if name is not None:
        if source.recipe or source.data:
            raise RecipeError(
                "a run and a recipe found, one of them expected; leave out RUN, or --recipe and --data"
            )
        return about_run(named_run(source.runs, name))
    source.announce()
    if source.run is not None:
        return about_data(source.runs, source.fingerprint, data_name(source.run))
    path = Path(source.name)
    return about_data(source.runs, source.fingerprint, _name(source.spec, path), path)


def _with_changed_tests(workspace: Workspace, subject: Subject) -> Subject:
    """The subject, with a line for each test set that has changed since its run predicted it."""
    from ensemble.data.file_hashes import UnreadableFiles
    from ensemble.runs.stale import Comparison, compared

    source = workspace.source
    try:
        comparison = compared([subject.focus], source.spec_for(subject.focus), source.runs)
    except UnreadableFiles as error:
        comparison = Comparison(note=str(error))
    if comparison.note:
        workspace.listener.note(comparison.note)
    changed = tuple(
        f"its predictions of {change.split} are not of the images that are there now ({change.difference})"
        for change in comparison.changed
    )
    return replace(subject, notes=(*subject.notes, *changed))


def _name(spec: DataSpec | None, source: Path) -> str:
    """The recipe's file, or its data's folder."""
    if spec is None or spec.form == "digits":
        return "digits"
    return source.stem if source.is_file() else source.resolve().name or "report"


def _explain(workspace: Workspace, subject: Subject, rows: Evidence, count: int) -> list[str]:
    """Draw the heat maps that are not there yet; a line, also as a note, for each run that has none."""
    from ensemble.report.sections.mistakes import heatmaps, image_source

    wanted = [look for look in heatmaps(subject, rows, count) if not look.path.is_file()]
    if not wanted:
        return []
    try:
        opened = image_source(subject, rows)
    except (EnsError, OSError) as error:
        workspace.listener.note(f"no Grad-CAM: {one_line(error)}")
        return []  # the page says itself why it has no images
    # after what can be wrong with the images: torch takes seconds to import
    from ensemble.inference.gradcam import draw_heatmaps
    from ensemble.training.engine.hardware import choose_device

    with workspace.listener as listener:
        problems = draw_heatmaps(
            wanted,
            opened,
            choose_device(workspace.device),
            lambda done: listener.progress("Grad-CAM", done, len(wanted)),
        )
    for line in problems:
        workspace.listener.note(line)
    return problems
