"""The most confident mistakes, with Grad-CAM heat maps.

`ensemble.inference.gradcam` computes the heat maps with torch and stores them in the run; this module reads them.
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
from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.file import read_recipe_file
from ensemble.report.classes import Labelled
from ensemble.report.figures import overlaid
from ensemble.report.html import data_uri
from ensemble.report.sections.scope import Evidence, Load, Subject, parents
from ensemble.runs.run import Run


def surest_mistakes(rows: Labelled, count: int) -> Ints:
    """Indices of at most `count` wrong rows, by descending probability of the predicted class, ties by index."""
    predicted = rows.predicted
    wrong = np.flatnonzero(predicted != rows.targets)
    confidence = rows.probs[wrong, predicted[wrong]]
    return wrong[np.argsort(-confidence, kind="stable")][:count]


def pictures(run: Run, rows: Labelled, count: int, load: Load = load_dataset) -> list[tuple[Image.Image, str]]:
    """(image, caption) of the most confident mistakes. Raises DataError if the run's data is missing or changed."""
    indices = surest_mistakes(rows, count)
    open_image = images_of(run, load=load)
    predicted = rows.predicted
    return [
        (
            open_image(str(rows.ids[row])),
            f"{_short(str(rows.ids[row]))}\n{rows.classes[rows.targets[row]]}, said"
            f" {rows.classes[predicted[row]]} {rows.probs[row, predicted[row]]:.2f}",
        )
        for row in indices.tolist()
    ]


def images_of(
    run: Run, splits: Sequence[str] = ("train", "valid"), load: Load = load_dataset
) -> Callable[[str], Image.Image]:
    """A function that maps the id of a row of `splits` to its upright image; it raises KeyError for other ids.

    Raises DataError if no recipe locates the images, or if they have changed.
    """
    recipe = run.path / "recipe.yaml"
    source = recipe if recipe.is_file() else next(iter(_parent_recipes(run)), recipe)
    if not source.is_file():
        raise DataError("no recipe says where its images are")
    dataset = _readable(read_recipe_file(source).data, run.path.parent, load)
    if dataset.fingerprint != run.fingerprint:
        raise DataError("its images have changed since")
    path_of: Mapping[str, str] = {
        str(name): str(path)
        for split in splits
        if split in dataset.splits
        for name, path in zip(dataset.splits[split].ids, dataset.splits[split].paths, strict=True)
    }
    return lambda name: dataset.open_image(path_of[name])


def _readable(spec: DataSpec, folder: Path, load: Load) -> Dataset:
    """The data set; images that have become unreadable are skipped, which changes the fingerprint."""
    try:
        return load(spec, folder)
    except UnreadableFiles:
        return load(spec.model_copy(update={"skip_unreadable": True}), folder)


def opener(run: Run, load: Load = load_dataset) -> Callable[[str], Image.Image]:
    """A function that maps a file, or the id of a train or valid row of the run, to its upright image.

    It raises DataError if the name is neither.
    """

    images = lru_cache(images_of)  # listing and hashing the data is slow; done once, at the first id

    def open_image(name: str) -> Image.Image:
        path = Path(name)
        if path.is_file():
            return read_image(path, max_pixels=DataSpec().max_pixels, background=(255, 255, 255))
        try:
            return images(run, load=load)(name)
        except KeyError:
            raise DataError(f"{name!r} is neither a file nor the id of a training or validation row") from None

    return open_image


def _parent_recipes(run: Run) -> list[Path]:
    paths = [run.path.parent / parent.id / "recipe.yaml" for parent in run.record.parents]
    return [path for path in paths if path.is_file()]


def _short(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else f"…{name[-limit + 1 :]}"


COUNT = 12
MOST_MEMBERS = 3
"""Limit of the members whose Grad-CAM is shown per mistake; those with the largest weights."""
MOST_PROBABILITIES = 6
"""Limit of the members whose probabilities are listed per mistake."""
SIDE = 180
MAP_VERSION = 2
"""Version of the heat maps, part of the file name; version 1 drew attention and tokens as if they were maps."""


@dataclass(frozen=True)
class Heatmap:
    """Grad-CAM heat map of `run` for the row with id `name` and the class `class_name`."""

    run: Run
    name: str
    class_name: str

    @property
    def path(self) -> Path:
        """The PNG file; its name is a hash of row, class, weights and version."""
        weights = self.run.record.weights_sha256
        digest = sha256_json([self.name, self.class_name, weights, MAP_VERSION])[:16]
        return self.run.path / "figures" / "gradcam" / f"{digest}.png"


@dataclass(frozen=True)
class Picture:
    """An image of the page. data: a `data:` URI."""

    data: str
    alt_text: str
    caption: str


@dataclass(frozen=True)
class Mistake:
    """A wrong row. probability: of the predicted class.

    members: (member, its probability of the predicted class, its probability of the true class).
    """

    id: str
    true: str
    predicted: str
    probability: float
    members: tuple[tuple[str, float, float], ...]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Mistakes:
    """The most confident mistakes. wrong: wrong rows, of `n`.  reason: why images are missing, or empty."""

    shown: tuple[Mistake, ...]
    wrong: int
    n: int
    reason: str


def mistakes(subject: Subject, evidence: Evidence, count: int = COUNT) -> Mistakes | None:
    """At most `count` mistakes, most confident first; None without labelled rows."""
    rows = evidence.rows
    if rows is None:
        return None
    predicted = rows.predicted
    indices = surest_mistakes(rows, count).tolist()
    images, reason = _images(subject, evidence, [str(rows.ids[row]) for row in indices])
    members = _listed_members(subject, evidence)
    cams = {(heatmap.name, heatmap.run.id): heatmap for heatmap in heatmaps(subject, evidence, count)}
    shown = []
    for row in indices:
        name, given, true = str(rows.ids[row]), int(predicted[row]), int(rows.targets[row])
        member_probs = [
            (run.id, float(member_rows.probs[row, given]), float(member_rows.probs[row, true]))
            for run, member_rows in members
        ]
        mistake = Mistake(
            name, rows.classes[true], rows.classes[given], float(rows.probs[row, given]), tuple(member_probs), ()
        )
        pictures = _pictures(
            mistake, images.get(name), [heatmap for key, heatmap in cams.items() if key[0] == name]
        )
        shown.append(replace(mistake, pictures=pictures))
    return Mistakes(tuple(shown), int((predicted != rows.targets).sum()), len(rows.targets), reason)


def _listed_members(subject: Subject, evidence: Evidence) -> list[tuple[Run, Labelled]]:
    """The members whose probabilities are listed per mistake, with their rows."""
    if subject.ensemble is None:
        return []
    rows = {run.id: member_rows for run, member_rows in zip(subject.members, evidence.members, strict=False)}
    return [(run, rows[run.id]) for run in _heaviest(subject, MOST_PROBABILITIES) if run.id in rows]


def heatmaps(subject: Subject, evidence: Evidence, count: int = COUNT) -> list[Heatmap]:
    """The heat maps of the mistakes, whether their files exist or not."""
    rows = evidence.rows
    if rows is None:
        return []
    predicted = rows.predicted
    targets = [(str(rows.ids[row]), rows.classes[predicted[row]]) for row in surest_mistakes(rows, count).tolist()]
    networks = [_HeldOutNetwork(run) for run in _heaviest(subject, MOST_MEMBERS)]
    candidates = [
        (network.of(name, evidence.split), name, class_name) for name, class_name in targets for network in networks
    ]
    return [Heatmap(run, name, class_name) for run, name, class_name in candidates if run is not None]


class _HeldOutNetwork:
    """Selects, for a member, the network that was not trained on a given row."""

    def __init__(self, run: Run) -> None:
        self.run = run
        folds = [parent for parent in parents(run) if parent.is_fold] if run.pools_folds else []
        self.folds = [
            (fold, frozenset(fold.predictions("valid").ids.tolist())) for fold in folds if fold.has("valid")
        ]

    def of(self, name: str, split: str) -> Run | None:
        """The member itself, or the fold that held the row out; for a row of a test split the first fold.

        None without a stored network.
        """
        if not self.run.pools_folds:
            return self.run if _has_network(self.run) else None
        candidates = [run for run, names in self.folds if split != "valid" or name in names]
        return next((run for run in candidates if _has_network(run)), None)


def _has_network(run: Run) -> bool:
    return (run.path / "weights.safetensors").is_file() and (run.path / "recipe.yaml").is_file()


def _heaviest(subject: Subject, count: int) -> list[Run]:
    record = subject.ensemble
    weights = dict(zip(record.members, record.weights, strict=True)) if record and record.weights else {}
    return sorted(subject.members, key=lambda run: -weights.get(run.id, 0.0))[:count]


def image_source(subject: Subject, evidence: Evidence) -> Callable[[str], Image.Image]:
    """`images_of` the first run in scope with a recipe, for the splits of the evidence. Raises DataError."""
    splits = ("train", "valid") if evidence.split == "valid" else (evidence.split,)
    candidates = (run for run in (subject.focus, *subject.members) if (run.path / "recipe.yaml").is_file())
    return images_of(next(candidates, subject.focus), splits, subject.load)


def _images(subject: Subject, evidence: Evidence, names: Sequence[str]) -> tuple[dict[str, Image.Image], str]:
    """(images by row id, reason why some are missing or an empty string)."""
    images: dict[str, Image.Image] = {}
    if not names:
        return images, ""
    try:
        open_image = image_source(subject, evidence)
        for name in names:
            images[name] = open_image(name)
    except KeyError as error:
        return images, f"{error.args[0]} is not among the images of its recipe"
    except (EnsError, OSError) as error:
        return images, one_line(error)
    return images, ""


def _pictures(mistake: Mistake, image: Image.Image | None, cams: Sequence[Heatmap]) -> tuple[Picture, ...]:
    image_text = f"{mistake.id}: {mistake.true}, said {mistake.predicted} with {mistake.probability:.2f}"
    pictures = [] if image is None else [Picture(data_uri(image, SIDE), image_text, "image")]
    for heatmap in cams:
        if heatmap.path.is_file():
            with Image.open(heatmap.path) as png:
                description = str(png.info.get("Description", ""))
                uri = data_uri(png.convert("RGB"), SIDE)
            alt_text = (
                f"Where {heatmap.run.id} looks for {heatmap.class_name} in {heatmap.name}"
                f" (Grad-CAM){description and ': ' + description}"
            )
            pictures.append(Picture(uri, alt_text, heatmap.run.arch))
    return tuple(pictures)


def heat_picture(pixels: Pixels, cam: Wide) -> bytes:
    """PNG of an image, uint8 (h, w, 3), blended with its heat map, float (h, w); `described` as its Description."""
    info = PngInfo()
    info.add_itxt("Description", described(cam))
    out = io.BytesIO()
    overlaid(pixels, cam).save(out, "png", pnginfo=info)
    return out.getvalue()


def described(cam: Wide) -> str:
    """Text with the centroid of a heat map, float (h, w) in [0, 1], and its share in the image's middle quarter."""

    total = float(cam.sum())
    if total <= 0:
        return "nowhere in particular"
    height, width = cam.shape
    row_index, column_index = np.mgrid[0:height, 0:width]
    x, y = (
        100 * float((cam * (index + 0.5)).sum()) / (total * side)
        for index, side in ((column_index, width), (row_index, height))
    )

    inner = cam[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return (
        f"the middle of the heat is {x:.0f} % from the left and {y:.0f} % from the top, and"
        f" {100 * float(inner.sum()) / total:.0f} % of it lies in the middle quarter of the image"
    )
