"""One statement of SQL over the whole workspace: Parquet files, staged rows and records, all in one state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from artifactdb.catalog.columns import column_list
from artifactdb.catalog.engine import Engine, require_reading, time_limit, translated
from artifactdb.catalog.semijoin import narrow_tables
from artifactdb.catalog.views import State, define, rows_of, state_of
from artifactdb.errors import InvalidValueError
from artifactdb.results import QueryResult

if TYPE_CHECKING:
    from artifactdb.catalog.catalog import Catalog

Parameters = Sequence[Any] | Mapping[str, Any]

_MANY = 100


def ask(
    catalog: Catalog,
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
    if max_rows is not None and max_rows < 0:
        raise InvalidValueError(f"max_rows is 0 or more, not {max_rows}.")
    engine = catalog.engine if memory_limit is None else Engine(catalog.folder, memory_limit)
    with state_of(catalog.database, catalog.inspector, skip_damaged=skip_damaged) as state:
        cursor = engine.cursor(state.files)
        try:
            require_reading(cursor, sql)
            with time_limit(cursor, timeout_s), translated():
                return _run(cursor, state, sql, parameters, max_rows)
        finally:
            cursor.close()


def _run(
    cursor: duckdb.DuckDBPyConnection, state: State, sql: str, parameters: Parameters, max_rows: int | None
) -> QueryResult:
    define(cursor, state, sql)
    narrow_tables(cursor, state, sql, parameters)
    if max_rows is None:
        relation: Any = cursor.sql(sql, params=_bound(parameters))
        table = _readable(relation.to_arrow_table())
        return QueryResult(list(table.column_names), table=table)
    rows = cursor.execute(sql, _bound(parameters)).fetchmany(max_rows + 1)
    columns = [name for name, *_ in cursor.description or []]
    return QueryResult(columns, rows[:max_rows], truncated=len(rows) > max_rows)


def find_in_files(
    catalog: Catalog, kind: str, file_keys: set[int] | None, column: str, values: Sequence[str], columns: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Give rows of Parquet files by id, from some files or all, and not from staging."""
    with state_of(catalog.database, catalog.inspector) as state:
        cursor = catalog.engine.cursor(state.files)
        try:
            files = [file for file in state.of_kind(kind) if file_keys is None or file.file_key in file_keys]
            with translated():
                select = rows_of(cursor, state, kind, files, staged=False)
                found: list[tuple[Any, ...]] = []
                for condition, parameters in among(column, values):
                    sql = f"SELECT {column_list(columns)} FROM ({select}) WHERE {condition}"
                    found += cursor.execute(sql, parameters).fetchall()
                return found
        finally:
            cursor.close()


def among(column: str, values: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """Give the condition that a column has one of some values.

    A few constants are compared with the statistics and Bloom filters of each row group; a long list is joined.
    """
    if len(values) > _MANY:
        yield f"{column} IN (SELECT unnest(?))", [list(values)]
    elif values:
        yield f"{column} IN ({', '.join('?' * len(values))})", list(values)


def _bound(parameters: Parameters) -> Any:
    return dict(parameters) if isinstance(parameters, Mapping) else list(parameters)


def _readable(table: pa.Table) -> pa.Table:
    """Give sums of whole numbers, which DuckDB makes 128 bits wide, as numbers that Python and JSON know."""
    for position, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                table = table.set_column(position, field.name, table.column(position).cast(pa.int64()))
            except pa.ArrowInvalid:
                continue
    return table
