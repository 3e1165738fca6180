"""The `data` section of a recipe: where images and labels are, and in which form."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from ensemble.core.registry import Registry
from ensemble.recipe.field_types import Frozen, Name, PathText, Text, Texts, class_name, to_tuple

BUILT_IN_FORMS = ("digits", "folders", "csv")

forms: Registry[Any] = Registry("data form", modules=("ensemble.data.folders", "ensemble.data.tables"))
"""Functions (DataSpec, folders to leave out) -> ensemble.data.listing.RawListing, by the name of the form."""


def _known_form(value: str) -> str:
    # built-in names first, so that reading a recipe does not import the modules that list files
    if value not in BUILT_IN_FORMS and value not in forms:
        raise ValueError(f"{', '.join(map(repr, BUILT_IN_FORMS))} or a form of a plugin")
    return value


Form = Annotated[str, AfterValidator(_known_form)]


class DataSpec(Frozen):
    """The location and format of images and labels. Paths are relative to `path`; `~` is the home folder."""

    form: Form = "digits"
    """How images and labels are found: `digits` (built in), `folders`, `csv`, or a form of a plugin."""
    path: PathText = "."
    """The folder of the data; the other paths are relative to it."""
    train: PathText = "train"
    """The folder of the training images, or the CSV that lists them."""
    valid: PathText | Annotated[float, Field(gt=0, lt=1)] | None = None
    """The same for validation, or the fraction of train that is held out, stratified."""
    test: PathText | None = None
    """The same for the test images, labelled or not."""
    tests: dict[Name, PathText] = {}
    """Further test sets by name; members predict each of them."""
    images: PathText = "."
    """The folder of the images that a CSV names."""
    extension: str | None = None
    """Added to the names in a CSV, such as `.jpg`; by default it is found out."""
    id_column: Text | None = None
    """The column of a CSV with the ids."""
    path_column: Text | None = None
    """The column of a CSV with the paths of the images, where ids are something else."""
    label_column: Text | None = None
    """The column of a CSV with the label."""
    label_columns: Texts = ()
    """The columns of a CSV with one class each: 0 or 1, or probabilities."""
    unnamed_class: Annotated[Text, AfterValidator(class_name)] | None = None
    """The class of rows whose `label_columns` are all 0."""
    group_column: Text | None = None
    """The column of a CSV whose equal values stay on one side of every split, such as a patient."""
    split_column: Text | None = None
    """The column of train's table with train, valid or test for each row."""
    groups: PathText | None = None
    """A CSV of split, id and group, as `ens check` writes it; groups stay together."""
    classes: Texts = ()
    """The names of the classes, in order; needed where labels are numbers."""
    soft_labels: bool = False
    """Whether `label_columns` are probabilities."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Of the held-out fraction and of folds."""
    skip_unreadable: bool = False
    """Leave unreadable images out instead of refusing the data."""
    background: Annotated[tuple[int, int, int], BeforeValidator(to_tuple)] | None = None
    """Red, green and blue behind transparent pixels, 0 to 255; by default such images are refused."""
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    """Larger images are refused, as a file of a few bytes can unpack to gigabytes."""
    medical: bool = False
    """An export of a model of this data says that it is not a medical device."""
