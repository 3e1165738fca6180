"""Shell completion: runs, architectures, rules, metrics, keys; and `ens completion`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completion(names: Callable[[click.Context], Iterable[str]]) -> Complete:
    """A completion function for the `names` that start with the typed text; empty on any error."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        try:
            return [name for name in names(ctx) if name.startswith(incomplete)]
        except Exception:  # an error message would disturb the prompt of the shell
            return []

    return complete


@_completion
def runs(ctx: click.Context) -> Iterable[str]:
    """Ids of complete runs."""
    folder = Path(ctx.find_root().params.get("runs") or "runs")
    return sorted(path.parent.name for path in folder.glob("*/metrics.json") if path.parent.name[0] != ".")


def runs_or_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of complete runs, or the shell's own completion of files if no id matches."""
    items = [CompletionItem(name) for name in runs(ctx, param, incomplete)]
    return items or [CompletionItem(incomplete, type="file")]


@_completion
def archs(ctx: click.Context) -> Iterable[str]:
    """The built-in architectures; those of timm would require its import."""
    from ensemble.recipe.architectures import architectures

    return architectures.names()


@_completion
def rules(ctx: click.Context) -> Iterable[str]:
    """Combining rules."""
    from ensemble.combine.rules import rules as registry

    return registry.names()


@_completion
def metrics(ctx: click.Context) -> Iterable[str]:
    """Metrics."""
    from ensemble.metrics import metrics as registry

    return registry.names()


@_completion
def formats(ctx: click.Context) -> Iterable[str]:
    """Submission formats."""
    from ensemble.submit.formats import formats as registry

    return registry.names()


@_completion
def trackers(ctx: click.Context) -> Iterable[str]:
    """Trackers."""
    from ensemble.tracking import trackers as registry

    return registry.names()


@_completion
def keys(ctx: click.Context) -> Iterable[str]:
    """Keys of a recipe with `=`, and the values of keys with a fixed set of values."""
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

    complete_class, group = get_completion_class(shell), click.get_current_context().find_root().command
    assert complete_class is not None
    click.echo(complete_class(group, {}, "ens", "_ENS_COMPLETE").source())
