"""The lines that a signature over all records stands for: one for each record, made, put together, read and compared.

Whoever has a key can sign anything: what is read here is taken as bytes that claim to be lines in order, in no more
memory than a few of them need.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import NamedTuple

from artifactdb.artifacts.find import StoredRecord
from artifactdb.blobs.codec import text_pieces
from artifactdb.errors import CorruptBlobError

_LEFT_OUT = ("signature", "created_at", "environment", "artifactdb_version", "nirs4all_version")
"""What a merge may change of a record that it calls the same."""
_MOST_OF_A_LINE = 1 << 15  # bytes; an id has 4096 characters at most, names and formats fewer
_LEAST_STORED = 32  # bytes of a line in the frame: nothing compresses the hash in it
_MOST_BYTES = 1 << 30


class Difference(NamedTuple):
    """What differs between two lists of lines; None where there is no such record."""

    dataset: str
    artifact_id: str
    before: list[str] | None
    now: list[str] | None


def line_of(record: StoredRecord) -> bytes:
    """Give the line of a record: dataset, id, content, format, and a hash over everything else that it says."""
    said = {name: value for name, value in record.to_dict().items() if name not in _LEFT_OUT}
    rest = hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    return _line([record.dataset, record.artifact_id, record.content_hash, record.format, rest])


def _line(values: Sequence[str]) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def joined(lines: Iterable[bytes]) -> bytes:
    """Give the text that sorted lines make."""
    return b"".join([line + b"\n" for line in lines])


def root_of(lines: Iterable[bytes]) -> bytes:
    """Give the SHA-256 of the text that sorted lines make."""
    root = hashlib.sha256()
    for line in lines:
        root.update(line + b"\n")
    return root.digest()


def statement(root: bytes, signed_at: str) -> bytes:
    """Give what is signed."""
    return hashlib.sha256(f"artifactdb records 1\n{signed_at}\n{root.hex()}".encode()).digest()


def could_be(stored_bytes: int, size_bytes: int) -> bool:
    """Tell whether a frame of so many bytes can hold lines of so many: each takes its part of both."""
    return size_bytes <= min(stored_bytes * _MOST_OF_A_LINE // _LEAST_STORED, _MOST_BYTES)


def is_root_of(frame: bytes, size_bytes: int, root: bytes) -> bool:
    """Tell whether what a frame holds is what a root stands for."""
    if not could_be(len(frame), size_bytes):
        return False
    found = hashlib.sha256()
    try:
        for piece in text_pieces(frame, size_bytes):
            found.update(piece)
    except CorruptBlobError:
        return False
    return found.digest() == root


def differences(frame: bytes, size_bytes: int, now: Sequence[bytes]) -> Iterator[Difference]:
    """Give how sorted lines differ from those in a frame, in their order, reading no further than is asked for.

    Raises
    ------
    ValueError
        When the frame holds no such lines.
    """
    # Those of one record follow each other: they begin with the same JSON strings, and none is the start of another.
    for (dataset, artifact_id), found in groupby(_unequal(_read(frame, size_bytes), now), lambda pair: _place(pair[0])):
        sides = {was: json.loads(line)[2:] for line, was in found}
        yield Difference(dataset, artifact_id, sides.get(True), sides.get(False))


def _unequal(before: Iterable[bytes], now: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Give the lines that only one side has, in order, and whether it is the one before."""
    place, last = 0, b""
    for line in before:
        if line <= last:
            raise ValueError("lines that are not in order")
        last = line
        while place < len(now) and now[place] < line:
            yield now[place], False
            place += 1
        if place < len(now) and now[place] == line:
            place += 1
        else:
            yield line, True
    for line in islice(now, place, None):
        yield line, False


def _place(line: bytes) -> tuple[str, str]:
    values = json.loads(line)
    is_one = isinstance(values, list) and len(values) == 5 and all(isinstance(value, str) for value in values)
    if not is_one or _line(values) != line:
        raise ValueError("a line that is not one of a record")
    return values[0], values[1]


def _read(frame: bytes, size_bytes: int) -> Iterator[bytes]:
    rest = b""
    for piece in text_pieces(frame, size_bytes):
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > _MOST_OF_A_LINE:
            raise ValueError("a line that is longer than one of a record")
        yield from whole
    if rest:
        raise ValueError("a line without an end")
