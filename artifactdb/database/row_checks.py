"""A checksum in each row of what the row says, so that a wrong bit is found where nothing else in the file tells of it.

It tells of damage, not of deceit: whoever can write the file can compute it. It is computed in one place: the rows that
a transaction inserts or changes are noted as SQLite tells of them, and get their checks right before the commit. SQLite
tells of no row of a table WITHOUT ROWID; their few INSERT statements call ``row_check`` themselves, as do those of
staged predictions, which come by the thousand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from marshal import dumps
from typing import TYPE_CHECKING, Any
from zlib import crc32

import apsw

from artifactdb.database.translate import translated
from artifactdb.errors import CorruptWorkspaceError

if TYPE_CHECKING:
    from artifactdb.database.connection import Database

KEYS: dict[str, tuple[str, ...]] = {
    "actors": ("actor_key",),
    "blobs": ("blob_key",),
    "catalog_files": ("file_key",),
    "datasets": ("dataset_key",),
    "history": ("record_key", "event_index"),
    "identity": ("rowid",),
    "library_artifacts": ("entry_key", "position"),
    "library_entries": ("entry_key",),
    "pipelines": ("pipeline_key",),
    "records": ("record_key",),
    "run_entries": ("run_key",),
    "signatures": ("statement", "signer_key"),
    "signers": ("signer_key",),
    "staged_arrays": ("array_key",),
    "staged_predictions": ("staged_key",),
    "trained_pipelines": ("pipeline_key",),
    "workspace_signatures": ("workspace_signature_key",),
}
"""The tables whose rows have a check, and what names a row."""
SINCE = 5
"""The first schema with checks."""
OF_ANOTHER_PROGRAM = 1 << 33
"""Stands in a row that came without a check, as the default of the column. SQLite stores it, and each check, in 6
bytes: a check is set in its place, and moves nothing.
"""

_BASE = 1 << 32
_MANY = 50_000
_AT_ONCE = 1000


def row_check(*values: Any) -> int:
    """Give the check of a row: of all its values but the check itself, in the order of the columns.

    2^32 and a CRC-32, which finds each single wrong bit and each burst of up to 32, over ``marshal`` in version 2,
    which docs/format.md spells out: no other way to tell values and types apart takes less than three times as long.

    Examples
    --------
    >>> row_check(1, "wheat", None)
    5514837533
    """
    return _BASE + crc32(dumps(values, 2))


def with_checks(rows: Iterable[Sequence[Any]], first_key: int) -> Iterator[tuple[Any, ...]]:
    """Put keys, counted from one on, before rows and their checks behind them."""
    for key, values in enumerate(rows, first_key):
        row = (key, *values)
        yield *row, _BASE + crc32(dumps(row, 2))


def register(connection: apsw.Connection) -> None:
    """Let SQL on a connection call ``row_check``."""
    connection.create_scalar_function("row_check", row_check, deterministic=True)


def columns_of(connection: apsw.Connection, table: str) -> str:
    """Give the columns that the check of a table is over, for SQL; what is open declares what artifactdb does."""
    found = connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
    return ", ".join(f'"{name}"' for (name,) in found if name != "row_check")


def compute_all(connection: apsw.Connection) -> None:
    """Compute the check of every row; within a transaction of the caller's."""
    for table in KEYS:
        try:
            connection.execute(f"UPDATE {table} SET row_check = row_check({columns_of(connection, table)})")
        except UnicodeDecodeError:  # damaged: that row is left to ``verify``
            names = ", ".join(KEYS[table])
            keys = connection.execute(f"SELECT {names} FROM {table}").fetchall()
            _compute(connection, _setting(connection, table), keys)


def _setting(connection: apsw.Connection, table: str) -> str:
    where = " AND ".join(f"{name} = ?" for name in KEYS[table])
    return f"UPDATE {table} SET row_check = row_check({columns_of(connection, table)}) WHERE {where}"


def _compute(connection: apsw.Connection, setting: str, keys: Sequence[tuple[Any, ...]]) -> None:
    try:
        for _ in connection.executemany(setting, keys):
            pass
    except UnicodeDecodeError:  # damaged: the rows of that one too
        for key in keys:
            with suppress(UnicodeDecodeError):
                connection.execute(setting, key)


class Written:
    """The rows that a connection wrote and whose checks are not computed yet.

    A row too many does no harm: what was rolled back, or deleted since, is computed anew, or is not there.
    """

    __slots__ = ("_keys", "_settings", "count")

    def __init__(self, connection: apsw.Connection) -> None:
        self._keys: dict[str, set[int]] = {table: set() for table in KEYS}
        self._settings: dict[str, str] = {}
        self.count = 0
        connection.set_update_hook(self._note)

    @property
    def are_many(self) -> bool:
        """Whether they should be computed before the transaction ends, so that memory stays bounded."""
        return self.count > _MANY

    def _note(self, operation: int, database: str, table: str, key: int) -> None:
        keys = self._keys.get(table)
        if keys is not None and operation != apsw.SQLITE_DELETE:
            keys.add(key)
            self.count += 1

    @contextmanager
    def unnoted(self, connection: apsw.Connection) -> Iterator[None]:
        """Note nothing within the block: its rows come with their checks."""
        connection.set_update_hook(None)
        try:
            yield
        finally:
            connection.set_update_hook(self._note)

    def compute(self, connection: apsw.Connection) -> None:
        """Compute the checks of what was written, within the transaction that wrote it."""
        if self.count:
            for table, keys in self._keys.items():
                if keys:
                    if table not in self._settings:
                        self._settings[table] = _setting(connection, table)
                    _compute(connection, self._settings[table], [(key,) for key in sorted(keys)])
            self.forget()

    def forget(self) -> None:
        """Forget what was taken back."""
        for keys in self._keys.values():
            keys.clear()
        self.count = 0


def of_another_program(database: Database, table: str) -> int:
    """Count the rows that came without a check."""
    return int(database.value(f"SELECT count(*) FROM {table} WHERE row_check = {OF_ANOTHER_PROGRAM}"))


def wrong_rows(database: Database, table: str, name: str, most: int) -> list[tuple[tuple[Any, ...], str | None]]:
    """Give key and name of rows whose check is not that of their values, so many at most.

    Parameters
    ----------
    name : str
        An SQL expression over the table, called ``t``.
    """
    keys = ", ".join(KEYS[table])
    with translated(database.path):
        columns = columns_of(database.connection(), table)
    wrong = f"row_check <> {OF_ANOTHER_PROGRAM} AND row_check <> row_check({columns})"
    asked = f"SELECT {keys}, {name} FROM {table} AS t WHERE {wrong}"
    with suppress(CorruptWorkspaceError):  # text that is no UTF-8: which row has it, is to be found out
        return [(tuple(key), said) for *key, said in database.rows(f"{asked} LIMIT ?", (most,))]
    found: list[tuple[tuple[Any, ...], str | None]] = []
    marks = ", ".join("?" * len(KEYS[table]))
    left = database.value(f"SELECT count(*) FROM {table}")
    batch = database.rows(f"SELECT {keys} FROM {table} ORDER BY {keys} LIMIT {_AT_ONCE}")
    while batch and len(found) < most:
        within = f"({keys}) BETWEEN ({marks}) AND ({marks})"
        try:
            rows = database.rows(f"{asked} AND {within}", (*batch[0], *batch[-1]))
            found += [(tuple(key), said) for *key, said in rows]
        except CorruptWorkspaceError:
            found += _wrong_among(database, f"{asked} AND ({keys}) = ({marks})", batch)
        left -= len(batch)
        if left < 0:  # the same ones come after the last again and again
            raise CorruptWorkspaceError(f"the rows of {table} are not in the order of their keys.")
        batch = database.rows(
            f"SELECT {keys} FROM {table} WHERE ({keys}) > ({marks}) ORDER BY {keys} LIMIT {_AT_ONCE}", batch[-1]
        )
    return found[:most]


def _wrong_among(
    database: Database, asked: str, batch: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], str | None]]:
    for key in batch:
        try:
            yield from ((key, said) for *_, said in database.rows(asked, key))
        except CorruptWorkspaceError:
            yield key, None
