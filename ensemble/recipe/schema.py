"""The keys of a recipe, their types and defaults. Unknown keys and wrong types are errors."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ensemble.core.names import nfc
from ensemble.core.registry import Registry


def _to_text(value: Any) -> Any:
    """A whole number as its digits, as class names, ids and columns are text.

    The spelling of `true`, `null`, `1.0` or `1e5` is lost when YAML is read. Raises ValueError for these.
    """
    if value is None or isinstance(value, bool | float):
        raise ValueError("text in quotes")
    return str(value) if isinstance(value, int) else value


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain_name(value: str) -> str:
    if (
        not value
        or value.strip() != value
        or value[0] in ".-"
        or any(character in '/\\:*?"<>|' or not character.isprintable() for character in value)
    ):
        raise ValueError("a name without slashes, colons, quotes, line breaks or a leading dot or dash is expected")
    return value


def _class_name(value: str) -> str:
    if not value.strip():
        raise ValueError("a name is expected, not an empty text")
    return nfc(value.strip())


def _separator(value: str) -> str:
    if len(value) != 1 or value == '"' or value.isalnum() or not (value == "\t" or value.isprintable()):
        raise ValueError("a separator is one character: a comma, a semicolon, a tab or another mark")
    return value


def _expanded(value: str) -> str:
    """The path with `~` expanded."""
    return os.path.expanduser(value)  # noqa: PTH111 — Path would normalise the rest of the path


PathText = Annotated[str, AfterValidator(_expanded)]
Text = Annotated[str, BeforeValidator(_to_text)]
Name = Annotated[str, BeforeValidator(_to_text), AfterValidator(_plain_name)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_to_tuple)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_to_tuple)]
Rate = Annotated[float, Field(gt=0, lt=100)]


class Frozen(BaseModel):
    """Base model: immutable, strict about types, without unknown keys or non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


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
    """The location and format of images and labels. Paths are relative to `path`; `~` is the home folder.

    split_column: the column of train's table with train, valid or test for each row.
    medical: an export of a model of this data states that it is not a medical device.
    """

    form: Form = "digits"
    path: PathText = "."
    train: PathText = "train"
    valid: PathText | Annotated[float, Field(gt=0, lt=1)] | None = None
    test: PathText | None = None
    tests: dict[Name, PathText] = {}
    images: PathText = "."
    extension: str | None = None
    id_column: Text | None = None
    path_column: Text | None = None
    label_column: Text | None = None
    label_columns: Texts = ()
    unnamed_class: Annotated[Text, AfterValidator(_class_name)] | None = None
    group_column: Text | None = None
    split_column: Text | None = None
    groups: PathText | None = None
    classes: Texts = ()
    soft_labels: bool = False
    split_seed: Annotated[int, Field(ge=0)] = 0
    skip_unreadable: bool = False
    background: Annotated[tuple[int, int, int], BeforeValidator(_to_tuple)] | None = None
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    medical: bool = False


class Stage(Frozen):
    """A stage of training: which layers train, epochs, learning rate or `auto`, schedule.

    train: the head, all layers, or the head and the last `train` layers of the body.
    """

    train: Literal["head", "all"] | Annotated[int, Field(ge=1)] = "all"
    epochs: Annotated[int, Field(ge=1)]
    lr: Literal["auto"] | Rate = "auto"
    schedule: str = "one-cycle"


class Recipe(Frozen):
    """All settings that decide the result of a member. None is a default that depends on other keys."""

    data: DataSpec = DataSpec()
    arch: str
    name: Name | None = None
    preset: Literal["quick", "good", "best"] | None = None
    weights: str | None = None
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    progressive: Annotated[int, Field(ge=8, le=4096)] | None = None
    resize: str = "squash"
    preprocess: Texts = ()
    stem: Literal["default", "small"] = "default"
    filters: Annotated[Counts, Field(min_length=1)] | None = None
    kernel: Annotated[int, Field(ge=1)] | None = None
    block_depth: Annotated[int, Field(ge=2)] | None = None
    dense: Counts | None = None
    batch_norm: bool | None = None
    head: Literal["linear", "dense"] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    augment: str | None = None
    tta: str = "none"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    # batch norm cannot be trained with a batch of one image
    batch_size: Annotated[int, Field(ge=2)] = 64
    frozen_epochs: Annotated[int, Field(ge=0)] | None = None
    epochs: Annotated[int, Field(ge=0)] | None = None
    lr: Literal["auto"] | Rate = "auto"
    schedule: str = "one-cycle"
    unfreeze: Annotated[int, Field(ge=1)] | None = None
    freeze_norms: bool | Literal["statistics"] | None = None
    rescale_filters: bool | None = None
    head_fit: Literal["regression", "steps"] | None = None
    early_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    clip: Annotated[float, Field(ge=0)] | None = None
    cache_features: bool = False
    stages: Annotated[tuple[Stage, ...], BeforeValidator(_to_tuple)] = ()
    step_epochs: Annotated[int, Field(ge=1)] = 7
    rate_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 2
    optimizer: str = "adam"
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    bias_lr: Annotated[float, Field(gt=0)] = 1.0
    filter_lr: Annotated[float, Field(gt=0)] = 1.0
    average: str = "none"
    average_decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    average_epochs: Annotated[int, Field(ge=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    sampler: str = "none"
    sampler_count: Annotated[int, Field(ge=1)] | None = None
    sampler_cut: bool = False
    prune: Annotated[float, Field(gt=0, lt=1)] | None = None
    mixing: str = "none"
    mix_alpha: Annotated[float, Field(gt=0)] = 0.4
    loss: str = "cross-entropy"
    class_weights: Literal["none", "balanced"] = "none"
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    valid_every: Annotated[int, Field(ge=1)] = 1
    early_stopping: Annotated[int, Field(ge=1)] | None = None
    keep: Literal["last", "best"] = "last"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    layout: Literal["auto", "default", "channels_last"] = "auto"
    compile: bool | None = None
    fast_convolutions: bool = True
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] | None = None
    full: bool = False


class CombineSpec(Frozen):
    """The `combine` section of a recipe file: the defaults of `ens combine`."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    per_arch: Annotated[int, Field(ge=0)] = 1
    rule: str = "accuracy"
    metric: str = "accuracy"
    calibrate: bool | None = None
    refits: bool = False
    name: Name = "ensemble"


Range = tuple[float, float] | tuple[float, float, Literal["log"]]


class SweepSpec(Frozen):
    """The `sweep` section of a recipe file: the defaults of `ens sweep`.

    grid: keys of a member and their values; the values of the last key are the columns of the table.
    search: keys and the ranges, [low, high] or [low, high, log], of a guided search.
    """

    grid: dict[str, Annotated[tuple[Any, ...], BeforeValidator(_to_tuple), Field(min_length=1)]] = {}
    search: dict[str, Annotated[Range, BeforeValidator(_to_tuple)]] = {}
    trials: Annotated[int, Field(ge=1)] = 20
    metric: str = "accuracy"


class SubmitSpec(Frozen):
    """The `submit` section of a recipe file: the defaults of `ens submit`."""

    format: str = "kaggle"
    sample: PathText | None = None
    out: PathText | None = None
    id_column: Text = "id"
    label_column: Text = "label"
    positive: Text | None = None
    header: bool = True
    separator: Annotated[str, AfterValidator(_separator)] = ","
    inner_name: str = "prediction.csv"
    label_as: Literal["name", "index", "probabilities"] = "name"
    order: Literal["ids", "natural"] = "ids"
    zip: bool = False
