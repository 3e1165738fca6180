"""Which data a bare command means, and test images that have changed since they were predicted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.fake_runs import DIGITS, member
from helpers.photo_runs import commands, output_of, photos_spec, trained_run

from ensemble.core.files import read_json, write_json
from ensemble.core.predictions import Predictions
from ensemble.recipe import text


def test_bare_command_takes_the_data_of_the_newest_run(photo_runs, capsys):
    out, err = output_of(capsys, "combine")
    created = out.splitlines()[-1]
    assert "net0-0" in out and "old0-0" not in out
    assert err.splitlines()[0] == "data: of net1-0, the newest run (photos)"
    out, err = output_of(capsys, "submit", "--json")
    assert json.loads(out)["run"] == created and "the newest run (photos)" in err
    for command in (["report", "--no-explain"], ["compare", "--no-figures"]):
        _, err = output_of(capsys, *command)
        assert f"data: of {created}, the newest run (photos)" in err
    assert "2 runs of other data are left out" in err


def test_recipe_and_option_precede_the_newest_run(photo_runs, capsys):
    (photo_runs / "ens.yaml").write_text("data: digits\n")
    out, err = output_of(capsys, "combine")
    assert "old0-0" in out and "newest run" not in err
    (photo_runs / "ens.yaml").unlink()
    assert "net0-0" in output_of(capsys, "combine", "--data", "photos")[0]


def test_without_runs_the_data_are_the_digits(photo_folder, capsys):
    assert "no complete runs of the built-in digits in" in output_of(capsys, "combine", code=3)[1]
    member(photo_folder / "runs", "old-0", seed=1, data=DIGITS)
    assert "old-0" in output_of(capsys, "combine")[0]


def test_unrelated_import_decides_no_data(photo_runs, capsys):
    ids, probs = np.array(["p", "q"]), np.full((2, 2), 0.5, np.float32)
    item = Predictions(ids, probs, np.array(["x", "y"]), np.array([0, 1]))
    np.savez(photo_runs / "v.npz", ids=item.ids, probs=item.probs, classes=item.classes, targets=item.targets)
    output_of(capsys, "import", "strange", "--valid", "v.npz")
    assert "data: of net1-0" in output_of(capsys, "combine")[1]


def test_settings_of_reading_images_are_kept_after_training(photo_folder, capsys):
    (photo_folder / "photos" / "train" / "cat" / "empty.png").touch()
    trained_run(photo_folder, skip_unreadable=True)
    (photo_folder / "ens.yaml").write_text(text.dump({"data": photos_spec().model_dump(mode="json")}))
    for words in ([], ["--data", "photos"]):
        output_of(capsys, "combine", *words)
        output_of(capsys, "submit", *words)
        output_of(capsys, "report", "--no-explain", *words)
    (photo_folder / "ens.yaml").unlink()
    output_of(capsys, "combine")
    output_of(capsys, "submit")


def test_advice_to_skip_unreadable_images_works(photo_folder, capsys):
    created = trained_run(photo_folder)
    (photo_folder / "photos" / "test" / "empty.png").touch()
    for command in (["combine"], ["submit", created.id], ["submit", created.id, "--data", "photos"]):
        assert "--set data.skip_unreadable=true" in output_of(capsys, *command, code=3)[1]
        _, err = output_of(capsys, *command, "--set", "data.skip_unreadable=true")
    assert "1 test image could not be read and so no row is written for: 'empty'; --fill" in err
    assert "a key of data expected" in output_of(capsys, "combine", "--set", "epochs=3", code=2)[1]


@pytest.mark.parametrize(
    ("fill", "row", "shares"),
    [("uniform", "0.5,0.5", [0.5, 0.5]), ("prior", "0.25,0.75", [0.25, 0.75]), ("dog", "0,1", [0.0, 1.0])],
)
def test_unreadable_image_has_a_row_on_request(photo_folder, capsys, fill, row, shares):
    for i in range(2, 6):
        (photo_folder / "photos" / "valid" / "cat" / f"catv{i}.png").unlink()
    (photo_folder / "photos" / "test" / "t2.png").write_bytes(b"")
    created = trained_run(photo_folder, skip_unreadable=True)
    (photo_folder / "sample.csv").write_text("id,cat,dog\n" + "".join(f"t{i},0,0\n" for i in range(4)))
    sampled = ["submit", created.id, "--sample", "sample.csv", "--out", "a.csv"]
    assert "--fill uniform, --fill prior or --fill CLASS" in output_of(capsys, *sampled, code=3)[1]
    assert not (photo_folder / "a.csv").exists()
    plain = ["submit", created.id, "--format", "kaggle-probs", "--out", "a.csv"]
    assert "no row is written for: 't2'" in output_of(capsys, *plain)[1]
    for words in (sampled, plain):
        _, err = output_of(capsys, *words, "--fill", fill)
        assert f"1 test image not predicted, filled with {fill}" in err and "'t2'" in err
        lines = (photo_folder / "a.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in lines] == ["id", "t0", "t1", "t2", "t3"]
        assert lines[3] == f"t2,{row}"
        facts = read_json(photo_folder / "a.csv.json")["filled"]
        assert (facts["with"], facts["ids"], facts["rows"], facts["probs"]) == (fill, ["t2"], 1, shares)
        assert ("validation rows of net-0" in facts.get("from", "")) == (fill == "prior")
    assert "did you mean 'prior'" in output_of(capsys, *plain, "--fill", "prio", code=2)[1]


def test_fill_is_for_a_few_rows_only(photo_folder, capsys):
    created = trained_run(photo_folder)
    (photo_folder / "sample.csv").write_text("id,label\n" + "".join(f"x{i},cat\n" for i in range(4)))
    err = output_of(capsys, "submit", created.id, "--sample", "sample.csv", "--fill", "prior", code=3)[1]
    assert "no prediction for: 'x0'" in err and "--fill" not in err
    output_of(capsys, "submit", created.id, "--fill", "prior")
    assert "filled" not in read_json(photo_folder / "submissions" / "net-0.csv.json")


def test_unfinished_run_names_its_own_command(photo_folder, capsys):
    created = trained_run(photo_folder)
    (created.path / "metrics.json").unlink()
    for command in (["submit", created.id], ["combine", created.id]):
        assert commands(output_of(capsys, *command, code=3)[1]) == ["ens train --recipe runs/net-0/recipe.yaml"]
    write_json(created.path / "failed.json", {})
    assert commands(output_of(capsys, "submit", created.id, code=3)[1]) == [
        "ens train --recipe runs/net-0/recipe.yaml --retry"
    ]


def test_data_set_without_runs_is_named(photo_runs, capsys):
    (photo_runs / "other.yaml").write_text("data: {form: folders, path: photos, valid: 0.5}\n")
    for words in (["combine"], ["submit"]):
        assert (
            "of other.yaml in runs; type `ens train`"
            in output_of(capsys, *words, "--recipe", "other.yaml", code=3)[1]
        )
