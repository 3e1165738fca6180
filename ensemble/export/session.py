"""An exported graph in onnxruntime. torch is not imported here: a service of an export does without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.combine.predicting_members import EnsembleOutput
from ensemble.core.errors import require
from ensemble.data.preprocess import Pixels

OUTPUTS = ("probabilities", "members")


def check_extra() -> None:
    """Raise EnsError that says what to type where a package is missing."""
    require("an export", "onnx", "onnxscript", "onnxruntime")


class OnnxModel:
    """An exported graph in onnxruntime, on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def output(self, pixels: Mapping[str, Pixels]) -> EnsembleOutput:
        """What the graph says of n images. pixels: by the inputs' names, uint8 (n, size, size, 3)."""
        probs, members = self.session.run(list(OUTPUTS), dict(pixels))
        return EnsembleOutput(probs, np.swapaxes(members, 0, 1))

    @property
    def inputs(self) -> Sequence[str]:
        """The names of the inputs."""
        return [one.name for one in self.session.get_inputs()]
