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
    unnamed_class: Annotated[Text, AfterValidator(_class_name)] | None = None
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
    background: Annotated[tuple[int, int, int], BeforeValidator(_to_tuple)] | None = None
    """Red, green and blue behind transparent pixels, 0 to 255; by default such images are refused."""
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    """Larger images are refused, as a file of a few bytes can unpack to gigabytes."""
    medical: bool = False
    """An export of a model of this data says that it is not a medical device."""


class Stage(Frozen):
    """A stage of training."""

    train: Literal["head", "all"] | Annotated[int, Field(ge=1)] = "all"
    """What trains: `head`, `all`, or the head and the last so many layers of the body."""
    epochs: Annotated[int, Field(ge=1)]
    """Epochs of the stage."""
    lr: Literal["auto"] | Rate = "auto"
    """The highest learning rate of the stage, or `auto` for the finder."""
    schedule: str = "one-cycle"
    """The learning-rate schedule of the stage."""


class Recipe(Frozen):
    """All settings that decide the result of a member. None is a default that depends on other keys."""

    data: DataSpec = DataSpec()
    """Shared by all members; written at the top of the file."""
    arch: str
    """The network: one of this package, torchvision or timm."""
    name: Name | None = None
    """The first part of the run ids; by default the architecture."""
    preset: Literal["quick", "good", "best"] | None = None
    """How much time fine-tuning may take; `good` by default."""
    weights: str | None = None
    """`imagenet`, `none` to train from scratch, or a file of weights."""
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    """The side of the square that the network sees, in pixels; 224, of digits 32."""
    progressive: Annotated[int, Field(ge=8, le=4096)] | None = None
    """The side at which training begins; it grows to `image_size` over the epochs."""
    resize: str = "squash"
    """How an image becomes a square."""
    preprocess: Texts = ()
    """Filters that are applied to every image, in prediction too."""
    stem: Literal["default", "small"] = "default"
    """`small` for images of about 32 pixels: the first layers keep the resolution."""
    filters: Annotated[Counts, Field(min_length=1)] | None = None
    """The filters of the layers or blocks of a network of this package."""
    kernel: Annotated[int, Field(ge=1)] | None = None
    """The side of the filters of `customnet` and `customnet_deep`."""
    block_depth: Annotated[int, Field(ge=2)] | None = None
    """The convolutions in a block of `speednet`; three or more have a residual connection."""
    dense: Counts | None = None
    """The sizes of the dense layers of `customnet` and `customnet_deep`."""
    batch_norm: bool | None = None
    """Whether `customnet` has batch norms."""
    head: Literal["linear", "dense"] | None = None
    """One linear layer, or the two layers of fastai."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Before the head's last layer."""
    augment: str | None = None
    """The policy for training images; `a+b` applies one after another. `standard`, of digits `orientation`."""
    tta: str = "none"
    """The views that a prediction averages."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the weights, the order of the images and the augmentation; `seeds: [0, 1]` makes two members."""
    # batch norm cannot be trained with a batch of one image
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Images in a batch."""
    frozen_epochs: Annotated[int, Field(ge=0)] | None = None
    """Epochs of the head alone; 1, from scratch 0."""
    epochs: Annotated[int, Field(ge=0)] | None = None
    """Epochs of the whole network; 3, from scratch 30, of digits 12."""
    lr: Literal["auto"] | Rate = "auto"
    """The highest learning rate, or `auto` for the finder."""
    schedule: str = "one-cycle"
    """How the learning rate changes in a stage."""
    unfreeze: Annotated[int, Field(ge=1)] | None = None
    """Train only so many convolutions and linear layers from the body's end, after the head."""
    freeze_norms: bool | Literal["statistics"] | None = None
    """Whether batch norms keep everything (`true`), their mean and variance (`statistics`), or nothing."""
    rescale_filters: bool | None = None
    """Move the factor by which a batch norm multiplies a filter into the filter."""
    head_fit: Literal["regression", "steps"] | None = None
    """Fit the head by logistic regression on features, or by gradient steps."""
    early_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """The share of the learning rate that the first layers have."""
    clip: Annotated[float, Field(ge=0)] | None = None
    """The largest norm of the gradient; 0 does not clip."""
    cache_features: bool = False
    """While the head trains alone, compute the features of the body once."""
    stages: Annotated[tuple[Stage, ...], BeforeValidator(_to_tuple)] = ()
    """Stages instead of `frozen_epochs` and `epochs`, each with train, epochs, lr and schedule."""
    step_epochs: Annotated[int, Field(ge=1)] = 7
    """Epochs between two reductions of the rate."""
    rate_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The factor of the rate at a reduction."""
    patience: Annotated[int, Field(ge=0)] = 2
    """Epochs without a lower validation loss before a reduction."""
    optimizer: str = "adam"
    """The optimizer."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The momentum, of Adam's kind the first beta; 0.9 by default, `one-cycle` sets its own."""
    bias_lr: Annotated[float, Field(gt=0)] = 1.0
    """The factor of the rate for biases and parameters of norms."""
    filter_lr: Annotated[float, Field(gt=0)] = 1.0
    """The factor of the rate for the filters that Muon moves."""
    average: str = "none"
    """Which average of the weights is kept."""
    average_decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """The decay of the exponential average, a step."""
    average_epochs: Annotated[int, Field(ge=1)] | None = None
    """How many of the last epochs are averaged; a quarter by default."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled weight decay."""
    sampler: str = "none"
    """Which training images an epoch shows."""
    sampler_count: Annotated[int, Field(ge=1)] | None = None
    """The number of images of each class in an epoch; the median of the classes by default."""
    sampler_cut: bool = False
    """Reduce larger classes to `sampler_count` too."""
    prune: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share of the well-learnt images that an epoch leaves out; 0.5 by default."""
    mixing: str = "none"
    """How images and labels of a batch are mixed."""
    mix_alpha: Annotated[float, Field(gt=0)] = 0.4
    """The parameter of the beta distribution of the mixing weight."""
    loss: str = "cross-entropy"
    """The loss."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` gives every class the same total weight in the loss."""
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    """The exponent of the focal loss."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The probability that is spread over all classes."""
    valid_every: Annotated[int, Field(ge=1)] = 1
    """Score the validation rows after every so many epochs, and after the last."""
    early_stopping: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many epochs without a lower validation loss."""
    keep: Literal["last", "best"] = "last"
    """The weights of the `last` epoch, or of the `best`, with the lowest validation loss."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The numeric format of the network; `auto` takes the fastest in a short probe."""
    layout: Literal["auto", "default", "channels_last"] = "auto"
    """The memory layout of the images; `auto` likewise."""
    compile: bool | None = None
    """Use torch.compile; by default where a long training gets faster."""
    fast_convolutions: bool = True
    """Use this package's gradients of depthwise convolutions, and fold norms that are kept."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Train on so many folds; predictions are then out-of-fold, of all rows."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """Train this fold alone."""
    full: bool = False
    """Train on train + valid what a member without it has justified."""


class ResolvedRecipe(Recipe):
    """A recipe whose defaults that depend on other keys are filled in, by ensemble.recipe.resolve.resolved.

    `epochs` and `frozen_epochs` stay None beside `stages`.
    """

    name: Name
    weights: str
    image_size: Annotated[int, Field(ge=8, le=4096)]
    head: Literal["linear", "dense"]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    augment: str
    freeze_norms: bool | Literal["statistics"]
    rescale_filters: bool
    head_fit: Literal["regression", "steps"]
    early_rate: Annotated[float, Field(gt=0, le=1)]
    clip: Annotated[float, Field(ge=0)]


class CombineSpec(Frozen):
    """The `combine` section of a recipe file: the defaults of `ens combine`."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Keep the members whose validation accuracy is strictly above this."""
    per_arch: Annotated[int, Field(ge=0)] = 1
    """Keep the best members of each architecture up to this number, whatever their accuracy."""
    rule: str = "accuracy"
    """How members are combined."""
    metric: str = "accuracy"
    """What is scored, and what `greedy` and `auto` optimise."""
    calibrate: bool | None = None
    """Whether the result gets a temperature; by default what the rule says."""
    refits: bool = False
    """Predict with members trained on train + valid, weighed as the members they repeat."""
    name: Name = "ensemble"
    """The first part of the run id."""


Range = tuple[float, float] | tuple[float, float, Literal["log"]]


class SweepSpec(Frozen):
    """The `sweep` section of a recipe file: the defaults of `ens sweep`."""

    grid: dict[str, Annotated[tuple[Any, ...], BeforeValidator(_to_tuple), Field(min_length=1)]] = {}
    """Keys and their values; every combination is trained, the last key gives the columns of the table."""
    search: dict[str, Annotated[Range, BeforeValidator(_to_tuple)]] = {}
    """Keys and their ranges, `[low, high]` or `[low, high, log]`, of a guided search."""
    trials: Annotated[int, Field(ge=1)] = 20
    """The number of trials of a search."""
    metric: str = "accuracy"
    """What the table shows and a search optimises."""


class SubmitSpec(Frozen):
    """The `submit` section of a recipe file: the defaults of `ens submit`."""

    format: str = "kaggle"
    """The format of the file."""
    sample: PathText | None = None
    """The competition's sample submission, whose ids, order and columns the file takes."""
    out: PathText | None = None
    """The file to write; by default `submissions/<run>.csv`."""
    id_column: Text = "id"
    """The name of the column of ids."""
    label_column: Text = "label"
    """The name of the column of labels."""
    positive: Text | None = None
    """The class whose probability a single column holds."""
    header: bool = True
    """Whether the file begins with the names of the columns."""
    separator: Annotated[str, AfterValidator(_separator)] = ","
    """The character between two cells."""
    inner_name: str = "prediction.csv"
    """The name of the CSV in a zip."""
    label_as: Literal["name", "index", "probabilities"] = "name"
    """Write the name of the class, its index, or probabilities."""
    order: Literal["ids", "natural"] = "ids"
    """The order of the rows: of the ids as text, or `natural`, with 2 before 10."""
    zip: bool = False
    """Write a zip with the CSV in it."""
