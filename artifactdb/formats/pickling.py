"""The two serializers for Python objects: C pickle where it suffices, dill where classes must travel by value."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from artifactdb.content import StoredContent
from artifactdb.formats.canonical import MAX_STREAM_BYTES, UnknownOpcodeError, canonical
from artifactdb.formats.container import pack, unpack
from artifactdb.formats.reduction import Reducer, importable_elsewhere
from artifactdb.formats.serializer import Dumped


class _CPickler(pickle.Pickler):
    """A subclass only so that it can be given a ``reducer_override``."""


class PickleSerializer:
    """C pickle, protocol 5, with arrays out of band and a canonical stream."""

    name = "pickle5"
    extension = "adb"
    executable = True

    def dump(self, obj: Any) -> Dumped:
        """Take an object apart; raises whatever pickle raises, and ByValueNeededError."""
        file, reducer = io.BytesIO(), Reducer(by_value=False)
        pickler = _CPickler(file, protocol=5, buffer_callback=reducer.take_buffer)
        pickler.reducer_override = reducer.reducer_override  # type: ignore[method-assign]
        pickler.dump(obj)
        return _finish(file.getvalue(), reducer, obj)

    def load(self, content: StoredContent) -> Any:
        """Put an object together again."""
        stream, buffers = unpack(content)
        return pickle.loads(stream, buffers=buffers)


class DillSerializer:
    """dill, for lambdas, closures and whatever a script, notebook or test module defines."""

    name = "dill"
    extension = "dill"
    executable = True

    def dump(self, obj: Any) -> Dumped:
        """Take an object apart with all code that cannot be imported elsewhere."""
        import dill

        file, reducer = io.BytesIO(), Reducer(by_value=True)
        pickler = dill.Pickler(file, protocol=5, recurse=True, byref=False, buffer_callback=reducer.take_buffer)
        pickler.reducer_override = reducer.reducer_override
        with _by_value():
            pickler.dump(obj)
        return _finish(file.getvalue(), reducer, obj)

    def load(self, content: StoredContent) -> Any:
        """Put an object together again, its code included."""
        import dill

        stream, buffers = unpack(content)
        return dill.Unpickler(io.BytesIO(stream), buffers=buffers, ignore=True).load()


def _finish(stream: bytes, reducer: Reducer, obj: Any) -> Dumped:
    modules = {type(obj).__module__}
    if len(stream) <= MAX_STREAM_BYTES:
        try:
            stream, imports = canonical(stream, reducer.writable)
            modules = {module for module, _ in imports}
        except UnknownOpcodeError:
            pass  # kept as the pickler wrote it: right, but not always the same bytes
    return Dumped(pack(stream, reducer.buffers), frozenset(module.partition(".")[0] for module in modules))


_dill_lock = threading.Lock()


@contextmanager
def _by_value() -> Iterator[None]:
    """Let dill write out what cannot be imported elsewhere; it only knows ``__main__`` for such a place."""
    from dill import _dill

    located = _dill._locate_function

    def locate(obj: Any, pickler: Any = None) -> bool:
        return importable_elsewhere(obj) and bool(located(obj, pickler))

    with _dill_lock:
        _dill._locate_function = locate
        try:
            yield
        finally:
            _dill._locate_function = located
