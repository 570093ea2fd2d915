"""Put content into the blob table and get it back, checked, in chunks of bounded size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from artifactdb.blobs.codec import (
    IMPORT_LEVEL,
    MAX_CHUNK_BYTES,
    EncodedChunk,
    can_hold,
    decode,
    decode_into,
    encode,
    stored_chunk,
)
from artifactdb.content import Content, StoredContent
from artifactdb.database import Database, Snapshot
from artifactdb.errors import CorruptBlobError, SerializationError
from artifactdb.formats.container import CONTAINER_FORMATS, parts_of

CHUNK_BYTES = 4 * 1024 * 1024
ENCODE_AHEAD_BYTES = 64 * 1024 * 1024
"""Content up to this size is encoded before the transaction, so that other writers need not wait for it."""

_FIND = "SELECT blob_key FROM blobs WHERE content_hash = ?"
_INSERT = "INSERT INTO blobs (content_hash, size_bytes, stored_bytes, created_at) VALUES (?, ?, ?, ?)"
_INSERT_CHUNK = (
    "INSERT INTO chunks (blob_key, chunk_index, size_bytes, codec, shuffle, payload) VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT_PART = "INSERT INTO blob_parts (blob_key, position, part_key) VALUES (?, ?, ?)"
CHUNK = "SELECT size_bytes, codec, shuffle, payload FROM chunks WHERE blob_key = ? AND chunk_index = ?"

BLOBS = """
SELECT blob_key, content_hash, size_bytes FROM blobs WHERE blob_key IN (
  SELECT value FROM json_each(?)
  UNION
  SELECT bp.part_key FROM json_each(?) AS wanted JOIN blob_parts AS bp ON bp.blob_key = wanted.value)
"""
PARTS = """
SELECT bp.blob_key, bp.part_key FROM blob_parts AS bp
WHERE bp.blob_key IN (SELECT value FROM json_each(?)) ORDER BY bp.blob_key, bp.position
"""
_STORED = "SELECT total(size_bytes), coalesce(sum(length(payload)), 0) FROM chunks WHERE blob_key = ?"
_PARTS_OF = """
SELECT b.content_hash FROM blob_parts AS bp JOIN blobs AS b ON b.blob_key = bp.part_key
WHERE bp.blob_key = ? ORDER BY bp.position
"""
_CONTAINERS = """
SELECT blob_key FROM records
WHERE blob_key IN (SELECT value FROM json_each(:keys)) AND format IN (SELECT value FROM json_each(:formats))
UNION SELECT blob_key FROM library_artifacts
WHERE blob_key IN (SELECT value FROM json_each(:keys))
  AND json_extract(record, '$.format') IN (SELECT value FROM json_each(:formats))
"""
_OTHER_SIZE = "its row speaks of"
_OTHER_PARTS = "the arrays that it names are not those that are listed"
Encoded = dict[bytes, list[EncodedChunk]]

_REMEMBERED = 10_000
"""So many hashes of blobs that were read, and matched them, are kept with a database."""


def find(database: Database, digest: bytes) -> int | None:
    """Give the key of the blob with that SHA-256, or None."""
    key: int | None = database.value(_FIND, (digest,))
    return key


def present_of(database: Database, contents: Iterable[Content]) -> dict[bytes, int]:
    """Give the keys of those blobs that are there already, by hash."""
    found = {blob.digest: find(database, blob.digest) for blob in contents}
    return {digest: key for digest, key in found.items() if key is not None}


def encode_ahead(content: Content, present: Container[bytes]) -> Encoded:
    """Encode what is not there and small enough to wait in memory; the rest is encoded while it is written."""
    ready: Encoded = {}
    room = ENCODE_AHEAD_BYTES
    for blob in (*content.parts, content):
        if blob.size_bytes <= room and blob.digest not in ready and blob.digest not in present:
            ready[blob.digest] = list(_encode(blob))
            room -= blob.size_bytes
    return ready


def encode_quickly(content: Content) -> Encoded:
    """Encode content of ``bytes``, which nobody can change meanwhile, without a look at what a file holds already.

    For many files at once, where time counts for more than space; several threads may do so.
    """
    return {
        blob.digest: [encode(group, IMPORT_LEVEL)[0] for group in blob.pieces(CHUNK_BYTES)]
        for blob in (*content.parts, content)
    }


def find_damaged(database: Database, content: Content) -> dict[bytes, str]:
    """Give the hashes of those blobs of content that the file has, but damaged, and what is wrong with each.

    What is saved must not rest on them. A blob is read once for each ``Database``, chunk by chunk; then it is known.
    """
    right: set[bytes] = database.kept.setdefault("right blobs", set())
    present: dict[bytes, int] = {}

    def look_for(digests: Iterable[bytes]) -> None:
        for digest in digests:
            if digest not in right and digest not in present and (key := find(database, digest)) is not None:
                present[digest] = key

    with database.reading():  # what is there now may be deleted by others before it is read
        look_for(blob.digest for blob in (*content.parts, content))
        if content.digest in present:  # what its bytes are not at hand of has parts, too
            look_for(part for (part,) in database.rows(_PARTS_OF, (present[content.digest],)))
        return damaged_of(database, present)


def damaged_of(database: Database, present: Mapping[bytes, int]) -> dict[bytes, str]:
    """Give which of some blobs are damaged, and what is wrong with each; those that were read are known."""
    right: set[bytes] = database.kept.setdefault("right blobs", set())
    wrong = {digest: check(database, key) for digest, key in present.items() if digest not in right}
    if len(right) >= _REMEMBERED:
        right.clear()
    right.update(digest for digest, what in wrong.items() if not what)
    return {digest: what for digest, what in wrong.items() if what}


def mend(database: Database, content: Content, created_at: str, ready: Encoded, damaged: Mapping[bytes, str]) -> None:
    """Write damaged blobs of content anew, under the keys that they have. Runs inside the caller's transaction.

    Raises
    ------
    CorruptBlobError
        When the bytes of one are not at hand.
    """
    blobs = {blob.digest: blob for blob in (*content.parts, content)}
    for digest, what in damaged.items():
        blob = blobs.get(digest)
        if blob is None or (blob.size_bytes and not blob.segments and digest not in ready):
            raise _corrupt(digest, what.removesuffix("."))
    for digest, blob in blobs.items():  # the object last, which lists its parts
        if digest in damaged:
            _write(database, find(database, digest), blob, created_at, ready)


def put_new(database: Database, content: Content, created_at: str, ready: Encoded) -> int:
    """Store content that is known not to be there, and give its key; its parts may be there, and right."""
    return _write(database, None, content, created_at, ready)


def empty(database: Database, key: int) -> None:
    """Take out what a blob holds and lists, to write it anew."""
    database.rows("DELETE FROM chunks WHERE blob_key = ?", (key,))
    database.rows("DELETE FROM blob_parts WHERE blob_key = ?", (key,))


def put(database: Database, content: Content, created_at: str, ready: Encoded) -> int:
    """Store content, unless it is there, and give its key. Runs inside the caller's transaction."""
    present = find(database, content.digest)
    return put_new(database, content, created_at, ready) if present is None else present


def _write(database: Database, key: int | None, content: Content, created_at: str, ready: Encoded) -> int:
    part_keys = [put(database, part, created_at, ready) for part in content.parts]
    chunks = ready.get(content.digest)
    stored = sum(len(chunk.payload) for chunk in chunks) if chunks is not None else 0
    is_new = key is None
    if key is None:
        key = database.insert(_INSERT, (content.digest, content.size_bytes, stored, created_at))
    else:
        empty(database, key)
    for index, chunk in enumerate(chunks if chunks is not None else _encode(content)):
        row = (key, index, chunk.size_bytes, chunk.codec, chunk.shuffle, chunk.payload)
        database.insert(_INSERT_CHUNK, row)
        if chunks is None:
            stored += len(chunk.payload)
    if chunks is None or not is_new:
        sizes = (content.size_bytes, stored, key)
        database.rows("UPDATE blobs SET size_bytes = ?, stored_bytes = ? WHERE blob_key = ?", sizes)
    if part_keys:
        database.run_many(_INSERT_PART, [(key, position, part) for position, part in enumerate(part_keys)])
    return key


def _encode(content: Content) -> Iterator[EncodedChunk]:
    hasher = hashlib.sha256()
    for group in content.pieces(CHUNK_BYTES):
        chunk, plain = encode(group)
        hasher.update(plain)
        yield chunk
    if hasher.digest() != content.digest:
        raise SerializationError(
            "the object changed while it was being saved.", hint="Save it when no other thread works on it."
        )


def get_many(database: Database, blob_keys: Sequence[int]) -> list[StoredContent]:
    """Give the checked bytes of blobs, each read once, and the way to their parts.

    Raises
    ------
    CorruptBlobError
        When stored bytes no longer match their hash.
    """
    if not all(isinstance(key, int) for key in blob_keys):
        raise CorruptBlobError(f"{database.path} names blobs by other things than numbers.")
    keys = json.dumps(list(blob_keys))
    wanted = {key: described(key, digest, size) for key, digest, size in database.rows(BLOBS, (keys, keys))}
    parts: dict[int, list[int]] = {}
    for key, part in database.rows(PARTS, (keys,)):
        parts.setdefault(key, []).append(part)
    for key in (*blob_keys, *chain.from_iterable(parts.values())):
        if key not in wanted:
            raise _missing(database, f"with key {key}")
    data = {key: _read(database, key, *wanted[key]) for key in dict.fromkeys(blob_keys)}
    for key in data:
        # Before a part is read, and for each owner copied: what is listed must be what the bytes name.
        named = [digest for digest, _ in parts_of(data[key])]
        if named != [wanted[part][0] for part in parts.get(key, [])]:
            raise _corrupt(wanted[key][0], _OTHER_PARTS)
    data |= {key: _read(database, key, *wanted[key]) for key in wanted if key not in data}
    contents = []
    given: set[int] = set()
    for key in blob_keys:
        buffers: dict[bytes, list[bytearray]] = {}
        for owned in (key, *parts.get(key, [])):
            # Each owner gets memory of its own: what one object does to its array must not reach another's.
            buffer = bytearray(data[owned]) if owned in given else data[owned]
            given.add(owned)
            buffers.setdefault(wanted[owned][0], []).append(buffer)
        whole = buffers[wanted[key][0]].pop(0)
        contents.append(StoredContent(whole, partial(_take_part, database, buffers), wanted[key][0]))
    return contents


def _take_part(database: Database, buffers: dict[bytes, list[bytearray]], digest: bytes) -> bytearray:
    found = buffers.get(digest)
    if not found:
        raise _missing(database, f"sha256:{digest.hex()}")
    return found.pop(0)


def check(database: Database, blob_key: int) -> str:
    """Read a blob chunk by chunk; give "" when it matches its hash, else what is wrong with it."""
    row = database.row("SELECT content_hash, size_bytes, stored_bytes FROM blobs WHERE blob_key = ?", (blob_key,))
    if row is None:
        raise _missing(database, f"with key {blob_key}")
    hasher = hashlib.sha256()
    named: list[bytes] = []
    try:
        digest, size_bytes = described(blob_key, *row[:2])
        _require_stored(database, blob_key, digest, size_bytes)
        for index, chunk in enumerate(_chunks(database, blob_key, digest, size_bytes)):
            plain = _decoded(decode, digest, chunk)
            if index == 0:
                named = [part for part, _ in parts_of(plain)]
            hasher.update(plain)
    except CorruptBlobError as error:
        return str(error)
    if hasher.digest() != digest:
        return "its bytes do not match its hash."
    if row[2] != (stored := database.rows(_STORED, (blob_key,))[0][1]):
        return f"{_OTHER_SIZE} {row[2]} stored bytes where its chunks take {stored}."
    listed = [part for (part,) in database.rows(_PARTS_OF, (blob_key,))]
    if listed == named or (not listed and blob_key not in read_as_containers(database, [blob_key])):
        return ""
    return f"{_OTHER_PARTS}."


def read_as_containers(source: Database | Snapshot, blob_keys: Sequence[int]) -> set[int]:
    """Tell of which blobs it matters what arrays they name: an array may hold the bytes of a container."""
    formats = json.dumps(sorted(CONTAINER_FORMATS))
    return {key for (key,) in source.rows(_CONTAINERS, {"keys": json.dumps(list(blob_keys)), "formats": formats})}


def lists_other_parts(what: str) -> bool:
    """Tell whether ``check`` found nothing wrong with a blob but the list of its arrays."""
    return what == f"{_OTHER_PARTS}."


def says_other_size(what: str) -> bool:
    """Tell whether ``check`` found nothing wrong with a blob but what its row says that it takes."""
    return what.startswith(_OTHER_SIZE)


def pieces(database: Database, blob_key: int) -> Iterator[bytearray]:
    """Give the checked bytes of a blob a chunk at a time; a wrong hash is found after the last.

    Raises
    ------
    CorruptBlobError
    """
    row = database.row("SELECT content_hash, size_bytes FROM blobs WHERE blob_key = ?", (blob_key,))
    if row is None:
        raise _missing(database, f"with key {blob_key}")
    digest, size_bytes = described(blob_key, *row)
    hasher = hashlib.sha256()
    for chunk in _chunks(database, blob_key, digest, size_bytes):
        plain = _decoded(decode, digest, chunk)
        hasher.update(plain)
        yield plain
    if hasher.digest() != digest:
        raise _corrupt(digest, "its bytes do not match its hash")


def head(database: Database, blob_key: int, limit: int) -> tuple[StoredContent, int]:
    """Give the first bytes of a blob, ``limit`` at most, without its parts, and how many it has; all are checked.

    Raises
    ------
    CorruptBlobError
    """
    data, hasher, size_bytes = bytearray(), hashlib.sha256(), 0
    for piece in pieces(database, blob_key):
        hasher.update(piece)
        size_bytes += len(piece)
        data += piece[: limit - len(data)]
    return StoredContent(data, partial(_take_part, database, {}), hasher.digest()), size_bytes


def described(key: int, digest: object, size_bytes: object) -> tuple[bytes, int]:
    """Give hash and size of a blob, once they are seen to be such."""
    if isinstance(digest, bytes) and len(digest) == 32 and isinstance(size_bytes, int) and size_bytes >= 0:
        return digest, size_bytes
    raise CorruptBlobError(
        f"blob with key {key} is damaged: its row holds no hash and size.", hint="Restore it from a backup."
    )


def _missing(database: Database, name: str) -> CorruptBlobError:
    return CorruptBlobError(f"blob {name} is missing from {database.path}.", content_hash=name)


def _chunks(database: Database, key: int, digest: bytes, size_bytes: int) -> Iterator[EncodedChunk]:
    """Give one chunk after the other, so that memory does not grow with the blob."""
    done = index = 0
    while done < size_bytes:
        row = database.row(CHUNK, (key, index))
        if row is None:
            raise _corrupt(digest, f"chunk {index} is missing")
        chunk = _decoded(stored_chunk, digest, *row)
        done += chunk.size_bytes
        if done > size_bytes:
            raise _corrupt(digest, f"its chunks hold more than its {size_bytes} bytes")
        yield chunk
        index += 1


def _read(database: Database, key: int, digest: bytes, size_bytes: int) -> bytearray:
    if size_bytes > MAX_CHUNK_BYTES:
        _require_stored(database, key, digest, size_bytes)
    try:
        data = bytearray(size_bytes)
    except MemoryError:
        raise _corrupt(digest, f"its {size_bytes} bytes are more than there is memory for") from None
    done = 0
    with memoryview(data) as view:
        for chunk in _chunks(database, key, digest, size_bytes):
            _decoded(decode_into, digest, chunk, view[done : done + chunk.size_bytes])
            done += chunk.size_bytes
    if hashlib.sha256(data).digest() != digest:
        raise _corrupt(digest, "its bytes do not match its hash")
    return data


def _require_stored(database: Database, key: int, digest: bytes, size_bytes: int) -> None:
    """See that the chunks of a blob can hold what it is said to have, before memory is taken for it."""
    said, stored = database.rows(_STORED, (key,))[0]
    if said != size_bytes or not can_hold(stored, size_bytes):
        raise _corrupt(digest, f"it is said to have {size_bytes} bytes, which its {stored} stored ones cannot hold")


def _decoded(decoder: Callable[..., Any], digest: bytes, *arguments: Any) -> Any:
    try:
        return decoder(*arguments)
    except CorruptBlobError as error:
        raise _corrupt(digest, error.message) from None


def _corrupt(digest: bytes, what: str) -> CorruptBlobError:
    name = f"sha256:{digest.hex()}"
    return CorruptBlobError(
        f"blob {name} is damaged: {what}.",
        hint="`artifactdb verify` lists everything that is; restore it from a backup.",
        content_hash=name,
    )
