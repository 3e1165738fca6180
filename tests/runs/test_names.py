"""What names a run: its id, the beginning of it, its directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import fake_runs

from ensemble.core.errors import DataError, RecipeError
from ensemble.runs.origin import named_run
from ensemble.runs.writing import run_id


def test_run_named_by_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("length", [201, 240, 300])
def test_run_name_too_long_for_file_systems_is_refused(length: int) -> None:
    with pytest.raises(RecipeError, match=f"a name of {length} bytes found, at most 200 expected"):
        run_id("n" * length, "0" * 64)
    assert run_id("n" * 200, "0" * 64).startswith("nnn")
