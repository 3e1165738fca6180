"""Training steps a second beside other processes: torch's own threads and waiting, and what `ens train` sets.

    python tests/benchmarks/busy.py RESULT.json [--seconds 6] [--repeat 3] [--trains]

Steps (forward, backward, Adam) of four networks on batches of 64 at 32 pixels, alone and beside one and three
processes that compute without end. `before` leaves everything to torch. `ens` sets what `ens` sets: how threads
wait, and how many there are. `--trains` also runs two `ens train` at the same time and one after the other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import facts

from ensemble.core.files import write_json
from ensemble.core.parallel import WAIT_VARIABLES

ARCHS = ("resnet18", "vgg11_bn", "densenet121", "mobilenetv2_100")
OTHERS = (0, 1, 3)
WORKER = """
import sys, time
arch, seconds, ours = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "ens"
if ours:
    from ensemble.core.parallel import limit_spinning
    limit_spinning()
import timm, torch
if ours:
    from ensemble.training.engine.hardware import chosen_threads
    torch.set_num_threads(chosen_threads({})["value"])
torch.manual_seed(0)
network = timm.create_model(arch, num_classes=10).to(memory_format=torch.channels_last)
optimizer = torch.optim.Adam(network.parameters(), 1e-3)
images = torch.randn(64, 3, 32, 32).to(memory_format=torch.channels_last)
labels = torch.arange(64) % 10
def step():
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
step()
step()
started, steps = time.perf_counter(), 0
while time.perf_counter() - started < seconds:
    step()
    steps += 1
print(steps / (time.perf_counter() - started), torch.get_num_threads())
"""


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute without end."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    time.sleep(0.5)
    try:
        yield
    finally:
        for process in others:
            process.kill()
            process.wait()


def environment() -> dict[str, str]:
    """Without what would decide for the user."""
    return {name: value for name, value in os.environ.items() if name not in (*WAIT_VARIABLES, "OMP_NUM_THREADS")}


def speed(arch: str, seconds: float, who: str) -> tuple[float, int]:
    """Steps a second, and with how many threads."""
    command = [sys.executable, "-c", WORKER, arch, str(seconds), who]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    steps, threads = done.stdout.split()
    return float(steps), int(threads)


def two_trainings(together: bool) -> float:
    """Seconds of two `ens train` of small networks on the digits, at the same time or one after the other."""
    with tempfile.TemporaryDirectory() as work:

        def command(seed: int) -> list[str]:
            words = ["--runs", f"{work}/{seed}", "train", "--arch", "resnet18", "--epochs", "4", "--lr", "0.003"]
            return [sys.executable, "-m", "ensemble", *words, "--seed", str(seed)]

        env = {**environment(), "XDG_CACHE_HOME": str(Path(work) / "cache")}
        # the probe is asked once, before
        subprocess.run(command(2), env=env, capture_output=True, check=True)
        started = time.perf_counter()
        running = []
        for seed in (0, 1):
            process = subprocess.Popen(command(seed), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            running.append(process)
            if not together:
                assert process.wait() == 0
        assert all(process.wait() == 0 for process in running)
        return time.perf_counter() - started


def main() -> None:
    """Measure in turn, so that a slow hour meets both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--trains", action="store_true")
    args = parser.parse_args()
    result: dict[str, object] = {"machine": facts(), "steps a second": {}}
    rows: dict[str, dict[str, object]] = result["steps a second"]  # type: ignore[assignment]
    for arch in ARCHS:
        for count in OTHERS:
            speeds: dict[str, list[float]] = {"before": [], "ens": []}
            threads = []
            with busy(count):
                for _ in range(args.repeat):
                    for who, values in speeds.items():
                        steps, used = speed(arch, args.seconds, who)
                        values.append(round(steps, 3))
                        threads += [used] if who == "ens" else []
            ratio = statistics.median(speeds["ens"]) / statistics.median(speeds["before"])
            rows[f"{arch} beside {count}"] = {**speeds, "threads": threads, "ratio": round(ratio, 3)}
            print(arch, count, speeds, threads, round(ratio, 3), flush=True)
    if args.trains:
        seconds = {"together": two_trainings(True), "one after the other": two_trainings(False)}
        result["two trainings"] = {name: round(value, 1) for name, value in seconds.items()}
        print(seconds, flush=True)
    write_json(args.result, result)


if __name__ == "__main__":
    main()
