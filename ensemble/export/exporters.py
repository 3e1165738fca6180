"""Formats of an export, by name. An exporter writes the files of a model, and reads them again.

An exporter is a decorated function:

>>> @exporter("onnx", load=load_onnx, files=("model.onnx", "model.onnx.data"))
... def onnx(loaded: LoadedEnsemble, folder: Path, opset: int) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ensemble.combine.predicting_members import EnsembleOutput
from ensemble.core.errors import DataError, first_few, require
from ensemble.core.registry import Registry
from ensemble.data.preprocess import Pixels, filters, resizes
from ensemble.export import OUTPUTS

if TYPE_CHECKING:
    from ensemble.inference.model import LoadedEnsemble

ONNX = "onnx"
"""The default format, which exports of earlier versions have."""


class PortableModel(Protocol):
    """The files of an export, ready to predict.

    inputs: their names, as ensemble.export.onnx_graph.input_name gives them.  engine: what computes, with its
    version.
    """

    engine: str

    @property
    def inputs(self) -> Sequence[str]: ...
    def output(self, pixels: Mapping[str, Pixels]) -> EnsembleOutput:
        """The output for n images. pixels: by input name, uint8 (n, size, size, 3)."""
        ...


Write = Callable[["LoadedEnsemble", Path, int], None]
Load = Callable[[Path], PortableModel]


@dataclass(frozen=True)
class Exporter:
    """A registered format.

    write: (model on the CPU, an empty folder, ONNX's set of operators) -> the files of the model, and whatever else
    belongs to the format; raises DataError for a model that it cannot write.
    load: the folder -> the model, without torch where that is possible.
    files: names of the files that `load` reads; all but the first may be absent.
    packages: those whose versions are recorded.  modules: those that it needs, by import name.
    """

    name: str
    write: Write
    load: Load
    files: tuple[str, ...]
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    def check_modules(self) -> None:
        """Raise EnsError, with the command that installs it, where a package is missing."""
        require("an export", *self.modules)


exporters: Registry[Exporter] = Registry("export format")


def exporter(
    name: str, *, load: Load, files: Sequence[str], packages: Sequence[str] = (), modules: Sequence[str] = ()
) -> Callable[[Write], Write]:
    """A decorator that registers a function as `Exporter.write`; the arguments are the other fields."""

    def add(write: Write) -> Write:
        exporters.register(name)(Exporter(name, write, load, tuple(files), tuple(packages), tuple(modules)))
        return write

    return add


class OnnxModel:
    """An exported graph in onnxruntime, on the CPU. torch is not needed."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.engine = f"onnxruntime {onnxruntime.__version__}"

    def output(self, pixels: Mapping[str, Pixels]) -> EnsembleOutput:
        """The graph's output for n images. pixels: by input name, uint8 (n, size, size, 3)."""
        probs, members = self.session.run(list(OUTPUTS), dict(pixels))
        return EnsembleOutput(probs, np.swapaxes(members, 0, 1))

    @property
    def inputs(self) -> Sequence[str]:
        """The names of the inputs."""
        return [node.name for node in self.session.get_inputs()]


@exporter(
    ONNX,
    load=lambda folder: OnnxModel(folder / "model.onnx"),
    files=("model.onnx", "model.onnx.data"),
    packages=("torch", "onnx", "onnxruntime", "pillow"),
    modules=("onnx", "onnxscript", "onnxruntime"),
)
def onnx(loaded: LoadedEnsemble, folder: Path, opset: int) -> None:
    """An ONNX graph for onnxruntime, and predict.py, which needs numpy and Pillow beside it."""
    from ensemble.core.files import write_atomically
    from ensemble.export.onnx_graph import write_onnx

    script = prediction_script(loaded)
    write_onnx(loaded, folder / "model.onnx", opset=opset, metadata={"run": loaded.predicting.run.id})
    write_atomically(folder / "predict.py", script.encode())


_SCRIPT = Path(__file__).with_name("predict_anywhere.py")


def prediction_script(loaded: LoadedEnsemble) -> str:
    """predict.py of a model, which repeats its preprocessing. Raises DataError for steps that it cannot repeat."""
    from ensemble.export.predict_anywhere import STEPS

    steps = {id: (*network.square.filters, network.square.resize) for id, network in loaded.networks.items()}
    declared = {name: _exported(name) for names in steps.values() for name in names if name not in STEPS}
    unsupported = {id: [name for name in names if declared.get(name) == ""] for id, names in steps.items()}
    runs = [f"{id} ({', '.join(names)})" for id, names in unsupported.items() if names]
    if runs:
        raise DataError(
            f"Pillow and numpy cannot repeat the preprocessing of {first_few(runs)}; only {', '.join(STEPS)} can"
            " be exported"
        )
    added = "".join(f"    {name!r}: {text},\n" for name, text in declared.items())
    return _SCRIPT.read_text(encoding="utf-8").replace("STEPS = {\n", "STEPS = {\n" + added, 1)


def _exported(name: str) -> str:
    methods = filters if name in filters else resizes
    return methods.traits(name).exported
