"""Teachers: their labels for the training rows, the hash, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_runs import FINGERPRINT, predictions, run

from ensemble.combine.ensembler import combine
from ensemble.core.errors import DataError, MismatchedRuns, RecipeError
from ensemble.core.predictions import load
from ensemble.data.dataset import Dataset, Items
from ensemble.distill.teacher import Teacher, refuse_unfit_student, softened, teacher_of
from ensemble.recipe.resolve import resolved, run_hash
from ensemble.recipe.schema import Recipe


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


def test_teacher_labels_every_training_row_in_any_order(tmp_path: Path) -> None:
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


def test_hash_covers_teacher_temperature_and_alpha(tmp_path: Path) -> None:
    teacher, _ = teacher_of(ensemble_of(tmp_path), dataset(), 1, 0.5)
    recipe = resolved(Recipe(arch="resnet18"))
    others = [replace(teacher, temperature=2.0), replace(teacher, alpha=0.6)]
    hashes = [run_hash(recipe, "data", None, item.hashed()) for item in (teacher, *others)]
    assert len({*hashes, run_hash(recipe, "data", None)}) == 4
    assert run_hash(recipe, "data", None, None) == run_hash(recipe, "data", None)


def test_teacher_without_training_rows_is_refused(tmp_path: Path) -> None:
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


def test_imported_teacher_is_accepted_with_a_note(tmp_path: Path) -> None:
    _, (note,) = teacher_of(ensemble_of(tmp_path, kind="import"), dataset(), 1, 0.5)
    assert "on trust" in note


@pytest.mark.parametrize(("temperature", "alpha"), [(0, 0.5), (-1, 0.5), (1, 0), (1, 1.1), (float("nan"), 0.5)])
def test_teacher_settings_without_effect_are_refused(tmp_path: Path, temperature: float, alpha: float) -> None:
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
def test_keys_without_meaning_for_a_student_are_refused(keys: dict[str, object], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        refuse_unfit_student(resolved(Recipe(arch="resnet18", **keys)))
    refuse_unfit_student(resolved(Recipe(arch="resnet18", mixing="mixup", label_smoothing=0.1, sampler="weighted")))
