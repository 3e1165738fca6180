"""What people expect of any command line: completion, colour where it is seen, JSON, and asking before sending."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.fake_runs import member, predictions, run

from ensemble.cli import COMMANDS, cli
from ensemble.cli import run as ens
from ensemble.cli.terminal import table
from ensemble.combine.ensembler import combine
from ensemble.runs.run import Run


@pytest.fixture
def ensemble(here: Path) -> Run:
    folder = Path("runs")
    return combine([member(folder, "resnet18-aaaaaaaa", 1), member(folder, "vgg11-bbbbbbbb", 2)], folder=folder).run


# ---- completion ----


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


def test_runs_complete_from_the_folder_that_is_named(here: Path, ensemble: Run) -> None:
    assert offered("predict", "res") == ["resnet18-aaaaaaaa"]
    assert offered("combine", "resnet18-aaaaaaaa", "vgg") == ["vgg11-bbbbbbbb"]
    Path("runs").rename("other")
    assert offered("submit", "") == []
    assert ensemble.id in offered("--runs", "other", "submit", "ens")
    assert ensemble.id in offered("submit", "ens", ENS_RUNS="other")


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


def test_completing_imports_no_torch(here: Path) -> None:
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
def test_the_script_is_one_that_the_shell_reads(here: Path, shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ens(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_ENS_COMPLETE" in script and f"{shell}_complete" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


# ---- colour ----


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


def plain(text: str) -> str:
    return click.unstyle(text)


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


def test_colour_is_forced_and_refused_by_the_environment(
    ensemble: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped, _ = printed(monkeypatch, capsys, "ls")
    forced, _ = printed(monkeypatch, capsys, "ls", FORCE_COLOR="1")
    assert "\x1b[" not in piped
    assert "\x1b[1m" in forced and plain(forced) == piped
    assert printed(monkeypatch, capsys, "ls", FORCE_COLOR="1", NO_COLOR="1")[0] == piped
    assert printed(monkeypatch, capsys, "ls", FORCE_COLOR="1", NO_COLOR="")[0] == forced  # empty is not set
    assert printed(monkeypatch, capsys, "predict", "nobody", "x", code=3)[1].startswith("ens: ")
    wrong = printed(monkeypatch, capsys, "predict", "nobody", "x", code=3, FORCE_COLOR="1")[1]
    assert wrong.startswith("\x1b[31mens: ")


def test_json_has_no_colour_even_where_it_is_forced(
    ensemble: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [row["id"] for row in json.loads(printed(monkeypatch, capsys, "ls", "--json", FORCE_COLOR="1")[0])]
    assert ensemble.id in members
    for command in (["combine", *members[1:]], ["compare", "--no-figures"]):
        json.loads(printed(monkeypatch, capsys, *command, "--json", FORCE_COLOR="1")[0])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no pty")
def test_tables_have_colours_on_a_terminal_and_the_same_words_without_in_a_pipe(here: Path, ensemble: Run) -> None:
    piped = seen(here, "ls", terminal=False)
    on_terminal = seen(here, "ls")
    assert "\x1b[" not in piped
    assert "\x1b[1m" in on_terminal
    assert plain(on_terminal) == piped
    assert seen(here, "ls", NO_COLOR="1") == piped
    assert seen(here, "ls", TERM="dumb") == piped
    assert seen(here, "predict", "nobody", "x").startswith("\x1b[31mens: ")


def test_columns_stay_aligned_under_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    rows = [["a", 1.0], ["<script>", 22.5], ["猫", None]]
    bare = table(("name", "value"), rows)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert plain(table(("name", "value"), rows, {0: {"fg": "green"}})) == bare


# ---- JSON ----


def test_every_command_that_prints_a_result_prints_it_as_json() -> None:
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
def test_a_whole_recipe_as_one_json_object(
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
def test_a_sweep_as_json(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("r.yaml").write_text(
        "data: digits\ndefaults: {image_size: 16, epochs: 1, lr: 0.01, filters: [4, 8], precision: float32,"
        " layout: default, compile: false}\n"
        "members: [{arch: customnet}]\n"
    )
    assert ens(["sweep", "r.yaml", "--grid", "dropout=0,0.5", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert [cell["dropout"] for cell in result["cells"]] == ["0", "0.5"]
    assert result["best"]["dropout"] in ("0", "0.5")


# ---- handing in ----


@pytest.fixture
def kaggle(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that writes down what it was told; FAILS makes it fail."""
    folder = here / "bin"
    folder.mkdir()
    program = folder / "kaggle"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "json.dump(sys.argv[1:], open('told.json', 'w'))\n"
        "print('100%|####| 1.0k/1.0k')\n"
        "if os.environ.get('FAILS'): print('403 - Forbidden - accept the rules', file=sys.stderr); sys.exit(3)\n"
        "print('Successfully submitted to Digits')\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return here / "told.json"


def test_the_command_is_printed_and_nothing_is_run(
    ensemble: Run, kaggle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ens(["submit", "--upload", "kaggle:digit-recognizer", ensemble.id, "--out", "my file;rm.csv"]) == 0
    path, line = capsys.readouterr().out.splitlines()
    assert path == "my file;rm.csv"
    words = shlex.split(line)
    assert words[:7] == ["kaggle", "competitions", "submit", "-c", "digit-recognizer", "-f", "my file;rm.csv"]
    assert words[7] == "-m" and len(words) == 9
    honest = ensemble.metrics["honest"]["accuracy"]["value"]
    assert ensemble.id in words[8] and f"accuracy {honest:.4f}" in words[8]
    assert not kaggle.exists()


def test_with_yes_it_is_run_once_with_the_very_words(
    ensemble: Run, kaggle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ens(["submit", "--upload", "kaggle:digits", "--yes", ensemble.id, "--out", "-odd.csv"]) == 0
    out, err = capsys.readouterr()
    reported = json.loads(kaggle.read_text())
    assert ["kaggle", *reported] == shlex.split(out.splitlines()[-1])
    assert reported[reported.index("-f") + 1] == "./-odd.csv"  # no option of kaggle's
    assert "Successfully submitted" in err


def test_its_failure_is_ours_with_its_last_words(
    ensemble: Run, kaggle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAILS", "1")
    assert ens(["submit", "--upload", "kaggle:digits", "--yes", ensemble.id]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ens:")]
    assert "code 3" in line and "403 - Forbidden" in line


def test_without_kaggle_the_command_is_printed_all_the_same_but_not_run(
    ensemble: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert ens(["submit", "--upload", "kaggle:digits", ensemble.id]) == 0
    assert "kaggle competitions submit" in capsys.readouterr().out
    assert ens(["submit", "--upload", "kaggle:digits", "--yes", ensemble.id, "--out", "later.csv"]) == 1
    assert "pip install kaggle" in capsys.readouterr().err
    assert not Path("later.csv").exists()


@pytest.mark.parametrize("place", ["digits", "kaggle:", "kaggle:-c", "kaggle:a b", "kaggle:$(x)", "codabench:1"])
def test_places_that_are_no_competition_are_refused(
    ensemble: Run, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ens(["submit", "--upload", place, ensemble.id]) == 2
    assert "kaggle:COMPETITION expected" in capsys.readouterr().err
    assert not Path("submissions").exists()


def test_yes_alone_is_a_mistake(ensemble: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert ens(["submit", "--yes", ensemble.id]) == 2


def test_a_member_without_a_score_says_so_in_its_message(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Path("runs"), "net-1", {"test": predictions(5, 1, labelled=False)})
    assert ens(["submit", "--upload", "kaggle:x", "net-1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["upload"]["run"] is False
    assert result["upload"]["command"][-1] == "net-1: no labelled validation rows"


# ---- progress ----


@pytest.mark.parametrize("rule", ["accuracy", "greedy", pytest.param("auto", marks=pytest.mark.slow)])
def test_combining_tells_how_many_fits_are_left(here: Path, rule: str) -> None:
    folder = Path("runs")
    members = [member(folder, f"net{seed}-{seed:08d}", seed) for seed in (1, 2, 3)]
    reported: list[tuple[int, int]] = []
    combine(members, folder=folder, rule=rule, progress=lambda done, total: reported.append((done, total)))
    totals = {total for _, total in reported}
    assert len(totals) == 1
    assert [done for done, _ in reported] == list(range(1, totals.pop() + 1))


def test_what_is_left_of_many_runs_is_told_in_the_measure_of_their_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.training.jobs.estimate import RemainingTime

    class Job:
        kind, parts = "member", ()

        def __init__(self, epochs: int) -> None:
            from ensemble.recipe.resolve import resolved
            from ensemble.recipe.schema import Recipe

            self.recipe = resolved(Recipe(arch="resnet18", weights="none", epochs=epochs))
            self.run = type("R", (), {"complete": False})()

        def all(self) -> list[Job]:
            return [self]

    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    short, long = Job(2), Job(8)
    several = RemainingTime([short, long])  # type: ignore[list-item]
    assert several.left() == ""
    clock[0] = 60
    several.ended(short)  # type: ignore[arg-type]
    assert several.left() == "1 of 2 trained, about 4 min left"
    several.ended(long)  # type: ignore[arg-type]
    assert several.left() == ""


def test_many_classes_are_not_all_named_on_a_line(
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
