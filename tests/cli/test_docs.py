"""README, help texts and pages agree with the commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.repository import PACKAGE, ROOT

from ensemble.cli import COMMANDS, cli
from ensemble.cli import run as ens

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme_with_an_example(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert f"ens {command}" in README
    assert ens([command, "--help"]) == 0
    assert re.search(rf"^  ens {command}\b", capfd.readouterr().out, re.MULTILINE)


def test_help_lists_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert ens(["--help"]) == 0
    out = capfd.readouterr().out
    assert all(f"  {command} " in out for command in COMMANDS)
    assert ens([]) == 2
    assert cli.list_commands(None) == list(COMMANDS)  # type: ignore[arg-type]


PAGES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *sorted((PACKAGE / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for place in re.findall(r"`((?:ensemble|recipes|tests|submissions)/[\w./-]+)`", text):
        assert (ROOT / place).exists(), place
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link


def test_readme_is_short_and_every_command_has_a_page(capfd: pytest.CaptureFixture[str]) -> None:
    assert len(README.splitlines()) <= 150
    assert ens(["help"]) == 0
    topics = {line.split()[0] for line in capfd.readouterr().out.splitlines()}
    assert set(COMMANDS) - {"help"} <= topics
    for topic in topics:
        assert ens(["help", topic]) == 0
        assert capfd.readouterr().out.startswith("# ")
    assert ens(["help", "combin"]) == 2
    assert capfd.readouterr().err == "ens: no topic 'combin'; did you mean 'combine'?\n"
