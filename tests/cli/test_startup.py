"""What a command never imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "fastai", "timm", "pandas", "sklearn", "scipy")


WATCHED = """
import sys
from ensemble.cli import run
code = run(sys.argv[1:])
print(sorted(name for name in {heavy} if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["ls"],
        ["combine"],
        ["combine", "net0", "net1", "--rule", "uniform", "--metric", "macro_f1", "--calibrate"],
        ["submit", "net0"],
    ],
)
def test_command_imports_no_heavy_library(digit_runs, arguments):
    """pandas and scikit-learn take a second, torch and fastai take five."""
    program = WATCHED.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
