"""The tables of a workspace that may be damaged anywhere, read from its pages without SQLite.

Where a table or an index begins is the same page in every workspace of one schema, because the schema files make them
in one order; so neither the header nor the page with the schema is needed to find a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import apsw

from artifactdb.database.declared import DRAFTS, digest
from artifactdb.database.migrations import latest_version, schema_files
from artifactdb.database.pages import INDEX_INTERIOR, INDEX_LEAF, TABLE_LEAF, Cell, Damaged, Pages, Value

_DEPTH = 20
_FITTING = {
    "INTEGER": (int,), "TEXT": (str,), "BLOB": (bytes,), "ANY": (int, float, str, bytes), "": (int, float, str, bytes),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """What the entries of one b-tree look like.

    Attributes
    ----------
    columns : tuple of str
        In the order in which they are stored; those of an index end with the key of its table.
    fewest : int
        How many a row has at least; columns that were added later may be missing.
    alias : int
        Position of the column that stands for the key of a row and is stored as NULL; -1 for none.
    keys : tuple of str
        What names a row of a table.
    is_partial : bool
        Whether an index leaves rows out.
    """

    name: str
    table: str
    root: int
    is_tree_of_keys: bool
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    nullable: tuple[bool, ...]
    fewest: int
    alias: int = -1
    keys: tuple[str, ...] = ()
    is_partial: bool = False

    @property
    def is_index(self) -> bool:
        """Whether it repeats what its table holds."""
        return self.name != self.table

    def fits(self, values: Sequence[Value]) -> bool:
        """Tell whether an entry can be one of this tree."""
        return self.fewest <= len(values) <= len(self.columns) and all(
            (nullable or at == self.alias) if value is None else isinstance(value, _FITTING.get(kind, ()))
            for at, (value, kind, nullable) in enumerate(zip(values, self.kinds, self.nullable, strict=False))
        )


@cache
def shapes(version: int) -> dict[int, Shape]:
    """Give what each b-tree of a schema version looks like, by the page where it begins."""
    connection = apsw.Connection(":memory:")
    try:
        connection.pragma("auto_vacuum", "INCREMENTAL")  # which decides where tables begin
        for number, file in schema_files().items():
            if number <= version:
                connection.execute(file.read_text(encoding="utf-8")).fetchall()
        rows = connection.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE rootpage")
        made = [_shape(connection, *row) for row in rows.fetchall()]
    finally:
        connection.close()
    return {shape.root: shape for shape in made}


def draft_of(pages: Pages) -> tuple[int, dict[int, Shape]] | None:
    """Give the schema of which a file is a draft, and what each b-tree looks like, by what it declares itself."""
    declared = sorted(_declarations(pages, 1, _DEPTH), key=lambda found: str(found[1]))
    version = DRAFTS.get(digest(declared))
    if version is None:
        return None
    connection = apsw.Connection(":memory:")
    try:
        for kind in ("table", "index"):
            for own_kind, _, _, text, _ in declared:
                if own_kind == kind and text and not str(text).startswith("CREATE TABLE sqlite_"):
                    connection.execute(str(text))
        made = [_shape(connection, kind, name, table, root, text) for kind, name, table, text, root in declared if root]
    finally:
        connection.close()
    stayed = {shape.table for shape in shapes(version).values()}
    return version, {shape.root: shape for shape in made if shape.table in stayed}


def _declarations(pages: Pages, number: int, depth: int) -> Iterator[tuple[Value, ...]]:
    for child in pages.children(number) if depth else ():
        yield from _declarations(pages, child, depth - 1)
    for cell in pages.cells(number) if pages.kind(number) == TABLE_LEAF else ():
        if isinstance(cell, Cell):
            with suppress(Damaged, ValueError):  # also where the page is of another table
                kind, name, table, root, text = pages.values(cell)
                if not str(name).startswith("sqlite_stat"):
                    yield kind, name, table, text, root


def _shape(connection: apsw.Connection, kind: Any, name: Any, table: Any, root: Any, sql: Any) -> Shape:
    sql_of = 'SELECT name, type, "notnull" OR pk > 0, pk FROM pragma_table_info(?)'
    columns = [(str(c), str(t), bool(n), int(k)) for c, t, n, k in connection.execute(sql_of, (table,))]
    keys = [column for column, *_, key in columns if key]
    is_rowless = bool(connection.execute("SELECT wr FROM pragma_table_list(?)", (table,)).fetchall()[0][0])
    if kind == "index":
        # A column of its own ends an entry: the key of the row, or what of the primary key is not there yet.
        named = [c for (c,) in connection.execute("SELECT coalesce(name, '') FROM pragma_index_xinfo(?)", (name,))]
        known = {column: (affinity, not required) for column, affinity, required, _ in columns}
        found = [known.get(str(column), ("INTEGER", False)) for column in named]
        kinds, nullable = zip(*found, strict=True)
        is_partial = sql is not None and " WHERE " in sql
        return Shape(
            name, table, root, False, tuple(map(str, named)), kinds, nullable, len(named), is_partial=is_partial
        )
    names, affinities, required, _ = zip(*columns, strict=True)
    alias = (
        -1 if is_rowless or len(keys) != 1 or affinities[names.index(keys[0])] != "INTEGER" else names.index(keys[0])
    )
    # By schema 4: earlier rows end before them. Schema 5 wrote every row anew.
    added = 2 if table == "records" and "signer_key" in names and "row_check" not in names else 0
    return Shape(
        name, table, root, not is_rowless, names, affinities, tuple(not r for r in required),
        len(names) - added, alias, tuple(keys) if is_rowless or alias >= 0 else ("rowid",),
    )  # fmt: skip


@dataclass(slots=True)
class Lost:
    """What could not be read of one b-tree: whole pages by number, and entries."""

    pages: list[int] = field(default_factory=list)
    entries: int = 0


class DamagedDatabase:
    """The rows of a damaged workspace.

    Attributes
    ----------
    version : int
        Of its schema.
    lost : dict
        What could not be read, by the name of table or index, as far as it was tried.
    guessed : set of int
        Pages that nothing leads to any more, and that belong where they are put by their look alone. They may be
        free, and hold what was deleted.
    """

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        if draft := draft_of(pages):
            self.version, self.shapes = draft
        else:
            self.version = self._version()
            self.shapes = shapes(self.version)
        self.by_name = {shape.name: shape for shape in self.shapes.values()}
        self.lost: dict[str, Lost] = {}
        self.guessed: set[int] = set()
        self._pages_of: dict[int, list[int]] = {root: [] for root in self.shapes}
        self._place()

    def rows(self, name: str) -> Iterator[tuple[int, list[Value], bool]]:
        """Give key and values of each entry of a table or index that can be read, and whether its place is guessed.

        Guesses come last, so that what is sure comes first.
        """
        shape = self.by_name[name]
        lost = self.lost.setdefault(name, Lost())
        wanted = (TABLE_LEAF,) if shape.is_tree_of_keys else (INDEX_LEAF, INDEX_INTERIOR)
        for number in self._pages_of[shape.root]:
            kind = self.pages.kind(number)
            if kind not in wanted:
                if kind == 0 or not shape.is_tree_of_keys:
                    lost.pages.append(number)
                continue
            for cell in self.pages.cells(number):
                with suppress(Damaged):
                    if isinstance(cell, Cell):
                        values = self.pages.values(cell)
                        if shape.fits(values):
                            if shape.alias >= 0:
                                values[shape.alias] = cell.key
                            yield cell.key, values, number in self.guessed
                            continue
                lost.entries += 1

    def _version(self) -> int:
        """Give the version whose trees are where its tables begin; of several the one that the header says."""
        said = self.pages.number_at(60)
        versions = sorted(range(latest_version(), 0, -1), key=lambda version: version != said)
        return max(versions, key=lambda version: sum(map(self._begins, shapes(version).values())))

    def _begins(self, shape: Shape) -> bool:
        sample = self._sample(shape.root)
        return bool(sample) and all(map(shape.fits, sample))

    def _place(self) -> None:
        """Find the tree of each page: from above, by the pointer map, or by what its entries look like."""
        owners: dict[int, int] = {}
        for root in self.shapes:
            owners[root] = root
            self._walk(root, owners, _DEPTH)
        free: set[int] | None = None
        for number in range(3, self.pages.count + 1):
            if number in owners or not self.pages.kind(number):
                continue
            kind, _ = self.pages.pointer(number)
            if kind == 5:
                owner = self._owner_by_map(number, owners)
                if owner and self._can_be_of(number, self.shapes[owner]):
                    owners[number] = owner
            elif not kind:
                free = self.pages.free() if free is None else free
                owner = 0 if number in free else self._owner_by_look(number)
                if owner:
                    owners[number] = owner
                    self.guessed.add(number)
        for number, owner in sorted(owners.items(), key=lambda item: (item[0] in self.guessed, item[0])):
            self._pages_of[owner].append(number)

    def _walk(self, number: int, owners: dict[int, int], depth: int) -> None:
        for child in self.pages.children(number) if depth else ():
            kind, parent = self.pages.pointer(child)
            is_doubtful = kind and (kind, parent) != (5, number)
            if child in owners or (is_doubtful and not self._can_be_of(child, self.shapes[owners[number]])):
                continue
            owners[child] = owners[number]
            self._walk(child, owners, depth - 1)

    def _owner_by_map(self, number: int, owners: dict[int, int]) -> int:
        for _ in range(_DEPTH):
            kind, parent = self.pages.pointer(number)
            if kind != 5:
                return 0
            if parent in owners:
                return owners[parent]
            number = parent
        return 0

    def _owner_by_look(self, number: int) -> int:
        fitting = [root for root, shape in self.shapes.items() if self._can_be_of(number, shape, strict=True)]
        return fitting[0] if len(fitting) == 1 else 0

    def _can_be_of(self, number: int, shape: Shape, *, strict: bool = False) -> bool:
        sample = self._sample(number)
        kinds = (TABLE_LEAF, 5) if shape.is_tree_of_keys else (INDEX_LEAF, INDEX_INTERIOR)
        if self.pages.kind(number) not in kinds:
            return False
        return bool(sample or not strict) and all(map(shape.fits, sample))

    def _sample(self, number: int) -> list[list[Value]]:
        """Give the values of the first entries of a page."""
        sample: list[list[Value]] = []
        for cell in self.pages.cells(number):
            with suppress(Damaged):
                if isinstance(cell, Cell) and cell.size_bytes:
                    sample.append(self.pages.values(cell))
            if len(sample) == 3:
                break
        return sample
