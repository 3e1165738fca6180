"""`ens train`: batches larger than the data, losses that diverge, memory that runs out, interruptions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.train_command import train_photos

from ensemble.cli import run as ens
from ensemble.core.predictions import load

pytestmark = pytest.mark.slow


def test_loss_that_is_not_finite_fails_its_member_only(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from ensemble.training.methods.losses import losses

    if "broken" not in losses:
        losses.register("broken")(lambda recipe, weights: lambda logits, targets: logits.sum() * float("nan"))
    (here / "r.yaml").write_text(
        "data: {form: folders, path: photos}\n"
        "defaults: {filters: [4, 8], image_size: 8, batch_size: 8, lr: 0.01, epochs: 2}\n"
        "members: [{arch: customnet, name: bad, loss: broken}, {arch: customnet, name: good}]\n"
    )
    assert ens(["train", "--recipe", "r.yaml"]) == 1
    out, err = capfd.readouterr()
    (good,) = out.split()
    assert good.startswith("good-")
    assert "training loss became nan" in err.splitlines()[-1]
    (bad,) = (here / "runs").glob("bad-*")
    failed = json.loads((bad / "failed.json").read_text())
    assert failed.keys() >= {"reason", "stage", "epoch"}
    assert not (bad / "metrics.json").exists()
    assert ens(["combine", "--recipe", "r.yaml"]) == 0
    assert "bad-" not in capfd.readouterr().out
    assert ens(["combine", bad.name]) == 3
    assert ens(["train", "--recipe", "r.yaml"]) == 1
    assert "--retry" in capfd.readouterr().err.splitlines()[-1]
    assert ens(["train", "--recipe", "r.yaml", "--retry"]) == 1
    assert "training loss became nan" in capfd.readouterr().err.splitlines()[-1]


def test_batch_larger_than_the_data_is_the_data(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    why = "a batch of 33 is more than the 32 training images of an epoch; 32 are taken"
    _, err = train_photos(capfd, "--batch-size", "33", "--dry-run")
    assert err.count(why) == 1 and not list((here / "runs").glob("customnet-*"))
    fixed = ["--set", "precision=float32", "--set", "layout=default"]  # each batch size has a probe of its own
    (run,), err = train_photos(capfd, "--batch-size", "33", *fixed)
    assert f"{run.name}: {why}" in err.splitlines() and err.count(why) == 1
    facts = json.loads((run / "run.json").read_text())
    assert facts["auto"]["batch_size"] == {"value": 32, "why": why}
    assert "batch_size: 33" in (run / "recipe.yaml").read_text()
    # the same bits as with the batch that was taken
    (other,), err = train_photos(capfd, "--batch-size", "32", *fixed)
    assert "a batch of" not in err and other.name != run.name
    assert "batch_size" not in json.loads((other / "run.json").read_text())["auto"]
    np.testing.assert_array_equal(load(run / "valid.npz").probs, load(other / "valid.npz").probs)


def test_fold_with_a_batch_larger_than_its_data(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, err = train_photos(capfd, "--batch-size", "40", "--folds", "2")
    assert len([line for line in err.splitlines() if ": a batch of 40 is more than the " in line]) == 2


def test_last_batch_of_one_image_is_left_out(photos: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A batch norm cannot take it."""
    train_photos(capfd, "--batch-size", "31", "--set", "batch_norm=true")


def test_out_of_memory_halves_the_batch(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from ensemble.models.network import Network

    forward, fitted = Network.forward, []

    def limited(self: Network, x: torch.Tensor) -> torch.Tensor:
        # it fits at first, as another program comes and goes
        if len(x) > 3 and len(fitted) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        fitted.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(Network, "forward", limited)
    (run,), err = train_photos(capfd, "--epochs", "8")
    assert "memory ran out with 8 images at a time; taking half as many" in err
    assert "memory ran out with 4 images at a time; taking half as many" in err
    facts = json.loads((run / "run.json").read_text())
    assert facts["auto"]["batch"]["pieces"] == 4
    assert max(fitted[-20:]) <= 3
    rows = (run / "history.csv").read_text().splitlines()
    assert len(rows) == 9
    assert len(load(run / "test.npz")) == 8


def test_memory_for_less_than_two_images_fails_the_member(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from ensemble.models.network import Network

    forward = Network.forward

    def refused(self: Network, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, x)

    monkeypatch.setattr(Network, "forward", refused)
    _, err = train_photos(capfd, code=1)
    assert "out of memory" in err.splitlines()[-1]


FAST = ["optimizer=sgd", "momentum=0.85", "bias_lr=8", "schedule=triangle", "average=lookahead"]
FAST += ["augment=alternate-cutout", "tta=flip-shift"]


MUON = ["optimizer=muon", "filter_lr=0.2", "schedule=linear", "average=none"]


RESUMED = {
    "any": [],
    "float16": ["precision=float16", "layout=channels_last"],
    "muon": MUON,
    "pruned": ["sampler=pruned", "prune=0.7"],
    "progressive": ["progressive=8", "image_size=16", *MUON],
    "ema": ["average=ema", "sampler=weighted", "mixing=mixup", "loss=focal", "augment=dermoscopy"],
    "swa": ["average=swa", "average_epochs=3", "mixing=cutmix", "sampler=oversample", "sampler_count=20"],
    "soup": ["average=soup", "average_epochs=3", "schedule=plateau", "patience=0", "class_weights=balanced"],
}


@pytest.mark.parametrize("keys", RESUMED.values(), ids=RESUMED)
def test_training_interrupted_after_any_epoch_resumes_to_the_same_bits(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, keys: list[str]
) -> None:
    from ensemble.training.jobs.progress import ProgressWatcher

    words = [
        "train",
        "--arch",
        "speednet",
        "--data",
        "photos",
        "--image-size",
        "8",
        "--batch-size",
        "8",
        "--lr",
        "0.1",
    ]
    words += [
        "--epochs",
        "4",
        "--set",
        "filters=[8, 16]",
        *(word for key in FAST + keys for word in ("--set", key)),
    ]
    assert ens(["--runs", "whole", *words]) == 0
    (whole,) = Path("whole").glob("speednet-*")
    resumed = []

    def until_the_second_batch_of_the_next_epoch(self: ProgressWatcher) -> None:
        if self.done > self.before:
            resumed.append(self.before)
            raise KeyboardInterrupt

    # a checkpoint after every epoch
    monkeypatch.setattr("ensemble.training.engine.checkpoint.CHECKPOINT_SHARE", 1e9)
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(ProgressWatcher, "batch", until_the_second_batch_of_the_next_epoch)
            assert ens(["--runs", "parts", *words]) == 130
    assert resumed == [0, 1, 2]
    assert ens(["--runs", "parts", *words]) == 0
    (parts,) = Path("parts").glob("speednet-*")
    for name in ("weights.safetensors", "valid.npz", "test.npz"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_momentum_and_bias_rates_without_effect_are_refused(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, err = train_photos(capfd, "--set", "momentum=0.8", code=2)
    assert "one-cycle sets the momentum itself" in err
    _, err = train_photos(capfd, "--set", "bias_lr=8", code=2)
    assert "bias_lr is for optimizer: sgd or muon" in err
    _, err = train_photos(capfd, "--set", "filter_lr=8", code=2)
    assert "filter_lr is for optimizer: muon" in err
    train_photos(
        capfd, "--set", "momentum=0.8", "--set", "bias_lr=8", "--set", "schedule=constant", "--set", "optimizer=sgd"
    )
