"""A disk whose power is cut: what was synced is there; of the rest any part, in any order, torn anywhere.

Files have numbers, and folders hold names of files: what a file holds is on the disk by a sync of the file, what it
is called by a sync of its folder, and neither says anything of the other. One thing is taken for granted, as SQLite
does on every system that we run on: a write that is interrupted leaves the bytes beside it alone.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

FOLDER = 0
"""The number that stands for a folder where a name is given."""

NOTHING, EVERYTHING = "nothing", "everything"
"""Two cuts that are not left to chance: all that was not synced is lost, or none of it, as when a process is killed."""


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    file: int


@dataclass(frozen=True, slots=True)
class Name:
    """Names of one folder that change together: a name and its file, or None for a name that goes."""

    folder: str
    changes: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class SyncFolder:
    folder: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A call returned, and this is what must be there from now on."""

    state: Any
    act: str


Operation = Write | Truncate | Sync | Name | SyncFolder | Acknowledged
Tree = dict[str, bytes | None]
"""What lies on a disk: content by path, None for a folder."""


def folder_of(path: str) -> str:
    """Give the folder that a name belongs to; the root is empty."""
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


class Disk:
    """What is certainly on the disk, and what may be."""

    def __init__(self) -> None:
        self._synced: dict[int, bytes] = {}
        self._unsynced: dict[int, list[Write | Truncate]] = defaultdict(list)
        self._names: dict[str, int] = {}
        self._unsynced_names: dict[str, list[Name]] = defaultdict(list)

    def do(self, operation: Operation) -> None:
        match operation:
            case Write() | Truncate():
                self._unsynced[operation.file].append(operation)
            case Sync(file):
                if changes := self._unsynced.pop(file, []):
                    self._synced[file] = _content(self._synced.get(file, b""), changes)
            case Name(folder):
                self._unsynced_names[folder].append(operation)
            case SyncFolder(folder):
                for change in self._unsynced_names.pop(folder, []):
                    _name(self._names, change)

    def cut(self, variant: str) -> Tree:
        """Give what may be found after the power was cut now; one variant is always the same."""
        chance = random.Random(variant)
        names = dict(self._names)
        for changes in self._unsynced_names.values():
            for change in _kept(changes, variant, chance):
                _name(names, change)
        # Shorter paths first: a name is found only if the folders above it are.
        tree: Tree = {}
        for path, file in sorted(names.items()):
            if folder_of(path) and folder_of(path) not in tree:
                continue
            tree[path] = None if file == FOLDER else self._found(file, variant, chance)
        return tree

    def _found(self, file: int, variant: str, chance: random.Random) -> bytes:
        before = self._synced.get(file, b"")
        changes = self._unsynced.get(file, [])
        if not changes:
            return before
        return _content(before, _kept(changes, variant, chance))


def _name(names: dict[str, int], change: Name) -> None:
    for path, file in change.changes:
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def _content(before: bytes, changes: Any) -> bytes:
    data = bytearray(before)
    for change in changes:
        end = change.size if isinstance(change, Truncate) else change.offset
        if isinstance(change, Truncate):
            del data[end:]
        data.extend(bytes(max(0, end - len(data))))
        if isinstance(change, Write):
            data[end : end + len(change.data)] = change.data
    return bytes(data)


def _kept(changes: Any, variant: str, chance: random.Random) -> Iterator[Any]:
    """Give what reached the disk of changes to one file or folder."""
    if variant == NOTHING:
        return
    if variant == EVERYTHING:
        yield from changes
        return
    share = chance.choice((0.0, 0.2, 0.5, 0.8, 1.0))
    for change in changes:
        if chance.random() < share:
            yield change
        elif isinstance(change, Write) and chance.random() < 0.3:
            yield from _torn(change, chance)


def _torn(write: Write, chance: random.Random) -> Iterator[Write]:
    """Give the first sectors or pages of a write, or any of them."""
    size = chance.choice((512, 4096))
    first = size - write.offset % size
    bounds = [0, *range(first, len(write.data), size), len(write.data)]
    pieces = list(pairwise(bounds))
    if chance.random() < 0.3:
        pieces = [piece for piece in pieces if chance.random() < 0.5]
    else:
        pieces = pieces[: chance.randrange(len(pieces))]
    for start, end in pieces:
        yield Write(write.file, write.offset + start, write.data[start:end])
