"""Blobs go from one workspace file to another as they lie, encoded: nothing is decoded, and no hash changes."""

from __future__ import annotations

from collections.abc import Iterable

from artifactdb.blobs.store import CHUNK, find
from artifactdb.database import Database
from artifactdb.errors import CorruptBlobError

_BLOB = "SELECT content_hash, size_bytes, stored_bytes, created_at FROM blobs WHERE blob_key = ?"
_PARTS = "SELECT part_key FROM blob_parts WHERE blob_key = ? ORDER BY position"
_CHUNKS = "SELECT chunk_index FROM chunks WHERE blob_key = ? ORDER BY chunk_index"
_INSERT = "INSERT INTO blobs (content_hash, size_bytes, stored_bytes, created_at) VALUES (?, ?, ?, ?)"
_INSERT_CHUNK = (
    "INSERT INTO chunks (blob_key, chunk_index, size_bytes, codec, shuffle, payload) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_PART = "INSERT INTO blob_parts (blob_key, position, part_key) VALUES (?, ?, ?)"


def copy_blobs(source: Database, target: Database, blob_keys: Iterable[int]) -> dict[int, int]:
    """Copy blobs with their parts, those that the target has left out; give the target's key of each.

    Runs within the caller's transaction on the target.
    """
    keys: dict[int, int] = {}
    for key in blob_keys:
        if key not in keys:
            keys[key] = _copy(source, target, key, keys)
    return keys


def _copy(source: Database, target: Database, key: int, keys: dict[int, int]) -> int:
    row = source.row(_BLOB, (key,))
    if row is None:
        raise CorruptBlobError(f"blob {key} is missing from {source.path}.", content_hash="")
    present = find(target, row[0])
    if present is not None:
        return present
    parts = [part for (part,) in source.rows(_PARTS, (key,))]
    for part in parts:
        if part not in keys:
            keys[part] = _copy(source, target, part, keys)
    made = target.insert(_INSERT, row)
    for (index,) in source.rows(_CHUNKS, (key,)):
        target.insert(_INSERT_CHUNK, (made, index, *source.rows(CHUNK, (key, index))[0]))
    target.run_many(_INSERT_PART, [(made, position, keys[part]) for position, part in enumerate(parts)])
    return made
