"""The Parquet files of a damaged workspace: whole ones are copied, of others each row group whose checksums hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import astuple
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from artifactdb.artifacts.statistics import has_predictions
from artifactdb.catalog import parquet
from artifactdb.catalog.arrays import is_what_its_id_says
from artifactdb.catalog.asking import ask, find_in_files
from artifactdb.catalog.checking import DANGLING
from artifactdb.catalog.columns import ARRAY_IDS
from artifactdb.catalog.files import catalog_file_kind, content_hash, device_errors, enter, new_name, owner_of
from artifactdb.catalog.inside import CHUNK_BYTES
from artifactdb.catalog.store import Store
from artifactdb.database import disk
from artifactdb.database.making import scratch_folder
from artifactdb.database.restoring import Restored
from artifactdb.transfer.recovery import Recovery

Progress = Callable[[int, int], None]

_IDS = {"meta": "id", "data": "array_id"}
_KINDS = {"meta": "predictions", "data": "arrays of predictions"}
_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
"""What pyarrow makes of bytes that are no Parquet, or whose checksums are wrong."""


def recover_catalog(
    store: Store, beside: Path, restored: Restored, recovery: Recovery, progress: Progress | None = None
) -> None:
    """Bring the predictions over that the rows of the new file name; within the caller's transaction.

    Parameters
    ----------
    beside : Path
        The folder of the damaged workspace.
    """
    database = store.database
    found = _Found(beside)
    if not has_predictions(database) and not found.left:
        return
    with device_errors(store.folder), scratch_folder() as scratch:
        _check_staged_arrays(store, recovery)
        files = database.rows(
            "SELECT file_key, kind, name, rows, size_bytes, content_hash, length(id_filter) FROM catalog_files"
        )
        for done, (key, kind, name, rows, size_bytes, digest, has_filter) in enumerate(files, start=1):
            inside = database.rows("SELECT chunk_index FROM catalog_payloads WHERE file_key = ?", (key,))
            path: Path | None
            if inside:
                path = _take_out(store, scratch / f"{key}.parquet", key, size_bytes)
            else:
                path = found.by_hash(digest) or found.by_name(name)
            if path is None:
                _forget(store, key)
                recovery.count_lost(_KINDS[kind], rows)
            elif content_hash(path) != digest or not has_filter:
                lost = rows - _write_again(store, key, path, kind)
                recovery.count_lost(_KINDS[kind], max(0, lost))
            elif not inside:
                _copy(path, store.folder / path.name, store, key)
            if progress:
                progress(done, len(files))
        if "catalog_files" not in restored.complete:
            _adopt(store, found, recovery)
        if restored.guessed:
            _let_go_of_doubles(store)
        _let_go_of_arrays(store, recovery)
        if store.folder.exists():
            disk.sync(store.folder)
            disk.sync(store.folder.parent)


class _Found:
    """The Parquet files that lie in the folder of the damaged workspace."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        self.left = {path: content_hash(path) for path in paths if catalog_file_kind(path.name)}

    def by_hash(self, digest: bytes) -> Path | None:
        """Give the file with that content, whatever its name."""
        return self._taken([path for path, found in self.left.items() if found == digest])

    def by_name(self, name: str) -> Path | None:
        """Give the file of that name."""
        return self._taken([path for path in self.left if path.name == name])

    def _taken(self, paths: list[Path]) -> Path | None:
        for path in paths[:1]:
            del self.left[path]
        return paths[0] if paths else None


def _take_out(store: Store, path: Path, key: int, size_bytes: int) -> Path:
    """Write what is left of a file that lies inside, each piece in its place."""
    with path.open("wb") as stream:
        for index, payload in store.database.rows(
            "SELECT chunk_index, payload FROM catalog_payloads WHERE file_key = ? ORDER BY chunk_index", (key,)
        ):
            stream.seek(index * CHUNK_BYTES)
            stream.write(payload)
        if stream.tell() < size_bytes:
            stream.truncate(size_bytes)
    return path


def _copy(path: Path, target: Path, store: Store, key: int) -> None:
    disk.make_folder(store.folder)
    disk.copy(path, target)
    store.database.rows("UPDATE catalog_files SET name = ? WHERE file_key = ?", (target.name, key))


def _forget(store: Store, key: int) -> None:
    store.database.rows("DELETE FROM catalog_files WHERE file_key = ?", (key,))


def _write_again(
    store: Store, key: int | None, path: Path, kind: str, change: Callable[[pa.Table], pa.Table] = lambda table: table
) -> int:
    """Write the rows that can be read to a file of their own, which takes the place of another; give how many."""
    disk.make_folder(store.folder)
    target = store.folder / new_name(kind)
    batches = (batch for table in _readable(path, kind) for batch in change(table).to_batches())
    expected = max(1, sum(table.num_rows for table in _readable(path, kind)))
    written = parquet.write(batches, target, kind, owner_of(store.database), expected, lambda _: None)
    if not written.rows:
        disk.remove(target)
    else:
        new = enter(store.database, target, *astuple(written))
        if key is not None:
            store.database.rows("UPDATE deleted_predictions SET file_key = ? WHERE file_key = ?", (new, key))
    if key is not None:
        _forget(store, key)
    return written.rows


def _readable(path: Path, kind: str) -> Iterator[pa.Table]:
    """Give the row groups whose pages have the checksums that were written with them."""
    schema = parquet.SCHEMAS[kind]
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        groups = file.num_row_groups
    except _UNREADABLE:
        return
    with file:
        for group in range(groups):
            try:
                table = file.read_row_group(group).select(schema.names).cast(schema)
                table.validate(full=True)
            except _UNREADABLE:
                continue
            yield table


def _adopt(store: Store, found: _Found, recovery: Recovery) -> None:
    """Take files that no row names, where such rows are gone; one that a crash had left over brings nothing twice."""
    for path in sorted(found.left, key=lambda path: path.stat().st_mtime, reverse=True):
        kind = catalog_file_kind(path.name)
        table = "predictions" if kind == "meta" else "arrays"
        present = pa.array([name for (name,) in ask(store, f"SELECT {_IDS[kind]} FROM {table}")], pa.string())
        rows = _write_again(store, None, path, kind, partial(_new_among, _IDS[kind], present))
        recovery.notes.append(f"{rows} {_KINDS[kind]} are of {path.name}; nothing is left that says whether it counted")


def _new_among(column: str, present: pa.Array, table: pa.Table) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table[column], present)))


def _check_staged_arrays(store: Store, recovery: Recovery) -> None:
    """Take out arrays that are not what their id says."""
    rows = store.database.rows("SELECT array_key, array_id, dtype, shape, data FROM staged_arrays")
    wrong = [(key,) for key, *array in rows if not is_what_its_id_says(*array)]
    store.database.run_many("DELETE FROM staged_arrays WHERE array_key = ?", wrong)
    recovery.count_lost(_KINDS["data"], len(wrong))


def _let_go_of_doubles(store: Store) -> None:
    """Let go of staged rows that are in Parquet files too: they came back with a page that was free."""
    for kind, table in (("meta", "staged_predictions"), ("data", "staged_arrays")):
        column = _IDS[kind]
        ids = {name for (name,) in store.database.rows(f"SELECT {column} FROM {table}")}
        doubled = find_in_files(store, kind, None, column, sorted(ids), (column,)) if ids else []
        store.database.run_many(f"DELETE FROM {table} WHERE {column} = ?", doubled)


def _let_go_of_arrays(store: Store, recovery: Recovery) -> None:
    """Let predictions be without the arrays that are gone; their scores stay."""
    gone = [array_id for (array_id,) in ask(store, DANGLING)]
    if not gone:
        return
    recovery.count_lost("arrays that predictions name", len(gone))
    database, names = store.database, json.dumps(gone)
    for column in ARRAY_IDS:
        database.rows(
            f"UPDATE staged_predictions SET {column} = NULL WHERE {column} IN (SELECT value FROM json_each(?))",
            (names,),
        )
    lost = pa.array(gone, pa.string())
    for key, name in database.rows("SELECT file_key, name FROM catalog_files WHERE kind = 'meta'"):
        path = store.folder / name
        if database.value("SELECT EXISTS (SELECT 1 FROM catalog_payloads WHERE file_key = ?)", (key,)):
            size = database.value("SELECT size_bytes FROM catalog_files WHERE file_key = ?", (key,))
            disk.make_folder(store.folder)
            path = _take_out(store, store.folder / new_name("meta"), key, size)
        _write_again(store, key, path, "meta", lambda table: _without(table, lost))
        disk.remove(path)


def _without(table: pa.Table, lost: pa.Array) -> pa.Table:
    for column in ARRAY_IDS:
        kept = pc.if_else(pc.is_in(table[column], lost), None, table[column])
        table = table.set_column(table.schema.get_field_index(column), column, kept)
    return table
