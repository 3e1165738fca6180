"""How close training and predicting come to the bare network, and what setting up costs.

    python tests/benchmarks/bare_loop.py CIFAR10_FOLDER [RESULT.json]

Training: one epoch of `Training` (fastai's Learner, batches from the store, augmentation, history) against a bare
torch loop on one resident random batch in the same format with torch's fused AdamW, in turns, at 64 pixels and
batches of 64. Predicting: nine members over 10,000 images, each image decoded once, against the sum of
the times that their networks need for as many resident batches of the same format. Set-up: everything between
the recipe and the first batch, for a first member and for a second one.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import Kept
from silent import Silent
from torch import Tensor
from torch.nn import functional

from ensemble.data.dataset import Dataset
from ensemble.data.load import load_dataset
from ensemble.inference import predict
from ensemble.models.memory import keep_freed_memory
from ensemble.models.network import Network, build_network
from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import DataSpec, Recipe
from ensemble.training.formats import Format, apply_format
from ensemble.training.loaders import data_loaders
from ensemble.training.loop import Training
from ensemble.training.probe import choose_format
from ensemble.training.seeds import seed_everything
from ensemble.training.workshop import Workshop

CPU = torch.device("cpu")
ARCHS = ("resnet34", "densenet121", "vgg19", "efficientnet_b0", "mobilenet_v2")
NINE = ("vgg19", *["resnet34"] * 2, *["densenet121"] * 3, *["efficientnet_b0"] * 3)
SIZE, BATCH, BATCHES, TURNS = 64, 64, 16, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def recipe(arch: str, data: DataSpec) -> Recipe:
    """A member from scratch with fastai's augmentation."""
    keys = {"weights": "none", "image_size": SIZE, "batch_size": BATCH, "epochs": 1, "lr": 0.001}
    return resolved(Recipe(data=data, arch=arch, **keys))


def in_format(given: Recipe) -> tuple[Network, Format]:
    """The network in the fastest format here."""
    torch.manual_seed(0)
    network = build_network(given, 10)
    chosen = choose_format(given, network, CPU)
    apply_format(network, chosen)
    return network, chosen


def ours(given: Recipe, network: Network, workshop: Workshop, data: Dataset) -> float:
    """Images a second of one epoch of training."""
    seed_everything(0, "loaders")
    loaders = data_loaders(given, data, workshop.images(given, "train"), MEAN, STD, device=CPU)
    with tempfile.TemporaryDirectory() as folder:
        rows = Training(given, network, loaders, Path(folder), {}, lambda *_: None, Silent()).run()
    return BATCHES * BATCH / rows[0].seconds


def bare(network: Network) -> float:
    """Images a second of the plainest loop."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    x = torch.rand(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,))
    network.train()
    started = time.perf_counter()
    for _ in range(BATCHES):
        functional.cross_entropy(network(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return BATCHES * BATCH / (time.perf_counter() - started)


def training(arch: str, data: Dataset, workshop: Workshop, spec: DataSpec) -> dict[str, Any]:
    """The ratio of one architecture."""
    part = data.splits["train"].take(np.arange(0, len(data.splits["train"]), 7)[: BATCHES * BATCH])
    small = Dataset(data.classes, {"train": part}, "", {}, data.open_image, data.content)
    given = recipe(arch, spec)
    network, chosen = in_format(given)
    ours(given, network, workshop, small)  # kernels are made, memory is taken
    pairs = []
    for turn in range(TURNS):  # the second of two may find a busier machine: they take turns
        if turn % 2:
            other = bare(network)
            pairs.append((ours(given, network, workshop, small), other))
        else:
            pairs.append((ours(given, network, workshop, small), bare(network)))
    row = {"format": f"{chosen.precision} {chosen.layout}", "pairs": pairs}
    row["ratio"] = statistics.median(one / other for one, other in pairs)
    print(f"training {arch:16s} {row['ratio']:.3f} of the bare loop", row["format"], pairs, flush=True)
    return row


def predicting(data: Dataset, folder: Path, spec: DataSpec) -> dict[str, Any]:
    """Nine members and 10,000 images."""
    networks = [in_format(recipe(arch, spec))[0] for arch in NINE]
    paths = data.splits["test"].paths.tolist()
    x = torch.rand(128, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)

    def forward(network: Network) -> float:
        network.eval()
        network.compute_dtype, network.channels_last = None, True
        with torch.inference_mode():
            network(x)
            started = time.perf_counter()
            for _ in range(len(paths) // len(x)):
                network(x)
            return (time.perf_counter() - started) * len(paths) / (len(paths) // len(x) * len(x))

    bare_seconds, seconds = 0.0, 0.0
    workshop = Workshop(data, CPU, folder)  # its test set is still to be decoded
    for network in networks:
        bare_seconds += forward(network)
        started = time.perf_counter()
        images = workshop.images(recipe("resnet34", spec), "test")
        predict(network, images.batch, images.rows(paths), mean=MEAN, std=STD)
        seconds += time.perf_counter() - started
    ratio = bare_seconds / seconds
    print(f"predicting {ratio:.3f} of the bare forwards: {bare_seconds:.1f} s, {seconds:.1f} s", flush=True)
    return {"ratio": ratio, "bare": bare_seconds, "ours": seconds}


def setting_up(spec: DataSpec, runs: Path) -> dict[str, Any]:
    """Seconds from the recipe's data to the first batch: list, check, decode, loaders."""

    def once() -> float:
        started = time.perf_counter()
        data = load_dataset(spec, runs)
        workshop = Workshop(data, CPU, runs / ".data" / "squares")
        given = recipe("resnet34", spec)
        loaders = data_loaders(given, data, workshop.images(given, "train"), MEAN, STD, device=CPU)
        batch: tuple[Tensor, Tensor] = loaders.train.one_batch()
        assert len(batch[0]) == BATCH
        return time.perf_counter() - started

    first, second = once(), once()
    print(
        f"set-up: first {first:.2f} s, second in a new command {second:.2f} s, {first / second:.1f} x", flush=True
    )
    return {"first": first, "second": second, "ratio": first / second}


def main() -> None:
    """All three."""
    keep_freed_memory()
    spec = DataSpec(form="folders", path=sys.argv[1])
    kept = Kept(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name)
        kept.of("set-up", lambda: setting_up(spec, runs))
        data = load_dataset(spec, runs)
        workshop = Workshop(data, CPU, runs / ".data" / "squares")
        for arch in ARCHS:
            kept.of(f"training {arch}", lambda arch=arch: training(arch, data, workshop, spec))  # type: ignore[misc]
        kept.of("predicting", lambda: predicting(data, runs / "tests", spec))


if __name__ == "__main__":
    main()
