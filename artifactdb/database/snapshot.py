"""Copies of a workspace: a backup file, a snapshot for sqlite-utils, and space given back to the file system."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from artifactdb.database.connection import Database
from artifactdb.database.log import PATIENCE_S, empty_log
from artifactdb.database.making import new_file
from artifactdb.database.opening import connect
from artifactdb.database.strict import restrict
from artifactdb.database.translate import translated
from artifactdb.errors import CorruptWorkspaceError

if TYPE_CHECKING:
    import sqlite_utils

_PAGES_A_STEP = 2000
_TABLES = """
SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
AND name NOT IN ('chunks', 'staged_arrays', 'catalog_payloads')
"""


def backup(database: Database, target: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Copy the file page by page within one read transaction, check the copy, then give it its name."""
    if target.is_dir():
        target = target / database.path.name
    with new_file(target) as unfinished, translated(target):
        copy(database, unfinished, progress)
    return target


def copy_as_it_is(path: Path, target: Path) -> Path:
    """Copy a workspace of any schema without opening it as one."""
    with (
        translated(path),
        closing(connect(path, writable=False, sealed=True)) as source,
        closing(restrict(apsw.Connection(str(target)))) as copy,
        copy.backup("main", source, "main") as work,
    ):
        work.step()
    return target


def copy(database: Database, target: Path, progress: Callable[[int, int], None] | None) -> None:
    """Copy the file page by page over another one, and check the copy."""
    with closing(database.open_reader()) as source, closing(restrict(apsw.Connection(str(target)))) as made:
        made.pragma("locking_mode", "EXCLUSIVE")  # nobody knows of it yet, and it may lie where machines share files
        # One read transaction keeps the source as it is now, so that writers cannot make the copy start again.
        source.execute("BEGIN")
        source.execute("SELECT 1 FROM sqlite_schema").fetchall()
        with made.backup("main", source, "main") as work:
            while not work.done:
                work.step(_PAGES_A_STEP)
                if progress:
                    progress(work.page_count - work.remaining, work.page_count)
        made.pragma("journal_mode", "DELETE")
        found = made.execute("PRAGMA quick_check").fetchone()
        if found != ("ok",):
            raise CorruptWorkspaceError(f"the copy of {database.path} is damaged ({found}).")
        # At rest a workspace is one file in WAL mode.
        made.pragma("journal_mode", "WAL")


class _Snapshot(sqlite3.Connection):
    """Unlike its base it can be referred to weakly, as the function ``artifact_size`` does: else it would never go."""


def sqlite_utils_database(database: Database) -> sqlite_utils.Database:
    """Copy records and views into memory, and open the copy with sqlite-utils.

    The copy is handed over as bytes: no other engine ever opens the file itself.
    """
    import sqlite_utils

    with (
        translated(database.path),
        closing(database.open_reader()) as source,
        closing(restrict(apsw.Connection(":memory:"))) as copy,
    ):
        source.execute("BEGIN")
        copy.pragma("foreign_keys", False)
        copy.execute("BEGIN")
        for name, sql in source.execute(_TABLES).fetchall():
            copy.execute(str(sql))
            rows = source.execute(f"SELECT {_without_payload(source, str(name))} FROM {name}")
            first = rows.fetchone()
            if first is not None:
                insert = f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(first))})'
                copy.execute(insert, first)
                copy.executemany(insert, rows)
        for (sql,) in source.execute("SELECT sql FROM sqlite_schema WHERE type IN ('index', 'view') AND sql NOT NULL"):
            copy.execute(str(sql))
        copy.execute("COMMIT")
        copy.pragma("application_id", source.pragma("application_id"))
        content = copy.serialize("main")
        if content is None:  # as APSW has it where SQLite finds no memory for it
            raise apsw.NoMemError("out of memory")
    connection = sqlite3.connect(":memory:", check_same_thread=False, factory=_Snapshot)
    connection.deserialize(content)
    return sqlite_utils.Database(connection)


def _without_payload(source: apsw.Connection, table: str) -> str:
    """Give a table's columns, the filters of Parquet files left empty: for millions of predictions they are large."""
    columns = [str(name) for (name,) in source.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    return ", ".join("x''" if column == "id_filter" else f'"{column}"' for column in columns)


def fold_log(database: Database) -> None:
    """Fold the write-ahead log into the file.

    Raises
    ------
    BusyError
        When others read or write.
    """
    with translated(database.path):
        database.connection().wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def release_space(database: Database, *, wait: bool = True) -> None:
    """Give free pages back to the file system, and fold the write-ahead log into the file.

    As long as others read an older state the file keeps its size; who comes to write later does the rest.

    Raises
    ------
    BusyError
        When others write for longer than the database waits; with ``wait`` false, at once.
    """
    with database.transaction(wait=wait):
        database.rows("PRAGMA incremental_vacuum")
    if not database.in_transaction:
        empty_log(database.connection(), database.path, PATIENCE_S if wait else 0.0, database.timeout_s)
