"""Every command that the documentation shows is run, on small data, or is listed with what it needs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import colour_folders
from helpers.repository import PACKAGE, ROOT
from PIL import Image

import ensemble
from ensemble.cli import run as ens

pytestmark = pytest.mark.slow

PAGES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *sorted((PACKAGE / "docs").glob("*.md"))]
NEEDS = {
    "python -m": "installs packages or runs the tests: done by .ci/run",
    "python predict.py": "run in tests/end_to_end/test_export.py, without this package",
    "cd runs": "goes with the line above",
    ". .venv": "a shell's own",
    "ruff check": "done by .ci/run",
    "ruff format": "done by .ci/run",
    "mypy": "done by .ci/run",
    ".ci/run": "runs these tests",
    "eval": "a shell's own; the script is tested in tests/cli/test_completion.py",
    "curl": "a service: tests/serve",
    "mlflow ui": "a server of another package",
    "ens serve": "a service: tests/serve",
    "ens demo": "run by .ci/run",
    "ens submit --upload kaggle:digit-recognizer --yes": "sends a file to Kaggle",
    "ens combine --refits": "needs refits of the members: tests/combine",
    "ens report --recipe recipes/isic-codabench.yaml": "needs ISIC 2017",
    "ens distill": "needs out-of-fold predictions: tests/distill",
    "ens sweep recipe.yaml --search": "trains twenty members: tests/end_to_end/test_sweep.py",
}
"""Beginnings of commands that are not run here, and why."""
TRAINS = ("train", "run", "sweep")
"""Commands to which `--dry-run` is added."""


def documented() -> Iterator[tuple[str, str]]:
    """(page, command) of every block of shell commands."""
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.splitlines():
                for command in re.split(r"\s+&&\s+", re.sub(r"\s+#\s.*$", "", line)):
                    if command:
                        yield page.name, command


PAGE_OF = {command: page for page, command in documented()}
RUN = [command for command in PAGE_OF if not command.startswith(tuple(NEEDS))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with everything that the commands name, small."""
    root = tmp_path_factory.mktemp("documented")
    for seed, (split, each) in enumerate((("train", 8), ("valid", 4), ("test", 3))):
        colour_folders(root / "photos" / split, each, seed)
        colour_folders(root / "cifar10" / split, each, seed)
    for name in ("photo.jpg", "new.jpg", "more/a/b.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24), (200, 30, 30)).save(root / name)
    names = sorted(path.relative_to(root / "photos").as_posix() for path in (root / "photos/test").rglob("*.png"))
    (root / "list.csv").write_text("\n".join(["path", *names]) + "\n")
    (root / "recipes").symlink_to(ROOT / "recipes")
    (root / "recipe.yaml").write_text("data: {form: folders, path: photos}\nmembers: [{arch: resnet18}]\n")
    return root


@pytest.fixture(scope="module")
def ids(folder: Path) -> dict[str, str]:
    """The ids in the documentation, and those of trained runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        keys = {"image_size": 16, "epochs": 1, "lr": 0.01, "weights": "none", "batch_size": 4, "filters": [4, 8]}
        project = ensemble.Project("photos", listener=ensemble.Listener(), **keys)
        first, second = project.train("customnet", seeds=[0, 1])
        combined = project.combine([first, second], per_arch=2)
        _write_predictions(first.run.path, folder)
    return {
        "resnet34-1a2b3c4d": first.id,
        "resnet34-5e6f7a8b": first.id,
        "densenet121-5e6f7a8b": second.id,
        "ensemble-1a2b3c4d": combined.id,
    }


def _write_predictions(run: Path, folder: Path) -> None:
    """valid.csv, test.csv and sample_submission.csv for the rows of a run."""
    for split in ("valid", "test"):
        with np.load(run / f"{split}.npz") as file:
            rows, classes, probs = file["ids"].tolist(), file["classes"].tolist(), file["probs"]
        turned = probs[:, ::-1]  # other predictions than those of the run, which an import may not repeat
        lines = [",".join([id, *map(str, row)]) for id, row in zip(rows, turned.tolist(), strict=True)]
        (folder / f"{split}.csv").write_text("\n".join([",".join(["id", *classes]), *lines]) + "\n")
        if split == "test":
            sample = ["id,label", *(f"{id},{classes[0]}" for id in rows)]
            (folder / "sample_submission.csv").write_text("\n".join(sample) + "\n")


def runnable(command: str, ids: dict[str, str]) -> list[str]:
    """The words of a command on the data of this test: its ids, its classes, no training."""
    for documented_id, real in ids.items():
        command = command.replace(documented_id, real)
    command = command.replace("roc_auc:melanoma+roc_auc:seborrheic_keratosis", "roc_auc:red+roc_auc:blue")
    words = shlex.split(command)[1:]
    if words[0] in TRAINS:
        words += ["--dry-run", "--set", "weights=none", "--set", "image_size=32"]
    if words[0] == "lr-find":
        words = ["customnet" if word == "densenet121" else word for word in words]
    if words[0] == "combine" and "--threshold" in words:
        words[words.index("--threshold") + 1] = "0.1"
    if words[0] == "init":
        words.append("--force")
    return words


def test_every_listed_need_is_of_a_documented_command() -> None:
    assert [need for need in NEEDS if not any(command.startswith(need) for command in PAGE_OF)] == []
    assert [command for command in RUN if not command.startswith("ens ")] == []


@pytest.mark.parametrize("command", RUN)
def test_documented_command_runs(
    command: str,
    folder: Path,
    ids: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    (folder / "ens.yaml").unlink(missing_ok=True)
    if PAGE_OF[command] in ("README.md", "data.md") or "ens.yaml" in command:
        assert ens(["init", "photos"]) == 0
    status = ens(runnable(command, ids))
    assert status == 0, capfd.readouterr().err
