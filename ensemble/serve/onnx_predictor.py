"""A service's model from an export, a folder or a zip: its graph in onnxruntime, without torch."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import ImageColor

from ensemble.combine.calibration import Conformal
from ensemble.combine.predicting_members import Calibration, EnsembleOutput
from ensemble.core.errors import DataError, RecipeError, first_few, one_line
from ensemble.core.files import read_json, sha256_file
from ensemble.data.preprocess import Preprocess, filters, resizes
from ensemble.export.session import OnnxModel
from ensemble.runs.leaderboard import Headline
from ensemble.serve.predictor import Facts, HeatMap, Reading, ServedMember, Squares

SCHEMA = 1
MAX_PIXELS = 100_000_000
"""What an export of before said nothing of: a recipe's default."""

NO_MAPS = "an export has no gradients, which Grad-CAM needs; serve the run itself, where torch is installed"


class ExportPredictor:
    """An export's graph. config: its config.json.  coverage: what its conformal sets are to hold."""

    def __init__(self, model: OnnxModel, config: Mapping[str, Any], coverage: float) -> None:
        self.model = model
        self.names = {_square(one): str(one["name"]) for one in config["inputs"]}
        if set(self.names.values()) != set(model.inputs):
            raise DataError("config.json names other inputs than the graph has; export the run again")
        behind = config["behind"]
        background = None if behind is None else ImageColor.getrgb(behind)[:3]
        self.reading = Reading(tuple(self.names), background, int(config.get("max_pixels", MAX_PIXELS)))
        self.facts = _facts(config, coverage)

    def output(self, pixels: Squares) -> EnsembleOutput:
        """What the graph says."""
        return self.model.output({name: pixels[square] for square, name in self.names.items()})

    def maps(self, pixels: Squares, c: int) -> Sequence[HeatMap]:
        """None."""
        return []


def is_export(path: Path) -> bool:
    """Whether `path` looks like what `ens export` writes, and not like the id of a run."""
    return (path / "config.json").is_file() or (path.is_file() and path.suffix.lower() == ".zip")


def load_export(path: Path, coverage: float) -> ExportPredictor:
    """The export in a folder or zip. Raises DataError for what is none, or has other bytes than were written."""
    with _unpacked(path) as folder:
        config = _config(folder, path)
        for name, expected in config["files"].items():
            if not (folder / name).is_file() or sha256_file(folder / name) != expected:
                raise DataError(f"{one_line(path)}: {name} is not as it was written; export the run again")
        try:
            return ExportPredictor(OnnxModel(folder / "model.onnx"), config, coverage)
        except (KeyError, TypeError, ValueError) as error:
            raise _no_export(path, error) from error


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The folder itself, or the files of a zip in one that goes as soon as they are read."""
    if path.is_dir():
        yield path
        return
    # Windows does not remove what is mapped into memory
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        try:
            with zipfile.ZipFile(path) as archive:
                _unzip(archive, Path(made))
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise _no_export(path, error) from error
        yield Path(made)


def _unzip(archive: zipfile.ZipFile, folder: Path) -> None:
    """What a service reads, whatever else is there and whatever folder it is in."""
    for name in archive.namelist():
        last = PurePosixPath(name).name
        if last in ("config.json", "model.onnx", "model.onnx.data"):
            with archive.open(name) as source, (folder / last).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _config(folder: Path, path: Path) -> Mapping[str, Any]:
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    if not isinstance(config, dict) or not {"schema", "run", "inputs", "classes", "files"} <= set(config):
        raise _no_export(path, "no config.json of an export")
    if config["schema"] > SCHEMA:
        raise DataError(
            f"{one_line(path)} is of schema {config['schema']}, up to {SCHEMA} is read; upgrade ensemble"
        )
    if not {"model.onnx"} <= set(config["files"]) <= {"model.onnx", "model.onnx.data"}:
        raise _no_export(path, "config.json names other files than an export has")
    return config


def _no_export(path: Path, why: object) -> DataError:
    return DataError(f"{one_line(path)} is no export ({one_line(why)}); name what `ens export` wrote")


def _square(one: Mapping[str, Any]) -> Preprocess:
    *before, resize = one["steps"]
    odd = [name for name in before if name not in filters] + [resize] * (resize not in resizes)
    if odd:
        raise ValueError(f"unknown steps: {first_few(odd)}")
    return Preprocess(int(one["size"]), resize, tuple(before))


def _facts(config: Mapping[str, Any], coverage: float) -> Facts:
    members = [ServedMember(one["id"], one["arch"], one["weight"]) for one in config["members"]]
    sets = _calibration(config, coverage)
    weights = config.get("weights") or [1 / len(members)] * len(members)
    score = config.get("score")
    return Facts(
        run=str(config["run"]),
        kind=str(config["kind"]),
        classes=tuple(config["classes"]),
        members=tuple(members),
        weights=np.array(weights, np.float64),
        rule=config["rule"],
        temperature=config["temperature"],
        medical=bool(config["medical"]),
        score=str(Headline(**score)) if score else None,
        calibration=sets,
        no_calibration="" if sets else "this export has no calibration; export the run again, with labelled rows",
        no_maps=NO_MAPS,
        engine=_engine(),
    )


def _calibration(config: Mapping[str, Any], coverage: float) -> Calibration | None:
    found = config.get("calibration")
    if not found:
        return None
    made = {one["coverage"]: one for one in found["sets"]}
    if coverage not in made:
        raise RecipeError(
            f"an export has sets for the coverages {', '.join(map(str, made))}, not {coverage:g}; name one of them"
            " with --coverage, or serve the run itself"
        )
    bound, measured = (made[coverage][key] for key in ("bound", "measured"))
    sets = Conformal(coverage, math.inf if bound is None else float(bound), int(found["rows"]))
    return Calibration(sets, math.nan if measured is None else float(measured), str(found["of"]))


def _engine() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"
