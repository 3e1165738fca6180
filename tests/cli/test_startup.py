"""What a command never imports."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "torchvision", "fastai", "timm", "pandas", "sklearn", "scipy")


COMMANDS = [
    ["--help"],
    ["ls"],
    ["combine"],
    ["combine", "net0", "net1", "--rule", "uniform", "--metric", "macro_f1", "--calibrate"],
    ["submit", "net0"],
]


def test_command_imports_no_heavy_library(digit_runs):
    """pandas and scikit-learn take a second, torch and fastai take five."""
    program = (
        "import sys\nfrom ensemble.cli import run\n"
        f"for arguments in {COMMANDS!r}:\n"
        f"    print('loaded', run(arguments), sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = [line for line in done.stdout.splitlines() if line.startswith("loaded")]
    assert loaded == ["loaded 0 []"] * len(COMMANDS)
