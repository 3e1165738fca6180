"""Predictions in the files that other programs write."""

from __future__ import annotations

from ensemble.data.dataset import Dataset, Items
from helpers.fake_runs import predictions


def as_csv(path, item, *, target=None, columns=(0, 1, 2)):
    header = ["image", *item.classes[list(columns)].tolist(), *([target] if target else [])]
    lines = [",".join(header)]
    for row, name in enumerate(item.ids.tolist()):
        label = "" if item.targets is None or item.targets[row] < 0 else str(item.classes[item.targets[row]])
        cells = [name, *(repr(float(p)) for p in item.probs[row, list(columns)]), *([label] if target else [])]
        lines.append(",".join(cells))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def dataset_of_predictions(fingerprint, n=60):
    """A data set with the rows of `predictions(n, ...)`."""
    truth, test = predictions(n, 0), predictions(20, 0, prefix="t")
    splits = {
        "valid": Items(truth.ids, truth.ids, truth.targets),
        "test": Items(test.ids, test.ids, test.targets),
    }
    return Dataset(truth.classes, splits, fingerprint, {"test": "b" * 64}, lambda path: None)


def numbered(path, item, targets, classes=("1", "2", "3")):
    """A CSV with classes of these names and a column `target` of these texts."""
    lines = [",".join(["image", *classes, "target"])]
    for name, probs, target in zip(item.ids.tolist(), item.probs, targets, strict=True):
        lines.append(",".join([name, *(repr(float(p)) for p in probs), str(target)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
