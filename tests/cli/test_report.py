"""`ens report`: one page, mistakes in one line, no network library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.fake_runs import FINGERPRINT
from helpers.pages import checked, pool

from ensemble.cli import run as ens
from ensemble.combine.candidates import candidates
from ensemble.combine.ensembler import combine
from ensemble.runs.run import all_runs

pytestmark = pytest.mark.usefixtures("quick_report")


@pytest.fixture
def pool_runs(here: Path) -> Path:
    """Three members in `runs` of the working folder."""
    pool(here / "runs")
    return here


def test_report_command_writes_one_page(pool_runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ens(["report"]) == 0  # no ensemble yet: the best run
    out, err = capfd.readouterr()
    assert out.startswith("net2-00000002 is a network") and "95 % interval" in out
    assert err.splitlines()[0] == "data: of net2-00000002, the newest run"
    assert err.replace("\\", "/").splitlines()[1:] == ["written to runs/report/report.html"]
    created = combine(candidates(Path("runs"), FINGERPRINT), folder=Path("runs")).run
    assert ens(["report", "--json", "--out", "deep/page.html"]) == 0
    out, err = capfd.readouterr()
    facts = json.loads(out)
    assert facts["run"] == created.id and facts["bytes"] == Path("deep/page.html").stat().st_size
    assert facts["score"]["value"] == created.metrics["honest"]["accuracy"]["value"]
    assert [item["id"] for item in facts["members"]] == [f"net{i}-0000000{i}" for i in range(3)]
    board = checked(Path("deep/page.html").read_text(encoding="utf-8")).table("Runs, the best first")
    assert {row["run"] for row in board} == {run.id for run in all_runs(Path("runs"))}
    assert ens(["report", "net1"]) == 0
    board = checked(Path("runs/report/net1-00000001.html").read_text(encoding="utf-8")).table(
        "Runs, the best first"
    )
    assert [row["run"] for row in board] == ["net1-00000001"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nobody"], 3, "0 runs in runs are called"),
        (["net"], 3, "3 runs in runs are called"),
        (["net1", "--recipe", "x.yaml"], 2, "a run and a recipe found"),
        (["--recipe", "x.yaml"], 2, "there is no recipe x.yaml"),
        (["--pictures", "-1"], 2, "--pictures"),
    ],
)
def test_report_errors_are_one_line(
    pool_runs: Path, capfd: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert ens(["report", *words]) == code
    err = capfd.readouterr().err
    assert message in err and len(err.splitlines()) == 1


def test_report_of_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ens(["report"]) == 3
    assert "type `ens train`" in capfd.readouterr().err
    Path("ens.yaml").write_text("data: {form: digits}\n")
    assert ens(["report"]) == 3
    assert "no complete run of digits in" in capfd.readouterr().err


@pytest.mark.slow
def test_report_loads_no_network_library(pool_runs: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom ensemble.cli import run\nassert run(['report']) == 0\n"
        "print(sorted({'torch', 'torchvision', 'fastai', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
