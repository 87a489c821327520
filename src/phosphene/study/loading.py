"""Read study files: TOML, the checks of every value, and hints for misspelt settings."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from phosphene.errors import PhospheneError
from phosphene.reading import parse_toml, read_toml

INTEGER_BITS = 63  # TOML promises no larger integers

_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def read_study(path: Path) -> dict[str, Any]:
    """Read a study file as nested tables."""
    try:
        return read_toml(path)
    except FileNotFoundError:
        raise PhospheneError(
            f"{path}: no such study file; `phosphene init DIR` writes one"
        ) from None


def parse_set(text: str) -> tuple[str, Any]:
    """``--set key=value`` -> (key, value); the value is read as TOML, and as text when it is not
    TOML.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    value = value.strip()
    if not (key and equals):
        raise PhospheneError(f"--set {text}: expected key=value, as in --set decode.cv=5")
    try:
        return key, parse_toml(f"value = {value}", f"--set {key}")["value"]
    except PhospheneError:
        raise
    except ValueError:
        return key, value


def _dotted(cls: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings."""
    for f in fields(cls):
        if is_dataclass(f.default):
            yield from _dotted(f.default, f"{prefix}{f.name}.")
        elif not f.metadata.get("place"):
            yield prefix + f.name


def unknown(cls: Any, key: str, section: str) -> str:
    """The sentence about a misspelt setting: the nearest name in its own section, else anywhere."""
    names = list(_dotted(cls))
    tables = sorted({name.rpartition(".")[0] for name in names} - {""})
    last = key.rpartition(".")[2]
    siblings = {
        name.rpartition(".")[2]: name
        for name in names + tables
        if name.rpartition(".")[0] == section
    }
    near = [siblings[name] for name in difflib.get_close_matches(last, siblings, n=1)]
    near = near or [n for n in names if n.endswith(f".{last}")]
    near = near or difflib.get_close_matches(key, names + tables, n=1)
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?"
        if near
        else f"known here: {', '.join(siblings.values())}"
    )
    return f"unknown setting '{key}'; {hint}"


def build(cls: Any, values: Any, places: Mapping[str, Any]) -> Any:
    """Build a frozen dataclass from nested tables, every value checked against its field.

    Raises
    ------
    PhospheneError
        Names the setting that is unknown, of the wrong type or outside its limits.
    """
    return _build(cls, cls, values, "", places)


def _build(
    whole: Any,
    cls: Any,
    values: Any,
    prefix: str,
    places: Mapping[str, Any] = types.MappingProxyType({}),
) -> Any:
    """Build one table; `whole` is the outermost class, in which misspelt settings are looked up."""
    if not isinstance(values, Mapping):
        raise PhospheneError(f"'{prefix.rstrip('.')}' must be a table, found {values!r}")
    known = {f.name: f for f in fields(cls) if not f.metadata.get("place")}
    for key in values:
        if key not in known:
            raise PhospheneError(unknown(whole, prefix + key, prefix.rstrip(".")))
    hints = get_type_hints(cls)
    built = {key: _convert(whole, hints[key], value, prefix + key) for key, value in values.items()}
    for key, value in built.items():
        _check_limits(known[key], value, prefix + key)
    return cls(**built, **places)


def _convert(whole: Any, hint: Any, value: Any, key: str) -> Any:
    """One value as the type of its field, or the sentence that says what it should have been."""
    if type(value) is int and value.bit_length() > INTEGER_BITS:
        raise PhospheneError(
            f"'{key}' is a whole number of {value.bit_length()} bits; write one of at most "
            f"{INTEGER_BITS}"
        )
    if is_dataclass(hint):
        return _build(whole, hint, value, f"{key}.")
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            raise PhospheneError(f"'{key}' is {value!r}; choose {' or '.join(map(repr, choices))}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise PhospheneError(f"'{key}' must be a list such as [...], found {value!r}")
        return tuple(_convert(whole, get_args(hint)[0], item, key) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise PhospheneError(f"'{key}' must be {_NAMES[hint]}, found {value!r}")
    return value


def _check_limits(setting: Field[Any], value: Any, key: str) -> None:
    """The limits a field carries in its metadata."""
    limits = setting.metadata
    if limits.get("filled") and not value:
        raise PhospheneError(f"'{key}' must not be empty")
    if limits.get("filled") and len(set(value)) < len(value):
        raise PhospheneError(f"'{key}' names something twice, found {list(value)}")
    numbers = value if isinstance(value, tuple) else (value,)
    if "above" in limits:
        for number in numbers:
            if not limits["above"] < number < float("inf"):
                raise PhospheneError(f"'{key}' must be above {limits['above']}, found {number}")
    if "low" not in limits:
        return
    for number in numbers:
        if not limits["low"] <= number <= limits["high"] or number == float("inf"):
            upper = "" if limits["high"] == float("inf") else f" and at most {limits['high']}"
            raise PhospheneError(f"'{key}' must be at least {limits['low']}{upper}, found {number}")
