"""One statement of SQL over the whole workspace: Parquet files, staged rows and records, all in one state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from artifactdb.catalog.columns import column_list
from artifactdb.catalog.engine import Session, require_reading, time_limit, translated
from artifactdb.catalog.semijoin import narrow_tables
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import State, define, rows_of, state_of
from artifactdb.database.querying import checked_limit, plain
from artifactdb.errors import InvalidValueError
from artifactdb.results import QueryResult, told_apart

Parameters = Sequence[Any] | Mapping[str, Any]

_MANY = 100


@dataclass(frozen=True, slots=True)
class Ask:
    """Runs one statement after the other over the same state."""

    store: Store
    state: State
    session: Session

    def __call__(self, sql: str, parameters: Parameters = ()) -> QueryResult:
        """Run one statement."""
        with translated():
            return _run(self.session, self.state, sql, parameters, None)

    def is_only_metric(self, metric: str) -> bool:
        """Tell whether every prediction has this metric; asked once of files, which never change."""
        files = tuple(file.file_key for file in self.state.files)
        if self.state.snapshot.rows("SELECT 1 FROM staged_predictions LIMIT 1"):
            files = ()
        if (files, metric) not in self.store.only_metric or not files:
            others = self("SELECT 1 FROM predictions WHERE metric <> ? OR metric IS NULL LIMIT 1", [metric])
            self.store.only_metric = {(files, metric): not len(others)}
        return self.store.only_metric[files, metric]


def ask(
    store: Store,
    sql: str,
    parameters: Parameters = (),
    *,
    timeout_s: float | None = None,
    max_rows: int | None = None,
    memory_limit: str | None = None,
    skip_damaged: bool = False,
) -> QueryResult:
    """Run one statement that reads.

    Raises
    ------
    QueryError, CatalogFileError
    """
    max_rows = checked_limit(timeout_s, max_rows)
    engine = store.engine if memory_limit is None else store.new_engine(memory_limit)
    with (
        state_of(store.database, store.inspector, skip_damaged=skip_damaged) as state,
        engine.session(state.files) as session,
    ):
        require_reading(session.cursor, sql)
        with time_limit(session.cursor, timeout_s), translated():
            return _run(session, state, sql, parameters, max_rows)


@contextmanager
def asking(store: Store) -> Iterator[Ask]:
    """Give what runs one statement after the other over the same state."""
    with state_of(store.database, store.inspector) as state, store.engine.session(state.files) as session:
        yield Ask(store, state, session)


def _run(session: Session, state: State, sql: str, parameters: Parameters, max_rows: int | None) -> QueryResult:
    cursor = session.cursor
    define(session, state, sql)
    bound = _bound(parameters)
    narrow_tables(session, state, sql, bound)
    relation: Any = cursor.sql(sql, params=bound)
    if max_rows is not None:
        relation = relation.limit(max_rows + 1)
    table = _readable(relation.to_arrow_table())
    table = table.rename_columns(told_apart(table.column_names))
    truncated = max_rows is not None and table.num_rows > max_rows
    return QueryResult(
        list(table.column_names), table=table.slice(0, max_rows) if truncated else table, truncated=truncated
    )


def find_in_files(
    store: Store, kind: str, file_keys: set[int] | None, column: str, values: Sequence[str], columns: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Give rows of Parquet files by id, from some files or all, and not from staging."""
    with (
        state_of(store.database, store.inspector) as state,
        store.engine.session(state.files) as session,
        translated(),
    ):
        files = [file for file in state.of_kind(kind) if file_keys is None or file.file_key in file_keys]
        select = rows_of(session, state, kind, files, staged=False)
        found: list[tuple[Any, ...]] = []
        for condition, parameters in among(column, values):
            sql = f"SELECT {column_list(columns)} FROM ({select}) WHERE {condition}"
            found += session.cursor.execute(sql, parameters).fetchall()
        return found


def among(column: str, values: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """Give the condition that a column has one of some values.

    A few constants are compared with the statistics and Bloom filters of each row group; a long list is joined.
    """
    if len(values) > _MANY:
        yield f"{column} IN (SELECT unnest(?))", [list(values)]
    elif values:
        yield f"{column} IN ({', '.join('?' * len(values))})", list(values)


def _bound(parameters: Parameters) -> Any:
    if isinstance(parameters, Mapping):
        return {name: plain(value) for name, value in parameters.items()}
    if not isinstance(parameters, list | tuple):
        raise InvalidValueError(f"parameters are a list or a dict, not a {type(parameters).__name__}.")
    return [plain(value) for value in parameters]


def _readable(table: pa.Table) -> pa.Table:
    """Give sums of whole numbers, which DuckDB makes 128 bits wide, as numbers that Python and JSON know."""
    for position, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                table = table.set_column(position, field.name, table.column(position).cast(pa.int64()))
            except pa.ArrowInvalid:
                continue
    return table
