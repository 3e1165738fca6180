"""`ens predict`."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble.cli import completion
from ensemble.cli.current import run_or_newest
from ensemble.cli.options import HomePath, share
from ensemble.cli.terminal import Settings, bars, note

if TYPE_CHECKING:
    from ensemble.combine.calibration import Conformal
    from ensemble.combine.predicting_members import Committee
    from ensemble.inference.model import Answer
    from ensemble.report.prediction_output import Unsure
    from ensemble.runs.run import Run


@click.command()
@click.argument(
    "words", metavar="[RUN] IMAGES...", nargs=-1, required=True, shell_complete=completion.runs_or_files
)
@click.option("--out", type=HomePath(dir_okay=False, path_type=Path), help="The file to write. [default: stdout]")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option(
    "--top", type=click.IntRange(1), help="The most probable classes, so many. [default: all, as columns]"
)
@click.option("--uncertain", is_flag=True, help="Entropy, the members' disagreement, a set of likely classes.")
@click.option("--coverage", type=share, default=0.9, show_default=True, help="How often a set holds the truth.")
@click.option("--column", help="The column of a CSV that names the images. [default: path, image, id or alike]")
@click.option(
    "--images",
    "folder",
    type=HomePath(path_type=Path),
    help="Where a CSV's images are. [default: its own folder]",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format jsonl.")
@click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.pass_obj
def command(
    settings: Settings,
    words: tuple[str, ...],
    out: Path | None,
    form: str,
    top: int | None,
    uncertain: bool,
    coverage: float,
    column: str | None,
    folder: Path | None,
    as_json: bool,
    device: str | None,
) -> None:
    """Predict IMAGES - files, folders, patterns, CSVs that list them - with RUN, a member or an ensemble.

    Without RUN, where the first word is a file, a folder or a pattern: with the newest ensemble.
    Each image is decoded once for all members. Those that cannot be read are listed on stderr, the rest are
    predicted. With --uncertain: entropy and disagreement in nats, and a conformal set of classes.

    \b
    ens predict ensemble-1a2b3c4d photos new.jpg "more/**/*.png" --top 3
    ens predict resnet34-5e6f7a8b list.csv --images photos --uncertain --format jsonl --out said.jsonl
    """
    from ensemble.combine.predicting_members import committee
    from ensemble.core.errors import DataError
    from ensemble.data.inputs import named_images
    from ensemble.report.prediction_output import Layout

    run, images = _run_and_images(settings, words)
    found = committee(run)
    layout = Layout(found.classes, top, "jsonl" if as_json else form, uncertain)
    named = named_images(images, column=column, folder=folder)
    if out is not None:
        _refuse_to_lose(out, [*map(Path, images), *(image.path for image in named)])
    likely = _calibrated(found, coverage) if uncertain else None
    # after everything that can be wrong with the names: torch takes seconds to import
    from ensemble.inference.model import load_panel
    from ensemble.training.engine.hardware import choose_device

    panel = load_panel(found, choose_device(device))
    unreadable: list[str] = []
    done = 0
    with _written(out) as write, bars() as stage:
        head = layout.head()
        stage("predicting", 0, len(named))
        for answer in panel.answers(named):
            done += len(answer.images) + len(answer.unreadable)
            stage("predicting", done, len(named))
            unreadable += answer.unreadable
            names = [image.name for image in answer.images]
            if names and head:  # where no image can be read there is no table either
                write(head)
                head = ""
            write(layout.rows(names, answer.opinion.probs, _unsure(answer, likely)))
        if len(unreadable) == len(named):
            raise DataError(f"none of {len(named)} images can be read; the first: {unreadable[0]}")
    for line in unreadable:
        note(f"left out: {line}")
    note(f"{len(named) - len(unreadable)} of {len(named)} images predicted by {found.run.id}")


def _refuse_to_lose(out: Path, read: Sequence[Path]) -> None:
    """Raises RecipeError for an `out` that is one of the files that are read."""
    from ensemble.core.errors import RecipeError, one_line

    if out.exists() and any(path.exists() and path.samefile(out) for path in read):
        raise RecipeError(f"--out {one_line(out)} is one of the files to predict; name another")


def _run_and_images(settings: Settings, words: tuple[str, ...]) -> tuple[Run, tuple[str, ...]]:
    """What the words name. A run's id, or its beginning, goes before a file of that name."""
    from ensemble.runs.origin import id_of
    from ensemble.runs.run import all_runs

    first, rest = id_of(settings.runs, words[0]), words[1:]
    images = Path(first).exists() or glob.has_magic(first)
    if images and not any(run.id.startswith(first) for run in all_runs(settings.runs)):
        return run_or_newest(settings, None), words
    if not rest:
        raise click.UsageError(f"{first!r} is no file, no folder and no pattern, and no image comes after it")
    return run_or_newest(settings, first), rest


def _calibrated(found: Committee, coverage: float) -> Conformal:
    """The sets, and what can be said of how far they can be relied on."""
    from ensemble.combine.predicting_members import calibration

    made = calibration(found, coverage)
    for line in filter(None, (str(made), made.warning)):
        note(line)
    return made.sets


def _unsure(answer: Answer, likely: Conformal | None) -> Unsure | None:
    from ensemble.metrics.classification import entropy
    from ensemble.report.prediction_output import Unsure

    if likely is None:
        return None
    probs = answer.opinion.probs
    return Unsure(entropy(probs), answer.disagreement, likely.sets(probs))


@contextlib.contextmanager
def _written(out: Path | None) -> Iterator[Callable[[str], None]]:
    """Write to stdout, or to a file that is there when all is done."""
    from ensemble.core.files import replacing

    if out is None:
        yield lambda text: click.echo(text, nl=False)
        return
    with replacing(out) as file:

        def write(text: str) -> None:
            file.write(text.encode())

        yield write
