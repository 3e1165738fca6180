"""Which data a bare command means, and predictions of test images that are not those that are there now."""

import json
import os
import re
import shlex

import numpy as np
import pytest
from fake_runs import contents, member, run
from PIL import Image

from ensemble.cli import run as ens
from ensemble.core.files import read_json, write_json
from ensemble.core.predictions import Predictions
from ensemble.data.digits import DIGITS_FINGERPRINT
from ensemble.data.load import load_dataset
from ensemble.recipe import text
from ensemble.recipe.schema import DataSpec, Recipe
from ensemble.runs.run import Run

DIGITS = {"form": "digits", "fingerprint": DIGITS_FINGERPRINT, "tests": {}}


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def draw(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 255 - value, 7)).save(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the images `photos` and no run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENS_RUNS", raising=False)
    for c, name in enumerate(("cat", "dog")):
        for i in range(6):
            draw(tmp_path / "photos" / "train" / name / f"{name}{i}.png", 10 * i + 100 * c)
            draw(tmp_path / "photos" / "valid" / name / f"{name}v{i}.png", 10 * i + 100 * c + 5)
    for i in range(4):
        draw(tmp_path / "photos" / "test" / f"t{i}.png", 200 + i)
    return tmp_path


def spec_of(**keys):
    return DataSpec(form="folders", path="photos", valid="valid", test="test", **keys)


def trained(here, name="net-0", seed=0, created="2026-02-01T00:00:00+00:00", **keys):
    """A run as training would leave it, without weights: it has predicted what is in `photos`."""
    spec = spec_of(**keys)
    dataset = load_dataset(spec, here / "runs")
    random, splits = np.random.default_rng(seed), {}
    for split in ("valid", "test"):
        items = dataset.splits[split]
        probs = random.dirichlet(np.ones(2), len(items)).astype(np.float32)
        targets = items.targets if split == "valid" else None
        splits[split] = Predictions(items.ids, probs, dataset.classes, targets)
    data = {"form": "folders", "fingerprint": dataset.fingerprint, "tests": dict(dataset.test_fingerprints)}
    result = run(here / "runs", name, splits, data=data, created=created)
    recipe = Recipe(arch="resnet18", data=spec).model_dump(mode="json")
    (result.path / "recipe.yaml").write_text(text.dump(recipe), encoding="utf-8")
    return result


def said(capsys, *words, code=0):
    """(stdout, stderr) of a command that ends with `code`."""
    ended = ens(list(words))
    out, err = capsys.readouterr()
    assert ended == code, err
    return out, err


@pytest.fixture
def two(here):
    """Two members of `photos`, and two older ones of the digits."""
    for i in range(2):
        member(here / "runs", f"old{i}-0", seed=i, data=DIGITS)
        trained(here, f"net{i}-0", seed=i)
    return here


def test_bare_commands_take_the_data_of_the_newest_run_and_say_so(two, capsys):
    out, err = said(capsys, "combine")
    created = out.splitlines()[-1]
    assert "net0-0" in out and "old0-0" not in out
    assert err.splitlines()[0] == "data: of net1-0, the newest run (photos)"
    out, err = said(capsys, "submit", "--json")
    assert json.loads(out)["run"] == created and "the newest run (photos)" in err
    for command in (["report", "--no-explain"], ["compare", "--no-figures"]):
        _, err = said(capsys, *command)
        assert f"data: of {created}, the newest run (photos)" in err
    assert "2 runs of other data are left out" in err


def test_a_recipe_and_an_option_go_before_the_newest_run(two, capsys):
    (two / "ens.yaml").write_text("data: digits\n")
    out, err = said(capsys, "combine")
    assert "old0-0" in out and "newest run" not in err
    (two / "ens.yaml").unlink()
    assert "net0-0" in said(capsys, "combine", "--data", "photos")[0]


def test_without_any_run_it_is_the_digits(here, capsys):
    assert "no complete runs of the built-in digits in" in said(capsys, "combine", code=3)[1]
    member(here / "runs", "old-0", seed=1, data=DIGITS)
    assert "old-0" in said(capsys, "combine")[0]


def test_an_import_that_belongs_to_nothing_decides_nothing(two, capsys):
    ids, probs = np.array(["p", "q"]), np.full((2, 2), 0.5, np.float32)
    one = Predictions(ids, probs, np.array(["x", "y"]), np.array([0, 1]))
    np.savez(two / "v.npz", ids=one.ids, probs=one.probs, classes=one.classes, targets=one.targets)
    said(capsys, "import", "strange", "--valid", "v.npz")
    assert "data: of net1-0" in said(capsys, "combine")[1]


def changed_test(here):
    """Every image of the test is another, and there is one more."""
    for i in range(5):
        draw(here / "photos" / "test" / f"t{i}.png", 50 + i)


def commands(err):
    """What a message says to type."""
    return [part for typed in re.findall(r"`([^`]+)`", err) for part in typed.split(" && ")]


@pytest.mark.parametrize("added", [True, False])
def test_predictions_of_other_test_images_are_refused_with_what_to_type(two, capsys, added):
    created = said(capsys, "combine")[0].splitlines()[-1]
    changed_test(two)
    if not added:
        (two / "photos" / "test" / "t4.png").unlink()
    before = contents(two / "runs" / created)
    for words in (["combine"], ["combine", "net0", "net1"], ["submit"], ["submit", "net0"], ["submit", created]):
        out, err = said(capsys, *words, code=3)
        assert out == "" and ("'t4'" in err) == added
        assert ("the same ids, other content" in err) == (not added)
        assert "ens train --recipe runs/net0-0/recipe.yaml" in commands(err)
    assert not (two / "submissions").exists()
    assert contents(two / "runs" / created) == before
    again = commands(said(capsys, "submit", code=3)[1])[-1]
    assert again.startswith("ens combine") and again.endswith("net0-0 net1-0")
    assert "are not of the images that are there now" in said(capsys, "report", "--no-explain")[0]
    for i in range(2):  # as `ens train` again does with a complete run
        trained(two, f"net{i}-0", seed=i)
    _, err = said(capsys, "submit", code=3)
    assert commands(err) == [again]
    assert said(capsys, *shlex.split(again)[1:])[0].splitlines()[-1] == created
    said(capsys, "submit")
    assert len((two / "submissions" / f"{created}.csv").read_text().splitlines()) == (6 if added else 5)


def test_the_commands_hold_for_another_runs_folder_and_data_elsewhere(two, capsys):
    (two / "runs").rename(two / "my runs")
    (two / "photos").rename(two / "moved")
    (two / "moved" / "test" / "t0.png").unlink()
    err = said(capsys, "--runs", "my runs", "submit", "--data", "moved", "net0", code=3)[1]
    assert commands(err) == ["ens --runs 'my runs' train --recipe 'my runs/net0-0/recipe.yaml' --data moved"]


def test_without_the_images_everything_goes_on_as_before(two, capsys):
    created = said(capsys, "combine")[0].splitlines()[-1]
    (two / "ens.yaml").write_text(text.dump({"data": spec_of().model_dump(mode="json")}))
    (two / "photos").rename(two / "gone")
    for _ in range(2):
        out, err = said(capsys, "combine")
        assert out.splitlines()[-1] == created and "not compared" in err
        assert len(err.splitlines()) <= 3
        assert created in said(capsys, "submit")[0]
        (two / "ens.yaml").unlink(missing_ok=True)


def test_an_import_of_another_test_is_to_be_imported_again(two, capsys):
    one = Run(two / "runs" / "net0-0")
    for split in ("valid", "test"):
        like = one.predictions(split)
        probs = np.random.default_rng(9).dirichlet(np.ones(2), len(like)).astype(np.float32)
        np.savez(two / f"{split}.npz", ids=like.ids, probs=probs, classes=like.classes)
    created = said(capsys, "import", "vit", "--valid", "valid.npz", "--test", "test.npz")[0].strip()
    changed_test(two)
    for i in range(2):
        trained(two, f"net{i}-0", seed=5 + i)
    err = said(capsys, "combine", code=3)[1]
    assert created in err and commands(err) == ["ens import vit --valid valid.npz --test test.npz"]


def test_refits_answer_for_the_test_that_they_predicted(here, capsys):
    one = trained(here)
    changed_test(here)
    new = trained(here, "other-0", seed=3)
    facts = read_json(one.path / "run.json")
    refit = run(
        here / "runs",
        "full-0",
        {"test": new.predictions("test")},
        kind="refit",
        parents=[one],
        data={**facts["data"], "tests": new.record.values["data"]["tests"]},
    )
    created = said(capsys, "combine", "net-0", "--refits")[0].splitlines()[-1]
    assert read_json(here / "runs" / created / "run.json")["data"]["tests"] == refit.record.values["data"]["tests"]
    said(capsys, "submit", created)


def test_how_images_were_read_in_training_holds_for_what_comes_after(here, capsys):
    (here / "photos" / "train" / "cat" / "empty.png").touch()
    trained(here, skip_unreadable=True)
    (here / "ens.yaml").write_text(text.dump({"data": spec_of().model_dump(mode="json")}))
    for words in ([], ["--data", "photos"]):
        said(capsys, "combine", *words)
        said(capsys, "submit", *words)
        said(capsys, "report", "--no-explain", *words)
    (here / "ens.yaml").unlink()
    said(capsys, "combine")
    said(capsys, "submit")


def test_the_advice_to_skip_can_be_followed(here, capsys):
    created = trained(here)
    (here / "photos" / "test" / "empty.png").touch()
    for command in (["combine"], ["submit", created.id], ["submit", created.id, "--data", "photos"]):
        assert "--set data.skip_unreadable=true" in said(capsys, *command, code=3)[1]
        _, err = said(capsys, *command, "--set", "data.skip_unreadable=true")
    assert "1 test image could not be read and so no row is written for: 'empty'; --fill" in err
    assert "a key of data expected" in said(capsys, "combine", "--set", "epochs=3", code=2)[1]


@pytest.mark.parametrize(
    ("fill", "row", "shares"),
    [("uniform", "0.5,0.5", [0.5, 0.5]), ("prior", "0.25,0.75", [0.25, 0.75]), ("dog", "0,1", [0.0, 1.0])],
)
def test_an_image_that_cannot_be_read_has_a_row_where_that_is_asked_for(here, capsys, fill, row, shares):
    for i in range(2, 6):
        (here / "photos" / "valid" / "cat" / f"catv{i}.png").unlink()
    (here / "photos" / "test" / "t2.png").write_bytes(b"")
    created = trained(here, skip_unreadable=True)
    (here / "sample.csv").write_text("id,cat,dog\n" + "".join(f"t{i},0,0\n" for i in range(4)))
    sampled = ["submit", created.id, "--sample", "sample.csv", "--out", "a.csv"]
    assert "--fill uniform, --fill prior or --fill CLASS" in said(capsys, *sampled, code=3)[1]
    assert not (here / "a.csv").exists()
    plain = ["submit", created.id, "--format", "kaggle-probs", "--out", "a.csv"]
    assert "no row is written for: 't2'" in said(capsys, *plain)[1]
    for words in (sampled, plain):
        _, err = said(capsys, *words, "--fill", fill)
        assert f"1 test image not predicted, filled with {fill}" in err and "'t2'" in err
        lines = (here / "a.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in lines] == ["id", "t0", "t1", "t2", "t3"]
        assert lines[3] == f"t2,{row}"
        facts = read_json(here / "a.csv.json")["filled"]
        assert (facts["with"], facts["ids"], facts["rows"], facts["probs"]) == (fill, ["t2"], 1, shares)
        assert ("validation rows of net-0" in facts.get("from", "")) == (fill == "prior")
    assert "did you mean 'prior'" in said(capsys, *plain, "--fill", "prio", code=2)[1]


def test_fill_is_for_a_few_rows_and_not_for_another_sample(here, capsys):
    created = trained(here)
    (here / "sample.csv").write_text("id,label\n" + "".join(f"x{i},cat\n" for i in range(4)))
    err = said(capsys, "submit", created.id, "--sample", "sample.csv", "--fill", "prior", code=3)[1]
    assert "no prediction for: 'x0'" in err and "--fill" not in err
    said(capsys, "submit", created.id, "--fill", "prior")
    assert "filled" not in read_json(here / "submissions" / "net-0.csv.json")


def test_what_an_unfinished_run_needs_is_its_own_command(here, capsys):
    created = trained(here)
    (created.path / "metrics.json").unlink()
    for command in (["submit", created.id], ["combine", created.id]):
        assert commands(said(capsys, *command, code=3)[1]) == ["ens train --recipe runs/net-0/recipe.yaml"]
    write_json(created.path / "failed.json", {})
    assert commands(said(capsys, "submit", created.id, code=3)[1]) == [
        "ens train --recipe runs/net-0/recipe.yaml --retry"
    ]


@pytest.mark.slow
def test_what_is_advised_after_the_test_changed_works(here, capsys):
    """Trained for real: complete runs predict the new images, and the ensemble is made anew."""
    words = ["--arch", "customnet", "--weights", "none", "--epochs", "1", "--image-size", "32", "--batch-size", "4"]
    said(capsys, "train", "--data", "photos", *words)
    created = said(capsys, "combine")[0].splitlines()[-1]
    changed_test(here)
    (here / "photos" / "test" / "empty.png").touch()
    assert "data.skip_unreadable" in said(capsys, "combine", code=3)[1]
    err = said(capsys, "submit", "--set", "data.skip_unreadable=true", code=3)[1]
    train, combine = commands(err)
    assert "is complete; predicted test" in said(capsys, *shlex.split(train)[1:])[1]
    assert said(capsys, *shlex.split(combine)[1:])[0].splitlines()[-1] == created
    _, err = said(capsys, "submit", "--fill", "prior")  # and the choice is kept with the run
    assert "'empty'" in err
    lines = (here / "submissions" / f"{created}.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["empty", "t0", "t1", "t2", "t3", "t4"]


def test_members_of_what_the_folder_held_before_are_named(here, capsys):
    """Else a second member would be combined alone, without a word on the first."""
    trained(here, "net-00000001")
    draw(here / "photos" / "train" / "cat" / "cat0.png", 250)
    trained(here, "other-00000002", seed=1, created="2026-03-01T00:00:00+00:00")
    member(here / "runs", "old-0", seed=2, data=DIGITS)
    _, err = said(capsys, "combine")
    assert "left out: 'net-00000001', trained before the images or labels changed; `ens train` trains" in err
    _, err = said(capsys, "combine", "net-00000001")
    assert "left out" not in err


def test_the_test_tables_way_with_ids_is_told_where_no_sample_says_another(here, capsys):
    """Kaggle takes no other header and no other spelling of the ids than its own."""
    table = here / "photos" / "train.csv"
    rows = [f"train/{name}/{name}{i}.png,{name}" for name in ("cat", "dog") for i in range(6)]
    table.write_text("\n".join(["image_id,label", *rows]) + "\n")
    tests = table.with_name("test.csv")
    tests.write_text("image_id\n" + "".join(f"test/t{i}.png\n" for i in range(4)))
    spec = DataSpec(form="csv", path="photos", train="train.csv", valid=0.5, test="test.csv", images=".")
    dataset = load_dataset(spec, here / "runs")
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
    created = run(here / "runs", "net-0", splits, data=data)
    recipe = Recipe(arch="resnet18", data=spec).model_dump(mode="json")
    (created.path / "recipe.yaml").write_text(text.dump(recipe), encoding="utf-8")
    err = said(capsys, "submit", "net-0", "--out", "a.csv")[1]
    assert "test.csv calls the ids 'image_id' (here 'id') and spells them 'test/t0.png' (here 'test/t0')" in err
    (here / "sample.csv").write_text("image_id,label\n" + "".join(f"test/t{i}.png,cat\n" for i in range(4)))
    assert "calls the ids" not in said(capsys, "submit", "net-0", "--out", "b.csv", "--sample", "sample.csv")[1]
    tests.write_text("image_id\n" + "".join(f"test/t{i}\n" for i in range(4)))
    err = said(capsys, "submit", "net-0", "--out", "a.csv")[1]
    assert "calls the ids 'image_id' (here 'id'): where" in err and "submit: {id_column: image_id}" in err
    (here / "r.yaml").write_text(
        text.dump({"data": spec.model_dump(mode="json"), "submit": {"id_column": "image_id"}})
    )
    assert "calls the ids" not in said(capsys, "submit", "net-0", "--recipe", "r.yaml", "--out", "a.csv")[1]


def test_a_data_set_without_runs_is_named(two, capsys):
    (two / "other.yaml").write_text("data: {form: folders, path: photos, valid: 0.5}\n")
    for words in (["combine"], ["submit"]):
        assert (
            "of other.yaml in runs; type `ens train`" in said(capsys, *words, "--recipe", "other.yaml", code=3)[1]
        )
