"""What SQLite is forbidden on every connection: a workspace may come from anybody, and so may a statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

_MIB = 1 << 20
MAX_VALUE_BYTES = 512 * _MIB
"""Ours are chunks of 4 MiB; the largest are the arrays of one prediction before they are flushed."""

_LIMITS = {
    "LENGTH": MAX_VALUE_BYTES,
    "SQL_LENGTH": 4 * _MIB,
    "COLUMN": 500,
    "EXPR_DEPTH": 500,
    "COMPOUND_SELECT": 100,
    "VDBE_OP": 1_000_000,
    "FUNCTION_ARG": 127,
    "ATTACHED": 0,  # copies and merges open connections of their own
    "LIKE_PATTERN_LENGTH": 200,  # a LIKE over a long text takes as many times longer
    "TRIGGER_DEPTH": 10,  # cascades of foreign keys count as triggers
    "WORKER_THREADS": 0,
}
_SWITCHES = {
    "DEFENSIVE": 1,
    "TRUSTED_SCHEMA": 0,
    "WRITABLE_SCHEMA": 0,
    "ENABLE_TRIGGER": 0,
    "ENABLE_LOAD_EXTENSION": 0,
    "ENABLE_FTS3_TOKENIZER": 0,
    "DQS_DML": 0,
    "DQS_DDL": 0,
}


def restrict(connection: apsw.Connection) -> apsw.Connection:
    """Take from a connection what a workspace never needs, before anything of the file is read."""
    for name, value in _SWITCHES.items():
        connection.config(getattr(apsw, f"SQLITE_DBCONFIG_{name}"), value)
    for name, value in _LIMITS.items():
        connection.limit(getattr(apsw, f"SQLITE_LIMIT_{name}"), value)
    connection.drop_modules(None)  # no virtual tables; those of JSON and of reading pragmas are SQLite's own
    connection.pragma("cell_size_check", True)
    return connection


@contextmanager
def schema_writable(connection: apsw.Connection) -> Iterator[None]:
    """Let our own schema files change the text of a declaration where no content changes with it."""
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    try:
        yield
    finally:
        for name in ("WRITABLE_SCHEMA", "DEFENSIVE"):  # however far they came
            connection.config(getattr(apsw, f"SQLITE_DBCONFIG_{name}"), _SWITCHES[name])
