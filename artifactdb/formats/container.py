"""The object container: a stream, of pickle or JSON, with its arrays out of band. ``docs/format.md`` defines it.

Small arrays stand in the container, grouped by item size; large ones are blobs of their own, named by hash,
so that one array held by many models is stored once and can be addressed, re-encoded or mapped alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from artifactdb.content import Buffer, Content, Segment, StoredContent
from artifactdb.errors import DeserializationError

MAGIC = b"ADBOBJ1\n"
CONTAINER_FORMATS = frozenset({"data", "pickle5", "dill"})
"""Formats whose content is a container."""
OUT_OF_BAND_BYTES = 512
"""Arrays from this size on are taken out of the stream. Changing it changes content hashes."""
PART_BYTES = 32 * 1024
"""Arrays from this size on are blobs of their own. Changing it changes content hashes."""

_HEADER = struct.Struct("<8sIIQ")
_ENTRY = struct.Struct("<QII")
_INLINE, _PART = 0, 1
_MAX_BUFFERS = 10_000_000


@dataclass(frozen=True, slots=True)
class ArrayBuffer:
    """The bytes of one array: contiguous, one-dimensional, and the size of one of its items."""

    data: Buffer
    item_size: int


def pack(stream: bytes, buffers: list[ArrayBuffer]) -> Content:
    """Make the logical bytes of an object from its stream and buffers."""
    parts: list[Content] = []
    entries, hashes = [], []
    inline: list[tuple[int, ArrayBuffer]] = []
    for index, buffer in enumerate(buffers):
        size = len(buffer.data)
        if size >= PART_BYTES:
            part = Content([Segment(buffer.data, buffer.item_size)])
            parts.append(part)
            hashes.append(part.digest)
            entries.append(_ENTRY.pack(size, buffer.item_size, _PART))
        else:
            inline.append((index, buffer))
            entries.append(_ENTRY.pack(size, buffer.item_size, _INLINE))
    header = _HEADER.pack(MAGIC, len(buffers), 0, len(stream))
    segments = [Segment(b"".join((header, *entries, *hashes, stream)))]
    inline.sort(key=lambda item: (item[1].item_size, item[0]))
    segments.extend(Segment(buffer.data, buffer.item_size) for _, buffer in inline)
    return Content(segments, parts)


def unpack(content: StoredContent) -> tuple[memoryview, list[bytearray]]:
    """Give the stream and the buffers of a container, the buffers in memory of their own.

    Raises
    ------
    DeserializationError
        When the bytes are no container; their hash was right, so they were written like this.
    """
    view = memoryview(content.data)
    try:
        magic, count, _, stream_bytes = _HEADER.unpack_from(view)
        position = _HEADER.size + _ENTRY.size * count
        if magic != MAGIC or count > _MAX_BUFFERS or position > len(view):
            raise DeserializationError("the content is no object container.")
        entries = list(_ENTRY.iter_unpack(view[_HEADER.size : position]))
        if any(place not in (_INLINE, _PART) for _, _, place in entries):
            raise DeserializationError("the object container has arrays in a place that is not known.")
        buffers: list[bytearray] = [bytearray()] * count
        for index, (size, _, place) in enumerate(entries):
            if place == _PART:
                buffers[index] = content.part(bytes(view[position : position + 32]))
                if len(buffers[index]) != size:
                    raise DeserializationError(f"array {index} of the object has another size than announced.")
                position += 32
        stream = view[position : position + stream_bytes]
        position += stream_bytes
        inline = [index for index, entry in enumerate(entries) if entry[2] != _PART]
        for index in sorted(inline, key=lambda index: (entries[index][1], index)):
            size = entries[index][0]
            buffers[index] = bytearray(view[position : position + size])
            position += size
    except struct.error as error:
        raise DeserializationError(f"the object container is cut short ({error}).") from None
    if position != len(view):
        raise DeserializationError(f"the object container has {len(view)} bytes where {position} were announced.")
    return stream, buffers


def stream_begins_with(data: Buffer) -> bytes:
    """Give the first byte of the stream of a container, which tells a pickle from JSON; b"" for other bytes."""
    view = memoryview(data)
    if len(view) < _HEADER.size or view[: len(MAGIC)] != MAGIC:
        return b""
    _, count, _, _ = _HEADER.unpack_from(view)
    start = _HEADER.size + _ENTRY.size * count + 32 * len(parts_of(view))
    return bytes(view[start : start + 1])


def parts_of(data: Buffer) -> list[tuple[bytes, int]]:
    """Give hash and item size of each array that a container names and does not hold, in order; [] for other bytes.

    Only the head is read: whether the rest is a container is for ``unpack`` to say.
    """
    view = memoryview(data)
    if len(view) < _HEADER.size or view[: len(MAGIC)] != MAGIC:
        return []
    _, count, _, _ = _HEADER.unpack_from(view)
    end = _HEADER.size + _ENTRY.size * count
    entries = list(_ENTRY.iter_unpack(view[_HEADER.size : end])) if end <= len(view) else []
    items = [item_size for _, item_size, place in entries if place == _PART]
    if end + 32 * len(items) > len(view):
        return []
    return [(bytes(view[end + 32 * index : end + 32 * index + 32]), size) for index, size in enumerate(items)]
