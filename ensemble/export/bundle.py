"""The folder, or zip, that predicts anywhere: written aside, checked against torch, then put in its place."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ensemble.combine.calibration import calibrated, mean_coverage
from ensemble.combine.predicting_members import PredictingMembers, calibration_rows
from ensemble.core.errors import DataError, EnsError, first_few, one_line
from ensemble.core.files import read_json, replacing, sha256_file, without_nan, write_atomically, write_json
from ensemble.export.card import model_card
from ensemble.export.onnx_graph import OPSET, input_name, write_onnx
from ensemble.export.parity import BOUND, Parity, compare, sample
from ensemble.export.predict_anywhere import STEPS
from ensemble.export.rules import graph_rules
from ensemble.export.session import OnnxModel
from ensemble.inference.model import LoadedEnsemble
from ensemble.runs.leaderboard import headline
from ensemble.runs.writing import versions

SCHEMA = 1
COMPARED = 32
"""Images on which an export is compared with torch."""

Stage = Callable[[str, int, int], None]
"""Told (what, how much is done, of how much)."""


def _quietly(what: str, done: int, total: int) -> None:
    """Says nothing."""


COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
"""What the conformal sets of an export may be asked to cover."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_SCRIPT = Path(__file__).with_name("predict_anywhere.py")


@dataclass(frozen=True)
class Exported:
    """path: the folder or zip.  parity: how near to torch it is.  why_noise: why on noise, where it was."""

    path: Path
    parity: Parity
    why_noise: str


def refuse_unportable(loaded: LoadedEnsemble) -> None:
    """Raise DataError that names runs whose filter, resize mode or rule only this package has."""
    steps = {id: (*one.square.filters, one.square.resize) for id, one in loaded.networks.items()}
    odd = {id: [step for step in names if step not in STEPS] for id, names in steps.items()}
    found = [f"{id} ({', '.join(names)})" for id, names in odd.items() if names]
    if found:
        raise DataError(
            f"Pillow and numpy cannot repeat the preprocessing of {first_few(found)}; only {', '.join(STEPS)} can"
            " be exported"
        )
    ensemble = loaded.predicting.ensemble
    if ensemble is not None and ensemble.rule not in graph_rules:
        raise DataError(f"the rule {ensemble.rule!r} cannot be exported; combine with one of {graph_rules.names()}")


def export(
    loaded: LoadedEnsemble,
    *,
    folder: Path | None = None,
    zip: Path | None = None,
    opset: int = OPSET,
    stage: Stage = _quietly,
) -> Exported:
    """Write `folder`, or the zip file `zip`; one of them is given.

    An export that is there is replaced by a whole one. Raises DataError where something else lies there,
    or a loaded that cannot be exported, EnsError where the graph and torch differ by more than BOUND; then
    nothing is written.
    """
    refuse_unportable(loaded)
    target = zip or folder
    assert target is not None
    _refuse_other(target, _is_export if zip is None else _is_zipped_export)
    with _aside(target) as made:
        stage("exporting", 0, 3)
        write_onnx(loaded, made / "model.onnx", opset=opset, metadata={"run": loaded.predicting.run.id})
        stage("exporting", 1, 3)
        pixels, why = sample(loaded, COMPARED)
        parity = compare(loaded, OnnxModel(made / "model.onnx"), pixels, real=not why)
        if not parity.difference <= BOUND:
            raise EnsError(f"not exported: {parity}; {BOUND:g} at most expected")
        stage("exporting", 2, 3)
        score = headline(loaded.predicting.run)
        config = described(loaded, opset) | {"score": score and asdict(score), "parity": asdict(parity)}
        config["files"] = {path.name: sha256_file(path) for path in sorted(made.iterdir())}
        write_atomically(made / "predict.py", _SCRIPT.read_bytes())
        write_atomically(made / "README.md", model_card(config, score))
        write_json(made / "config.json", without_nan(config))
        if zip is not None:
            _zipped(made, zip, loaded.predicting.run.id)
        else:
            _put(made, target)
    return Exported(target, parity, why)


def described(loaded: LoadedEnsemble, opset: int) -> dict[str, Any]:
    """config.json: what predict.py reads, and where everything came from."""
    found, behind = loaded.predicting, loaded.background
    return {
        "schema": SCHEMA,
        "run": found.run.id,
        "kind": found.run.kind,
        "classes": list(found.classes),
        "inputs": [
            {"name": input_name(one), "size": one.size, "steps": [*one.filters, one.resize]}
            for one in loaded.squares
        ],
        "behind": None if behind is None else "#{:02x}{:02x}{:02x}".format(*behind),
        "members": [_member(found, j, loaded) for j in found.used],
        "rule": None if found.ensemble is None else found.ensemble.rule,
        "temperature": None if found.ensemble is None else found.ensemble.temperature,
        "medical": loaded.medical,
        "max_pixels": loaded.max_pixels,
        # of the members above, where their outputs are compared
        "weights": found.weights[list(found.used)].tolist(),
        "calibration": _calibrations(found),
        "fingerprint": found.run.fingerprint,
        "sizes": dict(found.members[0].run.facts.get("data", {}).get("sizes", {})),
        "chosen_on_valid": list(found.run.facts.get("chosen_on_valid") or []),
        "opset": opset,
        "versions": versions() | {name: version(name) for name in ("torch", "onnx", "onnxruntime", "pillow")},
    }


def _member(found: PredictingMembers, j: int, loaded: LoadedEnsemble) -> dict[str, Any]:
    member = found.members[j]
    weighted = found.ensemble is not None and found.ensemble.weights is not None
    return {
        "id": member.run.id,
        "arch": member.run.arch,
        "weight": float(found.weights[j]) if weighted else None,
        "networks": [
            {
                "id": run.id,
                "image_size": loaded.networks[run.id].square.size,
                "resize": loaded.networks[run.id].square.resize,
                "preprocess": list(loaded.networks[run.id].square.filters),
                "tta": loaded.networks[run.id].recipe.tta,
                "weights_sha256": run.facts["files"]["weights"],
            }
            for run in member.networks
        ],
    }


def _calibrations(found: PredictingMembers) -> dict[str, Any] | None:
    """The bounds of conformal sets for the coverages that an export is made with; None where no row has a label."""
    try:
        probs, targets, why = calibration_rows(found)
    except DataError:
        return None
    sets = [calibrated(probs, targets, coverage) for coverage in COVERAGES]
    return {
        "rows": len(targets),
        "of": why,
        "sets": [
            {
                "coverage": one.coverage,
                "bound": one.bound,
                "measured": mean_coverage(probs, targets, one.coverage),
            }
            for one in sets
        ],
    }


def _refuse_other(target: Path, is_export: Callable[[Path], bool]) -> None:
    """A folder or a file of somebody's own must not be lost."""
    if target.exists() and not is_export(target):
        raise DataError(f"{one_line(target)} is there and is no export; name another place, or remove it")


def _is_export(folder: Path) -> bool:
    """Whether `folder` is one of ours, or has nothing in it."""
    path = folder / "config.json"
    if not folder.is_dir():
        return False
    try:
        return not any(folder.iterdir()) or (path.is_file() and _describes_one(read_json(path)))
    except DataError:
        return False


def _is_zipped_export(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/config.json")]
            return len(inside) == 1 and _describes_one(json.loads(archive.read(inside[0])))
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _describes_one(config: Any) -> bool:
    return isinstance(config, dict) and {"schema", "run", "inputs"} <= set(config)


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, gone afterwards if nobody moved it."""
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.absolute().parent))
    except OSError as error:
        raise EnsError(f"cannot write {one_line(target)}: {error.strerror or error}") from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _put(made: Path, folder: Path) -> None:
    """`made` under the name `folder`, the export that was there before gone."""
    made.chmod(0o755)  # a temporary folder is its maker's alone
    old = made.with_name(made.name + ".old")
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _zipped(made: Path, path: Path, name: str) -> None:
    """The files in one folder called `name`; their bytes decide the zip's."""
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in sorted(made.iterdir()):
            entry = zipfile.ZipInfo(f"{name}/{one.name}", _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with one.open("rb") as source, archive.open(entry, "w", force_zip64=True) as inside:
                shutil.copyfileobj(source, inside, 1 << 20)
