"""How close training and predicting come to the bare network, and what setting up costs.

    python tests/benchmarks/bare_loop.py CIFAR10_FOLDER [RESULT.json] [--device cuda] [--size 64]

Training: one epoch of `Training` (fastai's Learner, batches from the store, augmentation, history) against a bare
torch loop on one resident random batch in the same format with torch's fused AdamW, in turns, in batches of 64.
Predicting: nine members over 10,000 images, each image decoded once, against the sum of the times that their
networks need for as many resident batches of the same format. Set-up: everything between the recipe and the first
batch, for a first member and for a second one.

On a GPU the epoch that counts is the second one, whose graphs are captured; the ratio is that to the plain loop.
The loop with the same graphs is timed beside it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
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
from ensemble.inference.forward import keep_freed_memory, predict
from ensemble.models.network import Network, build_network
from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import Recipe
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.engine.hardware import ComputeFormat, apply_format, choose_device
from ensemble.training.engine.loaders import data_loaders
from ensemble.training.engine.loop import Training
from ensemble.training.jobs.plan import TrainingContext
from ensemble.training.jobs.speed_probe import choose_format

ARCHS = ("resnet34", "densenet121", "vgg19", "efficientnet_b0", "mobilenet_v2")
NINE = ("vgg19", *["resnet34"] * 2, *["densenet121"] * 3, *["efficientnet_b0"] * 3)
BATCH, TURNS = 64, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Place:
    """Where, and at what size. runs: a folder for stores of squares."""

    spec: DataSpec
    runs: Path
    device: torch.device
    size: int

    @property
    def on_gpu(self) -> bool:
        """Whether it is an NVIDIA GPU."""
        return self.device.type == "cuda"

    @property
    def batches(self) -> int:
        """Of an epoch."""
        return 48 if self.on_gpu else 16

    def recipe(self, arch: str) -> Recipe:
        """A member from scratch with fastai's augmentation."""
        keys = {"weights": "none", "image_size": self.size, "batch_size": BATCH, "lr": 0.001}
        keys["epochs"] = 2 if self.on_gpu else 1
        return resolved(Recipe(data=self.spec, arch=arch, **keys))

    def in_format(self, arch: str) -> tuple[Network, ComputeFormat]:
        """The network in the fastest format here."""
        torch.manual_seed(0)
        given = self.recipe(arch)
        network = build_network(given, 10).to(self.device)
        chosen = choose_format(given, network, self.device)
        apply_format(network, chosen)
        return network, chosen

    def clock(self) -> float:
        """Seconds, when a GPU has done what it was told."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def ours(place: Place, arch: str, network: Network, context: TrainingContext, data: Dataset) -> float:
    """Images a second of an epoch of training."""
    given = place.recipe(arch)
    seed_everything(0, "loaders")
    loaders = data_loaders(given, data, context.images(given, "train"), MEAN, STD, device=place.device)
    with tempfile.TemporaryDirectory() as folder:
        rows = Training(given, network, loaders, Path(folder), {}, lambda *_: None, Silent()).run().rows
    return place.batches * BATCH / rows[-1].seconds


def bare(place: Place, network: Network) -> float:
    """Images a second of the plainest loop; as graphs where the network says so."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    x = torch.rand(BATCH, 3, place.size, place.size, device=place.device)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,), device=place.device)
    network.train()
    warm_up = 2 if place.on_gpu else 0
    for step in range(warm_up + place.batches):
        if step == warm_up:
            started = place.clock()
        functional.cross_entropy(network(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return place.batches * BATCH / (place.clock() - started)


def training(place: Place, arch: str, data: Dataset, context: TrainingContext) -> dict[str, Any]:
    """The ratio of one architecture."""
    whole = data.splits["train"]
    count = place.batches * BATCH
    part = whole.take(np.arange(0, len(whole), max(1, len(whole) // count))[:count])
    small = Dataset(data.classes, {"train": part}, "", {}, data.open_image, data.content)
    network, chosen = place.in_format(arch)

    def measured() -> float:
        network.graphed = chosen.graphed
        return ours(place, arch, network, context, small)

    def plain() -> float:
        network.graphed = False
        return bare(place, network)

    measured()  # kernels are made, memory is taken
    plain()
    pairs = []
    for turn in range(TURNS):  # the second of two may find a busier machine: they take turns
        if turn % 2:
            other = plain()
            pairs.append((measured(), other))
        else:
            pairs.append((measured(), plain()))
    row: dict[str, Any] = {"format": f"{chosen.precision} {chosen.layout}", "pairs": pairs}
    row["ratio"] = statistics.median(first / other for first, other in pairs)
    if chosen.graphed:
        network.graphed = True
        row["bare loop with graphs"] = max(bare(place, network) for _ in range(TURNS))
        network.forget_graphs()
    print(f"training {arch:16s} {row['ratio']:.3f} of the bare loop", row["format"], pairs, flush=True)
    return row


def predicting(place: Place, data: Dataset) -> dict[str, Any]:
    """Nine members and 10,000 images."""
    networks = [place.in_format(arch)[0] for arch in NINE]
    paths = data.splits["test"].paths.tolist()
    x = torch.rand(128, 3, place.size, place.size, device=place.device)
    x = x.contiguous(memory_format=torch.channels_last)

    def forward(network: Network) -> float:
        network.eval()
        network.compute_dtype, network.channels_last = None, True
        with torch.inference_mode():
            network(x)
            started = place.clock()
            for _ in range(len(paths) // len(x)):
                network(x)
            return (place.clock() - started) * len(paths) / (len(paths) // len(x) * len(x))

    bare_seconds, seconds = 0.0, 0.0
    context = TrainingContext(data, place.device, place.runs / "tests")  # its test set is still to be decoded
    for arch, network in zip(NINE, networks, strict=True):
        bare_seconds += forward(network)
        started = place.clock()
        images = context.images(place.recipe(arch), "test")
        predict(network, images.batch, images.rows(paths), mean=MEAN, std=STD)
        seconds += place.clock() - started
    ratio = bare_seconds / seconds
    print(f"predicting {ratio:.3f} of the bare forwards: {bare_seconds:.1f} s, {seconds:.1f} s", flush=True)
    return {"ratio": ratio, "bare": bare_seconds, "ours": seconds}


def setting_up(place: Place) -> dict[str, Any]:
    """Seconds from the recipe's data to the first batch: list, check, decode, loaders."""

    def once() -> float:
        started = time.perf_counter()
        data = load_dataset(place.spec, place.runs)
        context = TrainingContext(data, place.device, place.runs / ".data" / "squares")
        given = place.recipe("resnet34")
        loaders = data_loaders(given, data, context.images(given, "train"), MEAN, STD, device=place.device)
        batch: tuple[Tensor, Tensor] = loaders.train.one_batch()
        assert len(batch[0]) == BATCH
        return place.clock() - started

    first, second = once(), once()
    print(
        f"set-up: first {first:.2f} s, second in a new command {second:.2f} s, {first / second:.1f} x", flush=True
    )
    return {"first": first, "second": second, "ratio": first / second}


def main() -> None:
    """All three."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("result", type=Path, nargs="?")
    parser.add_argument("--device")
    parser.add_argument("--size", type=int, default=64)
    requested = parser.parse_args()
    keep_freed_memory()
    spec, kept = DataSpec(form="folders", path=str(requested.cifar10)), Kept(requested.result)
    device, at = choose_device(requested.device), f"at {requested.size} px"
    with tempfile.TemporaryDirectory() as name:
        place = Place(spec, Path(name), device, requested.size)
        kept.of(f"set-up {at}", lambda: setting_up(place))
        data = load_dataset(spec, place.runs)
        context = TrainingContext(data, device, place.runs / ".data" / "squares")
        for arch in ARCHS:
            kept.of(f"training {arch} {at}", lambda arch=arch: training(place, arch, data, context))  # type: ignore[misc]
        kept.of(f"predicting {at}", lambda: predicting(place, data))


if __name__ == "__main__":
    main()
