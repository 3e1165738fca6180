"""Runs whose data have changed since: what is refused, and what is advised."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from helpers.fake_runs import DIGITS, contents, member, run
from helpers.photo_runs import change_test, commands, output_of, photos_spec, trained_run
from helpers.photos import flat_image

from ensemble.core.files import read_json
from ensemble.core.predictions import Predictions
from ensemble.data.load import load_dataset
from ensemble.recipe import text
from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.schema import Recipe
from ensemble.runs.run import Run


@pytest.mark.parametrize("added", [True, False])
def test_predictions_of_other_test_images_are_refused(photo_runs, capsys, added):
    created = output_of(capsys, "combine")[0].splitlines()[-1]
    change_test(photo_runs)
    if not added:
        (photo_runs / "photos" / "test" / "t4.png").unlink()
    before = contents(photo_runs / "runs" / created)
    for words in (["combine"], ["combine", "net0", "net1"], ["submit"], ["submit", "net0"], ["submit", created]):
        out, err = output_of(capsys, *words, code=3)
        assert out == "" and ("'t4'" in err) == added
        assert ("the same ids, other content" in err) == (not added)
        assert "ens train --recipe runs/net0-0/recipe.yaml" in commands(err)
    assert not (photo_runs / "submissions").exists()
    assert contents(photo_runs / "runs" / created) == before
    again = commands(output_of(capsys, "submit", code=3)[1])[-1]
    assert again.startswith("ens combine") and again.endswith("net0-0 net1-0")
    assert "are not of the images that are there now" in output_of(capsys, "report", "--no-explain")[0]
    for i in range(2):  # as `ens train` again does with a complete run
        trained_run(photo_runs, f"net{i}-0", seed=i)
    _, err = output_of(capsys, "submit", code=3)
    assert commands(err) == [again]
    assert output_of(capsys, *shlex.split(again)[1:])[0].splitlines()[-1] == created
    output_of(capsys, "submit")
    assert len((photo_runs / "submissions" / f"{created}.csv").read_text().splitlines()) == (6 if added else 5)


def test_advised_commands_hold_for_other_folders(photo_runs, capsys):
    (photo_runs / "runs").rename(photo_runs / "my runs")
    (photo_runs / "photos").rename(photo_runs / "moved")
    (photo_runs / "moved" / "test" / "t0.png").unlink()
    err = output_of(capsys, "--runs", "my runs", "submit", "--data", "moved", "net0", code=3)[1]
    assert commands(err) == ["ens --runs 'my runs' train --recipe 'my runs/net0-0/recipe.yaml' --data moved"]


def test_missing_images_change_nothing(photo_runs, capsys):
    created = output_of(capsys, "combine")[0].splitlines()[-1]
    (photo_runs / "ens.yaml").write_text(text.dump({"data": photos_spec().model_dump(mode="json")}))
    (photo_runs / "photos").rename(photo_runs / "gone")
    for _ in range(2):
        out, err = output_of(capsys, "combine")
        assert out.splitlines()[-1] == created and "not compared" in err
        assert len(err.splitlines()) <= 3
        assert created in output_of(capsys, "submit")[0]
        (photo_runs / "ens.yaml").unlink(missing_ok=True)


def test_import_of_another_test_is_to_be_repeated(photo_runs, capsys):
    item = Run(photo_runs / "runs" / "net0-0")
    for split in ("valid", "test"):
        like = item.predictions(split)
        probs = np.random.default_rng(9).dirichlet(np.ones(2), len(like)).astype(np.float32)
        np.savez(photo_runs / f"{split}.npz", ids=like.ids, probs=probs, classes=like.classes)
    created = output_of(capsys, "import", "vit", "--valid", "valid.npz", "--test", "test.npz")[0].strip()
    change_test(photo_runs)
    for i in range(2):
        trained_run(photo_runs, f"net{i}-0", seed=5 + i)
    err = output_of(capsys, "combine", code=3)[1]
    assert created in err and commands(err) == ["ens import vit --valid valid.npz --test test.npz"]


def test_refits_submit_the_test_that_they_predicted(photo_folder, capsys):
    item = trained_run(photo_folder)
    change_test(photo_folder)
    new = trained_run(photo_folder, "other-0", seed=3)
    facts = read_json(item.path / "run.json")
    refit = run(
        photo_folder / "runs",
        "full-0",
        {"test": new.predictions("test")},
        kind="refit",
        parents=[item],
        data={**facts["data"], "tests": new.record.values["data"]["tests"]},
    )
    created = output_of(capsys, "combine", "net-0", "--refits")[0].splitlines()[-1]
    assert (
        read_json(photo_folder / "runs" / created / "run.json")["data"]["tests"]
        == refit.record.values["data"]["tests"]
    )
    output_of(capsys, "submit", created)


@pytest.mark.slow
def test_advice_after_a_changed_test_works(photo_folder, capsys):
    """Trained for real: complete runs predict the new images, and the ensemble is made anew."""
    words = ["--arch", "customnet", "--weights", "none", "--epochs", "1", "--image-size", "32", "--batch-size", "4"]
    output_of(capsys, "train", "--data", "photos", *words)
    created = output_of(capsys, "combine")[0].splitlines()[-1]
    change_test(photo_folder)
    (photo_folder / "photos" / "test" / "empty.png").touch()
    assert "data.skip_unreadable" in output_of(capsys, "combine", code=3)[1]
    err = output_of(capsys, "submit", "--set", "data.skip_unreadable=true", code=3)[1]
    train, combine = commands(err)
    assert "is complete; predicted test" in output_of(capsys, *shlex.split(train)[1:])[1]
    assert output_of(capsys, *shlex.split(combine)[1:])[0].splitlines()[-1] == created
    _, err = output_of(capsys, "submit", "--fill", "prior")  # and the choice is kept with the run
    assert "'empty'" in err
    lines = (photo_folder / "submissions" / f"{created}.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["empty", "t0", "t1", "t2", "t3", "t4"]


def test_members_of_earlier_data_are_named(photo_folder, capsys):
    """Else a second member would be combined alone, without a word on the first."""
    trained_run(photo_folder, "net-00000001")
    flat_image(photo_folder / "photos" / "train" / "cat" / "cat0.png", 250, 8)
    trained_run(photo_folder, "other-00000002", seed=1, created="2026-03-01T00:00:00+00:00")
    member(photo_folder / "runs", "old-0", seed=2, data=DIGITS)
    _, err = output_of(capsys, "combine")
    assert "left out: 'net-00000001', trained before the images or labels changed; `ens train` trains" in err
    _, err = output_of(capsys, "combine", "net-00000001")
    assert "left out" not in err


def test_ids_of_the_test_table_are_used_without_a_sample(photo_folder, capsys):
    """Kaggle takes no other header and no other spelling of the ids than its own."""
    table = photo_folder / "photos" / "train.csv"
    rows = [f"train/{name}/{name}{i}.png,{name}" for name in ("cat", "dog") for i in range(6)]
    table.write_text("\n".join(["image_id,label", *rows]) + "\n")
    tests = table.with_name("test.csv")
    tests.write_text("image_id\n" + "".join(f"test/t{i}.png\n" for i in range(4)))
    spec = DataSpec(form="csv", path="photos", train="train.csv", valid=0.5, test="test.csv", images=".")
    dataset = load_dataset(spec, photo_folder / "runs")
    ids = {split: dataset.splits[split].ids for split in ("valid", "test")}
    probs = {split: np.random.default_rng(0).dirichlet(np.ones(2), len(ids[split])) for split in ids}
    splits = {
        split: Predictions(
            ids[split],
            probs[split].astype(np.float32),
            dataset.classes,
            dataset.splits["valid"].targets if split == "valid" else None,
        )
        for split in ids
    }
    data = {"form": "csv", "fingerprint": dataset.fingerprint, "tests": dict(dataset.test_fingerprints)}
    created = run(photo_folder / "runs", "net-0", splits, data=data)
    recipe = Recipe(arch="resnet18", data=spec).model_dump(mode="json")
    (created.path / "recipe.yaml").write_text(text.dump(recipe), encoding="utf-8")
    err = output_of(capsys, "submit", "net-0", "--out", "a.csv")[1]
    assert "test.csv calls the ids 'image_id' (here 'id') and spells them 'test/t0.png' (here 'test/t0')" in err
    (photo_folder / "sample.csv").write_text("image_id,label\n" + "".join(f"test/t{i}.png,cat\n" for i in range(4)))
    assert (
        "calls the ids" not in output_of(capsys, "submit", "net-0", "--out", "b.csv", "--sample", "sample.csv")[1]
    )
    tests.write_text("image_id\n" + "".join(f"test/t{i}\n" for i in range(4)))
    err = output_of(capsys, "submit", "net-0", "--out", "a.csv")[1]
    assert "calls the ids 'image_id' (here 'id'): where" in err and "submit: {id_column: image_id}" in err
    (photo_folder / "r.yaml").write_text(
        text.dump({"data": spec.model_dump(mode="json"), "submit": {"id_column": "image_id"}})
    )
    assert "calls the ids" not in output_of(capsys, "submit", "net-0", "--recipe", "r.yaml", "--out", "a.csv")[1]
