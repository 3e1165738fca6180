"""Shell completion: runs, architectures, rules, metrics, keys; and `ens completion`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ensemble.core.registry import load

_INCOMPLETE = "ensemble.incomplete"
"""Key of click's `Context.meta` for the text that is completed."""

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _completion(names: Callable[[click.Context], Iterable[str]]) -> Complete:
    """A completion function for the `names` that start with the typed text; empty on any error."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        ctx.meta[_INCOMPLETE] = incomplete
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


def names(registry: str) -> Complete:
    """The names of a registry, given as a reference `module:name`, which is imported when they are needed."""
    return _completion(lambda ctx: load(registry).names())


@_completion
def keys(ctx: click.Context) -> Iterable[str]:
    """Keys of a recipe with `=`, and the values of keys with a fixed set of values, and of methods."""
    from typing import Literal, get_args, get_origin

    from ensemble.recipe.data_spec import DataSpec
    from ensemble.recipe.methods import METHODS, registry
    from ensemble.recipe.schema import Recipe

    key, typed, _ = str(ctx.meta.get(_INCOMPLETE, "")).partition("=")
    if typed and key in METHODS:  # only now, as the import of methods takes seconds
        yield from (f"{key}={name}" for name in registry(key).names())
        return
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
