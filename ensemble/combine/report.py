"""The report on an ensemble: comparisons, member contributions, droppable members, what to train next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ensemble.combine.advice import Advice, NextMember, advise
from ensemble.combine.aligned import Split
from ensemble.combine.arrays import sampled
from ensemble.combine.contributions import WithoutMembers, contributions, only_right
from ensemble.combine.evaluate import Evaluation
from ensemble.combine.fit import Plan, Pool
from ensemble.combine.member_elimination import Elimination, eliminate_members
from ensemble.combine.rule_selection import RuleScore
from ensemble.core.errors import DataError, abbreviated, one_line
from ensemble.core.estimate import Estimate
from ensemble.core.files import read_json, without_nan
from ensemble.core.predictions import Ints
from ensemble.metrics import metrics
from ensemble.runs.run import Run
from ensemble.stats.comparison import Comparison, compare

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Value = TypeVar("_Value", bound="DataclassInstance")
_CELLS, _FEWEST = 10_000_000, 2_000


@dataclass(frozen=True)
class Part:
    """A kept member's contribution, with the fields of `contributions.Contribution`, and its cost.

    only_right: number of rows that only this kept member gets right.  seconds_per_image: None if unknown.
    """

    id: str
    gain: Estimate | None
    disagreement: float
    only_right: int
    seconds_per_image: float | None


@dataclass(frozen=True)
class Report:
    """rows: number of validation rows used; a random sample if m n k is above 10 million.

    tournament: every rule's cross-fitted score if `auto` selected.  against: comparisons with the best member and
    the plain mean.  shorter, dropped: a smaller equally good ensemble, if there is one, and the ids it drops.
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
        """All fields as plain values for JSON; None instead of nan."""
        shorter = None if self.shorter is None else plain(self.shorter)
        facts: dict[str, Any] = without_nan(
            {
                "metric": self.metric,
                "rows": self.rows,
                "tournament": [plain(rule) for rule in self.tournament],
                "against": [plain(comparison) for comparison in self.against],
                "parts": [plain(part) for part in self.parts],
                # ids are clearer than positions
                "shorter": shorter and {**shorter, "dropped": list(self.dropped)},
                "advice": asdict(self.advice),
            }
        )
        return facts

    def sentences(self) -> list[str]:
        """The findings as sentences, one line each."""
        lines = [comparison.sentence for comparison in self.against]
        if self.shorter is not None:
            staying = [part.id for part in self.parts if part.id not in self.dropped]
            few = len(self.dropped) <= len(staying)
            names = abbreviated(self.dropped) if few else f"keep {abbreviated(staying)}"
            lines.append(f"{self.shorter.sentence}: {names}")
        return [*lines, self.advice.sentence]


def read_report(run: Run) -> Report | None:
    """report.json of an ensemble; None if missing, as in older ensembles. Raises DataError for a broken file."""
    path = run.path / "report.json"
    if not path.is_file():
        return None
    try:
        return _report(read_json(path))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{run.id}/report.json is not as `ens combine` writes it ({one_line(error)}); combine again"
        ) from error


def _report(facts: Mapping[str, Any]) -> Report:
    parts = tuple(_value(Part, entry) for entry in facts.get("parts", ()))
    shorter, advice = facts.get("shorter"), facts.get("advice") or {}
    dropped = tuple(facts.get("dropped") or (shorter or {}).get("dropped", ()))
    positions = tuple(position for position, part in enumerate(parts) if part.id in dropped)
    ranking = tuple(_value(NextMember, entry) for entry in advice.get("ranking", ()))
    return Report(
        metric=str(facts.get("metric", "")),
        rows=int(facts.get("rows") or 0),
        tournament=tuple(_value(RuleScore, entry) for entry in facts.get("tournament", ())),
        against=tuple(_value(Comparison, entry) for entry in facts.get("against", ())),
        parts=parts,
        shorter=_value(Elimination, {**shorter, "dropped": positions}) if shorter else None,
        dropped=dropped,
        advice=Advice(ranking, bool(advice.get("stop")), str(advice.get("sentence", ""))),
    )


def plain(value: DataclassInstance) -> dict[str, Any]:
    """The fields for JSON; those of an Estimate are under the name of its field, `low` and `high`."""
    facts: dict[str, Any] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        facts[field.name] = item
        if "Estimate" in str(field.type):
            bounds = (None, None, None) if item is None else (item.value, item.low, item.high)
            facts |= dict(zip((field.name, "low", "high"), bounds, strict=True))
    return facts


def _value(kind: type[_Value], facts: Mapping[str, Any]) -> _Value:
    """The dataclass that `plain` made these facts of, without keys that a later version added."""
    values = {field.name: facts[field.name] for field in fields(kind) if field.name in facts}
    for field in fields(kind):
        if "Estimate" in str(field.type) and values.get(field.name) is not None:
            values[field.name] = Estimate(values[field.name], facts.get("low"), facts.get("high"))
    return kind(**values)


def report(plan: Plan, evaluation: Evaluation, valid: Split, members: Sequence[Run]) -> Report:
    """The report on an evaluated ensemble of `members`, by the metric of the plan."""
    pool, kept = Pool(valid.probs, valid.targets), evaluation.fitted.selection.kept
    known = evaluation.folds.known()
    rows = known[sampled(len(known), max(_FEWEST, _CELLS // (len(members) * valid.probs.shape[2])))]
    targets = valid.targets[rows]
    groups = None if valid.groups is None else valid.groups[rows]
    # a temperature does not change labels, so metrics of labels need no refit
    reduced = WithoutMembers(
        kept, evaluation, pool, rows, refit_temperature=plan.metric.view is not metrics.get("accuracy").view
    )
    ensemble_probs, probs = evaluation.crossfitted[rows], pool.take(range(len(members)), rows)
    costs = [_cost(members[index]) for index in kept]
    kept_probs = probs if len(kept) == len(members) else probs[list(kept)]
    member_contributions = contributions(plan.metric, ensemble_probs, reduced, kept_probs, targets, groups)
    elimination = eliminate_members(
        plan.metric,
        ensemble_probs,
        reduced,
        targets,
        groups,
        costs,
        [None if part.gain is None else part.gain.value for part in member_contributions],
    )
    unique_hits = only_right(pool.hits[np.ix_(np.array(kept), known)])
    untrained = [run.arch for run in members if run.is_import and not run.record.arch]
    parts = [
        Part(plan.ids[index], part.gain, part.disagreement, count, cost)
        for index, part, count, cost in zip(kept, member_contributions, unique_hits, costs, strict=True)
    ]
    return Report(
        metric=plan.metric.name,
        rows=len(rows),
        tournament=evaluation.tournament,
        against=_comparisons(plan, evaluation, valid, known) if len(members) > 1 else (),
        parts=tuple(parts),
        shorter=elimination,
        dropped=tuple(plan.ids[kept[position]] for position in elimination.dropped) if elimination else (),
        advice=advise(probs, targets, plan.archs, untrained),
    )


def _comparisons(plan: Plan, evaluation: Evaluation, valid: Split, known: Ints) -> tuple[Comparison, ...]:
    groups = None if valid.groups is None else valid.groups[known]
    targets, honest = valid.targets[known], [probs[known] for probs in evaluation.ensemble.honest]
    plain_mean_name = (
        "the plain mean" if evaluation.fitted.temperature is None else "the plain mean without a temperature"
    )
    comparisons = []
    for candidate, name in ((evaluation.best_member, "the best member"), (evaluation.plain_mean, plain_mean_name)):
        references = [probs[known] for probs in candidate.honest]
        # the plain mean has a single prediction, whatever the number of repeats
        pairs = [(probs, references[min(index, len(references) - 1)]) for index, probs in enumerate(honest)]
        comparisons.append(compare(plan.metric, pairs, targets, groups, name))
    return tuple(comparisons)


def _cost(run: Run) -> float | None:
    value = run.record.seconds_per_image
    return float(value) if isinstance(value, (int, float)) else None
