"""The most confident mistakes, and Grad-CAM heat maps of them.

A heat map needs a network: `ensemble.inference.gradcam` writes it into the run, and here it is read by its name.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ensemble.core.errors import DataError, EnsError, one_line
from ensemble.core.files import sha256_json
from ensemble.core.predictions import Ints, Wide
from ensemble.data.dataset import Dataset
from ensemble.data.file_hashes import UnreadableFiles
from ensemble.data.images import read_image
from ensemble.data.load import load_dataset
from ensemble.data.preprocess import Pixels
from ensemble.recipe.file import read_recipe_file
from ensemble.recipe.schema import DataSpec
from ensemble.report.classes import Labelled
from ensemble.report.figures import overlaid
from ensemble.report.html import data_uri
from ensemble.report.sections.scope import Evidence, Subject, parents
from ensemble.runs.run import Run


def surest_mistakes(rows: Labelled, count: int) -> Ints:
    """The positions of the wrong rows, the most probable wrong class first; at most `count`, ties by position."""
    predicted = rows.predicted
    wrong = np.flatnonzero(predicted != rows.targets)
    sure = rows.probs[wrong, predicted[wrong]]
    return wrong[np.argsort(-sure, kind="stable")][:count]


def pictures(run: Run, rows: Labelled, count: int) -> list[tuple[Image.Image, str]]:
    """(image, caption) of each. Raises DataError where the run's data is not where it was, or has changed."""
    places = surest_mistakes(rows, count)
    opened = images_of(run)
    predicted = rows.predicted
    return [
        (
            opened(str(rows.ids[at])),
            f"{_short(str(rows.ids[at]))}\n{rows.classes[rows.targets[at]]}, said"
            f" {rows.classes[predicted[at]]} {rows.probs[at, predicted[at]]:.2f}",
        )
        for at in places.tolist()
    ]


def images_of(run: Run, splits: Sequence[str] = ("train", "valid")) -> Callable[[str], Image.Image]:
    """id of a row of `splits` -> its upright image, or KeyError. Raises DataError where images are not known."""
    recipe = run.path / "recipe.yaml"
    source = recipe if recipe.is_file() else next(iter(_parents(run)), recipe)
    if not source.is_file():
        raise DataError("no recipe says where its images are")
    dataset = _readable(read_recipe_file(source).data, run.path.parent)
    if dataset.fingerprint != run.fingerprint:
        raise DataError("its images have changed since")
    places: Mapping[str, str] = {
        str(name): str(path)
        for split in splits
        if split in dataset.splits
        for name, path in zip(dataset.splits[split].ids, dataset.splits[split].paths, strict=True)
    }
    return lambda name: dataset.open_image(places[name])


def _readable(spec: DataSpec, folder: Path) -> Dataset:
    """The data set; without images that can no longer be read, whose rows the fingerprint then tells of."""
    try:
        return load_dataset(spec, folder)
    except UnreadableFiles:
        return load_dataset(spec.model_copy(update={"skip_unreadable": True}), folder)


def opener(run: Run) -> Callable[[str], Image.Image]:
    """The upright image of a file, or of one of the run's labelled rows by its id. Raises DataError for neither."""

    rows = lru_cache(images_of)  # listing and checking the data takes long, and happens at the first id alone

    def opened(name: str) -> Image.Image:
        path = Path(name)
        if path.is_file():
            return read_image(path, max_pixels=DataSpec().max_pixels, background=(255, 255, 255))
        try:
            return rows(run)(name)
        except KeyError:
            raise DataError(f"{name!r} is neither a file nor the id of a training or validation row") from None

    return opened


def _parents(run: Run) -> list[Path]:
    named = [run.path.parent / str(parent["id"]) / "recipe.yaml" for parent in run.facts.get("parents", [])]
    return [path for path in named if path.is_file()]


def _short(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else f"…{name[-limit + 1 :]}"


COUNT = 12
MOST_MEMBERS = 3
"""Members whose Grad-CAM is shown beside an image: those of the largest weight."""
MOST_VOICES = 6
"""Members whose probabilities are told beside it."""
SIDE = 180
MADE = 2
"""How maps are made, part of a picture's name: the first way drew attention and tokens as if they were maps."""


@dataclass(frozen=True)
class Heatmap:
    """Where the network of `run` looks in the image of row `name` when it is asked about the class `asked`."""

    run: Run
    name: str
    asked: str

    @property
    def path(self) -> Path:
        """The PNG: other weights, another row or another class have another name."""
        weights = (self.run.facts.get("files") or {}).get("weights")
        named = sha256_json([self.name, self.asked, weights, MADE])[:16]
        return self.run.path / "figures" / "gradcam" / f"{named}.png"


@dataclass(frozen=True)
class Picture:
    """data: a `data:` URI.  says: its text alternative.  under: its caption."""

    data: str
    says: str
    under: str


@dataclass(frozen=True)
class Mistake:
    """A row that was surely wrong. said: (member, probability of the wrong class, of the true one)."""

    id: str
    true: str
    given: str
    probability: float
    said: tuple[tuple[str, float, float], ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Mistakes:
    """wrong: how many rows of `n` are.  why: why there are no images, where there are none."""

    shown: tuple[Mistake, ...]
    wrong: int
    n: int
    why: str


def mistakes(subject: Subject, found: Evidence, count: int = COUNT) -> Mistakes | None:
    """The surest first; None where no row has a label."""
    rows = found.rows
    if rows is None:
        return None
    predicted = rows.predicted
    places = surest_mistakes(rows, count).tolist()
    images, why = _images(subject, found, [str(rows.ids[at]) for at in places])
    voices = _voices(subject, found)
    cams = {(look.name, look.run.id): look for look in heatmaps(subject, found, count)}
    shown = []
    for at in places:
        name, given, true = str(rows.ids[at]), int(predicted[at]), int(rows.targets[at])
        said = [(run.id, float(one.probs[at, given]), float(one.probs[at, true])) for run, one in voices]
        mistake = Mistake(
            name, rows.classes[true], rows.classes[given], float(rows.probs[at, given]), tuple(said), ()
        )
        pictures = _pictures(mistake, images.get(name), [look for key, look in cams.items() if key[0] == name])
        shown.append(replace(mistake, pictures=pictures))
    return Mistakes(tuple(shown), int((predicted != rows.targets).sum()), len(rows.targets), why)


def _voices(subject: Subject, found: Evidence) -> list[tuple[Run, Labelled]]:
    """The members whose output on a mistake is told, with their rows."""
    if subject.ensemble is None:
        return []
    rows = {run.id: one for run, one in zip(subject.members, found.members, strict=False)}
    return [(run, rows[run.id]) for run in _heaviest(subject, MOST_VOICES) if run.id in rows]


def heatmaps(subject: Subject, found: Evidence, count: int = COUNT) -> list[Heatmap]:
    """The pictures that belong to the mistakes, whether they are there yet or not."""
    rows = found.rows
    if rows is None:
        return []
    predicted = rows.predicted
    asked = [(str(rows.ids[at]), rows.classes[predicted[at]]) for at in surest_mistakes(rows, count).tolist()]
    holders = [_Holder(run) for run in _heaviest(subject, MOST_MEMBERS)]
    wanted = [(holder.of(name, found.split), name, given) for name, given in asked for holder in holders]
    return [Heatmap(run, name, given) for run, name, given in wanted if run is not None]


class _Holder:
    """Which network of a member has not learnt from a row."""

    def __init__(self, run: Run) -> None:
        self.run = run
        folds = [one for one in parents(run) if one.is_fold] if run.pools_folds else []
        self.folds = [(one, frozenset(one.predictions("valid").ids.tolist())) for one in folds if one.has("valid")]

    def of(self, name: str, split: str) -> Run | None:
        """The member itself, or the fold that left the row out; the first fold for a row that none has seen."""
        if not self.run.pools_folds:
            return self.run if _has_network(self.run) else None
        able = [run for run, names in self.folds if split != "valid" or name in names]
        return next((run for run in able if _has_network(run)), None)


def _has_network(run: Run) -> bool:
    return (run.path / "weights.safetensors").is_file() and (run.path / "recipe.yaml").is_file()


def _heaviest(subject: Subject, count: int) -> list[Run]:
    record = subject.ensemble
    weights = dict(zip(record.members, record.weights, strict=True)) if record and record.weights else {}
    return sorted(subject.members, key=lambda run: -weights.get(run.id, 0.0))[:count]


def image_source(subject: Subject, found: Evidence) -> Callable[[str], Image.Image]:
    """The id of a row -> its upright image, or KeyError. Raises DataError where the images are not known."""
    splits = ("train", "valid") if found.split == "valid" else (found.split,)
    able = (one for one in (subject.focus, *subject.members) if (one.path / "recipe.yaml").is_file())
    return images_of(next(able, subject.focus), splits)


def _images(subject: Subject, found: Evidence, names: Sequence[str]) -> tuple[dict[str, Image.Image], str]:
    """name -> image, and why there are none, or no more."""
    images: dict[str, Image.Image] = {}
    if not names:
        return images, ""
    try:
        opened = image_source(subject, found)
        for name in names:
            images[name] = opened(name)
    except KeyError as error:
        return images, f"{error.args[0]} is not among the images of its recipe"
    except (EnsError, OSError) as error:
        return images, one_line(error)
    return images, ""


def _pictures(mistake: Mistake, image: Image.Image | None, cams: Sequence[Heatmap]) -> tuple[Picture, ...]:
    told = f"{mistake.id}: {mistake.true}, said {mistake.given} with {mistake.probability:.2f}"
    found = [] if image is None else [Picture(data_uri(image, SIDE), told, "image")]
    for look in cams:
        if look.path.is_file():
            with Image.open(look.path) as opened:
                where = str(opened.info.get("Description", ""))
                picture = data_uri(opened.convert("RGB"), SIDE)
            says = f"Where {look.run.id} looks for {look.asked} in {look.name} (Grad-CAM){where and ': ' + where}"
            found.append(Picture(picture, says, look.run.arch))
    return tuple(found)


def heat_picture(pixels: Pixels, cam: Wide) -> bytes:
    """A PNG of an image, uint8 (h, w, 3), under its map, float (h, w), with words about where that is high."""
    info = PngInfo()
    info.add_itxt("Description", described(cam))
    out = io.BytesIO()
    overlaid(pixels, cam).save(out, "png", pnginfo=info)
    return out.getvalue()


def described(cam: Wide) -> str:
    """Where a map, float (h, w) between 0 and 1, has its middle, and how much of it lies in the image's middle."""
    total = float(cam.sum())
    if total <= 0:
        return "nowhere in particular"
    height, width = cam.shape
    down, across = np.mgrid[0:height, 0:width]
    x, y = (
        100 * float((cam * (at + 0.5)).sum()) / (total * side) for at, side in ((across, width), (down, height))
    )
    inner = cam[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return (
        f"the middle of the heat is {x:.0f} % from the left and {y:.0f} % from the top, and"
        f" {100 * float(inner.sum()) / total:.0f} % of it lies in the middle quarter of the image"
    )
