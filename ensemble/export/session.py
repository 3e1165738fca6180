"""An exported graph in onnxruntime. torch is not imported here, as serving an export does not need it."""

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
    """Raise EnsError, with the command that installs it, where a package is missing."""
    require("an export", "onnx", "onnxscript", "onnxruntime")


class OnnxModel:
    """An exported graph in onnxruntime, on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def output(self, pixels: Mapping[str, Pixels]) -> EnsembleOutput:
        """The graph's output for n images. pixels: by input name, uint8 (n, size, size, 3)."""
        probs, members = self.session.run(list(OUTPUTS), dict(pixels))
        return EnsembleOutput(probs, np.swapaxes(members, 0, 1))

    @property
    def inputs(self) -> Sequence[str]:
        """The names of the inputs."""
        return [node.name for node in self.session.get_inputs()]
