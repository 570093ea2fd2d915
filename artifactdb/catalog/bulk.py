"""Very many predictions go straight to Parquet files, which count with the commit of the whole call."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from artifactdb.catalog.arrays import StoredArray
from artifactdb.catalog.files import device_errors, enter, new_name, only_writer, sync
from artifactdb.catalog.merging import write_sorted
from artifactdb.catalog.rows import Row
from artifactdb.catalog.staging import new_of
from artifactdb.catalog.store import Store
from artifactdb.catalog.tables import arrays_to_arrow, rows_to_arrow

_AT_ONCE = 100_000
_UNSTAGE = "DELETE FROM staged_arrays WHERE array_id IN (SELECT value FROM json_each(?))"


def add_many(store: Store, predictions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write predictions to new files, all or none, and give their ids; not for use within a transaction.

    Staging them would write every row three times. Others wait meanwhile, as they wait for anybody who writes.
    """
    ids: list[str] = []
    written: list[Path] = []
    given = iter(predictions)
    with device_errors(store.folder), only_writer(store.folder, store.database.timeout_s):
        try:
            with store.database.transaction():
                while batch := list(islice(given, _AT_ONCE)):
                    own, rows, arrays = new_of(store, batch)
                    _write(store, rows, arrays, written)
                    # What was staged too lies in a file now, and each array lies in one place.
                    moved = json.dumps([array.array_id for array in arrays])
                    store.database.rows(_UNSTAGE, (moved,))
                    ids += own
                sync(store.folder)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            store.forget()  # the numbers of these files will be those of others
            raise
    return ids


def _write(store: Store, rows: Collection[Row], arrays: Collection[StoredArray], written: list[Path]) -> None:
    tables = (("meta", rows_to_arrow(rows) if rows else None), ("data", arrays_to_arrow(arrays) if arrays else None))
    with store.writing_engine.session([]) as session:
        for kind, table in tables:
            if table is not None:
                session.register("given", table)
                path = store.folder / new_name(kind)
                written.append(path)
                made = write_sorted(session, "FROM given", path, kind, table.num_rows, lambda _: None)
                enter(store.database, path, kind, made.rows, made.filter_bits, made.digest)
