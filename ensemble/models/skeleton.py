"""What an architecture's builder makes: a network that weights load into, and how its body is cut off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

Shape = tuple[int, ...]
State = Mapping[str, Tensor]


def _as_is(whole: nn.Module, state: State) -> State:
    return state


def _itself(whole: nn.Module, size: int) -> nn.Module:
    return whole


@dataclass(frozen=True)
class Skeleton:
    """A network before its head is replaced.

    whole: the network as its library builds it, so that the names of pretrained weights fit.
    cut: (whole, image size) -> the body, float32 (n, 3, size, size) -> (n, c, h, w) or pooled (n, c).
    head_names: the first components of the names that belong to the head, which is replaced.
    rename: (whole, state) -> the state under this version's names, where an older file has others.
    head: (shape of one image's features, classes) -> an own head; None for the common one.
    """

    whole: nn.Module
    cut: Callable[[nn.Module, int], nn.Module] = _itself
    head_names: tuple[str, ...] = ()
    rename: Callable[[nn.Module, State], State] = _as_is
    head: Callable[[Shape, int], nn.Module] | None = None
