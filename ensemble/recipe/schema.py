"""The keys of a recipe, their types and defaults. Unknown keys and wrong types are errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.field_types import Counts, Frozen, Name, PathText, Rate, Text, Texts, to_tuple, valid_separator


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
    stages: Annotated[tuple[Stage, ...], BeforeValidator(to_tuple)] = ()
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

    grid: dict[str, Annotated[tuple[Any, ...], BeforeValidator(to_tuple), Field(min_length=1)]] = {}
    """Keys and their values; every combination is trained, the last key gives the columns of the table."""
    search: dict[str, Annotated[Range, BeforeValidator(to_tuple)]] = {}
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
    separator: Annotated[str, AfterValidator(valid_separator)] = ","
    """The character between two cells."""
    inner_name: str = "prediction.csv"
    """The name of the CSV in a zip."""
    label_as: Literal["name", "index", "probabilities"] = "name"
    """Write the name of the class, its index, or probabilities."""
    order: Literal["ids", "natural"] = "ids"
    """The order of the rows: of the ids as text, or `natural`, with 2 before 10."""
    zip: bool = False
    """Write a zip with the CSV in it."""
