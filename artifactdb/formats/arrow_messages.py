"""What the messages of an Arrow stream say, before pyarrow acts on it: compressed buffers, extension types.

The heads of the messages are FlatBuffers by the schemas Message.fbs and Schema.fbs of the Arrow project. pyarrow
verifies each before it gives it out, so that what is followed here leads forward and is no deeper than it allows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_EXTENSION = b"ARROW:extension:name"


class _Table:
    """A table of a FlatBuffer; its fields are asked for by number."""

    def __init__(self, data: memoryview, position: int) -> None:
        self._data = data
        self._position = position
        self._vtable = position - self._number("<i", position)
        self._size = self._number("<H", self._vtable)

    @classmethod
    def root(cls, data: memoryview) -> _Table:
        (position,) = struct.unpack_from("<I", data)
        return cls(data, position)

    def has(self, field: int) -> bool:
        return self._slot(field) != 0

    def byte(self, field: int) -> int:
        slot = self._slot(field)
        return self._number("<B", slot) if slot else 0

    def table(self, field: int) -> _Table:
        return _Table(self._data, self._target(self._slot(field)))

    def tables(self, field: int) -> Iterator[_Table]:
        if self.has(field):
            start = self._target(self._slot(field))
            for place in range(start + 4, start + 4 + 4 * self._number("<I", start), 4):
                yield _Table(self._data, self._target(place))

    def text(self, field: int) -> bytes:
        if not self.has(field):
            return b""
        start = self._target(self._slot(field))
        return bytes(self._data[start + 4 : start + 4 + self._number("<I", start)])

    def _slot(self, field: int) -> int:
        place = 4 + 2 * field
        offset = self._number("<H", self._vtable + place) if place < self._size else 0
        return self._position + offset if offset else 0

    def _target(self, place: int) -> int:
        return place + self._number("<I", place)

    def _number(self, kind: str, place: int) -> int:
        if place < 0:
            raise ValueError("an offset of the stream leads out of it")
        (number,) = struct.unpack_from(kind, self._data, place)
        return int(number)


def facts(source: Any, pyarrow: Any) -> tuple[bool, set[bytes]]:
    """Tell whether any buffer of a stream is compressed, and give the names of the extension types of its columns.

    Parameters
    ----------
    source : pyarrow.Buffer
    pyarrow : module

    Raises
    ------
    ValueError
        pyarrow's own errors included, when it is no stream.

    Examples
    --------
    >>> import pyarrow
    >>> sink = pyarrow.BufferOutputStream()
    >>> schema = pyarrow.schema([("id", pyarrow.uuid())])
    >>> pyarrow.ipc.new_stream(sink, schema).close()
    >>> facts(sink.getvalue(), pyarrow)
    (False, {b'arrow.uuid'})
    """
    compressed, names = False, set()
    try:
        for message in pyarrow.ipc.MessageReader.open_stream(source):
            table = _Table.root(memoryview(message.metadata).cast("B"))
            kind = table.byte(1)
            if kind == _SCHEMA:
                for field in table.table(2).tables(1):
                    names |= _extensions(field)
            elif kind == _DICTIONARY:
                compressed |= table.table(2).table(1).has(3)
            elif kind == _RECORDS:
                compressed |= table.table(2).has(3)
    except struct.error as error:
        raise ValueError(f"the stream is cut short ({error})") from None
    return compressed, names


def _extensions(field: _Table) -> set[bytes]:
    field.text(0).decode()  # pyarrow gives out tables whose columns have names that are no text
    found = {pair.text(1) for pair in field.tables(6) if pair.text(0) == _EXTENSION}
    for child in field.tables(5):
        found |= _extensions(child)
    return found
