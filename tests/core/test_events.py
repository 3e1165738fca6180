"""Listeners: nested, and passed on to other processes."""

from __future__ import annotations

import pickle

import pytest

import ensemble as ens
from ensemble.core.events import Bars, default_listener


def test_listeners_nest_and_are_pickled(capfd: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    with bars, bars:
        bars.progress("task [a]", 1, 2)
        bars.note("a [note]")
        bars.finished("task [a]")
    bars.note("after")
    assert capfd.readouterr().err.splitlines()[-1] == "after"
    for listener in (ens.Listener(), ens.Lines(), bars.without_bars()):
        assert type(pickle.loads(pickle.dumps(listener))) is type(listener)
    lines = default_listener()
    lines.note_once("once")
    lines.note_once("once")
    lines.epoch("run", "line")
    assert capfd.readouterr().err == "once\nrun  line\n"
