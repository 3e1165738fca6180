"""`ens combine`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import (
    Execution,
    NamedOption,
    data_settings,
    runs_options,
    runs_project,
    share,
    track_options,
)
from ensemble.cli.terminal import BEST, DIM, Settings, as_json_text, table
from ensemble.core.table import Cell, milliseconds

if TYPE_CHECKING:
    from ensemble.api.models import Ensemble
    from ensemble.combine.ensembler import Combined
    from ensemble.combine.record import MemberRow
    from ensemble.combine.report import Part


@click.command()
@click.argument("runs", nargs=-1, shell_complete=completion.runs)
@click.option("--threshold", type=share, help="Keep members whose accuracy is strictly above. [default: 0, all]")
@click.option("--per-arch", type=click.IntRange(min=0), help="At least so many an architecture. [default: 1]")
@click.option(
    "--rule",
    cls=NamedOption,
    registry="ensemble.combine.rules:rules",
    help="One of {names}; auto compares them all. [default: accuracy]",
)
@click.option(
    "--metric",
    cls=NamedOption,
    registry="ensemble.metrics:metrics",
    help="What is scored, and what greedy and auto optimise: {names}, roc_auc:CLASS; several joined by + for their"
    " mean. [default: accuracy]",
)
@click.option("--calibrate/--no-calibrate", default=None, help="Fit a temperature after averaging.")
@click.option("--refits/--no-refits", default=None, help="Predict the test with the refits of the members.")
@click.option("--name", help="The name of the ensemble. [default: ensemble]")
@runs_options
@track_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    settings: Settings,
    /,
    runs: tuple[str, ...],
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    as_json: bool,
    track: str | None,
    track_weights: bool,
    **options: Any,
) -> None:
    """Combine members into an ensemble: of the current data set, or the RUNS that are named.

    The current data set is that of ens.yaml, else of the newest run. Test images that have changed since they were
    predicted are refused, with the command that predicts them anew.

    \b
    ens combine --threshold 0.95
    ens combine --rule auto --metric log_loss
    ens combine --rule auto --metric roc_auc:melanoma+roc_auc:nevus
    ens combine --rule uniform --calibrate resnet34-1f2e3d4c vgg19-5a6b7c8d
    """
    from ensemble.api.combining import facts_of

    project = runs_project(
        settings, recipe, data, data_settings(settings_), Execution(track=track, track_weights=track_weights)
    )
    ensemble = project.combine(runs or None, **options)
    click.echo(as_json_text(facts_of(ensemble)) if as_json else combine_text(ensemble))


def combine_text(ensemble: Ensemble) -> str:
    """Text of a combination: the members, the scores, the conclusions, the run id."""
    combined = ensemble.combined
    scores = [(row.name, row.apparent, row.honest.value, row.honest.bounds) for row in combined.scores]
    metric, rows = combined.scores[0].metric, int(combined.run.metrics["valid"]["n"])
    rules = [
        (
            candidate.rule,
            candidate.score,
            f"{candidate.error:.4f}" if candidate.error else "best",
            "*" if candidate.rule == combined.rule else "",
        )
        for candidate in combined.report.tournament
    ]
    return "\n".join(
        [
            *_members(combined),
            "",
            *([table((f"rule ({metric})", "cross-fitted", "error of the gap", ""), rules), ""] if rules else []),
            table((metric, "apparent", "honest", "95% interval"), scores, {0: BEST}),
            *([] if combined.temperature is None else [f"temperature {combined.temperature:.4f}"]),
            "",
            *combined.report.sentences(),
            *(
                [f"(members compared on {compared_rows} of {rows} rows)"]
                if (compared_rows := combined.report.rows) < rows
                else []
            ),
            "",
            combined.run.id,
        ]
    )


def _members(combined: Combined) -> list[str]:
    """The table of members, with the contribution of each to the kept ones."""
    parts = {part.id: part for part in combined.report.parts}
    gains = [part for part in combined.report.parts if part.gain is not None]
    header = ["member", "arch", "accuracy", "weight", *(["gain", "95% interval"] if gains else [])]
    header += ["differs", "only it", "an image", "why"]
    styles = {index: DIM for index, row in enumerate(combined.members) if not row.kept}
    return [table(header, [_member(row, parts.get(row.id), bool(gains)) for row in combined.members], styles)]


def _member(row: MemberRow, part: Part | None, gains: bool) -> list[Cell]:
    weight = "-" if row.weight is None else f"{row.weight:.4f}"
    if part is None:
        return [row.id, row.arch, row.accuracy, weight, *(["", ""] if gains else []), "", "", "", row.why]
    gain_cells = [] if part.gain is None else [f"{part.gain.value:+.4f}", part.gain.signed]
    differs, only_right = f"{100 * part.disagreement:.1f}%", str(part.only_right)
    cost = milliseconds(part.seconds_per_image)
    return [row.id, row.arch, row.accuracy, weight, *gain_cells, differs, only_right, cost, row.why]
