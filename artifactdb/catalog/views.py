"""The tables of a statement: predictions and arrays, from Parquet and staged rows together; records from SQLite."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifactdb.catalog.columns import ARRAY_SCHEMA, COLUMNS, column_list
from artifactdb.catalog.engine import Session, parquet_rows
from artifactdb.catalog.files import CatalogFile, Inspector, live_files
from artifactdb.catalog.tables import (
    DELETED_PREDICTIONS,
    RECORD_TABLES,
    STAGED_ARRAYS,
    STAGED_PREDICTIONS,
    SqliteDataset,
    Table,
)
from artifactdb.database import Database, Snapshot

TABLES: dict[str, Sequence[str]] = {
    "predictions": COLUMNS,
    "arrays": ARRAY_SCHEMA.names,
    **{name: tuple(table.columns) for name, table in RECORD_TABLES.items()},
}
"""Every table that SQL can name, and its columns."""

_STAGED = {"meta": STAGED_PREDICTIONS, "data": STAGED_ARRAYS}
_KINDS = {"predictions": "meta", "arrays": "data"}
_COLUMNS = {"meta": COLUMNS, "data": tuple(ARRAY_SCHEMA.names)}
DELETED_IN = """
SELECT file_key FROM catalog_files AS f
WHERE EXISTS (SELECT 1 FROM deleted_predictions AS d WHERE d.file_key = f.file_key)
"""


@dataclass(slots=True)
class State:
    """One state of the whole workspace: the records, the files that count, and what is wrong with any of them."""

    snapshot: Snapshot
    inspector: Inspector
    files: list[CatalogFile]
    problems: dict[int, str]
    skip_damaged: bool = False
    deleted_in: set[int] = field(default_factory=set)
    prefix: str = ""
    """Of the names under which DuckDB knows tables of this state; where two states meet, one needs its own."""

    def of_kind(self, kind: str) -> list[CatalogFile]:
        """Give the files of one kind; raise for one that is damaged, or leave it out if that was asked.

        Raises
        ------
        CatalogFileError
        """
        chosen = [file for file in self.files if file.kind == kind]
        damaged = [file for file in chosen if file.file_key in self.problems]
        if damaged and not self.skip_damaged:
            raise self.inspector.error(damaged[0], self.problems[damaged[0].file_key])
        return [file for file in chosen if file.file_key not in self.problems]

    def read_whole(self, files: Sequence[CatalogFile]) -> None:
        """Compare files with their hashes before their rows are written again, which would make a wrong bit right."""
        for file in files:
            if file.file_key not in self.problems:
                problem = self.inspector.problem_inside(self.snapshot, file)
                if problem:
                    self.problems[file.file_key] = problem


@contextmanager
def state_of(database: Database, inspector: Inspector, *, skip_damaged: bool = False) -> Iterator[State]:
    """Take one state, and keep its files in place while the block lasts."""
    seen: list[CatalogFile] | None = None
    while True:
        with database.snapshot() as snapshot:
            files = live_files(snapshot)
            with inspector.pinned(files) as problems:
                # Somebody may have replaced a file between the two lines above: a newer state then names others.
                if files != seen and problems:
                    seen = files
                    continue
                deleted = {key for (key,) in snapshot.rows(DELETED_IN)}
                yield State(snapshot, inspector, files, problems, skip_damaged, deleted)
                return


def define(session: Session, state: State, sql: str) -> None:
    """Make the tables that a statement names, as temporary views of this session."""
    words = {word.lower() for word in re.findall(r"\w+", sql)}
    for name, kind in _KINDS.items():
        if name in words:
            session.view(name, rows_of(session, state, kind, state.of_kind(kind)))
    for name, table in RECORD_TABLES.items():
        if name in words:
            register(session, state, name, table)


def narrow(session: Session, state: State, name: str, only: tuple[str, Sequence[Any]]) -> None:
    """Let a record table give no rows but those with certain keys in one column."""
    session.register(name, SqliteDataset(RECORD_TABLES[name], state.snapshot, only))


def rows_of(session: Session, state: State, kind: str, files: Sequence[CatalogFile], *, staged: bool = True) -> str:
    """Give the SELECT of the rows of some files that count, and of the staged ones."""
    columns = column_list(_COLUMNS[kind])
    whole = [file for file in files if file.file_key not in state.deleted_in]
    parts = [f"SELECT {columns} FROM {parquet_rows(_path(state, file) for file in whole)}"] if whole else []
    for file in files:
        if file not in whole:
            register(session, state, f"{state.prefix}deleted_rows", DELETED_PREDICTIONS)
            parts.append(
                f"SELECT {columns} FROM {parquet_rows([_path(state, file)])} AS kept WHERE NOT EXISTS "
                f"(FROM {state.prefix}deleted_rows AS d WHERE d.file_key = {file.file_key} AND d.id = kept.id)"
            )
    table = _STAGED[kind]
    if not parts or (staged and state.snapshot.rows(f"SELECT 1 FROM {table.source} LIMIT 1")):
        register(session, state, f"{state.prefix}staged_{kind}", table)
        parts.append(f"SELECT {columns} FROM {state.prefix}staged_{kind}{'' if staged else ' WHERE false'}")
    return " UNION ALL ".join(parts)


def register(session: Session, state: State, name: str, table: Table) -> None:
    """Hand a table of the snapshot to DuckDB."""
    session.register(name, SqliteDataset(table, state.snapshot))


def _path(state: State, file: CatalogFile) -> Path:
    return state.inspector.path_of(state.snapshot, file)
