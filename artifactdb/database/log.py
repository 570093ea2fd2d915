"""The write-ahead log is kept short: SQLite begins it anew only in a moment when nobody reads, which may never come."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import apsw

from artifactdb.database.turns import in_turn

LOG_BYTES = 64 << 20
"""A log that is longer is folded into the file and emptied after a commit."""
PATIENCE_S = 1.0
"""For each ``LOG_BYTES`` of the log; writers wait as long."""

_PAUSE_S = 0.01


def shorten_log(connection: apsw.Connection, path: Path, limit_bytes: int, timeout_s: float) -> int:
    """Empty a log that is longer than a limit, and give the limit for the next time.

    Who reads an older state must come to an end for that, and is waited for longer the longer the log is.
    """
    try:
        size_bytes = os.stat(f"{path}-wal").st_size  # noqa: PTH116 - after each commit
    except OSError:
        return LOG_BYTES
    if size_bytes <= limit_bytes:
        return limit_bytes
    is_empty = empty_log(connection, path, min(timeout_s / 2, PATIENCE_S * size_bytes / LOG_BYTES), timeout_s)
    return LOG_BYTES if is_empty else size_bytes + LOG_BYTES


def empty_log(connection: apsw.Connection, path: Path, patience_s: float, timeout_s: float) -> bool:
    """Fold the whole log into the file; False when others read or write for longer than it is waited for them.

    They lose nothing by it, and neither does what was committed: the next one does it. Who comes to read does not wait.
    """
    deadline = time.monotonic() + patience_s

    # Asked again and again, while nobody else comes to write: when SQLite itself waits, it waits for a place that
    # readers of the newest state, whom it need not wait for, take over from each other without end.
    def fold() -> bool:
        while True:
            with suppress(apsw.BusyError):
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_S)

    connection.set_busy_timeout(0)
    try:
        return in_turn(path, patience_s, fold)
    except apsw.Error:
        return False  # said when it is read or written the next time
    finally:
        connection.set_busy_timeout(int(timeout_s * 1000))
