"""Every combining rule on the same runs: apparent and honest, as a Markdown table.

    python tests/benchmarks/all_rules.py RUNS_FOLDER [--metric accuracy] [--kind member] [--json RESULT.json]

All complete runs of that kind in the folder are members, whatever their accuracy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ensemble.combine.aligned import gather
from ensemble.combine.evaluate import Score, evaluate
from ensemble.combine.fit import Plan
from ensemble.combine.rules import rules
from ensemble.core.files import write_json
from ensemble.metrics import find
from ensemble.runs.run import all_runs


def main() -> None:
    """Print the table and perhaps keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--kind", default="member")
    parser.add_argument("--json", type=Path)
    requested = parser.parse_args()
    members = [
        run for run in all_runs(requested.runs) if run.complete and run.kind == requested.kind and not run.is_fold
    ]
    valid = gather(members, "valid")
    metric, log_loss = find(requested.metric, valid.classes.tolist()), find("log_loss", ())
    ids, archs = tuple(run.id for run in members), tuple(run.arch for run in members)
    lines, kept = [], []
    others: tuple[Score, ...] = ()
    for name in sorted(rules.names(), key=lambda item: rules.get(item).complexity):
        rule = rules.get(name)
        evaluation = evaluate(
            Plan(ids, archs, rule, calibrate=rule.calibrates, metric=metric), valid, [metric, log_loss]
        )
        ours, *others_ = evaluation.scores[metric.name]
        others = tuple(others_)
        surprise = evaluation.scores["log_loss"][0]
        shown = name if name != "auto" else f"auto (took {evaluation.fitted.rule.name})"
        lines.append(_line(shown, ours, surprise.honest))
        kept.append({"rule": name, "took": evaluation.fitted.rule.name, **vars(ours), "log_loss": surprise.honest})
    print(f"{len(members)} members, {len(valid.ids)} validation images")
    print(f"| rule | apparent {metric.name} | honest | 95 % interval | honest log-loss |\n|---|---|---|---|---|")
    print("\n".join([*lines, *(_line(item.name, item, None) for item in others)]))
    if requested.json:
        write_json(
            requested.json, {"members": [run.arch for run in members], "rows": len(valid.ids), "rules": kept}
        )


def _line(name: str, score: Score, surprise: float | None) -> str:
    interval = f"{score.low:.4f} to {score.high:.4f}"
    return f"| {name} | {score.apparent:.4f} | {score.honest:.4f} | {interval} |" + (
        "  |" if surprise is None else f" {surprise:.4f} |"
    )


if __name__ == "__main__":
    main()
