"""YAML of strangers, read within bounds: plain values come out, nothing is built or run.

It is read event by event, so that neither depth nor aliases ("billion laughs") cost more than they are allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from artifactdb.artifacts.reading import MAX_VALUES, key_twice, parse_json
from artifactdb.errors import InvalidValueError

MAX_NODES = 2 * MAX_VALUES
"""Keys and values, with every alias written out."""
MAX_DEPTH = 100

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = "tag:yaml.org,2002:"
_SCALARS = {f"{_PREFIX}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp")}
_MERGE = f"{_PREFIX}merge"
_REMEMBERED_CHARACTERS = 100


class _MergeKey:
    """Stands for ``<<`` until the mapping is complete."""


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON that people can read."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def parse_configuration(text: bytes | str, name: str) -> Any:
    """Give the value of a configuration that somebody wrote, as JSON or YAML by the ending of its name."""
    return (parse_json if name.endswith(".json") else parse_yaml)(text, name, by_hand=True)


def parse_yaml(text: bytes | str, name: str, *, by_hand: bool = False) -> Any:
    """Give the value of YAML text.

    Parameters
    ----------
    by_hand : bool, default False
        Somebody wrote it: a key that stands twice is refused, and ``1e-3`` is a number, as in YAML 1.2. Else the last
        one counts, and it is a text, as programs write it that know YAML 1.1.

    Examples
    --------
    >>> parse_yaml("{name: wheat, folds: [0, 1]}", "manifest.yaml")
    {'name': 'wheat', 'folds': [0, 1]}
    """
    try:
        loader = _Loader(text)
        try:
            return _Builder(loader, by_hand).build()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError, UnicodeError) as error:
        if isinstance(error, InvalidValueError):
            raise InvalidValueError(f"{name}: {error.message}", hint=error.hint) from None
        raise InvalidValueError(f"{name} is no YAML ({' '.join(str(error).split())[:200]}).") from None


class _Open:
    """A sequence or mapping whose end has not come yet."""

    __slots__ = ("anchor", "key", "nodes", "value", "waits_for_value")

    def __init__(self, value: Any, anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.nodes = 1
        self.key: Any = None
        self.waits_for_value = False


class _Builder:
    """Builds one document of events."""

    def __init__(self, loader: Any, by_hand: bool) -> None:
        self._loader = loader
        self._by_hand = by_hand
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open: list[_Open] = []
        self._result: Any = None

    def build(self) -> Any:
        documents = 0
        nodes = 0
        while True:
            self._event = event = self._loader.get_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                nodes = self._add(_scalar(event.value, event.tag, event.implicit, self._by_hand), 1, event.anchor)
            elif kind is yaml.SequenceStartEvent or kind is yaml.MappingStartEvent:
                self._start(event, [] if kind is yaml.SequenceStartEvent else {})
            elif kind is yaml.SequenceEndEvent or kind is yaml.MappingEndEvent:
                done = self._open.pop()
                nodes = self._add(_merged(done.value), done.nodes, done.anchor)
            elif kind is yaml.AliasEvent:
                if event.anchor not in self._anchors:
                    raise InvalidValueError(f"the alias *{event.anchor} names nothing that is complete.")
                value, size = self._anchors[event.anchor]
                nodes = self._add(value, size, None)
            elif kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise InvalidValueError("it holds more than one document.")
            elif kind is yaml.StreamEndEvent:
                return self._result
            if nodes > MAX_NODES:
                raise InvalidValueError(f"it has more than {MAX_NODES:,} values when aliases are written out.")

    def _start(self, event: Any, value: Any) -> None:
        kind = "seq" if isinstance(value, list) else "map"
        if event.tag not in (None, "!", _PREFIX + kind):
            raise InvalidValueError(f"it asks for an object of {event.tag!r}; only plain values are read.")
        if len(self._open) >= MAX_DEPTH:
            raise InvalidValueError(f"it is nested deeper than {MAX_DEPTH} levels.")
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)
        self._open.append(_Open(value, event.anchor))

    def _add(self, value: Any, size: int, anchor: str | None) -> int:
        """Put a complete value where it belongs; give how many values the place around it has."""
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self._result = value
            return size
        around = self._open[-1]
        around.nodes += size
        if isinstance(around.value, list):
            around.value.append(value)
        elif around.waits_for_value:
            around.value[around.key] = value
            around.waits_for_value = False
        else:
            if not isinstance(value, Hashable):
                raise InvalidValueError("a key of a mapping is a list or a mapping.")
            if self._by_hand and value in around.value:
                raise key_twice("<<" if value is _MergeKey else value, f" (line {self._event.start_mark.line + 1})")
            around.key, around.waits_for_value = value, True
        return around.nodes


def _merged(value: Any) -> Any:
    if not isinstance(value, dict) or _MergeKey not in value:
        return value
    given = value.pop(_MergeKey)
    for other in given if isinstance(given, list) else [given]:
        if not isinstance(other, dict):
            raise InvalidValueError("<< is followed by something that is no mapping.")
        for key, item in other.items():
            value.setdefault(key, item)
    return value


def _scalar(text: str, tag: str | None, implicit: tuple[bool, bool], by_hand: bool) -> Any:
    # Names and numbers come again and again, and finding out what they are takes a regular expression each time.
    return (_resolved if len(text) <= _REMEMBERED_CHARACTERS else _resolved.__wrapped__)(text, tag, implicit, by_hand)


@lru_cache(50_000)
def _resolved(text: str, tag: str | None, implicit: tuple[bool, bool], by_hand: bool) -> Any:
    if tag is None or tag == "!":
        tag = _RESOLVERS[by_hand].resolve(yaml.ScalarNode, text, implicit) if tag is None else f"{_PREFIX}str"
    if tag == _MERGE:
        return _MergeKey
    if tag not in _SCALARS:
        raise InvalidValueError(f"it asks for an object of {tag!r}; only plain values are read.")
    if tag == f"{_PREFIX}null":
        return None
    if tag in (f"{_PREFIX}str", f"{_PREFIX}timestamp"):
        return text
    node = yaml.ScalarNode(tag, text)
    construct = {"int": "construct_yaml_int", "float": "construct_yaml_float", "bool": "construct_yaml_bool"}
    try:
        return getattr(_CONSTRUCTOR, construct[tag.removeprefix(_PREFIX)])(node)
    except KeyError:  # !!bool maybe
        raise InvalidValueError(f"{text[:40]!r} is no {tag.removeprefix(_PREFIX)}.") from None


class _NumbersOfNow(yaml.resolver.Resolver):
    """Knows 1e-3 and -.5, which YAML 1.1 did not."""


_NumbersOfNow.add_implicit_resolver(
    f"{_PREFIX}float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_RESOLVERS: dict[bool, Any] = {False: yaml.resolver.Resolver(), True: _NumbersOfNow()}
_CONSTRUCTOR: Any = yaml.constructor.SafeConstructor()
