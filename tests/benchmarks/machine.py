"""The JSON of a benchmark: its figures, kept as they come, and what they depend on."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ensemble.core.files import read_json, write_json

PACKAGES = ("torch", "torchvision", "fastai", "timm", "numpy", "pillow")


def facts() -> dict[str, Any]:
    """The processor, torch's threads, the GPU where there is one, and the versions that matter."""
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        **gpu,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


class Kept:
    """Figures by name in a file; a stopped benchmark goes on from it where machine and versions are the same.

    path: None for figures that are only printed.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.machine = path, facts()
        self.figures: dict[str, Any] = {}
        if path is not None and path.is_file():
            found = read_json(path)
            if found.get("machine") == self.machine:
                self.figures = found["figures"]

    def of(self, name: str, measure: Callable[[], Any]) -> Any:
        """What stands under `name`, or what `measure` finds now, which is kept."""
        if name not in self.figures:
            self.put(name, measure())
        return self.figures[name]

    def put(self, name: str, figure: Any) -> None:
        """Keep a figure."""
        self.figures[name] = figure
        if self.path is not None:
            write_json(self.path, {"machine": self.machine, "figures": self.figures})
