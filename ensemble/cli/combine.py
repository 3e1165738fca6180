"""`ens combine`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.current import Current
from ensemble.cli.options import data_settings, runs_options, share, track_options, tracked
from ensemble.cli.terminal import BEST, DIM, Cell, Settings, as_json_text, bars, note, table
from ensemble.core.table import interval, milliseconds

if TYPE_CHECKING:
    from ensemble.combine.ensembler import Combined, MemberRow
    from ensemble.combine.report import Part
    from ensemble.recipe.schema import DataSpec
    from ensemble.runs.run import Run


@click.command()
@click.argument("runs", nargs=-1, shell_complete=completion.runs)
@click.option("--threshold", type=share, help="Keep members whose accuracy is strictly above. [default: 0, all]")
@click.option("--per-arch", type=click.IntRange(min=0), help="At least so many an architecture. [default: 1]")
@click.option(
    "--rule",
    shell_complete=completion.rules,
    help="accuracy, uniform, log-odds, logit-mean, rank, convex, greedy, per-class, stack, or auto, which compares"
    " them all. [default: accuracy]",
)
@click.option(
    "--metric",
    shell_complete=completion.metrics,
    help="What is scored, and what greedy and auto optimise: accuracy, balanced_accuracy, macro_f1, kappa,"
    " log_loss, brier, ece, roc_auc, roc_auc:CLASS; several joined by + for their mean. [default: accuracy]",
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
    settings = tracked(settings, track, track_weights)
    here = Current(settings.runs, recipe, data, data_settings(settings_))
    combined = combine_runs(settings, here, runs, **options)
    click.echo(as_json_text(facts_of(combined)) if as_json else text_of(combined))


def _note_outdated(folder: Path, current: Run) -> None:
    """A line on the members that are not combined because the images or labels have changed since."""
    from ensemble.core.errors import first_few
    from ensemble.runs.origin import outdated

    if others := outdated(folder, current):
        names = first_few(run.id for run in others)
        note(f"left out: {names}, trained before the images or labels changed; `ens train` trains them anew")


def combine_runs(settings: Settings, here: Current, names: Sequence[str], **options: Any) -> Combined:
    """Combine the runs called `names`, or the candidates of the data set; say what should be known.

    options: keys of the recipe's `combine` that win over it; None leaves the recipe's.
    """
    from ensemble.combine.candidates import candidates, named
    from ensemble.combine.ensembler import combine
    from ensemble.core.errors import DataError, one_line

    if not names:
        here.announce()
    runs = named(settings.runs, names) if names else candidates(settings.runs, here.fingerprint)
    if not runs:
        raise DataError(
            f"no complete runs of {here.name} in {one_line(settings.runs)}; type `ens train`, or name the runs"
        )
    if not names:
        _note_outdated(settings.runs, runs[0])
    asked = {key: value for key, value in options.items() if value is not None}
    # without a recipe there is none to read, nor the reader of recipes to load
    keys = {**(vars(here.file.combine) if here.has_settings else {}), **asked}
    with bars() as stage:
        combined = combine(
            runs,
            folder=settings.runs,
            data=_images(here, runs, bool(names)),
            progress=lambda done, total: stage("fitting", done, total),
            **keys,
        )
    for line in combined.notes:
        note(line)
    if settings.track:
        settings.track.open(note).finished(combined.run)
    return combined


def _images(here: Current, runs: Sequence[Run], named: bool) -> DataSpec | None:
    """Where the images are of what is combined; None where nobody knows."""
    from ensemble.combine.candidates import leaves

    if not named:
        return None if here.is_digits else here.spec
    trained = [run for run in leaves(runs)[0] if run.kind != "import"]
    return here.spec_for(trained[0]) if trained else None


def text_of(combined: Combined) -> str:
    """Members, scores, what follows from them, the id."""
    scores = [(row.name, row.apparent, row.honest, interval(row.low, row.high)) for row in combined.scores]
    metric, rows = combined.scores[0].metric, int(combined.run.metrics["valid"]["n"])
    rules = [
        (one.rule, one.score, f"{one.error:.4f}" if one.error else "best", "*" if one.rule == combined.rule else "")
        for one in combined.report.tournament
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
                [f"(members compared on {looked} of {rows} rows)"]
                if (looked := combined.report.rows) < rows
                else []
            ),
            "",
            combined.run.id,
        ]
    )


def _members(combined: Combined) -> list[str]:
    """The table of members: what each brings to those that were kept."""
    parts = {part.id: part for part in combined.report.parts}
    gains = [part for part in combined.report.parts if part.gain is not None]
    header = ["member", "arch", "accuracy", "weight", *(["gain", "95% interval"] if gains else [])]
    header += ["differs", "only it", "an image", "why"]
    left_out = {at: DIM for at, row in enumerate(combined.members) if not row.kept}
    return [table(header, [_member(row, parts.get(row.id), bool(gains)) for row in combined.members], left_out)]


def _member(row: MemberRow, part: Part | None, gains: bool) -> list[Cell]:
    weight = "-" if row.weight is None else f"{row.weight:.4f}"
    if part is None:
        return [row.id, row.arch, row.accuracy, weight, *(["", ""] if gains else []), "", "", "", row.why]
    gain = [] if part.gain is None else [f"{part.gain:+.4f}", f"{part.low:+.4f} to {part.high:+.4f}"]
    differs, alone = f"{100 * part.disagreement:.1f}%", str(part.only_right)
    cost = milliseconds(part.seconds_per_image)
    return [row.id, row.arch, row.accuracy, weight, *gain, differs, alone, cost, row.why]


def facts_of(combined: Combined) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    return {
        "run": combined.run.id,
        "rule": combined.rule,
        "temperature": combined.temperature,
        "members": [asdict(row) for row in combined.members],
        "scores": [asdict(row) for row in combined.scores],
        "report": combined.report.facts(),
        "notes": list(combined.notes),
    }
