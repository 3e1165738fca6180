"""Shell completion: runs, architectures, rules, metrics, keys; and `ens completion`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _offered(names: Callable[[click.Context], Iterable[str]]) -> Complete:
    """Those of `names` that begin with what is typed; nothing where they cannot be known."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        try:
            return [name for name in names(ctx) if name.startswith(incomplete)]
        except Exception:  # a shell that completes is no place for an error
            return []

    return complete


@_offered
def runs(ctx: click.Context) -> Iterable[str]:
    """Ids of complete runs."""
    folder = Path(ctx.find_root().params.get("runs") or "runs")
    return sorted(path.parent.name for path in folder.glob("*/metrics.json") if path.parent.name[0] != ".")


def runs_or_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of complete runs, or the shell's own files where none begins so."""
    found = [CompletionItem(name) for name in runs(ctx, param, incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


@_offered
def archs(ctx: click.Context) -> Iterable[str]:
    """Our own architectures; timm's thousand would have to be imported."""
    from ensemble.recipe.architectures import architectures

    return architectures.names()


@_offered
def rules(ctx: click.Context) -> Iterable[str]:
    """Combining rules."""
    from ensemble.combine.rules import rules as known

    return known.names()


@_offered
def metrics(ctx: click.Context) -> Iterable[str]:
    """Metrics."""
    from ensemble.metrics import metrics as known

    return known.names()


@_offered
def formats(ctx: click.Context) -> Iterable[str]:
    """Submission formats."""
    from ensemble.submit.formats import formats as known

    return known.names()


@_offered
def trackers(ctx: click.Context) -> Iterable[str]:
    """Trackers."""
    from ensemble.tracking import trackers as known

    return known.names()


@_offered
def keys(ctx: click.Context) -> Iterable[str]:
    """Keys of a recipe with their `=`, and where they are few their values."""
    from typing import Literal, get_args, get_origin

    from ensemble.recipe.schema import DataSpec, Recipe

    for prefix, model in (("", Recipe), ("data.", DataSpec)):
        for name, field in model.model_fields.items():
            if prefix or name not in ("data", "arch", "fold"):
                yield f"{prefix}{name}="
                if get_origin(field.annotation) is Literal:
                    yield from (f"{prefix}{name}={value}" for value in get_args(field.annotation))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that completes commands, options, runs, architectures, rules, metrics and recipe keys.

    \b
    eval "$(ens completion bash)"      # in ~/.bashrc
    eval "$(ens completion zsh)"       # in ~/.zshrc, after compinit
    ens completion fish | source       # in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    known, group = get_completion_class(shell), click.get_current_context().find_root().command
    assert known is not None
    click.echo(known(group, {}, "ens", "_ENS_COMPLETE").source())
