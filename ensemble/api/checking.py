"""The data check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.api.source import note_digits

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.check.checking import Check
    from ensemble.data.dataset import Dataset
    from ensemble.recipe.data_spec import DataSpec


@dataclass(frozen=True, repr=False)
class CheckedData:
    """The result of a check, and the files that it was written to."""

    result: Check
    files: tuple[Path, ...]

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.files[0]

    def facts(self) -> dict[str, Any]:
        """Everything as plain values."""
        return self.result.facts()

    def text(self) -> str:
        """The result on one screen."""
        from ensemble.report.check_text import check_text

        return check_text(self.result)

    def __repr__(self) -> str:
        return self.text().rstrip("\n")

    def _repr_html_(self) -> str:
        from ensemble.report.html import fragment

        return fragment("Check", [], preformatted=self.text())


def check(
    workspace: Workspace,
    *,
    out: Path | None = None,
    pictures: int = 24,
    pairs: Path | None = None,
    groups: Path | None = None,
    computed: Callable[[CheckedData], None] = lambda result: None,
) -> CheckedData:
    """As Project.check. Raises RecipeError where two files are the same."""
    from ensemble.check.checking import check as checked
    from ensemble.core.errors import RecipeError
    from ensemble.core.files import write_atomically
    from ensemble.report.check_page import check_page
    from ensemble.report.check_text import groups_csv, pairs_csv

    spec = workspace.recipe().data
    note_digits(workspace.recipe(), workspace.listener)
    name = _name(spec)
    page = out or workspace.runs_folder / "check" / f"{name}.html"
    files = tuple(path for path in (page, pairs, groups) if path)
    if len(set(files)) < len(files):
        raise RecipeError("--out, --pairs and --groups name the same file; each needs its own")
    lines: list[str] = []
    with workspace.listener as listener:
        dataset, unreadable, notes = _loaded(workspace, spec)
        result = checked(
            dataset,
            workspace.runs_folder,
            name,
            unreadable=unreadable,
            notes=notes,
            stage=listener.progress,
            warn=lines.append,
        )
    checked_data = CheckedData(result, files)
    computed(checked_data)
    write_atomically(page, check_page(result, pictures))
    if pairs:
        write_atomically(pairs, pairs_csv(result.items, result.copies))
    if groups:
        write_atomically(groups, groups_csv(result.items, result.groups))
    for line in lines:
        workspace.listener.note(line)
    return checked_data


def _name(spec: DataSpec) -> str:
    return "digits" if spec.form == "digits" else Path(spec.path).resolve().name or "data"


def _loaded(workspace: Workspace, spec: DataSpec) -> tuple[Dataset, dict[str, str], list[str]]:
    """The data without what cannot be read, what that is, and the notes on listing it."""
    from ensemble.data.file_hashes import UnreadableFiles
    from ensemble.data.load import load_dataset

    notes: list[str] = []
    strict = spec.model_copy(update={"skip_unreadable": False})
    listener = workspace.listener
    try:
        dataset = load_dataset(
            strict,
            workspace.runs_folder,
            progress=lambda done, total: listener.progress("checking images", done, total),
            note=notes.append,
        )
    except UnreadableFiles as error:
        dataset = load_dataset(spec.model_copy(update={"skip_unreadable": True}), workspace.runs_folder)
        return dataset, error.problems, notes
    return dataset, {}, notes
