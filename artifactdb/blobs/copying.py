"""Blobs go from one workspace file to another as they lie, encoded; what does not match its hash is refused."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from artifactdb.blobs.codec import EncodedChunk, decode
from artifactdb.blobs.store import CHUNK
from artifactdb.database import Database, Snapshot
from artifactdb.errors import CorruptBlobError

Progress = Callable[[int, int], None]

_ALL = """
WITH owners (blob_key) AS (
  SELECT blob_key FROM records UNION SELECT blob_key FROM library_artifacts UNION SELECT blob_key FROM library_files
)
"""
_CHOSEN = "WITH owners (blob_key) AS (SELECT value FROM json_each(:wanted))"
_REACHED = """
, reached (blob_key) AS (
  SELECT blob_key FROM owners
  UNION
  SELECT bp.part_key FROM owners JOIN blob_parts AS bp ON bp.blob_key = owners.blob_key
)
"""
_BLOBS = """
SELECT b.blob_key, b.content_hash, b.size_bytes, b.stored_bytes, b.created_at
FROM blobs AS b WHERE b.blob_key IN (SELECT blob_key FROM reached) ORDER BY b.blob_key
"""
_TOTAL = "SELECT coalesce(sum(b.stored_bytes), 0) FROM blobs AS b WHERE b.blob_key IN (SELECT blob_key FROM reached)"
_PRESENT = "SELECT content_hash, blob_key FROM blobs WHERE content_hash IN (SELECT unhex(value) FROM json_each(?))"
_PARTS = """
SELECT blob_key, position, part_key FROM blob_parts
WHERE blob_key IN (SELECT value FROM json_each(?)) ORDER BY blob_key, position
"""
_CHUNKS = """
SELECT blob_key, chunk_index, size_bytes, codec, shuffle, payload FROM chunks
WHERE blob_key IN (SELECT value FROM json_each(?)) ORDER BY blob_key, chunk_index
"""
_INSERT = "INSERT INTO blobs (blob_key, content_hash, size_bytes, stored_bytes, created_at) VALUES (?, ?, ?, ?, ?)"
_INSERT_CHUNK = (
    "INSERT INTO chunks (blob_key, chunk_index, size_bytes, codec, shuffle, payload) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_PART = "INSERT INTO blob_parts (blob_key, position, part_key) VALUES (?, ?, ?)"
_LAST_KEY = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'blobs'"

_BLOBS_AT_ONCE = 2000
_BYTES_AT_ONCE = 8 << 20
_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class _Blob:
    key: int
    digest: bytes
    size_bytes: int
    stored_bytes: int
    new_key: int


def copy_blobs(
    source: Snapshot, target: Database, wanted: Iterable[int] | None = None, progress: Progress | None = None
) -> dict[int, int]:
    """Copy blobs with their parts, those that the target has left out; give the target's key of each.

    Runs within the caller's transaction on the target. Memory stays bounded however large the blobs are.

    Parameters
    ----------
    wanted : iterable of int, optional
        Keys in the source; else all that records and library entries reach.
    progress : callable, optional
        Called with (stored bytes done, stored bytes in all).

    Raises
    ------
    CorruptBlobError
        When the bytes of a blob do not match its hash.
    """
    chosen = (_ALL if wanted is None else _CHOSEN) + _REACHED
    parameters = {} if wanted is None else {"wanted": json.dumps(list(wanted))}
    total = source.rows(chosen + _TOTAL, parameters)[0][0]
    next_key = target.value(_LAST_KEY) + 1
    keys: dict[int, int] = {}
    made: list[int] = []
    done = 0
    with ThreadPoolExecutor(1) as checker:
        for batch in source.batches(chosen + _BLOBS, parameters, _BLOBS_AT_ONCE):
            hashes = json.dumps([row[1].hex() for row in batch])
            present: dict[bytes, int] = dict(target.rows(_PRESENT, (hashes,)))
            new = []
            for key, digest, size_bytes, stored_bytes, created_at in batch:
                if digest in present:
                    keys[key] = present[digest]
                    done += stored_bytes
                    continue
                keys[key] = present[digest] = next_key
                new.append((_Blob(key, digest, size_bytes, stored_bytes, next_key), created_at))
                next_key += 1
            target.run_many(
                _INSERT, [(b.new_key, b.digest, b.size_bytes, b.stored_bytes, created) for b, created in new]
            )
            done = _copy_chunks(source, target, [blob for blob, _ in new], checker, progress, done, total)
            made += [blob.key for blob, _ in new]
    for first in range(0, len(made), _BLOBS_AT_ONCE):
        parts = source.rows(_PARTS, (json.dumps(made[first : first + _BLOBS_AT_ONCE]),))
        target.run_many(_INSERT_PART, [(keys[key], position, keys[part]) for key, position, part in parts])
    return keys


def _copy_chunks(
    source: Snapshot, target: Database, blobs: list[_Blob], checker: ThreadPoolExecutor, progress: Progress | None,
    done: int, total: int,
) -> int:  # fmt: skip
    by_key = {blob.key: blob for blob in blobs}
    running: deque[Future[None]] = deque()
    check = _Check()
    for rows in _chunks(source, blobs):
        # Checked on another thread while this one writes: decoding and hashing let go of the interpreter.
        running.append(checker.submit(check.chunks, [(by_key[row[0]], row) for row in rows]))
        target.run_many(_INSERT_CHUNK, [(by_key[row[0]].new_key, *row[1:]) for row in rows])
        if len(running) > _IN_FLIGHT:
            running.popleft().result()
        done += sum(len(row[5]) for row in rows)
        if progress:
            progress(done, total)
    for future in running:
        future.result()
    check.end(blobs)
    return done


def _chunks(source: Snapshot, blobs: list[_Blob]) -> Iterator[list[tuple[Any, ...]]]:
    """Give chunks in the order of their blobs, so many that they take about as much memory each time."""
    group: list[int] = []
    room = _BYTES_AT_ONCE
    for blob in blobs:
        if blob.stored_bytes > room and group:
            yield source.rows(_CHUNKS, (json.dumps(group),))
            group, room = [], _BYTES_AT_ONCE
        if blob.stored_bytes > _BYTES_AT_ONCE:
            yield from _one_by_one(source, blob)
            continue
        group.append(blob.key)
        room -= blob.stored_bytes
    if group:
        yield source.rows(_CHUNKS, (json.dumps(group),))


def _one_by_one(source: Snapshot, blob: _Blob) -> Iterator[list[tuple[Any, ...]]]:
    done = index = 0
    while done < blob.size_bytes:
        found = source.rows(CHUNK, (blob.key, index))
        if not found:
            raise _corrupt(blob, f"chunk {index} is missing")
        done += found[0][0]
        yield [(blob.key, index, *found[0])]
        index += 1


class _Check:
    """Compares chunks, as they come by in order, with the hashes of their blobs."""

    def __init__(self) -> None:
        self._blob: _Blob | None = None
        self._hasher = hashlib.sha256()
        self._stored = 0
        self._seen: set[int] = set()

    def chunks(self, rows: list[tuple[_Blob, tuple[Any, ...]]]) -> None:
        for blob, several in groupby(rows, key=itemgetter(0)):
            if self._blob is not None and self._blob is not blob:
                self._finish()
            self._blob = blob
            for _, (_, _, size_bytes, codec, shuffle, payload) in several:
                try:
                    self._hasher.update(decode(EncodedChunk(size_bytes, codec, shuffle, payload)))
                except CorruptBlobError as error:
                    raise _corrupt(blob, error.message) from None
                self._stored += len(payload)

    def end(self, blobs: list[_Blob]) -> None:
        """Finish the last blob, and look for blobs that had no chunk though they have bytes."""
        if self._blob is not None:
            self._finish()
        for blob in blobs:
            if blob.key not in self._seen and blob.digest != hashlib.sha256().digest():
                raise _corrupt(blob, "its chunks are missing")

    def _finish(self) -> None:
        blob = self._blob
        assert blob is not None
        if self._hasher.digest() != blob.digest:
            raise _corrupt(blob, "its bytes do not match its hash")
        if self._stored != blob.stored_bytes:
            raise _corrupt(blob, f"it takes {self._stored} bytes where {blob.stored_bytes} are said")
        self._seen.add(blob.key)
        self._blob, self._hasher, self._stored = None, hashlib.sha256(), 0


def _corrupt(blob: _Blob, what: str) -> CorruptBlobError:
    name = f"sha256:{blob.digest.hex()}"
    return CorruptBlobError(
        f"blob {name} is damaged: {what}.", hint="`artifactdb verify` lists everything that is.", content_hash=name
    )
