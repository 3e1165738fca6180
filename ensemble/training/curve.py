"""The finder's curve of a member, without training it."""

from __future__ import annotations

import io
from pathlib import Path

from ensemble.data.dataset import Dataset
from ensemble.files import write_atomically
from ensemble.training.devices import describe
from ensemble.training.finder import Curve, curves_csv
from ensemble.training.loaders import data_loaders
from ensemble.training.loop import Training
from ensemble.training.member import initial_network
from ensemble.training.plan import Job
from ensemble.training.progress import ProgressWatcher
from ensemble.training.record import new_facts
from ensemble.training.samplers import smaller_batch
from ensemble.training.seeds import seed_everything
from ensemble.training.workshop import Workshop


def rate_curve(job: Job, dataset: Dataset, workshop: Workshop) -> Curve:
    """What `lr: auto` of this job's first stage would see, with the very same seeds."""
    with ProgressWatcher(f"{job.path.name} finder", job.recipe) as watcher:
        images = workshop.images(job.recipe, "train", watcher.reading)
        facts = new_facts(job, dataset, describe(workshop.device))
        network = initial_network(job, dataset, images, workshop.device, facts)
        if why := smaller_batch(job.recipe, dataset.splits["train"].targets, len(dataset.classes)):
            workshop.note(f"{job.path.name}: {why}")
        seed_everything(job.recipe.seed, "loaders")
        loaders = data_loaders(job.recipe, dataset, images, facts["mean"], facts["std"], device=workshop.device)
        return Training(job.recipe, network, loaders, job.path, {}, lambda *_: None, watcher).curve()


def write_curve(curve: Curve, stem: Path) -> tuple[Path, Path]:
    """Write `<stem>.csv` and `<stem>.png`; their paths."""
    from matplotlib.figure import Figure  # a Figure of its own: pyplot would want a display

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses, color="tab:blue")
    axes.axvline(curve.suggestion, color="tab:red", linestyle="--", label=f"suggestion {curve.suggestion:.2e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="smoothed training loss", title=stem.name)
    axes.grid(alpha=0.3)
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    table = write_atomically(stem.with_name(f"{stem.name}.csv"), curves_csv({0: curve}))
    return table, write_atomically(stem.with_name(f"{stem.name}.png"), image.getvalue())
