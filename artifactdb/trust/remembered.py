"""What the user has allowed, remembered by content: a changed blob asks again, a copy of the file does not.

A small SQLite file in the user's folder; it is no workspace.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import apsw

from artifactdb.database import disk
from artifactdb.database.strict import restrict
from artifactdb.database.translate import translated
from artifactdb.errors import ReadOnlyError
from artifactdb.trust.home import home

FILE: Final = "trusted.sqlite"
_WAIT_MS: Final = 10_000
_TABLE = """
CREATE TABLE IF NOT EXISTS contents (
  -- What may be loaded, whichever workspace it lies in.
  content_hash TEXT NOT NULL, -- sha256: and 64 hex digits
  format TEXT NOT NULL, -- how it is read: the same bytes can be harmless in one format
  trusted_at TEXT NOT NULL, -- ISO 8601, UTC
  seen_in TEXT NOT NULL, -- name of the file for which it was allowed
  PRIMARY KEY (content_hash, format)
) STRICT, WITHOUT ROWID
"""


def is_allowed(content_hash: str, format: str) -> bool:
    """Tell whether the user allowed a content ("sha256:" and hex digits) to be loaded in a format."""
    if not (home() / FILE).exists():
        return False
    with _opened() as connection:
        sql = "SELECT 1 FROM contents WHERE content_hash = ? AND format = ?"
        if not connection.table_exists("main", "contents"):
            return False  # another process is just making it
        return connection.execute(sql, (content_hash, format)).fetchone() is not None


def allow(contents: Iterable[tuple[str, str]], seen_in: str) -> int:
    """Remember that contents, each with its format, may be loaded; give how many are new."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with _changing() as connection:
        before = connection.total_changes()
        connection.executemany(
            "INSERT OR IGNORE INTO contents VALUES (?, ?, ?, ?)",
            [(content_hash, format, now, seen_in) for content_hash, format in contents],
        )
        return connection.total_changes() - before


def forget(contents: Iterable[tuple[str, str]]) -> int:
    """Take back what ``allow`` did; give how many were allowed."""
    if not (home() / FILE).exists():
        return 0
    with _changing() as connection:
        before = connection.total_changes()
        connection.executemany("DELETE FROM contents WHERE content_hash = ? AND format = ?", list(contents))
        return connection.total_changes() - before


@contextmanager
def _changing() -> Generator[apsw.Connection, None, None]:
    folder = home()
    try:
        disk.make_folder(folder, 0o700)
    except OSError as error:
        raise ReadOnlyError(
            f"what is trusted cannot be remembered in {folder} ({error.strerror}).",
            hint="Let ARTIFACTDB_HOME name a folder that can be written.",
        ) from None
    with _opened(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE) as connection:
        connection.execute(_TABLE).fetchall()
        with connection:
            yield connection


@contextmanager
def _opened(flags: int = apsw.SQLITE_OPEN_READONLY) -> Generator[apsw.Connection, None, None]:
    file = home() / FILE
    with translated(file):
        connection = restrict(apsw.Connection(str(file), flags))
        try:
            connection.set_busy_timeout(_WAIT_MS)
            yield connection
        finally:
            connection.close()
