"""Encode what is stored anew where that makes it smaller: no id and no hash changes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from artifactdb.blobs import store
from artifactdb.blobs.codec import encode_again, stored_chunk
from artifactdb.database import Database

LEVEL = 19

_BLOBS = "SELECT blob_key, stored_bytes FROM blobs ORDER BY blob_key"
_CHUNKS = "SELECT chunk_index FROM chunks WHERE blob_key = ? ORDER BY chunk_index"
_REPLACE = "UPDATE chunks SET codec = ?, shuffle = ?, payload = ? WHERE blob_key = ? AND chunk_index = ?"
_SIZE = "UPDATE blobs SET stored_bytes = stored_bytes - ? WHERE blob_key = ?"


@dataclass(frozen=True, slots=True)
class Optimized:
    """What encoding anew brought.

    Attributes
    ----------
    blobs, smaller : int
        How many blobs were looked at, and how many take less than before.
    before_bytes, after_bytes : int
        What all of them took and take, encoded.
    damaged : list of str
        Hashes of blobs that do not match theirs; they were left as they are.
    """

    blobs: int
    smaller: int
    before_bytes: int
    after_bytes: int
    damaged: list[str]


def optimize(database: Database, level: int = LEVEL, progress: Callable[[int, int], None] | None = None) -> Optimized:
    """Encode every chunk anew, each in a transaction of its own, so that others need not wait.

    Parameters
    ----------
    level : int, default 19
        Zstandard's, 1 to 19.
    progress : callable, optional
        Called with (blobs done, blobs in all).
    """
    blobs = database.rows(_BLOBS)
    before = sum(stored for _, stored in blobs)
    saved, smaller, damaged = 0, 0, []
    for done, (key, _) in enumerate(blobs, start=1):
        if wrong := _wrong_with(database, key):
            damaged.append(wrong)
        elif gained := sum(_again(database, key, index, level) for (index,) in database.rows(_CHUNKS, (key,))):
            saved, smaller = saved + gained, smaller + 1
        if progress:
            progress(done, len(blobs))
    return Optimized(len(blobs), smaller, before, before - saved, damaged)


def _wrong_with(database: Database, key: int) -> str:
    """Give the hash of a blob that is damaged; of one that was deleted meanwhile there is nothing to say."""
    with database.reading():
        digest = database.value("SELECT content_hash FROM blobs WHERE blob_key = ?", (key,))
        return f"sha256:{digest.hex()}" if digest is not None and store.check(database, key) else ""


def _again(database: Database, key: int, index: int, level: int) -> int:
    """Give how many bytes less a chunk takes."""
    row = database.row(store.CHUNK, (key, index))
    if row is None:
        return 0
    old = stored_chunk(*row)
    new = encode_again(old, level)
    if new is None:
        return 0
    gained = len(old.payload) - len(new.payload)
    with database.transaction():
        if database.row(store.CHUNK, (key, index)) != row:  # gone, or somebody else was here
            return 0
        database.rows(_REPLACE, (new.codec, new.shuffle, new.payload, key, index))
        database.rows(_SIZE, (gained, key))
    return gained
