"""Frozen dataclasses to and from plain JSON or TOML values, strictly.

One reader serves the card in a checkpoint's header and the trainer's configs; it needs
nothing beyond the standard library, because a bare GPU machine reads both.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from napari_brainldm.engine.request import EngineError

T = TypeVar("T")


def to_plain(value: Any) -> dict[str, Any]:
    """Nested dictionaries, lists and scalars of a frozen dataclass."""
    return asdict(value)


def from_plain(kind: type[T], plain: Any, where: str) -> T:
    """Build the frozen dataclass `kind` from `plain`.

    Raises
    ------
    EngineError
        On an unknown key, a missing key or a value of another type; `where` names the
        file or section in the sentence.
    """
    if not isinstance(plain, Mapping):
        raise EngineError(
            f"{where} holds {plain!r}; a table of named values is needed."
        )
    _check_keys(kind, plain, where)
    hints = get_type_hints(kind)
    values = {k: _convert(hints[k], v, f"{where}: {k}") for k, v in plain.items()}
    return kind(**values)


def _check_keys(kind: type, plain: Mapping[str, Any], where: str) -> None:
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(plain) - set(known))
    if unknown:
        raise EngineError(
            f"{where} has the unknown entry {unknown[0]!r}. "
            f"Known are {', '.join(sorted(known))}. Correct or remove it."
        )
    missing = [
        name
        for name, field in known.items()
        if name not in plain
        and field.default is MISSING
        and field.default_factory is MISSING
    ]
    if missing:
        raise EngineError(f"{where} lacks the entry {missing[0]!r}. Add it.")


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict and isinstance(value, Mapping):
        return {
            str(k): _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()
        }
    if is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
        return value
    raise EngineError(f"{where} is {value!r}; {hint.__name__} is needed.")


def _convert_union(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in hints:
        return None
    errors: dict[Any, EngineError] = {}
    for hint in (h for h in hints if h is not type(None)):
        try:
            return _convert(hint, value, where)
        except EngineError as error:
            errors[hint] = error
    raise errors[max(errors, key=lambda hint: _likeness(hint, value))]


def _likeness(hint: Any, value: Any) -> int:
    """How many names of `value` are fields of `hint`: which one was meant."""
    if not is_dataclass(hint) or not isinstance(value, Mapping):
        return -1
    return len({field.name for field in fields(hint)} & set(value))


def _convert_tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise EngineError(f"{where} is {value!r}; a list is needed.")
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise EngineError(f"{where} has {len(value)} values; {len(hints)} are needed.")
    return tuple(_convert(h, v, where) for h, v in zip(hints, value, strict=True))
