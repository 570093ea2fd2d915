"""Keys that go along when an open workspace is pickled, so that a worker can check and sign what is in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Grants = dict[str, bytes]
"""Keys for signatures, by what those signatures begin with: whose key it is, and in which workspace."""

_sources: list[Callable[[Any], Grants]] = []
_pickling = threading.local()


def granted_by(source: Callable[[Any], Grants]) -> Callable[[Any], Grants]:
    """Let a function say which keys go along with a database; who knows of signatures is further up."""
    _sources.append(source)
    return source


def grants_of(database: Any) -> Grants:
    """Give the keys that go along with a database."""
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
