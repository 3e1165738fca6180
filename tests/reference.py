"""Writes the parts of the manual that repeat what the code declares: `python tests/reference.py`.

A part stands between two comments, `<!-- NAME -->` and `<!-- end -->`. A test compares it with what is written.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "ensemble" / "docs"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts, not padded as those of ensemble.core.table are, so that a new key changes one line."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field of a model."""
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = str(text.value.value)
    return texts


def keys(model: type[BaseModel]) -> str:
    """The keys of a section of a recipe: values that are text, default, description."""
    from typing import Literal, get_args, get_origin

    texts = descriptions(model)
    rows = []
    for name, field in model.model_fields.items():
        parts = get_args(field.annotation) if get_origin(field.annotation) is not Literal else (field.annotation,)
        literals = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
        booleans = ["true", "false"] * (bool in parts or field.annotation is bool)
        names = [value for value in literals if isinstance(value, str)]
        values = " ".join(f"`{value}`" for value in [*booleans, *names])
        rows.append((f"`{name}`", values, _shown(field.default, field.is_required()), texts[name]))
    return markdown(("key", "values", "default", "what it is"), rows)


def _shown(value: Any, required: bool) -> str:
    if required:
        return "required"
    if isinstance(value, BaseModel):
        return ""
    if value is None or value == () or value == {}:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def recipe_keys() -> str:
    """Every section of a recipe."""
    from ensemble.recipe import data_spec, schema

    sections = (
        ("`data`", data_spec.DataSpec),
        ("`defaults` and each of `members`", schema.Recipe),
        ("`stages` of a member", schema.Stage),
        ("`combine`", schema.CombineSpec),
        ("`submit`", schema.SubmitSpec),
        ("`sweep`", schema.SweepSpec),
    )
    return "\n\n".join(f"## {title}\n\n{keys(model)}" for title, model in sections)


def methods() -> str:
    """Every registered method, by the key or option that names it."""
    from ensemble.combine.rules import rules
    from ensemble.export.exporters import exporters
    from ensemble.metrics import metrics
    from ensemble.models.weight_sources import weight_sources
    from ensemble.recipe.data_spec import forms
    from ensemble.recipe.methods import METHODS, registry
    from ensemble.submit.formats import formats
    from ensemble.tracking import trackers

    parts = [_methods(f"`{key}`", registry(key)) for key in METHODS]
    others = (
        ("`combine.rule`", rules, lambda entry: entry.decide),
        ("`combine.metric`, `sweep.metric`", metrics, lambda entry: entry.summary),
        ("`submit.format`", formats, lambda entry: entry.build),
        ("`data.form`, beside `digits`", forms, lambda entry: entry),
        ("`ens export --format`", exporters, lambda entry: entry.write),
        ("`--track`", trackers, lambda entry: entry.open),
        ("Sources of weights, in this order", weight_sources, lambda entry: entry),
    )
    return "\n\n".join([*parts, *(_described(*part) for part in others)])


def _methods(title: str, registered: Any) -> str:
    rows = []
    for name in registered.names():
        traits = registered.traits(name)
        chosen = f" Chosen on validation rows: {traits.chosen_on_valid}." if traits.chosen_on_valid else ""
        takes = ", ".join(f"`{key}`" for key in traits.keys)
        rows.append((f"`{name}`", takes, f"{registered.description(name)}.{chosen}"))
    if any(takes for _, takes, _ in rows):
        return f"## {title}\n\n{markdown(('name', 'keys', 'what it does'), rows)}"
    return f"## {title}\n\n{markdown(('name', 'what it does'), [(name, text) for name, _, text in rows])}"


def _described(title: str, registered: Any, function: Callable[[Any], Any]) -> str:
    rows = [(f"`{name}`", _first_paragraph(function(registered.get(name)))) for name in registered.names()]
    return f"## {title}\n\n{markdown(('name', 'what it does'), rows)}"


def _first_paragraph(entry: Any) -> str:
    return " ".join((inspect.getdoc(entry) or "").split("\n\n")[0].split())


def architectures() -> str:
    """The names of the registered architectures."""
    from ensemble.recipe.architectures import architectures as registered

    return " ".join(f"`{name}`" for name in registered.names())


def commands() -> str:
    """Every command with the first sentence of its help."""
    import click

    from ensemble.cli import cli

    context = click.Context(cli)
    rows = []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        text = re.split(r"\.(?:\s|$)", " ".join((command.help or "").split()), maxsplit=1)[0]
        page = f"ensemble/docs/{name}.md"
        shown = f"[`ens {name}`]({page})" if (ROOT / page).is_file() else f"`ens {name}`"
        rows.append((shown, f"{text}."))
    return markdown(("command", "what it does"), rows)


PARTS: dict[tuple[str, str], Callable[[], str]] = {
    ("ensemble/docs/recipe.md", "keys"): recipe_keys,
    ("ensemble/docs/methods.md", "methods"): methods,
    ("ensemble/docs/train.md", "architectures"): architectures,
    ("README.md", "commands"): commands,
}
"""(page, name of the part) -> what writes it."""


def written(page: str, text: str) -> str:
    """The text of a page with its parts as they should be. Raises ValueError where a part is missing."""
    for (name, part), write in PARTS.items():
        if name == page:
            begin, end = f"<!-- {part} -->", "<!-- end -->"
            before, found_begin, rest = text.partition(begin)
            _, found_end, after = rest.partition(end)
            if not (found_begin and found_end):
                raise ValueError(f"{page} has no part {begin} ... {end}")
            text = f"{before}{begin}\n{write()}\n{end}{after}"
    return text


def main() -> None:
    """Rewrite the pages."""
    for page in dict.fromkeys(name for name, _ in PARTS):
        path = ROOT / page
        path.write_text(written(page, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
