"""Pipelines and explanations load their data once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.commands import as_json, printed_json
from PIL import Image

import ensemble as ens
from ensemble.cli import run as command


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the data sets that are loaded, in whatever module."""
    from ensemble.data import load
    from ensemble.report.sections import mistakes, scope

    paths: list[str] = []
    original = load.load_dataset

    def counted(spec: Any, *args: Any, **options: Any) -> Any:
        paths.append(spec.path)
        return original(spec, *args, **options)

    for module in (load, mistakes, scope):
        monkeypatch.setattr(module, "load_dataset", counted)
    return paths


@pytest.mark.slow
def test_first_training_decodes_each_image_once(photos: Path, decodes: list[int]) -> None:
    keys = {"image_size": 16, "epochs": 1, "lr": 0.01, "weights": "none", "batch_size": 4}
    project = ens.Project("photos", listener=ens.Listener(), filters=[4, 8], dense=[8], **keys)
    project.train("customnet")
    assert len(decodes) == sum(1 for _ in Path("photos").rglob("*.png"))


@pytest.mark.slow
def test_pipeline_loads_the_data_once(photos: Path, loads: list[str]) -> None:
    recipe = {
        "data": {"form": "folders", "path": "photos", "valid": "valid", "test": "test"},
        "defaults": {"weights": "none", "image_size": 16, "epochs": 1, "lr": 0.01, "filters": [4, 8], "dense": [8]},
        "members": [{"arch": "customnet", "seeds": [0, 1]}],
        "combine": {"refits": True},
    }
    created = ens.Project(recipe, listener=ens.Listener(), batch_size=4).pipeline()
    assert loads == ["photos"]
    assert len(created.members) == 2
    assert created.refits is not None and len(created.refits) == 2
    assert created.submission is not None and created.submission.path.is_file()
    assert created.report is not None and created.report.is_file()
    assert len(created.leaderboard) == 6  # two members, two refits, the ensemble before and after these


@pytest.mark.slow
def test_explanation_loads_the_data_once_and_predictions_take_any_image(
    photos: Path, loads: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    keys = {"image_size": 16, "epochs": 1, "lr": 0.01, "weights": "none", "batch_size": 4}
    project = ens.Project("photos", listener=ens.Listener(), filters=[4, 8], dense=[8], **keys)
    (model,) = project.train("customnet")
    loads.clear()
    names = [f"{name}/0-{number}" for name in ("red", "blue") for number in range(3)]
    explained = ens.Project("photos", listener=ens.Listener()).run(model.id).explain(names)
    assert len(loads) == 1
    assert explained.picture.read_bytes()[:4] == b"\x89PNG"
    assert printed_json(capfd, "explain", model.id, *names) == as_json(explained.facts())
    paths = [Path(f"photos/test/red/2-{number}.png") for number in range(3)]
    assert (
        model.run.record.values["parameters"] < 2_000
    )  # the project's own keys, filters among them, are the member's
    assert model.predict([paths[0], paths[0]]).names == (str(paths[0]), str(paths[0]))
    by_path = model.predict(paths, uncertain=True)
    pictures = [Image.open(path) for path in paths]
    by_pixels = model.predict([pictures[0], *(np.asarray(picture) for picture in pictures[1:])])
    assert np.array_equal(by_path.probs, by_pixels.probs)
    assert by_path.entropy is not None and len(by_path) == 3
    assert list(by_path.frame()["label"]) == by_path.labels
    assert capfd.readouterr().err == ""
    command(["predict", model.id, *map(str, paths)])
    rows = capfd.readouterr().out.splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == by_path.labels
