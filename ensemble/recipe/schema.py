"""The keys of a recipe, their types and defaults. Unknown keys and wrong types are errors."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ensemble.core.names import nfc


def _to_text(value: Any) -> Any:
    """Class names, ids and columns are text; a bare whole number in YAML is taken as its digits.

    How `true`, `null`, `1.0` or `1e5` was written is lost once YAML has read it. Raises ValueError for these.
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
        or any(c in '/\\:*?"<>|' or not c.isprintable() for c in value)
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


def _home(value: str) -> str:
    """`~/photos` as a shell would write it out."""
    return os.path.expanduser(value)  # noqa: PTH111 — Path would change how the rest is spelled


Place = Annotated[str, AfterValidator(_home)]
Text = Annotated[str, BeforeValidator(_to_text)]
Name = Annotated[str, BeforeValidator(_to_text), AfterValidator(_plain_name)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_to_tuple)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_to_tuple)]
Rate = Annotated[float, Field(gt=0, lt=100)]


class Frozen(BaseModel):
    """A value: immutable, strict about types, closed to unknown keys and to numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSpec(Frozen):
    """Where the images and labels are, and how they are read. Paths are relative to `path`; `~` is the home folder.

    split_column: the column of train's table that says of each row train, valid or test.
    medical: an export of what learns from them says that it is no medical device.
    """

    form: Literal["digits", "folders", "csv"] = "digits"
    path: Place = "."
    train: Place = "train"
    valid: Place | Annotated[float, Field(gt=0, lt=1)] | None = None
    test: Place | None = None
    tests: dict[Name, Place] = {}
    images: Place = "."
    extension: str | None = None
    id_column: Text | None = None
    path_column: Text | None = None
    label_column: Text | None = None
    label_columns: Texts = ()
    unnamed_class: Annotated[Text, AfterValidator(_class_name)] | None = None
    group_column: Text | None = None
    split_column: Text | None = None
    groups: Place | None = None
    classes: Texts = ()
    soft_labels: bool = False
    split_seed: Annotated[int, Field(ge=0)] = 0
    skip_unreadable: bool = False
    background: Annotated[tuple[int, int, int], BeforeValidator(_to_tuple)] | None = None
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    medical: bool = False


class Stage(Frozen):
    """One leg of training: which layers train, epochs, learning rate or `auto`, schedule.

    train: the head alone, everything, or the head and the last so many layers of the body.
    """

    train: Literal["head", "all"] | Annotated[int, Field(ge=1)] = "all"
    epochs: Annotated[int, Field(ge=1)]
    lr: Literal["auto"] | Rate = "auto"
    schedule: str = "one-cycle"


class Recipe(Frozen):
    """One member: everything that decides its result. None stands for a default that depends on other keys."""

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
    # a batch norm cannot learn from a batch of one
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
    """The `combine` part of a recipe file: the defaults of `ens combine`."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    per_arch: Annotated[int, Field(ge=0)] = 1
    rule: str = "accuracy"
    metric: str = "accuracy"
    calibrate: bool | None = None
    refits: bool = False
    name: Name = "ensemble"


Range = tuple[float, float] | tuple[float, float, Literal["log"]]


class SweepSpec(Frozen):
    """The `sweep` part of a recipe file: the defaults of `ens sweep`.

    grid: keys of a member and the values that each takes; the last key's are the columns of the table.
    search: keys and the ranges, [low, high] or [low, high, log], that a guided search tries values of.
    """

    grid: dict[str, Annotated[tuple[Any, ...], BeforeValidator(_to_tuple), Field(min_length=1)]] = {}
    search: dict[str, Annotated[Range, BeforeValidator(_to_tuple)]] = {}
    trials: Annotated[int, Field(ge=1)] = 20
    metric: str = "accuracy"


class SubmitSpec(Frozen):
    """The `submit` part of a recipe file: the defaults of `ens submit`."""

    format: str = "kaggle"
    sample: Place | None = None
    out: Place | None = None
    id_column: Text = "id"
    label_column: Text = "label"
    positive: Text | None = None
    header: bool = True
    separator: Annotated[str, AfterValidator(_separator)] = ","
    inner_name: str = "prediction.csv"
    label_as: Literal["name", "index", "probabilities"] = "name"
    order: Literal["ids", "natural"] = "ids"
    zip: bool = False
