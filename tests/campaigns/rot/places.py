"""What lies at each byte of a sound workspace, so that a report can name it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from artifactdb.database.damaged import DamagedDatabase
from artifactdb.database.pages import Cell, Damaged, Pages


class Places:
    """What lies at each byte of a sound workspace."""

    def __init__(self, path: Path) -> None:
        found: list[tuple[int, int, str]] = [(0, 100, "header of the file")]
        with closing(Pages(path)) as pages:
            database = DamagedDatabase(pages)
            names = {root: shape.name for root, shape in database.shapes.items()}
            for root, numbers in database._pages_of.items():
                shape = database.shapes[root]
                for number in numbers:
                    found += self._of_page(pages, number, names[root], shape.columns)
            self.size = pages.size
            self._kinds = {number: pages.pointer(number) for number in range(1, pages.count + 1)}
            self._names = {number: names[root] for root, numbers in database._pages_of.items() for number in numbers}
        found.sort()
        self._starts = [start for start, *_ in found]
        self._found = found

    def at(self, offset: int) -> str:
        """Say what a byte belongs to: table and column, or what kind of page."""
        position = bisect_right(self._starts, offset) - 1
        if position >= 0 and offset < self._found[position][1]:
            return self._found[position][2]
        number = offset // self.size + 1
        for _ in range(100_000):
            kind, parent = self._kinds.get(number, (0, 0))
            if kind not in (3, 4):
                break
            number = parent
        if number != offset // self.size + 1:
            return f"{self._names.get(number, '?')}, overflow page"
        if number in self._names:
            return f"{self._names[number]}, structure or unused"
        return "free page" if kind == 2 else "page of the schema" if number == 1 else "page map or page of the schema"

    @staticmethod
    def _of_page(pages: Pages, number: int, name: str, columns: tuple[str, ...]) -> Iterator[tuple[int, int, str]]:
        page, start = pages.page(number), (number - 1) * pages.size
        for cell in pages.cells(number):
            if not isinstance(cell, Cell) or not cell.local:
                continue
            place = start + page.index(cell.local)
            try:
                values = pages.values(cell)
            except Damaged:
                continue
            at = cell.local[0] if cell.local[0] < 0x80 else (cell.local[0] & 0x7F) << 7 | cell.local[1]
            yield place, place + at, f"{name}, header of a row"
            for column, value in zip(columns, values, strict=False):
                size = _stored_bytes(value)
                if size and at < len(cell.local):
                    yield place + at, place + min(at + size, len(cell.local)), f"{name}.{column or 'key'}"
                at += size


def _stored_bytes(value: Any) -> int:
    if value is None or (value in (0, 1) and isinstance(value, int)):
        return 0
    if isinstance(value, int):
        return next(size for size in (1, 2, 3, 4, 6, 8) if -(1 << 8 * size - 1) <= value < 1 << 8 * size - 1)
    return 8 if isinstance(value, float) else len(value.encode() if isinstance(value, str) else value)
