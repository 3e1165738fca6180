"""Reproduction section: commands, versions, recipes and checksums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ensemble.combine.record import combine_command
from ensemble.report.sections.scope import Subject, parents
from ensemble.runs.origin import ens, run_command
from ensemble.runs.run import Run

_NO_RECIPE = ("import",)


@dataclass(frozen=True)
class Reproduction:
    """commands: in the order to run them.  versions: (package, versions).  facts: (name, value).

    recipes: (name, content of the file).  sums: (run, split, sha256 of its predictions).
    """

    commands: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    recipes: tuple[tuple[str, str], ...]
    sums: tuple[tuple[str, str, str], ...]


def reproduction(subject: Subject) -> Reproduction:
    """Everything needed to reproduce the run in focus and its members."""
    networks = _networks(subject)
    files = [(subject.recipe.name, subject.recipe)] if subject.recipe and subject.recipe.is_file() else []
    runs = [run for run in _unique([*subject.members, subject.focus]) if not run.is_ensemble]
    files += [(f"{run.id}/recipe.yaml", run.path / "recipe.yaml") for run in runs]
    if subject.ensemble:
        files.append((f"{subject.focus.id}/ensemble.yaml", subject.focus.path / "ensemble.yaml"))
    return Reproduction(
        tuple(commands(subject)),
        tuple(_versions(networks)),
        tuple(_facts(subject, networks)),
        tuple((name, path.read_text(encoding="utf-8")) for name, path in files if path.is_file()),
        tuple(
            (parent.id, split, digest)
            for parent in subject.focus.record.parents
            for split, digest in parent.sha256.items()
        ),
    )


def commands(subject: Subject) -> list[str]:
    """The command lines, to be run in the parent of the runs folder."""
    runs = _unique([*_candidates(subject), *_refits(subject)])
    lines = [line for run in runs if (line := run_command(run, subject.folder))]
    if subject.ensemble:
        lines.append(combine_command(subject.focus))
    if any(split.split("-")[0] == "test" for split in subject.focus.splits()):
        lines.append(ens(subject.folder, "submit", subject.focus.id))
    return lines


def _candidates(subject: Subject) -> list[Run]:
    """The candidates of the ensemble, including those left out; for any other run, the run alone."""
    if subject.ensemble is None:
        return [subject.focus]
    return [run for row in subject.ensemble.rows if (run := Run(subject.folder / row.id)).complete]


def _refits(subject: Subject) -> list[Run]:
    if subject.ensemble is None:
        return []
    refits = set(subject.ensemble.sources) - set(subject.ensemble.members)
    return [run for run in parents(subject.focus) if run.id in refits]


def _unique(runs: Sequence[Run]) -> list[Run]:
    return list({run.id: run for run in runs}.values())


def _networks(subject: Subject) -> list[Run]:
    return _unique([*subject.members, *_refits(subject), subject.focus])


def _versions(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """(package, all versions recorded by the runs)."""
    versions_of: dict[str, set[str]] = {}
    for run in runs:
        for package, version in run.record.versions.items():
            versions_of.setdefault(str(package), set()).add(str(version))
    return [(package, ", ".join(sorted(versions))) for package, versions in versions_of.items()]


def _facts(subject: Subject, runs: Sequence[Run]) -> list[tuple[str, str]]:
    record = subject.focus.record
    lines = [
        ("run", subject.focus.id),
        ("made", record.created or "not recorded"),
        ("schema and pipeline", f"{record.schema}, {record.values.get('pipeline', 'not recorded')}"),
        ("full hash of the run", record.hash or "not recorded"),
        ("fingerprint of train and valid", subject.focus.fingerprint or "not known"),
    ]
    lines += [(f"fingerprint of {name}", str(value)) for name, value in record.data.tests.items()]
    records = [run.record for run in runs]
    for title, recorded in (
        ("device", [entry.device for entry in records]),
        ("git commit", [entry.git_commit for entry in records]),
        ("seed", [entry.seed for entry in records]),
    ):
        values = sorted({str(value) for value in recorded if value is not None})
        lines += [(title, ", ".join(values))] if values else []
    weights = dict(entry.initial_weights for entry in records if entry.initial_weights)
    return lines + [(f"initial weights {source}", digest) for source, digest in weights.items()]
