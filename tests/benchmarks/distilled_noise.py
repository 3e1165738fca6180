"""How much of a row's own label reaches a student through its teachers, where labels are chance.

    python tests/benchmarks/distilled_noise.py

The digits with their labels shuffled. Teachers predict out of fold; a student learns from what they said of the
other folds and predicts its own. Nothing can be learnt: whatever is above 0.10 has leaked. Prints JSON.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

MODELS: dict[str, Callable[[], Any]] = {
    "nearest neighbour": lambda: KNeighborsClassifier(1),
    "perceptron": lambda: MLPClassifier((64,), max_iter=150, random_state=0),
}


def out_of_fold(make: Callable[[], Any], x: Any, labels: Any, folds: Any) -> Any:
    """The label that a model says of each row, trained on the other folds."""
    output = np.empty_like(labels)
    for fold in np.unique(folds):
        output[folds == fold] = make().fit(x[folds != fold], labels[folds != fold]).predict(x[folds == fold])
    return output


def main() -> None:
    """Accuracies of teacher and student against the shuffled labels."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    random = np.random.default_rng(0)
    x, labels = load_digits(return_X_y=True)
    labels = random.permutation(labels)
    result = []
    for count in (2, 5):
        folds = random.integers(0, count, len(labels))
        for name, make in MODELS.items():
            teacher = out_of_fold(make, x / 16, labels, folds)
            student = out_of_fold(make, x / 16, teacher, folds)
            scores = {
                who: float(np.mean(output == labels))
                for who, output in (("teacher", teacher), ("student", student))
            }
            result.append({"model": name, "folds": count, **scores})
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
