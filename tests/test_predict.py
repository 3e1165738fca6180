"""Laws of `ens predict`: which images, whose networks, what is said of how sure it is."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from fake_runs import CLASSES, member, predictions
from fake_runs import run as write
from hypothesis import given, settings
from hypothesis import strategies as st
from network_runs import many_kinds, network_run, picture
from PIL import Image
from scipy.stats import entropy as scipys_entropy

from ensemble.cli import run as ens
from ensemble.combine.calibration import calibrated, mean_coverage
from ensemble.combine.ensembler import combine
from ensemble.combine.predicting_members import (
    Calibration,
    LeastCovered,
    honest_rows,
    least_covered,
    predicting_members,
)
from ensemble.core.errors import DataError, MismatchedRuns, RecipeError
from ensemble.core.predictions import load
from ensemble.data.inputs import named_images
from ensemble.metrics.classification import disagreement, entropy
from ensemble.report.prediction_output import Layout, Uncertainty
from ensemble.runs.run import Run

RULES = ["uniform", "accuracy", "log-odds", "logit-mean", "rank", "convex", "greedy", "per-class", "stack"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENS_RUNS", raising=False)
    return tmp_path


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# which images


def test_files_folders_patterns_and_tables_name_images(here: Path) -> None:
    for name in ("a/10.png", "a/2.jpg", "a/b/1.png", "c/[x].png", "c/y.png"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        picture(0).save(here / name)
    (here / "a" / "notes.txt").write_text("no image")
    (here / "a" / "list.csv").write_text("id,weight\n2,5\nb/1.png,6\ngone,7\n")

    def names(*words: str, **options: object) -> list[str]:
        return [one.name for one in named_images(words, **options)]  # type: ignore[arg-type]

    assert names("a") == ["a/2.jpg", "a/10.png", "a/b/1.png"]
    assert names("c/[x].png", "c/*.png") == ["c/[x].png", "c/y.png"]
    assert names("**/1*.png") == ["a/10.png", "a/b/1.png"]
    listed = named_images(["a/list.csv"])
    assert [(one.name, one.path.as_posix()) for one in listed] == [
        ("2", "a/2.jpg"),
        ("b/1.png", "a/b/1.png"),
        ("gone", "a/gone"),
    ]
    assert names("a/2.jpg", "a") == ["a/2.jpg", "a/10.png", "a/b/1.png"]
    for words, options, message in (
        (["d*"], {}, "matches no file"),
        (["a/list.csv"], {"column": "weigth"}, "did you mean 'weight'"),
        (["a/list.csv"], {"folder": Path("d")}, "no folder d"),
    ):
        with pytest.raises(DataError, match=message):
            names(*words, **options)
    with pytest.raises(DataError, match="an empty name found"):
        names("")
    (here / "empty").mkdir()
    with pytest.raises(DataError, match="no images in empty"):
        names("empty")
    (here / "odd.csv").write_text("what,weight\n2,5\n")
    with pytest.raises(DataError, match="--column"):
        names("odd.csv")
    assert names("odd.csv", column="what", folder=here / "a") == ["2"]


# how sure


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 999))
@settings(deadline=None, max_examples=50)
def test_disagreement_is_the_mutual_information(k: int, m: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.full(k, 0.3), (m, 7)).astype(np.float32)
    weights = random.dirichlet(np.ones(m))
    assert entropy(probs[0]) == pytest.approx(scipys_entropy(probs[0].astype(float), axis=1), abs=1e-6)
    # the mean divergence of each member from their mean (Lakshminarayanan et al. 2017)
    mean = np.einsum("m,mnk->nk", weights, probs.astype(float))
    apart = [scipys_entropy(one.astype(float) + 1e-300, mean + 1e-300, axis=1) for one in probs]
    assert disagreement(probs, weights) == pytest.approx(np.einsum("m,mn->n", weights, apart), abs=1e-5)
    assert disagreement(probs[:1].repeat(m, 0), weights) == pytest.approx(0, abs=1e-6)
    alone = np.eye(m)[0]
    assert disagreement(probs, alone) == pytest.approx(0, abs=1e-6)


def test_certainty_has_no_entropy() -> None:
    assert entropy(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx([0, np.log(2)])


@given(st.integers(2, 10), st.floats(0.3, 0.98), st.sampled_from([0.8, 0.9, 0.95]), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_sets_cover_new_rows_as_often_as_stated(k: int, skill: float, coverage: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.integers(0, k, 4000)
    logits = random.normal(size=(4000, k)) + 4 * skill * np.eye(k)[targets]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert mean_coverage(probs, targets, coverage) == pytest.approx(coverage, abs=0.01)
    sets = calibrated(probs[:2000], targets[:2000], coverage).sets(probs[2000:])
    assert sets[np.arange(2000), targets[2000:]].mean() == pytest.approx(coverage, abs=0.04)


def test_few_rows_promise_only_what_they_can() -> None:
    probs, targets = np.array([[0.9, 0.1]] * 8), np.zeros(8, int)
    assert calibrated(probs, targets, 0.9).bound == np.inf  # the ninth row of nine is not there
    assert calibrated(probs, targets, 0.9).sets(probs).all()
    assert calibrated(probs, targets, 0.8).sets(probs)[:, 1].sum() == 0
    assert calibrated(probs, targets, 1.0).bound == np.inf
    nine = np.linspace(0.1, 0.9, 9)
    assert calibrated(np.stack([nine, 1 - nine], 1), np.zeros(9, int), 0.9).bound == pytest.approx(0.9)


def test_a_class_that_is_covered_less_is_named() -> None:
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1], [900, 100])
    sure = np.where(targets == 0, 0.95, random.uniform(0.2, 0.6, 1000))  # of the true class
    probs = np.stack([np.where(targets == 0, sure, 1 - sure), np.where(targets == 0, 1 - sure, sure)], 1)
    sets = calibrated(probs, targets, 0.95)
    least = least_covered(sets, probs, targets, ("many", "few"))
    assert least == LeastCovered("few", pytest.approx(0.5, abs=0.02), 100)
    assert "of few, the least, sets hold 5" in Calibration(sets, 0.95, least=least).warning
    even = np.full((1000, 2), 0.5)
    assert least_covered(calibrated(even, targets, 0.95), even, targets, ("many", "few")) is None


def test_no_class_is_named_by_chance() -> None:
    random = np.random.default_rng(1)
    named = 0
    for _ in range(100):
        targets = random.integers(0, 10, 400)
        logits = random.normal(size=(400, 10)) + 2 * np.eye(10)[targets]
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        sets = calibrated(probs, targets, 0.9)
        named += least_covered(sets, probs, targets, tuple("abcdefghij")) is not None
    assert named <= 10


# what is printed


def test_a_row_says_all_classes_or_the_best(here: Path) -> None:
    probs = np.array([[0.1, 0.2, 0.7], [0.4, 0.4, 0.2]], np.float32)
    unsure = Uncertainty(np.array([0.5, 1.0]), np.array([0.1, 0.0]), probs > 0.3)
    layout = Layout(("a", "b;,", "c"), None, "csv", True)
    output = rows(layout.head() + layout.rows(["x,1", "y"], probs, unsure))
    assert output[0] == {
        "image": "x,1",
        "label": "c",
        "probability": "0.7",
        "entropy": "0.500000",
        "disagreement": "0.100000",
        "set": '["c"]',
        "a": "0.1",
        "b;,": "0.2",
        "c": "0.7",
    }
    assert output[1]["label"] == "a" and json.loads(output[1]["set"]) == ["a", "b;,"]
    best = Layout(("a", "b", "c"), 2, "csv", False)
    assert rows(best.head() + best.rows(["x"], probs[:1], None)) == [
        {"image": "x", "label_1": "c", "probability_1": "0.7", "label_2": "b", "probability_2": "0.2"}
    ]
    lines = Layout(("a", "b", "image"), 9, "jsonl", True).rows(["x"], probs[:1], unsure)
    assert json.loads(lines) == {
        "image": "x",
        "top": [
            {"label": "image", "probability": 0.7},
            {"label": "b", "probability": 0.2},
            {"label": "a", "probability": 0.1},
        ],
        "entropy": 0.5,
        "disagreement": 0.1,
        "set": ["image"],
    }
    with pytest.raises(RecipeError, match="'image'; use --format jsonl"):
        Layout(("a", "image"), None, "csv", False)
    with pytest.raises(RecipeError, match="'set'"):
        Layout(("a", "set"), None, "csv", True)


# whose networks


def test_imports_are_refused_by_name(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = [member(here / "runs", "net-00000001", 1), member(here / "runs", "vit-00000002", 2, kind="import")]
    created = combine(runs, folder=here / "runs")
    assert ens(["predict", created.run_id, "x.png"]) == 3
    assert "'vit-00000002' in ensemble-" in capfd.readouterr().err
    assert ens(["predict", "vit-00000002", "x.png"]) == 3
    assert "has no network" in capfd.readouterr().err


def test_a_refit_is_calibrated_on_the_member_before_it(here: Path) -> None:
    before = member(here / "runs", "net-00000001", 1)
    after = write(here / "runs", "net-full-00000002", {"test": predictions(5, 3)}, kind="refit", parents=[before])
    result, why = honest_rows(predicting_members(after))
    assert len(result) == 60 and why == "of net-00000001, before the refit"
    alone = write(here / "runs", "net-00000003", {"valid": predictions(5, 3, labelled=False)})
    with pytest.raises(DataError, match="no labelled validation rows"):
        honest_rows(predicting_members(alone))


def test_members_who_carry_nothing_are_not_asked(here: Path) -> None:
    runs = [member(here / "runs", f"net{i}-0000000{i}", i, skill=skill) for i, skill in ((1, 0.95), (2, 0.3))]
    result = predicting_members(combine(runs, folder=here / "runs", rule="greedy").run)
    assert [run.id for run in result.networks] == ["net1-00000001"] and result.used == (0,)
    probs = np.stack([run.predictions("test").probs for run in runs])
    scrambled = np.stack([probs[0], np.full_like(probs[1], 1 / 3)])
    assert np.array_equal(result.combined(probs), result.combined(scrambled))


@pytest.mark.parametrize("rule", RULES)
def test_a_committee_is_what_combine_wrote(here: Path, rule: str) -> None:
    runs = [member(here / "runs", f"net{i}-0000000{i}", i) for i in (1, 2, 3)]
    created = combine(runs, folder=here / "runs", rule=rule)
    result = predicting_members(created.run)
    probs = np.stack([one.run.predictions("test").probs for one in result.members])
    assert np.array_equal(result.combined(probs), created.run.predictions("test").probs)
    assert result.weights.sum() == pytest.approx(1)


def test_what_is_read_is_not_written_over(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Before any network is loaded: these have none."""
    run = member(here / "runs", "net-00000001", 1)
    (here / "photos").mkdir()
    picture(0).save(here / "photos" / "1.png")
    (here / "list.csv").write_text("id\n1\n")
    (here / "linked.csv").symlink_to("list.csv")
    for words in (
        ["photos", "--out", "photos/1.png"],
        ["list.csv", "--images", "photos", "--out", "list.csv"],
        ["list.csv", "--images", "photos", "--out", "linked.csv"],
        ["list.csv", "--images", "photos", "--out", "photos/1.png"],
    ):
        assert ens(["predict", run.id, *words]) == 2
        assert "is one of the files to predict" in capfd.readouterr().err
    assert ens(["predict", run.id, "photos", "--out", "photos"]) == 2
    assert "is a directory" in capfd.readouterr().err
    assert (here / "list.csv").read_text() == "id\n1\n"


# images through networks


@pytest.mark.slow
def test_many_kinds_of_images_through_an_ensemble(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
        for run, one in zip(runs, trained, strict=True):
            square = one.square.of(read_image(path, max_pixels=10**6, background=None))
            batch = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]
            probs, _ = predict(
                one.network, lambda rows, x=batch: x, np.arange(1), mean=one.mean, std=one.std, tta=one.recipe.tta
            )
            members.append(probs[:, [run.record.values["classes"].index(name) for name in result.classes]])
        by_id = {run.id: probs for run, probs in zip(runs, members, strict=True)}
        stacked = np.stack([by_id[one.run.id] for one in result.members])
        expected = result.combined(stacked)[0]
        entry = output[path.relative_to(here).as_posix()]
        assert list(entry["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert entry["label"] == result.classes[int(expected.argmax())]
        assert entry["disagreement"] == pytest.approx(float(disagreement(stacked, result.weights)[0]), abs=1e-5)
    assert len({entry["label"] for entry in output.values()}) > 1


@pytest.mark.slow
def test_each_image_is_decoded_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    output = rows((here / "said.csv").read_text())
    assert [row["image"] for row in output] == [f"{i}.png" for i in range(5)]
    assert set(output[0]) == {"image", "label_1", "probability_1"}


@pytest.mark.slow
def test_the_folds_of_a_run_speak_by_their_mean(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folds = [network_run(here / "runs", f"net-fold{i}-0000000{i}", i, fold=i) for i in (1, 2)]
    whole = write(here / "runs", "net-00000009", {"valid": predictions(60, 1)}, kind="folds", parents=folds)
    picture(0).save(here / "x.png")

    def said(name: str) -> np.ndarray:
        assert ens(["predict", name, "x.png"]) == 0
        (row,) = rows(capfd.readouterr().out)
        return np.array([float(row[name]) for name in CLASSES])

    assert said(whole.id) == pytest.approx((said(folds[0].id) + said(folds[1].id)) / 2, abs=1e-6)
    other = network_run(here / "runs", "other-00000003", 3)
    created = combine([whole, other], folder=here / "runs", rule="uniform")
    assert said(created.run_id) == pytest.approx((said(whole.id) + said(other.id)) / 2, abs=1e-6)


@pytest.mark.slow
def test_what_cannot_be_is_said_and_leaves_no_file(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
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


# trained networks


@pytest.mark.slow
def test_the_files_of_the_test_split_get_what_is_stored(
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
        output = {Path(row["image"]).stem: row for row in rows(capfd.readouterr().out)}
        stored = load(path / "test.npz")
        assert set(output) == set(stored.ids.tolist())
        got = np.array([[float(output[name][c]) for c in stored.classes] for name in stored.ids.tolist()])
        assert np.abs(got - stored.probs).max() < 1e-5, path.name
        checked += 1
    assert checked == 10  # a, b, c and its two folds, s and its refit, three ensembles


def test_without_a_run_it_is_the_newest_ensemble_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENS_RUNS", raising=False)
    runs = [member(tmp_path / "runs", f"vit{i}-0000000{i}", i, kind="import") for i in range(2)]
    Image.new("RGB", (8, 8)).save("new.png")
    for rule in ("uniform", "accuracy"):
        newest = combine(runs, folder=tmp_path / "runs", rule=rule).run_id
    # of an import there is no network to ask, which is as far as words alone can lead
    for words in (["predict", "new.png"], ["predict", "*.png", "new.png"], ["export"], ["serve", "--port", "0"]):
        assert ens(words) == 3
        first, second = capfd.readouterr().err.splitlines()
        assert (
            first == f"RUN is {newest}, the newest ensemble of the data of {newest}, the newest run"
            and "vit0-00000000" in second
        )
    assert ens(["predict", "vit0", "new.png"]) == 3 and "newest" not in capfd.readouterr().err
    assert ens(["predict", "gone.png"]) == 2 and "'gone.png' is no file" in capfd.readouterr().err
    Path("ens.yaml").write_text("data: {form: digits}\n")
    assert ens(["export"]) == 3 and "no complete run of ens.yaml in" in capfd.readouterr().err
