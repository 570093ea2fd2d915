"""Very many predictions go straight to Parquet files, which count with the commit of the whole call."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from artifactdb.catalog.arrays import StoredArray
from artifactdb.catalog.files import device_errors, discard, enter, new_name, only_writer, owner_of
from artifactdb.catalog.merging import write_sorted
from artifactdb.catalog.parquet import Written
from artifactdb.catalog.rows import Columns, to_columns
from artifactdb.catalog.staging import new_among, unstage
from artifactdb.catalog.store import Store
from artifactdb.catalog.tables import arrays_to_arrow, columns_to_arrow
from artifactdb.database import disk

_AT_ONCE = 100_000
_Writing = Future[tuple[Path, Written]]


def add_many(store: Store, predictions: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write predictions to new files, all or none, and give their ids; not for use within a transaction.

    Staging them would write every row three times. Others wait meanwhile, as they wait for anybody who writes.
    """
    ids: list[str] = []
    made: list[Path] = []
    given = iter(predictions)
    owner = owner_of(store.database)
    with device_errors(store.folder), only_writer(store.folder, store.database.timeout_s), _uncollected():
        try:
            with store.database.transaction(), ThreadPoolExecutor(2) as writers:
                writing: list[_Writing] = []
                while batch := list(islice(given, _AT_ONCE)):
                    columns, arrays = to_columns(batch)  # while the batch before is written
                    _enter(store, writing)
                    tables = _new_tables(store, columns, arrays)
                    writing = [
                        writers.submit(_write, store, kind, table, owner, made) for kind, table in tables.items()
                    ]
                    ids += columns[0]
                    del batch, columns, arrays  # which takes a while, and sorting and writing let go of the interpreter
                _enter(store, writing)
                disk.sync(store.folder)
        except BaseException:
            discard(store.database, made)
            store.forget()  # the numbers of these files will be those of others
            raise
    return ids


def _new_tables(store: Store, given: Columns, held: Sequence[StoredArray]) -> dict[str, pa.Table]:
    columns, arrays = new_among(store, given, held)
    _unstage(store, arrays)
    tables = {"meta": columns_to_arrow(columns), "data": arrays_to_arrow(arrays)}
    return {kind: table for kind, table in tables.items() if table.num_rows}


def _write(store: Store, kind: str, table: pa.Table, owner: bytes, made: list[Path]) -> tuple[Path, Written]:
    path = store.folder / new_name(kind)
    made.append(path)
    with store.writing_engine.session([]) as session:
        session.register("given", table)
        return path, write_sorted(session, "FROM given", path, kind, owner, table.num_rows, lambda _: None)


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


def _enter(store: Store, writing: Iterable[_Writing]) -> None:
    for path, written in [future.result() for future in writing]:
        enter(store.database, path, *astuple(written))
