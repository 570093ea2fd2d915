"""SQL of the user's, which can read and nothing else: read-only connection, authorizer, time and row limits."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import apsw

from artifactdb.database.connection import Database
from artifactdb.database.functions import ALLOWED, bound_functions
from artifactdb.database.memory import QUERY_BYTES, bounded
from artifactdb.database.opening import require_timeout
from artifactdb.database.translate import translated
from artifactdb.errors import BusyError, InvalidValueError, QueryError
from artifactdb.ids import validate_count
from artifactdb.results import QueryResult, told_apart

_READING_PRAGMAS = {
    "application_id", "compile_options", "data_version", "encoding", "foreign_key_list", "freelist_count",
    "function_list", "index_info", "index_list", "index_xinfo", "page_count", "page_size", "pragma_list",
    "schema_version", "table_info", "table_list", "table_xinfo", "user_version",
}  # fmt: skip
_PRAGMAS_WITH_ARGUMENT = {
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "table_info",
    "table_list",
    "table_xinfo",
}
_READING_ACTIONS = {apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE}
_STEPS_BETWEEN_CLOCK_READINGS = 5000
_VALUE_BYTES = 128 << 20
"""Of one value. Within a transaction it is the only bound: too little memory would take back what was done."""
_MATCHED_BYTES = 16 << 20
"""Of one value in a statement with LIKE or GLOB, which take seconds for that and cannot be stopped."""
_ANSWER_BYTES = 1 << 30
_BYTES_OF_A_VALUE = 40
_TRIES = 3


def query(
    database: Database,
    sql: str,
    parameters: Sequence[Any] | dict[str, Any] = (),
    *,
    timeout_s: float | None = None,
    max_rows: int | None = None,
) -> QueryResult:
    """Run one SQL statement that only reads.

    Inside a transaction of this thread it sees what the transaction has changed so far.

    Raises
    ------
    QueryError
        When the SQL is wrong, more than one statement, would change anything, takes longer than ``timeout_s`` seconds,
        or needs more memory than 256 MB for itself and 1 GB for its answer; when a parameter has no value.
    """
    if not isinstance(sql, str):
        raise InvalidValueError(f"sql is a string, not {type(sql).__name__}.")
    max_rows = checked_limit(timeout_s, max_rows)
    try:
        if isinstance(parameters, Mapping):
            parameters = {name: plain(value) for name, value in parameters.items()}
        else:
            parameters = [plain(value) for value in (() if parameters is None else parameters)]
        with translated(database.path):
            if database.in_transaction:
                return _run(database.connection(), sql, parameters, timeout_s, max_rows)
            for _ in range(_TRIES):
                with suppress(BusyError):  # the file was changed while a reader without locks looked at it
                    return _ask(database, sql, parameters, timeout_s, max_rows)
            return _ask(database, sql, parameters, timeout_s, max_rows)
    except KeyError as error:
        raise QueryError(f"no value is given for :{error.args[0]}.", hint="Give each named parameter one.") from None
    except (UnicodeEncodeError, OverflowError, TypeError) as error:
        raise InvalidValueError(f"SQLite takes no such text or number ({error}).") from None


def checked_limit(timeout_s: float | None, max_rows: int | None) -> int | None:
    """Give how many rows are wanted; refuses limits that make no sense."""
    if timeout_s is not None:
        require_timeout(timeout_s)
    return None if max_rows is None else validate_count("max_rows (--limit)", max_rows)


def plain(value: Any) -> Any:
    """Give a scalar of numpy as Python's own: APSW would bind its bytes, as of any buffer."""
    return value.item() if getattr(value, "shape", None) == () else value


def _ask(
    database: Database,
    sql: str,
    parameters: Sequence[Any] | dict[str, Any],
    timeout_s: float | None,
    max_rows: int | None,
) -> QueryResult:
    connection = database.open_reader()
    try:
        connection.pragma("cache_size", -8192)
        bound_functions(connection)
        with bounded():
            return _run(connection, sql, parameters, timeout_s, max_rows)
    except apsw.NoMemError:
        raise QueryError(
            f"the query needs more than {QUERY_BYTES >> 20} MB of memory.", hint="Ask for less at once."
        ) from None
    finally:
        connection.close()


def _run(
    connection: apsw.Connection,
    sql: str,
    parameters: Sequence[Any] | dict[str, Any],
    timeout_s: float | None,
    max_rows: int | None,
) -> QueryResult:
    usual = connection.limit(apsw.SQLITE_LIMIT_LENGTH, _VALUE_BYTES)
    connection.authorizer = partial(_only_reads, connection)
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    # Without a deadline too: it is where an interrupt by the keyboard is seen.
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_CLOCK_READINGS)
    try:
        return _answer(connection, sql, parameters, max_rows)
    finally:
        connection.authorizer = None
        connection.set_progress_handler(None)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, usual)


def _answer(
    connection: apsw.Connection, sql: str, parameters: Sequence[Any] | dict[str, Any], max_rows: int | None
) -> QueryResult:
    columns: list[str] = []

    def describe(cursor: apsw.Cursor, *_: object) -> bool:
        # As it begins: APSW forgets the columns of a statement that gave no row.
        named = [name for name, *_ in cursor.get_description()]
        if columns and named:
            raise QueryError("that is more than one statement.", hint="Ask one at a time.")
        columns.extend(told_apart(named))
        return True

    cursor = connection.cursor()
    cursor.exec_trace = describe
    cursor.execute(sql, parameters)
    rows: list[tuple[Any, ...]] = []
    room = _ANSWER_BYTES
    for row in cursor:
        if max_rows is not None and len(rows) >= max_rows:
            cursor.close(True)
            return QueryResult(columns, rows, truncated=True)
        room -= _BYTES_OF_A_VALUE * len(row) + sum([len(v) for v in row if isinstance(v, str | bytes)])
        if room < 0:
            cursor.close(True)
            raise QueryError(
                f"the answer is larger than {_ANSWER_BYTES >> 30} GB.", hint="Ask for less at once, or set max_rows."
            )
        rows.append(row)
    return QueryResult(columns, rows)


def _only_reads(connection: apsw.Connection, action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action in _READING_ACTIONS:
        return apsw.SQLITE_OK
    if action == apsw.SQLITE_FUNCTION and (second or "").lower() in ALLOWED:
        if (second or "").lower() in ("like", "glob"):
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, _MATCHED_BYTES)
        return apsw.SQLITE_OK
    if action == apsw.SQLITE_PRAGMA and (first or "").lower() in _READING_PRAGMAS:
        allowed = second is None or (first or "").lower() in _PRAGMAS_WITH_ARGUMENT
        return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY
    return apsw.SQLITE_DENY


__all__ = ["QueryError", "query"]
