"""Much is written: what SQLite would do at each commit is done aside by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw

from artifactdb.database.connection import Database
from artifactdb.errors import ArtifactDBError

_EVERY_SECONDS = 0.1
_USUAL_PAGES = 1000


@contextmanager
def checkpoints_aside(database: Database) -> Iterator[None]:
    """Fold the write-ahead log into the file while the block goes on, instead of within its commits.

    What is committed is as durable as else.
    """
    connection = database.connection()
    connection.wal_autocheckpoint(0)
    ended = threading.Event()
    thread = threading.Thread(target=_checkpoint, args=(database, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(apsw.ConnectionClosedError):  # one that could not be rolled back gave way to another
            connection.wal_autocheckpoint(_USUAL_PAGES)


def _checkpoint(database: Database, ended: threading.Event) -> None:
    while not ended.wait(_EVERY_SECONDS):
        with suppress(ArtifactDBError):  # another time, or when the last connection closes
            database.rows("PRAGMA wal_checkpoint(PASSIVE)")
