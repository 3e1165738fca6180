"""`ens predict` with networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_runs import CLASSES, predictions
from helpers.fake_runs import run as write
from helpers.network_runs import many_kinds, network_run, picture
from helpers.rows import csv_rows
from PIL import Image

from ensemble.cli import run as ens
from ensemble.combine.ensembler import combine
from ensemble.combine.predicting_members import predicting_members
from ensemble.core.errors import MismatchedRuns
from ensemble.core.predictions import load
from ensemble.metrics.classification import disagreement
from ensemble.runs.run import Run


@pytest.mark.slow
def test_predict_many_kinds_of_images(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Members of other sizes, views, filters and class orders; what cannot be read is listed."""
    from ensemble.data.images import read_image
    from ensemble.inference.model import load_network

    runs = [
        network_run(here / "runs", "one-00000001", 1, tta="flips", resize="pad"),
        network_run(here / "runs", "two-00000002", 2, image_size=20, preprocess=("smooth", "grey")),
        network_run(here / "runs", "three-00000003", 3, classes=CLASSES[::-1], tta="crops"),
    ]
    created = combine(runs, folder=here / "runs", rule="convex")
    paths = many_kinds(here / "photos")
    (here / "photos" / "broken.jpg").write_bytes(b"\xff\xd8 no")
    assert ens(["predict", created.run_id, "photos", "photos/gone.png", "--uncertain", "--format", "jsonl"]) == 0
    out, err = capfd.readouterr()
    output = {entry["image"]: entry for entry in map(json.loads, out.splitlines())}
    assert set(output) == {path.relative_to(here).as_posix() for path in paths}
    assert "broken.jpg: " in err and "gone.png: no such file" in err and "16 of 18 images" in err
    assert "split conformal" in err

    import torch

    from ensemble.inference.forward import predict

    trained = [load_network(run, torch.device("cpu")) for run in runs]
    result = predicting_members(created.run)
    for path in paths:
        members = []
        for run, item in zip(runs, trained, strict=True):
            square = item.square.of(read_image(path, max_pixels=10**6, background=None))
            batch = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]
            probs, _ = predict(
                item.network,
                lambda rows, x=batch: x,
                np.arange(1),
                mean=item.mean,
                std=item.std,
                tta=item.recipe.tta,
            )
            members.append(probs[:, [run.record.values["classes"].index(name) for name in result.classes]])
        by_id = {run.id: probs for run, probs in zip(runs, members, strict=True)}
        stacked = np.stack([by_id[item.run.id] for item in result.members])
        expected = result.combined(stacked)[0]
        entry = output[path.relative_to(here).as_posix()]
        assert list(entry["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert entry["label"] == result.classes[int(expected.argmax())]
        assert entry["disagreement"] == pytest.approx(float(disagreement(stacked, result.weights)[0]), abs=1e-5)
    assert len({entry["label"] for entry in output.values()}) > 1


@pytest.mark.slow
def test_predict_decodes_each_image_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.inference import model

    opened: list[str] = []
    read = model.read_image
    monkeypatch.setattr(model, "read_image", lambda path, **keys: [opened.append(path.name), read(path, **keys)][1])
    runs = [network_run(here / "runs", f"net{i}-0000000{i}", i, image_size=12 + 4 * i) for i in (1, 2, 3)]
    created = combine(runs, folder=here / "runs")
    for i in range(5):
        picture(i).save(here / f"{i}.png")
    assert ens(["predict", created.run_id, "*.png", "--out", "said.csv", "--top", "1"]) == 0
    assert sorted(opened) == [f"{i}.png" for i in range(5)]
    output = csv_rows((here / "said.csv").read_text())
    assert [row["image"] for row in output] == [f"{i}.png" for i in range(5)]
    assert set(output[0]) == {"image", "label_1", "probability_1"}


@pytest.mark.slow
def test_folds_predict_by_their_mean(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folds = [network_run(here / "runs", f"net-fold{i}-0000000{i}", i, fold=i) for i in (1, 2)]
    whole = write(here / "runs", "net-00000009", {"valid": predictions(60, 1)}, kind="folds", parents=folds)
    picture(0).save(here / "x.png")

    def output(name: str) -> np.ndarray:
        assert ens(["predict", name, "x.png"]) == 0
        (row,) = csv_rows(capfd.readouterr().out)
        return np.array([float(row[name]) for name in CLASSES])

    assert output(whole.id) == pytest.approx((output(folds[0].id) + output(folds[1].id)) / 2, abs=1e-6)
    other = network_run(here / "runs", "other-00000003", 3)
    created = combine([whole, other], folder=here / "runs", rule="uniform")
    assert output(created.run_id) == pytest.approx((output(whole.id) + output(other.id)) / 2, abs=1e-6)


@pytest.mark.slow
def test_predict_errors_leave_no_file(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plain = network_run(here / "runs", "plain-00000001", 1)
    white = network_run(here / "runs", "white-00000002", 2, data={"background": (255, 255, 255)})
    created = combine([plain, white], folder=here / "runs")
    picture(0).save(here / "x.png")
    clear = picture(0).convert("RGBA")
    clear.putalpha(0)
    clear.save(here / "clear.png")
    assert ens(["predict", created.run_id, "x.png"]) == MismatchedRuns.exit_code
    assert "data.background" in capfd.readouterr().err
    assert ens(["predict", plain.id, "clear.png", "--out", "said.csv"]) == 3
    assert "transparent" in capfd.readouterr().err and not (here / "said.csv").exists()
    assert ens(["predict", white.id, "clear.png"]) == 0
    assert ens(["predict", plain.id, "x.png", "--coverage", "2"]) == 2
    (plain.path / "weights.safetensors").write_bytes(b"other")
    assert ens(["predict", plain.id, "x.png"]) != 0
    assert ens(["predict", "nobody", "x.png"]) == 3


@pytest.mark.slow
def test_files_get_the_stored_predictions(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    random = np.random.default_rng(0)
    for split, each in (("train", 16), ("valid", 6), ("test", 5)):
        for name, columns in (("left", slice(2, 12)), ("right", slice(20, 30))):
            folder = here / "photos" / split / ("" if split == "test" else name)
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(each):
                image = picture(int(random.integers(999)), 36, 32)
                pixels = np.asarray(image) // 2
                pixels[8:20, columns] += 100
                Image.fromarray(pixels).save(folder / f"{split} {name}{index}.jpg", quality=90)
    (here / "recipe.yaml").write_text(
        "data: {form: folders, path: photos}\n"
        "defaults: {arch: customnet, image_size: 32, batch_size: 8, epochs: 2, lr: 0.01, filters: [8, 16]}\n"
        "members:\n"
        "  - {name: a, tta: flip-shift}\n"
        "  - {name: b, image_size: 24, preprocess: [smooth], tta: crops, resize: crop}\n"
        "  - {name: c, folds: 2, tta: dihedral}\n"
        "  - {name: s, arch: speednet, filters: [8, 8, 8], full: true, optimizer: sgd, lr: 0.5}\n"
    )
    assert ens(["train", "--recipe", "recipe.yaml"]) == 0
    capfd.readouterr()
    result = {path.name: Run(path) for path in Path("runs").iterdir() if (path / "run.json").is_file()}
    singles = [run for run in result.values() if run.kind == "member" and not run.is_fold]
    for rule in ("accuracy", "stack"):
        combine(singles, folder=Path("runs"), rule=rule, name=rule)
    combine([run for run in singles if run.id.startswith("s-")], folder=Path("runs"), name="again", refits=True)
    checked = 0
    for path in sorted(path for path in Path("runs").iterdir() if (path / "test.npz").is_file()):
        assert ens(["predict", path.name, "photos/test", "--uncertain", "--coverage", "0.8"]) == 0
        output = {Path(row["image"]).stem: row for row in csv_rows(capfd.readouterr().out)}
        stored = load(path / "test.npz")
        assert set(output) == set(stored.ids.tolist())
        got = np.array([[float(output[name][c]) for c in stored.classes] for name in stored.ids.tolist()])
        assert np.abs(got - stored.probs).max() < 1e-5, path.name
        checked += 1
    assert checked == 10  # a, b, c and its two folds, s and its refit, three ensembles
