"""What `ens combine` writes is read back as the values that it had."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.fake_runs import member

from ensemble.combine.ensembler import combine
from ensemble.combine.record import read_ensemble
from ensemble.combine.report import read_report
from ensemble.core.errors import DataError
from ensemble.core.files import read_json, write_json
from ensemble.recipe import text
from ensemble.runs.run import Run, all_runs

FIXTURE = Path(__file__).parents[1] / "fixtures" / "runs-schema1"
ENSEMBLES = [run for run in all_runs(FIXTURE) if run.is_ensemble]


@pytest.mark.parametrize("run", ENSEMBLES, ids=[run.id for run in ENSEMBLES])
def test_ensemble_yaml_is_written_as_it_was_read(run: Run) -> None:
    assert text.dump(read_ensemble(run).config()) == (run.path / "ensemble.yaml").read_text(encoding="utf-8")
    assert read_report(run) is None  # these were combined before there was a report


@pytest.mark.parametrize("rule", ["accuracy", "auto", "per-class", "greedy"])
def test_what_was_combined_is_what_is_read(rule: str, tmp_path: Path) -> None:
    runs = [member(tmp_path, f"net{i}-0000000{i}", i, skill=0.5 + 0.1 * i) for i in range(4)]
    combined = combine(runs, folder=tmp_path, rule=rule, threshold=0.6)
    ensemble, report = read_ensemble(combined.run), read_report(combined.run)
    assert text.dump(ensemble.config()) == (combined.run.path / "ensemble.yaml").read_text(encoding="utf-8")
    in_memory = {row.id: row if row.kept else replace(row, arch="") for row in combined.members}
    assert {row.id: row for row in ensemble.rows} == in_memory
    assert (ensemble.members, ensemble.rule) == (tuple(row.id for row in ensemble.kept), combined.rule)
    assert ensemble.requested_rule == rule and len(ensemble.left_out) == 4 - len(ensemble.members)
    assert report is not None
    assert report.sentences() == combined.report.sentences()
    assert report.facts() == combined.report.facts() == read_json(combined.run.path / "report.json")


def test_keys_of_a_later_version_are_ignored_and_lacking_ones_named(tmp_path: Path) -> None:
    runs = [member(tmp_path, f"net{i}-0000000{i}", i, skill=0.6) for i in range(3)]
    run = combine(runs, folder=tmp_path).run
    path, before = run.path / "report.json", read_report(run)
    facts = read_json(path)
    later = {key: [{**entry, "later": 1} for entry in facts[key]] for key in ("parts", "against")}
    write_json(path, {**facts, **later, "later": {}})
    assert read_report(run) == before is not None
    for broken in ([], {**facts, "parts": [{}]}, {**facts, "against": [{"name": "x"}]}):
        write_json(path, broken)
        with pytest.raises(DataError, match=r"report.json is not as `ens combine` writes it"):
            read_report(run)
    shutil.copy(ENSEMBLES[0].path / "ensemble.yaml", path)
    with pytest.raises(DataError, match="cannot read"):
        read_report(run)
