"""Formats that other programs write. Their bytes are kept as they came and read by the library that made them."""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

from artifactdb.content import Content, Segment, StoredContent
from artifactdb.errors import DeserializationError
from artifactdb.formats.serializer import Dumped


class JoblibSerializer:
    """A joblib file, as scikit-learn's documentation recommends and nirs4all writes."""

    name = "joblib"
    extension = "joblib"
    executable = True

    def dump(self, obj: Any) -> Dumped:
        """Give the bytes of ``joblib.dump``; they may differ between processes."""
        import joblib

        file = io.BytesIO()
        joblib.dump(obj, file)
        return Dumped(_bytes(file.getvalue()), frozenset({"joblib", type(obj).__module__.partition(".")[0]}))

    def load(self, content: StoredContent) -> Any:
        """Read with joblib."""
        import joblib

        return joblib.load(io.BytesIO(content.data))


class PlainPickleSerializer:
    """A bare pickle, of any protocol, as ``pickle.dump`` and cloudpickle write it."""

    name = "pickle"
    extension = "pkl"
    executable = True

    def dump(self, obj: Any) -> Dumped:
        """Give the bytes of ``pickle.dumps``; they may differ between processes."""
        return Dumped(_bytes(pickle.dumps(obj, 5)), frozenset({type(obj).__module__.partition(".")[0]}))

    def load(self, content: StoredContent) -> Any:
        """Read with pickle."""
        return pickle.loads(content.data)


class JsonSerializer:
    """JSON text in UTF-8, for what is plain data."""

    name = "json"
    extension = "json"
    executable = False

    def dump(self, obj: Any) -> Dumped:
        """Give compact JSON; raises when anything in it would not come back equal, of the same type and as often."""
        text = json.dumps(obj, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        _require_same(obj, json.loads(text), set())
        return Dumped(_bytes(text.encode()))

    def load(self, content: StoredContent) -> Any:
        """Parse the text."""
        try:
            return json.loads(content.data)
        except (ValueError, RecursionError, MemoryError) as error:
            raise DeserializationError(f"it is no JSON ({type(error).__name__}: {error}).") from error


def _require_same(obj: Any, read: Any, seen: set[int]) -> None:
    """See that what was read is what was written; ``==`` takes a subclass, or what answers for itself, for the same."""
    kind = type(obj)
    if kind is not type(read):
        raise TypeError(f"JSON would give {kind.__module__}.{kind.__qualname__} back as {type(read).__qualname__}")
    if kind is list or kind is dict:
        if id(obj) in seen:
            raise TypeError(f"the same {kind.__qualname__} stands there twice")
        seen.add(id(obj))
        holders = [(*each, *each.values()) if kind is dict else each for each in (obj, read)]
        for item, other in zip(*holders, strict=True):
            _require_same(item, other, seen)
    elif obj != read:
        raise TypeError("JSON would not give back an equal object")


def _bytes(data: bytes) -> Content:
    return Content([Segment(data)])
