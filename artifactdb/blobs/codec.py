"""One chunk to stored bytes and back: byte shuffling by item size, then Zstandard, or raw where that gains nothing.

Only this module imports ``zstandard``. What is stored is decoded again before it is believed.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass

import zstandard

from artifactdb.content import Buffer, Segment
from artifactdb.errors import CorruptBlobError

LEVEL, LEVEL_OF_LARGE = 9, 3
_LARGE_BYTES = 1024 * 1024
SHUFFLED_ITEMS = range(2, 17)
"""Numbers gain by shuffling; the records of a tree's nodes, 64 bytes each, are smaller without."""
MAX_SHUFFLED_ITEM = 256  # of what is read
_SHUFFLE_FROM = 32  # bytes; less is not worth an entry
_WORTH_COMPRESSING = 0.97
_local = threading.local()


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """A chunk as it lies in the table ``chunks``."""

    size_bytes: int
    codec: str
    shuffle: str | None
    payload: bytes


def encode(group: list[Segment]) -> EncodedChunk:
    """Encode the segments of one chunk.

    Examples
    --------
    >>> chunk = encode([Segment(b"spectrum " * 100)])
    >>> chunk.codec, decode(chunk) == b"spectrum " * 100
    ('zstd', True)
    """
    plain = b"".join(segment.data for segment in group)
    layout = _layout(group)
    shuffled = _shuffle(plain, layout) if layout else plain
    compressed = _compressor(LEVEL if len(plain) <= _LARGE_BYTES else LEVEL_OF_LARGE).compress(shuffled)
    if len(compressed) < _WORTH_COMPRESSING * len(plain):
        chunk = EncodedChunk(len(plain), "zstd", json.dumps(layout) if layout else None, compressed)
    else:
        chunk = EncodedChunk(len(plain), "raw", None, plain)
    if decode(chunk) != plain:
        raise CorruptBlobError("a chunk did not decode to what was encoded; nothing was stored.")
    return chunk


def decode(chunk: EncodedChunk) -> Buffer:
    """Give the bytes of a chunk; what they hash to is for the caller to check.

    Raises
    ------
    CorruptBlobError
        When the stored bytes cannot be those of the chunk.
    """
    if chunk.codec == "raw":
        plain: Buffer = chunk.payload
    elif chunk.codec == "zstd":
        plain = _decompress(chunk)
    else:
        raise CorruptBlobError(
            f"codec {chunk.codec!r} is not known.", hint="Update with: pip install --upgrade artifactdb"
        )
    if len(plain) != chunk.size_bytes:
        raise CorruptBlobError(f"a chunk has {len(plain)} bytes where {chunk.size_bytes} were stored.")
    return _unshuffle(plain, _read_layout(chunk)) if chunk.shuffle else plain


def _decompress(chunk: EncodedChunk) -> bytes:
    try:
        # The size is compared first: a frame that lies about it must not cost memory.
        if zstandard.frame_content_size(chunk.payload) != chunk.size_bytes:
            raise CorruptBlobError("a frame announces another size than its chunk has.")
        return _decompressor().decompress(chunk.payload, max_output_size=chunk.size_bytes)
    except zstandard.ZstdError as error:
        raise CorruptBlobError(f"a frame cannot be decoded ({error}).") from None


def _layout(group: list[Segment]) -> list[tuple[int, int]]:
    """Give [(item size, bytes)] of the group, neighbours of one size joined; empty when nothing is shuffled."""
    layout: list[tuple[int, int]] = []
    for segment in group:
        size, length = segment.item_size, len(segment.data)
        if size not in SHUFFLED_ITEMS or length % size or length < _SHUFFLE_FROM:
            size = 1
        if layout and layout[-1][0] == size:
            layout[-1] = (size, layout[-1][1] + length)
        else:
            layout.append((size, length))
    return layout if any(size > 1 for size, _ in layout) else []


def _read_layout(chunk: EncodedChunk) -> list[tuple[int, int]]:
    try:
        layout = [(int(size), int(length)) for size, length in json.loads(chunk.shuffle or "[]")]
    except (ValueError, TypeError):
        layout = []
    sane = all(1 <= size <= MAX_SHUFFLED_ITEM and length >= 0 and not length % size for size, length in layout)
    if not sane or sum(length for _, length in layout) != chunk.size_bytes:
        raise CorruptBlobError("the shuffle of a chunk does not fit its size.")
    return layout


def _shuffle(plain: Buffer, layout: list[tuple[int, int]]) -> bytes:
    """Put the first bytes of all items first, then the second ones, as HDF5's shuffle filter does."""
    return _transpose(plain, layout, inverse=False)


def _unshuffle(shuffled: Buffer, layout: list[tuple[int, int]]) -> bytes:
    return _transpose(shuffled, layout, inverse=True)


def _transpose(source: Buffer, layout: list[tuple[int, int]], *, inverse: bool) -> bytes:
    import numpy as np

    view = np.frombuffer(source, dtype=np.uint8)
    pieces: list[Buffer] = []
    start = 0
    for size, length in layout:
        piece = view[start : start + length]
        if size > 1:
            shape = (size, length // size) if inverse else (length // size, size)
            piece = np.ascontiguousarray(piece.reshape(shape).T).reshape(-1)
        pieces.append(piece.data)
        start += length
    return b"".join(pieces)


def _compressor(level: int) -> zstandard.ZstdCompressor:
    compressors: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    if level not in compressors:
        compressors[level] = zstandard.ZstdCompressor(level=level)
    return compressors[level]


def _decompressor() -> zstandard.ZstdDecompressor:
    decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    return decompressor
