"""The exported folder or zip: written to a temporary folder, compared with torch, then moved into place."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ensemble.combine.calibration import calibrated, mean_coverage
from ensemble.combine.predicting_members import PredictingMembers, calibration_rows
from ensemble.core.errors import DataError, EnsError, one_line
from ensemble.core.files import read_json, replacing, sha256_file, without_nan, write_atomically, write_json
from ensemble.export.card import model_card
from ensemble.export.exporters import ONNX, Exporter, exporters
from ensemble.export.model_facts import ModelFacts
from ensemble.export.onnx_graph import OPSET, input_name
from ensemble.export.parity import BOUND, Parity, compare, sample
from ensemble.inference.model import LoadedEnsemble
from ensemble.runs.run import Run
from ensemble.runs.writing import versions

SCHEMA = 1
COMPARED_IMAGES = 32
"""The number of images on which an export is compared with torch."""

ProgressCallback = Callable[[str, int, int], None]
"""Called with (the name of the step, parts done, parts in all)."""


def _ignore_progress(step: str, done: int, total: int) -> None:
    """The progress callback that does nothing."""


COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
"""The coverages for which an export has conformal sets."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Exported:
    """path: the folder or zip.  parity: of the graph with torch.  noise_reason: why noise was used, else empty."""

    path: Path
    parity: Parity
    noise_reason: str


def export(
    loaded: LoadedEnsemble,
    *,
    folder: Path | None = None,
    zip: Path | None = None,
    format: str = ONNX,
    opset: int = OPSET,
    on_progress: ProgressCallback = _ignore_progress,
) -> Exported:
    """Write `folder`, or the zip file `zip`; exactly one of them must be given.

    An existing export is replaced. Raises DataError where the path holds anything else, or for an ensemble that
    cannot be exported, EnsError where the export and torch differ by more than BOUND; then nothing is written.
    """
    exporter = exporters.get(format)
    target = zip or folder
    assert target is not None
    _refuse_other(target, _is_export if zip is None else _is_zipped_export)
    with _temporary_folder(target) as temporary:
        on_progress("exporting", 0, 3)
        exporter.write(loaded, temporary, opset)
        on_progress("exporting", 1, 3)
        pixels, noise_reason = sample(loaded, COMPARED_IMAGES)
        parity = compare(loaded, exporter.load(temporary), pixels, real=not noise_reason)
        if not parity.difference <= BOUND:
            raise EnsError(f"not exported: {parity}; {BOUND:g} at most expected")
        on_progress("exporting", 2, 3)
        facts = ModelFacts.of(loaded)
        config = bundle_config(loaded, facts, exporter, opset)
        config |= {"score": facts.score and facts.score.facts(), "parity": asdict(parity)}
        model_files = [path for path in sorted(temporary.iterdir()) if path.name in exporter.files]
        config["files"] = {path.name: sha256_file(path) for path in model_files}
        write_atomically(temporary / "README.md", model_card(facts, config))
        write_json(temporary / "config.json", without_nan(config))
        if zip is not None:
            _write_zip(temporary, zip, loaded.predicting.run.id)
        else:
            _move_into_place(temporary, target)
    return Exported(target, parity, noise_reason)


def bundle_config(loaded: LoadedEnsemble, facts: ModelFacts, exporter: Exporter, opset: int) -> dict[str, Any]:
    """The content of config.json: the settings that predict.py reads, and the origin of the model."""
    predicting, background = loaded.predicting, loaded.background
    return {
        "schema": SCHEMA,
        **({} if exporter.name == ONNX else {"format": exporter.name}),
        "run": facts.run,
        "kind": facts.kind,
        "classes": list(facts.classes),
        "inputs": [
            {"name": input_name(square), "size": square.size, "steps": [*square.filters, square.resize]}
            for square in loaded.squares
        ],
        "behind": None if background is None else "#{:02x}{:02x}{:02x}".format(*background),
        "members": [
            {**asdict(member), "networks": _networks(predicting.members[j].networks, loaded)}
            for member, j in zip(facts.members, predicting.used, strict=True)
        ],
        "rule": facts.rule,
        "temperature": facts.temperature,
        "medical": facts.medical,
        "max_pixels": loaded.max_pixels,
        # of the members above, for their disagreement
        "weights": facts.weights.tolist(),
        "calibration": _calibrations(predicting),
        "fingerprint": predicting.run.fingerprint,
        "sizes": dict(predicting.members[0].run.record.data.sizes),
        "chosen_on_valid": list(predicting.run.record.chosen_on_valid),
        "opset": opset,
        "versions": versions() | {name: version(name) for name in exporter.packages},
    }


def _networks(runs: Sequence[Run], loaded: LoadedEnsemble) -> list[dict[str, Any]]:
    """The networks of a member."""
    return [
        {
            "id": run.id,
            "image_size": loaded.networks[run.id].square.size,
            "resize": loaded.networks[run.id].square.resize,
            "preprocess": list(loaded.networks[run.id].square.filters),
            "tta": loaded.networks[run.id].recipe.tta,
            "weights_sha256": run.record.weights_sha256,
        }
        for run in runs
    ]


def _calibrations(predicting: PredictingMembers) -> dict[str, Any] | None:
    """The bounds of conformal sets for all COVERAGES; None where no validation row has a label."""
    try:
        probs, targets, origin = calibration_rows(predicting)
    except DataError:
        return None
    sets = [calibrated(probs, targets, coverage) for coverage in COVERAGES]
    return {
        "rows": len(targets),
        "of": origin,
        "sets": [
            {
                "coverage": conformal.coverage,
                "bound": conformal.bound,
                "measured": mean_coverage(probs, targets, conformal.coverage),
            }
            for conformal in sets
        ],
    }


def _refuse_other(target: Path, is_export: Callable[[Path], bool]) -> None:
    """Raise DataError where `target` exists and is no export: other files must not be overwritten."""
    if target.exists() and not is_export(target):
        raise DataError(f"{one_line(target)} is there and is no export; name another place, or remove it")


def _is_export(folder: Path) -> bool:
    """Whether `folder` is an export, or is empty."""
    path = folder / "config.json"
    if not folder.is_dir():
        return False
    try:
        return not any(folder.iterdir()) or (path.is_file() and _is_export_config(read_json(path)))
    except DataError:
        return False


def _is_zipped_export(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            configs = [
                name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/config.json")
            ]
            return len(configs) == 1 and _is_export_config(json.loads(archive.read(configs[0])))
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _is_export_config(config: Any) -> bool:
    return isinstance(config, dict) and {"schema", "run", "inputs"} <= set(config)


@contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, removed afterwards unless it was moved."""
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.absolute().parent))
    except OSError as error:
        raise EnsError(f"cannot write {one_line(target)}: {error.strerror or error}") from error
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into_place(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`, replacing an existing export."""
    temporary.chmod(0o755)  # a temporary folder is readable by its owner only
    old = temporary.with_name(temporary.name + ".old")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write_zip(folder: Path, path: Path, name: str) -> None:
    """Write a zip of one folder `name`; the zip's bytes depend on those of the files only."""
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for file_path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(f"{name}/{file_path.name}", _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with file_path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 1 << 20)
