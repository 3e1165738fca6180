"""What `ens predict` prints of each image: a line of CSV, or of JSON."""

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
    """Of n images. entropy, disagreement: float64 (n,) in nats, None with one member.

    sets: bool (n, k), None where nothing could be calibrated.
    """

    entropy: Wide
    disagreement: Wide | None
    sets: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Layout:
    """classes: (k,).  top: so many classes, the most probable first; None for all of them in their own order.

    form: csv or jsonl.
    """

    classes: tuple[str, ...]
    top: int | None
    form: str
    uncertain: bool

    def __post_init__(self) -> None:
        taken = [name for name in self.columns if self.columns.count(name) > 1]
        if self.form == "csv" and taken:
            raise RecipeError(f"a class has the name of a column: {first_few(set(taken))}; use --format jsonl")

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        unsure = ["entropy", "disagreement", "set"] if self.uncertain else []
        if self.top is None:
            return ["image", "label", "probability", *unsure, *self.classes]
        places = range(1, min(self.top, len(self.classes)) + 1)
        best = [name for place in places for name in (f"label_{place}", f"probability_{place}")]
        return ["image", *best, *unsure]

    def head(self) -> str:
        """What comes before the first row: the CSV's header."""
        return _csv(self.columns) if self.form == "csv" else ""

    def rows(self, names: Sequence[str], probs: Probs, unsure: Uncertainty | None) -> str:
        """The lines of n images: probs (n, k)."""
        if self.form == "jsonl":
            return "".join(_json(said) + "\n" for said in self.objects(names, probs, unsure))
        order = np.argsort(-probs, axis=1, kind="stable")
        return "".join(self._csv_line(name, probs[i], order[i], unsure, i) for i, name in enumerate(names))

    def objects(self, names: Sequence[str], probs: Probs, unsure: Uncertainty | None) -> list[dict[str, Any]]:
        """The JSON objects of n images: probs (n, k)."""
        order = np.argsort(-probs, axis=1, kind="stable")
        return [self._object(name, probs[i], order[i], unsure, i) for i, name in enumerate(names)]

    def _csv_line(
        self, name: str, probs: Probs, order: npt.NDArray[np.intp], unsure: Uncertainty | None, i: int
    ) -> str:
        best = [cell for c in order[: self.top or 1] for cell in (self.classes[c], str(probs[c]))]
        more: list[str] = []
        if unsure is not None:
            sizes = [unsure.entropy[i], None if unsure.disagreement is None else unsure.disagreement[i]]
            # class names may hold any separator, so that a cell with several is JSON
            more = ["" if size is None else f"{size:.6f}" for size in sizes] + [_json(self._set(unsure, order, i))]
        return _csv([name, *best, *more, *([] if self.top else map(str, probs))])

    def _object(
        self, name: str, probs: Probs, order: npt.NDArray[np.intp], unsure: Uncertainty | None, i: int
    ) -> dict[str, Any]:
        said: dict[str, Any] = {"image": name}
        if self.top is None:
            said |= {"label": self.classes[order[0]], "probability": _number(probs[order[0]])}
            said["probabilities"] = {self.classes[c]: _number(share) for c, share in enumerate(probs)}
        else:
            best = order[: self.top]
            said["top"] = [{"label": self.classes[c], "probability": _number(probs[c])} for c in best]
        if unsure is not None:
            said["entropy"] = round(float(unsure.entropy[i]), 6)
            unlike = unsure.disagreement
            said["disagreement"] = None if unlike is None else round(float(unlike[i]), 6)
            said["set"] = self._set(unsure, order, i)
        return said

    def _set(self, unsure: Uncertainty, order: npt.NDArray[np.intp], i: int) -> list[str] | None:
        """The classes of the conformal set, the most probable first."""
        if unsure.sets is None:
            return None
        return [self.classes[c] for c in order if unsure.sets[i, c]]


def _number(share: np.float32) -> float:
    """The shortest decimal that is this float32."""
    return float(str(share))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _csv(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
