"""The network of one member: a body and a head, and its three parameter groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ensemble.models.custom_networks import Whitening
from ensemble.models.fast_convolutions import FastConvolutions, has_depthwise
from ensemble.models.graphs import Graphs
from ensemble.models.layers import concat_head, linear_head, mark_scale_free, rescale_filters
from ensemble.models.state_dict import fit_body, fit_pretrained, from_run
from ensemble.models.torchvision_backbones import Shape, shrink_stem
from ensemble.recipe.architectures import lookup, refuse_unfit
from ensemble.recipe.schema import ResolvedRecipe


class Features(Tensor):
    """The result of `Network.features` for n images, (n, ...). A network accepts it in place of the images."""


class Network(nn.Sequential):
    """Exactly (body, head): images float (n, 3, h, w), or their Features -> logits float32 (n, k).

    compute_dtype: the data type of autocast; None for plain float32.
    channels_last: whether inputs are converted to channels-last; the caller that sets it converts the weights.
    compiled: whether training runs code of torch.compile; prediction does not.
    graphed: whether training steps on an NVIDIA GPU are CUDA graphs, whose gradients cannot be accumulated.
    fast: image size, in pixels, for fast convolutions in training on a CPU; None without them.
    computed: the layers of the body that are computed from images, not trained, and count training batches.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__(body, head)
        mark_scale_free(body)
        self.compute_dtype: torch.dtype | None = None
        self.channels_last = False
        self.compiled = False
        self.graphed = False
        self.fast: int | None = None
        self.computed = [module for module in body.modules() if isinstance(module, Whitening)]
        # a list, so that it is not registered as a module
        self._compiled_forward: list[Callable[[Tensor], Tensor]] = []
        self._graphs: Graphs | None = None
        self._convolutions: list[FastConvolutions] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            for layer in self.computed:
                layer.count()
        with self._precision(x.device.type):
            if isinstance(x, Features):
                _, rest = _split_head(self[1])
                logits: Tensor = rest(x.as_subclass(Tensor))
            else:
                logits = self._compute(self._in_layout(x))
        return logits.float()

    def features(self, x: Tensor) -> Features:
        """Images float (n, 3, h, w) through the body and the fixed first layers of the head, without gradients."""
        fixed, _ = _split_head(self[1])
        with torch.no_grad(), self._precision(x.device.type):
            features: Features = fixed(self[0](self._in_layout(x))).as_subclass(Features)
        return features

    def forget_graphs(self) -> None:
        """Release the memory of CUDA graphs. To be called when weights are moved; the next step captures again."""
        self._graphs = None

    def _in_layout(self, x: Tensor) -> Tensor:
        x = x.as_subclass(Tensor)  # fastai's image tensors dispatch every operation through Python
        # batches arrive channels-last, as pixels are stored
        return x.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def _compute(self, x: Tensor) -> Tensor:
        if self.compiled and self.training:
            if not self._compiled_forward:
                self._compiled_forward.append(torch.compile(self._body_and_head, dynamic=False))
            return self._compiled_forward[0](x)
        if self.graphed and self.training and x.is_cuda and torch.is_grad_enabled():
            if self._graphs is None:
                self._graphs = Graphs(nn.Sequential(*self))
            return self._graphs(x, tuple(layer.learning for layer in self.computed))
        if self.fast is not None and self.training and x.device.type == "cpu" and torch.is_grad_enabled():
            if not self._convolutions:
                self._convolutions.append(FastConvolutions(self[0], self.fast))
            if self._convolutions[0].applies():
                with self._convolutions[0]:
                    return self._body_and_head(x)
        return self._body_and_head(x)

    @property
    def fast_depthwise(self) -> bool:
        """Whether it has depthwise convolutions that train with this package's gradients on a CPU."""
        return self.fast is not None and has_depthwise(self[0])

    def _body_and_head(self, x: Tensor) -> Tensor:
        logits: Tensor = self[1](self[0](x))
        return logits

    def _precision(self, device: str) -> AbstractContextManager[Any]:
        return torch.autocast(device, self.compute_dtype) if self.compute_dtype else nullcontext()


def build_network(recipe: ResolvedRecipe, n_classes: int, state: Mapping[str, Tensor] | None = None) -> Network:
    """The network of a resolved recipe, its body with the weights of `state` if given, the rest random.

    Draws from torch's global generator only: seed it first. Raises RecipeError for keys, a stem or an image
    size that the architecture does not support, MissingWeights for a state that does not fit it.
    """
    architecture = lookup(recipe.arch)
    size = recipe.image_size
    refuse_unfit(recipe, architecture, size)
    skeleton = architecture.build(recipe)
    run_state = state if state and from_run(state) else None
    if state is not None and run_state is None:
        fit_pretrained(skeleton, state, recipe.arch)
    if recipe.stem == "small":
        shrink_stem(skeleton.whole)
    body = skeleton.cut(skeleton.whole, size)
    if run_state is not None:
        fit_body(body, run_state, recipe.arch)
    if state is not None and recipe.rescale_filters:
        rescale_filters(body, size)
    shape = feature_shape(body, size)
    if skeleton.head:
        head = skeleton.head(shape, n_classes)
    else:
        make_head = linear_head if recipe.head == "linear" else concat_head
        head = make_head(shape, n_classes, dropout=recipe.dropout)
    network = Network(body, head)
    network.fast = size if recipe.fast_convolutions else None
    return network


def fit_to_images(network: Network, batches: Callable[[], Iterable[Tensor]]) -> None:
    """Compute the layers that are not trained, from batches of normalised images, float (n, 3, size, size)."""
    for layer in network.computed:
        layer.fit(batches())


def feature_shape(body: nn.Module, size: int) -> Shape:
    """The shape of the features of one image of `size` pixels, determined with a blank image."""
    training = body.training
    body.eval()
    with torch.no_grad():
        shape = tuple(body(torch.zeros(1, 3, size, size)).shape[1:])
    body.train(training)
    return shape


def last_layer(network: Network) -> nn.Linear:
    """The linear layer of a linear head."""
    layer = list(network[1].modules())[-1]
    assert isinstance(layer, nn.Linear)
    return layer


def parameter_groups(network: nn.Module) -> list[list[nn.Parameter]]:
    """[early body, late body, head]: every parameter in exactly one group, none empty. A fastai splitter.

    The body's modules are taken in the order of registration and divided after half of its convolutions and
    linear layers, so that the same network has the same groups whichever library builds it.
    """
    body, head = network.children()
    owners = [module for module in body.modules() if any(True for _ in module.parameters(recurse=False))]
    layers = sum(map(_is_layer, owners))
    seen: set[nn.Parameter] = set()
    early: list[nn.Parameter] = []
    late: list[nn.Parameter] = []
    passed = 0
    for module in owners:
        passed += _is_layer(module)
        own = [parameter for parameter in module.parameters(recurse=False) if parameter not in seen]
        seen.update(own)
        (early if passed <= layers // 2 else late).extend(own)
    return [early, late, [parameter for parameter in head.parameters() if parameter not in seen]]


def _split_head(head: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """The modules of a head before the first with weights, buffers or randomness (poolings), and the rest."""
    modules = list(head) if isinstance(head, nn.Sequential) else [head]
    count = next((index for index, module in enumerate(modules) if not _is_fixed(module)), len(modules))
    return nn.Sequential(*modules[:count]), nn.Sequential(*modules[count:])


def _is_fixed(module: nn.Module) -> bool:
    """Whether a module always returns the same output for the same features."""
    is_random = any(isinstance(part, nn.modules.dropout._DropoutNd) for part in module.modules())
    return not is_random and not module.state_dict()


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, (nn.modules.conv._ConvNd, nn.Linear))
