"""Copies of one content and the groups that they join."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ensemble.check.copies import Copies, copies, grouped
from ensemble.check.items import all_items
from ensemble.check.near import NearPairs
from ensemble.data.detect_form import guess_spec
from ensemble.data.load import load_dataset
from ensemble.report.check_page import spread_out


def test_copies_are_every_pair_and_join_groups(checked_photos: Path) -> None:
    (checked_photos / "train/ant/broken.png").unlink()
    for number in range(3):
        (checked_photos / f"train/ant/more{number}.png").write_bytes(
            (checked_photos / "train/ant/train0.png").read_bytes()
        )
    items = all_items(load_dataset(guess_spec(checked_photos), Path("runs")))
    empty = np.zeros(0, np.int64)
    none = NearPairs(empty, empty, empty.astype(bool), empty.astype(np.float32), empty.astype(np.float32))
    result = copies(items, none)
    assert len(result) == 10 and (items.content[result.first] == items.content[result.second]).all()
    assert (result.first < result.second).all()
    assert [len(rows) for rows in grouped(len(items), result)] == [5]


def test_groups_are_connected_components() -> None:
    pairs = np.array([[0, 1], [1, 4], [2, 6], [5, 6]])
    created = Copies(pairs[:, 0], pairs[:, 1], np.full(4, "near"), np.ones(4, np.float32))
    assert grouped(8, created) == [[0, 1, 4], [2, 5, 6]]
    assert spread_out(5, 9).tolist() == [0, 1, 2, 3, 4] and spread_out(100, 3).tolist() == [0, 50, 99]
    assert spread_out(0, 3).tolist() == [] and spread_out(5, 0).tolist() == []
