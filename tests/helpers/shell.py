"""Commands through a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENS = f"{sys.executable} -m ensemble"


def shell(command: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, env={**os.environ, **environ})
