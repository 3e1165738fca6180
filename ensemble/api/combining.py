"""Combining members, submitting predictions, and importing those that were made elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.api.models import Ensemble, Model
from ensemble.core.registry import did_you_mean
from ensemble.runs.origin import named_run

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.recipe.data_spec import DataSpec
    from ensemble.runs.run import Run
    from ensemble.submit.submission import Submission


def combine(workspace: Workspace, names: Sequence[str] | None, **options: Any) -> Ensemble:
    """As Project.combine. An option of None leaves the recipe's value."""
    from ensemble.combine.candidates import candidates, named
    from ensemble.combine.ensembler import combine as combined_of
    from ensemble.core.errors import DataError, one_line

    _refuse_unknown(options, ("threshold", "per_arch", "rule", "metric", "calibrate", "refits", "name"))
    source, folder = workspace.source, workspace.runs_folder
    if names is not None and not names:
        raise DataError(
            "an empty list of members found; name some, or leave them out for the data set's candidates"
        )
    if names is None:
        source.announce()
    runs = named(folder, names) if names else candidates(folder, source.fingerprint)
    if not runs:
        raise DataError(
            f"no complete runs of {source.name} in {one_line(folder)}; type `ens train`, or name the runs"
        )
    if names is None:
        _note_outdated(workspace, runs[0])
    given = {key: value for key, value in options.items() if value is not None}
    # without a recipe there is none to read, nor the reader of recipes to load
    keys = {**(vars(source.file.combine) if source.has_settings else {}), **given}
    with workspace.listener as listener:
        combined = combined_of(
            runs,
            folder=folder,
            data=_images(workspace, runs, names is not None),
            progress=lambda done, total: listener.progress("fitting", done, total),
            **keys,
        )
    for line in combined.notes:
        workspace.listener.note(line)
    if workspace.track:
        workspace.track.open(workspace.listener.note).finished(combined.run)
    return Ensemble(workspace, combined.run, combined)


def facts_of(ensemble: Ensemble) -> dict[str, Any]:
    """Members, scores and the report as plain values, for JSON."""
    combined = ensemble.combined
    return {
        "run": combined.run.id,
        "rule": combined.rule,
        "temperature": combined.temperature,
        "members": [asdict(row) for row in combined.members],
        "scores": [row.facts() for row in combined.scores],
        "report": combined.report.facts(),
        "notes": list(combined.notes),
    }


def _note_outdated(workspace: Workspace, current: Run) -> None:
    """A note on the members that are not combined because the images or labels have changed since."""
    from ensemble.core.errors import first_few
    from ensemble.runs.origin import outdated

    if others := outdated(workspace.runs_folder, current):
        names = first_few(run.id for run in others)
        workspace.listener.note(
            f"left out: {names}, trained before the images or labels changed; `ens train` trains them anew"
        )


def _images(workspace: Workspace, runs: Sequence[Run], named: bool) -> DataSpec | None:
    """Where the images are of what is combined; None where nobody knows."""
    from ensemble.combine.candidates import leaves

    source = workspace.source
    if not named:
        return None if source.is_digits else source.spec
    trained = [run for run in leaves(runs)[0] if not run.is_import]
    return source.spec_for(trained[0]) if trained else None


@dataclass(frozen=True, repr=False)
class SubmittedFile:
    """A submission file: path, sidecar (its JSON), facts (what the sidecar says) and notes."""

    submission: Submission
    run: Run

    @property
    def path(self) -> Path:
        """The file to upload."""
        return self.submission.path

    @property
    def sidecar(self) -> Path:
        """The JSON file beside it."""
        return self.submission.sidecar

    def facts(self) -> dict[str, Any]:
        """The path and the sidecar's content."""
        return {"path": str(self.submission.path), **self.submission.facts}

    def notes(self) -> list[str]:
        """What is written, and the score to expect."""
        facts = self.submission.facts
        lines = [
            *self.submission.notes,
            f"{facts['rows']} rows, columns {', '.join(facts['columns'][:12])}; facts in {self.submission.sidecar}",
        ]
        for metric, score in (facts.get("honest") or {}).items():
            of = f", of {facts['score_of']}" if "score_of" in facts else ""
            if score["value"] is None:
                continue
            known = score["low"] is not None and score["high"] is not None
            bounds = f"95% interval {score['low']:.4f} to {score['high']:.4f}" if known else "no interval is known"
            lines.append(f"expect {metric} {score['value']:.4f} ({bounds}{of})")
        if facts.get("chosen_on_valid"):
            chosen = ", ".join(facts["chosen_on_valid"])
            lines.append(f"chosen on the validation rows before: {chosen}; the score does not cover that")
        return lines

    def __repr__(self) -> str:
        return "\n".join([str(self.path), *self.notes()])

    def _repr_html_(self) -> str:
        from ensemble.report.html import fragment

        return fragment(str(self.path), self.notes())


def submit(
    workspace: Workspace, name: str | None, *, split: str = "test", fill: str | None = None, **options: Any
) -> SubmittedFile:
    """As Project.submit. An option of None leaves the recipe's value."""
    from ensemble.combine.candidates import newest_ensemble
    from ensemble.recipe.schema import SubmitSpec
    from ensemble.submit.submission import submit as submitted

    _refuse_unknown(options, ("format", "sample", "out", "zip", "positive"))
    source = workspace.source
    if name is None:
        run = newest_ensemble(workspace.runs_folder, source.fingerprint, source.name)
        workspace.listener.note(f"submitting {run.id}, the newest ensemble of {source.name}")
    else:
        run = named_run(workspace.runs_folder, name)
    given = {
        key: str(value) if isinstance(value, Path) else value for key, value in options.items() if value is not None
    }
    spec = (source.file.submit if source.has_settings else SubmitSpec()).model_copy(update=given)
    data = source.spec_for(run) if name else source.spec
    images = data or source.spec
    written = submitted(
        run,
        spec,
        out=Path(spec.out) if spec.out else None,
        sample=Path(spec.sample) if spec.sample else None,
        split=split,
        unnamed=None if images is None else images.unnamed_class,
        fill=fill,
        data=data,
    )
    submitted_file = SubmittedFile(written, run)
    for line in submitted_file.notes():
        workspace.listener.note(line)
    return submitted_file


def import_run(
    workspace: Workspace,
    name: str,
    *,
    valid: Path,
    test: Path | None = None,
    arch: str | None = None,
    targets_from: str | None = None,
) -> Model:
    """As Project.import_run."""
    from ensemble.runs.imports import import_run as imported

    source = workspace.source
    imported_run = imported(
        name,
        folder=workspace.runs_folder,
        valid=valid,
        test=test,
        arch=arch,
        targets_from=named_run(workspace.runs_folder, targets_from) if targets_from else None,
        dataset=lambda: None if source.spec is None or source.gone else workspace.load(source.spec),
    )
    for line in imported_run.notes:
        workspace.listener.note(line)
    if imported_run.matched is not None:
        workspace.listener.note(
            f"its ids are those of {imported_run.matched}: same data set, targets compared or taken from there"
        )
    elif not imported_run.labelled:
        workspace.listener.note(
            "no targets: neither in the file nor in a run with the same ids; --targets-from names one"
        )
    return Model(workspace, imported_run.run)


def _refuse_unknown(options: dict[str, Any], known: Sequence[str]) -> None:
    from ensemble.core.errors import RecipeError

    for key in options:
        if key not in known:
            raise RecipeError(f"unknown option {key!r}{did_you_mean(key, known)}")
