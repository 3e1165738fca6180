"""Complete runs with a network that nobody trained, and images of many kinds, for tests of what predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ensemble.core.files import sha256_file
from ensemble.core.predictions import align
from ensemble.recipe import text
from ensemble.runs.run import Run
from helpers.fake_runs import CLASSES, predictions
from helpers.fake_runs import run as write


def network_run(folder: Path, name: str, seed: int, classes: list[str] | None = None, **keys: Any) -> Run:
    """A member whose weights are random; keys are those of its recipe, `data` among them, and `kind`."""
    import torch

    from ensemble.models.network import build_network
    from ensemble.models.state_dict import save_weights
    from ensemble.recipe.data_spec import DataSpec
    from ensemble.recipe.resolve import as_mapping, resolved
    from ensemble.recipe.schema import Recipe

    classes = classes or CLASSES  # the same ones in any order
    data = DataSpec(form="folders", path="photos", **keys.pop("data", {}))
    facts = {key: keys.pop(key) for key in ("kind", "parents", "fold") if key in keys}
    plain = {"arch": "customnet", "image_size": 16, "filters": (4, 8), "dense": (8,)}
    recipe = resolved(Recipe(data=data, **{**plain, **keys}))
    torch.manual_seed(seed)
    network = build_network(recipe, len(classes), None)
    _spread(network, recipe.image_size)
    path = folder / name
    path.mkdir(parents=True)
    save_weights(path / "weights.safetensors", network)
    (path / "recipe.yaml").write_text(text.dump(as_mapping(recipe)))
    rows = predictions(60, seed)
    splits = {"valid": align(rows, rows.ids, np.array(classes))}
    if facts.get("kind") == "refit":
        splits = {"test": predictions(20, seed, prefix="t", labelled=False)}
    return write(
        folder,
        name,
        splits,
        mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.25, 0.3],
        files={"weights": sha256_file(path / "weights.safetensors")},
        **facts,
    )


def _spread(network: Any, size: int) -> None:
    """Scale and shift the last layer, so that the answers differ from image to image."""
    import torch

    last = [layer for layer in network[1].modules() if isinstance(layer, torch.nn.Linear)][-1]
    squares = [np.array(picture(seed).resize((size, size))) for seed in range(40)]
    x = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        network.eval()
        last.weight *= 3 / network(x).std(0).mean()
        if last.bias is not None:
            last.bias -= network(x).mean(0)


def picture(seed: int, width: int = 40, height: int = 24) -> Image.Image:
    """Smooth colours with noise: every turn of it is another picture."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (3, 5, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = pixels + random.integers(-20, 20, pixels.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def many_kinds(folder: Path) -> list[Path]:
    """JPEG turned by EXIF in all eight ways, CMYK, grey; PNG with a palette, grey, 16-bit, opaque alpha."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        paths.append(folder / f"turned{turn}.jpg")
        picture(turn, 48, 32).save(paths[-1], exif=exif, quality=95)
    image = picture(20)
    opaque = image.convert("RGBA")
    wide = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    for name, created in (
        ("cmyk.jpg", image.convert("CMYK")),
        ("grey.jpg", image.convert("L")),
        ("palette.png", image.convert("P", palette=Image.Palette.ADAPTIVE)),
        ("grey.png", image.convert("L")),
        ("wide.png", wide),
        ("opaque.png", opaque),
        ("one-bit.png", image.convert("1")),
        ("large.png", picture(21, 320, 200)),
    ):
        paths.append(folder / name)
        created.save(paths[-1])
    return paths


def see_through(folder: Path) -> list[Path]:
    """Files that need a background: transparent, half so, with a palette, grey with alpha, WebP, turned by EXIF."""
    folder.mkdir(parents=True, exist_ok=True)
    image = picture(30)
    ramp = Image.linear_gradient("L").resize(image.size)
    exif = Image.Exif()
    exif[0x0112] = 6
    clear, half, grey = image.convert("RGBA"), image.convert("RGBA"), image.convert("LA")
    clear.putalpha(0)
    half.putalpha(ramp)
    grey.putalpha(ramp)
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    created = {
        "clear.png": (clear, {}),
        "half.png": (half, {}),
        "half.webp": (half, {"lossless": True}),
        "turned.png": (half, {"exif": exif}),
        "grey.png": (grey, {}),
        "palette.png": (palette, {"transparency": 0}),
    }
    for name, (item, options) in created.items():
        item.save(folder / name, **options)
    return [folder / name for name in created]
