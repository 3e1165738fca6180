"""`ens predict`."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble.cli import completion
from ensemble.cli.options import Execution, HomePath, runs_project, share
from ensemble.cli.terminal import Settings, note

if TYPE_CHECKING:
    from ensemble.api.prediction import PredictedBatch, Predictor
    from ensemble.api.workspace import Workspace
    from ensemble.combine.predicting_members import PredictingMembers as PredictingMembers
    from ensemble.core.events import Listener
    from ensemble.data.inputs import NamedImage
    from ensemble.report.prediction_output import Layout, Uncertainty
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
    from ensemble.api.prediction import predictor
    from ensemble.data.inputs import named_images
    from ensemble.report.prediction_output import Layout

    project = runs_project(settings, execution=Execution(device))
    run, images = _run_and_images(project, words)
    named_inputs: list[NamedImage] = []
    layouts: list[Layout] = []

    def check_inputs(members: PredictingMembers) -> None:
        """Raise errors of names and columns before the networks are loaded."""
        layouts.append(Layout(members.classes, top, "jsonl" if as_json else form, uncertain))
        named_inputs.extend(named_images(images, column=column, folder=folder))
        if out is not None:
            _refuse_overwriting(out, [*map(Path, images), *(image.path for image in named_inputs)])

    loaded = predictor(project, run, uncertain=uncertain, coverage=coverage, before=check_inputs)
    with _output(out) as write, project.listener as listener:
        unreadable = _write_predictions(loaded, named_inputs, layouts[0], write, listener)
    for line in unreadable:
        note(f"left out: {line}")
    note(f"{len(named_inputs) - len(unreadable)} of {len(named_inputs)} images predicted by {run.id}")


def _uncertainty(batch: PredictedBatch) -> Uncertainty | None:
    from ensemble.report.prediction_output import Uncertainty

    return None if batch.entropy is None else Uncertainty(batch.entropy, batch.disagreement, batch.sets)


def _refuse_overwriting(out: Path, inputs: Sequence[Path]) -> None:
    """Raises RecipeError if `out` is one of the input files."""
    from ensemble.core.errors import RecipeError, one_line

    if out.exists() and any(path.exists() and path.samefile(out) for path in inputs):
        raise RecipeError(f"--out {one_line(out)} is one of the files to predict; name another")


def _run_and_images(project: Workspace, words: tuple[str, ...]) -> tuple[Run, tuple[str, ...]]:
    """The run and the images in the arguments. A run id, or a prefix of one, takes precedence over a file."""
    from ensemble.api.models import run_or_newest
    from ensemble.runs.origin import id_of
    from ensemble.runs.run import all_runs

    first, rest = id_of(project.runs_folder, words[0]), words[1:]
    images = Path(first).exists() or glob.has_magic(first)
    if images and not any(run.id.startswith(first) for run in all_runs(project.runs_folder)):
        return run_or_newest(project, None), words
    if not rest:
        raise click.UsageError(f"{first!r} is no file, no folder and no pattern, and no image comes after it")
    return run_or_newest(project, first), rest


@contextlib.contextmanager
def _output(out: Path | None) -> Iterator[Callable[[str], None]]:
    """Context manager for writing to stdout, or to a file that is moved into place at the end."""
    from ensemble.core.files import replacing

    if out is None:
        yield lambda text: click.echo(text, nl=False)
        return
    with replacing(out) as file:

        def write(text: str) -> None:
            file.write(text.encode())

        yield write


def _write_predictions(
    loaded: Predictor,
    images: Sequence[NamedImage],
    layout: Layout,
    write: Callable[[str], None],
    listener: Listener,
) -> list[str]:
    """Write the rows of all images; returns lines on the unreadable ones. Raises DataError if all of them are."""
    from ensemble.core.errors import DataError

    unreadable: list[str] = []
    done = 0
    header = layout.head()
    listener.progress("predicting", 0, len(images))
    for batch in loaded.batches(images):
        done += len(batch.names) + len(batch.unreadable)
        listener.progress("predicting", done, len(images))
        unreadable += batch.unreadable
        if batch.names and header:  # without a readable image, not even the header is written
            write(header)
            header = ""
        write(layout.rows(batch.names, batch.probs, _uncertainty(batch)))
    if len(unreadable) == len(images):
        raise DataError(f"none of {len(images)} images can be read; the first: {unreadable[0]}")
    return unreadable
