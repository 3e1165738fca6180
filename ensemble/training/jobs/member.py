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
from ensemble.core.files import sha256_file, write_atomically, write_json
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
from ensemble.runs.record import SCHEMA
from ensemble.runs.run import Run
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
from ensemble.training.jobs.record import RecordInProgress, new_record
from ensemble.training.methods.samplers import batch_size, epoch_class_counts, smaller_batch

SAMPLE = 5_000
"""Number of images used to compute a first layer that is not learnt."""


def train_member(job: Job, dataset: Dataset, context: TrainingContext) -> None:
    """Train and write the run of a `member`, `refit` or `student` job, whose lock the caller holds.

    dataset: the job's own view of the data (a fold's, or pooled for a refit).
    Raises TrainingFailed if the loss is not finite, after marking the run as failed.
    """
    auto = job.run.record.auto.values if (job.path / "run.json").is_file() else {}
    with free_cores(context.device, auto) as threads:
        _train_member(job, dataset, context, threads)


def _train_member(job: Job, dataset: Dataset, context: TrainingContext, threads: Mapping[str, Any]) -> None:
    progress = RecordInProgress(job, new_record(job, dataset, describe(context.device)))
    progress.choose(**threads)
    teacher_runs = [] if job.teacher is None else [job.teacher.run]
    parents = [parent_facts(run) for run in (*teacher_runs, *(part.run for part in job.parts))]
    progress.update(parents=parents, shown=_class_counts(job, dataset))
    _note_batch_size(job, dataset, context, progress)
    bar = ProgressWatcher(job.path.name, job.recipe, context.listener, context.tracker.epoch)
    with bar as watcher, _marking_failure(job):
        images = context.images(job.recipe, "train", watcher.reading)
        network = initial_network(job, dataset, images, context.device, progress)
        while progress.record.weights_sha256 is None:
            try:
                _train(job, dataset, network, images, watcher, progress)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or not _reduce_memory(job, context, progress):
                    raise
            else:
                break
            del network, images
            gc.collect()  # a Learner and its callbacks are a reference cycle that holds the network
            images = context.images(job.recipe, "train", watcher.reading)
            network = initial_network(job, dataset, images, context.device, progress)
        load_weights(network, job.path / "weights.safetensors", progress.record.weights_sha256 or "")
        network.to(context.device)
        splits = [split for split in dataset.splits if split != "train"]
        _predict(job, dataset, splits, network, context, watcher, progress)
    _warn(job, dataset, context, progress)
    _finish(job.run, dataset, progress)


def _warn(job: Job, dataset: Dataset, context: TrainingContext, progress: RecordInProgress) -> None:
    """Record and report the warnings of the history; a refit has no validation rows and thus none."""
    if "valid" not in dataset.splits:
        return
    targets = dataset.splits["valid"].targets
    stages = training_stages(job.recipe)
    heads = [index for index, stage in enumerate(stages) if stage.train == "head"]
    largest = float(np.bincount(targets[targets >= 0]).max() / len(targets))
    lines = warnings(history(job.run), heads, len(targets), largest)
    progress.update(warnings=lines)
    for line in lines:
        context.listener.note(f"{job.path.name}: {line}")


def predict_new_tests(job: Job, dataset: Dataset, context: TrainingContext) -> list[str]:
    """Predict the test sets that are new to a complete run or have changed since; returns their names."""
    splits = new_tests(job, dataset)
    if splits:
        progress = RecordInProgress(job, job.run.record)
        sha256, compute_format = progress.record.weights_sha256 or "", progress.record.auto.format or {}
        with ProgressWatcher(job.path.name, job.recipe, context.listener) as watcher:
            network = build_network(job.recipe, len(dataset.classes), None)
            load_weights(network, job.path / "weights.safetensors", sha256)
            apply_format(network, ComputeFormat.read(compute_format))
            _predict(job, dataset, splits, network.to(context.device), context, watcher, progress)
        update_data(job)
        _finish(job.run, dataset, progress)
    return splits


def update_data(job: Job) -> None:
    """Update the `data` section of the run's recipe.yaml, which later commands read by default."""
    path = job.path / "recipe.yaml"
    recipe = text.read(path)
    write_atomically(path, text.dump({**recipe, "data": as_mapping(job.recipe)["data"]}))


def new_tests(job: Job, dataset: Dataset) -> list[str]:
    """Names of the test sets that the run has not predicted in their current state."""
    run_tests = job.run.record.data.tests
    return [split for split, content in dataset.test_fingerprints.items() if run_tests.get(split) != content]


def initial_network(
    job: Job, dataset: Dataset, images: Images, device: torch.device, progress: RecordInProgress
) -> Network:
    """The network with its initial weights, in its compute format, which is chosen and recorded if new."""
    stats = lookup(job.recipe.arch).stats
    progress.update(mean=list(stats.mean), std=list(stats.std))
    seed_everything(job.recipe.seed, "weights")
    state = load_state(job.weights) if job.weights else None
    network = build_network(job.recipe, len(dataset.classes), state)
    if state is None:
        fit_to_images(network, lambda: _sample(dataset, images, stats))
    network.to(device)
    recorded = progress.record.auto.format
    if recorded is None:
        of_parent = job.parts[0].run.record.auto.format if job.parts else None
        compute_format = (
            best_format(job, dataset, network, device) if of_parent is None else ComputeFormat.read(of_parent)
        )
        progress.choose(format=compute_format.facts())
    else:
        compute_format = ComputeFormat.read(recorded)
    apply_format(network, compute_format)
    progress.update(parameters=sum(parameter.numel() for parameter in network.parameters()))
    return network


def _class_counts(job: Job, dataset: Dataset) -> dict[str, list[int]]:
    """Number of training images of each class, and of those that an epoch shows."""
    targets, k = dataset.splits["train"].targets, len(dataset.classes)
    before = np.bincount(targets, minlength=k)
    return {"before": before.tolist(), "after": epoch_class_counts(job.recipe, targets, k).tolist()}


def _note_batch_size(job: Job, dataset: Dataset, context: TrainingContext, progress: RecordInProgress) -> None:
    """Report and record a batch size below that of the recipe."""
    targets, k = dataset.splits["train"].targets, len(dataset.classes)
    if reason := smaller_batch(job.recipe, targets, k):
        progress.choose(batch_size={"value": batch_size(job.recipe, targets, k), "why": reason})
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
    progress: RecordInProgress,
) -> None:
    """Train every stage, from the last checkpoint if any; write weights, history and the finder's curve."""
    seed_everything(job.recipe.seed, "loaders")
    device = next(network.parameters()).device
    loaders = data_loaders(job.recipe, dataset, images, *progress.record.normalisation, device=device)

    def record_curve(stage: int, curve: Curve) -> None:
        choice = {str(stage): {"value": curve.suggestion, "why": curve.reason}}
        progress.choose(lr={**progress.record.auto.values.get("lr", {}), **choice})
        write_atomically(job.path / "lr_find.csv", curves_csv({stage: curve}))
        progress.write()

    # a network for all rows has no validation rows: it takes the rates of its first part
    rates = (job.parts[0].run.record if job.parts else progress.record).auto.lr
    write_atomically(job.path / "recipe.yaml", text.dump(as_mapping(job.recipe)))
    progress.write()
    pieces = progress.record.auto.pieces
    training = Training(
        job.recipe, network, loaders, job.path, rates, record_curve, watcher, pieces, teacher=job.teacher
    )
    state = training.run()
    if not finite(network):
        raise TrainingFailed("a weight is not finite after training; lower --lr")
    write_atomically(job.path / "history.csv", to_csv(state.rows))
    save_weights(job.path / "weights.safetensors", network)
    progress.choose(**state.decisions)
    progress.update(
        files={"weights": sha256_file(job.path / "weights.safetensors")},
        bytes=(job.path / "weights.safetensors").stat().st_size,
        seconds=round(sum(row.seconds for row in state.rows), 3),
        rates={str(stage): rate for stage, rate in state.rates.items()},
    )
    progress.write()


def _reduce_memory(job: Job, context: TrainingContext, progress: RecordInProgress) -> bool:
    """Reduce memory use after an out-of-memory error, report and record it; whether training can restart.

    First the images are removed from the device; then a batch is split into twice as many pieces, of at least two
    images each.
    """
    if context.clear_device():
        context.listener.note(f"{job.path.name}: memory ran out; the images leave the {context.device.type}")
        return True
    pieces, batch = progress.record.auto.pieces, progress.record.auto.batch_size(job.recipe.batch_size)
    if batch < 4 * pieces:
        return False
    reason = f"memory ran out with {batch // pieces} images at a time; taking half as many"
    progress.choose(batch={"pieces": 2 * pieces, "why": reason})
    progress.write()
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
    progress: RecordInProgress,
) -> None:
    """Write the predictions of `splits`; files of an earlier attempt are overwritten."""
    seconds, count = 0.0, 0
    mean, std = progress.record.normalisation
    for split in splits:
        items = dataset.splits[split]
        images = context.images(job.recipe, split, watcher.reading)
        started = time.perf_counter()
        probs, plain = predict(
            network,
            images.batch,
            images.rows(items.paths.tolist()),
            mean=mean,
            std=std,
            tta=job.recipe.tta,
            on_batch=watcher.batch,
        )
        if not np.isfinite(probs).all():
            raise TrainingFailed(f"the network says NaN about images of {split}; lower --lr")
        seconds, count = seconds + time.perf_counter() - started, count + len(items)
        save(job.path / f"{split}.npz", _predictions(job.path.name, items, dataset, probs))
        if split == "valid" and job.recipe.tta != "none":
            _note_tta_gain(job, items, plain, probs, context, progress)
    if count:
        progress.update(seconds_per_image=round(seconds / count, 7))


def _note_tta_gain(
    job: Job,
    items: Items,
    plain: Floats,
    probs: Floats,
    context: TrainingContext,
    progress: RecordInProgress,
) -> None:
    """Record and report the validation accuracy with test-time augmentation against that of the plain image."""
    plain_accuracy, tta_accuracy = (float((rows.argmax(1) == items.targets).mean()) for rows in (plain, probs))
    count = len(views.get(job.recipe.tta))
    accuracies = {"one_view": plain_accuracy, "all_views": tta_accuracy}
    progress.update(tta={"views": count, "accuracy": accuracies})
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


def _finish(run: Run, dataset: Dataset, progress: RecordInProgress) -> None:
    """Write run.json and, last, metrics.json, which completes the run."""
    sizes = {split: len(items) for split, items in dataset.splits.items()}
    tests = dict(dataset.test_fingerprints)
    progress.update(data={**progress.record.data.values, "tests": tests, "sizes": sizes})
    progress.write()
    write_metrics(run)
    remove_checkpoint(run.path)


def write_metrics(run: Run) -> None:
    """Write metrics.json: every metric of every labelled split. Its existence marks a run as complete."""
    metrics = {split: split_metrics(run.predictions(split)) for split in run.splits()}
    scores = {"schema": SCHEMA, **{split: values for split, values in metrics.items() if values}}
    write_json(run.path / "metrics.json", scores)
