"""Greedy ensemble selection against `EnsembleSelection` of autogluon.core: how much faster, and as good?

    pip install autogluon.core      # in an environment of its own: it pins what others need newer
    OMP_NUM_THREADS=1 python tests/benchmarks/greedy_against_autogluon.py [RESULT.json]

The same float32 arrays in one process, the same metric, 25 rounds, no bagging on either side; ties, the size of the
ensemble and everything else of theirs as in their own GreedyWeightedEnsembleModel. Both are timed once, imports
apart, and both sets of weights are scored by the same function on as many rows that neither has seen.

Members are simulated. A member's logits are its strength times the target's one-hot row, plus normal noise of which
it shares 70 % of the variance with all members (images that are hard for one are hard for all). They are multiplied
by what would make them honest probabilities, and by 0.7 to 1.6 on top: most members are too sure, as networks are.

Fails where it is less than ten times faster, or where the scores on unseen rows, pools taken together, are worse by
more than two standard errors of the paired difference.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ensemble.combine.greedy import greedy_weights
from ensemble.core.files import write_json
from ensemble.metrics import metrics

ROUNDS = 25
SHARED = 0.7
SURENESS = (0.7, 1.6)
# m, n, k, strengths that make members right about 80 to 95 % of the time, pools
SIZES = [(50, 20_000, 10, (2.2, 3.2), 3), (200, 10_000, 100, (3.4, 4.6), 3)]
TIMES, ERRORS = 10.0, 2.0


def softmax(logits):
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def pool(m, n, k, strengths, seed):
    """float32 (m, n, k) twice and targets (n,) twice: rows to fit on, and rows to score on."""
    random = np.random.default_rng(seed)
    strength = random.uniform(*strengths, m)
    sharpness = strength * random.uniform(*SURENESS, m)
    halves = []
    for _ in range(2):
        targets = random.integers(0, k, n)
        common = random.standard_normal((n, k), dtype=np.float32)
        probs = np.empty((m, n, k), np.float32)
        for j in range(m):
            noise = np.sqrt(1 - SHARED) * random.standard_normal((n, k), dtype=np.float32)
            logits = np.float32(np.sqrt(SHARED)) * common + noise.astype(np.float32)
            logits[np.arange(n), targets] += np.float32(strength[j])
            probs[j] = softmax(np.float32(sharpness[j]) * logits)
        halves.append((probs, targets))
    return halves


def theirs(probs, targets, name):
    from autogluon.core import metrics as their_metrics
    from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection

    selection = EnsembleSelection(
        ensemble_size=ROUNDS, problem_type="multiclass", metric=getattr(their_metrics, name)
    )
    predictions = list(probs)
    started = time.perf_counter()
    selection.fit(predictions, targets)
    return time.perf_counter() - started, selection.weights_


def ours(probs, targets, name):
    started = time.perf_counter()
    weights = greedy_weights(probs, targets, metrics.get(name), rounds=ROUNDS, bags=0)
    return time.perf_counter() - started, weights


def mean(weights, probs):
    total = np.zeros(probs.shape[1:])
    for weight, member in zip(weights, probs, strict=True):
        if weight:
            total += weight * member
    return total


def compared(name, halves):
    """One row of the table: seconds, scores on seen and unseen rows of both, and how much better ours is unseen."""
    (probs, targets), (unseen, unseen_targets) = halves
    metric, row, each = metrics.get(name), {}, {}
    for who, fit in (("ours", ours), ("theirs", theirs)):
        seconds, weights = fit(probs, targets, name)
        mixed = mean(weights, unseen)
        each[who] = metric.rows(metric.view(mixed, unseen_targets), unseen_targets)
        row[who] = {
            "seconds": seconds,
            "members": int(np.count_nonzero(weights)),
            "seen": metric(mean(weights, probs), targets),
            "unseen": metric(mixed, unseen_targets),
        }
    better = (each["ours"] - each["theirs"]) * (1 if metric.higher else -1)
    row["times_faster"] = row["theirs"]["seconds"] / row["ours"]["seconds"]
    row["better_unseen"] = float(better.mean())
    row["standard_error"] = float(better.std() / np.sqrt(len(better)))
    return row


def together(rows):
    """The mean of `better_unseen` over pools, and its standard error."""
    better = np.array([[row["better_unseen"], row["standard_error"]] for row in rows])
    return float(better[:, 0].mean()), float(np.sqrt(np.square(better[:, 1]).sum()) / len(rows))


def line(row):
    scores = "  ".join(
        f"{who} {row[who]['seconds']:8.3f} s, {row[who]['members']:3} members, seen {row[who]['seen']:.5f},"
        f" unseen {row[who]['unseen']:.5f}"
        for who in ("ours", "theirs")
    )
    return f"{row['size']:18} {row['metric']:9} {row['times_faster']:7.1f} x  {scores}"


def measured(m, n, k, strengths, pools):
    """The rows of the table for one size, printed as they come."""
    rows = []
    for seed in range(pools):
        halves = pool(m, n, k, strengths, seed)
        for name in ("log_loss", "accuracy"):
            row = {"size": f"{m} x {n} x {k}", "seed": seed, "metric": name, **compared(name, halves)}
            rows.append(row)
            print(line(row), flush=True)
    return rows


def evaluation(rows):
    """Whether every size and metric passes; says how each did."""
    passed = True
    for size, name in dict.fromkeys((row["size"], row["metric"]) for row in rows):
        of_it = [row for row in rows if (row["size"], row["metric"]) == (size, name)]
        slowest = min(row["times_faster"] for row in of_it)
        better, error = together(of_it)
        print(f"{size:18} {name:9} {slowest:7.1f} x at least; better unseen by {better:+.6f} ± {error:.6f}")
        passed &= slowest >= TIMES and better >= -ERRORS * error
    return passed


def main() -> None:
    """Print, judge and perhaps keep the figures."""
    rows = [row for size in SIZES for row in measured(*size)]
    passed = evaluation(rows)
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "autogluon.core": version("autogluon.core"),
        "scikit-learn": version("scikit-learn"),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }
    print(json.dumps(versions))
    if len(sys.argv) > 1:
        write_json(Path(sys.argv[1]), {"versions": versions, "passed": bool(passed), "results": rows})
    sys.exit(not passed)


if __name__ == "__main__":
    main()
