"""Completion of commands, options, runs, names and files."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ensemble.cli import cli
from ensemble.cli import run as ens
from ensemble.runs.run import Run


def offered(*words: str, **env: str) -> list[str]:
    """What bash is told when the last of `words` is half typed."""
    typed = {
        "_ENS_COMPLETE": "bash_complete",
        "COMP_WORDS": f"{shlex.join(['ens', *words[:-1]])} {words[-1]}",
        "COMP_CWORD": str(len(words)),
    }
    done = CliRunner().invoke(cli, [], prog_name="ens", env={**typed, **env})
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_commands_and_options_complete(here: Path) -> None:
    assert offered("co") == ["compare", "combine", "completion"]
    assert "--threshold" in offered("combine", "--thr")


def test_runs_complete_from_the_named_folder(here: Path, two_networks: Run) -> None:
    assert offered("predict", "res") == ["resnet18-aaaaaaaa"]
    assert offered("combine", "resnet18-aaaaaaaa", "vgg") == ["vgg11-bbbbbbbb"]
    Path("runs").rename("other")
    assert offered("submit", "") == []
    assert two_networks.id in offered("--runs", "other", "submit", "ens")
    assert two_networks.id in offered("submit", "ens", ENS_RUNS="other")


@pytest.mark.parametrize(
    ("words", "some"),
    [
        (("train", "--arch", "dense"), {"densenet121", "densenet161"}),
        (("combine", "--rule", "g"), {"greedy"}),
        (("combine", "--metric", "bal"), {"balanced_accuracy"}),
        (("train", "--set", "label_s"), {"label_smoothing="}),
        (("train", "--set", "data.grou"), {"data.group_column=", "data.groups="}),
        (("distill", "--arch", "squeeze"), {"squeezenet1_1"}),
        (("submit", "--format", "kag"), {"kaggle", "kaggle-probs"}),
    ],
)
def test_names_complete(here: Path, words: tuple[str, ...], some: set[str]) -> None:
    assert set(offered(*words)) == some


@pytest.mark.parametrize(
    "words", [("predict", "net-1"), ("predict", "net-1", "a.png"), ("explain", "net-1"), ("submit", "--sample")]
)
def test_files_complete(here: Path, words: tuple[str, ...]) -> None:
    """The shell is told to offer its own files."""
    assert offered(*words, "pho") == ["pho"]


def test_completion_imports_no_torch(here: Path) -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from click.shell_completion import BashComplete\n"
        "from ensemble.cli import cli\n"
        "complete = BashComplete(cli, {}, 'ens', '_ENS_COMPLETE')\n"
        "for words in (['train', '--arch'], ['combine', '--rule'], ['run', '--set'], ['sweep', '--metric'], []):\n"
        "    assert complete.get_completions(words, ''), words\n"
        "assert not {'torch', 'fastai', 'timm', 'torchvision'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_read_by_the_shell(here: Path, shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ens(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_ENS_COMPLETE" in script and f"{shell}_complete" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
