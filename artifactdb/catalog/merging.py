"""Staged rows become Parquet, and many Parquet files become few: written beside, then named in SQLite at once.

The order is always the same: read one state, write new files, wait until they are on the disk, commit the change of
names, remove what no longer counts. A process that dies between any two of these leaves a whole catalog.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from artifactdb.catalog import parquet
from artifactdb.catalog.arrays import stored_again
from artifactdb.catalog.bloom import hashed, may_contain
from artifactdb.catalog.columns import ARRAY_IDS, column_list
from artifactdb.catalog.engine import Session, literal, parquet_rows, translated
from artifactdb.catalog.files import (
    FINAL_NAMES,
    CatalogFile,
    device_errors,
    discard,
    enter,
    is_own,
    is_shared,
    live_files,
    new_name,
    only_writer,
    owner_of,
    remove_unread,
    says_own,
    sweep,
)
from artifactdb.catalog.staging import arrays_of, stage
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import State, rows_of, state_of
from artifactdb.database import Database, Snapshot, disk
from artifactdb.database.keys import last_key_of
from artifactdb.database.translate import interprets

Progress = Callable[[int, int], None]

SMALL_ROWS = 100_000
"""A flush takes along files smaller than this, so that many small flushes do not leave many files."""

_SORTED_BYTES = 96 << 20
_LONG_BYTES = 2048  # of an array; shorter ones are sorted on the disk, however many
_LAST_DELETION = f"SELECT {last_key_of('deleted_predictions')}"
_STAGED = {"meta": ("staged_predictions", "staged_key"), "data": ("staged_arrays", "array_key")}


@dataclass(slots=True)
class _Merge:
    """What becomes one new file of one kind."""

    kind: str
    files: list[CatalogFile]
    last_staged: int
    path: Path
    written: parquet.Written = field(default_factory=parquet.Written)


def flush(store: Store, progress: Progress | None = None) -> int:
    """Move staged rows into Parquet; give how many."""
    with device_errors(store.folder), only_writer(store.folder, store.database.timeout_s):
        with state_of(store.database, store.inspector) as state:
            staged = _count(state.snapshot, "staged_predictions")
            arrays = _count(state.snapshot, "staged_arrays")
            merges = [
                _Merge(kind, _small(state, kind, rows), _last(state.snapshot, kind), store.folder / new_name(kind))
                for kind, rows in (("meta", staged), ("data", arrays))
                if rows
            ]
            if merges:
                _write(store, state, merges, progress)
            last_deletion = _last_deletion(state.snapshot)
        if merges:
            _publish(store, merges, last_deletion)
        # Only now: a state keeps its files in place, under whatever second name.
        sweep(store.database, store.folder, replaced=_replaced(store, state, merges))
    return staged


def compact(store: Store, progress: Progress | None = None, *, skip_damaged: bool = False) -> bool:
    """Make exactly the two files of the seed of all that counts; give whether there was anything to do."""
    database = store.database
    with device_errors(store.folder), only_writer(store.folder, database.timeout_s):
        merges: list[_Merge] = []
        with state_of(database, store.inspector, skip_damaged=skip_damaged) as state:
            last_deletion = _last_deletion(state.snapshot)
            referenced_only = last_deletion > 0  # a flush that merged deletions away left the arrays
            if skip_damaged:
                state.read_whole(state.files)
            if state.problems or not _is_compact(store, state):
                state.read_whole(state.files)
                for kind in FINAL_NAMES:
                    state.of_kind(kind)  # raises for a damaged file, unless it is to be given up
                merges = [
                    _Merge(kind, [file for file in state.files if file.kind == kind], _last(state.snapshot, kind),
                           store.folder / new_name(kind))
                    for kind in FINAL_NAMES
                ]  # fmt: skip
                _write(store, state, merges, progress, referenced_only=referenced_only)
        replaced = _replaced(store, state, merges)
        if merges:
            _publish(store, merges, last_deletion, referenced_only=referenced_only)
            _take_final_names(store, replaced)
        sweep(database, store.folder, database.timeout_s, replaced)
    return bool(merges)


def _replaced(store: Store, state: State, merges: Sequence[_Merge]) -> set[str]:
    """Give the names of what was merged or given up, but for those that another program's files have by now."""
    return {
        file.name
        for merge in merges
        for file in merge.files
        if not file.inside and (file.file_key not in state.problems or _may_be_own(store, file))
    }


def _may_be_own(store: Store, file: CatalogFile) -> bool:
    return says_own(store.folder / file.name, owner_of(store.database)) is not False


def _is_compact(store: Store, state: State) -> bool:
    ((pending,),) = state.snapshot.rows(
        "SELECT EXISTS (SELECT 1 FROM staged_predictions) OR EXISTS (SELECT 1 FROM staged_arrays) "
        "OR EXISTS (SELECT 1 FROM deleted_predictions)"
    )
    if pending or sorted(file.kind for file in state.files) not in ([], sorted(FINAL_NAMES)):
        return False
    return not any(file.name != FINAL_NAMES[file.kind] and _may_have_name(store, file) for file in state.files)


def _small(state: State, kind: str, rows: int) -> list[CatalogFile]:
    """Give the newest files that are no larger than what has been gathered so far: each row moves a few times only."""
    taken = []
    for file in reversed([file for file in state.files if file.kind == kind]):
        if file.rows > rows or file.rows >= SMALL_ROWS:
            break
        state.read_whole([file])
        if file.file_key in state.problems:
            break
        taken.append(file)
        rows += file.rows
    return taken


def _count(snapshot: Snapshot, table: str) -> int:
    return int(snapshot.rows(f"SELECT count(*) FROM {table}")[0][0])


def _last(snapshot: Snapshot, kind: str) -> int:
    table, key = _STAGED[kind]
    return int(snapshot.rows(f"SELECT coalesce(max({key}), 0) FROM {table}")[0][0])


def _last_deletion(snapshot: Snapshot) -> int:
    """Give the greatest number that a deletion ever had, be it listed still or not; 0 if there was none."""
    return int(snapshot.rows(_LAST_DELETION)[0][0])


# -- writing ----------------------------------------------------------------------------------------


def _write(
    store: Store,
    state: State,
    merges: Sequence[_Merge],
    progress: Progress | None,
    *,
    referenced_only: bool = False,
) -> None:
    try:
        with store.writing_engine.session(state.files) as session:
            _write_all(session, state, merges, progress, referenced_only=referenced_only)
        disk.sync(store.folder)
    except BaseException:
        discard(store.database, (merge.path for merge in merges))
        raise


def _write_all(
    session: Session, state: State, merges: Sequence[_Merge], progress: Progress | None, *, referenced_only: bool
) -> None:
    expected = [
        sum(file.rows for file in merge.files) + _count(state.snapshot, _STAGED[merge.kind][0]) for merge in merges
    ]
    owner, done = owner_of(state.snapshot), 0
    for merge, rows in zip(merges, expected, strict=True):
        whole = [file for file in merge.files if file.file_key not in state.problems]
        select = rows_of(session, state, merge.kind, whole)
        if merge.kind == "data" and referenced_only:
            select = _only_referenced(session, state, select)
        is_lost = any(file.kind == "data" and file.file_key in state.problems for file in state.files)
        if merge.kind == "meta" and is_lost and state.skip_damaged:
            select = _without_lost_arrays(session, state, select)
        merge.written = write_sorted(
            session, select, merge.path, merge.kind, owner, rows, counted_from(done, sum(expected), progress)
        )
        done += rows


@interprets
def write_sorted(
    session: Session,
    select: str,
    path: Path,
    kind: str,
    owner: bytes,
    expected: int,
    progress: Callable[[int], None],
    check: Callable[[pa.RecordBatch], None] | None = None,
) -> parquet.Written:
    """Write the rows of a SELECT, sorted by DuckDB within its memory limit; ``check`` may raise for what it sees."""
    columns, order = column_list(parquet.SCHEMAS[kind].names), column_list(parquet.ORDERS[kind])
    with translated():
        sql = f"SELECT {columns} FROM ({select})"
        parts = [f"{sql} WHERE {part}" for part in _parts(session, select)] if kind == "data" else [sql]
        sorted_rows = (
            batch
            for part in parts
            for batch in session.cursor.sql(f"{part} ORDER BY {order}").to_arrow_reader(parquet.ROWS_A_BATCH)
        )
        checked = sorted_rows if check is None else _each_checked(sorted_rows, check)
        return parquet.write(checked, path, kind, owner, expected, progress)


def _each_checked(
    batches: Iterable[pa.RecordBatch], check: Callable[[pa.RecordBatch], None]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        check(batch)
        yield batch


def _parts(session: Session, select: str) -> list[str]:
    """Give conditions that cut arrays into ranges of ids, in order: DuckDB sorts long lists in memory alone."""
    found = session.cursor.sql(f"SELECT count(*), coalesce(sum(array_size), 0) * 8 FROM ({select})").fetchall()
    ((rows, size_bytes),) = found
    count = int(size_bytes // _SORTED_BYTES) + 1
    if count == 1 or size_bytes < rows * _LONG_BYTES:
        return ["true"]
    shares = ", ".join(str(number / count) for number in range(1, count))
    ((bounds,),) = session.cursor.sql(f"SELECT quantile_disc(array_id, [{shares}]) FROM ({select})").fetchall()
    limits = sorted(set(bounds))
    lower = ["true", *(f"array_id > {literal(limit)}" for limit in limits)]
    upper = [*(f"array_id <= {literal(limit)}" for limit in limits), "true"]
    return [f"{above} AND {below}" for above, below in zip(lower, upper, strict=True)]


def counted_from(done: int, total: int, progress: Progress | None) -> Callable[[int], None]:
    """Give what is told of the rows of one file, and tells how many of all files are done."""
    return (lambda rows: progress(done + rows, total)) if progress else (lambda rows: None)


def _only_referenced(session: Session, state: State, select: str) -> str:
    session.view("kept_predictions", rows_of(session, state, "meta", state.of_kind("meta")))
    named = " UNION ALL ".join(f"SELECT {name} AS array_id FROM kept_predictions" for name in ARRAY_IDS)
    return f"SELECT * FROM ({select}) WHERE array_id IN (SELECT array_id FROM ({named}) WHERE array_id IS NOT NULL)"


def _without_lost_arrays(session: Session, state: State, select: str) -> str:
    """Let predictions be without the arrays that are given up; their scores stay."""
    session.view("kept_arrays", rows_of(session, state, "data", state.of_kind("data")))
    kept = ", ".join(
        f"CASE WHEN {name} IN (SELECT array_id FROM kept_arrays) THEN {name} END AS {name}" for name in ARRAY_IDS
    )
    return f"SELECT * REPLACE ({kept}) FROM ({select})"


# -- naming -----------------------------------------------------------------------------------------


def _publish(store: Store, merges: Sequence[_Merge], last_deletion: int, *, referenced_only: bool = False) -> None:
    """Let the new files count instead of what they were made of, and carry over what was deleted meanwhile."""
    database = store.database
    try:
        with database.transaction():
            for merge in merges:
                file_key = enter(database, merge.path, *astuple(merge.written))
                if merge.kind == "meta":
                    _carry_deletions(database, merge, file_key, last_deletion)
                else:
                    _settle_arrays(store, merge, merges, referenced_only=referenced_only)
                table, key = _STAGED[merge.kind]
                newer = database.value(f"SELECT EXISTS (SELECT 1 FROM {table} WHERE {key} > ?)", (merge.last_staged,))
                # Without a condition SQLite drops the pages instead of visiting the rows.
                condition = f" WHERE {key} <= {merge.last_staged:d}" if newer else ""
                database.rows(f"DELETE FROM {table}{condition}")
                replaced = [(file.file_key,) for file in merge.files]
                database.run_many("DELETE FROM catalog_files WHERE file_key = ?", replaced)
    except BaseException:
        discard(database, (merge.path for merge in merges))
        raise
    store.staged_bytes = 0


def _carry_deletions(database: Database, merge: _Merge, file_key: int, last_deletion: int) -> None:
    database.rows(
        "INSERT OR IGNORE INTO deleted_predictions (file_key, id) SELECT ?, id FROM deleted_predictions "
        "WHERE deletion_key > ? AND (file_key IS NULL OR file_key IN (SELECT value FROM json_each(?)))",
        (file_key, last_deletion, json.dumps([file.file_key for file in merge.files])),
    )
    database.rows("DELETE FROM deleted_predictions WHERE file_key IS NULL")


def _settle_arrays(store: Store, merge: _Merge, merges: Sequence[_Merge], *, referenced_only: bool) -> None:
    """See to arrays that were staged, or found a new prediction, after the merge had read its state."""
    database = store.database
    newer = database.rows("SELECT array_id FROM staged_arrays WHERE array_key > ?", (merge.last_staged,))
    # Deleted and staged again meanwhile: the new file has them.
    doubled = _in_files(store, [merge.path], [array_id for (array_id,) in newer], merge.written.filter_bits)
    database.run_many("DELETE FROM staged_arrays WHERE array_id = ?", [(array_id,) for array_id, *_ in doubled])
    if not referenced_only:
        return
    # Left out as nobody's, and named by a prediction that was added meanwhile.
    (last,) = (other.last_staged for other in merges if other.kind == "meta")
    added = database.rows(f"SELECT {column_list()} FROM staged_predictions WHERE staged_key > ?", (last,))
    named = arrays_of(added) - {array_id for (array_id,) in newer}
    kept = {array_id for array_id, *_ in _in_files(store, [merge.path], sorted(named), merge.written.filter_bits)}
    old = [store.inspector.path_of(database, file) for file in merge.files]
    stage(store, [], [stored_again(*row) for row in _in_files(store, old, sorted(named - kept))])


def _in_files(
    store: Store, paths: Sequence[Path], array_ids: Sequence[str], filter_bits: bytes | None = None
) -> list[tuple[Any, ...]]:
    """Give the arrays with these ids that lie in some files."""
    if filter_bits is not None and array_ids:
        possible = may_contain(filter_bits, hashed(array_ids))
        array_ids = [array_id for array_id, may in zip(array_ids, possible, strict=True) if may]
    if not array_ids or not paths:
        return []
    with store.writing_engine.session([]) as session, translated():
        found: list[tuple[Any, ...]] = session.cursor.execute(
            "SELECT array_id, array_type, array_dtype, array_shape, array_data, array_bytes "
            f"FROM {parquet_rows(paths)} "
            "WHERE array_id IN (SELECT unnest(?))",
            [list(array_ids)],
        ).fetchall()
    return found


def _may_have_name(store: Store, file: CatalogFile, replaced: Container[str] = ()) -> bool:
    """Tell whether a file may take the name of the seed: nobody else's file has it, or may count under it."""
    final = store.folder / FINAL_NAMES[file.kind]
    if is_shared(store.folder, store.database.path):
        return False
    return final.name in replaced or not final.exists() or is_own(final, owner_of(store.database))


def _take_final_names(store: Store, replaced: Container[str]) -> None:
    """Give the two files the names of the seed: a second name first, then the commit, then the first name goes.

    Where somebody is still reading the file that bears the name, this one keeps its own until the next compaction; and
    as long as it is the file of another program or workspace.
    """
    database, folder = store.database, store.folder
    for file in live_files(database):
        final = folder / FINAL_NAMES[file.kind]
        if file.inside or file.name == final.name or not _may_have_name(store, file, replaced):
            continue
        if not remove_unread(final, database.timeout_s):
            continue
        try:
            disk.link(folder / file.name, final)
        except OSError:  # a file system without hard links
            disk.copy(folder / file.name, final)
        disk.sync(folder)
        with database.transaction():
            database.rows("UPDATE catalog_files SET name = ? WHERE file_key = ?", (final.name, file.file_key))
