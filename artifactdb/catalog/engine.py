"""DuckDB, locked down: it reads the catalog folder and what it is handed, and nothing else of the machine."""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from artifactdb.catalog.files import CatalogFile
from artifactdb.errors import ArtifactDBError, InvalidValueError, QueryError, StorageFullError

_READING = (duckdb.StatementType.SELECT,)


@dataclass(slots=True)
class Session:
    """A cursor that one thread uses again and again, and the views it has made so far."""

    cursor: duckdb.DuckDBPyConnection
    opened: duckdb.DuckDBPyConnection
    views: dict[str, str] = field(default_factory=dict)
    registered: set[str] = field(default_factory=set)

    def view(self, name: str, select: str) -> None:
        """Make a temporary view, unless it is there already."""
        if self.views.get(name) != select:
            self.cursor.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {select}")
            self.views[name] = select

    def register(self, name: str, dataset: Any) -> None:
        """Hand over a table for as long as the session is lent."""
        self.cursor.register(name, dataset)
        self.registered.add(name)
        self.views.pop(name, None)


class Engine:
    """One DuckDB in memory for each process; threads have cursors of their own."""

    def __init__(self, folder: Path, memory_limit: str | None = None, threads: int | None = None) -> None:
        self.folder = folder
        self.memory_limit = memory_limit
        self.threads = threads
        self._guard = threading.Lock()
        self._local = threading.local()
        self._duckdb: duckdb.DuckDBPyConnection | None = None
        self._process = 0
        self._names: dict[str, int] = {}

    @contextmanager
    def session(self, files: Sequence[CatalogFile]) -> Iterator[Session]:
        """Lend this thread's session; what was handed over in the block is taken back when it ends."""
        opened = self._current(files)
        session: Session | None = getattr(self._local, "session", None)
        self._local.session = None
        if session is None or session.opened is not opened:
            session = Session(opened.cursor(), opened)
        try:
            yield session
            for name in session.registered:
                session.cursor.unregister(name)
            session.registered.clear()
        except BaseException:
            session.cursor.close()
            raise
        self._local.session = session

    def _current(self, files: Sequence[CatalogFile]) -> duckdb.DuckDBPyConnection:
        with self._guard:
            # A forked child must not use its parent's threads, and a name that another file took since must not be
            # answered from what was remembered of the first.
            replaced = any(self._names.get(file.name, file.file_key) != file.file_key for file in files)
            if self._duckdb is None or self._process != os.getpid() or replaced:
                self._duckdb = self._open()
                self._process = os.getpid()
                self._names = {}
            self._names.update((file.name, file.file_key) for file in files)
            return self._duckdb

    def _open(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect(":memory:")
        settings: dict[str, Any] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "python_enable_replacements": False,
            "parquet_metadata_cache": True,
            # The statistics of a row group leave NaN out; without this a condition on scores is optimized away.
            "parquet_can_have_nan": True,
            # One of its own: whatever lies in DuckDB's folder for spilling may be read by SQL too.
            "temp_directory": str(Path(tempfile.gettempdir()) / f"artifactdb-{os.getpid()}-{secrets.token_hex(8)}"),
        }
        if self.memory_limit is not None:
            settings["memory_limit"] = self.memory_limit
        if self.threads is not None:
            settings["threads"] = self.threads
        try:
            for name, value in settings.items():
                connection.execute(f"SET GLOBAL {name} = {literal(value)}")
        except duckdb.Error as error:
            raise InvalidValueError(f"memory_limit={self.memory_limit!r} is not understood ({error}).") from None
        connection.execute(f"SET GLOBAL allowed_directories = [{literal(str(self.folder))}]")
        connection.execute("SET GLOBAL enable_external_access = false")
        connection.execute("SET GLOBAL lock_configuration = true")
        return connection


def literal(value: Any) -> str:
    """Give a value as SQL writes it."""
    if isinstance(value, bool | int):
        return str(value).lower()
    return "'" + str(value).replace("'", "''") + "'"


def require_reading(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse SQL that is not one statement that reads.

    Raises
    ------
    QueryError
    """
    if not isinstance(sql, str):
        raise InvalidValueError(f"sql is a string, not {type(sql).__name__}.")
    with translated():
        statements = cursor.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"one statement at a time; this is {len(statements)}.")
    (statement,) = statements
    if statement.type == duckdb.StatementType.EXPLAIN:
        words = sql.split(None, 2)
        if len(words) == 3 and words[1].lower() != "analyze" and not words[1].startswith("("):
            return
    if statement.type not in _READING:
        raise QueryError(
            f"a query may only read; this is {statement.type.name}.",
            hint="SELECT, FROM, WITH, DESCRIBE, SUMMARIZE and EXPLAIN read; `PIVOT … ON x IN (…)` is a SELECT too.",
        )


@contextmanager
def time_limit(cursor: duckdb.DuckDBPyConnection, timeout_s: float | None) -> Iterator[None]:
    """Interrupt what the cursor is doing after so many seconds."""
    if timeout_s is None:
        yield
        return
    timer = threading.Timer(timeout_s, cursor.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def translated() -> Iterator[None]:
    """Turn what DuckDB raises inside the block into errors of ours."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise QueryError("the query ran longer than it was given.", hint="Raise timeout_s, or ask less.") from error
    except duckdb.OutOfMemoryException as error:
        raise QueryError(
            f"the query needs more memory than it was given ({_first_line(error)}).", hint="Raise memory_limit."
        ) from error
    except duckdb.PermissionException as error:
        raise QueryError(f"a query may read the catalog and nothing else ({_first_line(error)}).") from error
    except duckdb.IOException as error:
        raise StorageFullError(f"a file could not be read or written ({_first_line(error)}).") from error
    except duckdb.Error as error:
        # What was raised within a table of ours comes back wrapped.
        if isinstance(error.__cause__, ArtifactDBError):
            raise error.__cause__ from None
        raise QueryError(f"DuckDB: {str(error).strip()}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
