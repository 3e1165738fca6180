"""The command line `ens`. Each command parses its arguments, calls one function and prints its result.

The module of a command is imported when the command is called, which keeps `ens --help` fast.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli.options import HomePath
from ensemble.cli.terminal import Settings, handle_signals, prepare_streams, wants_colour
from ensemble.core import __version__
from ensemble.core.errors import EnsError, one_line
from ensemble.core.parallel import limit_spinning

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "init": "Write a commented recipe, ens.yaml, for the data it is pointed at.",
    "check": "Look at the data: counts, odd files, copies, leaks between splits, labels.",
    "lr-find": "Draw the learning-rate finder's curve and print its suggestion.",
    "train": "Train members with fastai.",
    "sweep": "Train a recipe for every combination of values, and print the table.",
    "ls": "List members and ensembles, the best first.",
    "show": "Draw augmentation and filters on your images; list the layers that train.",
    "explain": "Draw where a member looks (Grad-CAM).",
    "compare": "Put runs side by side: tables, a conclusion, figures.",
    "import": "Make a run of predictions made elsewhere.",
    "combine": "Combine members into an ensemble.",
    "distill": "Train one network on what an ensemble says, and report what it keeps.",
    "predict": "Predict images with a member or an ensemble.",
    "report": "Write one HTML page on a run, an ensemble or a whole recipe.",
    "submit": "Check an ensemble's predictions and write the file to upload.",
    "export": "Write a member or an ensemble as a folder or zip that predicts anywhere (ONNX).",
    "serve": "Serve a member, an ensemble or an export over HTTP, with a page.",
    "help": "Print a page of the manual.",
    "completion": "Print the script that completes commands, options and names in your shell.",
    "run": "Run a whole recipe: train, combine, submit.",
    "demo": "Run the whole pipeline on the built-in digits, with no network.",
}


class _LazyGroup(click.Group):
    """Click group with the names and summaries of its commands; imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ensemble.cli.{_module(cmd_name)}")
        command: click.Command = module.command
        command.name = cmd_name
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names without importing the commands, or else the options of `ens` itself."""
        from click.shell_completion import CompletionItem

        items = [CompletionItem(name, help=COMMANDS[name]) for name in COMMANDS if name.startswith(incomplete)]
        return items or click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from ensemble.core.registry import did_you_mean

        if args and args[0] not in COMMANDS:
            ctx.fail(f"no such command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


def _module(name: str) -> str:
    return {"import": "import_"}.get(name, name.replace("-", "_"))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ens")
@click.option(
    "--runs",
    type=HomePath(file_okay=False, path_type=Path),
    default=Path("runs"),
    envvar="ENS_RUNS",
    show_default=True,
    help="Where runs are kept. [env: ENS_RUNS]",
)
@click.option("--verbose", is_flag=True, help="Show a traceback when something fails.")
@click.pass_context
def cli(ctx: click.Context, runs: Path, verbose: bool) -> None:
    """The most accurate and most honest prediction out of several fine-tuned vision models.

    \b
    ens train --arch densenet121        # one member (or every member of a recipe)
    ens combine --threshold 0.95        # weighted soft vote of the members above the bar
    ens submit --format kaggle          # a file a competition accepts
    ens run recipes/cifar10.yaml        # all of it

    With no ens.yaml, no --recipe and no --data, `ens train` takes scikit-learn's digits, and what works from runs
    the data of the newest run.
    """
    ctx.color = wants_colour()
    ctx.obj = Settings(runs=runs, verbose=verbose)


def main(args: list[str] | None = None) -> None:
    """Run `ens` and exit with its exit code."""
    args = sys.argv[1:] if args is None else args
    prepare_streams()
    handle_signals()
    limit_spinning()
    sys.exit(run(args))


def run(args: list[str]) -> int:
    """Run one command line and return the exit code. Errors are printed as one line on stderr."""
    verbose = "--verbose" in args
    if not verbose:
        # fastai and timm call deprecated functions of torch, which users of `ens` cannot change
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.|fastai\.|timm\.")
        # warning of the first backward pass on a GPU about the CUDA context of its thread
        warnings.filterwarnings("ignore", message="Attempting to run cuBLAS, but there was no current CUDA context")
    try:
        result: Any = cli.main(args=args, prog_name="ens", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _failed("interrupted; the same command goes on from here", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        return _failed(one_line(error.format_message()), error.exit_code)
    except EnsError as error:
        return _failed(one_line(error), error.exit_code, verbose)
    except BrokenPipeError:
        # the reader has closed the pipe, so no message can be printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _failed(one_line(error), 1, verbose)
    except Exception as error:
        hint = "" if verbose else "; `ens --verbose …` shows where"
        return _failed(f"unexpected {type(error).__name__}: {one_line(error)}{hint}", 1, verbose)


def _failed(message: str, code: int, verbose: bool = False) -> int:
    if verbose:
        traceback.print_exc()
    click.secho(f"ens: {message}", err=True, fg="red", color=wants_colour())
    return code
