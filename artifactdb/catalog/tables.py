"""Tables of the SQLite file as DuckDB sees them: Arrow datasets that fetch the columns and rows a statement needs.

DuckDB tells a dataset which columns it wants and which filters hold; here this becomes one SELECT. No other copy of
SQLite touches the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from artifactdb.catalog.arrays import StoredArray
from artifactdb.catalog.columns import ARRAY_SCHEMA, COLUMNS, FLOAT_COLUMNS, SCHEMA, quoted
from artifactdb.catalog.pushdown import conditions
from artifactdb.catalog.rows import NAN, Columns
from artifactdb.database import Snapshot

_ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Arrow type, the SQL that gives its values, and what makes Arrow of them."""

    type: pa.DataType
    sql: tuple[str, ...]
    build: Callable[..., pa.Array] | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """What can be asked of one table or view of the file."""

    source: str
    columns: Mapping[str, Column]
    keys: tuple[str, ...] = ()
    """Columns with an index, by which rows can be fetched one by one."""

    @property
    def schema(self) -> pa.Schema:
        """The columns and their types."""
        return pa.schema([(name, column.type) for name, column in self.columns.items()])


class SqliteDataset(ds.Dataset):  # type: ignore[misc]
    """One table within a snapshot; what DuckDB asks of a dataset is ``schema`` and ``scanner``."""

    def __init__(self, table: Table, snapshot: Snapshot, only: tuple[str, Sequence[Any]] | None = None) -> None:
        # The base class forbids to be made; nothing of it is used but its name, by which DuckDB knows a dataset.
        self._table = table
        self._snapshot = snapshot
        self._only = only

    @property
    def schema(self) -> pa.Schema:
        """The columns and their types."""
        return self._table.schema

    def scanner(
        self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None, **_: Any
    ) -> ds.Scanner:
        """Fetch the rows that a filter lets pass, with these columns and those that the filter needs."""
        wanted = list(columns) if columns is not None else list(self._table.columns)
        fetched = list(dict.fromkeys([*wanted, *self._filtered(filter)])) or list(self._table.columns)[:1]
        return ds.dataset(self.fetch(fetched, filter)).scanner(columns=wanted, filter=filter)

    def fetch(self, names: Sequence[str], filter: pc.Expression | None = None) -> pa.Table:
        """Give these columns of the rows that meet what SQLite can say of the filter."""
        chosen = [self._table.columns[name] for name in names]
        where, parameters = conditions(filter, self._sayable())
        if self._only is not None:
            column, keys = self._only
            where = f"{column} IN (SELECT value FROM json_each(?)){f' AND {where}' if where else ''}"
            parameters = [json.dumps(list(keys)), *parameters]
        expressions = ", ".join(expression for column in chosen for expression in column.sql)
        sql = f"SELECT {expressions} FROM {self._table.source}{f' WHERE {where}' if where else ''}"
        schema = pa.schema([(name, column.type) for name, column in zip(names, chosen, strict=True)])
        batches = self._snapshot.batches(sql, parameters, _ROWS_AT_ONCE)
        arrow = [_to_arrow(list(zip(*rows, strict=True)), chosen, schema) for rows in batches]
        return pa.Table.from_batches(arrow, schema)

    def _sayable(self) -> dict[str, str]:
        return {name: column.sql[0] for name, column in self._table.columns.items() if len(column.sql) == 1}

    def _filtered(self, filter: pc.Expression | None) -> list[str]:
        if filter is None:
            return []
        # Arrow does not tell which fields an expression reads, but its text holds their names.
        text = str(filter)
        return [name for name in self._table.columns if name in text]


def columns_to_arrow(columns: Columns) -> pa.Table:
    """Give rows as they are staged, column by column, as the table that a Parquet file holds."""
    return pa.Table.from_batches([_to_arrow(columns, list(STAGED_PREDICTIONS.columns.values()), SCHEMA)], SCHEMA)


def arrays_to_arrow(arrays: Collection[StoredArray]) -> pa.Table:
    """Give arrays as they are staged as the table that a Parquet file holds."""
    if not arrays:
        return ARRAY_SCHEMA.empty_table()
    array_ids, types, dtypes, shapes, items = zip(*arrays, strict=True)
    columns = {
        "array_id": array_ids,
        "array_data": _numbers(dtypes, items),
        "array_hash": [array_id.removeprefix("array_") for array_id in array_ids],
        "array_size": _sizes(dtypes, map(len, items)),
        "array_shape": shapes,
        "array_type": types,
        "array_dtype": dtypes,
        "array_bytes": _inexact(
            dtypes, [None if dtype == "<f8" else data for dtype, data in zip(dtypes, items, strict=True)]
        ),
    }
    return pa.Table.from_pydict(columns, ARRAY_SCHEMA)


def _to_arrow(values: Sequence[Sequence[Any]], columns: Sequence[Column], schema: pa.Schema) -> pa.RecordBatch:
    arrays, position = [], 0
    for column in columns:
        own = values[position : position + len(column.sql)]
        arrays.append(column.build(*own) if column.build else pa.array(own[0], column.type))
        position += len(column.sql)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


# -- staged rows ------------------------------------------------------------------------------------


def _scores(values: Sequence[Any]) -> pa.Array:
    return pa.array([math.nan if value == NAN else value for value in values], pa.float64())


def _numbers(dtypes: Sequence[str], items: Sequence[bytes]) -> pa.Array:
    if set(dtypes) <= {"<f8"}:
        lengths = [len(data) // 8 for data in items]
        flat = pa.py_buffer(b"".join(items))
    else:
        parts = [_as_float64(dtype, data) for dtype, data in zip(dtypes, items, strict=True)]
        lengths = [len(part) for part in parts]
        flat = pa.py_buffer(np.concatenate(parts).tobytes())
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = pa.Array.from_buffers(pa.float64(), int(offsets[-1]), [None, flat])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)


def _as_float64(dtype: str, data: bytes) -> np.ndarray[Any, Any]:
    items = np.frombuffer(data, np.dtype(dtype))
    with np.errstate(all="ignore"):
        return (items.real if items.dtype.kind == "c" else items).astype(np.float64)


def _inexact(dtypes: Sequence[str], items: Sequence[bytes | None]) -> pa.Array:
    """Give the bytes of arrays that float64 does not hold exactly, and nothing for the others."""
    kept: list[bytes | None] = []
    for dtype, data in zip(dtypes, items, strict=True):
        if data is None:
            kept.append(None)
            continue
        with np.errstate(all="ignore"):
            exact = _as_float64(dtype, data).astype(np.dtype(dtype)).tobytes() == data
        kept.append(None if exact else data)
    return pa.array(kept, pa.large_binary())


def _sizes(dtypes: Sequence[str], lengths: Iterable[int]) -> pa.Array:
    item = {dtype: np.dtype(dtype).itemsize for dtype in set(dtypes)}
    return pa.array([length // item[dtype] for dtype, length in zip(dtypes, lengths, strict=True)], pa.int64())


def _plain(name: str, type: pa.DataType) -> Column:
    return Column(type, (quoted(name),))


STAGED_PREDICTIONS = Table(
    "staged_predictions",
    {
        name: Column(pa.float64(), (name,), _scores) if name in FLOAT_COLUMNS else _plain(name, SCHEMA.field(name).type)
        for name in COLUMNS
    },
)
STAGED_ARRAYS = Table(
    "staged_arrays",
    {
        "array_id": _plain("array_id", pa.string()),
        "array_data": Column(ARRAY_SCHEMA.field("array_data").type, ("dtype", "data"), _numbers),
        "array_hash": Column(pa.string(), ("substr(array_id, 7)",)),
        "array_size": Column(pa.int64(), ("dtype", "length(data)"), _sizes),
        "array_shape": Column(pa.string(), ("shape",)),
        "array_type": _plain("array_type", pa.string()),
        "array_dtype": Column(pa.string(), ("dtype",)),
        "array_bytes": Column(pa.large_binary(), ("dtype", "CASE WHEN dtype <> '<f8' THEN data END"), _inexact),
    },
)
DELETED_PREDICTIONS = Table(
    "deleted_predictions", {"file_key": _plain("file_key", pa.int64()), "id": _plain("id", pa.string())}
)

# -- records ----------------------------------------------------------------------------------------


def _table(source: str, keys: tuple[str, ...] = (), /, **columns: str) -> Table:
    types = {"text": pa.string(), "int": pa.int64()}
    made = {
        name: Column(pa.float64(), (name,), _scores) if kind == "score" else _plain(name, types[kind])
        for name, kind in columns.items()
    }
    return Table(source, made, keys)


RECORD_TABLES = {
    "artifacts": _table(
        "artifacts", ("artifact_id", "pipeline_id", "chain_path", "chain_hash", "class_name"),
        artifact_id="text", dataset="text", pipeline_id="text", chain_path="text", chain_hash="text", step_index="int",
        substep_index="int", source_index="int", branch_path="text", fold_id="int", artifact_type="text",
        class_name="text", custom_name="text", parameters="text", meta_config="text", content_hash="text",
        size_bytes="int", stored_bytes="int", format="text", data_only="int", format_version="text",
        versions="text", signed_by="text", created_at="text",
    ),
    "chains": _table("chains", ("chain_path", "chain_hash"), chain_path="text", chain_hash="text"),
    "folds": _table(
        "folds", ("artifact_id", "pipeline_id", "chain_path", "chain_hash"),
        chain_path="text", chain_hash="text", dataset="text", pipeline_id="text", fold_id="int", artifact_id="text",
        class_name="text",
    ),
    "dependencies": _table(
        "dependencies", ("artifact_id", "depends_on"),
        artifact_id="text", dataset="text", position="int", depends_on="text",
    ),
    "pipelines": _table(
        "pipelines_with_runs", ("pipeline_id",),
        pipeline_id="text", dataset="text", name="text", run_id="text", status="text", started_at="text",
        ended_at="text", error="text", configuration="text", tags="text", notes="text", artifacts="int",
    ),
    "metrics": _table(
        "metrics", ("pipeline_id",),
        pipeline_id="text", dataset="text", partition="text", fold_id="text", metric="text", value="score",
    ),
    "library": _table(
        "library", (),
        name="text", type="text", description="text", category="text", tags="text", config="text", metrics="text",
        source="text", n_features="int", artifacts="int", created_at="text", saved_at="text",
    ),
    "runs": _table(
        "runs", ("run_id",),
        run_id="text", name="text", dataset="text", pipeline_id="text", status="text", started_at="text",
        ended_at="text", pipelines="int", artifacts="int", tags="text", notes="text", error="text",
        configuration="text", versions="text",
    ),
}  # fmt: skip
