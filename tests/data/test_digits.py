"""The digits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ensemble.core.errors import DataError
from ensemble.data.digits import DIGITS_FINGERPRINT, digits_dataset
from ensemble.data.load import current_fingerprint
from ensemble.recipe.data_spec import DataSpec


def test_digits_are_unchanged() -> None:
    data = digits_dataset()
    assert data.fingerprint == DIGITS_FINGERPRINT == current_fingerprint(DataSpec(), Path("runs"))
    assert {split: len(items) for split, items in data.splits.items()} == {
        "train": 1079,
        "valid": 359,
        "test": 359,
    }
    ids = np.concatenate([items.ids for items in data.splits.values()])
    assert sorted(map(int, ids)) == list(range(1797)) and data.classes.tolist() == list("0123456789")


def test_digit_is_its_pixels_scaled() -> None:
    from sklearn.datasets import load_digits

    image = digits_dataset().open_image("1796")
    expected = (load_digits().images[1796] * 255 // 16).astype(np.uint8)
    assert image.mode == "RGB" and (np.asarray(image) == expected[:, :, None]).all()
    with pytest.raises(DataError, match="1797"):
        digits_dataset().open_image("1797")


def test_fingerprint_of_digits_loads_no_library() -> None:
    code = (
        "import sys; from pathlib import Path; from ensemble.recipe.schema import DataSpec;"
        "from ensemble.data.load import current_fingerprint; current_fingerprint(DataSpec(), Path('runs'));"
        "print(sorted({'torch', 'fastai', 'sklearn', 'pandas', 'PIL', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
