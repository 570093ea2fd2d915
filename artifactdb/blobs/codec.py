"""One chunk to stored bytes and back: byte shuffling by item size, then Zstandard, or raw where that gains nothing.

Only this module imports ``zstandard``. What is stored is decoded again before it is believed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import zstandard

from artifactdb.content import Segment
from artifactdb.errors import CorruptBlobError

LEVEL, QUICK_LEVEL, IMPORT_LEVEL = 12, 3, 1
_WORTH_EFFORT = range(8 * 1024, 1024 * 1024 + 1)
"""Below, effort gains nothing; above, it takes longer than people wait."""
SHUFFLED_ITEMS = range(2, 17)
"""Numbers gain by shuffling; the records of a tree's nodes, 64 bytes each, are smaller without."""
MAX_SHUFFLED_ITEM = 256  # of what is read
MAX_CHUNK_BYTES = 64 << 20  # of what is read; a lie must not cost memory
_MAX_LAYOUT_CHARACTERS = 1 << 16  # of what is read; ours have a few dozen
_MOST_OF_A_BYTE = 1 << 15  # a block of Zstandard takes 4 bytes at least, and gives 128 KiB at most
_SHUFFLE_FROM = 32  # bytes; less is not worth an entry
_COMPRESSED_FROM = 2048  # bytes; less saves less than the rows about it take, and is a tenth of a save's time
_WORTH_COMPRESSING = 0.97
_WORTH_CHANGING = 0.98
_MAX_WINDOW_BYTES = 8 << 20  # of what is read
_PIECE_BYTES = 1 << 18
_local = threading.local()


@dataclass(slots=True)
class EncodedChunk:
    """A chunk as it lies in the table ``chunks``."""

    size_bytes: int
    codec: str
    shuffle: str | None
    payload: bytes


def stored_chunk(size_bytes: object, codec: object, shuffle: object, payload: object) -> EncodedChunk:
    """Make a chunk of what a row holds; whoever made the file may have put anything there.

    Raises
    ------
    CorruptBlobError
    """
    if (
        isinstance(size_bytes, int)
        and isinstance(codec, str)
        and isinstance(shuffle, str | None)
        and isinstance(payload, bytes)
    ):
        return EncodedChunk(size_bytes, codec, shuffle, payload)
    raise CorruptBlobError("the row of a chunk holds values of other types than it should.")


def can_hold(stored_bytes: int, size_bytes: int) -> bool:
    """Tell whether so many stored bytes can decode to so many."""
    return size_bytes <= stored_bytes * _MOST_OF_A_BYTE


def encode(group: list[Segment], level: int | None = None) -> tuple[EncodedChunk, bytes]:
    """Encode the segments of one chunk; give it with the bytes that it was seen to decode to.

    Parameters
    ----------
    level : int, optional
        Zstandard's; else as much effort as the size is worth.

    Examples
    --------
    >>> chunk, plain = encode([Segment(b"spectrum " * 1000)])
    >>> chunk.codec, plain == b"spectrum " * 1000
    ('zstd', True)
    """
    plain = b"".join([segment.data for segment in group])
    if len(plain) < _COMPRESSED_FROM:
        return EncodedChunk(len(plain), "raw", None, plain), plain
    layout = _layout(group)
    shuffled = _shuffle(plain, layout) if layout else plain
    if level is None:
        level = LEVEL if len(plain) in _WORTH_EFFORT else QUICK_LEVEL
    compressed = _compressor(level).compress(shuffled)
    if len(compressed) >= _WORTH_COMPRESSING * len(plain):
        return EncodedChunk(len(plain), "raw", None, plain), plain
    return _proven(EncodedChunk(len(plain), "zstd", json.dumps(layout) if layout else None, compressed), plain), plain


def _proven(chunk: EncodedChunk, plain: bytes) -> EncodedChunk:
    if (decode(chunk) if chunk.shuffle else _decompress(chunk)) != plain:
        raise CorruptBlobError("a chunk did not decode to what was encoded; nothing was stored.")
    return chunk


def encode_again(chunk: EncodedChunk, level: int) -> EncodedChunk | None:
    """Encode the bytes of a chunk with more effort, shuffled and not; None where that does not make it smaller.

    Examples
    --------
    >>> chunk, plain = encode([Segment(b"spectrum " * 1000)], 1)
    >>> encode_again(chunk, 19) is None or decode(encode_again(chunk, 19)) == plain
    True
    """
    plain = bytes(decode(chunk))
    smallest = None
    for layout in [_read_layout(chunk), []] if chunk.shuffle else [[]]:
        compressed = _compressor(level).compress(_shuffle(plain, layout) if layout else plain)
        if len(compressed) < _WORTH_CHANGING * len((smallest or chunk).payload):
            smallest = EncodedChunk(len(plain), "zstd", json.dumps(layout) if layout else None, compressed)
    return smallest and _proven(smallest, plain)


def decode(chunk: EncodedChunk) -> bytearray:
    """Give the bytes of a chunk; what they hash to is for the caller to check."""
    if not 0 < chunk.size_bytes <= MAX_CHUNK_BYTES:
        raise CorruptBlobError(f"a chunk is said to hold {chunk.size_bytes} bytes.")
    if not can_hold(len(chunk.payload), chunk.size_bytes):
        raise CorruptBlobError(f"a chunk of {len(chunk.payload)} stored bytes is said to hold {chunk.size_bytes}.")
    target = bytearray(chunk.size_bytes)
    decode_into(chunk, memoryview(target))
    return target


def decode_into(chunk: EncodedChunk, target: memoryview) -> None:
    """Write the bytes of a chunk where they are wanted, ``target`` being as long as they are.

    Raises
    ------
    CorruptBlobError
        When the stored bytes cannot be those of the chunk.
    """
    if chunk.codec == "raw":
        stored = chunk.payload
    elif chunk.codec == "zstd":
        stored = _decompress(chunk)
    else:
        raise CorruptBlobError(
            f"codec {chunk.codec!r} is not known.", hint="Update with: pip install --upgrade artifactdb"
        )
    if len(stored) != chunk.size_bytes:
        raise CorruptBlobError(f"a chunk has {len(stored)} bytes where {chunk.size_bytes} were stored.")
    if chunk.shuffle:
        _unshuffle_into(stored, _read_layout(chunk), target)
    else:
        target[:] = stored


def _decompress(chunk: EncodedChunk) -> bytes:
    try:
        # The size is compared first: a frame that lies about it must not cost memory.
        if zstandard.frame_content_size(chunk.payload) != chunk.size_bytes:
            raise CorruptBlobError("a frame announces another size than its chunk has.")
        return _decompressor().decompress(chunk.payload, max_output_size=chunk.size_bytes, allow_extra_data=False)
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
    layout = _parse_layout(chunk.shuffle or "[]")
    if sum(length for _, length in layout) != chunk.size_bytes:
        raise CorruptBlobError("the shuffle of a chunk does not fit its size.")
    return layout


@lru_cache(maxsize=256)
def _parse_layout(text: str) -> list[tuple[int, int]]:
    # Remembered because models of one kind have one layout. What makes no sense is [], which fits no chunk.
    if len(text) > _MAX_LAYOUT_CHARACTERS:
        return []
    try:
        layout = [(size, length) for size, length in json.loads(text)]
        sane = all(
            type(size) is type(length) is int and 1 <= size <= MAX_SHUFFLED_ITEM and length >= 0 and not length % size
            for size, length in layout
        )
    except (ValueError, TypeError, RecursionError):
        return []
    return layout if sane else []


def _shuffle(plain: bytes, layout: list[tuple[int, int]]) -> bytes:
    """Put the first bytes of all items first, then the second ones, as HDF5's shuffle filter does."""
    import numpy as np

    shuffled = np.empty(len(plain), np.uint8)
    source, start = np.frombuffer(plain, np.uint8), 0
    for size, length in layout:
        items = source[start : start + length].reshape(length // size, size)
        shuffled[start : start + length].reshape(size, length // size)[...] = items.T
        start += length
    return shuffled.tobytes()


def _unshuffle_into(shuffled: bytes, layout: list[tuple[int, int]], target: memoryview) -> None:
    import numpy as np

    source, plain, start = np.frombuffer(shuffled, np.uint8), np.frombuffer(target, np.uint8), 0
    for size, length in layout:
        items = plain[start : start + length].reshape(length // size, size)
        # One byte of all items at a time is faster than one assignment of the transposed whole.
        for place, stored in enumerate(source[start : start + length].reshape(size, length // size)):
            items[:, place] = stored
        start += length


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


def compress_text(plain: bytes) -> bytes:
    """Give one Zstandard frame."""
    return zstandard.ZstdCompressor(level=LEVEL).compress(plain)


def text_pieces(frame: bytes, size_bytes: int) -> Iterator[bytes]:
    """Give what a frame holds, a piece at a time, so that a frame that lies costs no memory.

    Raises
    ------
    CorruptBlobError
        At the end, or before, when that is not so many bytes.
    """
    left = size_bytes
    try:
        with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).stream_reader(frame) as stream:
            while left >= 0 and (piece := stream.read(_PIECE_BYTES)):
                left -= len(piece)
                yield piece
    except zstandard.ZstdError as error:
        raise CorruptBlobError(f"a frame cannot be decoded ({error}).") from None
    if left:
        raise CorruptBlobError(f"a frame that is said to hold {size_bytes} bytes holds others.")
