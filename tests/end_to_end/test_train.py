"""`ens train` on tiny images: members, folds, refits, test sets added later, views."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import colour_folders
from helpers.train_command import train_photos

from ensemble.cli import run as ens
from ensemble.core.predictions import Predictions, load

pytestmark = pytest.mark.slow


def test_member_learns_and_its_files_agree(photos: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (run,), _ = train_photos(capfd, "--epochs", "12")
    valid = load(run / "valid.npz")
    assert valid.targets is not None
    assert sorted(valid.ids) == sorted(f"{c}/1-{i}" for c in ("red", "blue") for i in range(6))
    accuracy = float((valid.probs.argmax(1) == valid.targets).mean())
    assert accuracy >= 0.9
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["valid"]["accuracy"] == pytest.approx(accuracy)
    assert metrics["valid"]["n"] == 12
    assert metrics["test"]["n"] == 8
    last = (run / "history.csv").read_text().splitlines()[-1].split(",")
    assert float(last[5]) == pytest.approx(accuracy)


def test_folds_predict_every_row_once(photos: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (run,), _ = train_photos(capfd, "--folds", "3")
    facts = json.loads((run / "run.json").read_text())
    assert facts["kind"] == "folds"
    folds = [Path("runs") / parent["id"] for parent in facts["parents"]]
    assert len(folds) == 3
    valid = load(run / "valid.npz")
    assert len(valid) == 44
    parts = [load(fold / "valid.npz") for fold in folds]
    assert sum(len(part) for part in parts) == 44
    for part in parts:
        rows = {name: valid.probs[i] for i, name in enumerate(valid.ids)}
        assert all((rows[name] == part.probs[i]).all() for i, name in enumerate(part.ids))
    tests: list[Predictions] = [load(fold / "test.npz") for fold in folds]
    mean = np.mean([test.probs for test in tests], axis=0, dtype=np.float64)
    np.testing.assert_allclose(load(run / "test.npz").probs, mean, atol=1e-7)
    assert ens(["combine", "--data", "photos"]) == 0  # the folds' members do not join on their own
    assert capfd.readouterr().out.splitlines()[1].startswith(run.name)


def test_refit_has_no_validation_score(photos: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (refit,), _ = train_photos(capfd, "--full")
    facts = json.loads((refit / "run.json").read_text())
    parent = Path("runs") / facts["parents"][0]["id"]
    assert facts["kind"] == "refit"
    assert facts["data"]["sizes"] == {"train": 44, "test": 8}
    assert not (refit / "valid.npz").exists()
    assert "valid" not in json.loads((refit / "metrics.json").read_text())
    assert load(refit / "test.npz").probs.tolist() != load(parent / "test.npz").probs.tolist()
    history = (refit / "history.csv").read_text().splitlines()
    assert history[1].split(",")[3] == ""
    assert ens(["combine", "--refits", parent.name]) == 0
    out, err = capfd.readouterr()
    assert "before the refit" in err
    created = load(Path("runs") / out.split()[-1] / "test.npz")
    np.testing.assert_allclose(created.probs, load(refit / "test.npz").probs, atol=1e-6)


def test_later_test_set_is_predicted_without_training(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (run,), _ = train_photos(capfd)
    weights = (run / "weights.safetensors").stat().st_mtime_ns
    colour_folders(here / "more", 3, 7)
    (again,), err = train_photos(capfd, "--set", "data.tests={later: ../more}")
    assert again == run
    assert "predicted test-later" in err
    assert len(load(run / "test-later.npz")) == 6
    assert json.loads((run / "metrics.json").read_text())["test-later"]["n"] == 6
    assert (run / "weights.safetensors").stat().st_mtime_ns == weights


def test_choices_on_valid_are_recorded_and_the_best_epoch_kept(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (run,), _ = train_photos(capfd, "--epochs", "6", "--set", "keep=best", "--set", "early_stopping=2")
    facts = json.loads((run / "run.json").read_text())
    assert facts["chosen_on_valid"] == ["early stopping", "best epoch"]
    rows = [line.split(",") for line in (run / "history.csv").read_text().splitlines()[1:]]
    best = min(float(row[3]) for row in rows)
    log_loss = json.loads((run / "metrics.json").read_text())["valid"]["log_loss"]
    assert log_loss == pytest.approx(best, rel=0.05)  # the history is in the training precision
    assert ens(["combine", "--data", "photos"]) == 0
    assert "best epoch" in capfd.readouterr().err


def test_labels_may_be_probabilities(photos: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "valid"):
        rows = [
            f"{path.relative_to('photos')},{red:.1f},{1 - red:.1f}"
            for label, red in (("red", 0.9), ("blue", 0.1))
            for path in sorted(Path("photos", split, label).iterdir())
        ]
        Path("photos", f"{split}.csv").write_text("\n".join(["file,red,blue", *rows]) + "\n")
    (here / "r.yaml").write_text(
        "data: {form: csv, path: photos, train: train.csv, valid: valid.csv, path_column: file,\n"
        "  label_columns: [red, blue], soft_labels: true}\n"
        "members: [{arch: customnet, filters: [4, 8], image_size: 8, batch_size: 8, lr: 0.01, epochs: 8}]\n"
    )
    assert ens(["train", "--recipe", "r.yaml"]) == 0
    run = Path("runs") / capfd.readouterr().out.split()[-1]
    valid = load(run / "valid.npz")
    assert valid.targets is not None
    assert (valid.probs.argmax(1) == valid.targets).mean() > 0.8
    assert valid.probs.max() < 0.99  # soft labels teach doubt


def test_validation_every_third_epoch_and_the_last(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (run,), _ = train_photos(capfd, "--epochs", "4", "--set", "valid_every=3")
    rows = [line.split(",") for line in (run / "history.csv").read_text().splitlines()[1:]]
    assert [bool(row[3]) and bool(row[5]) for row in rows] == [False, False, True, True]
    for keys in (["early_stopping=2"], ["keep=best"]):
        _, err = train_photos(capfd, "--set", "valid_every=2", "--set", *keys, code=2)
        assert "leave valid_every at 1" in err


def test_dry_run_estimates_and_a_budget_is_kept(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ensemble.training.jobs import estimate
    from ensemble.training.jobs.speed_probe import Speed

    # 32 training images in 4 batches, 12 + 8 others: 2 epochs of 64 s with 12 s each, and 20 s of predicting
    monkeypatch.setattr(estimate, "measure_speed", lambda *_: Speed(1.0, 1.0, 1.0, 1.0))
    (here / "r.yaml").write_text(
        "data: {form: folders, path: photos}\n"
        "defaults: {filters: [4, 8], image_size: 8, batch_size: 8, lr: 0.01, epochs: 2}\n"
        "members: [{arch: customnet, seeds: [0, 1, 2]}, {arch: customnet_deep}]\n"
    )
    assert ens(["train", "--recipe", "r.yaml", "--dry-run"]) == 0
    out, err = capfd.readouterr()
    assert [line.split("\t")[1:] for line in out.splitlines()] == [["member", "to train", "2 min"]] * 4
    assert "about 7 min of training and predicting" in err
    assert not list((here / "runs").glob("customnet*"))

    assert ens(["train", "--recipe", "r.yaml", "--budget", "3m", "--json"]) == 0
    out, err = capfd.readouterr()
    assert "members fit into 3 min" in err
    names = [row["run"].rsplit("-", 1)[0] for row in json.loads(out)]
    assert names == ["customnet", "customnet_deep"]  # at half their epochs, 64 s each
    assert "2 of 4 members fit into 3 min, 2 of them with 50 % of the epochs" in err
    # the same command does nothing
    assert ens(["train", "--recipe", "r.yaml", "--budget", "3m", "--json"]) == 0
    out, err = capfd.readouterr()
    assert [row["run"].rsplit("-", 1)[0] for row in json.loads(out)] == names
    assert err.count("is complete") == 2 and "of training and predicting" not in err
    assert ens(["train", "--recipe", "r.yaml", "--budget", "10s", "--seed", "9"]) == 2
    assert "no member fits into the budget" in capfd.readouterr().err


def test_frozen_layers_keep_bits_and_statistics(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from torchvision import models

    torch.manual_seed(0)
    start = models.resnet18(weights=None).state_dict()
    save_file({name: value.contiguous() for name, value in start.items()}, "start.safetensors")
    words = [
        "train",
        "--arch",
        "resnet18",
        "--data",
        "photos",
        "--weights",
        "start.safetensors",
        "--image-size",
        "32",
    ]
    words += ["--batch-size", "8", "--epochs", "2", "--frozen-epochs", "1", "--lr", "0.01"]
    words += ["--set", "rescale_filters=false"]  # which moves weights without training

    def changed(*keys: str) -> set[str]:
        capfd.readouterr()
        assert ens([*words, *(word for key in keys for word in ("--set", key))]) == 0
        state = load_file(Path("runs") / capfd.readouterr().out.strip() / "weights.safetensors")
        body = {name.removeprefix("0."): value for name, value in state.items() if name.startswith("0.")}
        assert set(body) == {name for name in start if not name.startswith("fc.")}
        return {name for name, value in body.items() if not torch.equal(value, start[name])}

    two = changed("unfreeze=2", "freeze_norms=false")
    assert len({name.rsplit(".", 1)[0] for name in two}) == 4  # two convolutions, two norms
    assert any(name.endswith("running_mean") for name in two)
    still = changed("freeze_norms=true")
    assert len(still) == 20 and not any("running" in name for name in still)
    biases = changed("freeze_norms=statistics") - still
    assert len(biases) == 20 and all(name.endswith("bias") for name in biases)
    assert changed() == still | biases
    assert len(changed("freeze_norms=false")) > 80


def test_views_report_their_gain(photos: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (run,), err = train_photos(capfd, "--tta", "dihedral")
    facts = json.loads((run / "run.json").read_text())
    assert facts["tta"]["views"] == 8
    both = facts["tta"]["accuracy"]
    assert both["all_views"] == pytest.approx(json.loads((run / "metrics.json").read_text())["valid"]["accuracy"])
    assert both["one_view"] == pytest.approx(
        float((run / "history.csv").read_text().splitlines()[-1].split(",")[5]), abs=1e-6
    )
    assert f"8 views, validation accuracy {both['one_view']:.4f} -> {both['all_views']:.4f}" in err


def test_filters_are_saved_and_used_for_a_later_test_set(
    photos: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    keys = ["--set", "preprocess=[grey, edges]"]
    (run,), _ = train_photos(capfd, *keys)
    assert "- grey\n- edges\n" in (run / "recipe.yaml").read_text()
    first = load(run / "test.npz")
    colour_folders(here / "more", 3, 7)
    Path("photos/test").rename("kept")
    Path("more").rename("photos/test")
    train_photos(capfd, *keys)
    assert len(load(run / "test.npz").ids) == 6
    Path("photos/test").rename("more")
    Path("kept").rename("photos/test")
    train_photos(capfd, *keys)
    assert (load(run / "test.npz").probs == first.probs).all()
    _, err = train_photos(capfd, "--set", "preprocess=[gray]", code=2)
    assert "unknown preprocessing filter 'gray'; did you mean 'grey'?" in err
