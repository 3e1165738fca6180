"""One peer of the fine-tuning benchmark on one cell: prints seconds, writes the validation probabilities.

    python tests/benchmarks/fine_tuning_peer.py PEER FOLDER ARCH SIZE EPOCHS SEED WEIGHTS OUT.npz

notebook, notebook-finder: `vision_learner` and `fine_tune(EPOCHS, 2e-3)`, or the rate of `lr_find`'s valley.
timm: AdamW (eps 1e-6, decay 0.01), layer decay 0.8, cosine after a warm-up, gradients clipped at 1, label
smoothing, timm's own augmentation: the command with which its author fine-tuned his published networks (model card
of vit_large_patch14_clip_336.datacompxl_ft_augreg_inat21), at ten times its rate: 5e-5 for 64 images a step hardly
moves a network in so few steps.
autogluon: the settings of AutoGluon's multimodal predictor, 1.6.3: AdamW, decay 0.001, layer decay 0.9, warm-up of
a tenth, cosine, gradients clipped at 1, batches of 128, TrivialAugment; 4e-4, the rate of its preset for small
networks.
probe: logistic regression on the pooled features of the frozen body.
WEIGHTS is a .safetensors of the body with the library's names, or `none`. Everybody gets EPOCHS + 1 epochs in all.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

started = time.perf_counter()

import numpy as np  # noqa: E402 — the imports count
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

TORCHVISION = ("mobilenet_v2", "squeezenet1_1")


def body_of(arch: str, weights: str) -> tuple[nn.Module, int, list[float], list[float]]:
    """The body, its channels, and the mean and std that its weights expect."""
    from safetensors.torch import load_file

    state = {} if weights == "none" else {name: value.float() for name, value in load_file(weights).items()}
    if arch in TORCHVISION:
        from torchvision import models

        whole = getattr(models, arch)()
        body, width, mean, std = whole.features, 512, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        width = 1280 if arch == "mobilenet_v2" else 512
        state = {name.removeprefix("features."): value for name, value in state.items() if name[:9] == "features."}
    else:
        import timm

        body = timm.create_model(arch, num_classes=0, global_pool="")
        width, config = body.num_features, body.pretrained_cfg
        mean, std = list(config["mean"]), list(config["std"])
        state = {name: value for name, value in state.items() if not name.startswith("classifier")}
    if state:
        missing = [name for name in body.load_state_dict(state, strict=False).missing_keys if "tracked" not in name]
        assert not missing, missing[:5]
    return body, width, mean, std


def notebook(folder: Path, arch: str, size: int, epochs: int, seed: int, weights: str, find: bool) -> Any:
    """fastai's own, with its defaults; returns the probabilities and their file names."""
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        GrandparentSplitter,
        ImageBlock,
        Normalize,
        Resize,
        accuracy,
        aug_transforms,
        default_split,
        get_image_files,
        model_meta,
        parent_label,
        set_seed,
        valley,
        vision_learner,
    )
    from torchvision import models

    body, _, mean, std = body_of(arch, weights)
    set_seed(seed)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=get_image_files,
        splitter=GrandparentSplitter(train_name="train", valid_name="valid"),
        get_y=parent_label,
        item_tfms=Resize(size),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(mean, std)],
    )
    loaders = block.dataloaders(folder, bs=64, num_workers=0)
    model_meta[models.mobilenet_v2] = {"cut": -1, "split": default_split}
    network = getattr(models, arch) if arch in TORCHVISION else arch
    learner = vision_learner(loaders, network, pretrained=False, metrics=accuracy)
    inner = learner.model[0][0] if arch in TORCHVISION else learner.model[0].model
    if weights != "none":
        inner.load_state_dict(body.state_dict())
    with learner.no_bar(), learner.no_logging():
        if weights == "none":
            learner.fit_one_cycle(epochs + 1, 2e-3)
        else:
            if find:
                learner.freeze()
            rate = learner.lr_find(suggest_funcs=(valley,), show_plot=False).valley if find else 2e-3
            learner.fine_tune(epochs, rate)
        probs, targets = learner.get_preds(dl=loaders.valid)
    return probs.numpy(), targets.numpy()


class Images:
    """The images of a split, decoded once: uint8 (n, 3, size, size), and their classes."""

    def __init__(self, folder: Path, size: int) -> None:
        from PIL import Image

        classes = sorted(path.name for path in folder.iterdir())
        items = [(path, place) for place, name in enumerate(classes) for path in sorted((folder / name).iterdir())]
        squares = [
            np.asarray(Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
            for path, _ in items
        ]
        self.pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
        self.targets = torch.tensor([place for _, place in items])
        self.classes = len(classes)


def loop(peer: str, folder: Path, arch: str, size: int, epochs: int, seed: int, weights: str) -> Any:
    """The settings of timm or AutoGluon in a plain loop."""
    from timm.optim import create_optimizer_v2
    from torchvision.transforms import v2

    torch.manual_seed(seed)
    train, valid = Images(folder / "train", size), Images(folder / "valid", size)
    body, width, mean, std = body_of(arch, weights)
    network = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, train.classes))
    network = network.to(memory_format=torch.channels_last)
    ours = {
        "timm": {"rate": 5e-4, "decay": 0.01, "layers": 0.8, "eps": 1e-6, "batch": 64, "smoothing": 0.1},
        "autogluon": {"rate": 4e-4, "decay": 0.001, "layers": 0.9, "eps": 1e-8, "batch": 128, "smoothing": 0.0},
    }[peer]
    if peer == "timm":
        augment = v2.Compose(
            [v2.RandomResizedCrop(size, interpolation=3), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)]
        )
    else:
        augment = v2.Compose([v2.TrivialAugmentWide()])
    rates = layer_rates(network, ours["layers"])
    groups = [
        {
            "params": [parameter],
            "weight_decay": ours["decay"] if parameter.ndim > 1 else 0.0,
            "lr": ours["rate"] * factor,
            "highest": ours["rate"] * factor,
        }
        for parameter, factor in rates
    ]
    optimizer = create_optimizer_v2(groups, opt="adamw", lr=ours["rate"], weight_decay=0.0, eps=ours["eps"])
    batch, count = int(ours["batch"]), len(train.targets)
    steps = max(1, count // batch) * (epochs + 1)
    loss_function = nn.CrossEntropyLoss(label_smoothing=ours["smoothing"])
    shift, scale = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def inputs(pixels: Tensor) -> Tensor:
        return ((pixels.float() / 255 - shift) / scale).contiguous(memory_format=torch.channels_last)

    step = 0
    network.train()
    while step < steps:
        order = torch.randperm(count)
        for start in range(0, max(batch, count - batch + 1), batch):
            rows = order[start : start + batch]
            part = step / steps
            factor = part / 0.1 if part < 0.1 else (1 + math.cos(math.pi * (part - 0.1) / 0.9)) / 2
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * factor
            pixels = torch.stack([augment(image) for image in train.pixels[rows]])
            loss = loss_function(network(inputs(pixels)), train.targets[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step == steps:
                break
    network.eval()
    with torch.no_grad():
        parts = [network(inputs(part)).softmax(1) for part in valid.pixels.split(256)]
    return torch.cat(parts).numpy(), valid.targets.numpy()


def layer_rates(network: nn.Sequential, decay: float) -> list[tuple[nn.Parameter, float]]:
    """Every parameter and decay ** (blocks between it and the head); the blocks are the body's, in order."""
    body = network[0]
    top = [body] if not hasattr(body, "blocks") else []
    blocks: list[list[nn.Parameter]] = []
    if hasattr(body, "blocks"):
        before, after, passed = [], [], False
        for name, child in body.named_children():
            if name == "blocks":
                passed = True
            else:
                (after if passed else before).extend(child.parameters())
        blocks = [before, *(list(block.parameters()) for stage in body.blocks for block in stage), after]
    elif hasattr(body, "stages"):
        inner = [list(block.parameters()) for stage in body.stages for block in stage.blocks]
        seen = {parameter for block in inner for parameter in block}
        blocks = [[parameter for parameter in body.parameters() if parameter not in seen], *inner]
    else:
        blocks = [list(child.parameters()) for child in top[0].children()]
    blocks = [*(block for block in blocks if block), list(network[-1].parameters())]
    return [
        (parameter, decay ** (len(blocks) - 1 - place)) for place, block in enumerate(blocks) for parameter in block
    ]


def probe(folder: Path, arch: str, size: int, weights: str) -> Any:
    """Logistic regression on the features that the body has without training."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, valid = Images(folder / "train", size), Images(folder / "valid", size)
    body, _, mean, std = body_of(arch, weights)
    body.eval()
    shift, scale = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def features(images: Images) -> Any:
        with torch.no_grad():
            parts = [body((part.float() / 255 - shift) / scale).mean((2, 3)) for part in images.pixels.split(128)]
        return torch.cat(parts).numpy()

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    model.fit(features(train), train.targets.numpy())
    return model.predict_proba(features(valid)), valid.targets.numpy()


def main() -> None:
    """Train and predict once."""
    peer, folder, arch, weights, out = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[7], sys.argv[8]
    size, epochs, seed = map(int, sys.argv[4:7])
    if peer.startswith("notebook"):
        probs, targets = notebook(folder, arch, size, epochs, seed, weights, peer.endswith("finder"))
    elif peer == "probe":
        probs, targets = probe(folder, arch, size, weights)
    else:
        probs, targets = loop(peer, folder, arch, size, epochs, seed, weights)
    np.savez(out, probs=probs, targets=targets)
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
