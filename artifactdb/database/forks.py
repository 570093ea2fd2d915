"""Where SQLite opens a file, or works without a session, a fork waits: its own locks would stay taken in the child."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_lock = threading.RLock()


@contextmanager
def unforked() -> Iterator[None]:
    """Let no fork come while the block lasts; one thread at a time is in such a block."""
    with _lock:
        yield


def hold(patience_s: float) -> None:
    """Wait for the thread in such a block; called before a fork."""
    _lock.acquire(timeout=patience_s)


def let_go(*, in_child: bool) -> None:
    """Let threads into such blocks again; called after a fork."""
    global _lock
    if in_child:
        _lock = threading.RLock()
    else:
        with suppress(RuntimeError):  # it was not had in time
            _lock.release()
