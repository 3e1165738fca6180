"""What is wrong with a recipe, all of it at once, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ensemble.errors import RecipeError
from ensemble.registry import did_you_mean

M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], values: Any, where: str, problems: list[str]) -> M | None:
    """`model` built from `values`; what is wrong is added to `problems`, each once, and None returned."""
    if not isinstance(values, Mapping):
        problems.append(f"{where or 'recipe'}: {values!r} found, keys and values expected")
        return None
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        for line in _lines(model, error, where):
            if line not in problems:
                problems.append(line)
        return None


def _lines(model: type[BaseModel], error: ValidationError, where: str) -> Iterable[str]:
    expected: dict[str, list[str]] = {}
    found: dict[str, Any] = {}
    for item in error.errors(include_url=False, include_context=False):
        place = _place(item["loc"])
        if item["type"] == "extra_forbidden":
            hint = did_you_mean(place.split(".")[-1], _keys(model, item["loc"]))
            yield f"{_join(where, place)}: unknown key{hint}"
            continue
        reason = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        reason = "a list" if reason == "a valid tuple" else reason
        expected.setdefault(place, []).append(reason)
        found[place] = item.get("input")
    for place, reasons in expected.items():
        if reasons == ["Field required"]:
            yield f"{_join(where, place)}: missing"
        else:
            yield f"{_join(where, place)}: {found[place]!r} found, {' or '.join(reasons)} expected"


def _place(loc: tuple[int | str, ...]) -> str:
    """`stages.0.lr`; the names of union branches (`float`, `literal['auto']`, `function-after…`) are left out."""
    parts = [str(part) for part in loc]
    kept = parts[:1] + [part for part in parts[1:] if not _is_branch(part)]
    return ".".join(kept)


def _is_branch(part: str) -> bool:
    noise = ("literal[", "constrained-", "function-", "tuple[", "nullable[", "lax-or-")
    return part.startswith(noise) or part in ("str", "float", "int")


def _keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field is not None else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return list(model.model_fields)


def _join(where: str, place: str) -> str:
    return f"{where}.{place}" if where and place else where or place


def refuse(problems: list[str], source: str) -> None:
    """Raise one RecipeError that lists every problem, if there is any."""
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise RecipeError(f"{source}: {count}: {'; '.join(problems)}")
