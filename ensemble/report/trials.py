"""The trials of a guided search as a table, the best first, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ensemble.errors import DataError
from ensemble.recipe.search import Trial
from ensemble.report.figures import new_figure, png
from ensemble.report.tables import as_csv, markdown


@dataclass(frozen=True)
class TrialTable:
    """keys: what was varied.  trials: in the order in which they were tried."""

    metric: str
    higher: bool
    keys: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def ranked(self) -> list[tuple[int, Trial]]:
        """(number, trial) of those with a score, the best first; numbers count from 1."""
        known = [(number, trial) for number, trial in enumerate(self.trials, 1) if trial.score is not None]
        return sorted(known, key=lambda entry: (-_signed(entry[1], self.higher), entry[0]))

    @property
    def best(self) -> Trial:
        """The trial with the best score. Raises DataError where none has one."""
        if not self.ranked:
            raise DataError(f"none of the {len(self.trials)} trials could be trained; see the errors above")
        return self.ranked[0][1]

    def markdown(self) -> str:
        """The table, the best in bold, and a sentence below."""
        rows = []
        for place, (number, trial) in enumerate(self.ranked):
            score = f"{trial.score:.4f}"
            cells = [f"{trial.values[key]:g}" for key in self.keys]
            rows.append([str(number), *cells, score if place else f"**{score}**"])
        values = ", ".join(f"{key} {self.best.values[key]:g}" for key in self.keys)
        failed = len(self.trials) - len(rows)
        said = f"Best {self.metric} of {len(rows)} trials: {self.best.score:.4f} ({values})."
        said += f" {failed} trials failed." if failed else ""
        return markdown(["trial", *self.keys, self.metric], rows) + (
            f"\n{said} The best of many looks better than it is.\n"
        )

    def facts(self) -> dict[str, object]:
        """The trials as plain values, in the order in which they were tried."""
        trials = [{"values": dict(trial.values), "score": trial.score} for trial in self.trials]
        return {"metric": self.metric, "trials": trials, "best": dict(self.best.values)}

    def csv(self) -> str:
        """A line for each trial in the order in which they were tried, without a score where it failed."""
        rows: Sequence[Sequence[object]] = [
            [number, *(trial.values.get(key) for key in self.keys), trial.score]
            for number, trial in enumerate(self.trials, 1)
        ]
        return as_csv(["trial", *self.keys, self.metric], rows)

    def picture(self) -> bytes:
        """A PNG: the score against each key."""

        figure = new_figure(3.4 * len(self.keys) + 0.6, 3.2)
        panels = figure.subplots(1, len(self.keys), squeeze=False, sharey=True)[0]
        known = [trial for _, trial in self.ranked]
        for key, axes in zip(self.keys, panels, strict=True):
            values = [float(trial.values[key]) for trial in known]
            axes.scatter(values, [trial.score for trial in known], color="tab:blue", s=22)
            axes.scatter(values[:1], [known[0].score], facecolors="none", edgecolors="tab:red", s=90, linewidths=2)
            if min(values) > 0 and max(values) > 30 * min(values):
                axes.set_xscale("log")
            axes.set_xlabel(key)
            axes.grid(alpha=0.3)
        panels[0].set_ylabel(self.metric)
        return png(figure)


def _signed(trial: Trial, higher: bool) -> float:
    assert trial.score is not None
    return trial.score if higher else -trial.score
