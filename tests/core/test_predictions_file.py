"""Damaged .npz files of predictions are refused or harmless."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest
from helpers.fake_runs import predictions
from hypothesis import assume, given
from hypothesis import strategies as st

from ensemble.core.errors import DataError
from ensemble.core.predictions import Predictions, as_npz, load


def test_truncated_npz_is_closed(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(DataError):
            read(tmp_path, BYTES[:-1])
        gc.collect()
    assert not caught


ONE = predictions(9, 1)


BYTES = as_npz(ONE)


def read(folder: Path, content: bytes) -> Predictions:
    path = folder / "x.npz"
    path.write_bytes(content)
    return load(path)


@given(cut=st.integers(0, len(BYTES) - 1))
def test_truncated_npz_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    with pytest.raises(DataError, match="not an npz of plain arrays"):
        read(tmp_path_factory.getbasetemp(), BYTES[:cut])


@given(place=st.integers(0, len(BYTES) - 1), bit=st.integers(0, 7))
def test_flipped_bit_in_npz_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    content = bytearray(BYTES)
    content[place] ^= 1 << bit
    assume(place not in ENCRYPTED)  # has a test of its own
    try:
        result = read(tmp_path_factory.getbasetemp(), content)
    except DataError:
        return
    assert result.probs.tobytes() == ONE.probs.tobytes()
    assert (result.ids.tolist(), result.classes.tolist()) == (ONE.ids.tolist(), ONE.classes.tolist())


# where the directory at the end of a zip says whether a member is encrypted
ENCRYPTED = [at + 8 for at in range(len(BYTES)) if BYTES[at : at + 4] == b"PK\1\2"]


@pytest.mark.parametrize("place", ENCRYPTED)
def test_encrypted_npz_is_refused(tmp_path: Path, place: int) -> None:
    content = bytearray(BYTES)
    content[place] ^= 1
    with pytest.raises(DataError, match="not an npz of plain arrays"):
        read(tmp_path, content)
