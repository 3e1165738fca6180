"""`ens completion`."""

from __future__ import annotations

import click


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

    from ensemble.cli import cli

    known = get_completion_class(shell)
    assert known is not None
    click.echo(known(cli, {}, "ens", "_ENS_COMPLETE").source())
