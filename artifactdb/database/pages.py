"""Pages of an SQLite file as they lie, each read on its own: what is damaged in one does not hide another.

No SQLite is asked, which gives a table up where the first page of it is wrong. The format is that of
https://sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from artifactdb.errors import NotAWorkspaceError, StorageError, WorkspaceNotFoundError

Value = int | float | str | bytes | None

INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 2, 5, 10, 13
_KINDS = (INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF)
_MAGIC = b"SQLite format 3\0"
_SIZES = [1 << power for power in range(9, 17)]
_SAMPLED_PAGES = 400
_MAX_VALUES = 100
_WAL_HEADER, _FRAME_HEADER = 32, 24
_JOURNAL_MAGIC, _JOURNAL_HEADER = bytes.fromhex("d9d505f920a163d7"), 28


class Damaged(Exception):  # noqa: N818 - never leaves this package
    """A cell or page that cannot be what was written."""


class Cell(NamedTuple):
    """One entry of a b-tree page: ``child`` of interior pages, ``key`` of tables, and where its bytes lie."""

    child: int
    key: int
    size_bytes: int
    local: bytes
    overflow: int


class Pages:
    """The pages of a file as they were last committed: its rollback journal and its write-ahead log are looked at.

    Attributes
    ----------
    size : int
        Bytes of a page, as the header says it or, where that is damaged, as the pages themselves show.
    count : int
        How many there are; the last may be cut short.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise NotAWorkspaceError(f"{path} is not a file.")
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise WorkspaceNotFoundError(f"{path} cannot be read ({error.strerror}).") from None
        self.path = path
        self._log: dict[int, bytes] = {}
        try:
            length = self._file.seek(0, os.SEEK_END)
            self.size = self._size_shown(length)
            self.count = -(-length // self.size)
            self._take_back(path.with_name(f"{path.name}-journal"))
            self._take_log(path.with_name(f"{path.name}-wal"))
        except OSError as error:
            self.close()
            raise StorageError(f"{path} cannot be read ({error.strerror}).") from None
        if not self.count:
            self.close()
            raise StorageError(f"{path} is empty.", hint="Nothing can be recovered from it.")

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def page(self, number: int) -> bytes:
        """Give a page; zeros where the device or the end of the file gives none."""
        found = self._log.get(number)
        if found is None:
            found = b""
            with suppress(OSError):
                self._file.seek((number - 1) * self.size)
                found = self._file.read(self.size)
        return found.ljust(self.size, b"\0")

    def number_at(self, offset: int) -> int:
        """Give a number of four bytes from the header of the file."""
        return int.from_bytes(self.page(1)[offset : offset + 4], "big")

    # -- b-trees ------------------------------------------------------------------------------------

    def kind(self, number: int) -> int:
        """Give which kind of b-tree page it is, or 0 for any other."""
        page = self.page(number)
        kind = page[_start(number)]
        return kind if kind in _KINDS else 0

    def children(self, number: int) -> list[int]:
        """Give the pages below an interior one, as far as they can be pages."""
        page, start = self.page(number), _start(number)
        if page[start] not in (INDEX_INTERIOR, TABLE_INTERIOR):
            return []
        found = [cell.child for cell in self.cells(number) if isinstance(cell, Cell)]
        return [child for child in (*found, _u32(page, start + 8)) if 1 < child <= self.count]

    def cells(self, number: int) -> Iterator[Cell | Damaged]:
        """Give the entries of a b-tree page, and for each that cannot be read why."""
        page, start = self.page(number), _start(number)
        kind = page[start]
        first = start + (12 if kind in (INDEX_INTERIOR, TABLE_INTERIOR) else 8)
        count = _u16(page, start + 3)
        if kind not in _KINDS or first + 2 * count > self.size:
            yield Damaged("its header is none of a b-tree page")
            return
        for index in range(count):
            place = _u16(page, first + 2 * index)
            try:
                if place < first + 2 * count:
                    raise Damaged("an entry lies in the header")
                yield self._cell(page, kind, place)
            except (Damaged, IndexError, struct.error) as error:
                yield Damaged(str(error))

    def values(self, cell: Cell) -> list[Value]:
        """Give the values of an entry.

        Raises
        ------
        Damaged
        """
        payload = self._payload(cell)
        try:
            header_bytes, at = _varint(payload, 0)
            types = []
            while at < header_bytes:
                kind, at = _varint(payload, at)
                types.append(kind)
            if at != header_bytes or not 0 < len(types) <= _MAX_VALUES:
                raise Damaged("the header of a row is not its own length")
            values: list[Value] = []
            for kind in types:
                value, at = _value(payload, at, kind)
                values.append(value)
        except (IndexError, struct.error, UnicodeDecodeError) as error:
            raise Damaged(str(error)) from None
        if at != len(payload):
            raise Damaged(f"a row has {len(payload)} bytes where its header says {at}")
        return values

    def _cell(self, page: bytes, kind: int, place: int) -> Cell:
        child = key = size_bytes = overflow = 0
        if kind in (INDEX_INTERIOR, TABLE_INTERIOR):
            child, place = _u32(page, place), place + 4
        if kind == TABLE_INTERIOR:
            return Cell(child, _varint(page, place)[0], 0, b"", 0)
        size_bytes, place = _varint(page, place)
        if kind == TABLE_LEAF:
            key, place = _varint(page, place)
            key = key - (1 << 64) if key >= 1 << 63 else key
        most = self.size - 35 if kind == TABLE_LEAF else (self.size - 12) * 64 // 255 - 23
        if not 0 < size_bytes <= self.count * self.size:
            raise Damaged(f"an entry of {size_bytes} bytes")
        local = size_bytes
        if size_bytes > most:
            least = (self.size - 12) * 32 // 255 - 23
            local = least + (size_bytes - least) % (self.size - 4)
            local = local if local <= most else least
            overflow = _u32(page, place + local)
        if place + local > self.size:
            raise Damaged("an entry goes beyond its page")
        return Cell(child, key, size_bytes, page[place : place + local], overflow)

    def _payload(self, cell: Cell) -> bytes:
        pieces, left, at = [cell.local], cell.size_bytes - len(cell.local), cell.overflow
        while left > 0:
            if not 1 < at <= self.count:
                raise Damaged("the chain of its pages is broken")
            page = self.page(at)
            pieces.append(page[4 : 4 + left])
            left -= self.size - 4
            at = _u32(page, 0)
        if at:
            raise Damaged("the chain of its pages goes on")
        return b"".join(pieces)

    # -- what holds for the whole file ----------------------------------------------------------------

    def pointer(self, number: int) -> tuple[int, int]:
        """Give what the pointer map says of a page: 1 root, 2 free, 3 and 4 overflow, 5 below another; and which."""
        if number < 3:
            return 0, 0
        each = self.size // 5 + 1
        first = (number - 2) // each * each + 2
        place = 5 * (number - first - 1)
        if number <= first:
            return 0, 0  # a page of the map itself
        entry = self.page(first)[place : place + 5]
        return (entry[0], _u32(entry, 1)) if 1 <= entry[0] <= 5 and _u32(entry, 1) <= self.count else (0, 0)

    def free(self) -> set[int]:
        """Give the pages that the list of free pages names, as far as it can be read."""
        found: set[int] = set()
        trunk = self.number_at(32)
        while 1 < trunk <= self.count and trunk not in found:
            found.add(trunk)
            page = self.page(trunk)
            leaves = min(_u32(page, 4), self.size // 4 - 2)
            found.update(struct.unpack_from(f">{leaves}I", page, 8))
            trunk = _u32(page, 0)
        return found

    def _size_shown(self, length: int) -> int:
        """Give the size at which most pages are such: the first entry of a page was put at its very end."""
        self._file.seek(0)
        header = self._file.read(100)
        said = {1: 65536}.get(_u16(header, 16), _u16(header, 16)) if len(header) == 100 else 0
        votes: Counter[int] = Counter()
        for self.size in _SIZES:
            self.count = -(-length // self.size)
            step = max(1, self.count // _SAMPLED_PAGES)
            for number in range(2, self.count + 1, step):
                with suppress(Damaged, IndexError, struct.error):
                    votes[self.size] += self._ends_at_its_end(number)
        best = max(votes.values(), default=0)
        if said in _SIZES and (votes[said] * 2 >= best or (header.startswith(_MAGIC) and not best)):
            return said
        return max(_SIZES, key=lambda size: votes[size]) if best else 4096

    def _ends_at_its_end(self, number: int) -> bool:
        page = self.page(number)
        if page[0] not in (INDEX_LEAF, TABLE_LEAF) or not 0 < _u16(page, 3) < self.size // 4:
            return False
        place = max(_u16(page, 8 + 2 * index) for index in range(_u16(page, 3)))
        cell = self._cell(page, page[0], place)
        head = _varint(page, place)[1]
        head = _varint(page, head)[1] if page[0] == TABLE_LEAF else head
        return head + len(cell.local) + (4 if cell.overflow else 0) == self.size

    def _take_back(self, path: Path) -> None:
        """Take pages as they were from the rollback journal of a transaction that did not end, as SQLite does."""
        try:
            journal = path.read_bytes()
        except OSError:
            return
        if not journal.startswith(_JOURNAL_MAGIC) or len(journal) < _JOURNAL_HEADER:
            return  # of one that has ended the header is zeroed
        count, sector, size = struct.unpack_from(">3I", journal, 16)
        if size != self.size or not sector:
            return
        before = dict(_journaled(journal, size, sector))
        self.count = min(count, max(self.count, *before, 0))
        self._log.update(before)

    def _take_log(self, path: Path) -> None:
        """Take the pages that a write-ahead log has committed; it ends, as for SQLite, where a checksum is wrong."""
        try:
            log = path.read_bytes()
        except OSError:
            return
        if len(log) < _WAL_HEADER or _u32(log, 0) not in (0x377F0682, 0x377F0683) or _u32(log, 8) != self.size:
            return
        order = ">" if _u32(log, 0) & 1 else "<"
        sums = _checksum(log[:24], (0, 0), order)
        if sums != struct.unpack_from(">II", log, 24):
            return
        pending: dict[int, bytes] = {}
        for place in range(_WAL_HEADER, len(log) - _FRAME_HEADER - self.size + 1, _FRAME_HEADER + self.size):
            content = log[place + _FRAME_HEADER : place + _FRAME_HEADER + self.size]
            sums = _checksum(content, _checksum(log[place : place + 8], sums, order), order)
            if log[place + 8 : place + 16] != log[16:24] or sums != struct.unpack_from(">II", log, place + 16):
                break
            pending[_u32(log, place)] = content
            if pages := _u32(log, place + 4):  # a commit, after which the file has so many pages
                self._log.update(pending)
                self.count = pages
                pending = {}


def _journaled(journal: bytes, size: int, sector: int) -> Iterator[tuple[int, bytes]]:
    """Give the pages of a rollback journal; it ends where a checksum is wrong."""
    place = 0
    while journal.startswith(_JOURNAL_MAGIC, place) and len(journal) >= place + _JOURNAL_HEADER:
        records, begins_with = struct.unpack_from(">2I", journal, place + 8)
        place += sector
        for _ in range(min(records, (len(journal) - place) // (size + 8))):
            content = journal[place + 4 : place + 4 + size]
            if (begins_with + sum(content[size - 200 : 0 : -200])) & 0xFFFFFFFF != _u32(journal, place + 4 + size):
                return
            yield _u32(journal, place), content
            place += size + 8
        place = -(-place // sector) * sector


def _start(number: int) -> int:
    return 100 if number == 1 else 0


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[at + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    return value << 8 | data[at + 8], at + 9


_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def _value(data: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind in (0, 8, 9):
        return {0: None, 8: 0, 9: 1}[kind], at
    if kind == 7:
        return struct.unpack_from(">d", data, at)[0], at + 8
    if kind < 12:
        end = at + _INTEGER_BYTES[kind] if kind in _INTEGER_BYTES else len(data) + 1
    else:
        end = at + (kind - 12) // 2
    if end > len(data):
        raise Damaged("a value goes beyond its row")
    raw = data[at:end]
    if kind < 12:
        return int.from_bytes(raw, "big", signed=True), end
    return (raw.decode() if kind % 2 else raw), end


def _checksum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for index in range(0, len(words), 2):
        first = (first + words[index] + second) & 0xFFFFFFFF
        second = (second + words[index + 1] + first) & 0xFFFFFFFF
    return first, second
