"""A report shows the table of a sweep as sweep.json has it, and that of an earlier version from its CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.core.errors import DataError
from ensemble.core.files import json_text, read_json, write_json
from ensemble.core.table import Table
from ensemble.recipe.trials import Trial
from ensemble.report.sections.sweeps import sweeps
from ensemble.report.sweep import ScoredCell, SweepTable, TrialTable, facts_of

AXES = {"arch": ("a|b", "c"), "lr": ("0.1", "0.2")}
CELLS = {
    place: ScoredCell(place, (0.1 + at / 3, 0.2), (f"r{at}", f"s{at}"))
    for at, place in enumerate([("a|b", "0.1"), ("a|b", "0.2"), ("c", "0.2")])
}
GRID = SweepTable("log_loss", False, AXES, CELLS, 1234, 1)
SEARCH = TrialTable(
    "accuracy",
    True,
    ("lr", "batch_size"),
    (*(Trial({"lr": 10.0**-at, "batch_size": 4 * at}, at / 7) for at in range(1, 25)), Trial({"lr": 1e-9}, None)),
)


def stored(folder: Path, result: SweepTable | TrialTable, *, earlier: bool) -> None:
    place = folder / "sweeps" / "mine"
    place.mkdir(parents=True)
    facts = facts_of(result, "f" * 64)
    (place / "table.md").write_text(result.markdown(), encoding="utf-8")
    if earlier:
        facts = {key: facts[key] for key in ("schema", "fingerprint", "metric")}
        name = "trials.csv" if isinstance(result, TrialTable) else "table.csv"
        (place / name).write_text(result.csv(), encoding="utf-8")
        if isinstance(result, SweepTable):
            (place / "runs.csv").write_text(result.runs_csv(), encoding="utf-8")
    write_json(place / "sweep.json", facts)


@pytest.mark.parametrize("result", [GRID, SEARCH], ids=["grid", "search"])
def test_a_sweep_is_shown_alike_whoever_stored_it(result: SweepTable | TrialTable, tmp_path: Path) -> None:
    for name in ("now", "earlier"):
        stored(tmp_path / name, result, earlier=name == "earlier")
    now, earlier = (sweeps(tmp_path / name, "f" * 64, ()) for name in ("now", "earlier"))
    assert now == earlier and len(now) == 1
    assert now[0].sentence == result.sentence() and len(now[0].table.rows) <= 20
    assert sweeps(tmp_path / "now", "e" * 64, ("r0",)) == []
    if isinstance(result, SweepTable):
        assert [[cell.mark for cell in cells] for _, cells in now[0].table.rows] == [[True, False], [False, False]]
        assert now[0].table.caption.startswith("log_loss of each cell")


def test_sweep_json_needs_nothing_beside_it_and_is_refused_when_broken(tmp_path: Path) -> None:
    stored(tmp_path, GRID, earlier=False)
    place = tmp_path / "sweeps" / "mine"
    (place / "table.md").write_text("", encoding="utf-8")
    assert sweeps(tmp_path, "f" * 64, ())[0].sentence == GRID.sentence()
    facts = read_json(place / "sweep.json")
    write_json(place / "sweep.json", {**facts, "later": 1})
    assert len(sweeps(tmp_path, "f" * 64, ())) == 1
    for table in (None, {"columns": ["a"]}, {"columns": ["a"], "rows": [["b", 1]]}):
        write_json(place / "sweep.json", {**facts, "table": table})
        with pytest.raises(DataError, match="not as `ens sweep` writes it"):
            sweeps(tmp_path, "f" * 64, ())


def test_a_table_is_read_as_it_was() -> None:
    table = Table(("a", "b"), [("x", 1), ("y|z", None)])
    assert json_text(Table.read(table.facts()).facts()) == json_text(table.facts())
    assert table.markdown(bold=(0, 1)).splitlines()[2:] == ["| x    | **1** |", "| y\\|z |       |"]
    assert table.markdown(lambda cell: repr(cell)).splitlines()[2] == "| 'x'    |    1 |"
