"""State dicts: formats, broken files, names of other libraries, a run's own weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.weights import built_from, library_state, located, write, write_pth

from ensemble.core.errors import EnsError, MissingWeights
from ensemble.recipe.schema import Recipe

pytestmark = pytest.mark.slow


REAL_FOLDER = os.environ.get("ENS_WEIGHTS")


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
def test_broken_weights_are_refused_in_one_line(tmp_path: Path, suffix: str, spoil: Callable[[Path], None]) -> None:
    from ensemble.models.state_dict import load_state
    from ensemble.models.weight_sources import WeightsFile

    path = (write if suffix == ".safetensors" else write_pth)(tmp_path / f"w{suffix}", library_state())
    spoil(path)
    with pytest.raises(MissingWeights, match=f"w{suffix} is not a whole file of weights") as caught:
        load_state(WeightsFile(path, "", ""))
    assert "\n" not in str(caught.value)


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    from ensemble.models.state_dict import load_state
    from ensemble.models.weight_sources import WeightsFile

    path = write_pth(tmp_path / "evil.pth", {"a": Recipe})
    with pytest.raises(MissingWeights):
        load_state(WeightsFile(path, "", ""))
    with pytest.raises(MissingWeights, match="holds no state dict"):
        load_state(WeightsFile(write_pth(tmp_path / "odd.pth", {"a": 3}), "", ""))


@pytest.mark.parametrize("arch", ["squeezenet1_1", "mobilenet_v2", "resnet18", "densenet121", "inception_v3"])
def test_pretrained_weights_reach_the_body(arch: str) -> None:
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
        body, head = built_from(given, arch, image_size=75).children()
        assert all(bool((parameter == 0.5).all()) for parameter in body.parameters())
        assert not all(bool((parameter == 0.5).all()) for parameter in head.parameters())


def test_pretrained_weights_load_under_a_small_stem() -> None:
    import torch

    state = library_state("resnet18")
    network = built_from(state, "resnet18", stem="small")
    assert torch.equal(network[0].conv1.weight, state["conv1.weight"])


def test_old_names_of_densenet_are_translated() -> None:
    import re

    import torch

    state = library_state("densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): value for name, value in state.items()
    }
    assert old.keys() != state.keys()
    new, again = built_from(state, "densenet121"), built_from(old, "densenet121")
    assert all(torch.equal(a, b) for a, b in zip(new[0].parameters(), again[0].parameters(), strict=True))


def test_positions_of_a_transformer_are_resampled() -> None:
    import torch

    state = library_state("test_vit")
    network = built_from(state, "test_vit", image_size=64)
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
def test_body_that_does_not_fit_is_refused_by_leaf(change: Any, complaint: str) -> None:
    state = library_state()
    change(state)
    with pytest.raises(MissingWeights, match=f"the weights do not fit squeezenet1_1: .*{complaint}"):
        built_from(state)


def test_timm_network_refuses_strange_weights() -> None:
    with pytest.raises(MissingWeights, match="do not fit test_vit: cls_token: missing"):
        built_from(library_state(), "test_vit")


def test_run_weights_are_restored_in_any_layout(tmp_path: Path) -> None:
    import torch

    from ensemble.models.state_dict import load_weights, save_weights

    first, second = built_from(arch="customnet_deep"), built_from(arch="customnet_deep")
    path = save_weights(tmp_path / "weights.safetensors", first)
    data = path.read_bytes()
    load_weights(second, path, hashlib.sha256(data).hexdigest())
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    first.to(memory_format=torch.channels_last)
    assert save_weights(path, first).read_bytes() == data


def test_run_weights_start_another_member() -> None:
    import torch

    first = built_from(arch="densenet121", image_size=32)
    second = built_from(first.state_dict(), "densenet121", image_size=32)
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True))
    with pytest.raises(MissingWeights, match="the run's weights do not fit squeezenet1_1"):
        built_from(first.state_dict())


def test_weights_with_a_flipped_bit_are_refused(tmp_path: Path) -> None:
    from ensemble.models.state_dict import load_weights, save_weights

    network = built_from(arch="customnet")
    path = save_weights(tmp_path / "weights.safetensors", network)
    data = bytearray(path.read_bytes())
    sha256 = hashlib.sha256(data).hexdigest()
    with pytest.raises(
        EnsError, match=r"does not fit the network: 0\.0\.weight: \(32, 3, 3, 3\) found, \(64, 3, 3, 3\) exp"
    ):
        load_weights(built_from(arch="squeezenet1_1"), path, sha256)
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(EnsError, match=f"damaged: .*{sha256[:8]}… recorded"):
        load_weights(network, path, sha256)
    path.unlink()
    with pytest.raises(EnsError, match="no file"):
        load_weights(network, path, sha256)


@pytest.mark.parametrize("arch", ["mobilenet_v2", "squeezenet1_1"])
def test_real_half_precision_weights_fit(arch: str, monkeypatch: Any) -> None:
    import torch

    from ensemble.models.state_dict import load_state

    if not REAL_FOLDER or not (Path(REAL_FOLDER) / f"{arch}.safetensors").is_file():
        pytest.skip(f"$ENS_WEIGHTS holds no {arch}.safetensors")
    monkeypatch.setenv("ENS_WEIGHTS", REAL_FOLDER)
    state = load_state(located(arch))
    body = built_from(state, arch)[0]
    first = "features.0.0.weight" if arch == "mobilenet_v2" else "features.0.weight"
    assert torch.equal(next(body.parameters()), state[first])


LITES = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]


@pytest.mark.parametrize("arch", LITES)
def test_names_of_packaged_weights_are_in_the_order_of_timm(arch: str) -> None:
    import timm

    from ensemble.models.state_dict import load_state, translated
    from ensemble.models.weight_sources import PACKAGES

    pytest.importorskip(PACKAGES[arch].module)
    model = timm.create_model(arch)
    state = load_state(located(arch))
    names = translated(model, state)
    assert list(names) == list(model.state_dict())
    assert [value.shape for value in names.values()] == [value.shape for value in model.state_dict().values()]
    body = built_from(state, arch)[0].model
    own = body.state_dict()
    assert own and all(own[name].equal(value) for name, value in names.items() if not name.startswith("classifier"))


def test_names_of_efficientnet_with_squeeze_are_translated() -> None:
    import timm

    from ensemble.models.state_dict import EXPANDING_NAMES, OUTER_NAMES, PLAIN_NAMES, translated

    model = timm.create_model("efficientnet_b0")
    state = {}
    for name, value in model.state_dict().items():  # b0 under the other names
        place, rest = (name.split(".", 3)[:3], name.split(".", 3)[3]) if name.startswith("blocks.") else ([], name)
        if place:
            names = PLAIN_NAMES if place[1] == "0" else EXPANDING_NAMES
            layer, tensor = rest.rsplit(".", 1)
            block = sum(len(stage) for stage in model.blocks[: int(place[1])]) + int(place[2])
            other = next(key for key, known in names.items() if known == layer)
            state[f"_blocks.{block}.{other}.{tensor}"] = value
        else:
            layer, tensor = rest.rsplit(".", 1)
            state[f"{next(key for key, known in OUTER_NAMES.items() if known == layer)}.{tensor}"] = value
    assert list(translated(model, state)) == list(model.state_dict())
