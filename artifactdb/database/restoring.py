"""What can be read of a damaged workspace goes into a new file of the same schema, row by row under the same keys.

Most rows of small tables stand in an index too; one whose page is gone is taken from there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from artifactdb.chain import compute_chain_hash
from artifactdb.database import row_checks
from artifactdb.database.damaged import DamagedDatabase, Shape
from artifactdb.database.migrations import APPLICATION_ID, apply, schema_files, set_page_size
from artifactdb.database.pages import Value
from artifactdb.database.strict import restrict
from artifactdb.database.translate import translated

_NOW = ":now"
_FILLED: dict[str, dict[str, str]] = {
    "datasets": {"created_at": _NOW},
    "pipelines": {"created_at": _NOW},
    "chains": {"chain_hash": "chain_hash_of(:chain_path)"},
    "blobs": {"size_bytes": "0", "stored_bytes": "0", "created_at": _NOW},
    "signers": {"name": "''"},
}
"""What an index does not hold of a row, and what stands for it; sizes are counted afterwards."""

_COUNTED = """
UPDATE blobs SET (size_bytes, stored_bytes) = (
  SELECT sum(c.size_bytes), sum(length(c.payload)) FROM chunks AS c WHERE c.blob_key = blobs.blob_key)
WHERE EXISTS (SELECT 1 FROM chunks AS c WHERE c.blob_key = blobs.blob_key)
"""
"""The hash tells whether it is right; what the row itself said has none."""

_LAST = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?"
_OF_DELETED = """
UPDATE sqlite_sequence SET seq = max(seq, coalesce((SELECT max(record_key) FROM history), 0)) WHERE name = 'records'
"""


@dataclass(slots=True)
class Restored:
    """What came of it.

    Attributes
    ----------
    rows : int
        How many rows were read.
    missing : dict
        By table: what indexes say of rows that are gone, by key.
    pages : dict
        By table or index: the numbers of pages that could not be read.
    entries : dict
        By table or index: how many entries of other pages were not what is written.
    from_indexes : dict
        By table: how many rows were taken from an index.
    complete : set
        Tables of which every row is known, here or in ``missing``: an index over all of it could be read.
    guessed : int
        How many pages may be free, and hold what was deleted.
    doubtful : list of (str, tuple)
        Table and key of each row that is not what was written, by its check, and in which nothing else is wrong.
    """

    rows: int = 0
    missing: dict[str, dict[Any, dict[str, Value]]] = field(default_factory=dict)
    pages: dict[str, list[int]] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    from_indexes: dict[str, int] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)
    guessed: int = 0
    doubtful: list[tuple[str, tuple[Value, ...]]] = field(default_factory=list)


def restore(damaged: DamagedDatabase, target: Path, progress: Callable[[int, int], None] | None = None) -> Restored:
    """Fill an empty file; what refers to rows that are gone is left to the caller."""
    restored = Restored(guessed=len(damaged.guessed))
    with translated(target):
        set_page_size(target, damaged.pages.size)
        connection = restrict(apsw.Connection(str(target)))
        try:
            connection.pragma("journal_mode", "OFF")
            connection.pragma("synchronous", "OFF")
            connection.pragma("foreign_keys", False)
            row_checks.register(connection)
            connection.create_scalar_function("chain_hash_of", _chain_hash_of, 1)
            connection.execute("BEGIN")
            apply(connection, [file for number, file in schema_files().items() if number <= damaged.version])
            tables = [s for s in damaged.shapes.values() if not s.is_index and s.name != "sqlite_sequence"]
            for done, shape in enumerate(tables, start=1):
                _restore_table(connection, damaged, shape, restored)
                if shape.name != "identity":  # which a new file has too
                    restored.rows += _number(connection, f"SELECT count(*) FROM {shape.name}")
                if progress:
                    progress(done, len(tables))
            connection.execute(_COUNTED)
            _restore_sequence(connection, damaged)
            if damaged.version >= row_checks.SINCE:
                row_checks.compute_all(connection)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", damaged.version)
            connection.execute("COMMIT")
        finally:
            connection.close()
    for name, lost in damaged.lost.items():
        shape = damaged.by_name[name]
        if not (lost.pages or lost.entries or shape.is_partial):
            restored.complete.add(shape.table)
        if lost.pages:
            restored.pages[name] = lost.pages
        if lost.entries:
            restored.entries[name] = lost.entries
    return restored


def _restore_table(connection: apsw.Connection, damaged: DamagedDatabase, table: Shape, restored: Restored) -> None:
    if table.name == "identity":
        for number, values, _ in damaged.rows("identity"):
            connection.execute("UPDATE identity SET workspace_id = ?", (values[0],))
            if _is_doubtful(table, values):
                restored.doubtful.append((table.name, (number,)))
        return
    key = ["rowid"] if table.keys == ("rowid",) else []
    of_draft = table.name == "catalog_files" and "id_filter" not in table.columns
    for row_key, values, is_guess in damaged.rows(table.name):
        row = [row_key, *values] if key else values
        names = ", ".join(f'"{name}"' for name in (*key, *table.columns[: len(values)]))
        if of_draft:  # the file is written again, with a filter
            row, names = [*row, b""], f"{names}, id_filter"
        try:
            connection.execute(f"INSERT INTO {table.name} ({names}) VALUES ({', '.join('?' * len(row))})", row)
            if not is_guess and _is_doubtful(table, values):
                restored.doubtful.append((table.name, tuple(row[: len(table.keys)])))
        except apsw.Error:  # a rule of the schema says that it is not what was written
            damaged.lost[table.name].entries += not is_guess
    for index in damaged.shapes.values():
        if index.is_index and index.table == table.name:
            _take_from_index(connection, damaged, table, index, restored)


def _is_doubtful(table: Shape, values: list[Value]) -> bool:
    """Tell whether a row bears a check that is not that of its values."""
    if "row_check" not in table.columns:
        return False
    at = table.columns.index("row_check")
    return bool(values[at] != row_checks.row_check(*values[:at], *values[at + 1 :]))


def _take_from_index(
    connection: apsw.Connection, damaged: DamagedDatabase, table: Shape, index: Shape, restored: Restored
) -> None:
    """Insert what the table lost, if the index holds the whole of it; else keep what it says of the row."""
    columns = [name or table.keys[0] for name in index.columns]
    filled = _FILLED.get(table.name, {})
    is_whole = set(table.columns) <= {*columns, *filled, "row_check"}
    names = ", ".join(f'"{name}"' for name in (*columns, *filled))
    given = ", ".join((*(f":{name}" for name in columns), *filled.values()))
    insert = f"INSERT OR IGNORE INTO {table.name} ({names}) VALUES ({given})"
    look = f"SELECT 1 FROM {table.name} WHERE " + " AND ".join(f'"{name}" = :{name}' for name in table.keys)
    missing = restored.missing.setdefault(table.name, {})
    now = datetime.now(UTC).isoformat()
    for _, values, _ in damaged.rows(index.name):
        said: dict[str, Any] = dict(zip(columns, values, strict=True))
        key = {name: said[name] for name in table.keys}
        if connection.execute(look, key).fetchone():
            continue
        if is_whole:
            with suppress(apsw.Error):
                connection.execute(insert, {**said, "now": now})
                restored.from_indexes[table.name] = restored.from_indexes.get(table.name, 0) + connection.changes()
        else:
            missing.setdefault(tuple(key.values()), {}).update(said)


def _restore_sequence(connection: apsw.Connection, damaged: DamagedDatabase) -> None:
    """Keep keys from being used again that were used once."""
    for _, (name, last), _ in damaged.rows("sqlite_sequence"):
        if name in damaged.by_name and isinstance(last, int):
            raised = (max(last, _number(connection, _LAST, name)), name)
            connection.execute("DELETE FROM sqlite_sequence WHERE name = ?2", raised)
            connection.execute("INSERT INTO sqlite_sequence (seq, name) VALUES (?, ?)", raised)
    if damaged.version >= 4:
        connection.execute(_OF_DELETED)


def _number(connection: apsw.Connection, sql: str, *parameters: Value) -> int:
    found: Any = connection.execute(sql, parameters).fetchall()[0][0]
    return int(found)


def _chain_hash_of(*path: Value) -> str:
    return compute_chain_hash(str(path[0]))
