"""`ens combine --rule auto` on 100 members of 50,000 rows and ten classes: seconds, and peak memory.

    python tests/benchmarks/auto_at_scale.py [RESULT.json]

Beside them what one process needs to read the same files, one member at a time, into one float32 array, and the
floor that `import numpy, scipy.optimize` sets.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.core.files import write_json
from ensemble.core.predictions import Predictions, save
from ensemble.data.digits import DIGITS_FINGERPRINT

MEMBERS, ROWS, CLASSES = 100, 50_000, 10
READ = """
import sys, numpy as np
from pathlib import Path
from ensemble.core.predictions import load
paths = sorted(Path(sys.argv[1]).glob("*/valid.npz"))
whole = np.stack([load(path).probs for path in paths])
print(whole.nbytes)
"""


def members(folder: Path) -> None:
    """Members of mixed strength whose errors go together: a common error, one of the architecture, one's own."""
    random = np.random.default_rng(0)
    n, k = ROWS, CLASSES
    ids = np.array([f"image{i:05d}" for i in range(n)])
    classes = np.array([f"class{i}" for i in range(k)])
    targets = random.integers(0, k, n)
    truth = 4 * np.eye(k)[targets] * random.gamma(2, 0.5, (n, 1))
    common = random.normal(size=(n, k))
    of_arch = [random.normal(size=(n, k)) for _ in range(10)]
    for index in range(MEMBERS):
        strength = 0.6 + 0.6 * random.random()
        logits = strength * truth + 0.9 * common + 0.6 * of_arch[index % 10] + 0.6 * random.normal(size=(n, k))
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        path = folder / f"net{index:03d}-{index:08x}"
        path.mkdir(parents=True)
        facts = {
            "schema": 1,
            "kind": "member",
            "arch": f"net{index % 10}",
            "fold": None,
            "data": {"form": "folders", "fingerprint": DIGITS_FINGERPRINT, "tests": {}},
            "classes": classes.tolist(),
            "seconds_per_image": 0.001,
        }
        write_json(path / "run.json", facts)
        save(path / "valid.npz", Predictions(ids, probs.astype(np.float32), classes, targets))
        write_json(path / "metrics.json", {"schema": 1, "valid": {"n": n, "accuracy": 0.5}})


def measured(command: list[str]) -> tuple[float, float, str]:
    """Seconds, peak memory in MB and the output of one process."""
    wrapped = [sys.executable, __file__, "--measure", *command]
    done = subprocess.run(wrapped, check=True, capture_output=True, text=True)
    facts = json.loads(done.stderr.strip().splitlines()[-1])
    return facts["seconds"], facts["megabytes"], done.stdout


def measure(command: list[str]) -> int:
    """Runs `command`; its seconds and its peak memory go to stderr, last."""
    started = time.perf_counter()
    code = subprocess.run(command).returncode
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({"seconds": time.perf_counter() - started, "megabytes": peak}), file=sys.stderr)
    return code


def main() -> None:
    """Print and perhaps keep the figures."""
    with tempfile.TemporaryDirectory() as folder:
        members(Path(folder))
        ens = [sys.executable, "-m", "ensemble", "--runs", folder, "combine", "--rule", "auto"]
        floor = measured([sys.executable, "-c", "import numpy, scipy.optimize"])
        reading = measured([sys.executable, "-c", READ, folder])
        auto = measured(ens)
    stack = MEMBERS * ROWS * CLASSES * 4 / 2**20
    result: dict[str, Any] = {
        "members": MEMBERS,
        "rows": ROWS,
        "classes": CLASSES,
        "seconds": auto[0],
        "seconds_to_read": reading[0],
        "megabytes": auto[1],
        "megabytes_of_the_stack": stack,
        "megabytes_allowed": 2.5 * stack + 300,
        "megabytes_of_imports": floor[1],
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    print(auto[2])
    for name, value in result.items():
        print(f"{name:24} {value:.1f}" if isinstance(value, float) else f"{name:24} {value}")
    if len(sys.argv) > 1:
        write_json(Path(sys.argv[1]), result)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        sys.exit(measure(sys.argv[2:]))
    main()
