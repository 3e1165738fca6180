"""What is said beside an ensemble's score: is it better, who brings what, who can go, what to train next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensemble.combine.advice import Advice, advise
from ensemble.combine.aligned import Split
from ensemble.combine.arrays import sampled
from ensemble.combine.contributions import WithoutMembers, contributions, only_right
from ensemble.combine.evaluate import Evaluation
from ensemble.combine.fit import Plan, Pool
from ensemble.combine.member_elimination import Elimination, eliminate_members
from ensemble.combine.rule_selection import RuleScore
from ensemble.core.errors import abbreviated
from ensemble.core.files import without_nan
from ensemble.core.predictions import Ints
from ensemble.metrics import metrics
from ensemble.runs.run import Run
from ensemble.stats.comparison import Comparison, compare

_CELLS, _FEWEST = 10_000_000, 2_000


@dataclass(frozen=True)
class Part:
    """A kept member's part in the ensemble, as `contributions.Contribution` has it, and its cost.

    only_right: the rows that it alone of the kept members gets right.
    """

    id: str
    gain: float | None
    low: float | None
    high: float | None
    disagreement: float
    only_right: int
    seconds_per_image: float | None


@dataclass(frozen=True)
class Report:
    """rows: the validation rows looked at; random ones stand for all where m n k is above 10 million.

    tournament: every rule's cross-fitted score where `auto` chose.  against: the best member and the plain mean.
    shorter, dropped: the ids that can go, where some can.
    """

    metric: str
    rows: int
    tournament: tuple[RuleScore, ...]
    against: tuple[Comparison, ...]
    parts: tuple[Part, ...]
    shorter: Elimination | None
    dropped: tuple[str, ...]
    advice: Advice

    def facts(self) -> dict[str, Any]:
        """Everything as plain values; None for what is not defined."""
        facts: dict[str, Any] = without_nan(asdict(self))
        if self.shorter is not None:  # among many members ids say more than places
            facts["shorter"] = {**facts["shorter"], "dropped": list(self.dropped)}
        facts.pop("dropped")
        return facts

    def sentences(self) -> list[str]:
        """What a reader should know, a line each."""
        lines = [one.sentence for one in self.against]
        if self.shorter is not None:
            staying = [part.id for part in self.parts if part.id not in self.dropped]
            few = len(self.dropped) <= len(staying)
            names = abbreviated(self.dropped) if few else f"keep {abbreviated(staying)}"
            lines.append(f"{self.shorter.sentence}: {names}")
        return [*lines, self.advice.sentence]


def report(plan: Plan, evaluation: Evaluation, valid: Split, members: Sequence[Run]) -> Report:
    """The report on an evaluated ensemble of some of `members`, by the metric of the plan."""
    pool, kept = Pool(valid.probs, valid.targets), evaluation.fitted.selection.kept
    known = evaluation.folds.known()
    rows = known[sampled(len(known), max(_FEWEST, _CELLS // (len(members) * valid.probs.shape[2])))]
    targets = valid.targets[rows]
    groups = None if valid.groups is None else valid.groups[rows]
    # of labels no temperature changes anything
    reduced = WithoutMembers(kept, evaluation, pool, rows, heat=plan.metric.of is not metrics.get("accuracy").of)
    whole, probs = evaluation.crossfitted[rows], pool.taken(range(len(members)), rows)
    costs = [_cost(members[index]) for index in kept]
    chosen = probs if len(kept) == len(members) else probs[list(kept)]
    brought = contributions(plan.metric, whole, reduced, chosen, targets, groups)
    fewer = eliminate_members(plan.metric, whole, reduced, targets, groups, costs, [one.gain for one in brought])
    alone = only_right(pool.hits[np.ix_(np.array(kept), known)])
    untrained = [run.arch for run in members if run.kind == "import" and not run.facts.get("arch")]
    parts = [
        Part(plan.ids[index], one.gain, one.low, one.high, one.disagreement, count, cost)
        for index, one, count, cost in zip(kept, brought, alone, costs, strict=True)
    ]
    return Report(
        metric=plan.metric.name,
        rows=len(rows),
        tournament=evaluation.tournament,
        against=_against(plan, evaluation, valid, known) if len(members) > 1 else (),
        parts=tuple(parts),
        shorter=fewer,
        dropped=tuple(plan.ids[kept[position]] for position in fewer.dropped) if fewer else (),
        advice=advise(probs, targets, plan.archs, untrained),
    )


def _against(plan: Plan, evaluation: Evaluation, valid: Split, known: Ints) -> tuple[Comparison, ...]:
    groups = None if valid.groups is None else valid.groups[known]
    targets, ours = valid.targets[known], [one[known] for one in evaluation.ours.honest]
    plain = "the plain mean" if evaluation.fitted.temperature is None else "the plain mean without a temperature"
    found = []
    for side, name in ((evaluation.single, "the best member"), (evaluation.plain, plain)):
        theirs = [one[known] for one in side.honest]
        # a side that decides nothing has one prediction, whatever the folds
        pairs = [(one, theirs[min(index, len(theirs) - 1)]) for index, one in enumerate(ours)]
        found.append(compare(plan.metric, pairs, targets, groups, name))
    return tuple(found)


def _cost(run: Run) -> float | None:
    value = run.facts.get("seconds_per_image")
    return float(value) if isinstance(value, (int, float)) else None
