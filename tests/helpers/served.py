"""A service in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from helpers.processes import HEARS_SIGNALS
from helpers.repository import ROOT

WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "fastai", "timm"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from ensemble.cli import main
main(sys.argv[1:])
"""


@contextmanager
def served(*words: str, program: str = WITHOUT_TORCH, cwd: Path) -> Iterator[tuple[str, Any]]:
    """`ens serve` in a process of its own, at a free port: its address and the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve", *words, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **HEARS_SIGNALS,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), process.stderr.read()
        yield address, process
    finally:
        process.kill()
        process.communicate()


def send_files(address: str, *paths: Path) -> Any:
    files = [("images", (path.name, path.read_bytes())) for path in paths]
    return requests.post(address + "predict", files=files, timeout=120)
