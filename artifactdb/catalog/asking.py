"""One statement of SQL over the whole workspace: Parquet files, staged rows and records, all in one state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from artifactdb.catalog.engine import Engine, require_reading, time_limit, translated
from artifactdb.catalog.semijoin import narrow_tables
from artifactdb.catalog.views import State, define, state_of
from artifactdb.errors import InvalidValueError
from artifactdb.results import QueryResult

if TYPE_CHECKING:
    from artifactdb.catalog.catalog import Catalog

Parameters = Sequence[Any] | Mapping[str, Any]


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
    relation: Any = cursor.sql(sql, params=_bound(parameters))
    if max_rows is None:
        table = _readable(relation.to_arrow_table())
        return QueryResult(list(table.column_names), table=table)
    rows = relation.fetchmany(max_rows + 1)
    return QueryResult(list(relation.columns), rows[:max_rows], truncated=len(rows) > max_rows)


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
