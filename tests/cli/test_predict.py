"""`ens predict` without networks: what is refused, what is not overwritten, which run is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fake_runs import member
from helpers.network_runs import picture
from PIL import Image

from ensemble.cli import run as ens
from ensemble.combine.ensembler import combine


def test_predict_refuses_imports_by_name(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = [member(here / "runs", "net-00000001", 1), member(here / "runs", "vit-00000002", 2, kind="import")]
    created = combine(runs, folder=here / "runs")
    assert ens(["predict", created.run_id, "x.png"]) == 3
    assert "'vit-00000002' in ensemble-" in capfd.readouterr().err
    assert ens(["predict", "vit-00000002", "x.png"]) == 3
    assert "has no network" in capfd.readouterr().err


def test_predict_does_not_overwrite_its_inputs(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Before any network is loaded: these have none."""
    run = member(here / "runs", "net-00000001", 1)
    (here / "photos").mkdir()
    picture(0).save(here / "photos" / "1.png")
    (here / "list.csv").write_text("id\n1\n")
    (here / "linked.csv").symlink_to("list.csv")
    for words in (
        ["photos", "--out", "photos/1.png"],
        ["list.csv", "--images", "photos", "--out", "list.csv"],
        ["list.csv", "--images", "photos", "--out", "linked.csv"],
        ["list.csv", "--images", "photos", "--out", "photos/1.png"],
    ):
        assert ens(["predict", run.id, *words]) == 2
        assert "is one of the files to predict" in capfd.readouterr().err
    assert ens(["predict", run.id, "photos", "--out", "photos"]) == 2
    assert "is a directory" in capfd.readouterr().err
    assert (here / "list.csv").read_text() == "id\n1\n"


def test_predict_without_a_run_takes_the_newest_ensemble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [member(tmp_path / "runs", f"vit{i}-0000000{i}", i, kind="import") for i in range(2)]
    Image.new("RGB", (8, 8)).save("new.png")
    for rule in ("uniform", "accuracy"):
        newest = combine(runs, folder=tmp_path / "runs", rule=rule).run_id
    # of an import there is no network to ask, which is as far as words alone can lead
    for words in (["predict", "new.png"], ["predict", "*.png", "new.png"], ["export"], ["serve", "--port", "0"]):
        assert ens(words) == 3
        first, second = capfd.readouterr().err.splitlines()
        assert (
            first == f"RUN is {newest}, the newest ensemble of the data of {newest}, the newest run"
            and "vit0-00000000" in second
        )
    assert ens(["predict", "vit0", "new.png"]) == 3 and "newest" not in capfd.readouterr().err
    assert ens(["predict", "gone.png"]) == 2 and "'gone.png' is no file" in capfd.readouterr().err
    Path("ens.yaml").write_text("data: {form: digits}\n")
    assert ens(["export"]) == 3 and "no complete run of ens.yaml in" in capfd.readouterr().err
