"""The unpickler's stack machine with names in the place of objects: what a stream imports and calls.

A pickle has no branches and no loops, so one walk sees every import and every call. What is on the stack is kept only
as far as it can become a name, an argument or the state of something; the rest is one and the same stand-in. The
meaning of the opcodes is that of ``pickle._Unpickler`` in the standard library.
"""

from __future__ import annotations

import copyreg
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from typing import Any

from artifactdb.trust.pickles import joblib_arrays
from artifactdb.trust.pickles.findings import Findings
from artifactdb.trust.pickles.opcodes import UNREAD, BrokenStreamError, Buffer, operation_at
from artifactdb.trust.pickles.values import COMPUTED, OTHER_STATE, Imported, Made

_SOMETHING = UNREAD
_LIST, _SET = object(), object()
_MAX_KEPT = 64
_REBUILDERS = {("copyreg", "_reconstructor"), ("copyreg", "__newobj__"), ("copyreg", "__newobj_ex__")}
_LATIN1 = ("latin1", "latin-1")


def walk(findings: Findings, data: Buffer, start: int, end: int, *, arrays: bool = False) -> int:
    """Walk one pickle and give the position after it.

    Parameters
    ----------
    findings : Findings
        Where everything that is found goes.
    data : bytes-like
    start, end : int
        Where the pickle stands in it.
    arrays : bool, default False
        Whether joblib reads the stream, which finds the bytes of arrays between opcodes.

    Raises
    ------
    BrokenStreamError
        Where the stream cannot be followed any further; what was found until then counts.
    """
    return _Machine(findings, data, start, end, arrays=arrays).run()


class _Machine:
    """One walk over one pickle, with a method for each kind of opcode."""

    def __init__(self, findings: Findings, data: Buffer, start: int, end: int, *, arrays: bool = False) -> None:
        self.findings = findings
        self.data, self.position, self.end = data, start, end
        self.arrays = arrays
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[Any, Any] = {}
        self.protocol = 0
        self.frame_end = start
        self._start = start

    def run(self) -> int:
        data, end, spend, handlers = self.data, self.end, self.findings.budget.spend, _HANDLERS
        name = ""
        try:
            while True:
                spend()
                name, argument, self.position = operation_at(data, self.position, end)
                if name == "STOP":
                    return self.position
                handlers[name](self, argument)
        except (IndexError, KeyError):
            raise BrokenStreamError(f"{name} finds nothing where it needs something") from None

    # -- the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def text(self, value: Any) -> None:
        self.push(self.findings.budget.kept(value))

    def constant_bytes(self, where: range) -> None:
        self.findings.constants.append((self.data, where.start, where.stop))
        self.push(_SOMETHING)

    def mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def drop_mark(self, _: Any) -> None:
        self.pop_mark()

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def duplicate(self, _: Any) -> None:
        self.push(self.stack[-1])

    def put(self, index: Any) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: Any) -> None:
        self.push(self.memo[index])

    # -- containers

    def tuple_of_mark(self, _: Any) -> None:
        items = tuple(self.pop_mark())
        self.push(items)

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise IndexError
        del self.stack[-count:]
        self.push(items)

    def collection_of_mark(self, kind: object) -> None:
        self.pop_mark()
        self.push(kind)

    def dict_of_mark(self, _: Any) -> None:
        items = self.pop_mark()
        self.push({})
        self._set_items(items)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def set_items(self, _: Any) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Made):
            self.findings.call(target.name, "__setitem__")
            target = target.items
        elif not isinstance(target, dict):
            self._changes(target, "__setitem__")
            return
        for key, value in zip(items[::2], items[1::2], strict=False):
            if key is UNREAD or isinstance(key, Made):
                target[COMPUTED] = None
            elif isinstance(key, str) and (key in target or len(target) < _MAX_KEPT or key.startswith("__")):
                target[key] = value

    def append(self, _: Any) -> None:
        self.stack.pop()
        self._extend("append")

    def extend(self, _: Any) -> None:
        self.pop_mark()
        self._extend("extend")

    def add_items(self, _: Any) -> None:
        self.pop_mark()
        self._extend("add")

    def _extend(self, method: str) -> None:
        target = self.stack[-1]
        if isinstance(target, Made):
            self.findings.call(target.name, method)
        elif target is not (_SET if method == "add" else _LIST):
            self._changes(target, method)

    def _changes(self, target: Any, method: str) -> None:
        if isinstance(target, Imported):
            self.findings.changed(target.module, target.name, method)
        else:
            self.findings.problem(f"{method} is called on what is no such container")

    # -- imports and calls

    def global_(self, names: tuple[Any, Any]) -> None:
        self.push(self._import(*names))

    def stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.push(self._import(module, name))

    def _import(self, module: Any, name: Any) -> Any:
        if not (isinstance(module, str) and isinstance(name, str)):
            self.findings.problem("a name to import is computed while loading, or too long to be one")
            return _SOMETHING
        asked = module, name
        if self.protocol < 3:  # names of Python 2, as the unpickler translates them
            module, name = NAME_MAPPING.get(asked) or (IMPORT_MAPPING.get(module, module), name)
        self.findings.use(module, name, asked=asked)
        return Imported(module, name)

    def extension(self, code: int) -> None:
        registered: dict[int, tuple[str, str]] = copyreg._inverted_registry  # type: ignore[attr-defined]
        self.findings.problem(f"extension code {code} stands for whatever a program has registered under it")
        self.push(self._import(*registered[code]) if code in registered else _SOMETHING)

    def instance_of_mark(self, names: tuple[Any, Any]) -> None:
        target = self._import(*names)
        self._call(target, tuple(self.pop_mark()))

    def object_of_mark(self, _: Any) -> None:
        items = self.pop_mark()
        target, arguments = items[0], items[1:]
        self._call(target, tuple(arguments))

    def reduce(self, _: Any) -> None:
        arguments, target = self.stack.pop(), self.stack.pop()
        self._call(target, arguments)

    def new_object(self, _: Any) -> None:
        arguments, target = self.stack.pop(), self.stack.pop()
        self._call(target, arguments, "__new__")

    def new_object_of_keywords(self, _: Any) -> None:
        self.stack.pop()
        self.new_object(None)

    def _call(self, target: Any, arguments: Any, method: str = "") -> None:
        if not isinstance(target, Imported):
            self.findings.problem("something that was made while loading is called")
            self.push(_SOMETHING)
            return
        self.findings.call(target.name, method, imported=(target.module, target.attribute))
        known = arguments if isinstance(arguments, tuple) else ()
        where = target.module, target.attribute
        if where == ("_codecs", "encode"):
            self._encode(known)
        elif where not in _REBUILDERS:
            self.push(Made(target, known))
        elif known and isinstance(known[0], Imported):
            made = known[0]
            self.findings.call(made.name, "__new__", imported=(made.module, made.attribute))
            self.push(Made(made, known))
        else:
            self.findings.problem(f"{target.name} is given what is no class")
            self.push(_SOMETHING)

    def _encode(self, arguments: tuple[Any, ...]) -> None:
        # How protocol 2 writes bytes; any other codec would be looked up, and imported, by its name.
        if len(arguments) != 2 or arguments[1] not in _LATIN1:
            self.findings.problem("_codecs.encode is called with something other than latin1")
        elif isinstance(arguments[0], str):
            encoded = arguments[0].encode("latin1", "replace")
            self.findings.constants.append((encoded, 0, len(encoded)))
        self.push(_SOMETHING)

    def build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Imported):
            self.findings.changed(target.module, target.attribute, "__setstate__")
        elif isinstance(target, Made):
            self.findings.call(target.name, "__setstate__")
            if target.name == "numpy.dtype" and target.arguments[2:] != (True,):
                self.findings.problem("a dtype that numpy keeps for the whole process is given a state")
            for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
                self._check_state(target, part)
            if self.arrays and target.name == joblib_arrays.WRAPPER:
                joblib_arrays.step_over(self, target.state)
                self.stack[-1] = _SOMETHING
        else:
            self.findings.problem("state is given to what has none")

    def _check_state(self, target: Made, state: Any) -> None:
        found = state.items if isinstance(state, Made) else state
        if isinstance(found, dict):
            for key in found:
                if key.startswith("__"):
                    self.findings.problem(f"{target.name} is given an attribute {key[:80]}")
            target.state.update(found)
        elif found is not None:
            target.state[OTHER_STATE] = found

    # -- the rest

    def proto(self, version: int) -> None:
        if self.position != self._start + 2:
            self.findings.problem("the protocol is announced in the middle of a stream")
        if version > 5:
            raise BrokenStreamError(f"there is no protocol {version}")
        self.protocol = version

    def frame(self, size: int) -> None:
        self.frame_end = self.position + size
        if self.frame_end > self.end:
            raise BrokenStreamError("a frame is cut off")

    def persistent(self, argument: Any) -> None:
        self.findings.problem("a persistent id stands for whatever the loading program makes of it")
        self.push(_SOMETHING)

    def persistent_of_stack(self, _: Any) -> None:
        self.stack.pop()
        self.persistent(None)

    def nothing(self, _: Any) -> None:
        pass


def _given(value: object) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(value)


_Handler = Callable[[_Machine, Any], None]
_HANDLERS: dict[str, _Handler] = {
    "PROTO": _Machine.proto, "FRAME": _Machine.frame, "READONLY_BUFFER": _Machine.nothing,
    "NEXT_BUFFER": _given(_SOMETHING), "NONE": _given(None), "NEWTRUE": _given(True), "NEWFALSE": _given(False),
    "EMPTY_LIST": _given(_LIST), "EMPTY_SET": _given(_SET), "EMPTY_TUPLE": _given(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "MARK": _Machine.mark, "POP": _Machine.pop, "POP_MARK": _Machine.drop_mark,
    "DUP": _Machine.duplicate, "MEMOIZE": _Machine.memoize,
    "TUPLE": _Machine.tuple_of_mark, "DICT": _Machine.dict_of_mark,
    "TUPLE1": lambda machine, _: machine.tuple_of(1), "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.collection_of_mark(_LIST),
    "FROZENSET": lambda machine, _: machine.collection_of_mark(_SET),
    "APPEND": _Machine.append, "APPENDS": _Machine.extend, "ADDITEMS": _Machine.add_items,
    "SETITEM": _Machine.set_item, "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.global_, "STACK_GLOBAL": _Machine.stack_global, "INST": _Machine.instance_of_mark,
    "OBJ": _Machine.object_of_mark, "REDUCE": _Machine.reduce, "NEWOBJ": _Machine.new_object,
    "NEWOBJ_EX": _Machine.new_object_of_keywords, "BUILD": _Machine.build,
    "PERSID": _Machine.persistent, "BINPERSID": _Machine.persistent_of_stack,
}  # fmt: skip
for _names, _handler in (
    ("PUT BINPUT LONG_BINPUT", _Machine.put),
    ("GET BINGET LONG_BINGET", _Machine.get),
    ("EXT1 EXT2 EXT4", _Machine.extension),
    ("BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8", _Machine.constant_bytes),
    ("INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT", _Machine.push),
    ("STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8", _Machine.text),
):
    _HANDLERS |= dict.fromkeys(_names.split(), _handler)
