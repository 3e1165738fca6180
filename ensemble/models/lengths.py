"""Filters whose length means nothing, as a batch norm follows them."""

from __future__ import annotations

from torch import nn

from ensemble.models.rescaling import followed_by_norms

MARK = "scale_free"


def mark_scale_free(network: nn.Module) -> None:
    """Mark the filters of convolutions that are followed, in the order of registration, by a batch norm of theirs.

    What stands between must not mind a positive factor either, as max-pools and ReLUs do not.
    """
    for convolution, _ in followed_by_norms(network):
        setattr(convolution.weight, MARK, True)


def is_scale_free(parameter: nn.Parameter) -> bool:
    """Whether `mark_scale_free` has marked it."""
    return bool(getattr(parameter, MARK, False))
