"""Recipes as text: YAML is read and written, values are validated, and all problems are reported together.

PyYAML implements YAML 1.1, where `1e-3` is text, `010` is eight and `no` is false. This module implements the core
schema of YAML 1.2, except that numbers with a leading zero are text, as ids and class names are always text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ensemble.core.errors import RecipeError, one_line
from ensemble.core.registry import did_you_mean

_PATTERNS = {
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "tag:yaml.org,2002:int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "tag:yaml.org,2002:merge": (r"<<", "<"),
}


class _Loader(yaml.SafeLoader):
    """A safe loader with the resolvers above, which refuses repeated keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {repeated[0]!r} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """A safe dumper that quotes text which either schema would read as another type, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, (_pattern, _first) in _PATTERNS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), list(_first))


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./-]*", text) and isinstance(parse(text), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


def parse(text: str) -> Any:
    """The value of a YAML document. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


def included_recipes() -> dict[str, Path]:
    """The recipes that the package includes, by name."""
    # in a checkout without symbolic links, ensemble/recipes is a text file
    package = Path(__file__).parent.parent
    folder = next(filter(Path.is_dir, (package / "recipes", package.parent / "recipes")), package)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_file(path: Path) -> Path:
    """`path`, or the included recipe of that name where there is no such file."""
    return path if path.suffix or path.exists() else included_recipes().get(str(path), path)


def read(path: Path) -> Any:
    """The value of a YAML file. Raises RecipeError with the line of the error."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        near = did_you_mean(str(path), included_recipes()) if path.suffix == "" else ""
        hint = near if near.startswith("; did you mean") else "; type `ens init` to write one"
        raise RecipeError(f"there is no recipe {one_line(path)}{hint}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read {one_line(path)}: {one_line(error)}") from error
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{one_line(path)}: {one_line(error)}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or one_line(error)
        raise RecipeError(f"{one_line(path)}{where}: {one_line(problem)}") from error


def dump(value: Any) -> str:
    """`value` as YAML with the keys in their order; `parse` returns the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


_Dumper.add_representer(str, _represent_text)


M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], values: Any, where: str, problems: list[str]) -> M | None:
    """`model` built from `values`; None for invalid values, whose problems are added to `problems`, each once."""
    if not isinstance(values, Mapping):
        problems.append(f"{where or 'recipe'}: {values!r} found, keys and values expected")
        return None
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        for message in _messages(model, error, where):
            if message not in problems:
                problems.append(message)
        return None


def _messages(model: type[BaseModel], error: ValidationError, where: str) -> Iterable[str]:
    expected: dict[str, list[str]] = {}
    inputs: dict[str, Any] = {}
    for item in error.errors(include_url=False, include_context=False):
        location = _location(item["loc"])
        if item["type"] == "extra_forbidden":
            hint = did_you_mean(location.split(".")[-1], _keys(model, item["loc"]))
            yield f"{_join(where, location)}: unknown key{hint}"
            continue
        reason = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        reason = "a list" if reason == "a valid tuple" else reason
        expected.setdefault(location, []).append(reason)
        inputs[location] = item.get("input")
    for location, reasons in expected.items():
        if reasons == ["Field required"]:
            yield f"{_join(where, location)}: missing"
        else:
            yield f"{_join(where, location)}: {inputs[location]!r} found, {' or '.join(reasons)} expected"


def _location(loc: tuple[int | str, ...]) -> str:
    """`stages.0.lr`; names of union branches (`float`, `literal['auto']`, `function-after…`) are left out."""
    parts = [str(part) for part in loc]
    keys = parts[:1] + [part for part in parts[1:] if not _is_branch(part)]
    return ".".join(keys)


def _is_branch(part: str) -> bool:
    prefixes = ("literal[", "constrained-", "function-", "tuple[", "nullable[", "lax-or-")
    return part.startswith(prefixes) or part in ("str", "float", "int")


def _keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field is not None else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)


def _join(where: str, location: str) -> str:
    return f"{where}.{location}" if where and location else where or location


def refuse(problems: list[str], source: str) -> None:
    """Raise a RecipeError that lists all problems, if there are any."""
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise RecipeError(f"{source}: {count}: {'; '.join(problems)}")
