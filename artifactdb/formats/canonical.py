"""The canonical form of a pickle stream: the same object gives the same bytes in every process.

Plain pickle streams differ by what does not matter: whether two equal strings were one object when it
was dumped, in which order a set was walked, how the stream was framed. One pass over the opcodes
settles these. The result is an ordinary protocol 5 pickle with the same meaning.
The opcodes are those of PEP 307, PEP 3154 and PEP 574, documented in the standard library's pickletools.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

MAX_STREAM_BYTES = 4 * 1024 * 1024
"""Longer streams are left as they are: the pass would cost more than half of a save."""
_REMEMBERED_BYTES, _REMEMBERED = 16 * 1024, 256  # of streams and their forms: 8 MiB in all at most

_ARGUMENT_BYTES = [-1] * 256
for _op in b"}])(N\x88\x89suaet\x85\x86\x87bR\x81\x92\x93\x94\x8f\x90\x91\x97\x98.012Q":
    _ARGUMENT_BYTES[_op] = 0
for _ops, _size in ((b"K\x82\x80h", 1), (b"M\x83", 2), (b"J\x84j", 4), (b"G\x95", 8)):
    for _op in _ops:
        _ARGUMENT_BYTES[_op] = _size
_LENGTH_BYTES = [0] * 256
for _ops, _size in ((b"\x8cC\x8a", 1), (b"XB\x8b", 4), (b"\x8d\x8e\x96", 8)):
    for _op in _ops:
        _LENGTH_BYTES[_op] = _size

_MEMOIZE, _BINGET, _LONG_BINGET, _STACK_GLOBAL, _FRAME, _GLOBAL = 0x94, 0x68, 0x6A, 0x93, 0x95, 0x63
_NEXT_BUFFER, _READONLY_BUFFER, _MARK, _ADDITEMS, _FROZENSET = 0x97, 0x98, 0x28, 0x90, 0x91
_BYTEARRAY8 = 0x96
_TEXT = frozenset(b"\x8cX\x8d")
_IMMUTABLE = frozenset(b"\x8cX\x8dCB\x8e")
_ATOMS = frozenset(b"N\x88\x89KMJG\x8a\x8b") | _IMMUTABLE
_MARK_ENDS = frozenset(b"teu\x90\x911")
# What the loop below must look at; every other opcode is copied.
_NOTABLE = frozenset({_MEMOIZE, _BINGET, _LONG_BINGET, _STACK_GLOBAL, _FRAME, _READONLY_BUFFER, _NEXT_BUFFER})


class UnknownOpcodeError(Exception):
    """An opcode that picklers of protocol 5 do not write; the stream is then kept as it is."""


def canonical(stream: bytes, writable_buffers: Container[int] = ()) -> tuple[bytes, frozenset[tuple[str, str]]]:
    """Give the canonical stream, and the (module, name) of everything that it imports.

    Parameters
    ----------
    stream : bytes
        Made by a pickler of protocol 5.
    writable_buffers : container of int
        Positions of out-of-band buffers that come back writable even if they were not when dumped.

    Examples
    --------
    >>> import pickle
    >>> one, other = "".join(["ri", "dge"]), "".join(["rid", "ge"])
    >>> canonical(pickle.dumps([one, other], 5))[0] == canonical(pickle.dumps([one, one], 5))[0]
    True
    """
    key = (len(stream), stream[:64])
    form = _forms.get(key)
    if form is not None and (found := form.filled(stream)) is not None:
        return found, form.imports
    walk = _Pass(stream, writable_buffers)
    out, imports = walk.run(), frozenset(walk.imports)
    if len(stream) <= _REMEMBERED_BYTES and not walk.has_buffers:
        if len(_forms) >= _REMEMBERED:
            _forms.clear()
        _forms[key] = _Form.of(stream, out, walk.arrays, imports)
    return out, imports


@dataclass(frozen=True, slots=True)
class _Form:
    """A stream and its canonical form, with room for the bytes of their small arrays.

    The models of five folds often differ in nothing else. Where all around the arrays is the same, the opcodes are the
    same ones, at the same places: what the pass makes of them is known.
    """

    around: list[tuple[int, bytes]]
    arrays: list[slice]
    around_out: list[bytes]
    imports: frozenset[tuple[str, str]]

    @classmethod
    def of(
        cls, stream: bytes, out: bytes, arrays: list[tuple[int, int, int]], imports: frozenset[tuple[str, str]]
    ) -> _Form:
        around, around_out = [], []
        end = end_out = 0
        for start, start_out, size in [*arrays, (len(stream), len(out), 0)]:
            around.append((end, stream[end:start]))
            around_out.append(out[end_out:start_out])
            end, end_out = start + size, start_out + size
        return cls(around, [slice(start, start + size) for start, _, size in arrays], around_out, imports)

    def filled(self, stream: bytes) -> bytes | None:
        """Give the canonical form of a stream as long as the first, or None where it is another one."""
        for start, piece in self.around:
            if not stream.startswith(piece, start):
                return None
        parts = [self.around_out[0]]
        for array, piece in zip(self.arrays, self.around_out[1:], strict=True):
            parts += stream[array], piece
        return b"".join(parts)


_forms: dict[tuple[int, bytes], _Form] = {}


class _Pass:
    """One walk over a stream. The state of the output can be wound back, so that sets can be sorted.

    What would be written just as it was read is not copied piece by piece: ``copied`` trails behind.
    """

    def __init__(self, stream: bytes, writable_buffers: Container[int]) -> None:
        self.stream = stream
        self.writable_buffers = writable_buffers
        self.out = bytearray(b"\x80\x05")
        self.memo: list[int] = []  # memo index in the input -> memo index in the output
        self.values: dict[bytes, int] = {}  # the literal of a string or bytes already written -> its index
        self.literals: dict[int, bytes] = {}  # the other way round
        self.count = 0
        self.has_sets = b"\x90" in stream or b"\x91" in stream
        self.has_buffers = False
        self.imports: set[tuple[str, str]] = set()
        self.arrays: list[tuple[int, int, int]] = []  # where bytes begin in input and output, and how many

    def run(self) -> bytes:
        stream, end, out, memo = self.stream, len(self.stream), self.out, self.memo
        values, literals = self.values, self.literals
        notable = _NOTABLE | _MARK_ENDS | {_MARK} if self.has_sets else _NOTABLE
        sizes = _ARGUMENT_BYTES
        position = copied = 2  # after PROTO
        recent: list[bytes] = []  # literals of texts
        imports, arrays = self.imports, self.arrays
        buffer_index = -1
        marks: list[tuple[int, int, int, int]] = []
        last_set = (-1, (0, 0, 0, 0))
        count = 0
        while position < end:
            op = stream[position]
            size = sizes[op]
            if size >= 0:
                if op not in notable:
                    position += 1 + size
                    continue
                if op == _MEMOIZE:
                    memo.append(count)
                    count += 1
                    position += 1
                    continue
                start, position = position, position + 1 + size
                if op in (_BINGET, _LONG_BINGET):
                    read = int.from_bytes(stream[start + 1 : position], "little")
                    index = memo[read]
                    known = literals.get(index)
                    if known is not None and known[0] in _TEXT:
                        recent.append(known)
                    if index != read or (op == _LONG_BINGET and index < 256):
                        out += stream[copied:start]
                        copied = position
                        self._put_get(index)
                    continue
                if op == _STACK_GLOBAL:
                    imports.add((_value(recent[-2]).decode(), _value(recent[-1]).decode()))
                    del recent[:-2]
                    continue
                if op == _NEXT_BUFFER:
                    buffer_index += 1
                    continue
                out += stream[copied:start]
                copied = position
                if op == _READONLY_BUFFER:
                    if buffer_index not in self.writable_buffers:
                        out.append(op)
                elif op == _MARK:
                    marks.append((start, len(out), count, len(memo)))
                    out.append(op)
                elif op in _MARK_ENDS:
                    mark = marks.pop()
                    if op == _ADDITEMS and last_set[0] == mark[0]:
                        mark = last_set[1]  # one set in several batches
                    if op in (_ADDITEMS, _FROZENSET):
                        self.count = count
                        self._sort_set(mark, start, op)
                        count = self.count
                    else:
                        out.append(op)
                    if op == _ADDITEMS:
                        last_set = (position, mark)
                continue
            start, position = position, self._argument(op, position)[1]
            if op not in _IMMUTABLE or position >= end or stream[position] != _MEMOIZE:
                if op == _GLOBAL:
                    module, name = stream[start + 1 : position].split(b"\n")[:2]
                    imports.add((module.decode(), name.decode()))
                elif op == _BYTEARRAY8:
                    arrays.append((start + 9, len(out) + start + 9 - copied, position - start - 9))
                continue
            literal = stream[start:position]
            position += 1
            index = values.get(literal, -1)
            if index < 0:
                index = values[literal] = count
                literals[count] = literal
                count += 1
            else:
                out += stream[copied:start]
                copied = position
                self._put_get(index)
            memo.append(index)
            if op in _TEXT:
                recent.append(literal)
        out += stream[copied:]
        self.has_buffers = buffer_index >= 0
        return bytes(out)

    def _argument(self, op: int, position: int) -> tuple[int, int]:
        width = _LENGTH_BYTES[op]
        if width == 1:
            start = position + 2
            return start, start + self.stream[position + 1]
        if width:
            start = position + 1 + width
            return start, start + int.from_bytes(self.stream[position + 1 : start], "little")
        if op == _GLOBAL:
            start = position + 1
            return start, self.stream.index(b"\n", self.stream.index(b"\n", start) + 1) + 1
        raise UnknownOpcodeError(op)

    def _put_value(self, literal: bytes) -> int:
        """Write an immutable value the first time, refer to it every other time; give its index."""
        index = self.values.get(literal)
        if index is None:
            index = self.values[literal] = self.count
            self.literals[index] = literal
            self.count += 1
            self.out += literal
            self.out.append(_MEMOIZE)
        else:
            self._put_get(index)
        return index

    def _put_get(self, index: int) -> None:
        if index < 256:
            self.out += bytes((_BINGET, index))
        else:
            self.out.append(_LONG_BINGET)
            self.out += index.to_bytes(4, "little")

    def _sort_set(self, mark: tuple[int, int, int, int], end: int, op: int) -> None:
        """Write the items of a set in the order of their values, if all are plain values."""
        start, out_length, count, memo_length = mark
        items = self._atoms(start, end, memo_length)
        if items is None:
            self.out.append(op)
            return
        del self.out[out_length:]
        for index in range(count, self.count):
            if index in self.literals:
                del self.values[self.literals.pop(index)]
        self.count = count
        positions: dict[int, int] = {}
        self.out.append(_MARK)
        for kind, _, literal, memo_index in sorted(items, key=lambda item: item[:2]):
            if kind in _IMMUTABLE:
                index = self._put_value(literal)
                if memo_index is not None:
                    positions[memo_index] = index
            else:
                self.out += literal
        for memo_index in sorted(positions):
            self.memo[memo_index] = positions[memo_index]
        self.out.append(op)

    def _atoms(self, start: int, end: int, memo_length: int) -> list[tuple[int, bytes, bytes, int | None]] | None:
        """Read the items between a mark and its end as (opcode, value, literal, memo index), or None."""
        items: list[tuple[int, bytes, bytes, int | None]] = []
        position, memo_index = start + 1, memo_length
        while position < end:
            op = self.stream[position]
            if op in (_MARK, _ADDITEMS, _FRAME):
                position += 9 if op == _FRAME else 1
                continue
            if op in (_BINGET, _LONG_BINGET):
                stop = position + (2 if op == _BINGET else 5)
                known = self.literals.get(self.memo[int.from_bytes(self.stream[position + 1 : stop], "little")])
                if known is None:
                    return None
                # The literal is never written for it: the value stands earlier in the output.
                items.append((known[0], _value(known), known, None))
                position = stop
                continue
            if op not in _ATOMS:
                return None
            size = _ARGUMENT_BYTES[op]
            value_start, stop = (position + 1, position + 1 + size) if size >= 0 else self._argument(op, position)
            memoised = op in _IMMUTABLE and self.stream[stop] == _MEMOIZE
            if op in _IMMUTABLE and not memoised:
                return None
            literal = self.stream[position:stop]
            items.append((op, self.stream[value_start:stop], literal, memo_index if memoised else None))
            memo_index += memoised
            position = stop + memoised
        return items


def _value(literal: bytes) -> bytes:
    return literal[1 + _LENGTH_BYTES[literal[0]] :]
