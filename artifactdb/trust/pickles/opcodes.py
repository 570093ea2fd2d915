"""The opcodes of a pickle, one at a time and without copying: name, argument, where the next begins.

Widths and kinds of arguments come from the standard library's ``pickletools``; values are read as the unpickler
reads them, which ``pickletools.genops`` does not always do. Nothing longer than a name could be is decoded.
"""

from __future__ import annotations

import codecs
import pickletools
from collections.abc import Callable
from typing import Any

Buffer = bytes | bytearray

MAX_NAME = 4096
"""Longer texts are no names; they are passed over."""


class BrokenStreamError(Exception):
    """The bytes at hand are no pickle, or one that cannot be followed any further. It ends in a report."""


class Unread:
    """A value that was not decoded, and so cannot be a name or a number."""


UNREAD = Unread()


def operation_at(data: Buffer, position: int, end: int) -> tuple[str, Any, int]:
    r"""Give name and argument of the opcode at a position, and the position after it.

    The argument of what holds bytes is the range where they stand.

    Raises
    ------
    BrokenStreamError
        For an unknown opcode, an argument that is cut off, and one that cannot be read.

    Examples
    --------
    >>> operation_at(b"\x8c\x02os.", 0, 5)
    ('SHORT_BINUNICODE', 'os', 4)
    """
    if position >= end:
        raise BrokenStreamError("the stream is cut off")
    entry = _TABLE[data[position]]
    if entry is None:
        raise BrokenStreamError(f"0x{data[position]:02x} is no opcode")
    name, width, read = entry
    position += 1
    if width == 0:
        return name, None, position
    if width > 0:
        start, stop = position, position + width
    elif width == pickletools.UP_TO_NEWLINE:
        # A last line without its end counts too, and loses its last character, as it does in the unpickler.
        start, stop = position, data.find(b"\n", position, end) + 1 or end
        if read is _pair:
            stop = data.find(b"\n", stop, end) + 1 or end
    else:
        counted, signed = _COUNTED[width]
        start = position + counted
        size = int.from_bytes(data[position : min(start, end)], "little", signed=signed)
        stop = start + size if size >= 0 else 0
    if not start <= stop <= end:
        raise BrokenStreamError(f"the argument of {name} is cut off")
    if read is None:
        return name, range(start, stop), stop
    try:
        return name, read(data, start, stop), stop
    except (ValueError, OverflowError):
        raise BrokenStreamError(f"the argument of {name} cannot be read") from None


_COUNTED = {
    pickletools.TAKEN_FROM_ARGUMENT1: (1, False),
    pickletools.TAKEN_FROM_ARGUMENT4: (4, True),
    pickletools.TAKEN_FROM_ARGUMENT4U: (4, False),
    pickletools.TAKEN_FROM_ARGUMENT8U: (8, False),
}


def _unsigned(data: Buffer, start: int, stop: int) -> Any:
    return int.from_bytes(data[start:stop], "little")


def _signed(data: Buffer, start: int, stop: int) -> Any:
    return int.from_bytes(data[start:stop], "little", signed=True) if stop - start <= MAX_NAME else UNREAD


def _utf8(data: Buffer, start: int, stop: int) -> Any:
    return data[start:stop].decode("utf-8", "surrogatepass") if stop - start <= MAX_NAME else UNREAD


def _ascii(data: Buffer, start: int, stop: int) -> Any:
    return data[start:stop].decode("ascii") if stop - start <= MAX_NAME else UNREAD


def _unicode_line(data: Buffer, start: int, stop: int) -> Any:
    return data[start : stop - 1].decode("raw-unicode-escape") if stop - start <= MAX_NAME else UNREAD


def _quoted(data: Buffer, start: int, stop: int) -> Any:
    line = bytes(data[start : stop - 1])
    if len(line) < 2 or line[0] != line[-1] or line[0] not in b"'\"":
        raise ValueError("not quoted")
    return codecs.escape_decode(line[1:-1])[0].decode("ascii") if len(line) <= MAX_NAME else UNREAD


def _number(data: Buffer, start: int, stop: int) -> Any:
    if stop - start > MAX_NAME:
        raise ValueError("more digits than Python reads")
    line = data[start : stop - 1]
    return line == b"01" if line in (b"00", b"01") else int(line.removesuffix(b"L"), 0)


def _index(data: Buffer, start: int, stop: int) -> Any:
    return int(data[start : min(stop - 1, start + MAX_NAME)])


def _pair(data: Buffer, start: int, stop: int) -> Any:
    if stop - start > 2 * MAX_NAME:
        return UNREAD, UNREAD
    middle = data.find(b"\n", start, stop) + 1 or stop
    return data[start : middle - 1].decode(), data[middle : stop - 1].decode()


def _nothing(data: Buffer, start: int, stop: int) -> Any:
    return UNREAD


_READERS: dict[str, Callable[[Buffer, int, int], Any] | None] = {
    "uint1": _unsigned, "uint2": _unsigned, "uint4": _unsigned, "uint8": _unsigned,
    "int4": _signed, "long1": _signed, "long4": _signed, "float8": _nothing, "floatnl": _nothing,
    "string1": _ascii, "string4": _ascii, "stringnl_noescape": _ascii, "stringnl": _quoted,
    "unicodestring1": _utf8, "unicodestring4": _utf8, "unicodestring8": _utf8, "unicodestringnl": _unicode_line,
    "bytes1": None, "bytes4": None, "bytes8": None, "bytearray8": None,
    "decimalnl_short": _number, "decimalnl_long": _number, "stringnl_noescape_pair": _pair,
}  # fmt: skip

_TABLE: list[tuple[str, int, Callable[[Buffer, int, int], Any] | None] | None] = [None] * 256
for _opcode in pickletools.opcodes:
    _reader = _READERS[_opcode.arg.name] if _opcode.arg else None
    _width = _opcode.arg.n if _opcode.arg else 0
    _TABLE[ord(_opcode.code)] = (_opcode.name, _width, _index if _opcode.name in ("GET", "PUT") else _reader)
