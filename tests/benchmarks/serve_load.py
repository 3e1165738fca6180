"""What a service stands: times of concurrent clients, and its memory after many requests.

    python tests/benchmarks/serve_load.py RUN_OR_EXPORT FOLDER_OF_IMAGES --runs runs --keep load.json

starts `ens serve` in a process of its own, so that its memory is its own, and asks it with a number of clients who
each wait for an answer before they ask again. Times are of whole requests with one image, as a client sees them.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import requests as web

sys.path.insert(0, str(Path(__file__).parent))
from machine import Kept

CLIENTS = (1, 4, 16)


def memory(pid: int) -> int:
    """Bytes of a process and its children that are theirs alone, or resident where that is not told."""
    whole = psutil.Process(pid)
    return sum(item.memory_info().rss for item in (whole, *whole.children(recursive=True)))


def load(address: str, images: Sequence[bytes], *, clients: int, requests: int) -> dict[str, Any]:
    """So many requests by so many clients: milliseconds, requests a second, how many were not answered."""
    turns, times, refused = itertools.count(), list[float](), list[int]()

    def client() -> None:
        with web.Session() as session:
            while (turn := next(turns)) < requests:
                began = time.perf_counter()
                answer = session.post(
                    address + "predict", files={"images": images[turn % len(images)]}, timeout=120
                )
                times.append(time.perf_counter() - began)
                if answer.status_code != 200:
                    refused.append(answer.status_code)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - began
    p50, p95 = (1000 * np.percentile(times, [50, 95])).round(1).tolist()
    return {"p50_ms": p50, "p95_ms": p95, "per_second": round(requests / whole, 2), "refused": len(refused)}


@click.command()
@click.argument("source")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default="runs", show_default=True)
@click.option("--requests", default=100, show_default=True, help="Of each number of clients.")
@click.option("--keep", type=click.Path(path_type=Path), help="The JSON.")
def main(source: str, folder: Path, runs: str, requests: int, keep: Path | None) -> None:
    """Load SOURCE with the images of FOLDER."""
    images = [path.read_bytes() for path in sorted(folder.iterdir())[:50]]
    words = [sys.executable, "-m", "ensemble", "--runs", runs, "serve", source, "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            kept = Kept(keep)
            name = f"{web.get(address + 'model', timeout=10).json()['engine']}, {len(images)} images"
            mean = round(sum(map(len, images)) / len(images) / 1000)
            kept.put(f"{name}: mean kB", mean)
            for clients in CLIENTS:
                result = load(address, images, clients=clients, requests=requests)
                kept.put(f"{name}: {clients} clients", result)
                print(f"{name}, {clients} clients: {result}")
            after = []
            for more in (requests, 2 * requests):
                load(address, images, clients=CLIENTS[-1], requests=more)
                after.append(round(memory(process.pid) / 1e6, 1))
            kept.put(f"{name}: memory in MB after {requests} and {3 * requests} more requests", after)
            print(f"{name}, memory in MB after {requests} and {3 * requests} more requests: {after}")
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
