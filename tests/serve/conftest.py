"""A service of the colour model; a service with real networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.colour_model import Colours, client_of
from helpers.fake_runs import CLASSES
from helpers.network_runs import many_kinds, network_run, picture, see_through
from helpers.served import served
from starlette.testclient import TestClient

from ensemble.cli import run as ens
from ensemble.combine.ensembler import combine


@pytest.fixture(scope="session")
def model() -> Colours:
    return Colours()


@pytest.fixture(scope="session")
def client(model: Colours) -> Iterator[TestClient]:
    with client_of(model) as client:
        yield client


@pytest.fixture(scope="session")
def served_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of three networks, members of other sizes, views, filters and class orders, and its export."""
    here = tmp_path_factory.mktemp("serve")
    data = {"background": (255, 250, 245), "medical": True}
    runs = [
        network_run(here / "runs", "one-00000001", 1, tta="flips", resize="pad", data=data),
        network_run(here / "runs", "two-00000002", 2, image_size=20, preprocess=("smooth", "grey"), data=data),
        network_run(here / "runs", "three-00000003", 3, classes=CLASSES[::-1], tta="crops", data=data),
    ]
    created = combine(runs, folder=here / "runs", rule="convex", name="all")
    (here / "name").write_text(created.run_id)
    assert ens(["--runs", str(here / "runs"), "export", created.run_id, "--out", str(here / "folder")]) == 0
    assert ens(["--runs", str(here / "runs"), "export", created.run_id, "--zip", str(here / "all.zip")]) == 0
    many_kinds(here / "photos")
    see_through(here / "photos" / "clear")
    picture(1).save(here / "x.png")
    return here


@pytest.fixture
def served_folder(served_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(served_runs)
    return served_runs


@pytest.fixture(scope="session")
def address(served_runs: Path) -> Iterator[str]:
    program = "import sys; from ensemble.cli import main; main(sys.argv[1:])"
    with served((served_runs / "name").read_text(), program=program, cwd=served_runs) as (address, _):
        yield address
