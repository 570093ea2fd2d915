"""Logical bytes on their way between objects and the file: what is hashed, and what an item of it is.

Pure values. How these bytes are encoded is the codec's business, what they mean the format's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of bytes made of items of one size.

    Parameters
    ----------
    data : bytes-like
        One-dimensional, of single bytes.
    item_size : int, default 1
        Bytes of one item: 8 for an array of doubles. A hint for shuffling; it does not enter the hash.
    """

    data: Buffer
    item_size: int = 1


@dataclass(slots=True)
class Content:
    """The logical bytes of one blob, and the blobs it refers to.

    Parameters
    ----------
    segments : list of Segment
        Their concatenation is the logical bytes.
    parts : list of Content
        Large arrays that are blobs of their own; the logical bytes name them by hash.
    """

    segments: list[Segment]
    parts: list[Content] = field(default_factory=list)
    _digest: bytes | None = field(default=None, repr=False, compare=False)
    _size_bytes: int | None = field(default=None, repr=False, compare=False)

    @classmethod
    def already_stored(cls, digest: bytes, size_bytes: int) -> Content:
        """Give content that a file holds already: known by its hash, its bytes not at hand."""
        return cls([], [], digest, size_bytes)

    # Not cached_property, which takes a lock before Python 3.12, for each of the thousands that a study saves.
    @property
    def digest(self) -> bytes:
        """SHA-256 of the logical bytes, 32 bytes."""
        if self._digest is None:
            hasher = hashlib.sha256()
            for segment in self.segments:
                hasher.update(segment.data)
            self._digest = hasher.digest()
        return self._digest

    @property
    def size_bytes(self) -> int:
        """Length of the logical bytes, without parts."""
        if self._size_bytes is None:
            self._size_bytes = sum([len(segment.data) for segment in self.segments])
        return self._size_bytes

    @property
    def total_bytes(self) -> int:
        """Length of the logical bytes and of all distinct parts."""
        return self.size_bytes + sum({part.digest: part.size_bytes for part in self.parts}.values())

    def pieces(self, limit: int) -> Iterator[list[Segment]]:
        """Cut the bytes into groups of at most ``limit`` bytes, never through an item.

        Examples
        --------
        >>> content = Content([Segment(b"abc"), Segment(bytes(16), 8)])
        >>> [[len(segment.data) for segment in group] for group in content.pieces(12)]
        [[3, 8], [8]]
        """
        if 0 < self.size_bytes <= limit:
            yield self.segments
            return
        group: list[Segment] = []
        room = limit
        for segment in self.segments:
            view = memoryview(segment.data)
            while len(view):
                taken = len(view) if len(view) <= room else room - room % segment.item_size
                if taken == 0 and not group:
                    taken = min(len(view), limit)
                if taken:
                    group.append(Segment(view[:taken], segment.item_size))
                    view = view[taken:]
                    room -= taken
                if len(view):
                    yield group
                    group, room = [], limit
        if group:
            yield group


@dataclass(frozen=True, slots=True)
class StoredContent:
    """The logical bytes of a blob that came back, checked, and the way to its parts.

    Parameters
    ----------
    data : bytearray
    part : callable
        Gives the checked bytes of a part from its 32-byte SHA-256, in memory that may be written.
    digest : bytes
        SHA-256 that the bytes were compared with; b"" when they come from elsewhere.
    """

    data: bytearray
    part: Callable[[bytes], bytearray]
    digest: bytes = b""
