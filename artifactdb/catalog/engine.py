"""DuckDB, locked down: it reads the catalog folder and what it is handed, and nothing else of the machine."""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from artifactdb.catalog.files import CatalogFile
from artifactdb.errors import ArtifactDBError, CatalogFileError, InvalidValueError, QueryError, StorageFullError

_READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_FORBIDDEN = {"damerau_levenshtein", "query", "query_table", "write_log"}
"""Functions that run SQL from a text, which nobody has read; that write; that cannot be stopped and take gigabytes."""
_GONE_AT_MOST = 64
"""Files that are no more, and that a DuckDB may still remember."""
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?!ANALY[SZ]E\b)([A-Z(].*)", re.IGNORECASE | re.DOTALL)


@dataclass(slots=True, eq=False, weakref_slot=True)
class Session:
    """A cursor that one thread uses again and again, and the views it has made so far."""

    cursor: duckdb.DuckDBPyConnection
    opened: duckdb.DuckDBPyConnection
    views: dict[str, str] = field(default_factory=dict)
    registered: set[str] = field(default_factory=set)

    def view(self, name: str, select: str) -> None:
        """Make a temporary view, unless it is there already."""
        if self.views.get(name) != select:
            with translated():  # the files are looked into
                self.cursor.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {select}")
            self.views[name] = select

    def register(self, name: str, dataset: Any) -> None:
        """Hand over a table for as long as the session is lent."""
        with translated():  # it is asked for its schema
            self.cursor.register(name, dataset)
        self.registered.add(name)
        self.views.pop(name, None)


class Engine:
    """One DuckDB in memory for each process; threads have cursors of their own."""

    def __init__(self, folders: Sequence[Path], memory_limit: str | None = None) -> None:
        self.folders = folders
        self.memory_limit = memory_limit
        self._guard = threading.Lock()
        self._local = threading.local()
        self._duckdb: duckdb.DuckDBPyConnection | None = None
        self._names: dict[str, int] = {}
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        _engines.add(self)

    @contextmanager
    def session(self, files: Sequence[CatalogFile]) -> Iterator[Session]:
        """Lend this thread's session; what was handed over in the block is taken back when it ends."""
        opened = self._current(files)
        session: Session | None = getattr(self._local, "session", None)
        self._local.session = None
        if session is None or session.opened is not opened:
            session = Session(opened.cursor(), opened)
            self._sessions.add(session)
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
            # A name that another file took since must not be answered from what was remembered of the first.
            replaced = any(self._names.get(file.name, file.file_key) != file.file_key for file in files)
            # What it remembers of a file takes some ten kilobytes, which it keeps when the file is gone.
            gone = bool(files) and len(self._names) > 2 * len(files) + _GONE_AT_MOST
            if self._duckdb is None or replaced or gone:
                self._duckdb = self._open()
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
            # With it, NaN bounds every column of scores from above, and is given as its max where no row is looked at.
            "disabled_optimizers": "statistics_propagation",
            # One of its own: whatever lies in DuckDB's folder for spilling may be read by SQL too.
            "temp_directory": str(Path(tempfile.gettempdir()) / f"artifactdb-{os.getpid()}-{secrets.token_hex(8)}"),
        }
        if self.memory_limit is not None:
            settings["memory_limit"] = self.memory_limit
        try:
            for name, value in settings.items():
                connection.execute(f"SET GLOBAL {name} = {literal(value)}")
        except duckdb.Error as error:
            raise InvalidValueError(f"memory_limit={self.memory_limit!r} is not understood ({error}).") from None
        folders = {text for folder in self.folders for text in (str(folder), escaped(folder))}
        connection.execute(f"SET GLOBAL allowed_directories = [{', '.join(map(literal, sorted(folders)))}]")
        connection.execute("SET GLOBAL enable_external_access = false")
        connection.execute("SET GLOBAL lock_configuration = true")
        return connection

    def connections(self) -> list[Any]:
        """Give everything of DuckDB that this engine has made and that is still there."""
        return [self._duckdb, *(part for session in self._sessions for part in (session.cursor, session.opened))]

    def start_again(self) -> None:
        """Forget every connection, as a forked child must."""
        self._guard = threading.Lock()
        self._local = threading.local()
        self._sessions = weakref.WeakSet()
        self._duckdb = None


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_held_over_fork: list[Any] = []


def _before_fork() -> None:
    _held_over_fork[:] = [part for engine in list(_engines) for part in engine.connections() if part is not None]


def _after_fork_in_child() -> None:
    # Taking DuckDB down waits for its threads, and the child has none of them: what it inherited must never go.
    for part in _held_over_fork:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))
    for engine in list(_engines):
        engine.start_again()
    _held_over_fork.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_held_over_fork.clear, after_in_child=_after_fork_in_child)


def escaped(path: Path) -> str:
    """Give a path whose characters stand for themselves where DuckDB reads patterns.

    Examples
    --------
    >>> escaped(Path("run[1]*"))
    'run[[]1][*]'
    """
    return re.sub(r"[*?\[]", lambda found: f"[{found[0]}]", str(path))


def parquet_rows(paths: Iterable[Path]) -> str:
    """Give the table function that reads files, and takes nothing for a column but what they hold."""
    return f"read_parquet([{', '.join(literal(escaped(path)) for path in paths)}], hive_partitioning = false)"


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
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise InvalidValueError(f"DuckDB takes no such text ({error}).") from None
    with translated():
        statements = cursor.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError(f"one statement at a time; this is {len(statements)}.")
    (kind,) = (statement.type for statement in statements)
    explained = _EXPLAIN.match(sql)
    if kind == duckdb.StatementType.EXPLAIN and explained:
        require_reading(cursor, explained[1])
        return
    tree = _parsed(cursor, sql) if kind == duckdb.StatementType.SELECT else {}
    forbidden = _FORBIDDEN & set(_values(tree, "function_name"))
    if forbidden:
        raise QueryError(f"a query may not use {', '.join(sorted(forbidden))}.")
    if not tree or any(node.endswith("_NODE") and node not in _READING_NODES for node in _values(tree, "type")):
        raise QueryError(
            f"a query may only read; this is {kind.name}{', and a part of it writes' * (kind.name == 'SELECT')}.",
            hint="SELECT, FROM, WITH, DESCRIBE, SUMMARIZE and EXPLAIN read; `PIVOT … ON x IN (…)` is a SELECT too.",
        )


def _parsed(cursor: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    """Give the syntax tree of a SELECT; nothing when a part of it is anything else, as DuckDB 2 lets CTEs write."""
    ((text,),) = cursor.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    parsed: dict[str, Any] = json.loads(text)
    return {} if parsed["error"] else parsed


def _values(tree: Any, key: str) -> Iterator[str]:
    """Give every text that stands under a key."""
    if isinstance(tree, dict):
        if isinstance(tree.get(key), str):
            yield tree[key]
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from _values(value, key)


@contextmanager
def time_limit(cursor: duckdb.DuckDBPyConnection, timeout_s: float | None) -> Iterator[None]:
    """Interrupt what the cursor is doing after so many seconds."""
    if timeout_s is None:
        yield
        return
    timer = threading.Timer(min(timeout_s, threading.TIMEOUT_MAX), cursor.interrupt)
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
        raise QueryError(
            "the query ran longer than it was given.", hint="Raise timeout_s (--timeout), or ask less."
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise QueryError(
            f"the query needs more memory than it was given ({_first_line(error)}).",
            hint="Raise memory_limit (--memory).",
        ) from error
    except duckdb.PermissionException as error:
        raise QueryError(f"a query may read the catalog and nothing else ({_first_line(error)}).") from error
    except duckdb.IOException as error:
        raise StorageFullError(f"a file could not be read or written ({_first_line(error)}).") from error
    except (UnicodeDecodeError, pa.ArrowException) as error:
        raise CatalogFileError(
            f"a Parquet file holds what artifactdb never writes ({_first_line(error)}).",
            hint="`artifactdb catalog verify` lists what is wrong.",
        ) from error
    except duckdb.Error as error:
        # What was raised within a table of ours comes back wrapped.
        if isinstance(error.__cause__, ArtifactDBError):
            raise error.__cause__ from error.__cause__.__cause__
        if "KeyboardInterrupt" in str(error):  # it came where DuckDB called a function of Python's
            raise KeyboardInterrupt from error
        raise QueryError(f"DuckDB: {str(error).strip()}") from error
    except RuntimeError as error:
        if str(error) == "Query interrupted":  # what DuckDB makes of an interrupt by the keyboard
            raise KeyboardInterrupt from error
        raise


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
