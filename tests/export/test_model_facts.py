"""The properties of a model are the same from its run and from its export."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.fake_runs import CLASSES, member

from ensemble.combine.ensembler import combine
from ensemble.combine.predicting_members import predicting_members
from ensemble.combine.record import read_ensemble
from ensemble.core.files import without_nan
from ensemble.export.card import model_card
from ensemble.export.model_facts import ModelFacts
from ensemble.runs.leaderboard import headline
from ensemble.runs.run import Run


def facts_of(run: Run) -> ModelFacts:
    loaded: Any = SimpleNamespace(predicting=predicting_members(run), medical=True)
    return ModelFacts.of(loaded)


def config_of(facts: ModelFacts) -> Any:
    """config.json as it is read: through JSON, with keys that these properties do not have."""
    values = {**asdict(facts), "weights": facts.weights.tolist(), "classes": list(facts.classes)}
    values["score"] = facts.score and facts.score.facts()
    values["members"] = [{**asdict(entry), "networks": []} for entry in facts.members]
    return json.loads(json.dumps(without_nan({"schema": 1, **values, "inputs": []})))


@pytest.mark.parametrize("rule", ["accuracy", "per-class", "greedy", "stack"])
def test_an_export_has_the_properties_of_its_run(rule: str, tmp_path: Path) -> None:
    runs = [member(tmp_path, f"net{i}-0000000{i}", i, skill=0.5 + 0.1 * i) for i in range(3)]
    run = combine(runs, folder=tmp_path, rule=rule, calibrate=rule == "accuracy").run
    facts = facts_of(run)
    back = ModelFacts.read(config_of(facts))
    assert back.weights.tolist() == facts.weights.tolist() and facts.weights.sum() == pytest.approx(1)
    assert {**vars(back), "weights": None} == {**vars(facts), "weights": None}
    assert (facts.run, facts.kind, facts.rule, facts.classes) == (run.id, "ensemble", rule, tuple(CLASSES))
    weights = read_ensemble(run).weights
    if weights is None:
        assert all(entry.weight is None for entry in facts.members)
    else:
        assert [entry.weight for entry in facts.members] == pytest.approx([value for value in weights if value])
    assert len(facts.members) == len(facts.weights) and facts.score == headline(run)
    assert (facts.temperature is not None) == (rule == "accuracy")


def test_a_member_alone_and_an_export_of_before(tmp_path: Path) -> None:
    run = member(tmp_path, "net-00000001", 1)
    facts = facts_of(run)
    assert (facts.kind, facts.rule, facts.temperature) == ("member", None, None)
    assert [(entry.id, entry.arch, entry.weight) for entry in facts.members] == [(run.id, "net", None)]
    config = config_of(facts)
    del config["weights"], config["score"]
    before = ModelFacts.read({**config, "members": 2 * config["members"]})
    assert before.score is None and np.array_equal(before.weights, [0.5, 0.5])
    with pytest.raises(KeyError):
        ModelFacts.read({"schema": 1})


def test_the_card_names_what_the_properties_say(tmp_path: Path) -> None:
    facts = facts_of(member(tmp_path, "net-00000001", 1))
    config = {**config_of(facts), "fingerprint": "a" * 64, "sizes": {"train": 9}, "chosen_on_valid": ["best epoch"]}
    card = model_card(facts, config)
    assert f"# {facts.run}\n" in card and "not-a-medical-device" in card and "best epoch" in card
    assert str(facts.score)[1:] in card and all(name in card for name in CLASSES)
