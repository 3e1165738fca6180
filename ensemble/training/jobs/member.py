"""Turns the job of one member into a complete run: train, predict, record; resumable after any interruption."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ensemble.core.errors import TrainingFailed
from ensemble.core.files import read_json, sha256_file, write_atomically, write_json
from ensemble.core.predictions import Floats, Predictions, save
from ensemble.data.dataset import Dataset, Items
from ensemble.inference.forward import normalised, out_of_memory, predict, views
from ensemble.inference.image_batches import Images
from ensemble.models.network import Network, build_network, fit_to_images
from ensemble.models.state_dict import load_state, load_weights, save_weights
from ensemble.recipe import text
from ensemble.recipe.architectures import Stats, lookup
from ensemble.recipe.resolve import as_mapping, training_stages
from ensemble.runs.history import history, to_csv, warnings
from ensemble.runs.run import SCHEMA, Run
from ensemble.runs.writing import parent_facts, split_metrics
from ensemble.training.engine.checkpoint import remove_checkpoint, seed_everything
from ensemble.training.engine.epochs import finite
from ensemble.training.engine.hardware import ComputeFormat, apply_format, describe, free_cores
from ensemble.training.engine.loaders import data_loaders
from ensemble.training.engine.loop import Training
from ensemble.training.engine.lr_finder import Curve, curves_csv
from ensemble.training.jobs.estimate import best_format
from ensemble.training.jobs.plan import Job, TrainingContext
from ensemble.training.jobs.progress import ProgressWatcher
from ensemble.training.jobs.record import new_facts, write_facts
from ensemble.training.methods.samplers import batch_size, epoch_class_counts, smaller_batch

SAMPLE = 5_000
"""Number of images used to compute a first layer that is not learnt."""


def train_member(job: Job, dataset: Dataset, context: TrainingContext) -> None:
    """Train and write the run of a `member`, `refit` or `student` job, whose lock the caller holds.

    dataset: the job's own view of the data (a fold's, or pooled for a refit).
    Raises TrainingFailed if the loss is not finite, after marking the run as failed.
    """
    path = job.path / "run.json"
    auto = read_json(path)["auto"] if path.is_file() else {}
    with free_cores(context.device, auto) as threads:
        _train_member(job, dataset, context, threads)


def _train_member(job: Job, dataset: Dataset, context: TrainingContext, threads: Mapping[str, Any]) -> None:
    facts = new_facts(job, dataset, describe(context.device))
    facts["auto"] |= threads
    teacher_runs = [] if job.teacher is None else [job.teacher.run]
    facts["parents"] = [parent_facts(run) for run in (*teacher_runs, *(part.run for part in job.parts))]
    facts["shown"] = _class_counts(job, dataset)
    _note_batch_size(job, dataset, context, facts)
    bar = ProgressWatcher(job.path.name, job.recipe, context.listener, context.tracker.epoch)
    with bar as watcher, _marking_failure(job):
        images = context.images(job.recipe, "train", watcher.reading)
        network = initial_network(job, dataset, images, context.device, facts)
        while "weights" not in facts.get("files", {}):
            try:
                _train(job, dataset, network, images, watcher, facts)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or not _reduce_memory(job, context, facts):
                    raise
            else:
                break
            del network, images
            gc.collect()  # a Learner and its callbacks are a reference cycle that holds the network
            images = context.images(job.recipe, "train", watcher.reading)
            network = initial_network(job, dataset, images, context.device, facts)
        load_weights(network, job.path / "weights.safetensors", facts["files"]["weights"])
        network.to(context.device)
        splits = [split for split in dataset.splits if split != "train"]
        _predict(job, dataset, splits, network, context, watcher, facts)
    _warn(job, dataset, context, facts)
    _finish(job.run, dataset, facts)


def _warn(job: Job, dataset: Dataset, context: TrainingContext, facts: dict[str, Any]) -> None:
    """Record and report the warnings of the history; a refit has no validation rows and thus none."""
    if "valid" not in dataset.splits:
        return
    targets = dataset.splits["valid"].targets
    stages = training_stages(job.recipe)
    heads = [index for index, stage in enumerate(stages) if stage.train == "head"]
    largest = float(np.bincount(targets[targets >= 0]).max() / len(targets))
    facts["warnings"] = warnings(history(job.run), heads, len(targets), largest)
    for line in facts["warnings"]:
        context.listener.note(f"{job.path.name}: {line}")


def predict_new_tests(job: Job, dataset: Dataset, context: TrainingContext) -> list[str]:
    """Predict the test sets that are new to a complete run or have changed since; returns their names."""
    facts = dict(job.run.facts)
    splits = new_tests(job, dataset)
    if splits:
        with ProgressWatcher(job.path.name, job.recipe, context.listener) as watcher:
            network = build_network(job.recipe, len(dataset.classes), None)
            load_weights(network, job.path / "weights.safetensors", facts["files"]["weights"])
            apply_format(network, ComputeFormat.read(facts["auto"]["format"]))
            _predict(job, dataset, splits, network.to(context.device), context, watcher, facts)
        update_data(job)
        _finish(job.run, dataset, facts)
    return splits


def update_data(job: Job) -> None:
    """Update the `data` section of the run's recipe.yaml, which later commands read by default."""
    path = job.path / "recipe.yaml"
    recipe = text.read(path)
    write_atomically(path, text.dump({**recipe, "data": as_mapping(job.recipe)["data"]}))


def new_tests(job: Job, dataset: Dataset) -> list[str]:
    """Names of the test sets that the run has not predicted in their current state."""
    run_tests = job.run.facts["data"]["tests"]
    return [split for split, content in dataset.test_fingerprints.items() if run_tests.get(split) != content]


def initial_network(
    job: Job, dataset: Dataset, images: Images, device: torch.device, facts: dict[str, Any]
) -> Network:
    """The network with its initial weights, in its compute format, which is chosen and recorded if new."""
    stats = lookup(job.recipe.arch).stats
    facts |= {"mean": list(stats.mean), "std": list(stats.std)}
    seed_everything(job.recipe.seed, "weights")
    state = load_state(job.weights) if job.weights else None
    network = build_network(job.recipe, len(dataset.classes), state)
    if state is None:
        fit_to_images(network, lambda: _sample(dataset, images, stats))
    network.to(device)
    if "format" not in facts["auto"]:
        parent = job.parts[0].run.facts["auto"] if job.parts else {}
        compute_format = (
            ComputeFormat.read(parent["format"])
            if "format" in parent
            else best_format(job, dataset, network, device)
        )
        facts["auto"]["format"] = compute_format.facts()
    apply_format(network, ComputeFormat.read(facts["auto"]["format"]))
    facts["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    return network


def _class_counts(job: Job, dataset: Dataset) -> dict[str, list[int]]:
    """Number of training images of each class, and of those that an epoch shows."""
    targets, k = dataset.splits["train"].targets, len(dataset.classes)
    before = np.bincount(targets, minlength=k)
    return {"before": before.tolist(), "after": epoch_class_counts(job.recipe, targets, k).tolist()}


def _note_batch_size(job: Job, dataset: Dataset, context: TrainingContext, facts: dict[str, Any]) -> None:
    """Report and record a batch size below that of the recipe."""
    targets, k = dataset.splits["train"].targets, len(dataset.classes)
    if reason := smaller_batch(job.recipe, targets, k):
        facts["auto"]["batch_size"] = {"value": batch_size(job.recipe, targets, k), "why": reason}
        context.listener.note(f"{job.path.name}: {reason}")


def _sample(dataset: Dataset, images: Images, stats: Stats) -> Iterator[Tensor]:
    """Yield batches of normalised training images, evenly spaced over the set, at most `SAMPLE` in total."""
    paths = dataset.splits["train"].paths
    rows = images.rows(paths[np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).astype(int)].tolist())
    for start in range(0, len(rows), 128):
        yield normalised(images.batch(rows[start : start + 128]), stats.mean, stats.std)


def _train(
    job: Job,
    dataset: Dataset,
    network: Network,
    images: Images,
    watcher: ProgressWatcher,
    facts: dict[str, Any],
) -> None:
    """Train every stage, from the last checkpoint if any; write weights, history and the finder's curve."""
    seed_everything(job.recipe.seed, "loaders")
    device = next(network.parameters()).device
    loaders = data_loaders(job.recipe, dataset, images, facts["mean"], facts["std"], device=device)

    def record_curve(stage: int, curve: Curve) -> None:
        facts["auto"].setdefault("lr", {})[str(stage)] = {"value": curve.suggestion, "why": curve.reason}
        write_atomically(job.path / "lr_find.csv", curves_csv({stage: curve}))
        write_facts(job.path, facts)

    # a network for all rows has no validation rows: it takes the rates of its first part
    parent_rates = (job.parts[0].run.facts if job.parts else facts)["auto"].get("lr", {})
    rates = {int(stage): float(choice["value"]) for stage, choice in parent_rates.items()}
    write_atomically(job.path / "recipe.yaml", text.dump(as_mapping(job.recipe)))
    write_facts(job.path, facts)
    pieces = facts["auto"].get("batch", {}).get("pieces", 1)
    training = Training(
        job.recipe, network, loaders, job.path, rates, record_curve, watcher, pieces, teacher=job.teacher
    )
    state = training.run()
    if not finite(network):
        raise TrainingFailed("a weight is not finite after training; lower --lr")
    write_atomically(job.path / "history.csv", to_csv(state.rows))
    save_weights(job.path / "weights.safetensors", network)
    facts["files"] = {"weights": sha256_file(job.path / "weights.safetensors")}
    facts |= {
        "bytes": (job.path / "weights.safetensors").stat().st_size,
        "seconds": round(sum(row.seconds for row in state.rows), 3),
        "auto": {**facts["auto"], **state.decisions},
        "rates": {str(stage): rate for stage, rate in state.rates.items()},
    }
    write_facts(job.path, facts)


def _reduce_memory(job: Job, context: TrainingContext, facts: dict[str, Any]) -> bool:
    """Reduce memory use after an out-of-memory error, report and record it; whether training can restart.

    First the images are removed from the device; then a batch is split into twice as many pieces, of at least two
    images each.
    """
    if context.clear_device():
        context.listener.note(f"{job.path.name}: memory ran out; the images leave the {context.device.type}")
        return True
    pieces = facts["auto"].get("batch", {}).get("pieces", 1)
    batch = facts["auto"].get("batch_size", {}).get("value", job.recipe.batch_size)
    if batch < 4 * pieces:
        return False
    reason = f"memory ran out with {batch // pieces} images at a time; taking half as many"
    facts["auto"]["batch"] = {"pieces": 2 * pieces, "why": reason}
    write_facts(job.path, facts)
    context.listener.note(f"{job.path.name}: {reason}")
    return True


@contextmanager
def _marking_failure(job: Job) -> Iterator[None]:
    """Mark the run as failed on TrainingFailed (values that are not finite), not on a full disk or a kill."""
    try:
        yield
    except TrainingFailed as error:
        facts = {"schema": SCHEMA, "reason": str(error), "stage": error.stage, "epoch": error.epoch}
        write_json(job.path / "failed.json", facts)
        raise


def _predict(
    job: Job,
    dataset: Dataset,
    splits: Sequence[str],
    network: Network,
    context: TrainingContext,
    watcher: ProgressWatcher,
    facts: dict[str, Any],
) -> None:
    """Write the predictions of `splits`; files of an earlier attempt are overwritten."""
    seconds, count = 0.0, 0
    for split in splits:
        items = dataset.splits[split]
        images = context.images(job.recipe, split, watcher.reading)
        started = time.perf_counter()
        probs, plain = predict(
            network,
            images.batch,
            images.rows(items.paths.tolist()),
            mean=facts["mean"],
            std=facts["std"],
            tta=job.recipe.tta,
            on_batch=watcher.batch,
        )
        if not np.isfinite(probs).all():
            raise TrainingFailed(f"the network says NaN about images of {split}; lower --lr")
        seconds, count = seconds + time.perf_counter() - started, count + len(items)
        save(job.path / f"{split}.npz", _predictions(job.path.name, items, dataset, probs))
        if split == "valid" and job.recipe.tta != "none":
            _note_tta_gain(job, items, plain, probs, context, facts)
    if count:
        facts["seconds_per_image"] = round(seconds / count, 7)


def _note_tta_gain(
    job: Job, items: Items, plain: Floats, probs: Floats, context: TrainingContext, facts: dict[str, Any]
) -> None:
    """Record and report the validation accuracy with test-time augmentation against that of the plain image."""
    plain_accuracy, tta_accuracy = (float((rows.argmax(1) == items.targets).mean()) for rows in (plain, probs))
    count = len(views.get(job.recipe.tta))
    facts["tta"] = {"views": count, "accuracy": {"one_view": plain_accuracy, "all_views": tta_accuracy}}
    context.listener.note(
        f"{job.path.name}: {count} views, validation accuracy {plain_accuracy:.4f} -> {tta_accuracy:.4f}"
    )


def _predictions(source: str, items: Items, dataset: Dataset, probs: Any) -> Predictions:
    labelled = bool((items.targets >= 0).any())
    return Predictions(
        ids=items.ids,
        probs=probs,
        classes=dataset.classes,
        targets=items.targets if labelled else None,
        groups=items.groups,
        source=source,
    )


def _finish(run: Run, dataset: Dataset, facts: dict[str, Any]) -> None:
    """Write run.json and, last, metrics.json, which completes the run."""
    sizes = {split: len(items) for split, items in dataset.splits.items()}
    facts["data"] = {**facts["data"], "tests": dict(dataset.test_fingerprints), "sizes": sizes}
    write_facts(run.path, facts)
    write_metrics(run)
    remove_checkpoint(run.path)


def write_metrics(run: Run) -> None:
    """Write metrics.json: every metric of every labelled split. Its existence marks a run as complete."""
    metrics = {split: split_metrics(run.predictions(split)) for split in run.splits()}
    scores = {"schema": SCHEMA, **{split: values for split, values in metrics.items() if values}}
    write_json(run.path / "metrics.json", scores)
