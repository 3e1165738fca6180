"""`ens help`."""

from __future__ import annotations

from importlib.resources import files

import click

from ensemble.core.errors import RecipeError
from ensemble.core.registry import did_you_mean


def topics() -> dict[str, str]:
    """The pages of the manual: topic -> title."""
    pages = (files("ensemble") / "docs").iterdir()
    titles = {
        page.name.removesuffix(".md"): page.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
        for page in pages
        if page.name.endswith(".md")
    }
    return dict(sorted(titles.items()))


@click.command()
@click.argument("topic", required=False)
def command(topic: str | None) -> None:
    """Print a page of the manual, or the list of its topics.

    \b
    ens help
    ens help combine
    ens help python
    """
    titles = topics()
    if topic is None:
        width = max(map(len, titles))
        click.echo("\n".join(f"{name.ljust(width)}  {title}" for name, title in titles.items()))
        return
    if topic not in titles:
        raise RecipeError(f"no topic {topic!r}{did_you_mean(topic, titles)}")
    click.echo_via_pager((files("ensemble") / "docs" / f"{topic}.md").read_text(encoding="utf-8"))
