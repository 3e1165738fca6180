"""Recipe files with `data`, `defaults`, `members`, `combine`, `submit`, `sweep`, and the recipe.yaml of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensemble.core.errors import RecipeError
from ensemble.core.registry import did_you_mean
from ensemble.recipe import text
from ensemble.recipe.contradictions import contradictions
from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import CombineSpec, Recipe, ResolvedRecipe, SubmitSpec, SweepSpec
from ensemble.recipe.text import refuse, validated

_SECTIONS = ("data", "defaults", "members", "combine", "submit", "sweep")
_SEEDS = "seeds"


@dataclass(frozen=True)
class RecipeFile:
    """A validated recipe file. The members are resolved, in the order of the file, one for each seed.

    defaults: the keys that the members share, as written in the file.
    """

    data: DataSpec = field(default_factory=DataSpec)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[ResolvedRecipe, ...] = ()
    combine: CombineSpec = field(default_factory=CombineSpec)
    submit: SubmitSpec = field(default_factory=SubmitSpec)
    sweep: SweepSpec = field(default_factory=SweepSpec)
    source: str = "the built-in digits"


def read_recipe_file(
    path: Path, *, data: DataSpec | None = None, overrides: Mapping[str, Any] | None = None
) -> RecipeFile:
    """Read and validate a recipe file. data: replaces its data.  overrides: keys that replace those of members.

    Raises RecipeError that lists all problems.
    """
    raw = text.read(path)
    if isinstance(raw, Mapping) and "arch" in raw and "members" not in raw:  # the recipe.yaml of a run
        member = dict(raw)
        raw = {"data": member.pop("data", {}), "members": [member]}
    return build(raw, source=str(path), data=data, overrides=overrides or {})


def build(
    raw: Any, *, source: str, data: DataSpec | None = None, overrides: Mapping[str, Any] | None = None
) -> RecipeFile:
    """A RecipeFile from plain values. Raises RecipeError that lists all problems."""
    problems: list[str] = []
    if not isinstance(raw, Mapping):
        raise RecipeError(f"{source}: {type(raw).__name__} found, the keys {', '.join(_SECTIONS)} expected")
    for key in raw:
        if key not in _SECTIONS:
            problems.append(f"{key}: unknown key{did_you_mean(str(key), _SECTIONS)}")
    data_spec = data or data_section(raw.get("data", {}), problems)
    combine = validated(CombineSpec, _section(raw, "combine"), "combine", problems)
    submit = validated(SubmitSpec, _section(raw, "submit"), "submit", problems)
    defaults = _defaults(raw.get("defaults") or {}, problems)
    members = _members(raw.get("members") or [], defaults, data_spec or DataSpec(), dict(overrides or {}), problems)
    sweep = validated(SweepSpec, _section(raw, "sweep"), "sweep", problems)
    problems.extend(_unknown_axes(sweep or SweepSpec()))
    if combine is not None and combine.refits:
        problems.extend(
            f"{recipe.name}, combine.refits: {problem}"
            for recipe in members
            for problem in contradictions(recipe.model_copy(update={"full": True}))
        )
    refuse(problems, source)
    assert data_spec is not None and combine is not None and submit is not None and sweep is not None
    return RecipeFile(data_spec, defaults, members, combine, submit, sweep, source)


def sweep_section(raw: Any, source: str) -> SweepSpec:
    """A SweepSpec from plain values. Raises RecipeError that lists all problems."""
    problems: list[str] = []
    sweep = validated(SweepSpec, raw, "sweep", problems)
    problems.extend(_unknown_axes(sweep or SweepSpec()))
    refuse(problems, source)
    assert sweep is not None
    return sweep


def _unknown_axes(sweep: SweepSpec) -> Iterable[str]:
    known_keys = set(Recipe.model_fields) - {"data", "name", "seed"}
    for part, keys in (("grid", sweep.grid), ("search", sweep.search)):
        for key in keys:
            if key in ("seed", _SEEDS):
                yield f"sweep.{part}.{key}: seeds repeat every cell; write `seeds` under defaults"
            elif key not in known_keys:
                yield f"sweep.{part}.{key}: unknown key{did_you_mean(key, known_keys)}"


def _section(raw: Mapping[str, Any], key: str) -> Any:
    """The value of `key`; a section whose lines are all commented out is empty."""
    value = raw.get(key)
    return {} if value is None else value


def data_section(value: Any, problems: list[str]) -> DataSpec | None:
    """A DataSpec from `data:`. `digits` is accepted as text; a `path` without a form means folders."""
    if value == "digits" or value == {}:
        return DataSpec()
    if value is None:
        problems.append("data: nothing found; say form and path, or leave `data` out for the built-in digits")
        return None
    if isinstance(value, Mapping) and "form" not in value:
        is_table = str(value.get("train", "")).lower().endswith(".csv")
        value = {"form": "csv" if is_table else "folders", **value}
    return validated(DataSpec, value, "data", problems)


def member(values: Mapping[str, Any], data: DataSpec, where: str, problems: list[str]) -> Iterable[ResolvedRecipe]:
    """The resolved recipes of an entry of `members`, one for each of its seeds."""
    values = dict(values)
    seeds = values.pop("seeds", None)
    if seeds is not None and "seed" in values:
        problems.append(f"{where}: both `seed` and `seeds`; one expected")
    if seeds is not None and (not isinstance(seeds, Sequence) or isinstance(seeds, str) or not seeds):
        problems.append(f"{where}.seeds: {seeds!r} found, a list such as [0, 1, 2] expected")
        return
    for seed in [None] if seeds is None else seeds:
        entry = values if seed is None else {**values, "seed": seed}
        recipe = validated(Recipe, {**entry, "data": data}, where, problems)
        if recipe is not None:
            recipe = resolved(recipe)
            for problem in contradictions(recipe):
                if f"{where}: {problem}" not in problems:
                    problems.append(f"{where}: {problem}")
            yield recipe


def _defaults(raw: Any, problems: list[str]) -> dict[str, Any]:
    """The keys of `defaults`, validated separately, so that an error is not repeated for each member."""
    if not isinstance(raw, Mapping):
        problems.append(f"defaults: {raw!r} found, keys and values expected")
        return {}
    known_keys = (*Recipe.model_fields, _SEEDS)
    valid = {}
    for key, value in raw.items():
        if key not in known_keys or key == "data":
            problems.append(f"defaults.{key}: unknown key{did_you_mean(str(key), known_keys)}")
        elif key == _SEEDS or validated(Recipe, {"arch": "any", key: value}, "defaults", problems):
            valid[key] = value
    return valid


def _members(
    entries: Any, defaults: dict[str, Any], data: DataSpec, overrides: dict[str, Any], problems: list[str]
) -> tuple[ResolvedRecipe, ...]:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        problems.append(f"members: {entries!r} found, a list expected")
        return ()
    members: list[ResolvedRecipe] = []
    for index, entry in enumerate(entries):
        where = f"members[{index}]"
        entry = {"arch": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, Mapping):
            problems.append(f"{where}: {entry!r} found, keys and values expected")
        elif "data" in entry:
            problems.append(f"{where}.data: members share the file's data; leave it out")
        else:
            members.extend(member(_merged(defaults, entry, overrides), data, where, problems))
    return tuple(members)


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The merged layers; later ones take precedence. `seed` and `seeds` replace each other."""
    merged: dict[str, Any] = {}
    for layer in layers:
        if "seed" in layer or _SEEDS in layer:
            merged = {key: value for key, value in merged.items() if key not in ("seed", _SEEDS)}
        merged |= layer
    return merged
