"""Files that hold a pickle inside: compressed as joblib does, or an archive as torch writes. Nothing is extracted."""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from artifactdb.trust.pickles.opcodes import BrokenStreamError, Buffer

_MAX_MEMBERS = 2_000
_ZIP, _TAR, _TAR_AT = b"PK\x03\x04", b"ustar", 257


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _of_lz4() -> _Decompressor:
    from lz4.frame import LZ4FrameDecompressor  # joblib reads such files where this is installed

    made: _Decompressor = LZ4FrameDecompressor()
    return made


_COMPRESSED: tuple[tuple[bytes, Callable[[], _Decompressor]], ...] = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(wbits=31)),
    (b"\x78", zlib.decompressobj),
    (b"BZ", bz2.BZ2Decompressor),
    (b"\xfd7zXZ", lzma.LZMADecompressor),
    (b"\x5d\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE)),
    (b"\x04\x22\x4d\x18", _of_lz4),
)
"""What joblib compresses with, by the first bytes of the file."""
_BEFORE_0_10 = b"ZF"
_MOST_STREAMS = 200  # one behind the other; what follows is copied each time


def decompressed(data: Buffer, limit: int) -> tuple[Buffer, str]:
    """Give the bytes inside when they are compressed in a way that joblib reads, else the same bytes.

    With them comes what stopped it, if anything did; the bytes are then those until there, which a reader of such a
    stream gets too, and ``limit`` at most.
    """
    if data.startswith(_BEFORE_0_10):
        return b"", "the compression of joblib before 0.10 is not read"
    make = next((make for magic, make in _COMPRESSED if data.startswith(magic)), None)
    if make is None:
        return data, ""
    pieces: list[bytes] = []
    rest, size, problem = bytes(data), 0, ""
    while rest and not problem:  # readers go on with the next stream, if one follows
        try:
            decompressor = make()
            pieces.append(decompressor.decompress(rest, limit + 1 - size))
        except ImportError:
            problem = "LZ4 is read only where the package lz4 is installed"
            break
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError, MemoryError) as error:
            problem = f"the content cannot be decompressed ({type(error).__name__})"
            break
        size += len(pieces[-1])
        if size > limit:
            problem = "the content is too long when decompressed"
        elif not decompressor.eof:
            problem = "the compressed content is cut off"
        elif len(pieces) == _MOST_STREAMS:
            problem = "the compressed content is of too many streams"
        rest = decompressor.unused_data
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), problem


def archive_of(data: Buffer) -> str:
    """Give "zip" or "tar" when the bytes are an archive, else ""."""
    if data.startswith(_ZIP):
        return "zip"
    return "tar" if data[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR else ""


def members(data: Buffer, limit: int) -> Iterator[tuple[str, bytes]]:
    """Give name and content of the files of an archive.

    Raises
    ------
    BrokenStreamError
        When it cannot be read, or is longer than ``limit`` in all.
    """
    if len(data) > limit:
        raise BrokenStreamError("the archive is too long")
    walk = _of_zip if archive_of(data) == "zip" else _of_tar
    count = 0
    try:
        for name, content in walk(data, limit):
            limit -= len(content)
            count += 1
            if limit < 0 or count > _MAX_MEMBERS:
                raise BrokenStreamError("the archive is too long, or has too many members")
            yield name, content
    except BrokenStreamError:
        raise
    except Exception as error:  # these two modules raise whatever a damaged file makes them stumble over
        raise BrokenStreamError(f"the archive cannot be read ({type(error).__name__})") from None


def _of_zip(data: Buffer, limit: int) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                content = file.read(limit + 1)
            limit -= len(content)
            yield member.filename, content


def _of_tar(data: Buffer, limit: int) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                content = file.read(limit + 1)
                limit -= len(content)
                yield member.name, content
