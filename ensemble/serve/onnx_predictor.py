"""A service's model from an export (a folder or a zip), of ONNX in onnxruntime without torch."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import ImageColor

from ensemble.combine.calibration import Conformal
from ensemble.combine.predicting_members import Calibration, EnsembleOutput
from ensemble.core.errors import DataError, RecipeError, first_few, one_line
from ensemble.core.files import read_json, sha256_file
from ensemble.data.preprocess import Preprocess, filters, resizes
from ensemble.export.exporters import ONNX, Exporter, PortableModel, exporters
from ensemble.export.model_facts import ModelFacts
from ensemble.serve.predictor import Facts, HeatMap, Reading, Squares

SCHEMA = 1
MAX_PIXELS = 100_000_000
"""The default of recipes, for older exports without this value."""

NO_MAPS = "an export has no gradients, which Grad-CAM needs; serve the run itself, where torch is installed"


class ExportPredictor:
    """An export's graph. config: its config.json.  coverage: the nominal coverage of its conformal sets."""

    def __init__(self, model: PortableModel, config: Mapping[str, Any], coverage: float) -> None:
        self.model = model
        self.names = {_square(entry): str(entry["name"]) for entry in config["inputs"]}
        if set(self.names.values()) != set(model.inputs):
            raise DataError("config.json names other inputs than the graph has; export the run again")
        colour = config["behind"]
        background = None if colour is None else ImageColor.getrgb(colour)[:3]
        self.reading = Reading(tuple(self.names), background, int(config.get("max_pixels", MAX_PIXELS)))
        self.facts = _facts(config, coverage, model.engine)

    def output(self, pixels: Squares) -> EnsembleOutput:
        """The graph's output."""
        return self.model.output({name: pixels[square] for square, name in self.names.items()})

    def maps(self, pixels: Squares, c: int) -> Sequence[HeatMap]:
        """No maps: a graph has no gradients."""
        return []


def is_export(path: Path) -> bool:
    """Whether `path` seems to be an export of `ens export`, and not the id of a run."""
    return (path / "config.json").is_file() or (path.is_file() and path.suffix.lower() == ".zip")


def load_export(path: Path, coverage: float) -> ExportPredictor:
    """The export in a folder or zip. Raises DataError for anything else and for damaged files."""
    with _unpacked(path) as folder:
        config = _config(folder, path)
        for name, expected in config["files"].items():
            if not (folder / name).is_file() or sha256_file(folder / name) != expected:
                raise DataError(f"{one_line(path)}: {name} is not as it was written; export the run again")
        try:
            return ExportPredictor(_exporter(config).load(folder), config, coverage)
        except (KeyError, TypeError, ValueError) as error:
            raise _no_export(path, error) from error


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The folder itself, or a temporary folder with the files of a zip, removed at the end of the block."""
    if path.is_dir():
        yield path
        return
    # Windows does not remove files that are mapped into memory
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        try:
            with zipfile.ZipFile(path) as archive:
                _unzip(archive, Path(temporary), ("config.json",))
                _unzip(archive, Path(temporary), _exporter(_config(Path(temporary), path)).files)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise _no_export(path, error) from error
        yield Path(temporary)


def _exporter(config: Mapping[str, Any]) -> Exporter:
    return exporters.get(str(config.get("format", ONNX)))


def _unzip(archive: zipfile.ZipFile, folder: Path, file_names: Sequence[str]) -> None:
    """Extract the files of these names, from any folder of the zip, and no others."""
    for name in archive.namelist():
        file_name = PurePosixPath(name).name
        if file_name in file_names:
            with archive.open(name) as source, (folder / file_name).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _config(folder: Path, path: Path) -> Mapping[str, Any]:
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    if not isinstance(config, dict) or not {"schema", "run", "inputs", "classes", "files"} <= set(config):
        raise _no_export(path, "no config.json of an export")
    if config["schema"] > SCHEMA:
        raise DataError(
            f"{one_line(path)} is of schema {config['schema']}, up to {SCHEMA} is read; upgrade ensemble"
        )
    files = _exporter(config).files
    if not {files[0]} <= set(config["files"]) <= set(files):
        raise _no_export(path, "config.json names other files than an export has")
    return config


def _no_export(path: Path, reason: object) -> DataError:
    return DataError(f"{one_line(path)} is no export ({one_line(reason)}); name what `ens export` wrote")


def _square(entry: Mapping[str, Any]) -> Preprocess:
    *filter_names, resize = entry["steps"]
    unknown = [name for name in filter_names if name not in filters] + [resize] * (resize not in resizes)
    if unknown:
        raise ValueError(f"unknown steps: {first_few(unknown)}")
    return Preprocess(int(entry["size"]), resize, tuple(filter_names))


def _facts(config: Mapping[str, Any], coverage: float, engine: str) -> Facts:
    sets = _calibration(config, coverage)
    return Facts(
        **vars(ModelFacts.read(config)),
        calibration=sets,
        no_calibration="" if sets else "this export has no calibration; export the run again, with labelled rows",
        no_maps=NO_MAPS,
        engine=engine,
    )


def _calibration(config: Mapping[str, Any], coverage: float) -> Calibration | None:
    record = config.get("calibration")
    if not record:
        return None
    by_coverage = {entry["coverage"]: entry for entry in record["sets"]}
    if coverage not in by_coverage:
        raise RecipeError(
            f"an export has sets for the coverages {', '.join(map(str, by_coverage))}, not {coverage:g}; name one"
            " of them with --coverage, or serve the run itself"
        )
    bound, measured = (by_coverage[coverage][key] for key in ("bound", "measured"))
    sets = Conformal(coverage, math.inf if bound is None else float(bound), int(record["rows"]))
    return Calibration(sets, math.nan if measured is None else float(measured), str(record["of"]))
