"""Files of strangers are read: regular ones only, large ones mapped, and JSON within bounds.

A pipe would be waited for without end, a device gives bytes without end, and a text of a few bytes each value
becomes ten times as many in memory.
"""

from __future__ import annotations

import json
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from artifactdb.content import Buffer, Content, Segment
from artifactdb.errors import InvalidValueError
from artifactdb.formats.container import CONTAINER_FORMATS, parts_of

MAX_TEXT_BYTES = 32 << 20
MAX_VALUES = 1_000_000
"""Of a JSON text: some 17,000 records, which take as many bytes as are read of it."""
MAPPED_FROM_BYTES = 64 << 20
"""Larger files are not read whole but used piece by piece, where they lie."""
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def open_file(path: Path) -> BinaryIO:
    """Open a regular file.

    Raises
    ------
    InvalidValueError
        For anything else, a pipe or a device for one.
    OSError
    """
    # Looked at before, because opening a device may do something; and after, because names may change hands.
    if stat.S_ISREG(path.stat().st_mode):
        stream = os.fdopen(os.open(path, os.O_RDONLY | _AT_ONCE), "rb")
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return stream
        stream.close()
    raise InvalidValueError(f"{path.name} is no regular file, and was not read.")


def content_of(path: Path) -> Buffer:
    """Give the bytes of a file: a large one mapped, so that they are not all in memory at once."""
    with open_file(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size >= MAPPED_FROM_BYTES:
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        return stream.read(MAPPED_FROM_BYTES)


def artifact_content(path: Path, format: str, file_of_part: Callable[[str], Path | None], content_hash: str) -> Content:
    """Give the content of an artifact's file, with the arrays that a container names and other files hold.

    Parameters
    ----------
    file_of_part : callable
        Gives the file of an array for the hex digits of its hash.
    content_hash : str
        What it must have; "" for whatever it has.

    Raises
    ------
    InvalidValueError
        When a hash is another one, or a part is missing.
    OSError
    """
    data = content_of(path)
    arrays = []
    for digest, item_size in parts_of(data) if format in CONTAINER_FORMATS else ():
        file = file_of_part(digest.hex())
        if file is None:
            raise InvalidValueError(f"an array of it (sha256:{digest.hex()}) is not among its files.")
        arrays.append(_with_hash(Content([Segment(content_of(file), item_size)]), digest.hex(), file))
    return _with_hash(Content([Segment(data)], arrays), content_hash.removeprefix("sha256:"), path)


def _with_hash(content: Content, wanted: str, file: Path) -> Content:
    if wanted and content.digest.hex() != wanted:
        raise InvalidValueError(f"{file.name} has the hash sha256:{content.digest.hex()}, not sha256:{wanted}.")
    return content


def text_of(path: Path) -> bytes:
    """Give the bytes of a file that is parsed as a whole.

    Raises
    ------
    InvalidValueError
        For more of them than are read.
    """
    with open_file(path) as stream:
        text = stream.read(MAX_TEXT_BYTES + 1)
        if len(text) > MAX_TEXT_BYTES:
            size = os.fstat(stream.fileno()).st_size
            raise InvalidValueError(f"{path.name} has {size:,} bytes; {MAX_TEXT_BYTES:,} is the most that is read.")
    return text


def parse_json(text: bytes | str, name: str, *, by_hand: bool = False) -> Any:
    """Give the value of JSON text.

    Parameters
    ----------
    by_hand : bool, default False
        Somebody wrote it: a key that stands twice is refused; else the last one counts.

    Raises
    ------
    InvalidValueError
        For what is malformed, or holds more values than are read.

    Examples
    --------
    >>> parse_json('{"name": "wheat"}', "pipeline.json")
    {'name': 'wheat'}
    """
    # Each value but the first follows one of these (or the key of an entry that does); so none is built to be counted.
    count = sum(text.count(mark) if isinstance(text, str) else text.count(mark.encode()) for mark in ",[{")
    if count > MAX_VALUES:
        raise InvalidValueError(f"{name} has more than {MAX_VALUES:,} values, which is the most that is read.")
    try:
        return json.loads(text, object_pairs_hook=_each_once if by_hand else None)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidValueError):
            raise InvalidValueError(f"{name}: {error.message}", hint=error.hint) from None
        raise InvalidValueError(f"{name} is no JSON ({error}).") from None


def key_twice(key: Any, where: str = "") -> InvalidValueError:
    """Give the error of a key that stands twice in what somebody wrote."""
    return InvalidValueError(f"the key {key!r} stands twice{where}.", hint="Keep one; several values are a list.")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise key_twice(key)
        found[key] = value
    return found
