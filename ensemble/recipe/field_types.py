"""Types of recipe keys: text, names, paths and counts as YAML has them, and the base of every section."""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ensemble.core.names import nfc


def _to_text(value: Any) -> Any:
    """A whole number as its digits, as class names, ids and columns are text.

    The spelling of `true`, `null`, `1.0` or `1e5` is lost when YAML is read. Raises ValueError for these.
    """
    if value is None or isinstance(value, bool | float):
        raise ValueError("text in quotes")
    return str(value) if isinstance(value, int) else value


def to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain_name(value: str) -> str:
    if (
        not value
        or value.strip() != value
        or value[0] in ".-"
        or any(character in '/\\:*?"<>|' or not character.isprintable() for character in value)
    ):
        raise ValueError("a name without slashes, colons, quotes, line breaks or a leading dot or dash is expected")
    return value


def class_name(value: str) -> str:
    if not value.strip():
        raise ValueError("a name is expected, not an empty text")
    return nfc(value.strip())


def valid_separator(value: str) -> str:
    if len(value) != 1 or value == '"' or value.isalnum() or not (value == "\t" or value.isprintable()):
        raise ValueError("a separator is one character: a comma, a semicolon, a tab or another mark")
    return value


def _expanded(value: str) -> str:
    """The path with `~` expanded."""
    return os.path.expanduser(value)  # noqa: PTH111 — Path would normalise the rest of the path


PathText = Annotated[str, AfterValidator(_expanded)]
Text = Annotated[str, BeforeValidator(_to_text)]
Name = Annotated[str, BeforeValidator(_to_text), AfterValidator(_plain_name)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(to_tuple)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(to_tuple)]
Rate = Annotated[float, Field(gt=0, lt=100)]


class Frozen(BaseModel):
    """Base model: immutable, strict about types, without unknown keys or non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
