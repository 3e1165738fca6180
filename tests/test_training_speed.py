"""Laws of what makes training fast: batches by look-up, the optimizer of short trainings, averages, speednet."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.vision.core import TensorImage
from torch import Tensor, nn
from torch.nn import functional

from ensemble.data.digits import digits_dataset
from ensemble.data.image_cache import StreamedImages, open_images
from ensemble.data.preprocess import Preprocess
from ensemble.inference.forward import normalised, predict, views
from ensemble.inference.image_batches import CachedImages, prefetched
from ensemble.models.custom_networks import Block, Norm, Whitening
from ensemble.models.layers import is_scale_free, mark_scale_free
from ensemble.models.network import build_network, fit_to_images, parameter_groups
from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import DataSpec, Recipe
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.engine.hardware import can_compile
from ensemble.training.engine.loaders import data_loaders
from ensemble.training.methods.averaging import Lookahead
from ensemble.training.methods.optimizers import FusedSGD, Muon
from ensemble.training.methods.schedules import StageSettings, schedules
from ensemble.training.methods.transforms import AlternateFlip

pytestmark = pytest.mark.slow  # they import fastai, which takes seconds

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def recipe(**keys: Any) -> Recipe:
    base: dict[str, Any] = {"arch": "speednet", "weights": "none", "image_size": 16, "augment": "none"}
    return resolved(Recipe(data=DataSpec(), **(base | keys)))


def loaders(folder: Path, *, stream: bool = False, **keys: Any) -> tuple[DataLoaders, CachedImages]:
    data = digits_dataset()
    (squares,) = open_images(data, ["train", "valid"], [Preprocess(16, "squash")], folder)
    if stream:
        paths = tuple(data.splits["train"].paths.tolist() + data.splits["valid"].paths.tolist())
        squares = StreamedImages(Preprocess(16, "squash"), data.open_image, paths)
    images = CachedImages(squares)
    seed_everything(0, "loaders")
    return data_loaders(recipe(**keys), data, images, MEAN, STD, device=torch.device("cpu")), images


@pytest.mark.parametrize("stream", [False, True])
def test_a_batch_is_what_its_items_are(tmp_path: Path, stream: bool) -> None:
    dls, _ = loaders(tmp_path, stream=stream)
    for loader, shuffled in ((dls.train, True), (dls.valid, False)):
        order = []
        for x, y in loader:
            order += loader.batch_items.tolist()
            if len(order) > 200:
                continue  # of the rest the order is enough
            for position, item in enumerate(loader.batch_items.tolist()):
                image, target = loader.dataset[item]
                expected = (
                    image.as_subclass(Tensor).float() / 255 - torch.tensor(MEAN).view(3, 1, 1)
                ) / torch.tensor(STD).view(3, 1, 1)
                torch.testing.assert_close(x[position].as_subclass(Tensor), expected)
                assert int(y[position]) == int(target)
        assert isinstance(x, TensorImage)
        whole = len(loader.dataset) // 64 * 64 if shuffled else len(loader.dataset)
        assert len(order) == len(set(order)) == whole
        assert (order != sorted(order)) == shuffled


def test_a_stream_and_a_store_train_the_same(tmp_path: Path) -> None:
    batches = []
    for stream in (False, True):
        dls, _ = loaders(tmp_path, stream=stream, augment="flip-shift")
        batches.append([x.as_subclass(Tensor).clone() for x, _ in dls.train])
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))


def test_fastais_own_tools_work_on_the_batches(tmp_path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    dls, _ = loaders(tmp_path)
    dls.show_batch(max_n=4)
    network = build_network(recipe(), 10)
    learner = Learner(dls, network, loss_func=nn.CrossEntropyLoss(), path=tmp_path)
    with learner.no_bar(), learner.no_logging():
        assert 1e-7 < learner.lr_find(show_plot=False).valley < 10
        learner.fit(1)
        preds, targets = learner.get_preds()
    assert preds.shape == (359, 10)
    assert (targets.numpy() == digits_dataset().splits["valid"].targets).all()


def test_what_is_made_ahead_keeps_its_order_its_errors_and_no_thread() -> None:
    def counted(error_at: int | None) -> Iterator[int]:
        for i in range(20):
            if i == error_at:
                raise ValueError("here")
            yield i

    assert list(prefetched(lambda: counted(None))) == list(range(20))
    got: list[int] = []
    with pytest.raises(ValueError, match="here"):
        got.extend(prefetched(lambda: counted(7)))
    before = threading.active_count()
    first = prefetched(lambda: counted(None))
    assert next(first) == 0
    first.close()
    time.sleep(0.3)
    assert threading.active_count() <= before


def test_squares_on_a_device_are_the_same_batches(tmp_path: Path) -> None:
    from ensemble.inference.image_batches import DeviceImages, device_images

    _, images = loaders(tmp_path)
    there = DeviceImages(images.squares, torch.from_numpy(images.squares.pixels))  # the processor is a device too
    rows = np.array([5, 0, 5, 9])
    assert torch.equal(there.batch(rows), images.batch(rows))
    assert there.batch(rows).is_contiguous(memory_format=torch.channels_last)
    assert (there.rows(["3", "4"]) == images.rows(["3", "4"])).all()
    assert device_images(images.squares, torch.device("cpu"), 0) is None


@pytest.mark.parametrize("together", [3, 100])
def test_batches_that_are_made_together_are_those_that_are_made_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    from ensemble.training.engine import loaders as module

    seen = []
    for count in (1, together):
        monkeypatch.setattr(module, "batches_at_once", lambda *_, count=count: count)
        monkeypatch.setattr(module, "transforms", lambda *_: [AlternateFlip()])  # it asks which items it has
        dls, _ = loaders(tmp_path, batch_size=50)
        dls.train.epoch = 3
        epoch = [(dls.train.batch_items.copy(), x, y) for x, y in dls.train]
        assert len(epoch) == len(dls.train) == 1078 // 50
        assert len(list(dls.valid)) == len(dls.valid)
        seen.append(epoch)
    for alone, part in zip(*seen, strict=True):
        np.testing.assert_array_equal(alone[0], part[0])
        assert type(part[1]) is TensorImage
        assert torch.equal(alone[1], part[1])
        assert torch.equal(alone[2], part[2])


def test_a_loader_of_the_training_items_for_predicting_mirrors_the_right_ones(tmp_path: Path) -> None:
    dls, _ = loaders(tmp_path, augment="alternate")
    dls.train.one_batch()
    plain = dls.train.new(shuffle=False, drop_last=False)
    batches = list(plain)
    assert sum(len(x) for x, _ in batches) == len(dls.train.dataset)
    assert plain.batch_items.tolist() == list(range(len(dls.train.dataset)))[-len(batches[-1][0]) :]


@pytest.mark.parametrize("momentum", [0.0, 0.85])
def test_fused_sgd_is_torchs_nesterov_with_fastais_decay_and_more_for_biases(momentum: float) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    optimizer = FusedSGD([list(ours.parameters())], lr=0.1, mom=momentum, bias_lr=8.0)
    optimizer.set_hypers(wd=0.02)
    optimizer.state[ours.bias]["do_wd"] = False
    reference = torch.optim.SGD(
        [{"params": [theirs.weight]}, {"params": [theirs.bias]}], lr=0.1, momentum=momentum, nesterov=momentum > 0
    )
    for step in range(6):
        rate = 0.1 / (step + 1)
        x, y = torch.randn(8, 3), torch.randint(0, 2, (8,))
        optimizer.set_hyper("lr", rate)
        reference.param_groups[0]["lr"], reference.param_groups[1]["lr"] = rate, 8 * rate
        for network, one in ((ours, optimizer), (theirs, reference)):
            functional.cross_entropy(network(x), y).backward()
            if one is reference:
                with torch.no_grad():
                    theirs.weight.mul_(1 - rate * 0.02)
            one.step()
            one.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


class Normed(nn.Module):
    """A filter that a batch norm follows, one that none follows, one for each channel, and a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        )
        mark_scale_free(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def stepped(network: nn.Module, kind: type[FusedSGD], scale: float = 1.0, steps: int = 3, **keys: float) -> None:
    optimizer = kind([list(network.parameters())], lr=0.1, mom=0.85, bias_lr=8.0, **keys)
    optimizer.set_hypers(wd=0.01)
    torch.manual_seed(1)
    for _ in range(steps):
        x, y = torch.randn(8, 3, 12, 12), torch.randint(0, 4, (8,))
        (scale * functional.cross_entropy(network(x), y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def test_muon_steps_the_filters_that_a_batch_norm_follows_and_leaves_the_rest_to_sgd() -> None:
    torch.manual_seed(0)
    ours = Normed()
    theirs = deepcopy(ours)
    stepped(ours, Muon, steps=1)
    stepped(theirs, FusedSGD, steps=1)
    pairs = list(zip(ours.named_parameters(), theirs.parameters(), strict=True))
    assert [name for (name, one), other in pairs if not torch.equal(one, other)] == ["layers.0.weight"]


def test_a_step_of_muon_is_nearly_orthogonal_along_the_gradient_and_keeps_the_length() -> None:
    torch.manual_seed(0)
    network = Normed()
    filters = network.layers[0].weight
    before = filters.detach().clone()
    optimizer = Muon([list(network.parameters())], lr=0.1, filter_lr=2.0)
    functional.cross_entropy(network(torch.randn(8, 3, 12, 12)), torch.randint(0, 4, (8,))).backward()  # type: ignore[no-untyped-call]
    left, _, right = torch.linalg.svd(filters.grad.flatten(1), full_matrices=False)  # type: ignore[union-attr]
    optimizer.step()
    unit = before * 8**0.5 / before.norm()
    step = (unit - filters.detach()).flatten(1) / 0.2
    along = left.T @ step @ right.T
    strengths = along.diagonal()
    # "S' ~ Uniform(0.5, 1.5)" after five iterations; after three the weakest directions are behind
    assert strengths.min() > 0.1 and strengths.max() < 1.4 and strengths.median() > 0.6
    assert (along - torch.diag(strengths)).abs().max() < 0.05


def test_the_length_of_a_gradient_means_nothing_to_a_filter_of_muon() -> None:
    torch.manual_seed(0)
    small = Normed()
    large = deepcopy(small)
    for network in (small, large):  # marks are lost in a copy
        mark_scale_free(network)
    stepped(small, Muon, 1.0, steps=1)
    stepped(large, Muon, 1024.0, steps=1)
    torch.testing.assert_close(small.layers[0].weight, large.layers[0].weight)


def test_filters_are_marked_where_a_norm_of_theirs_follows() -> None:
    torch.manual_seed(0)
    network = build_network(recipe(filters=(8, 16)), 3, None)
    marked = [name for name, parameter in network.named_parameters() if is_scale_free(parameter)]
    assert marked == [name for name, parameter in network.named_parameters() if parameter.ndim == 4]
    vgg = build_network(recipe(arch="alexnet", image_size=64), 3, None)
    assert not any(is_scale_free(parameter) for parameter in vgg.parameters())
    # what a mark says: any positive length gives the same training loss
    x = torch.rand(6, 3, 16, 16)
    first = network(x)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in marked:
                parameter.mul_(3.0)
    torch.testing.assert_close(network(x), first, atol=1e-4, rtol=1e-3)


def test_the_line_falls_from_the_rate_to_nothing() -> None:
    rate = schedules.get("linear")(StageSettings(np.array([2.0])))["lr"]
    assert [float(rate(place)[0]) for place in (0, 0.25, 1)] == pytest.approx([2.0, 1.5, 0.0])


def test_the_triangle_starts_at_a_fifth_peaks_and_ends_at_7_percent() -> None:
    rate = schedules.get("triangle")(StageSettings(np.array([2.0])))["lr"]
    assert [float(rate(place)[0]) for place in (0, 0.23, 1)] == pytest.approx([0.4, 2.0, 0.14])
    assert [float(rate(place)[0]) for place in (0.115, 0.615)] == pytest.approx([1.2, 1.07])


def test_alternate_flip_mirrors_every_image_in_every_other_epoch() -> None:
    class Loader:
        items, epoch = 50, 0
        batch_items = np.arange(50)

    torch.manual_seed(0)
    flip, loader = AlternateFlip(), Loader()
    flip.loader = loader
    x = TensorImage(torch.rand(50, 3, 4, 4))
    seen = []
    for loader.epoch in range(4):
        out = flip.encodes(x).as_subclass(Tensor)
        mirrored = (out == x.as_subclass(Tensor).flip(-1)).flatten(1).all(1)
        assert (mirrored | (out == x.as_subclass(Tensor)).flatten(1).all(1)).all()
        seen.append(mirrored)
    assert 10 < int(seen[0].sum()) < 40
    assert all(torch.equal(one, ~other) for one, other in itertools.pairwise(seen))
    loader.batch_items = np.array([3, 3, 9])
    loader.epoch = 0
    again = flip.encodes(x[:3]).as_subclass(Tensor)
    expected = [x[i].flip(-1) if seen[0][item] else x[i] for i, item in enumerate((3, 3, 9))]
    assert torch.equal(again, torch.stack([one.as_subclass(Tensor) for one in expected]))


def test_lookahead_follows_its_formula_and_leaves_nothing_over_at_an_epochs_end(tmp_path: Path) -> None:
    dls, _ = loaders(tmp_path)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
    seen: list[tuple[float, Tensor]] = []

    class Watched(Lookahead):
        def after_batch(self) -> None:
            if self.training:
                seen.append((float(self.pct_train), self.model[1].weight.detach().clone()))
            super().after_batch()
            if self.training:
                seen.append((float(self.pct_train), self.model[1].weight.detach().clone()))

    watched = Watched(recipe(), 1)
    learner = Learner(dls, network, loss_func=nn.CrossEntropyLoss(), path=tmp_path, cbs=[watched])
    slow = network[1].weight.detach().clone()
    with learner.no_bar(), learner.no_logging():
        learner.fit(1, 1e-3)
    for step in range(1, len(seen) // 2 + 1):
        (progress, fast), (_, after) = seen[2 * step - 2], seen[2 * step - 1]
        if step % 5 == 0:
            kept = 0.95**5 * progress**3
            slow = slow * kept + fast * (1 - kept)
            torch.testing.assert_close(after, slow)
        else:
            assert torch.equal(fast, after)
    assert torch.equal(watched.slow["1.weight"], network[1].weight)


def test_six_views_are_small_moves_and_mirrors() -> None:
    x = torch.rand(2, 3, 8, 8)
    result = [view(x) for view in views.get("flip-shift")]
    assert len(result) == 6
    assert torch.equal(result[0], x) and torch.equal(result[1], x.flip(-1))
    up, mirrored_up, down, mirrored_down = result[2:]
    assert torch.equal(up[..., :-1, :-1], x[..., 1:, 1:]) and torch.equal(down[..., 1:, 1:], x[..., :-1, :-1])
    assert torch.equal(mirrored_up, up.flip(-1)) and torch.equal(mirrored_down, down.flip(-1))
    assert torch.equal(up[..., -1, :-1], x[..., -2, 1:])  # reflected at the border
    assert all(view.shape == x.shape for view in result)


def test_whitening_makes_patches_uncorrelated_and_the_same_for_every_order_of_images() -> None:
    torch.manual_seed(0)
    smooth = functional.avg_pool2d(torch.randn(200, 3, 18, 18), 3, 1)
    layer = Whitening()
    layer.fit(smooth.split(30), eps=0.0)
    out = functional.conv2d(smooth, layer.weight).transpose(0, 1).flatten(1).double()
    half = out[:12]
    torch.testing.assert_close(half @ half.T / half.shape[1], torch.eye(12, dtype=torch.double), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[12:], -half)
    other = Whitening()
    other.fit([smooth.flip(0)], eps=0.0)
    torch.testing.assert_close(layer.weight, other.weight, atol=1e-3, rtol=1e-3)


def test_speednet_learns_everything_but_its_filters_and_the_scales_of_its_norms() -> None:
    torch.manual_seed(0)
    network = build_network(recipe(image_size=32), 10)
    fit_to_images(network, lambda: [torch.randn(20, 3, 32, 32)])
    names = [name for name, _ in network.named_parameters()]
    assert "0.0.shift" in names and "0.0.weight" not in names
    norms = [module for module in network.modules() if isinstance(module, Norm)]
    assert len(norms) == 6 and all(list(dict(norm.named_parameters())) == ["bias"] for norm in norms)
    assert sum(map(len, parameter_groups(network))) == len(names)
    widths = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [64, 64, 256, 256, 256, 256]
    # the first filters hand their input on
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    x = torch.rand(1, 24, 6, 6)
    torch.testing.assert_close(first(x)[:, :24], x)
    for size in (9, 16, 32, 48):
        assert build_network(recipe(image_size=size), 7)(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_a_deeper_block_adds_what_its_first_convolution_gives() -> None:
    torch.manual_seed(0)
    block = Block(3, 8, 3).eval()
    assert sum(isinstance(m, nn.Conv2d) for m in block.modules()) == 3
    x = torch.rand(2, 3, 8, 8)
    wide = block.widen(x)
    nn.init.zeros_(block.refine[-2].weight)
    torch.testing.assert_close(block(x), functional.gelu(wide))
    network = build_network(recipe(block_depth=3), 10)
    assert sum(isinstance(m, Norm) for m in network.modules()) == 9


def test_speednet_reads_back_what_it_saved(tmp_path: Path) -> None:
    from ensemble.core.files import sha256_file
    from ensemble.models.state_dict import load_weights, save_weights

    torch.manual_seed(0)
    network = build_network(recipe(), 10)
    fit_to_images(network, lambda: [torch.rand(20, 3, 16, 16)])
    save_weights(tmp_path / "weights.safetensors", network)
    other = build_network(recipe(), 10)
    load_weights(other, tmp_path / "weights.safetensors", sha256_file(tmp_path / "weights.safetensors"))
    x = torch.rand(4, 3, 16, 16)
    assert torch.equal(network.eval()(x), other.eval()(x))


def test_predictions_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    _, images = loaders(tmp_path)
    torch.manual_seed(0)
    network = build_network(recipe(), 10)
    rows = np.arange(30)
    whole, parts = (
        predict(network, images.batch, rows, mean=MEAN, std=STD, tta="flip-shift", batch_size=size)[0]
        for size in (30, 7)
    )
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    alone = network.eval()(normalised(images.batch(rows), MEAN, STD)).softmax(1)
    plain, first = predict(network, images.batch, rows, mean=MEAN, std=STD)
    np.testing.assert_allclose(plain, alone.detach().numpy(), atol=1e-5)
    np.testing.assert_array_equal(plain, first)


def test_a_batch_in_pieces_gives_the_gradients_of_the_whole(tmp_path: Path) -> None:
    from ensemble.training.engine.learner import MemberLearner

    weights, losses = [], []
    for pieces in (1, 2, 8):
        dls, _ = loaders(tmp_path, batch_size=25)
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        learner = MemberLearner(dls, network, loss_func=nn.CrossEntropyLoss(label_smoothing=0.1), path=tmp_path)
        learner.pieces = pieces
        with learner.no_bar(), learner.no_logging():
            learner.fit(2, 1e-3)
        weights.append(network[1].weight.detach())
        losses.append(float(learner.recorder.losses[-1]))
    for weight, loss in zip(weights[1:], losses[1:], strict=True):
        torch.testing.assert_close(weight, weights[0], rtol=1e-4, atol=1e-6)
        assert loss == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize(("broken", "batches"), [(None, 43), (7, 9), (41, 43)])
def test_sums_that_stay_on_a_gpu_are_the_same_and_a_loss_that_is_not_finite_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int | None, batches: int
) -> None:
    from ensemble.core.errors import TrainingFailed
    from ensemble.runs.history import Epoch
    from ensemble.training.engine import epochs as module
    from ensemble.training.engine.learner import MemberLearner

    def trained() -> tuple[list[Epoch], int]:
        rows: list[Epoch] = []
        seen: list[int] = []

        def loss(logits: Tensor, targets: Tensor) -> Tensor:
            result = functional.cross_entropy(logits, targets)
            return result * math.nan if len(seen) + 1 == broken else result

        dls, _ = loaders(tmp_path, batch_size=25)
        torch.manual_seed(0)
        learner = MemberLearner(dls, nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10)), loss_func=loss)
        history = module.History(0, rows.append, lambda: seen.append(1) if learner.training else None)
        try:
            with learner.no_bar(), learner.no_logging():
                learner.fit(1, 1e-3, cbs=[history])
        except TrainingFailed:
            assert broken is not None
        return rows, len(seen)

    monkeypatch.setattr(module, "CHECK_INTERVAL", 10)
    alone, at_once = trained()
    monkeypatch.setattr(module, "_number", lambda value: value.as_subclass(Tensor).double())
    there, later = trained()
    if broken is None:
        (one,), (other,) = alone, there
        assert (one.train_loss, one.valid_loss) == (other.train_loss, other.valid_loss)
        assert (one.train_accuracy, one.valid_accuracy) == (other.train_accuracy, other.valid_accuracy)
        assert at_once == batches
    else:
        assert not alone and not there
        assert at_once == broken - 1
    assert later == batches


def test_callbacks_are_told_what_fastai_tells_them(tmp_path: Path) -> None:
    from fastai.callback.core import Callback

    from ensemble.training.engine.learner import MemberLearner

    def told(kind: type[Learner]) -> list[str]:
        result: list[str] = []

        class Late(Callback):  # type: ignore[misc]
            order = 99

            def before_epoch(self) -> None:
                result.append("late before_epoch")
                self.run = self.epoch != 1  # at rest until the fit ends

            def after_batch(self) -> None:
                result.append("late after_batch")

            def after_epoch(self) -> None:
                result.append("late after_epoch")

        class All(Callback):  # type: ignore[misc]
            def __call__(self, event_name: str) -> None:
                result.append(f"all {event_name}")

        dls, _ = loaders(tmp_path, batch_size=500)
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        learner = kind(dls, network, loss_func=nn.CrossEntropyLoss(), path=tmp_path, cbs=[Late(), All()])
        given = Callback(before_batch=lambda self: result.append("given before_batch"))
        with learner.no_bar(), learner.no_logging():
            learner.fit(3, 1e-3)
            learner.fit(2, 1e-3, cbs=[given])
            learner.fit(1, 1e-3)
        return result

    expected = told(Learner)
    assert {"late after_batch", "given before_batch", "all after_fit"} <= set(expected)
    assert told(MemberLearner) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_is_taken_for_memory_that_ran_out(error: BaseException, expected: bool) -> None:
    from ensemble.inference.forward import out_of_memory

    assert out_of_memory(error) is expected


def test_predicting_halves_a_batch_that_does_not_fit(tmp_path: Path) -> None:
    _, images = loaders(tmp_path)
    torch.manual_seed(0)
    network = build_network(recipe(), 10)
    rows = np.arange(50)
    expected, _ = predict(network, images.batch, rows, mean=MEAN, std=STD)

    def refuse(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs[0]) > 9:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    network.register_forward_pre_hook(refuse)
    again, _ = predict(network, images.batch, rows, mean=MEAN, std=STD)
    np.testing.assert_allclose(again, expected, atol=1e-6)


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_scaled_loss_takes_the_same_steps_and_leaves_out_those_that_overflow(tmp_path: Path, pieces: int) -> None:
    from ensemble.training.engine.learner import MemberLearner

    def large(logits: Tensor, targets: Tensor) -> Tensor:
        return 1e4 * functional.cross_entropy(logits, targets)

    def trained(scaler: torch.amp.GradScaler | None) -> Tensor:
        dls, _ = loaders(tmp_path, batch_size=60)
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
        learner = MemberLearner(dls, network, loss_func=large, path=tmp_path)
        learner.pieces, learner.scaler = pieces, scaler
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, 1e-3)
        return network[1].weight.detach()

    plain = trained(None)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    torch.testing.assert_close(trained(scaler), plain, rtol=1e-4, atol=1e-6)
    assert scaler.get_scale() == 2.0**10
    huge = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-60)
    fewer = trained(huge)  # the first step or two overflow
    assert torch.isfinite(fewer).all() and not torch.equal(fewer, plain)
    assert (fewer - plain).abs().max() < 0.05 and huge.get_scale() < 2.0**127


@pytest.mark.parametrize(
    ("precision", "layout", "expected"),
    [
        ("auto", "auto", ["float32 default", "float32 channels_last", "bfloat16 channels_last"]),
        ("auto", "channels_last", ["float32 channels_last", "bfloat16 channels_last"]),
        ("float32", "auto", ["float32 default", "float32 channels_last"]),
        ("bfloat16", "auto", ["bfloat16 channels_last"]),
        ("float16", "auto", ["float16 channels_last"]),
        ("bfloat16", "default", ["bfloat16 default"]),
        ("auto", "default", ["float32 default", "bfloat16 default"]),
        ("float32", "channels_last", ["float32 channels_last"]),
    ],
)
def test_the_formats_that_a_recipe_leaves_on_a_processor(precision: str, layout: str, expected: list[str]) -> None:
    from ensemble.training.engine.hardware import pairs

    assert [" ".join(pair) for pair in pairs(precision, layout, torch.device("cpu"))] == expected


def test_the_probe_changes_nothing_and_is_asked_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.training.engine.hardware import apply_format
    from ensemble.training.jobs import speed_probe, timing

    cpu = torch.device("cpu")
    monkeypatch.setattr(timing, "MIN_CPU_SHARE", 0.0)
    torch.manual_seed(0)
    network = build_network(recipe(), 10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    chosen = speed_probe.choose_format(recipe(), network, cpu)
    assert chosen.why.startswith("training images a second: float32 default ")
    assert chosen.speed and chosen.speed > 0
    apply_format(network, chosen)
    speed = speed_probe.measure_speed(recipe(), network, cpu, chosen)
    assert min(speed.head, speed.all, speed.valid, speed.predict) > 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    monkeypatch.setattr(speed_probe, "rate", None)
    assert speed_probe.choose_format(recipe(), network, cpu) == chosen
    assert speed_probe.measure_speed(recipe(), network, cpu, chosen) == speed
    for path in cache.rglob("*.json"):
        path.write_text("{")
    with pytest.raises(TypeError):
        speed_probe.choose_format(recipe(), network, cpu)


def test_a_speed_that_other_work_slowed_down_is_measured_again_and_the_format_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ensemble.training.engine.hardware import ComputeFormat
    from ensemble.training.jobs import speed_probe, timing

    cpu, network = torch.device("cpu"), build_network(recipe(), 10)
    rates = iter([20.0, 10.0, *range(1, 9)])
    monkeypatch.setattr(speed_probe, "rate", lambda *_, **__: next(rates))
    monkeypatch.setattr(
        speed_probe, "pairs", lambda *_: [("float32", layout) for layout in ("default", "channels_last")]
    )
    monkeypatch.setattr(timing, "MIN_CPU_SHARE", math.inf)  # no processors give so much
    chosen = speed_probe.choose_format(recipe(), network, cpu)
    assert chosen.layout == "default"
    assert chosen.speed is None
    assert speed_probe.choose_format(recipe(), network, cpu) == chosen
    first = speed_probe.measure_speed(recipe(), network, cpu, chosen)
    assert speed_probe.measure_speed(recipe(), network, cpu, chosen) != first
    monkeypatch.setattr(timing, "MIN_CPU_SHARE", 0.0)
    rates = iter([100.0, 200.0, 300.0, 400.0])
    alone = speed_probe.measure_speed(recipe(), network, cpu, chosen)
    assert (
        speed_probe.measure_speed(recipe(), network, cpu, chosen)
        == alone
        == speed_probe.Speed(300.0, 100.0, 200.0, 400.0)
    )
    assert ComputeFormat.read(chosen.facts()) == chosen


def test_fewer_bits_are_taken_where_they_are_clearly_faster() -> None:
    from ensemble.training.jobs.speed_probe import _best

    exact, last = ("float32", "default"), ("float32", "channels_last")
    brain, half = ("bfloat16", "channels_last"), ("float16", "channels_last")
    assert _best({exact: 10.0, last: 10.1}) == last
    assert _best({exact: 100.0, last: 90.0, brain: 104.0}) == exact
    assert _best({exact: 100.0, last: 90.0, brain: 106.0}) == brain
    assert _best({exact: 100.0, last: 90.0, brain: 150.0, half: 155.0}) == brain
    assert _best({exact: 100.0, last: 90.0, brain: 150.0, half: 160.0}) == half


def test_compiling_is_tried_for_long_trainings_and_taken_where_it_pays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ensemble.training.jobs import speed_probe

    cpu, network = torch.device("cpu"), build_network(recipe(), 10)
    assert speed_probe.compiling_pays(recipe(), network, cpu, 1700.0) == (False, "")
    monkeypatch.setattr(speed_probe, "can_compile", lambda device: True)
    monkeypatch.setattr(speed_probe, "_cached", lambda *_: {"making": 100.0, "gain": 1.2, "why": "figures"})
    assert speed_probe.compiling_pays(recipe(), network, cpu, 3600.0) == (True, "figures")
    monkeypatch.setattr(speed_probe, "_cached", lambda *_: {"making": 900.0, "gain": 1.2, "why": "figures"})
    assert speed_probe.compiling_pays(recipe(), network, cpu, 3600.0) == (False, "figures")


def test_an_estimate_adds_up_stages_checks_finder_and_views() -> None:
    from ensemble.training.jobs.estimate import estimate
    from ensemble.training.jobs.speed_probe import Speed

    data = digits_dataset()  # 1,078 train, 359 valid, 360 test
    train, valid, test = (len(data.splits[split]) for split in ("train", "valid", "test"))
    speed = Speed(head=200.0, all=100.0, valid=300.0, predict=150.0)
    given = recipe(epochs=4, frozen_epochs=2, lr=0.1, batch_size=50, valid_every=3)
    result = estimate(given, data, speed)
    images = train // 50 * 50
    assert result.training == pytest.approx(2 * images / 200 + 4 * images / 100 + (1 + 2) * valid / 300)
    assert result.predicting == pytest.approx((valid + test) / 150)
    assert result.seconds == result.training + result.predicting
    auto = estimate(recipe(epochs=4, frozen_epochs=2, lr="auto", batch_size=50, valid_every=3), data, speed)
    assert auto.training - result.training == pytest.approx(100 * 50 / 200)
    assert estimate(given.model_copy(update={"tta": "flip-shift"}), data, speed).predicting == pytest.approx(
        6 * result.predicting
    )


@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no compiler of C++ here")
@pytest.mark.parametrize("keys", [{}, {"arch": "customnet", "filters": (8, 16)}], ids=["speednet", "customnet"])
def test_compiled_code_trains_the_same_and_is_made_once(keys: dict[str, Any]) -> None:
    import torch._dynamo

    states, x, y = [], torch.rand(16, 3, 16, 16), torch.randint(0, 10, (16,))
    for compiled in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        network = build_network(recipe(dropout=0.0, **keys), 10)
        network.compiled = compiled
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        with torch._dynamo.config.patch(error_on_recompile=True):
            for _ in range(12):  # more than the versions of one function that torch keeps
                functional.cross_entropy(network.train()(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
        states.append(network.state_dict())
    assert len(network._compiled_forward) == 1
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-2, atol=1e-3)
