"""How to make the same numbers again: commands, versions, recipes, checksums."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.combine.rules import rules
from ensemble.recipe import text
from ensemble.report.sections.subject import Subject, parents
from ensemble.runs.run import Run

_NO_RECIPE = ("import",)


@dataclass(frozen=True)
class Again:
    """commands: in the order to type them.  versions: (package, versions).  facts: (what, value).

    recipes: (name, the text of the file).  sums: (run, split, sha256 of its predictions).
    """

    commands: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    recipes: tuple[tuple[str, str], ...]
    sums: tuple[tuple[str, str, str], ...]


def again(subject: Subject) -> Again:
    """Of the run that is looked at and its members."""
    networks = _networks(subject)
    files = [(subject.recipe.name, subject.recipe)] if subject.recipe and subject.recipe.is_file() else []
    named = [run for run in _unique([*subject.members, subject.focus]) if run.kind != "ensemble"]
    files += [(f"{run.id}/recipe.yaml", run.path / "recipe.yaml") for run in named]
    if subject.ensemble:
        files.append((f"{subject.focus.id}/ensemble.yaml", subject.focus.path / "ensemble.yaml"))
    return Again(
        tuple(commands(subject)),
        tuple(_versions(networks)),
        tuple(_facts(subject, networks)),
        tuple((name, path.read_text(encoding="utf-8")) for name, path in files if path.is_file()),
        tuple(
            (str(parent["id"]), split, digest)
            for parent in subject.focus.facts.get("parents") or []
            for split, digest in (parent.get("sha256") or {}).items()
        ),
    )


def commands(subject: Subject) -> list[str]:
    """What to type, line by line, where the runs folder is."""
    runs = _unique([*_candidates(subject), *_refits(subject)])
    lines = [line for run in runs if (line := _made(run, subject.folder))]
    if subject.ensemble:
        lines.append(_combine(subject))
    if any(split.split("-")[0] == "test" for split in subject.focus.splits()):
        lines.append(_ens(subject.folder, "submit", subject.focus.id))
    return lines


def _ens(folder: Path, *words: str) -> str:
    runs = [] if folder == Path("runs") else ["--runs", folder.as_posix()]
    return shlex.join(["ens", *runs, *words])


def _made(run: Run, folder: Path) -> str:
    if run.kind == "import":
        return _imported(run, folder)
    recipe = run.path / "recipe.yaml"
    if not recipe.is_file():
        return ""
    if run.kind == "student":
        return _taught(run, recipe, folder)
    return _ens(folder, "train", "--recipe", recipe.as_posix())


def _taught(run: Run, recipe: Path, folder: Path) -> str:
    """By `ens distill`: of the recipe alone `ens train` would make the baseline."""
    teacher: dict[str, Any] = run.facts.get("teacher") or {}
    if not {"run", "temperature", "alpha"} <= set(teacher):
        return ""
    how = [f"--{key}={float(teacher[key])!r}" for key in ("temperature", "alpha")]
    return _ens(folder, "distill", str(teacher["run"]), "--recipe", recipe.as_posix(), *how)


def _imported(run: Run, folder: Path) -> str:
    files: dict[str, str] = run.facts.get("imported") or {}
    words = [word for split, name in files.items() for word in (f"--{split}", name)]
    arch = ["--arch", str(run.facts["arch"])] if run.facts.get("arch") else []
    name = str(run.facts.get("name") or run.id.rpartition("-")[0])
    return _ens(folder, "import", name, *words, *arch) if files else ""


def _combine(subject: Subject) -> str:
    run = subject.focus
    value: Any = text.read(run.path / "ensemble.yaml")
    asked = rules.get(str(value.get("asked", value["rule"])))
    words = ["--threshold", repr(float(value["threshold"])), "--per-arch", str(value.get("per_arch", 1))]
    words += ["--rule", asked.name, "--metric", str(value["metric"])]
    calibrated = value.get("calibration") is not None
    if calibrated != asked.calibrates:
        words.append("--calibrate" if calibrated else "--no-calibrate")
    if any("refit" in entry for entry in value["members"]):
        words.append("--refits")
    if run.facts.get("name", "ensemble") != "ensemble":
        words += ["--name", str(run.facts["name"])]
    ids = [str(entry["id"]) for entry in (*value["members"], *(value.get("left_out") or []))]
    return _ens(subject.folder, "combine", *words, *ids)


def _candidates(subject: Subject) -> list[Run]:
    """The runs that were combined, those that were left out too; else the run alone."""
    if subject.ensemble is None:
        return [subject.focus]
    value: Any = text.read(subject.focus.path / "ensemble.yaml")
    names = [str(entry["id"]) for entry in (*value["members"], *(value.get("left_out") or []))]
    return [run for name in names if (run := Run(subject.folder / name)).complete]


def _refits(subject: Subject) -> list[Run]:
    if subject.ensemble is None:
        return []
    extra = set(subject.ensemble.sources) - set(subject.ensemble.members)
    return [run for run in parents(subject.focus) if run.id in extra]


def _unique(runs: Sequence[Run]) -> list[Run]:
    return list({run.id: run for run in runs}.values())


def _networks(subject: Subject) -> list[Run]:
    return _unique([*subject.members, *_refits(subject), subject.focus])


def _versions(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Every version that any of the runs was made with."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for package, version in (run.facts.get("versions") or {}).items():
            found.setdefault(str(package), set()).add(str(version))
    return [(package, ", ".join(sorted(versions))) for package, versions in found.items()]


def _facts(subject: Subject, runs: Sequence[Run]) -> list[tuple[str, str]]:
    facts = subject.focus.facts
    lines = [
        ("run", subject.focus.id),
        ("made", str(facts.get("created", "not recorded"))),
        ("schema and pipeline", f"{facts['schema']}, {facts.get('pipeline', 'not recorded')}"),
        ("full hash of the run", str(facts.get("hash", "not recorded"))),
        ("fingerprint of train and valid", subject.focus.fingerprint or "not known"),
    ]
    lines += [
        (f"fingerprint of {name}", str(value)) for name, value in (facts.get("data", {}).get("tests") or {}).items()
    ]
    for key, what in (("device", "device"), ("git_commit", "git commit"), ("seed", "seed")):
        values = sorted({str(run.facts[key]) for run in runs if run.facts.get(key) is not None})
        lines += [(what, ", ".join(values))] if values else []
    weights = {run.facts["weights"]["source"]: run.facts["weights"]["sha256"] for run in runs if _weights(run)}
    return lines + [(f"initial weights {source}", str(digest)) for source, digest in weights.items()]


def _weights(run: Run) -> bool:
    found = run.facts.get("weights")
    return isinstance(found, dict) and bool(found.get("source")) and bool(found.get("sha256"))
