"""What the members of one command share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ensemble.data.dataset import Dataset
from ensemble.data.digests import Progress
from ensemble.data.pixels import Square
from ensemble.data.squares import Squares, open_squares
from ensemble.recipe.schema import Recipe
from ensemble.tracking.base import Nobody, Tracker
from ensemble.training.lookup import FromSquares, Images, OnDevice, on_device


def square_of(recipe: Recipe) -> Square:
    """What a resolved recipe makes of every image."""
    assert recipe.image_size is not None
    return Square(recipe.image_size, recipe.resize, recipe.preprocess)


def stores_folder(runs: Path) -> Path:
    """Where the stores of a runs folder lie."""
    return runs / ".data" / "squares"


@dataclass
class Workshop:
    """The data set, the device, and the images once they are decoded.

    folder: where stores of squares lie.  squares: what all members want, so that an image is decoded once for all.
    note: told what a person should know.  bars: whether progress may be drawn, where there is a terminal.
    tracker: told of every run.
    """

    dataset: Dataset
    device: torch.device
    folder: Path
    squares: Iterable[Square] = ()
    note: Callable[[str], None] = lambda line: None
    bars: bool = True
    tracker: Tracker = field(default_factory=Nobody)
    _opened: dict[tuple[str, Square], Squares] = field(default_factory=dict)
    _placed: dict[tuple[str, Square], OnDevice] = field(default_factory=dict)
    _may_place: bool = True

    def decode(self) -> None:
        """Make every store that is wanted, so that other processes find them."""
        for split in self.dataset.splits:
            for square in self.squares:
                self._open(split, square, None)

    def images(self, recipe: Recipe, split: str, progress: Progress | None = None) -> Images:
        """The images of `split` as this recipe wants them. Train and valid are one: folds divide them anew."""
        key = self._open(split, square_of(recipe), progress)
        _, wanted = key
        # squares of other sizes are those of other members
        self._placed = {place: images for place, images in self._placed.items() if place[1] == wanted}
        if key not in self._placed and self._may_place:
            taken = sum(images.pixels.nbytes for images in self._placed.values())
            placed = on_device(self._opened[key], self.device, taken)
            if placed:
                self._placed[key] = placed
        return self._placed.get(key) or FromSquares(self._opened[key])

    def _open(self, split: str, wanted: Square, progress: Progress | None) -> tuple[str, Square]:
        splits = [name for name in self.dataset.splits if name == split or {name, split} <= {"train", "valid"}]
        key = splits[0], wanted
        if key not in self._opened:
            every = tuple(dict.fromkeys([wanted, *self.squares]))
            found = open_squares(self.dataset, splits, every, self.folder, progress, self.note)
            self._opened |= {(splits[0], square): one for square, one in zip(every, found, strict=True)}
        return key

    def clear_device(self) -> bool:
        """Take the squares off the device, for good, as memory ran out there. Whether there were any."""
        there, self._may_place = bool(self._placed), False
        self._placed = {}
        return there
