"""Laws of the methods that a recipe chooses: balance, mixing, augmentation, filters, depth, schedules, averages."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from ensemble.core.errors import DataError, RecipeError
from ensemble.data.digits import digits_dataset
from ensemble.data.image_cache import cache_key, open_images
from ensemble.data.preprocess import Preprocess, filtered, filters
from ensemble.inference.forward import views
from ensemble.inference.image_batches import CachedImages
from ensemble.models.layers import last_layers, last_parameters, layers
from ensemble.models.network import build_network
from ensemble.recipe.contradictions import contradictions
from ensemble.recipe.methods import chosen_on_valid, problems
from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import DataSpec, Recipe
from ensemble.runs.history import Epoch
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.engine.epochs import plateaus
from ensemble.training.engine.loaders import BatchLoader, data_loaders
from ensemble.training.methods.augment import policies, transforms
from ensemble.training.methods.averaging import Exponential, Soup, Stochastic
from ensemble.training.methods.losses import Weighted, class_weights, losses
from ensemble.training.methods.progressive import progressive, share_of_pixels, sides
from ensemble.training.methods.samplers import OverSampler, Pruned, WeightedSampler, epoch_class_counts, sampler
from ensemble.training.methods.schedules import StageSettings, schedules

pytestmark = pytest.mark.slow  # they import fastai, which takes seconds


def recipe(**keys: Any) -> Recipe:
    base: dict[str, Any] = {"arch": "customnet", "weights": "none", "image_size": 16, "augment": "none"}
    return resolved(Recipe(data=DataSpec(), **(base | keys)))


# ---- balance ----

LABELS = st.lists(st.integers(0, 3), min_size=4, max_size=60).map(lambda more: np.array([0, 1, 2, 3, *more]))


@given(LABELS, st.integers(1, 40), st.booleans(), st.integers(0, 99))
@settings(deadline=None)
def test_oversampling_shows_each_class_as_often_as_asked_and_its_items_alike(
    labels: Any, count: int, cut: bool, seed: int
) -> None:
    chosen = sampler(recipe(sampler="oversample", sampler_count=count, sampler_cut=cut), labels, 4)
    assert isinstance(chosen, OverSampler)
    drawn = np.array(chosen.draw(random.Random(seed)))
    before, after = np.bincount(labels, minlength=4), np.bincount(labels[drawn], minlength=4)
    assert after.tolist() == [count if cut else max(count, one) for one in before.tolist()]
    assert len(drawn) == chosen.count
    times = np.bincount(drawn, minlength=len(labels))
    for label in range(4):
        mine = times[labels == label]
        assert mine.max() - mine.min() <= 1
    assert drawn.tolist() == chosen.draw(random.Random(seed))


def test_without_a_count_the_middle_class_says_how_often() -> None:
    labels = np.repeat([0, 1, 2], [3, 10, 50])
    assert epoch_class_counts(recipe(sampler="oversample"), labels, 3).tolist() == [10, 10, 50]
    assert epoch_class_counts(recipe(sampler="oversample", sampler_cut=True), labels, 3).tolist() == [10, 10, 10]
    assert epoch_class_counts(recipe(), labels, 3).tolist() == [3, 10, 50]
    assert epoch_class_counts(recipe(sampler="weighted"), labels, 3).tolist() == [21, 21, 21]


def test_the_weighted_sampler_draws_every_class_alike() -> None:
    labels = np.repeat([0, 1, 2], [3, 10, 987])
    drawn = WeightedSampler(labels, 3).draw(random.Random(0))
    assert len(drawn) == 1000
    assert np.bincount(labels[drawn]) == pytest.approx([1000 / 3] * 3, abs=60)


@given(st.lists(st.floats(0, 9, width=32), min_size=1, max_size=60), st.floats(0.1, 0.9), st.integers(0, 70))
@settings(deadline=None)
def test_pruning_leaves_out_a_share_of_what_is_learnt_well_and_nothing_else(
    losses: list[float], share: float, least: int
) -> None:
    rng, seen = random.Random(0), np.array(losses, np.float32)
    items = len(seen) + 5  # five are never seen
    pruned = Pruned(items, share)
    pruned.choose(rng, least=0)
    assert sorted(pruned.draw(rng)) == list(range(items))
    pruned.record(np.arange(len(seen)), seen)
    pruned.choose(rng, least=min(least, items))
    drawn = pruned.draw(rng)
    assert len(drawn) == len(set(drawn)) == pruned.count
    easy = set(np.flatnonzero(seen < seen.mean()).tolist())
    assert set(range(items)) - set(drawn) <= easy
    assert len(drawn) == max(items - len(easy) + round((1 - share) * len(easy)), min(least, items))


@pytest.mark.parametrize("name", ["weighted", "oversample"])
def test_a_class_without_items_cannot_be_balanced(name: str) -> None:
    with pytest.raises(DataError, match="1 classes have no training items"):
        sampler(recipe(sampler=name), np.array([0, 0, 2]), 3)


@pytest.mark.parametrize("name", ["weighted", "oversample"])
def test_a_loader_shows_what_its_sampler_draws_and_validates_on_everything(tmp_path: Path, name: str) -> None:
    data = digits_dataset()
    (squares,) = open_images(data, ["train", "valid"], [Preprocess(16, "squash")], tmp_path)
    seed_everything(0, "loaders")
    given_ = recipe(sampler=name, sampler_count=200 if name == "oversample" else None, batch_size=50)
    mean = (0.5, 0.5, 0.5)
    dls = data_loaders(given_, data, CachedImages(squares), mean, mean, device=torch.device("cpu"))
    expected = 2000 if name == "oversample" else len(data.splits["train"])
    for _ in range(2):
        items, labels = [], []
        for _, y in dls.train:
            items += dls.train.batch_items.tolist()
            labels += y.tolist()
        assert len(items) == expected // 50 * 50
        assert labels == data.splits["train"].targets[items].tolist()
    if name == "oversample":
        assert set(np.bincount(labels).tolist()) == {200}
    assert sum(len(y) for _, y in dls.valid) == len(data.splits["valid"])
    plain: BatchLoader = dls.train.new(shuffle=False, drop_last=False)
    assert sum(len(y) for _, y in plain) == len(data.splits["train"])


# ---- losses and mixing ----


def logits_and_targets(n: int = 12, k: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(n, k, requires_grad=True), torch.randint(0, k, (n,))


def test_class_weights_make_every_class_count_the_same() -> None:
    weights = class_weights(np.repeat([0, 1, 3], [2, 6, 12]), 4)
    assert weights.tolist() == pytest.approx([2.5, 20 / 24, 0, 20 / 48])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_is_torchs_and_the_same_for_labels_as_probabilities(smoothing: float) -> None:
    logits, targets = logits_and_targets()
    weights = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
    loss = losses.get("cross-entropy")(recipe(label_smoothing=smoothing), weights)
    expected = functional.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, targets), expected)
    torch.testing.assert_close(loss(logits, functional.one_hot(targets, 5).float()), expected)


def test_a_mixed_image_is_weighted_by_what_it_is_mixed_of() -> None:
    logits, first = logits_and_targets()
    second, share = first.roll(1), 0.3
    weights = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
    soft = share * functional.one_hot(first, 5) + (1 - share) * functional.one_hot(second, 5)
    logs = -logits.log_softmax(1)
    parts = [(share, first), (1 - share, second)]
    top = sum(s * weights[y] * logs.gather(1, y[:, None])[:, 0] for s, y in parts)
    bottom = sum(s * weights[y] for s, y in parts)
    assert isinstance(top, Tensor) and isinstance(bottom, Tensor)
    loss = losses.get("cross-entropy")(recipe(), weights)
    torch.testing.assert_close(loss(logits, soft), top.sum() / bottom.sum())


def test_focal_loss_with_gamma_0_is_cross_entropy_and_else_looks_at_what_is_hard() -> None:
    logits, targets = logits_and_targets()
    plain = functional.cross_entropy(logits, targets)
    torch.testing.assert_close(losses.get("focal")(recipe(focal_gamma=0.0), None)(logits, targets), plain)
    p = logits.softmax(1).gather(1, targets[:, None])[:, 0]
    focal = losses.get("focal")(recipe(focal_gamma=2.0), None)(logits, targets)
    torch.testing.assert_close(focal, (-((1 - p) ** 2) * p.log()).mean())


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])])
def test_parts_of_a_batch_add_up_by_their_mass(weights: Tensor | None, soft: bool) -> None:
    logits, hard = logits_and_targets()
    targets = functional.one_hot(hard, 5).float() if soft else hard
    loss = losses.get("focal")(recipe(), weights)
    assert isinstance(loss, Weighted)
    whole = loss.mass(targets)
    parts = [loss(a, b) * loss.mass(b) / whole for a, b in zip(logits.split(5), targets.split(5), strict=True)]
    torch.testing.assert_close(torch.stack(parts).sum(), loss(logits, targets))


@pytest.mark.parametrize("mix", [v2.MixUp(alpha=0.4, num_classes=3), v2.CutMix(alpha=1.0, num_classes=3)])
def test_the_label_of_a_mixed_image_says_what_is_in_it(mix: v2.Transform) -> None:
    torch.manual_seed(0)
    y = torch.randint(0, 3, (16,))
    x = functional.one_hot(y, 3).float()[:, :, None, None].expand(16, 3, 40, 40)  # the class is its channel
    for _ in range(5):
        mixed, soft = mix(x, y)
        torch.testing.assert_close(mixed.mean(dim=(2, 3)), soft, atol=1e-5, rtol=0)


# ---- augmentation ----

DRAWN = sorted(set(policies.names()) - {"none"})


def batch(n: int = 6, size: int = 32) -> Tensor:
    """Smooth colourful images, so that moves of a pixel change little and turns much."""
    torch.manual_seed(5)
    return functional.interpolate(torch.rand(n, 3, 5, 5), (size, size), mode="bicubic").clamp(0, 1)


def augmented(name: str, x: Tensor, seed: int) -> Tensor:
    from fastai.data.transforms import IntToFloatTensor
    from fastai.vision.core import TensorImage
    from fasttransform import Pipeline

    seed_everything(seed, "augment")
    pixels = TensorImage((x * 255).round().to(torch.uint8))
    changed = Pipeline([IntToFloatTensor(), *transforms(name, x.shape[-1])], split_idx=0)(pixels)
    return torch.as_tensor(changed).as_subclass(Tensor)


@pytest.mark.parametrize("name", [*DRAWN, "flip+brightness", "flip-hv+noise+grayscale"])
def test_a_policy_keeps_shape_and_range_and_repeats_with_the_seed(name: str) -> None:
    x = batch(16)
    result = augmented(name, x, 1)
    assert result.shape == x.shape and result.dtype == torch.float32
    # the weights of a bilinear interpolation add up to 1 only to rounding, on some processors to the last bit of 1
    assert float(result.min()) >= -1e-6 and float(result.max()) <= 1 + 1e-6
    assert torch.equal(result, augmented(name, x, 1))
    assert not torch.allclose(result, x, atol=0.01)
    assert not torch.equal(result, augmented(name, x, 2))


def test_none_changes_nothing_and_an_unknown_part_is_named() -> None:
    x = batch()
    torch.testing.assert_close(augmented("none", x, 0), x, atol=0.002, rtol=0)
    with pytest.raises(RecipeError, match="unknown augmentation policy 'brigtness'; did you mean 'brightness'"):
        transforms("flip+brigtness", 32)


def test_each_image_of_a_batch_is_augmented_on_its_own() -> None:
    x = batch(1).expand(24, 3, 32, 32)
    for name in DRAWN:
        result = augmented(name, x, 0)
        assert len(torch.unique(result.flatten(1), dim=0)) > 1, name


def test_flips_are_the_four_mirrors() -> None:
    x = batch(64)
    x = ((x * 255).round() / 255)[:1].expand(64, 3, 32, 32)
    result = augmented("flip-hv", x, 0)
    four = [x[0], x[0].flip(-1), x[0].flip(-2), x[0].flip(-1, -2)]
    which = [next(i for i, one in enumerate(four) if torch.allclose(image, one, atol=1e-3)) for image in result]
    assert set(which) == {0, 1, 2, 3}


def test_grey_images_are_grey_and_the_others_untouched() -> None:
    x = batch(200, 8)
    result = augmented("grayscale", x, 0)
    same = torch.isclose(result, x, atol=0.003).flatten(1).all(1)
    grey = (result.std(dim=1).amax(dim=(1, 2))) < 1e-5
    assert bool((same | grey).all())
    assert 20 <= int(grey.sum()) <= 60


# ---- filters ----


def picture(size: tuple[int, int] = (96, 80)) -> Image.Image:
    x = batch(1, 128)[0].permute(1, 2, 0)
    return Image.fromarray((x * 255).byte().numpy()).resize(size)


@pytest.mark.parametrize("name", filters.names())
def test_a_filter_gives_an_rgb_image_by_the_image_alone(name: str) -> None:
    image = picture()
    before = image.tobytes()
    result = filtered(image, [name])
    assert result.mode == "RGB"
    assert image.tobytes() == before
    assert result.tobytes() == filtered(image, [name]).tobytes()
    if name != "lesion":
        assert result.size == image.size
    for extreme in (Image.new("RGB", (40, 40)), Image.new("RGB", (9, 7), "white"), Image.new("RGB", (1, 1))):
        assert filtered(extreme, [name]).size == extreme.size


def test_hairs_go_and_the_skin_stays() -> None:
    skin = picture((256, 256)).point(lambda value: 120 + value // 3)
    hairy = skin.copy()
    pixels = np.array(hairy)
    for offset in range(20, 240, 40):
        pixels[offset : offset + 2] = 30
        pixels[np.arange(256), np.clip(np.arange(256) + offset - 128, 0, 255)] = 30
    hairs = (pixels != np.array(skin)).any(-1)
    cleaned = np.array(filtered(Image.fromarray(pixels), ["hair"])).astype(int)
    wrong = np.abs(cleaned - np.array(skin)).mean(-1)
    assert wrong[hairs].mean() < 0.15 * np.abs(pixels.astype(int) - np.array(skin)).mean(-1)[hairs].mean()
    assert wrong[~hairs].mean() < 2
    clean = np.array(filtered(skin, ["hair"])).astype(int)
    assert np.abs(clean - np.array(skin)).mean() < 0.5


def test_the_lesion_is_cut_out_with_a_margin() -> None:
    rows, columns = np.mgrid[:200, :300]
    spot = ((rows - 90) / 30) ** 2 + ((columns - 170) / 45) ** 2 <= 1
    pixels = np.where(spot[..., None], [90, 50, 40], [220, 190, 170]).astype(np.uint8)
    pixels[:, :3] = 0  # a dark border is no lesion
    result = filtered(Image.fromarray(pixels), ["lesion"])
    assert result.size == pytest.approx((90 + 18, 60 + 18), abs=6)
    assert (np.array(result)[len(np.array(result)) // 2, result.width // 2] == [90, 50, 40]).all()


def test_other_filters_have_other_squares(tmp_path: Path) -> None:
    data = digits_dataset()
    names = list(data.content.values())[:3]
    keys = {
        cache_key(data, names, Preprocess(16, "squash", some))
        for some in ((), ("grey",), ("grey", "clahe"), ("clahe", "grey"))
    }
    assert len(keys) == 4
    plain, edged = open_images(
        data, ["train"], [Preprocess(16, "squash"), Preprocess(16, "squash", ("edges",))], tmp_path
    )
    rows = np.arange(5)
    assert not np.array_equal(plain.take(rows), edged.take(rows))
    (again,) = open_images(data, ["train"], [Preprocess(16, "squash", ("edges",))], tmp_path)
    assert np.array_equal(again.take(rows), edged.take(rows))


# ---- depth ----

ARCHS = ["resnet18", "mobilenet_v2", "densenet121", "alexnet", "vgg16", "efficientnet_b0", "vit_tiny_patch16_224"]


@pytest.mark.parametrize("arch", ARCHS)
def test_more_layers_are_more_parameters(arch: str) -> None:
    size = 224 if arch.startswith("vit") else 64
    body, _ = build_network(recipe(arch=arch, image_size=size), 3).children()
    total = len(layers(body))
    chosen = [last_parameters(body, count) for count in (1, 2, 4, 6, 8, 10, total, total + 5)]
    counts = [sum(parameter.numel() for parameter in one) for one in chosen]
    assert counts[0] > 0
    wanted = [count for count in (1, 2, 4, 6, 8, 10) if count <= total]
    assert all(more > fewer for fewer, more in pairwise(counts[: len(wanted)]))
    assert all(small <= large for small, large in pairwise(chosen))
    assert chosen[-1] == chosen[-2] == set(body.parameters())
    for count in (1, 4, 10):
        mine = last_parameters(body, count)
        assert all(module.weight in mine for _, module in last_layers(body, count))
        others = [module.weight for _, module in layers(body)[: -min(count, total)]]
        assert not any(weight in mine for weight in others) or total <= count


def test_a_batch_norm_belongs_to_the_layer_before_it() -> None:
    body = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1))
    assert last_parameters(body, 1) == set(body[3].parameters())
    two = set(body[1].parameters()) | set(body[2].parameters()) | set(body[3].parameters())
    assert last_parameters(nn.Sequential(nn.Conv2d(3, 3, 1), *body), 2) == two
    assert last_parameters(body, 2) == set(body.parameters())


# ---- schedules ----


def row(epoch: int, loss: float) -> Epoch:
    return Epoch(0, epoch, 1.0, loss, 0.5, 0.5, 0.1, 1.0)


@pytest.mark.parametrize("epochs", [1, 6, 7, 8, 15, 30])
@pytest.mark.parametrize("batches", [1, 3, 7, 100])
def test_step_is_torchs(epochs: int, batches: int) -> None:
    rates = schedules.get("step")(StageSettings(np.array([1.0]), epochs=epochs))["lr"]
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7)
    for epoch in range(epochs):
        for done in range(batches):
            progress = epoch / epochs + done / batches / epochs  # as fastai's pct_train adds up
            assert float(rates(progress)[0]) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


@given(st.lists(st.integers(0, 6), max_size=25), st.integers(0, 4))
@settings(deadline=None)
def test_plateau_is_torchs(losses_: list[int], patience: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=patience, threshold=0.0, eps=0.0)
    rows: list[Epoch] = []
    rates = schedules.get("plateau")(StageSettings(np.array([1.0]), patience=patience, rows=lambda: rows))["lr"]
    for epoch, loss in enumerate(losses_):
        rows.append(row(epoch, float(loss)))
        theirs.step(float(loss))
        assert float(rates(0.0)[0]) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
    assert plateaus(rows, 99) == 0


def test_cosine_falls_from_the_rate_to_nothing() -> None:
    rates = schedules.get("cosine")(StageSettings(np.array([2.0])))["lr"]
    assert [float(rates(place)[0]) for place in (0.0, 0.5, 1.0)] == pytest.approx([2.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"early_stopping": 2}, "early stopping"),
        ({"keep": "best"}, "best epoch"),
        ({"schedule": "plateau", "lr": 0.1}, "rates"),
        ({"average": "soup"}, "soup"),
    ],
)
def test_what_the_validation_rows_decide_is_said_and_a_refit_has_none(keys: dict[str, Any], what: str) -> None:
    assert chosen_on_valid(recipe(**keys)) == [what]
    assert any("a refit has no validation rows" in problem for problem in problems(recipe(full=True, **keys)))
    assert any("leave valid_every" in problem for problem in problems(recipe(valid_every=2, **keys)))
    assert chosen_on_valid(recipe()) == []


# ---- averages of weights ----


def trained(tmp_path: Path, average: Any, epochs: int = 4) -> tuple[list[dict[str, Tensor]], Any]:
    """The states after every step (or epoch, for averages over epochs) of a small training, and its learner."""
    from fastai.callback.core import Callback
    from fastai.learner import Learner

    from ensemble.training.engine.checkpoint import copied_state

    data = digits_dataset()
    (squares,) = open_images(data, ["train", "valid"], [Preprocess(16, "squash")], tmp_path)
    seed_everything(0, "loaders")
    mean = (0.5, 0.5, 0.5)
    given_ = recipe(batch_size=200, filters=(4, 8), batch_norm=True)
    dls = data_loaders(given_, data, CachedImages(squares), mean, mean, device=torch.device("cpu"))
    network = build_network(given_, 10)
    states: list[dict[str, Tensor]] = []
    by_step = isinstance(average, Exponential)

    class Watch(Callback):  # type: ignore[misc]
        order = 99

        def after_batch(self) -> None:
            if self.training and by_step:
                states.append(copied_state(self.model))

        def after_train(self) -> None:
            if not by_step:
                states.append(copied_state(self.model))

    learner = Learner(dls, network, loss_func=nn.CrossEntropyLoss(), path=tmp_path, cbs=[average, Watch()])
    with learner.no_bar(), learner.no_logging():
        learner.fit(epochs, 1e-2)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in states[-1].items())
    return states, learner


def no_seed(purpose: str) -> None:
    """Nothing is drawn."""


def test_the_exponential_average_is_its_formula(tmp_path: Path) -> None:
    average = Exponential(recipe(average="ema", average_decay=0.9), 4)
    states, learner = trained(tmp_path, average)
    expected = {name: value.double() for name, value in states[0].items()}
    for step, state in enumerate(states, 1):
        kept = min(0.9, (1 + step) / (10 + step))
        expected = {name: kept * value + (1 - kept) * state[name] for name, value in expected.items()}
    restored = Exponential(recipe(average="ema"), 4)
    restored.restore(average.state())
    restored.finish(learner, no_seed)
    for name, value in learner.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=1e-4)


def test_stochastic_averaging_is_the_mean_of_the_last_epochs_with_new_statistics(tmp_path: Path) -> None:
    average = Stochastic(recipe(average="swa", average_epochs=3), 4)
    states, learner = trained(tmp_path, average)
    assert average.finish(learner, no_seed) == {"swa": {"epochs": 3}}
    last = states[-3:]
    for name, parameter in learner.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), sum(state[name] for state in last) / 3, atol=1e-6, rtol=1e-4)
    x = torch.cat([x.as_subclass(Tensor) for x, _ in learner.dls.train.new(shuffle=False, drop_last=True)])
    body, _ = learner.model.children()
    first = next(module for module in body.modules() if isinstance(module, nn.BatchNorm2d))
    seen: list[Tensor] = []
    handle = first.register_forward_hook(lambda module, args, out: seen.append(args[0].detach()))
    learner.model.eval()
    learner.model(x)
    handle.remove()
    torch.testing.assert_close(first.running_mean, seen[0].mean(dim=(0, 2, 3)), atol=0.02, rtol=0.05)


def test_the_soup_is_not_worse_than_its_best_ingredient(tmp_path: Path) -> None:
    from ensemble.training.methods.averaging import _accuracy

    average = Soup(recipe(average="soup", average_epochs=3), 4)
    states, learner = trained(tmp_path, average)
    alone = []
    for state in states[-3:]:
        learner.model.load_state_dict(state)
        alone.append(_accuracy(learner))
    restored = Soup(recipe(average="soup", average_epochs=3), 4)
    restored.restore(average.state())
    output = restored.finish(learner, no_seed)["soup"]
    assert output["of"] == [1, 2, 3] and set(output["epochs"]) <= {1, 2, 3}
    assert _accuracy(learner) == output["valid_accuracy"] >= max(alone)


# ---- test-time views ----


@pytest.mark.parametrize("name", views.names())
def test_views_have_the_shape_of_the_image_and_begin_with_it(name: str) -> None:
    x = torch.rand(2, 3, 32, 32)
    result = [view(x) for view in views.get(name)]
    assert all(one.shape == x.shape for one in result)
    assert torch.equal(result[0], x)
    assert len({one.numpy().tobytes() for one in result}) == len(result)


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        ("dihedral", lambda x: x.rot90(1, (-2, -1))),
        ("dihedral", lambda x: x.flip(-2)),
        ("flips", lambda x: x.flip(-2)),
    ],
)
def test_the_views_of_a_turned_image_are_the_same_ones(name: str, turn: Callable[[Tensor], Tensor]) -> None:
    x = torch.rand(1, 3, 8, 8)
    before = {view(x).contiguous().numpy().tobytes() for view in views.get(name)}
    assert before == {view(turn(x)).contiguous().numpy().tobytes() for view in views.get(name)}


# ---- progressive resizing ----


@given(st.integers(8, 64), st.integers(1, 200), st.integers(1, 40))
@settings(deadline=None)
def test_images_grow_from_the_first_side_to_the_full_one(first: int, more: int, epochs: int) -> None:
    size = first + more
    result = sides(recipe(image_size=size, progressive=first), epochs)
    assert len(result) == epochs
    assert all(small <= large for small, large in pairwise(result))
    assert first <= result[0] <= size
    assert all(side == size for epoch, side in enumerate(result) if epoch >= 0.75 * epochs)
    assert 0 < share_of_pixels(recipe(image_size=size, progressive=first), epochs) <= 1
    assert sides(recipe(image_size=size), epochs) == [size] * epochs


def test_the_network_sees_the_sides_of_the_epochs(tmp_path: Path) -> None:
    from fastai.learner import Learner

    data = digits_dataset()
    (squares,) = open_images(data, ["train", "valid"], [Preprocess(16, "squash")], tmp_path)
    given_ = recipe(arch="speednet", batch_size=200, filters=(4, 8), progressive=8)
    mean = (0.5, 0.5, 0.5)
    seed_everything(0, "loaders")
    dls = data_loaders(given_, data, CachedImages(squares), mean, mean, device=torch.device("cpu"))
    network = build_network(given_, 10)
    seen: list[tuple[bool, int]] = []
    network.register_forward_pre_hook(lambda module, args: seen.append((module.training, args[0].shape[-1])))
    (callback,) = progressive(given_, network, 4)
    seen.clear()
    learner = Learner(dls, network, loss_func=nn.CrossEntropyLoss(), path=tmp_path, cbs=[callback])
    with learner.no_bar(), learner.no_logging():
        learner.fit(4, 1e-3)
    batches = len(dls.train)
    assert [side for training, side in seen if training] == [
        side for side in sides(given_, 4) for _ in range(batches)
    ]
    assert {side for training, side in seen if not training} == {16}


@pytest.mark.parametrize(("arch", "size", "side"), [("vit_tiny_patch16_224", 224, 160), ("customnet", 32, 16)])
def test_a_network_that_takes_no_smaller_images_is_refused(arch: str, size: int, side: int) -> None:
    given_ = recipe(arch=arch, image_size=size, progressive=side)
    with pytest.raises(RecipeError, match=f"takes no images of {side} pixels"):
        progressive(given_, build_network(given_, 3), 4)
    assert any("less than image_size" in problem for problem in contradictions(recipe(progressive=16)))
