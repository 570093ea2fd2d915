"""Very many predictions go straight to Parquet files, which count with the commit of the whole call."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from artifactdb.catalog.arrays import StoredArray
from artifactdb.catalog.files import device_errors, discard, enter, new_name, only_writer
from artifactdb.catalog.merging import write_sorted
from artifactdb.catalog.parquet import Written
from artifactdb.catalog.rows import Row, to_rows
from artifactdb.catalog.staging import new_among, unstage
from artifactdb.catalog.store import Store
from artifactdb.catalog.tables import arrays_to_arrow, rows_to_arrow
from artifactdb.database import disk

_AT_ONCE = 100_000
_Files = dict[Path, Written]


def add_many(store: Store, predictions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write predictions to new files, all or none, and give their ids; not for use within a transaction.

    Staging them would write every row three times. Others wait meanwhile, as they wait for anybody who writes.
    """
    ids: list[str] = []
    made: list[Path] = []
    given = iter(predictions)
    with device_errors(store.folder), only_writer(store.folder, store.database.timeout_s), _uncollected():
        try:
            with store.database.transaction(), ThreadPoolExecutor(1) as writer:
                writing: Future[_Files] | None = None
                while batch := list(islice(given, _AT_ONCE)):
                    rows_and_arrays = to_rows(batch)  # while the batch before is written
                    _enter(store, writing)
                    own, rows, arrays = new_among(store, *rows_and_arrays)
                    _unstage(store, arrays)
                    writing = writer.submit(_write, store, rows, arrays, made)
                    ids += own
                _enter(store, writing)
                disk.sync(store.folder)
        except BaseException:
            discard(made)
            store.forget()  # the numbers of these files will be those of others
            raise
    return ids


def _write(store: Store, rows: Collection[Row], arrays: Collection[StoredArray], made: list[Path]) -> _Files:
    with ThreadPoolExecutor(1) as beside:  # sorting and writing let go of the interpreter
        of_arrays = beside.submit(_write_one, store, "data", arrays_to_arrow, arrays, made)
        return _write_one(store, "meta", rows_to_arrow, rows, made) | of_arrays.result()


def _write_one(
    store: Store, kind: str, to_arrow: Callable[[Any], pa.Table], given: Collection[Any], made: list[Path]
) -> _Files:
    if not given:
        return {}
    table, path = to_arrow(given), store.folder / new_name(kind)
    made.append(path)
    with store.writing_engine.session([]) as session:
        session.register("given", table)
        return {path: write_sorted(session, "FROM given", path, kind, table.num_rows, lambda _: None)}


def _unstage(store: Store, arrays: Collection[StoredArray]) -> None:
    if store.database.value("SELECT EXISTS (SELECT 1 FROM staged_arrays)"):
        unstage(store.database, [array.array_id for array in arrays])


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from looking for cycles meanwhile: there are none, and it would walk all the rows again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _enter(store: Store, writing: Future[_Files] | None) -> None:
    for path, written in writing.result().items() if writing else ():
        enter(store.database, path, *astuple(written))
