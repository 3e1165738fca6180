"""What a student learns from an ensemble, what it keeps of the gain, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_runs import FINGERPRINT, predictions, run

from ensemble.cli import run as ens
from ensemble.combine.ensembler import combine
from ensemble.core.errors import DataError, MismatchedRuns, RecipeError
from ensemble.core.predictions import load
from ensemble.data.dataset import Dataset, Items
from ensemble.distill.evaluate import ratio_interval, retained_gain
from ensemble.distill.teacher import Teacher, refuse_unfit_student, softened, teacher_of
from ensemble.metrics import find
from ensemble.recipe.resolve import resolved, run_hash
from ensemble.recipe.schema import Recipe

CLASSES = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


# ---- the arithmetic ----


def scored(skill: float, seed: int, n: int = 600) -> np.ndarray:
    return predictions(n, seed, skill=skill).probs


TARGETS = predictions(600, 0).targets


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "roc_auc"])
def test_a_student_as_good_as_the_ensemble_keeps_all_and_one_as_good_as_the_baseline_nothing(metric: str) -> None:
    ensemble, baseline = scored(0.9, 1), scored(0.5, 2)
    everything = retained_gain(find(metric, CLASSES), ensemble, ensemble, baseline, TARGETS, None)
    nothing = retained_gain(find(metric, CLASSES), ensemble, baseline, baseline, TARGETS, None)
    assert (everything.share.value, nothing.share.value) == (pytest.approx(1), pytest.approx(0))
    assert everything.gain.value > 0  # an improvement, whatever the metric's direction
    assert everything.share.low == pytest.approx(1, abs=1e-6) and everything.share.high == pytest.approx(
        1, abs=1e-6
    )
    half = retained_gain(find(metric, CLASSES), ensemble, (ensemble + baseline) / 2, baseline, TARGETS, None)
    assert half.share is not None and half.share.low is not None and half.share.high is not None
    assert half.share.low < half.share.value < half.share.high
    assert f"keeps {100 * half.share.value:.0f} %" in half.sentences[0]
    other = retained_gain(find(metric, CLASSES), ensemble, ensemble, baseline, TARGETS, None, optimistic=True)
    assert "keeps at most 100 %" in other.sentences[0] and other.sentences[1].startswith("Student, flattered")


def test_a_gain_that_may_be_noise_has_a_ratio_without_an_interval_and_says_so() -> None:
    baseline, ensemble = scored(0.7, 1), scored(0.7, 1)
    wrong = np.flatnonzero(baseline.argmax(1) != TARGETS)[:2]
    ensemble[wrong] = np.eye(3)[TARGETS[wrong]]
    result = retained_gain(find("accuracy", CLASSES), ensemble, scored(0.7, 3), baseline, TARGETS, None)
    assert result.share is not None and result.share.low is None and result.share.high is None
    assert "could be noise" in result.sentences[0]
    worse = retained_gain(find("accuracy", CLASSES), baseline, baseline, ensemble, TARGETS, None)
    assert worse.share is None
    assert "no gain to keep" in worse.sentences[0]
    json.dumps(worse.facts(), allow_nan=False)


def test_groups_widen_the_interval() -> None:
    rows = np.repeat(np.arange(60), 10)  # each image ten times
    ensemble, student, baseline = (scored(skill, seed, 60)[rows] for skill, seed in ((0.9, 1), (0.7, 2), (0.4, 3)))
    targets, names = predictions(60, 0).targets[rows], np.array([f"g{row}" for row in rows])
    alone = retained_gain(find("accuracy", CLASSES), ensemble, student, baseline, targets, None)
    grouped = retained_gain(find("accuracy", CLASSES), ensemble, student, baseline, targets, names)
    assert grouped.share.value == alone.share.value
    assert grouped.share.high - grouped.share.low > 2 * (alone.share.high - alone.share.low)


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    spread = np.array([[1.0, 0.6], [0.6, 1.2]])
    draws = random.multivariate_normal([2.0, 5.0], spread, 4000)
    result = [ratio_interval(above, below, spread, 1.96) for above, below in draws]
    held = [one is None or one[0] <= 0.4 <= one[1] for one in result]
    assert 0.94 <= np.mean(held) <= 0.96
    assert ratio_interval(1.0, 1.0, np.eye(2), 1.96) is None  # what is divided by may be nothing


# ---- the teacher ----


def test_softening_divides_the_logits() -> None:
    probs = predictions(50, 4).probs
    logits = np.log(probs.astype(np.float64)) / 3
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(softened(probs, 3), expected, rtol=1e-5)
    np.testing.assert_allclose(softened(probs, 1), probs, rtol=1e-6)
    sure = np.array([[1.0, 0.0, 0.0]], np.float32)
    np.testing.assert_array_equal(softened(sure, 5), sure)


def dataset(train: int = 40, valid: int = 20) -> Dataset:
    rows = predictions(train + valid, 0)
    assert rows.targets is not None
    items = Items(rows.ids, rows.ids, rows.targets)
    splits = {"train": items.take(np.arange(train)), "valid": items.take(np.arange(train, train + valid))}
    return Dataset(rows.classes, splits, FINGERPRINT, {}, lambda path: None)  # type: ignore[arg-type, return-value]


def ensemble_of(folder: Path, kind: str = "folds", n: int = 60, **facts: object):
    members = [
        run(folder, f"net{seed}-{seed:08d}", {"valid": predictions(n, seed)}, kind=kind, **facts) for seed in (1, 2)
    ]
    return combine(members, folder=folder).run


def test_a_teacher_gives_every_training_row_its_own_labels_whatever_the_order(tmp_path: Path) -> None:
    created = ensemble_of(tmp_path)
    data = dataset()
    teacher, notes = teacher_of(created, data, 1, 0.5)
    assert notes == []
    output = load(created.path / "valid.npz")
    row = {name: at for at, name in enumerate(output.ids.tolist())}
    train = teacher.with_soft_labels(data).splits["train"]
    np.testing.assert_allclose(train.teacher_probs, output.probs[[row[name] for name in train.ids]], rtol=1e-6)
    assert teacher.with_soft_labels(data).splits["valid"].teacher_probs is None
    random = np.random.default_rng(0)
    rows, columns = random.permutation(60), random.permutation(3)
    other = replace(
        teacher.rows,
        ids=teacher.rows.ids[rows],
        probs=teacher.rows.probs[rows][:, columns],
        classes=teacher.rows.classes[columns],
        targets=None,
    )
    again = Teacher(created, other, 1, 0.5)
    assert again.sha256 == teacher.sha256
    np.testing.assert_array_equal(again.with_soft_labels(data).splits["train"].teacher_probs, train.teacher_probs)
    nudged = teacher.rows.probs.copy()
    nudged[7] = nudged[7][::-1]
    assert Teacher(created, replace(teacher.rows, probs=nudged), 1, 0.5).sha256 != teacher.sha256


def test_the_hash_covers_the_teacher_and_how_it_is_heard(tmp_path: Path) -> None:
    teacher, _ = teacher_of(ensemble_of(tmp_path), dataset(), 1, 0.5)
    recipe = resolved(Recipe(arch="resnet18"))
    others = [replace(teacher, temperature=2.0), replace(teacher, alpha=0.6)]
    hashes = [run_hash(recipe, "data", None, one.hashed()) for one in (teacher, *others)]
    assert len({*hashes, run_hash(recipe, "data", None)}) == 4
    assert run_hash(recipe, "data", None, None) == run_hash(recipe, "data", None)


def test_an_ensemble_that_has_not_predicted_the_training_rows_is_refused_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'net1-00000001'.*ens train --folds 5"):
        teacher_of(ensemble_of(tmp_path / "a", kind="member", n=20), dataset(), 1, 0.5)
    # a member whose rows have the names of the training rows has learnt from them all the same
    with pytest.raises(DataError, match="validation rows alone"):
        teacher_of(ensemble_of(tmp_path / "b", kind="member"), dataset(), 1, 0.5)
    with pytest.raises(DataError, match=r"10 of the 60 rows.*ens train --folds 5.*import"):
        teacher_of(ensemble_of(tmp_path / "c", kind="import", n=50), dataset(), 1, 0.5)
    with pytest.raises(MismatchedRuns, match="other data"):
        teacher_of(ensemble_of(tmp_path / "d"), replace(dataset(), fingerprint="f" * 64), 1, 0.5)
    lone = run(tmp_path / "e", "net-00000001", {"valid": predictions(60, 1)})
    with pytest.raises(DataError, match="ens combine"):
        teacher_of(lone, dataset(), 1, 0.5)


def test_imports_of_every_row_will_do_and_are_trusted_aloud(tmp_path: Path) -> None:
    _, (note,) = teacher_of(ensemble_of(tmp_path, kind="import"), dataset(), 1, 0.5)
    assert "on trust" in note


@pytest.mark.parametrize(("temperature", "alpha"), [(0, 0.5), (-1, 0.5), (1, 0), (1, 1.1), (float("nan"), 0.5)])
def test_a_teacher_that_says_nothing_is_refused(tmp_path: Path, temperature: float, alpha: float) -> None:
    with pytest.raises(RecipeError, match="above 0"):
        teacher_of(ensemble_of(tmp_path), dataset(), temperature, alpha)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"class_weights": "balanced"}, "class_weights"),
        ({"loss": "focal"}, "focal"),
        ({"full": True}, "full"),
        ({"folds": 3, "fold": 1}, "fold"),
        ({"folds": 3, "keep": "best"}, "best epoch"),
    ],
)
def test_keys_that_mean_nothing_to_a_student_are_refused_by_name(keys: dict[str, object], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        refuse_unfit_student(resolved(Recipe(arch="resnet18", **keys)))
    refuse_unfit_student(resolved(Recipe(arch="resnet18", mixing="mixup", label_smoothing=0.1, sampler="weighted")))


# ---- the loss ----


def test_the_loss_is_the_labels_and_the_teachers_mixed() -> None:
    torch = pytest.importorskip("torch")
    from torch.nn import functional

    from ensemble.training.methods.losses import Distilled, losses

    hard = losses.get("cross-entropy")(resolved(Recipe(arch="resnet18", label_smoothing=0.1)), None)
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    output = torch.from_numpy(softened(predictions(8, 1).probs, 2))
    label = torch.arange(8) % 3
    targets = torch.cat([functional.one_hot(label, 3).float(), output], 1)
    result = Distilled(hard, 2.0, 0.3)(logits, targets)
    soft = functional.cross_entropy(logits / 2, output)
    assert result.item() == pytest.approx((0.7 * hard(logits, label) + 0.3 * 4 * soft).item(), rel=1e-5)
    # rows that are looked at, not learnt from, are evaluated by their labels
    assert Distilled(hard, 2.0, 0.3)(logits, label).item() == hard(logits, label).item()
    # softmax(z / T) is p at that T where z = log p: there, and only there, the teacher's part has no gradient
    perfect = torch.from_numpy(np.log(predictions(8, 1).probs)).requires_grad_()
    Distilled(hard, 2.0, 1.0)(perfect, targets).backward()
    assert float(perfect.grad.abs().max()) < 1e-6
    # parts of a batch add up to the whole
    parts = sum(Distilled(hard, 2.0, 0.3)(logits[at], targets[at]).item() / 2 for at in (slice(4), slice(4, 8)))
    assert parts == pytest.approx(result.item(), rel=1e-5)


# ---- whole commands ----

PLAIN = [
    "--image-size",
    "16",
    "--lr",
    "0.01",
    "--set",
    "precision=float32",
    "--set",
    "layout=default",
    "--device",
    "cpu",
]
STUDENT = ["--arch", "customnet", "--set", "filters=[4, 8]", *PLAIN, "--folds", "2"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an ensemble of two networks of two folds on the digits, in `runs`."""
    home = tmp_path_factory.mktemp("distill")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        member = ["--arch", "customnet", "--set", "filters=[8, 16]", *PLAIN, "--folds", "2", "--epochs", "2"]
        assert ens(["train", *member, "--seed", "0", "--seed", "1"]) == 0
        assert ens(["combine"]) == 0
    return home


@pytest.fixture
def home(taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(taught / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(taught / "cache"))
    monkeypatch.delenv("ENS_RUNS", raising=False)
    return tmp_path


def distilled(capfd: pytest.CaptureFixture[str], *args: str) -> tuple[Path, dict]:
    capfd.readouterr()
    assert ens(["distill", *STUDENT, *args, "--json"]) == 0, capfd.readouterr().err
    result = json.loads(capfd.readouterr().out)
    return Path("runs") / result["runs"][1]["run"], result


@pytest.mark.slow
def test_a_student_is_one_network_with_an_honest_score_that_everything_knows(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    student, result = distilled(capfd, "--epochs", "3")
    facts = json.loads((student / "run.json").read_text())
    assert facts["kind"] == "student"
    assert facts["chosen_on_valid"] == ["soft labels"]  # said beside its score wherever that is shown
    assert facts["parents"][0]["id"].startswith("ensemble-") and len(facts["parents"]) == 3
    assert all(len(parent["sha256"]["valid"]) == 64 for parent in facts["parents"])
    assert json.loads((student / "distilled.json").read_text()) == result
    valid = load(student / "valid.npz")
    assert len(valid) == 1438 == result["valid"]["rows"]
    scores = json.loads((student / "metrics.json").read_text())["valid"]
    assert scores["accuracy"] == pytest.approx(result["valid"]["student"])
    # each fold predicted its own rows
    parts = [load(Path("runs") / parent["id"] / "valid.npz") for parent in facts["parents"][1:]]
    assert not set(parts[0].ids) & set(parts[1].ids)
    assert sorted([*parts[0].ids, *parts[1].ids]) == sorted(valid.ids)
    assert (home / student / "distilled.json").exists()
    gain = result["valid"]["ensemble"] - result["valid"]["baseline"]
    assert result["valid"]["gain"]["value"] == pytest.approx(gain)
    assert result["test"]["rows"] == 359
    # one network: the same bytes as its baseline's folds have each
    assert result["runs"][1]["bytes"] == pytest.approx(result["runs"][2]["bytes"], rel=0.01)

    Image.fromarray(np.zeros((8, 8), np.uint8)).save("zero.png")
    for command in (
        ["ls"],
        ["predict", student.name, "zero.png"],
        ["submit", student.name],
        ["compare", student.name, result["runs"][2]["run"]],
        ["explain", student.name, "zero.png"],
    ):
        capfd.readouterr()
        assert ens(command) == 0, (command, capfd.readouterr().err)
    capfd.readouterr()
    assert ens(["ls", "--json"]) == 0
    kinds = {row["id"]: row["kind"] for row in json.loads(capfd.readouterr().out)}
    assert kinds[student.name] == "student" and list(kinds.values()).count("student") == 1
    # a complete one is left alone
    before = (student / "weights.safetensors").stat().st_mtime_ns
    assert distilled(capfd, "--epochs", "3") == (student, result)
    assert (student / "weights.safetensors").stat().st_mtime_ns == before
    # nor does it join an ensemble that nobody asked it to join
    capfd.readouterr()
    assert ens(["combine", "--json"]) == 0
    assert student.name not in {member["id"] for member in json.loads(capfd.readouterr().out)["members"]}


@pytest.mark.slow
def test_a_student_can_be_exported(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxscript")
    student, _ = distilled(capfd, "--epochs", "1")
    assert ens(["export", student.name]) == 0, capfd.readouterr().err


@pytest.mark.slow
def test_without_folds_the_student_learns_from_train_and_is_scored_on_valid(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    args = ["--epochs", "1", "--set", "folds=null", "--set", "mixing=mixup", "--alpha", "1"]
    student, result = distilled(capfd, *args)
    assert result["valid"]["rows"] == len(load(student / "valid.npz")) == 359
    assert len(json.loads((student / "run.json").read_text())["parents"]) == 1


@pytest.mark.slow
def test_what_the_teacher_says_decides_the_weights_and_the_id_and_the_order_of_its_rows_does_not(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    student, _ = distilled(capfd, "--epochs", "1")
    weights = (student / "weights.safetensors").read_bytes()
    (teacher,) = Path("runs").glob("ensemble-*")
    from ensemble.core.predictions import save

    rows = load(teacher / "valid.npz")
    order = np.random.default_rng(0).permutation(len(rows))
    assert rows.targets is not None
    mixed = replace(rows, ids=rows.ids[order], probs=rows.probs[order], targets=rows.targets[order])
    for path in Path("runs").glob("customnet-student*"):
        shutil.rmtree(path)
    save(teacher / "valid.npz", mixed)
    again, _ = distilled(capfd, "--epochs", "1")
    assert (again.name, (again / "weights.safetensors").read_bytes()) == (student.name, weights)
    save(teacher / "valid.npz", replace(rows, probs=np.roll(rows.probs, 1, axis=1)))
    other, result = distilled(capfd, "--epochs", "1", "--alpha", "1")
    assert other.name != student.name
    assert result["valid"]["student"] < 0.2  # it believes every wrong word


@pytest.mark.slow
def test_a_student_that_was_killed_goes_on_to_the_same_bits(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    student, _ = distilled(capfd, "--epochs", "4")
    expected = [(student / name).read_bytes() for name in ("weights.safetensors", "valid.npz", "test.npz")]
    for path in Path("runs").glob("customnet-student*"):
        shutil.rmtree(path)
    command = [sys.executable, "-m", "ensemble", "distill", *STUDENT, "--epochs", "4"]
    env = {**os.environ, "OMP_NUM_THREADS": str(__import__("torch").get_num_threads())}
    first = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while first.poll() is None and not (student / "checkpoint/state.safetensors").exists():
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (student / "metrics.json").exists()
    again, _ = distilled(capfd, "--epochs", "4")
    assert again == student
    names = ("weights.safetensors", "valid.npz", "test.npz")
    assert [(student / name).read_bytes() for name in names] == expected


@pytest.mark.slow
def test_mistakes_are_told_in_one_line(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for args, code, output in (
        (["distill"], 2, "--arch"),
        (["distill", "nobody", "--arch", "customnet"], 3, "nobody"),
        (["distill", "--arch", "customnet", "--set", "loss=focal"], 2, "focal"),
        (["distill", "--arch", "customnet", "--alpha", "0"], 2, "alpha"),
        (["distill", "--arch", "customnett"], 2, "customnet"),
        (["distill", next(Path("runs").glob("customnet-fold0*")).name, "--arch", "customnet"], 3, "ens combine"),
    ):
        capfd.readouterr()
        assert ens(args) == code
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ens:")]
        assert output in line
