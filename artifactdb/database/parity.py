"""A file beside a workspace from which damaged blocks of it are made again: Reed-Solomon parity, and checksums.

A block whose checksum is wrong is an erasure, of which each stripe bears as many as it has parity blocks. Blocks of one
stripe lie far apart, so that a damaged stretch of the disk takes few of each. docs/format.md says how the bytes lie.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apsw

from artifactdb.errors import CorruptWorkspaceError, InvalidValueError, StorageError

Progress = Callable[[int, int], None]

SMALL_BLOCK, LARGE_BLOCK = 4096, 65536
_LARGE_BYTES = 1 << 30
_MAGIC = b"ADBPAR1\n"
_CHECK = 16
_MOST_DATA, _MOST = 200, 256
_AT_ONCE = 32 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file that is protected: its name within the folder of the workspace, and what it was."""

    name: str
    size_bytes: int
    sha256: str
    modified_ns: int

    def blocks_of(self, size: int) -> int:
        """Give how many blocks it takes; the last is filled up with zeros."""
        return -(-self.size_bytes // size)


@dataclass(frozen=True, slots=True)
class Damage:
    """Blocks of a file that are not what they were, by number from 0; ``can_be_restored`` by what is left."""

    member: Member
    blocks: tuple[int, ...]
    can_be_restored: bool


class Reading:
    """A file that is read without its locks being lost: SQLite's own descriptors see to that."""

    def __init__(self, path: Path) -> None:
        self._file = apsw.VFSFile("unix" if os.name == "posix" else "", str(path), [_FLAGS, 0])
        self.size_bytes = self._file.xFileSize()

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Give bytes, filled up with zeros."""
        there = max(0, min(size_bytes, self.size_bytes - offset))
        found = b""
        with suppress(apsw.Error):  # a sector that cannot be read
            found = self._file.xRead(there, offset) if there else b""
        return found.ljust(size_bytes, b"\0")

    def close(self) -> None:
        """Give it back."""
        self._file.xClose()


_FLAGS = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB


class _Sequence:
    """Several files as one sequence of blocks."""

    def __init__(self, folder: Path, members: Sequence[Member], block: int) -> None:
        self.members, self.block = members, block
        self._files = [Reading(folder / m.name) if (folder / m.name).is_file() else None for m in members]

    def close(self) -> None:
        for file in self._files:
            if file is not None:
                file.close()

    def read(self, first: int, count: int) -> bytes:
        """Give so many blocks; zeros beyond the end, and for a file that is not there."""
        pieces, start = [], 0
        for member, file in zip(self.members, self._files, strict=True):
            blocks = member.blocks_of(self.block)
            begin, end = max(first, start), min(first + count, start + blocks)
            if begin < end:
                offset, size = (begin - start) * self.block, (end - begin) * self.block
                # What was added behind the end of a file is none of a block.
                left = max(0, min(size, member.size_bytes - offset))
                content = file.read(offset, left) if file is not None else b""
                pieces.append(content.ljust(size, b"\0"))
            start += blocks
        return b"".join(pieces).ljust(count * self.block, b"\0")


@dataclass(slots=True)
class Parity:
    """What a protecting file says, and where its parts lie.

    Attributes
    ----------
    block : int
        Bytes of a block.
    data, parity : int
        Blocks of each kind in a stripe.
    stripes : int
        Block b is of stripe ``b % stripes``, where it has the place ``b // stripes``.
    checks : bytes
        Of each protected block, then of each parity block.
    begins_at : int
        Where the parity blocks begin.
    """

    path: Path
    members: list[Member]
    block: int
    data: int
    parity: int
    stripes: int
    protected_at: str
    checks: bytes = b""
    begins_at: int = 0

    @property
    def blocks(self) -> int:
        """How many blocks are protected."""
        return sum(member.blocks_of(self.block) for member in self.members)

    def check_of(self, number: int) -> bytes:
        """Give the checksum of a protected block, or behind those of a parity block."""
        return self.checks[number * _CHECK : (number + 1) * _CHECK]

    def parity_at(self, number: int) -> int:
        """Give where a parity block lies; number ``place * stripes + stripe``."""
        return self.begins_at + number * self.block


def _check(block: bytes) -> bytes:
    return hashlib.blake2b(block, digest_size=_CHECK).digest()


def _checks(blocks: bytes, size: int) -> bytes:
    return b"".join(_check(blocks[at : at + size]) for at in range(0, len(blocks), size))


# -- writing ----------------------------------------------------------------------------------------


def describe(folder: Path, name: str) -> Member:
    """Hash a file that is to be protected."""
    digest, file = hashlib.sha256(), Reading(folder / name)
    try:
        for offset in range(0, file.size_bytes, _AT_ONCE):
            digest.update(file.read(offset, min(_AT_ONCE, file.size_bytes - offset)))
        modified = (folder / name).stat().st_mtime_ns
        return Member(name, file.size_bytes, digest.hexdigest(), modified)
    finally:
        file.close()


def write(
    folder: Path, members: list[Member], target: Path, overhead: float, now: str, progress: Progress | None = None
) -> None:
    """Write what protects some files, all in one folder or below it.

    Raises
    ------
    InvalidValueError
        For an overhead that is not within 0.01 and 1.
    """
    if not 0.01 <= overhead <= 1:
        raise InvalidValueError(f"an overhead is 0.01 to 1 times the file, not {overhead}.")
    size = SMALL_BLOCK if sum(member.size_bytes for member in members) < _LARGE_BYTES else LARGE_BLOCK
    blocks = sum(member.blocks_of(size) for member in members)
    most = min(_MOST_DATA, int(_MOST / (1 + overhead)))
    stripes = max(1, -(-blocks // most))
    data = max(1, -(-blocks // stripes))
    parity = Parity(target, members, size, data, min(max(2, round(data * overhead)), _MOST - data), stripes, now)
    parity.begins_at = len(_head(parity, bytes((blocks + parity.parity * stripes) * _CHECK)))
    checks = bytearray((blocks + parity.parity * stripes) * _CHECK)
    encoder = _zfec().Encoder(parity.data, parity.data + parity.parity)
    source = _Sequence(folder, members, size)
    try:
        with target.open("r+b") as file:
            for first, count in _groups(parity):
                pieces = [source.read(place * stripes + first, count) for place in range(parity.data)]
                for place, piece in enumerate(pieces):
                    number = place * stripes + first
                    there = max(0, min(count, blocks - number))
                    checks[number * _CHECK : (number + there) * _CHECK] = _checks(piece[: there * size], size)
                made = encoder.encode(pieces, list(range(parity.data, parity.data + parity.parity)))
                for place, piece in enumerate(made):
                    number = place * stripes + first
                    at = (blocks + number) * _CHECK
                    checks[at : at + count * _CHECK] = _checks(piece, size)
                    file.seek(parity.parity_at(number))
                    file.write(piece)
                if progress:
                    progress(first + count, stripes)
            head = _head(parity, bytes(checks))
            file.seek(0)
            file.write(head)
            file.seek(parity.parity_at(parity.parity * stripes))
            file.write(head + len(head).to_bytes(8, "little"))
    finally:
        source.close()


def _groups(parity: Parity) -> Iterator[tuple[int, int]]:
    """Give stripes that are worked on together, within a bounded memory: the first, and how many."""
    each = max(1, _AT_ONCE // (parity.data * parity.block))
    for first in range(0, parity.stripes, each):
        yield first, min(each, parity.stripes - first)


def _head(parity: Parity, checks: bytes) -> bytes:
    said = {
        "block_bytes": parity.block, "data": parity.data, "parity": parity.parity, "stripes": parity.stripes,
        "protected_at": parity.protected_at, "files": [asdict(member) for member in parity.members],
    }  # fmt: skip
    text = json.dumps(said, ensure_ascii=False).encode()
    head = _MAGIC + len(text).to_bytes(4, "little") + len(checks).to_bytes(8, "little") + text + checks
    return head + hashlib.sha256(head).digest()


# -- reading ----------------------------------------------------------------------------------------


def read(path: Path) -> Parity:
    """Read what protects a workspace; of its header there are two.

    Raises
    ------
    CorruptWorkspaceError
        When both are damaged.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        for at_end in (False, True):
            with suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
                start = file.seek(-8, os.SEEK_END) - _number(file.read(8)) if at_end else 0
                file.seek(start)
                fixed = file.read(20)
                if fixed[:8] != _MAGIC or max(_number(fixed[8:12]), _number(fixed[12:])) > length:
                    continue
                text, checks = file.read(_number(fixed[8:12])), file.read(_number(fixed[12:]))
                if file.read(32) == hashlib.sha256(fixed + text + checks).digest():
                    return _parity(path, json.loads(text), checks, 20 + len(text) + len(checks) + 32)
    raise CorruptWorkspaceError(f"{path} is damaged.", hint="Remove it, and protect the workspace again.")


def _parity(path: Path, said: dict[str, Any], checks: bytes, begins_at: int) -> Parity:
    members = [Member(**member) for member in said["files"]]
    if any(Path(member.name).is_absolute() or ".." in Path(member.name).parts for member in members):
        raise ValueError
    numbers = [said[name] for name in ("block_bytes", "data", "parity", "stripes")]
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        raise ValueError
    block, data, width, stripes = numbers
    return Parity(path, members, block, data, width, stripes, str(said["protected_at"]), checks, begins_at)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def find_damage(parity: Parity, folder: Path, progress: Progress | None = None) -> list[Damage]:
    """Compare each block of each file with its checksum."""
    source = _Sequence(folder, parity.members, parity.block)
    wrong: list[int] = []
    step = _AT_ONCE // parity.block
    try:
        for first in range(0, parity.blocks, step):
            count = min(step, parity.blocks - first)
            found = _checks(source.read(first, count), parity.block)
            if found != parity.checks[first * _CHECK : (first + count) * _CHECK]:
                wrong += [
                    first + at
                    for at in range(count)
                    if parity.check_of(first + at) != found[at * _CHECK : (at + 1) * _CHECK]
                ]
            if progress:
                progress(first + count, parity.blocks)
    finally:
        source.close()
    lost = [0] * parity.stripes
    for number in wrong:
        lost[number % parity.stripes] += 1
    damages, start = [], 0
    for member in parity.members:
        blocks = member.blocks_of(parity.block)
        own = tuple(number - start for number in wrong if start <= number < start + blocks)
        path = folder / member.name
        has_other_length = not path.is_file() or path.stat().st_size != member.size_bytes
        if own or has_other_length:
            can = all(lost[(start + number) % parity.stripes] <= parity.parity for number in own)
            damages.append(Damage(member, own, can))
        start += blocks
    return damages


def is_whole(parity: Parity) -> bool:
    """Tell whether the parity blocks themselves are as they were written."""
    count, step = parity.parity * parity.stripes, _AT_ONCE // parity.block
    with parity.path.open("rb") as file:
        file.seek(parity.begins_at)
        found = b"".join(
            _checks(file.read(min(step, count - first) * parity.block), parity.block) for first in range(0, count, step)
        )
        rest = file.read()
    head_bytes = _number(rest[-8:])
    with parity.path.open("rb") as file:
        head = file.read(parity.begins_at)
    return parity.checks[parity.blocks * _CHECK :] == found and rest[:-8] == head and head_bytes == len(head)


def restore(parity: Parity, folder: Path, damage: Damage, target: Path) -> bool:
    """Write a protected file as it was to an empty one; give whether it is, to the last bit."""
    decoder = _zfec().Decoder(parity.data, parity.data + parity.parity)
    source = _Sequence(folder, parity.members, parity.block)
    position = parity.members.index(damage.member)
    start = sum(member.blocks_of(parity.block) for member in parity.members[:position])
    digest, wanted = hashlib.sha256(), {start + number for number in damage.blocks}
    size, step = parity.block, _AT_ONCE // parity.block
    made: dict[int, bytes] = {}
    try:
        with parity.path.open("rb") as protecting, target.open("r+b") as file:
            for number in sorted(wanted):
                if number not in made:
                    again = _stripe(parity, source, protecting, decoder, number % parity.stripes)
                    made.update({at: block for at, block in again.items() if at in wanted})
            end = start + damage.member.blocks_of(size)
            for first in range(start, end, step):
                content = bytearray(source.read(first, min(step, end - first)))
                for number in wanted.intersection(range(first, min(first + step, end))):
                    content[(number - first) * size : (number - first + 1) * size] = made[number]
                left = memoryview(content)[: damage.member.size_bytes - (first - start) * size]
                digest.update(left)
                file.write(left)
    finally:
        source.close()
    return digest.hexdigest() == damage.member.sha256


def _stripe(parity: Parity, source: _Sequence, protecting: Any, decoder: Any, stripe: int) -> dict[int, bytes]:
    """Give the protected blocks of a stripe, made of those whose checksums are right."""
    right: list[tuple[int, bytes]] = []
    for place in range(parity.data + parity.parity):
        number = place * parity.stripes + stripe
        if place < parity.data:
            block = source.read(number, 1)
            check = parity.check_of(number) if number < parity.blocks else _check(block)  # zeros fill the last stripe
        else:
            number -= parity.data * parity.stripes
            protecting.seek(parity.parity_at(number))
            block, check = protecting.read(parity.block), parity.check_of(parity.blocks + number)
        if check == _check(block):
            right.append((place, block))
        if len(right) == parity.data:
            break
    else:
        raise CorruptWorkspaceError(f"too much of {source.members[0].name} and of {parity.path.name} is damaged.")
    blocks = decoder.decode([block for _, block in right], [place for place, _ in right])
    return {place * parity.stripes + stripe: bytes(block) for place, block in enumerate(blocks)}


def _zfec() -> Any:
    try:
        import zfec
    except ImportError:
        raise StorageError(
            "protecting and restoring need the package zfec.", hint="pip install 'artifactdb[parity]'"
        ) from None
    return zfec
