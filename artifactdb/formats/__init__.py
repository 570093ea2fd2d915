"""Bytes to objects and back: a serializer for each format, looked up by name.

``dump`` chooses one for an object, ``serializer`` finds the one that reads a record.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from artifactdb.database.grants import without_grants
from artifactdb.errors import DeserializationError, InvalidValueError, SerializationError
from artifactdb.formats.arrow import ArrowSerializer
from artifactdb.formats.data import DataSerializer
from artifactdb.formats.foreign import JoblibSerializer, JsonSerializer, PlainPickleSerializer
from artifactdb.formats.pickling import DillSerializer, PickleSerializer
from artifactdb.formats.serializer import ENTRY_POINT_GROUP, Dumped, Serializer
from artifactdb.formats.tensors import SafetensorsSerializer
from artifactdb.formats.unpicklable import unpicklable_attribute

_DATA = (DataSerializer(), ArrowSerializer())
_PICKLERS: tuple[Serializer, ...] = (PickleSerializer(), DillSerializer())
_ALL: tuple[Serializer, ...] = (
    *_DATA, *_PICKLERS, JoblibSerializer(), PlainPickleSerializer(), JsonSerializer(), SafetensorsSerializer()
)  # fmt: skip
_BUILT_IN = {known.name: known for known in _ALL}
_ALIASES = {"cloudpickle": "pickle"}


@cache
def serializers() -> dict[str, Serializer]:
    """Give every serializer by name, those of entry points included; a built-in name cannot be taken."""
    found: dict[str, Serializer] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        candidate = point.load()
        found[point.name] = candidate() if isinstance(candidate, type) else candidate
    return found | _BUILT_IN


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
    found = _known(name)
    if found is None:
        raise DeserializationError(
            f"no serializer for format {name!r}; known: {', '.join(sorted(serializers()))}.",
            hint=f"Install the package that provides it in the entry point group {ENTRY_POINT_GROUP!r}.",
        )
    return found


def is_data_only(name: str) -> bool:
    """Tell whether loading a format can run no code of the writer's; a format that nobody knows may.

    Parameters
    ----------
    name : str
        As a record says it.

    Examples
    --------
    >>> is_data_only("data"), is_data_only("pickle5"), is_data_only("unheard of")
    (True, False, False)
    """
    return getattr(_known(name), "executable", True) is False


def _known(name: str) -> Serializer | None:
    return _BUILT_IN.get(_ALIASES.get(name, name)) or serializers().get(name)


def dump(obj: Any, format_hint: str | None = None) -> tuple[Dumped, Serializer]:
    """Turn an object into bytes: as data where nothing of it is lost, else by C pickle, or by dill.

    dill is for what pickle refuses or could not load elsewhere.

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
        candidates = (*(data for data in _DATA if data.takes(obj)), *_PICKLERS)
    reasons = []
    for candidate in candidates:
        try:
            with without_grants():
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


__all__ = ["Dumped", "Serializer", "dump", "is_data_only", "serializer", "serializers"]
