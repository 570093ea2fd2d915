"""Keys that go along when an open workspace is pickled, so that a worker can check and sign what is in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, SupportsIndex

from artifactdb.errors import SerializationError


class Secret:
    """What holds a key. It is not pickled, so that no object takes it along into a file that is sent away."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise SerializationError(
            f"{type(self).__name__} holds a key of the user's, which stays in this process.",
            hint="Pickle the open workspace for a worker: what it needs goes along.",
        )


class Grants(Secret, dict[str, bytes]):
    """Keys for signatures, by what those signatures begin with: whose key it is, and in which workspace."""

    def __repr__(self) -> str:
        return f"<keys for {', '.join(self) or 'nothing'}>"


_sources: list[Callable[[Any], dict[str, bytes]]] = []
_pickling = threading.local()


def granted_by(source: Callable[[Any], dict[str, bytes]]) -> Callable[[Any], dict[str, bytes]]:
    """Let a function say which keys go along with a database; who knows of signatures is further up."""
    _sources.append(source)
    return source


def grants_of(database: Any) -> dict[str, bytes]:
    """Give the keys that go along with a database, as a plain dict for its state alone."""
    if getattr(_pickling, "into_files", 0):
        return {}
    return {name: key for source in _sources for name, key in source(database).items()}


@contextmanager
def without_grants() -> Iterator[None]:
    """Keep keys out of what this thread pickles while the block lasts: it goes to a file, not to a worker."""
    _pickling.into_files = getattr(_pickling, "into_files", 0) + 1
    try:
        yield
    finally:
        _pickling.into_files -= 1
