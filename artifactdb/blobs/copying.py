"""Blobs go from one workspace file to another as they lie, encoded; what does not match its hash is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from artifactdb.blobs.codec import decode, stored_chunk
from artifactdb.blobs.store import CHUNK, damaged_of, described, empty, read_as_containers
from artifactdb.database import Database, Snapshot
from artifactdb.errors import CorruptBlobError
from artifactdb.formats.container import parts_of

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
SELECT bp.blob_key, bp.position, bp.part_key, b.content_hash
FROM blob_parts AS bp JOIN blobs AS b ON b.blob_key = bp.part_key
WHERE bp.blob_key IN (SELECT value FROM json_each(?)) ORDER BY bp.blob_key, bp.position
"""
_STORED = """
SELECT blob_key, sum(length(payload)) FROM chunks WHERE blob_key IN (SELECT value FROM json_each(?)) GROUP BY blob_key
"""
_CHUNKS = """
SELECT blob_key, chunk_index, size_bytes, codec, shuffle, payload FROM chunks
WHERE blob_key IN (SELECT value FROM json_each(?)) ORDER BY blob_key, chunk_index
"""
_INSERT = "INSERT INTO blobs (blob_key, content_hash, size_bytes, stored_bytes, created_at) VALUES (?, ?, ?, ?, ?)"
_UPDATE = "UPDATE blobs SET size_bytes = ?, stored_bytes = ? WHERE blob_key = ?"
_INSERT_CHUNK = (
    "INSERT INTO chunks (blob_key, chunk_index, size_bytes, codec, shuffle, payload) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_PART = "INSERT INTO blob_parts (blob_key, position, part_key) VALUES (?, ?, ?)"
_LAST_KEY = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'blobs'"

_BLOBS_AT_ONCE = 2000
_BYTES_AT_ONCE = 4 << 20


@dataclass(frozen=True, slots=True)
class _Blob:
    key: int
    digest: bytes
    size_bytes: int
    stored_bytes: int
    new_key: int


def copy_blobs(
    source: Snapshot,
    target: Database,
    wanted: Iterable[int] | None = None,
    progress: Progress | None = None,
    mended: list[bytes] | None = None,
) -> dict[int, int]:
    """Copy blobs with their parts, those that the target has left out; give the target's key of each.

    What the target has, but damaged, is written anew under the key that it has.

    Runs within the caller's transaction on the target. Memory stays bounded however large the blobs are.

    Parameters
    ----------
    wanted : iterable of int, optional
        Keys in the source; else all that records and library entries reach.
    progress : callable, optional
        Called with (stored bytes done, stored bytes in all).
    mended : list of bytes, optional
        Gets the hashes of what was written anew.

    Raises
    ------
    CorruptBlobError
        When the bytes of a blob do not match its hash.
    """
    chosen = (_ALL if wanted is None else _CHOSEN) + _REACHED
    parameters = {} if wanted is None else {"wanted": json.dumps(list(wanted))}
    total = source.rows(chosen + _TOTAL, parameters)[0][0]
    next_key = first_key = target.value(_LAST_KEY) + 1
    keys: dict[int, int] = {}
    made: list[int] = []
    done = 0
    check = _Check()
    with ThreadPoolExecutor(1) as reader:
        for batch in source.batches(chosen + _BLOBS, parameters, _BLOBS_AT_ONCE):
            hashes = json.dumps([described(*row[:3])[0].hex() for row in batch])
            present: dict[bytes, int] = dict(target.rows(_PRESENT, (hashes,)))
            damaged = damaged_of(target, {digest: key for digest, key in present.items() if key < first_key})
            new, anew = [], []
            for key, digest, size_bytes, stored_bytes, created_at in batch:
                if not isinstance(stored_bytes, int):
                    raise _corrupt(digest, "its row does not say what it takes")
                if digest in present:
                    keys[key] = present[digest]
                    if damaged.pop(digest, ""):
                        anew.append(_Blob(key, digest, size_bytes, stored_bytes, present[digest]))
                    else:
                        done += stored_bytes
                    continue
                keys[key] = present[digest] = next_key
                new.append((_Blob(key, digest, size_bytes, stored_bytes, next_key), created_at))
                next_key += 1
            target.run_many(
                _INSERT, [(b.new_key, b.digest, b.size_bytes, b.stored_bytes, created) for b, created in new]
            )
            for blob in anew:
                empty(target, blob.new_key)
            target.run_many(_UPDATE, [(blob.size_bytes, blob.stored_bytes, blob.new_key) for blob in anew])
            if mended is not None:
                mended += [blob.digest for blob in anew]
            blobs = sorted([*anew, *(blob for blob, _ in new)], key=attrgetter("key"))
            _require_stored(source, blobs)
            done = _copy_chunks(source, target, blobs, reader, check, progress, done, total)
            made += [blob.key for blob in blobs]
    for first in range(0, len(made), _BLOBS_AT_ONCE):
        several = made[first : first + _BLOBS_AT_ONCE]
        named: dict[int, list[bytes]] = {key: [] for key in several}
        parts = source.rows(_PARTS, (json.dumps(several),))
        for key, _, _, digest in parts:
            named[key].append(digest)
        unlisted = [key for key in several if check.parts.get(key) and not named[key]]
        bare = set(unlisted) - read_as_containers(source, unlisted) if unlisted else set()
        for key in several:
            is_other = named[key] != check.parts.get(key, []) and key not in bare
            if is_other or any(part not in keys for _, _, part, _ in parts):
                digest = source.rows("SELECT content_hash FROM blobs WHERE blob_key = ?", (key,))[0][0]
                raise _corrupt(digest, "the arrays that it names are not those that are listed")
        target.run_many(_INSERT_PART, [(keys[key], position, keys[part]) for key, position, part, _ in parts])
    return keys


def _require_stored(source: Snapshot, blobs: list[_Blob]) -> None:
    """Compare what blobs are said to take with what they take, before memory is spent on them."""
    taken: dict[int, int] = dict(source.rows(_STORED, (json.dumps([blob.key for blob in blobs]),)))
    for blob in blobs:
        if taken.get(blob.key, 0) != blob.stored_bytes:
            raise _corrupt(blob.digest, f"it takes {taken.get(blob.key, 0)} bytes where {blob.stored_bytes} are said")


def _copy_chunks(
    source: Snapshot, target: Database, blobs: list[_Blob], reader: ThreadPoolExecutor, check: _Check,
    progress: Progress | None, done: int, total: int,
) -> int:  # fmt: skip
    by_key = {blob.key: blob for blob in blobs}
    chunks = _chunks(source, blobs)

    def read() -> list[tuple[Any, ...]] | None:
        rows = next(chunks, None)
        if rows is not None:
            check.chunks([(by_key[row[0]], row) for row in rows])
        return rows

    # Read and checked on another thread while this one writes: SQLite, decoding and hashing let go of the interpreter.
    coming = reader.submit(read)
    while (rows := coming.result()) is not None:
        coming = reader.submit(read)
        target.run_many(_INSERT_CHUNK, [(by_key[row[0]].new_key, *row[1:]) for row in rows])
        done += sum([len(row[5]) for row in rows])
        if progress:
            progress(done, total)
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
            raise _corrupt(blob.digest, f"chunk {index} is missing")
        done += stored_chunk(*found[0]).size_bytes
        yield [(blob.key, index, *found[0])]
        index += 1


class _Check:
    """Compares chunks, as they come by in order, with the hashes of their blobs."""

    def __init__(self) -> None:
        self.parts: dict[int, list[bytes]] = {}
        """The arrays that the bytes of a blob name, by its key."""
        self._seen: set[int] = set()
        self._begin(None)

    def _begin(self, blob: _Blob | None) -> None:
        self._blob, self._hasher, self._size, self._chunks = blob, hashlib.sha256(), 0, 0

    def chunks(self, rows: list[tuple[_Blob, tuple[Any, ...]]]) -> None:
        for blob, several in groupby(rows, key=itemgetter(0)):
            if self._blob is not blob:
                self._finish()
                self._begin(blob)
            for _, (_, index, size_bytes, codec, shuffle, payload) in several:
                if index != self._chunks:
                    raise _corrupt(blob.digest, f"chunk {self._chunks} is missing")
                try:
                    plain = decode(stored_chunk(size_bytes, codec, shuffle, payload))
                except CorruptBlobError as error:
                    raise _corrupt(blob.digest, error.message) from None
                if index == 0:
                    named = [digest for digest, _ in parts_of(plain)]
                    if named:
                        self.parts[blob.key] = named
                self._hasher.update(plain)
                self._size += len(plain)
                self._chunks += 1

    def end(self, blobs: list[_Blob]) -> None:
        """Finish the last blob, and look for blobs that had no chunk though they have bytes."""
        self._finish()
        for blob in blobs:
            if blob.key not in self._seen and (blob.size_bytes or blob.digest != hashlib.sha256().digest()):
                raise _corrupt(blob.digest, "its chunks are missing")
        self._seen.clear()

    def _finish(self) -> None:
        blob = self._blob
        if blob is None:
            return
        if self._hasher.digest() != blob.digest:
            raise _corrupt(blob.digest, "its bytes do not match its hash")
        if self._size != blob.size_bytes:
            raise _corrupt(blob.digest, f"it has {self._size} bytes where {blob.size_bytes} are said")
        self._seen.add(blob.key)
        self._begin(None)


def _corrupt(digest: bytes, what: str) -> CorruptBlobError:
    name = f"sha256:{digest.hex()}"
    return CorruptBlobError(
        f"blob {name} is damaged: {what}.", hint="`artifactdb verify` lists everything that is.", content_hash=name
    )
