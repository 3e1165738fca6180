"""What people type for a run: its id, the beginning of it, or its directory as a shell completes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.data.named import named_images
from ensemble.errors import DataError
from ensemble.runs.run import named_run
from tests import fake_runs


def test_a_run_by_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs"
    run = fake_runs.member(folder, "net-00000001", 1)
    monkeypatch.chdir(tmp_path)
    for word in (
        "net-00000001",
        "net-0",
        "net-00000001/",
        "runs/net-00000001",
        "runs/net-00000001/",
        str(run.path),
    ):
        assert named_run(Path("runs"), word).id == run.id
    fake_runs.member(tmp_path / "others", "other-00000001", 1)
    with pytest.raises(DataError, match='0 runs in runs are called "others/other-00000001"'):
        named_run(Path("runs"), "others/other-00000001")


def test_an_address_is_no_image() -> None:
    with pytest.raises(DataError, match="is an address, and nothing is downloaded"):
        named_images(["https://example.org/a.png"])
