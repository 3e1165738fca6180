"""Colours, terminals and pipes, long lists of classes, JSON."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from helpers.fake_runs import member

from ensemble.cli import COMMANDS, cli
from ensemble.cli import run as ens
from ensemble.combine.ensembler import combine
from ensemble.runs.run import Run


def seen(here: Path, *args: str, terminal: bool = True, **env: str) -> str:
    """What `ens` writes to a terminal, or to a pipe."""
    environ = {
        **{k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")},
        "TERM": "xterm",
        **env,
    }
    command = [sys.executable, "-m", "ensemble", *args]
    if not terminal:
        done = subprocess.run(command, env=environ, capture_output=True, check=False)
        return (done.stdout + done.stderr).decode()
    import pty

    main, other = pty.openpty()
    process = subprocess.Popen(command, env=environ, stdout=other, stderr=other, stdin=other)
    os.close(other)
    output = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # Linux says so where the other side was closed
            break
        if not part:
            break
        output += part
    process.wait()
    os.close(main)
    return output.decode().replace("\r\n", "\n")


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str, code: int = 0, **env: str
) -> tuple[str, str]:
    """stdout and stderr of a command in a pipe, with these variables and no others that say anything of colour."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    assert ens(list(args)) == code
    return tuple(capsys.readouterr())


def test_colour_follows_the_environment(
    two_networks: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped, _ = printed(monkeypatch, capsys, "ls")
    forced, _ = printed(monkeypatch, capsys, "ls", FORCE_COLOR="1")
    assert "\x1b[" not in piped
    assert "\x1b[1m" in forced and click.unstyle(forced) == piped
    assert printed(monkeypatch, capsys, "ls", FORCE_COLOR="1", NO_COLOR="1")[0] == piped
    assert printed(monkeypatch, capsys, "ls", FORCE_COLOR="1", NO_COLOR="")[0] == forced  # empty is not set
    assert printed(monkeypatch, capsys, "predict", "nobody", "x", code=3)[1].startswith("ens: ")
    wrong = printed(monkeypatch, capsys, "predict", "nobody", "x", code=3, FORCE_COLOR="1")[1]
    assert wrong.startswith("\x1b[31mens: ")


def test_json_has_no_colour(
    two_networks: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [row["id"] for row in json.loads(printed(monkeypatch, capsys, "ls", "--json", FORCE_COLOR="1")[0])]
    assert two_networks.id in members
    for command in (["combine", *members[1:]], ["compare", "--no-figures"]):
        json.loads(printed(monkeypatch, capsys, *command, "--json", FORCE_COLOR="1")[0])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no pty")
def test_table_colours_on_a_terminal_only(here: Path, two_networks: Run) -> None:
    piped = seen(here, "ls", terminal=False)
    on_terminal = seen(here, "ls")
    assert "\x1b[" not in piped
    assert "\x1b[1m" in on_terminal
    assert click.unstyle(on_terminal) == piped
    assert seen(here, "ls", NO_COLOR="1") == piped
    assert seen(here, "ls", TERM="dumb") == piped
    assert seen(here, "predict", "nobody", "x").startswith("\x1b[31mens: ")


def test_every_result_is_printed_as_json() -> None:
    lacking = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        options = {option for param in command.params for option in param.opts}
        if "--json" not in options:
            lacking.append(name)
    assert set(lacking) <= {"completion", "help", "serve"}
    assert importlib.import_module("ensemble.cli.run").command.params


def test_init_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for label in ("a b", "<script>"):
        Path("photos/train", label).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(Path("photos/train", label, "1.png"))
    assert ens(["init", "photos", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["recipe"] == "ens.yaml" and result["data"]["form"] == "folders"


@pytest.mark.slow
def test_recipe_run_as_one_json_object(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("r.yaml").write_text(
        "data: digits\ndefaults: {image_size: 16, epochs: 1, lr: 0.01, filters: [4, 8], precision: float32,"
        " layout: default, compile: false}\n"
        "members: [{arch: customnet, seeds: [0, 1]}]\ncombine: {refits: true}\n"
    )
    assert ens(["run", "r.yaml", "--json"]) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert (len(result["trained"]), len(result["refits"])) == (2, 2)
    assert Path(result["submission"]["path"]).is_file()
    assert result["ensemble"]["run"] in {row["id"] for row in result["leaderboard"]}
    assert "1 of 2 trained, about" in err
    assert ens(["run", "r.yaml", "--dry-run", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["ensemble"] is None


@pytest.mark.slow
def test_sweep_as_json(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("r.yaml").write_text(
        "data: digits\ndefaults: {image_size: 16, epochs: 1, lr: 0.01, filters: [4, 8], precision: float32,"
        " layout: default, compile: false}\n"
        "members: [{arch: customnet}]\n"
    )
    assert ens(["sweep", "r.yaml", "--grid", "dropout=0,0.5", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert [cell["dropout"] for cell in result["cells"]] == ["0", "0.5"]
    assert result["best"]["dropout"] in ("0", "0.5")


@pytest.mark.parametrize("rule", ["accuracy", "greedy", pytest.param("auto", marks=pytest.mark.slow)])
def test_combine_reports_remaining_fits(here: Path, rule: str) -> None:
    folder = Path("runs")
    members = [member(folder, f"net{seed}-{seed:08d}", seed) for seed in (1, 2, 3)]
    reported: list[tuple[int, int]] = []
    combine(members, folder=folder, rule=rule, progress=lambda done, total: reported.append((done, total)))
    totals = {total for _, total in reported}
    assert len(totals) == 1
    assert [done for done, _ in reported] == list(range(1, totals.pop() + 1))


def test_long_lists_of_classes_are_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from helpers.fake_runs import member

    monkeypatch.chdir(tmp_path)
    classes = [f"class-{c:04d}" for c in range(200)]
    for seed in (1, 2):
        member(Path("runs"), f"net{seed}-0000000{seed}", seed, n=220, classes=classes)
    for words in (
        ["combine"],
        ["ls"],
        ["report", "--out", "page.html", "--no-explain"],
        ["explain", "net1-00000001", "a.png", "--class", "nothing"],
        ["combine", "--metric", "roc_auc:nothing"],
    ):
        ens(words)
        for line in "".join(capfd.readouterr()).splitlines():
            assert len(line) < 500, (words, line[:200])
    assert "class-0009 and 190 more" in Path("page.html").read_text()


def test_json_is_all_of_stdout(digit_runs, capsys):
    assert ens(["combine", "--json", "--threshold", "0.99", "--calibrate"]) == 0
    out, err = capsys.readouterr()
    value = json.loads(out)
    assert {row["id"] for row in value["members"]} == {f"net{i}-0000000{i}" for i in range(3)}
    assert value["temperature"] > 0
    assert "no member passed" in err
    for command in (["ls", "--json"], ["submit", "--json"]):
        assert ens(command) == 0
        json.loads(capsys.readouterr().out)
