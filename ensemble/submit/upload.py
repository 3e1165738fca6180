"""Handing a submission in: the command of Kaggle's own program, printed, and run where a person says yes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ensemble.core.errors import EnsError, RecipeError, one_line
from ensemble.runs.leaderboard import headline
from ensemble.runs.run import Run
from ensemble.submit.submission import Submission

PROGRAM = "kaggle"


@dataclass(frozen=True)
class Upload:
    """arguments: the program's name first."""

    arguments: tuple[str, ...]

    @property
    def line(self) -> str:
        """As one types it into a shell."""
        return shlex.join(self.arguments)


def competition(place: str, *, runs: bool) -> str:
    """The competition of `kaggle:COMPETITION`. runs: whether the program will be needed.

    Raises RecipeError for another place, EnsError where the program is not installed.
    """
    found = re.fullmatch(r"kaggle:([A-Za-z0-9][A-Za-z0-9_-]*)", place)
    if not found:
        raise RecipeError(
            f"--upload {one_line(place)!r} found, kaggle:COMPETITION expected, the last part of the competition's"
            " address"
        )
    if runs and shutil.which(PROGRAM) is None:
        raise EnsError(
            "--yes needs Kaggle's program; type `python -m pip install kaggle` and give it your API token"
        )
    return found[1]


def upload_of(written: Submission, run: Run, competition: str) -> Upload:
    """The command for a submission of `run`; its message says what is handed in, and the honest score."""
    score = headline(run)
    message = f"{run.id}: {score or 'no labelled validation rows'}"
    return Upload((PROGRAM, "competitions", "submit", "-c", competition, "-f", _file(written.path), "-m", message))


def _file(path: Path) -> str:
    """A name that begins with a dash would be an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def run_upload(upload: Upload) -> str:
    """Run the command; what it said, on one line. Raises EnsError where it fails, with its last words."""
    program = shutil.which(PROGRAM) or PROGRAM
    try:
        done = subprocess.run(
            [program, *upload.arguments[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise EnsError(f"{PROGRAM} cannot be run: {error.strerror or error}") from error
    said = [line.strip() for line in re.split(r"[\r\n]+", done.stdout) if line.strip()]
    last = one_line(said[-1]) if said else "it said nothing"
    if done.returncode:
        raise EnsError(f"{PROGRAM} ended with code {done.returncode}: {last}")
    return f"{PROGRAM}: {last}"
