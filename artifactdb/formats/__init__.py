"""Bytes to objects and back: a serializer for each format, looked up by name.

``dump`` chooses one for an object, ``serializer`` finds the one that reads a record.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from artifactdb.errors import DeserializationError, InvalidValueError, SerializationError
from artifactdb.formats.foreign import JoblibSerializer, JsonSerializer, PlainPickleSerializer
from artifactdb.formats.pickling import DillSerializer, PickleSerializer
from artifactdb.formats.serializer import ENTRY_POINT_GROUP, Dumped, Serializer
from artifactdb.formats.unpicklable import unpicklable_attribute

_BUILT_IN: tuple[Serializer, ...] = (
    PickleSerializer(), DillSerializer(), JoblibSerializer(), PlainPickleSerializer(), JsonSerializer()
)  # fmt: skip
_ALIASES = {"cloudpickle": "pickle"}


@cache
def serializers() -> dict[str, Serializer]:
    """Give every serializer by name, those of entry points included; a built-in name cannot be taken."""
    found: dict[str, Serializer] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        candidate = point.load()
        found[point.name] = candidate() if isinstance(candidate, type) else candidate
    return found | {serializer.name: serializer for serializer in _BUILT_IN}


def serializer(name: str) -> Serializer:
    """Give the serializer that reads and writes a format.

    Raises
    ------
    DeserializationError
        When none has that name.

    Examples
    --------
    >>> serializer("dill").extension
    'dill'
    """
    name = _ALIASES.get(name, name)
    built_in = next((candidate for candidate in _BUILT_IN if candidate.name == name), None)
    found = built_in or serializers().get(name)
    if found is None:
        raise DeserializationError(
            f"no serializer for format {name!r}; known: {', '.join(sorted(serializers()))}.",
            hint=f"Install the package that provides it in the entry point group {ENTRY_POINT_GROUP!r}.",
        )
    return found


def dump(obj: Any, format_hint: str | None = None) -> tuple[Dumped, Serializer]:
    """Turn an object into bytes: C pickle first, dill for what pickle refuses or could not load elsewhere.

    Parameters
    ----------
    obj : object
    format_hint : str, optional
        Name of the serializer to use instead.

    Raises
    ------
    SerializationError
        When no serializer takes the object; names the attribute that is in the way.
    """
    if format_hint:
        try:
            chosen = serializer(format_hint)
        except DeserializationError as error:
            raise InvalidValueError(error.message, hint=error.hint) from None
        candidates: tuple[Serializer, ...] = (chosen,)
    else:
        candidates = _BUILT_IN[:2]
    reasons = []
    for candidate in candidates:
        try:
            return candidate.dump(obj), candidate
        except Exception as error:
            reasons.append(f"{candidate.name}: {type(error).__name__}: {str(error)[:200]}")
    attribute = unpicklable_attribute(obj)
    where = f" Its attribute {attribute!r} is in the way." if attribute else ""
    raise SerializationError(
        f"{type(obj).__name__} cannot be serialized ({'; '.join(reasons)}).{where}",
        hint="Remove or replace that part (leave it out in __getstate__), or register a serializer of your own.",
        attribute=attribute,
    )


__all__ = ["Dumped", "Serializer", "dump", "serializer", "serializers"]
