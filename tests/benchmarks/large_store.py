"""Peak memory of training on a store of 20 GB. The store is a sparse file: what it costs is what counts.

    python tests/benchmarks/large_store.py [RESULT.json]

133,000 images of 224 pixels, all black; one epoch of a small network on 6,400 of them drawn from the whole file.
Memory is anonymous plus shared (RssAnon + RssShmem), looked at every 50 ms: pages of the file are the system's to
take back, and are not counted.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from machine import Kept
from PIL import Image
from silent import Silent

from ensemble.core.files import write_json
from ensemble.data.cache_store import CHUNK, StoreFile
from ensemble.data.dataset import Dataset, Items
from ensemble.data.image_cache import cache_key
from ensemble.data.preprocess import Preprocess
from ensemble.inference.forward import keep_freed_memory
from ensemble.models.network import build_network
from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import Recipe
from ensemble.training.engine.hardware import ComputeFormat, apply_format
from ensemble.training.engine.loaders import data_loaders
from ensemble.training.engine.loop import Training
from ensemble.training.jobs.plan import TrainingContext

COUNT, SIZE, BATCH, BATCHES = 133_000, 224, 64, 100


def megabytes() -> float:
    """Anonymous and shared memory of this process now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("RssAnon", "RssShmem"))}
    return sum(map(float, values.values())) / 1024


def black(count: int) -> Dataset:
    """Images of which only the digests differ; half train, and a few validate."""
    names = np.array([f"{i:06d}.png" for i in range(count)])
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in names.tolist()}
    items = Items(names, names, np.arange(count) % 10)
    splits = {"train": items.take(np.arange(count - 1000)), "valid": items.take(np.arange(count - 1000, count))}
    return Dataset(
        np.array([str(i) for i in range(10)]), splits, "", {}, lambda path: Image.new("RGB", (8, 8)), digests
    )


def main() -> None:
    """Make the file, train on it, print the peak."""
    keep_freed_memory()
    data, square = black(COUNT), Preprocess(SIZE, "squash")
    given = resolved(
        Recipe(arch="customnet", image_size=SIZE, filters=(8, 8, 8, 8), batch_size=BATCH, epochs=1, lr=0.001)
    )
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], megabytes())
            time.sleep(0.05)

    with tempfile.TemporaryDirectory(dir=".") as name:
        order = sorted(data.content.values())
        file = StoreFile(Path(name), cache_key(data, order, square), square, COUNT)
        with file.path.open("wb") as handle:
            handle.truncate(file.bytes)
        sums = [
            hashlib.sha256(bytes(min(CHUNK, file.bytes - start))).hexdigest()
            if start + CHUNK > file.bytes
            else None
            for start in range(0, file.bytes, CHUNK)
        ]
        whole = hashlib.sha256(bytes(CHUNK)).hexdigest()
        write_json(file.metadata_path, file.metadata([item or whole for item in sums]))
        threading.Thread(target=watch, daemon=True).start()
        started = time.perf_counter()
        context = TrainingContext(data, torch.device("cpu"), Path(name))
        images = context.images(given, "train")
        opened = time.perf_counter() - started
        rows = np.linspace(0, len(data.splits["train"]) - 1, BATCH * BATCHES).astype(int)
        small = Dataset(
            data.classes, {"train": data.splits["train"].take(rows)}, "", {}, data.open_image, data.content
        )
        # the whole set's loaders, as a member has them
        data_loaders(given, data, images, (0.5,) * 3, (0.5,) * 3, device=torch.device("cpu"))
        loaders = data_loaders(given, small, images, (0.5,) * 3, (0.5,) * 3, device=torch.device("cpu"))
        network = build_network(given, 10)
        apply_format(network, ComputeFormat("float32", "channels_last", ""))
        (row,) = Training(given, network, loaders, Path(name), {}, lambda *_: None, Silent()).run().rows
        done.set()
    result = {"store_gb": file.bytes / 1e9, "peak_mb": peak[0], "opened_s": opened, "epoch_s": row.seconds}
    print(json.dumps(result))
    Kept(Path(sys.argv[1]) if len(sys.argv) > 1 else None).put("training on a large store", result)


if __name__ == "__main__":
    main()
