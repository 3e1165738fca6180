"""Fitting a state dict to a network: what must match, what may be missing, and what to say otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ensemble.errors import MissingWeights
from ensemble.models.skeleton import Skeleton, State

_COUNTER = "num_batches_tracked"
_BODY = "0."


def from_run(state: State) -> bool:
    """Whether `state` is the state dict of a whole Network, (body, head), as a run saves it."""
    return {name.partition(".")[0] for name in state} == {"0", "1"}


def fit_pretrained(skeleton: Skeleton, state: State, arch: str) -> None:
    """Load library weights into the whole network. The head may be missing, of another shape or a stranger's.

    Raises MissingWeights that names the first five of the body's tensors that are missing, extra or of
    another shape.
    """
    whole, own = skeleton.whole, skeleton.whole.state_dict()
    if misfits(own, state, skeleton.head_names):
        state = skeleton.rename(whole, state)
    refuse(misfits(own, state, skeleton.head_names), f"the weights do not fit {arch}")
    fitting = {name: value for name, value in state.items() if name in own and value.shape == own[name].shape}
    whole.load_state_dict(fitting, strict=False)


def fit_body(body: nn.Module, state: State, arch: str) -> None:
    """Load the body of a run's state dict, for which `from_run` holds. Raises MissingWeights."""
    cut = {name.removeprefix(_BODY): value for name, value in state.items() if name.startswith(_BODY)}
    refuse(misfits(body.state_dict(), cut), f"the run's weights do not fit {arch}")
    body.load_state_dict(cut, strict=False)


def misfits(own: State, state: State, head_names: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with `state` for a network whose state dict is `own`: one text for each tensor.

    Names that begin with a component in `head_names` are not looked at; batch norm's counters may be missing.
    """

    def counts(name: str) -> bool:
        return name.split(".")[0] not in head_names

    wrong = []
    for name in filter(counts, own):
        expected = _shape(own[name])
        if name in state and state[name].shape != own[name].shape:
            wrong.append(f"{name}: {_shape(state[name])} found, {expected} expected")
        elif name not in state and not name.endswith(_COUNTER):
            wrong.append(f"{name}: missing, {expected} expected")
    wrong.extend(
        f"{name}: {_shape(state[name])} found, none expected" for name in filter(counts, state) if name not in own
    )
    return wrong


def refuse(wrong: list[str], complaint: str, error: type[Exception] = MissingWeights) -> None:
    """Raise `error` with the first five of `wrong` when there are any."""
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise error(f"{complaint}: {'; '.join(wrong[:5])}{more}")


def widened(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with half-precision tensors as float32."""
    half = (torch.float16, torch.bfloat16)
    return {name: value.float() if value.dtype in half else value for name, value in state.items()}


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"
