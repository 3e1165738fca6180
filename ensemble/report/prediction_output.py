"""Output of `ens predict`: one line of CSV or JSON per image."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.combine.fit import Probs
from ensemble.core.errors import RecipeError, first_few
from ensemble.core.predictions import Wide


@dataclass(frozen=True)
class Uncertainty:
    """Uncertainty of n predictions. entropy, disagreement: float64 (n,) in nats; disagreement None with one member.

    sets: bool (n, k), the conformal sets; None without a calibration.
    """

    entropy: Wide
    disagreement: Wide | None
    sets: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Layout:
    """Columns and format of the output. classes: (k,).  form: csv or jsonl.  uncertain: whether to add uncertainty.

    top: number of classes listed, most probable first; None for all, in class order.
    """

    classes: tuple[str, ...]
    top: int | None
    form: str
    uncertain: bool

    def __post_init__(self) -> None:
        repeated = [name for name in self.columns if self.columns.count(name) > 1]
        if self.form == "csv" and repeated:
            raise RecipeError(f"a class has the name of a column: {first_few(set(repeated))}; use --format jsonl")

    @property
    def columns(self) -> list[str]:
        """The column names, in order."""
        uncertainty = ["entropy", "disagreement", "set"] if self.uncertain else []
        if self.top is None:
            return ["image", "label", "probability", *uncertainty, *self.classes]
        ranks = range(1, min(self.top, len(self.classes)) + 1)
        best = [name for rank in ranks for name in (f"label_{rank}", f"probability_{rank}")]
        return ["image", *best, *uncertainty]

    def head(self) -> str:
        """The CSV header line; empty for JSON lines."""
        return _csv(self.columns) if self.form == "csv" else ""

    def rows(self, names: Sequence[str], probs: Probs, uncertainty: Uncertainty | None) -> str:
        """The text lines of n images; probs (n, k)."""
        if self.form == "jsonl":
            return "".join(_json(record) + "\n" for record in self.objects(names, probs, uncertainty))
        order = np.argsort(-probs, axis=1, kind="stable")
        return "".join(self._csv_line(name, probs[i], order[i], uncertainty, i) for i, name in enumerate(names))

    def objects(self, names: Sequence[str], probs: Probs, uncertainty: Uncertainty | None) -> list[dict[str, Any]]:
        """The JSON objects of n images; probs (n, k)."""
        order = np.argsort(-probs, axis=1, kind="stable")
        return [self._object(name, probs[i], order[i], uncertainty, i) for i, name in enumerate(names)]

    def _csv_line(
        self, name: str, probs: Probs, order: npt.NDArray[np.intp], uncertainty: Uncertainty | None, i: int
    ) -> str:
        best = [cell for c in order[: self.top or 1] for cell in (self.classes[c], str(probs[c]))]
        extra: list[str] = []
        if uncertainty is not None:
            values = [
                uncertainty.entropy[i],
                None if uncertainty.disagreement is None else uncertainty.disagreement[i],
            ]
            # a list of class names is written as JSON, as class names may contain any separator
            extra = ["" if value is None else f"{value:.6f}" for value in values] + [
                _json(self._set(uncertainty, order, i))
            ]
        return _csv([name, *best, *extra, *([] if self.top else map(str, probs))])

    def _object(
        self, name: str, probs: Probs, order: npt.NDArray[np.intp], uncertainty: Uncertainty | None, i: int
    ) -> dict[str, Any]:
        record: dict[str, Any] = {"image": name}
        if self.top is None:
            record |= {"label": self.classes[order[0]], "probability": _number(probs[order[0]])}
            record["probabilities"] = {self.classes[c]: _number(prob) for c, prob in enumerate(probs)}
        else:
            best = order[: self.top]
            record["top"] = [{"label": self.classes[c], "probability": _number(probs[c])} for c in best]
        if uncertainty is not None:
            record["entropy"] = round(float(uncertainty.entropy[i]), 6)
            disagreement = uncertainty.disagreement
            record["disagreement"] = None if disagreement is None else round(float(disagreement[i]), 6)
            record["set"] = self._set(uncertainty, order, i)
        return record

    def _set(self, uncertainty: Uncertainty, order: npt.NDArray[np.intp], i: int) -> list[str] | None:
        """The classes of the conformal set, most probable first."""
        if uncertainty.sets is None:
            return None
        return [self.classes[c] for c in order if uncertainty.sets[i, c]]


def _number(prob: np.float32) -> float:
    """The float with the shortest decimal representation that rounds to this float32."""
    return float(str(prob))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _csv(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
