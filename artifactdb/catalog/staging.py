"""New predictions enter the SQLite file, in the transaction of whatever else belongs to them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from artifactdb.catalog import bloom
from artifactdb.catalog.arrays import StoredArray
from artifactdb.catalog.asking import find_in_files
from artifactdb.catalog.columns import ARRAY_IDS, COLUMNS, column_list
from artifactdb.catalog.rows import NAN, Row, to_row
from artifactdb.catalog.store import Store
from artifactdb.errors import DuplicateError

_AT_ONCE = 10_000
_INSERT_ROW = f"INSERT INTO staged_predictions ({column_list()}) VALUES ({', '.join('?' * len(COLUMNS))})"
_INSERT_ARRAY = "INSERT OR IGNORE INTO staged_arrays (array_id, array_type, dtype, shape, data) VALUES (?, ?, ?, ?, ?)"
STAGED_BY_ID = f"SELECT {column_list()} FROM staged_predictions WHERE id IN (SELECT value FROM json_each(?))"


def add_many(store: Store, predictions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Stage predictions, all or none, and give their ids; what is there already with the same content stays."""
    ids: list[str] = []
    given = iter(predictions)
    with store.database.transaction():
        while batch := list(islice(given, _AT_ONCE)):
            ids += _add(store, batch)
    return ids


def _add(store: Store, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
    ids, rows, arrays = new_of(store, predictions)
    stage(store, rows, arrays)
    return ids


def new_of(
    store: Store, predictions: Iterable[Mapping[str, Any]]
) -> tuple[list[str], Collection[Row], Collection[StoredArray]]:
    """Check predictions; give their ids, and the rows and arrays among them that are not there yet."""
    rows: dict[str, Row] = {}
    arrays: dict[str, StoredArray] = {}
    ids = []
    for prediction in predictions:
        row, held = to_row(prediction)
        _require_same(rows.setdefault(row[0], row), row)
        for array in held:
            arrays[array.array_id] = array
        ids.append(row[0])
    for present in _present_rows(store, list(rows)):
        _require_same(present, rows.pop(present[0]))
    for array_id in _present_arrays(store, list(arrays)) if rows else list(arrays):
        del arrays[array_id]
    return ids, rows.values(), arrays.values()


def stage(store: Store, rows: Iterable[Row], arrays: Iterable[StoredArray]) -> None:
    """Insert rows, and arrays that no file holds."""
    stored = list(arrays)
    store.database.run_many(_INSERT_ARRAY, stored)
    store.database.run_many(_INSERT_ROW, list(rows))
    store.staged_bytes += sum(len(data) for *_, data in stored)


def _require_same(present: Row, given: Row) -> None:
    if present is given or present == given:
        return
    differing = [name for name, old, new in zip(COLUMNS, present, given, strict=True) if old != new]
    raise DuplicateError(
        f"prediction {present[0]} is there already with other content ({', '.join(differing)}).",
        hint="Delete it first, or tell the two apart, by step_idx, op_counter or config_name for one.",
    )


def _present_rows(store: Store, ids: list[str]) -> list[Row]:
    found = store.database.rows(STAGED_BY_ID, (json.dumps(ids),))
    for row in _in_files(store, "meta", "id", ids, COLUMNS):
        # A NaN is the text nan in SQLite, and equal to itself only as that.
        found.append(tuple(NAN if isinstance(value, float) and math.isnan(value) else value for value in row))
    return list({row[0]: row for row in found}.values())


def _present_arrays(store: Store, array_ids: list[str]) -> list[str]:
    return list({row[0] for row in _in_files(store, "data", "array_id", array_ids, ("array_id",))})


def _in_files(store: Store, kind: str, column: str, ids: list[str], columns: Sequence[str]) -> list[Row]:
    """Give the rows with these ids that lie in Parquet files; most of the time no file needs to be opened."""
    filters = store.filters(kind)
    if not filters or not ids:
        return []
    hashes, names = bloom.hashed(ids), np.array(ids, object)
    maybe = {file_key: names[bloom.may_contain(bits, hashes)].tolist() for file_key, bits in filters.items()}
    wanted = sorted({text for candidates in maybe.values() for text in candidates})
    files = {file_key for file_key, candidates in maybe.items() if candidates}
    return find_in_files(store, kind, files, column, wanted, columns) if wanted else []


def arrays_of(rows: Iterable[Row]) -> set[str]:
    """Give the ids of the arrays that rows name."""
    positions = [COLUMNS.index(name) for name in ARRAY_IDS]
    return {row[position] for row in rows for position in positions if row[position] is not None}
