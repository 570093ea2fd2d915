"""How much memory SQLite may take for what somebody asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

QUERY_BYTES = 256 << 20
"""For one query: what it sorts and keeps beyond that spills to temporary files or ends it."""

_guard = threading.Lock()
_asking = 0
_usual = 0


@contextmanager
def bounded() -> Iterator[None]:
    """Let SQLite refuse memory beyond what a query may have while the block lasts.

    SQLite knows one such bound for the whole process; several queries at once raise it by as many times.
    """
    global _asking, _usual
    with _guard:
        if not _asking:
            _usual = apsw.hard_heap_limit(-1)
        _asking += 1
        _set()
    try:
        yield
    finally:
        with _guard:
            _asking -= 1
            _set()


def _set() -> None:
    wanted = apsw.memory_used() + _asking * QUERY_BYTES if _asking else _usual
    apsw.hard_heap_limit(min(wanted, _usual) if _usual else wanted)
