"""Is the honest score honest, and does `auto` pay? Simulated pools, scored on 20,000 rows nobody saw.

    python tests/benchmarks/simulated_pools.py [--seeds 200] [--processes 2] [--kept CELLS.jsonl]

Writes ensembler.md and ensembler.json beside this file. The members of a pool see the same evidence for each image,
made hard by an error that all of them share, each through noise of its own; so errors are correlated, and no rule
can subtract what is common. What is done is kept in CELLS.jsonl, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.combine.aligned import Split
from ensemble.combine.evaluate import evaluate
from ensemble.combine.fit import Plan, applied
from ensemble.combine.rules import rules
from ensemble.core.files import write_json
from ensemble.metrics import SMALLEST, labels, metrics

UNSEEN = 20_000
SIZES = (200, 1_000, 10_000)
RULES = ("accuracy", "greedy", "auto")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Pool:
    """noise: of each member's own, beside an error of size 1 that all share.  signal: how far the true class
    stands out.  prior: of each class.  broken: how many members answer without looking.
    """

    noise: tuple[float, ...]
    signal: float = 2.6
    prior: tuple[float, ...] = (0.2,) * 5
    broken: int = 0


POOLS = {
    "similar members": Pool((1.0,) * 8),
    "mixed strengths": Pool((0.4, 0.6, 0.9, 1.3, 1.8, 2.4, 3.0, 3.6)),
    "one broken member": Pool((1.0,) * 7, broken=1),
    "one class rare": Pool((0.6, 0.8, 1.0, 1.0, 1.2, 1.4, 1.7, 2.0), prior=(0.46, 0.32, 0.2, 0.02)),
}


def drawn(pool: Pool, n: int, random: np.random.Generator) -> tuple[Any, Any, Any]:
    """probs float32 (m, n, k), targets (n,), and the chance (n, k) of each target given what members saw."""
    k = len(pool.prior)
    targets = random.choice(k, n, p=pool.prior)
    evidence = pool.signal * np.eye(k)[targets] + random.normal(size=(n, k)) + np.log(pool.prior)
    members, seen, precision = [], np.zeros((n, k)), 0.0
    for noise in pool.noise:
        sight = evidence + noise * random.normal(size=(n, k))
        seen, precision = seen + sight / noise**2, precision + noise**-2
        # the wider the noise, the less a member that knows itself would say; each is off by its own factor
        members.append(sight / (1 + noise**2) ** 0.5 * (1.2 + 0.1 * len(members)))
    for _ in range(pool.broken):
        members.append(6 * random.normal(size=(n, k)))
    logits = np.stack(members)
    probs = np.exp(logits - logits.max(axis=2, keepdims=True))
    # the mean of what was seen, weighted by precision, is all that it says of the target; Bayes's rule
    distance = (seen / precision)[:, None] - (pool.signal * np.eye(k) + np.log(pool.prior))
    likely = np.log(pool.prior) - (distance**2).sum(axis=2) / 2 / (1 + 1 / precision)
    chances = np.exp(likely - likely.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    return (probs / probs.sum(axis=2, keepdims=True)).astype(np.float32), targets, chances


def expected(metric: str, output: Any, chances: Any) -> float:
    """The score of `said` (n, k) over all labels that the rows may have had, each with its chance (n, k).

    The labels that were drawn are one sample of them; alone they would blur the score of 20,000 rows by 0.23
    points, which takes as much from the coverage at n = 10,000 as an interval that is a fifth too short.
    """
    if metric == "accuracy":
        return float(chances[np.arange(len(output)), labels(output)].mean())
    return float(-(chances * np.log(np.maximum(output.astype(np.float64), SMALLEST))).sum(axis=1).mean())


@functools.cache
def attainable(name: str, metric: str) -> float:
    """The score of the best rule that there can be, which answers with the chances, on three million rows."""
    random = np.random.default_rng(len(name))
    pieces = (drawn(POOLS[name], 100_000, random)[2] for _ in range(30))
    return float(np.mean([expected(metric, chances, chances) for chances in pieces]))


def luck(name: str, metric: str, chances: Any) -> float:
    """How much easier (for a loss: harder) rows with these chances are than others; the control variate."""
    return expected(metric, chances, chances) - attainable(name, metric)


def one_draw(job: tuple[str, int, int]) -> dict[str, Any]:
    """Every rule on one draw of a pool."""
    name, n, seed = job
    pool = POOLS[name]
    random = np.random.default_rng([seed, n, list(POOLS).index(name)])
    probs, targets, _ = drawn(pool, n, random)
    unseen, answers, chances = drawn(pool, UNSEEN, random)
    ids = tuple(f"member{j}" for j in range(len(probs)))
    valid = Split(
        np.array([f"row{i:05d}" for i in range(n)]),
        np.array([f"class{c}" for c in range(probs.shape[2])]),
        probs,
        targets,
        None,
    )
    accuracy, log_loss = metrics.get("accuracy"), metrics.get("log_loss")
    uniform = rules.get("uniform")
    plain = applied(uniform, uniform.fit(unseen, answers), None, unseen)
    out: dict[str, Any] = {"pool": name, "n": n, "seed": seed}
    out["uniform"] = expected("accuracy", plain, chances) - luck(name, "accuracy", chances)
    for item in RULES:
        rule = rules.get(item)
        plan = Plan(ids, ids, rule, calibrate=rule.calibrates)
        scored = [accuracy, log_loss] if item == "auto" else [accuracy]
        evaluation = evaluate(plan, valid, scored)
        output = evaluation.fitted.predict(unseen)
        out[item] = {"rule": evaluation.fitted.rule.name}
        for metric in scored:
            score = evaluation.scores[metric.name][0]
            out[item][metric.name] = {
                "true": expected(metric.name, output, chances) - luck(name, metric.name, chances),
                "true_of_labels": metric(output, answers),
                "apparent": score.apparent,
                "honest": score.honest,
                "low": score.low,
                "high": score.high,
            }
    return out


def cells(seeds: int, processes: int, kept: Path) -> Iterator[list[dict[str, Any]]]:
    """The draws of each pool and size."""
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    there = {(item["pool"], item["n"], item["seed"]): item for item in done}
    # one thread each, as there are several processes
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    with multiprocessing.get_context("spawn").Pool(processes) as workers, kept.open("a") as file:
        for n in SIZES:
            for name in POOLS:
                jobs = [(name, n, seed) for seed in range(seeds) if (name, n, seed) not in there]
                started = time.perf_counter()
                for item in workers.imap_unordered(one_draw, jobs):
                    there[item["pool"], item["n"], item["seed"]] = item
                    file.write(json.dumps(item) + "\n")
                    file.flush()
                print(f"{name}, n = {n}: {time.perf_counter() - started:.0f} s", flush=True)
                yield [there[name, n, seed] for seed in range(seeds)]


def summary(draws: list[dict[str, Any]], rule: str, metric: str) -> dict[str, float]:
    """Means over draws, in points (hundredths) for accuracy and in hundredths of a nat for log-loss."""
    result = [item[rule][metric] for item in draws]
    true, apparent, honest = (
        100 * np.array([item[key] for item in result]) for key in ("true", "apparent", "honest")
    )
    inside = [item["low"] <= item["true"] <= item["high"] for item in result]
    of_labels = [item["low"] <= item["true_of_labels"] <= item["high"] for item in result]
    root = math.sqrt(len(result))
    values = {
        "true": true.mean(),
        "apparent_error": (apparent - true).mean(),
        "apparent_se": (apparent - true).std(ddof=1) / root,
        "honest_error": (honest - true).mean(),
        "honest_se": (honest - true).std(ddof=1) / root,
        "apparent_absolute": np.abs(apparent - true).mean(),
        "honest_absolute": np.abs(honest - true).mean(),
        "covered": 100 * np.mean(inside),
        "covered_of_labels": 100 * np.mean(of_labels),
    }
    if metric == "accuracy":
        gain = true - 100 * np.array([item["uniform"] for item in draws])
        values |= {"gain": gain.mean(), "gain_se": gain.std(ddof=1) / root}
    return {name: float(value) for name, value in values.items()}


def verdicts(table: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """What the package promises, and whether these draws keep it."""
    of_accuracy = [row for row in table if row["metric"] == "accuracy"]
    auto = [row for row in of_accuracy if row["rule"] == "auto"]
    flattered = [row for row in of_accuracy if abs(row["apparent_error"]) > 2 * row["apparent_se"]]
    halved = [row for row in flattered if abs(row["honest_error"]) <= abs(row["apparent_error"]) / 2]
    pooled, least = (
        float(np.mean([row["covered"] for row in of_accuracy])),
        min(row["covered"] for row in of_accuracy),
    )
    worst = min(row["gain"] for row in auto)
    mixed = min(row["gain"] / row["gain_se"] for row in auto if row["pool"] == "mixed strengths")
    return [
        (f"the interval covers the unseen score in {pooled:.1f} % of all draws; 93 % asked", pooled >= 93),
        (f"and in {least:.1f} % in the worst cell; 90 % asked", least >= 90),
        (f"auto against the plain mean, worst pool: {worst:+.2f} points; -0.10 asked", worst >= -0.1),
        (
            f"auto against the plain mean, mixed strengths: {mixed:+.1f} standard errors or more; +2 asked",
            mixed >= 2,
        ),
        (
            f"apparent is off by more than two standard errors in {len(flattered)} cells; honest's mean error is at"
            f" most half of it in {len(halved)}; all asked",
            len(halved) == len(flattered),
        ),
    ]


HEADER = (
    "| pool | n | rule | score | apparent's error | honest's error | mean absolute errors | covered"
    " | against the mean |"
)


def markdown(table: list[dict[str, Any]], seeds: int) -> str:
    """The page."""
    lines = [
        "# Is the honest score honest, and does `auto` pay?",
        "",
        f"`python tests/benchmarks/simulated_pools.py --seeds {seeds}`: {seeds} draws of every pool and size,"
        f" scored on {UNSEEN:,} rows that nobody saw; eight members with correlated errors. Errors are score"
        " minus unseen score, mean ± standard error over draws; covered: how often the 95 % interval holds the"
        " unseen score, which is the mean over the labels that those rows may have had, by Bayes's rule, less what"
        " the best possible rule owes to the luck of those rows (a control variate); in brackets, the score on one"
        " drawn label a row, whose own error of 0.23 points lets even an exact interval cover only 89 % at"
        " n = 10,000.",
        "",
        *(f"- {'yes' if kept else 'NO'}: {line}" for line, kept in verdicts(table)),
    ]
    for metric, unit in (("accuracy", "points"), ("log_loss", "hundredths of a nat; not judged")):
        lines += ["", f"## {metric} ({unit})", "", HEADER, "|---" * 9 + "|"]
        lines += [_line(row) for row in table if row["metric"] == metric]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    gain = f"{row['gain']:+.2f} ± {row['gain_se']:.2f}" if "gain" in row else ""
    return (
        f"| {row['pool']} | {row['n']:,} | {row['rule']} | {row['true']:.2f} |"
        f" {row['apparent_error']:+.2f} ± {row['apparent_se']:.2f} |"
        f" {row['honest_error']:+.2f} ± {row['honest_se']:.2f} |"
        f" {row['apparent_absolute']:.2f}, {row['honest_absolute']:.2f} | {row['covered']:.1f} %"
        f" ({row['covered_of_labels']:.1f} %) | {gain} |"
    )


def main() -> None:
    """Run what is missing, then write the page and the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kept", type=Path, default=Path("simulated_pools.jsonl"))
    requested = parser.parse_args()
    table, chosen = [], {}
    for draws in cells(requested.seeds, requested.processes, requested.kept):
        about = {"pool": draws[0]["pool"], "n": draws[0]["n"]}
        rows = [
            {**about, "rule": rule, "metric": metric, **summary(draws, rule, metric)}
            for metric, those in (("accuracy", RULES), ("log_loss", ("auto",)))
            for rule in those
        ]
        table += rows
        names = [item["auto"]["rule"] for item in draws]
        chosen[f"{about['pool']}, {about['n']}"] = {name: names.count(name) for name in sorted(set(names))}
        print("\n".join(map(_line, rows)), flush=True)
    page = markdown(table, requested.seeds)
    print(page)
    (HERE / "ensembler.md").write_text(page, encoding="utf-8")
    write_json(
        HERE / "ensembler.json",
        {"seeds": requested.seeds, "unseen": UNSEEN, "table": table, "chosen_by_auto": chosen},
    )


if __name__ == "__main__":
    main()
