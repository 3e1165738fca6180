"""What a project's calls give back: complete runs as models that predict, and the leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.core.estimate import Estimate
from ensemble.core.table import Table
from ensemble.runs.origin import named_run
from ensemble.runs.run import Run

if TYPE_CHECKING:
    from pandas import DataFrame

    from ensemble.api.explanation import Explanation
    from ensemble.api.exporting import ExportedModel
    from ensemble.api.prediction import Image, PredictedImages
    from ensemble.api.workspace import Workspace
    from ensemble.combine.ensembler import Combined
    from ensemble.core.predictions import Predictions
    from ensemble.runs.leaderboard import Headline, Row


@dataclass(frozen=True, repr=False)
class Model:
    """A complete run: a member, a folds run, a refit, a student, an import or an ensemble.

    run: its directory.  project: whose runs folder it is in.
    """

    workspace: Workspace = field(repr=False, compare=False)
    run: Run

    @property
    def id(self) -> str:
        """The directory's name, which every command takes."""
        return self.run.id

    @property
    def kind(self) -> str:
        """member, folds, refit, import, ensemble or student."""
        return self.run.kind

    @property
    def classes(self) -> tuple[str, ...]:
        """The k class names, in the order of the columns of its predictions."""
        return self.run.record.classes

    @property
    def metrics(self) -> Mapping[str, Any]:
        """metrics.json: the scores of each split that has labels."""
        return self.run.metrics

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its training history says against it."""
        return self.run.record.warnings

    @property
    def score(self) -> Headline | None:
        """The score to believe: an ensemble's honest one, a member's accuracy; None without labels."""
        from ensemble.runs.leaderboard import headline

        return headline(self.run)

    def predictions(self, split: str = "valid") -> Predictions:
        """The stored predictions of a split: ids (n,), probs (n, k), targets (n,). Raises DataError."""
        return self.run.predictions(split)

    def predict(
        self,
        images: Image | Sequence[Image],
        *,
        top: int | None = None,
        uncertain: bool = False,
        coverage: float = 0.9,
    ) -> PredictedImages:
        """Predict images: files, folders, patterns, PIL images, or uint8 arrays (height, width, 3).

        top: so many of the most probable classes; None for all.  uncertain: with entropy and disagreement in nats,
        and a set of classes that holds the true one as often as `coverage` says. Raises DataError where no image
        can be read.
        """
        from ensemble.api.prediction import predict

        return predict(self.workspace, self.run, images, top=top, uncertain=uncertain, coverage=coverage)

    def explain(
        self, images: str | Sequence[str], *, class_name: str | None = None, out: Path | None = None
    ) -> Explanation:
        """Where the network looks (Grad-CAM), in files or ids of its rows; writes a PNG to `out`."""
        from ensemble.api.explanation import explain

        return explain(
            self.workspace,
            self.run,
            [images] if isinstance(images, str) else list(images),
            class_name=class_name,
            out=out,
        )

    def export(
        self, *, out: Path | None = None, zip: Path | None = None, format: str = "onnx", opset: int | None = None
    ) -> ExportedModel:
        """Write a folder, or a zip, that predicts anywhere with onnxruntime, and compare it with torch."""
        from ensemble.api.exporting import export

        return export(self.workspace, self.run, out=out, zip=zip, format=format, opset=opset)

    def __repr__(self) -> str:
        score = self.score
        return f"{type(self).__name__}({self.id!r}" + (f", {score})" if score else ")")

    def _repr_html_(self) -> str:
        from ensemble.report.html import fragment

        score = self.score
        return fragment(self.id, [str(score)] if score else [], warnings=self.warnings)


@dataclass(frozen=True, repr=False)
class Ensemble(Model):
    """An ensemble that was combined. combined: its members, weights, scores and report."""

    combined: Combined

    @property
    def honest(self) -> Estimate:
        """Its cross-fitted score by the metric it was combined for, with its 95 % interval."""
        return self.combined.scores[0].honest

    @property
    def apparent(self) -> float:
        """The same on the rows that it was fitted on, which flatters it."""
        return self.combined.scores[0].apparent

    @property
    def metric(self) -> str:
        """The metric of `honest` and `apparent`."""
        return self.combined.scores[0].metric

    @property
    def weights(self) -> dict[str, float | None]:
        """The weight of each member that was kept, by its id; None where the rule has no weight for each."""
        return {row.id: row.weight for row in self.combined.members if row.kept}

    def members(self) -> Table:
        """Every candidate: its id, architecture, accuracy, weight, and why it was kept or left out."""
        rows = [(row.id, row.arch, row.accuracy, row.weight, row.why) for row in self.combined.members]
        return Table(("member", "arch", "accuracy", "weight", "why"), rows)

    def scores(self) -> Table:
        """This ensemble, the plain mean and the best member: apparent and honest scores, intervals."""
        rows = [tuple(row.facts().values()) for row in self.combined.scores]
        return Table(("what", "metric", "apparent", "honest", "low", "high"), rows)

    def sentences(self) -> list[str]:
        """What follows from the scores, a sentence each."""
        return self.combined.report.sentences()

    def __repr__(self) -> str:
        return f"Ensemble({self.id!r}, {self.metric} {self.honest})"

    def _repr_html_(self) -> str:
        from ensemble.report.html import fragment

        lines = [f"Honest {self.metric} {self.honest}; apparent {self.apparent:.4f}.", *self.sentences()]
        return fragment(self.id, lines, self.members(), self.combined.notes)


@dataclass(frozen=True, repr=False)
class Leaderboard(Sequence["Row"]):
    """The rows of a leaderboard, the best first. folder: of the runs."""

    rows: tuple[Row, ...]
    folder: Path

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return self.rows[place]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def facts(self) -> list[dict[str, Any]]:
        """Each row as a mapping of plain values."""
        return [asdict(row) for row in self.rows]

    def frame(self) -> DataFrame:
        """Each row as a row of a pandas DataFrame, whose index is the run's id."""
        from pandas import DataFrame

        return DataFrame(self.facts()).set_index("id") if self.rows else DataFrame()

    def table(self) -> Table:
        """The main columns."""
        columns = ("run", "kind", "arch", "accuracy", "honest", "low", "high", "seconds")
        rows = [
            (row.id, row.kind, row.arch, row.accuracy, row.honest, row.low, row.high, row.seconds)
            for row in self.rows
        ]
        return Table(columns, rows)

    def __repr__(self) -> str:
        return self.table().text() if self.rows else "no runs"

    def _repr_html_(self) -> str:
        from ensemble.report.html import fragment

        return fragment("Runs", [], self.table())


def named(workspace: Workspace, name: str) -> Model:
    """The complete run with this id, or the only one whose id begins so. Raises DataError."""
    return Model(workspace, named_run(workspace.runs_folder, name))


def leaderboard(workspace: Workspace, *, folds: bool = False) -> Leaderboard:
    """Every run in the project's folder, the best first. folds: with the folds of each folds run."""
    from ensemble.runs.leaderboard import leaderboard as rows_of
    from ensemble.runs.run import all_runs

    rows = rows_of(all_runs(workspace.runs_folder))
    return Leaderboard(tuple(row for row in rows if folds or not row.is_fold), workspace.runs_folder)


def run_or_newest(workspace: Workspace, name: str | None) -> Run:
    """The run called `name`, else the newest ensemble of the project's data; a note says which.

    Raises DataError where there is none.
    """
    from ensemble.combine.candidates import newest_ensemble
    from ensemble.core.errors import DataError
    from ensemble.data.file_hashes import UnreadableFiles

    if name is not None:
        return named_run(workspace.runs_folder, name)
    source = workspace.source
    try:
        run = newest_ensemble(workspace.runs_folder, source.fingerprint, source.name)
    except UnreadableFiles as error:  # whose advice is for commands that read the data
        raise DataError(
            f"{len(error.problems)} images of {source.name} cannot be read, so its runs are not known; name RUN"
        ) from error
    workspace.listener.note(f"RUN is {run.id}, the newest ensemble of {source.name}")
    return run
