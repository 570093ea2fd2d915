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
from artifactdb.catalog.rows import NAN, Columns, Row, to_columns
from artifactdb.catalog.store import Store
from artifactdb.database import Database
from artifactdb.database.keys import last_key_of
from artifactdb.database.row_checks import with_checks
from artifactdb.errors import DuplicateError

_AT_ONCE = 10_000
_REMEMBERED = 200_000
_INSERT_ROW = (
    f"INSERT INTO staged_predictions (staged_key, {column_list()}, row_check) "
    f"VALUES ({', '.join('?' * (len(COLUMNS) + 2))})"
)
_INSERT_ARRAY = (
    "INSERT OR IGNORE INTO staged_arrays (array_key, array_id, array_type, dtype, shape, data, row_check) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_NEXT_ROW = f"SELECT 1 + {last_key_of('staged_predictions')}"
_NEXT_ARRAY = f"SELECT 1 + {last_key_of('staged_arrays')}"
_UNSTAGE = "DELETE FROM staged_arrays WHERE array_id IN (SELECT value FROM json_each(?))"
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
    columns, held = to_columns(predictions)
    new, arrays = new_among(store, columns, held)
    stage(store, zip(*new, strict=True), arrays)
    return columns[0]


def new_among(store: Store, given: Columns, held: Sequence[StoredArray]) -> tuple[Columns, Collection[StoredArray]]:
    """Give those of the rows and arrays that are not there yet."""
    ids = list(dict.fromkeys(given[0]))
    present = _present_rows(store, ids)
    new = _new_rows(given, present) if present or len(ids) < len(given[0]) else given
    arrays = {array.array_id: array for array in reversed(held)}  # the first use of an array names its type
    for array_id in _present_arrays(store, list(arrays)) if new[0] else list(arrays):
        del arrays[array_id]
    return new, arrays.values()


def _new_rows(given: Columns, present: Iterable[Row]) -> Columns:
    rows: dict[str, Row] = {}
    for row in zip(*given, strict=True):
        _require_same(rows.setdefault(row[0], row), row)
    for row in present:
        _require_same(row, rows.pop(row[0]))
    return [list(values) for values in zip(*rows.values(), strict=True)] or [[] for _ in given]


def stage(store: Store, rows: Iterable[Row], arrays: Iterable[StoredArray]) -> None:
    """Insert rows, and arrays that no file holds."""
    stored, database = list(arrays), store.database
    first_array = database.value(_NEXT_ARRAY)
    database.run_many(_INSERT_ARRAY, with_checks(stored, first_array), checked=True)
    first_row = database.value(_NEXT_ROW)
    database.run_many(_INSERT_ROW, with_checks(rows, first_row), checked=True)
    store.staged_bytes += sum(len(data) for *_, data in stored)


def unstage(database: Database, array_ids: Sequence[str]) -> None:
    """Let go of staged arrays that a file holds now: each array lies in one place.

    What rows of a file name has to lie in files: a staged array goes with the last staged row that names it.
    """
    database.rows(_UNSTAGE, (json.dumps(array_ids),))


def _require_same(present: Row, given: Row) -> None:
    if present is given or present == given:
        return
    differing = [name for name, old, new in zip(COLUMNS, present, given, strict=True) if old != new]
    raise DuplicateError(
        f"prediction {present[0]} is there already with other content ({', '.join(differing)}).",
        hint="Delete it first, or tell the two apart, by step_idx, op_counter or config_name for one.",
    )


def _present_rows(store: Store, ids: list[str]) -> list[Row]:
    anything = store.database.value("SELECT EXISTS (SELECT 1 FROM staged_predictions)")
    found = store.database.rows(STAGED_BY_ID, (json.dumps(ids),)) if anything else []
    maybe = _maybe_in_files(store, "meta", ids)
    for row in find_in_files(store, "meta", set(maybe), "id", _all(maybe), COLUMNS) if maybe else []:
        # A NaN is the text nan in SQLite, and equal to itself only as that.
        found.append(tuple(NAN if isinstance(value, float) and math.isnan(value) else value for value in row))
    return list({row[0]: row for row in found}.values())


def _present_arrays(store: Store, array_ids: list[str]) -> list[str]:
    live = store.filters("data")
    # Measured values come again with every model; a file never changes, so looking once is enough.
    known = [array_id for array_id in array_ids if store.lies_in.get(array_id) in live]
    maybe = _maybe_in_files(store, "data", sorted(set(array_ids).difference(known))) if live else {}
    if not maybe:
        return known
    found = {row[0] for row in find_in_files(store, "data", set(maybe), "array_id", _all(maybe), ("array_id",))}
    if len(store.lies_in) > _REMEMBERED:
        store.lies_in.clear()
    for array_id in found:
        places = [file_key for file_key, candidates in maybe.items() if array_id in candidates]
        if len(places) == 1:  # else one of the filters errs, and which is not known
            store.lies_in[array_id] = places[0]
    return [*known, *found]


def _maybe_in_files(store: Store, kind: str, ids: list[str]) -> dict[int, set[str]]:
    """Give, by file, the ids that its Bloom filter does not rule out; most of the time no file needs to be opened."""
    filters = store.filters(kind)
    if not filters or not ids:
        return {}
    hashes, names = bloom.hashed(ids), np.array(ids, object)
    maybe = {file_key: set(names[bloom.may_contain(bits, hashes)]) for file_key, bits in filters.items()}
    return {file_key: candidates for file_key, candidates in maybe.items() if candidates}


def _all(maybe: Mapping[int, set[str]]) -> list[str]:
    return sorted({text for candidates in maybe.values() for text in candidates})


def arrays_of(rows: Iterable[Row]) -> set[str]:
    """Give the ids of the arrays that rows name."""
    positions = [COLUMNS.index(name) for name in ARRAY_IDS]
    return {row[position] for row in rows for position in positions if row[position] is not None}
