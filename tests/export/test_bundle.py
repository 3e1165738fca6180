"""An export: its card, its headline, what cannot be exported."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_runs import member, predictions
from helpers.fake_runs import run as write
from helpers.network_runs import picture
from helpers.repository import ROOT

from ensemble.cli import run as ens
from ensemble.combine.ensembler import combine
from ensemble.core.errors import EnsError
from ensemble.runs.leaderboard import headline


def test_predict_script_is_short_and_repeats_our_steps() -> None:
    from ensemble.data.preprocess import NEEDS_SCIKIT_IMAGE, filters, resizes
    from ensemble.export.predict_anywhere import STEPS

    script = ROOT / "ensemble" / "export" / "predict_anywhere.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 40
    assert set(STEPS) == (set(filters.names()) - NEEDS_SCIKIT_IMAGE) | set(resizes.names())
    image = picture(0, 300, 211)
    for name, step in STEPS.items():
        ours = filters.get(name)(image) if name in filters else resizes.get(name)(image, 48)
        assert np.array_equal(np.asarray(step(image, 48)), np.asarray(ours))


def test_export_names_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.export.exporters import exporters

    exporters.get("onnx").check_modules()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(EnsError, match="python -m pip install onnxscript"):
        exporters.get("onnx").check_modules()


def test_headline_is_the_honest_score(here: Path) -> None:
    runs = [member(here / "runs", f"net{i}-0000000{i}", i) for i in (1, 2)]
    created = combine(runs, folder=here / "runs", metric="macro_f1")
    result = headline(created.run)
    assert result is not None and (result.metric, result.rows) == ("macro_f1", 60)
    assert result.value == created.run.metrics["honest"]["macro_f1"]["value"]
    alone = headline(runs[0])
    assert alone is not None and alone.low is not None and alone.high is not None
    assert alone.low < alone.value == runs[0].metrics["valid"]["accuracy"] < alone.high
    after = write(here / "runs", "net-full-00000009", {"test": predictions(5, 3)}, kind="refit", parents=runs[:1])
    before = headline(after)
    assert before is not None and before.value == alone.value and "before the refit" in str(before)
    assert headline(write(here / "runs", "dark-00000008", {"valid": predictions(5, 3, labelled=False)})) is None


def test_export_refuses_imports_and_two_targets(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    member(here / "runs", "vit-00000002", 2, kind="import")
    assert ens(["export", "vit-00000002"]) == 3
    assert "has no network" in capfd.readouterr().err
    assert ens(["export", "vit-00000002", "--out", "a", "--zip", "b"]) == 2
