"""Upload of a submission with Kaggle's command-line program: build the command, and run it on request."""

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
    """An upload command. arguments: as of argv, the program's name first."""

    arguments: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command line, quoted for a shell."""
        return shlex.join(self.arguments)


def competition(target: str, *, runs: bool) -> str:
    """The name of the competition in `kaggle:COMPETITION`. runs: whether the command will be run.

    Raises RecipeError for another target, EnsError if the program is needed but not installed.
    """
    match = re.fullmatch(r"kaggle:([A-Za-z0-9][A-Za-z0-9_-]*)", target)
    if not match:
        raise RecipeError(
            f"--upload {one_line(target)!r} found, kaggle:COMPETITION expected, the last part of the competition's"
            " address"
        )
    if runs and shutil.which(PROGRAM) is None:
        raise EnsError(
            "--yes needs Kaggle's program; type `python -m pip install kaggle` and give it your API token"
        )
    return match[1]


def upload_of(submission: Submission, run: Run, competition: str) -> Upload:
    """The upload command for a submission of `run`; its message is the run id with the honest score."""
    score = headline(run)
    message = f"{run.id}: {score or 'no labelled validation rows'}"
    return Upload(
        (PROGRAM, "competitions", "submit", "-c", competition, "-f", _file_argument(submission.path), "-m", message)
    )


def _file_argument(path: Path) -> str:
    """The path as an argument; a leading dash, which would start an option, gets `./` before it."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def run_upload(upload: Upload) -> str:
    """Run the command and return its last line of output. Raises EnsError, with its last error, if it fails."""
    program = shutil.which(PROGRAM) or PROGRAM
    try:
        process = subprocess.run(
            [program, *upload.arguments[1:]], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise EnsError(f"{PROGRAM} cannot be run: {error.strerror or error}") from error
    if process.returncode:
        last = _last_line(process.stdout, process.stderr)
        raise EnsError(f"{PROGRAM} ended with code {process.returncode}: {last}")
    return f"{PROGRAM}: {_last_line(process.stderr, process.stdout)}"


def _last_line(*outputs: str) -> str:
    """The last line of the last output that has any, without progress bars, which go to either."""
    lines = [line.strip() for output in outputs for line in re.split(r"[\r\n]+", output) if line.strip()]
    messages = [line for line in lines if not re.search(r"\d%\|", line)]
    return one_line(messages[-1]) if messages else "it said nothing"
