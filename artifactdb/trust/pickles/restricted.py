"""Load an object while refusing every name off a list, at the moment it is asked for.

**This is the boundary; the scan is none.** What it guarantees, for what the stream itself makes happen:

- Only classes and functions on the list are found. A name with dots, a module, what a listed module only imports from
  elsewhere, and what ``known`` calls dangerous, are refused. Extension codes and persistent ids are refused.
- Only classes, and functions that are named in full or known to put objects together, are called; with plain
  values, arrays and classes as arguments. Of packages as large as numpy a whole one means what ``known`` calls safe.
  The result of a call is never called.
- A dtype is one that numpy makes of names, formats and offsets; what was made with it never sees another.
- Only what the stream has made is changed, an array once: no attribute of a class, function or module is set, and no
  attribute with two underscores on both sides, nor an item of a dict of such a name, which may become one. What a class
  sets with its own ``__setstate__`` is looked at right behind, and when all is done.

What it does not protect against: a class on the list whose own ``__new__``, ``__init__`` or ``__setstate__`` does harm
with the values it is given; what importing a listed module runs; memory (``bytearray(10**12)``); and what the object
does when it is used, with whatever its attributes were set to. Compiled code believes its state: ``compiled`` looks at
that of decision trees, and of trees and distances of neighbours; the predictors of histogram boosting, used with false
nodes, can end the process. List packages whose classes you would hand to a stranger.
"""

from __future__ import annotations

import codecs
import io
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import deque
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, Final

import numpy

from artifactdb.content import Buffer, StoredContent
from artifactdb.errors import ArtifactDBError, DeserializationError, UntrustedArtifactError
from artifactdb.formats.container import unpack
from artifactdb.trust.pickles.allow_list import AllowList
from artifactdb.trust.pickles.compiled import are_true_arguments, is_true_state
from artifactdb.trust.pickles.dtypes import with_state
from artifactdb.trust.pickles.known import is_maker, is_name, judge
from artifactdb.trust.pickles.report import SAFE, printable
from artifactdb.trust.pickles.tables import CURATED

_MAX_VALUES: Final = 5_000_000
_MAX_DEPTH: Final = 100
"""Of tuples within tuples: Python hashes them by calls within calls, in C, and counts none of these."""
_PLAIN_VALUES: Final = (str, bytes, bytearray, bool, int, float, complex, type(None), slice, type(...))
_PLAIN_HOLDERS: Final = (tuple, list, set, frozenset)
_TEXTS: Final = (str, numpy.str_)

FORMATS: Final = ("joblib", "pickle", "pickle5")
"""What a restricted load reads."""


def require_format(format: str) -> None:
    """See that a format is one that a restricted load reads; what others do, only their own libraries know.

    Raises
    ------
    UntrustedArtifactError

    Examples
    --------
    >>> require_format("joblib")
    >>> require_format("dill")
    Traceback (most recent call last):
    artifactdb.errors.UntrustedArtifactError: an allow-list is for the formats joblib, pickle, pickle5, not for dill.
    """
    if format not in FORMATS:
        raise UntrustedArtifactError(
            f"an allow-list is for the formats {', '.join(FORMATS)}, not for {printable(format)}."
        )


def restricted_load(content: StoredContent, allow: AllowList | Iterable[str], format: str = "pickle5") -> Any:
    """Give the object of a content, unless it asks for anything off a list.

    Parameters
    ----------
    content : StoredContent
    allow : AllowList or iterable of str
        See ``AllowList``.
    format : str, default "pickle5"
        As its record says: one of ``FORMATS``. "pickle" is a bare pickle, "joblib" a file of joblib
        0.10 or later, compressed or not.

    Raises
    ------
    UntrustedArtifactError
        When the stream asks for what is not allowed, or the format is another; nothing of that was imported or called.
    DeserializationError
        When the bytes are not of that format, or cannot become an object here.

    Examples
    --------
    >>> from artifactdb.formats import dump
    >>> from artifactdb.content import StoredContent
    >>> (segment,) = dump({"alpha": 0.5}, "pickle5")[0].content.segments
    >>> restricted_load(StoredContent(bytearray(segment.data), lambda _: bytearray()), ["sklearn.*"])
    {'alpha': 0.5}
    """
    allowed = allow if isinstance(allow, AllowList) else AllowList(allow)
    require_format(format)
    try:
        return _unpickler(content, allowed, format).load()
    except ArtifactDBError:
        raise
    except Exception as error:
        raise DeserializationError(f"the object cannot be loaded here: {type(error).__name__}: {error}.") from error


def _unpickler(content: StoredContent, allowed: AllowList, format: str) -> RestrictedUnpickler:
    if format == "pickle":
        return RestrictedUnpickler(content.data, None, allowed)
    if format == "joblib":
        from artifactdb.trust.pickles.joblib_files import JoblibUnpickler  # which is a kind of the one below

        return JoblibUnpickler(content.data, allowed)
    stream, buffers = unpack(content)
    return RestrictedUnpickler(stream, buffers, allowed)


_UnpicklerInPython: Any = pickle._Unpickler  # whose methods for opcodes have no types


class RestrictedUnpickler(_UnpicklerInPython):  # type: ignore[misc]
    """An unpickler that finds, calls and changes only what an allow-list lets it.

    It is the standard library's unpickler in Python, because the one in C cannot be told what to call.

    Parameters
    ----------
    stream : bytes-like
        A pickle; what instances of old classes of Python 2 were written with is refused.
    buffers : iterable or None
        Its out-of-band buffers.
    allowed : AllowList
    """

    dispatch: dict[int, Callable[[Any], None]] = dict(pickle._Unpickler.dispatch)  # noqa: RUF012

    def __init__(self, stream: Buffer | io.BytesIO, buffers: Iterable[Any] | None, allowed: AllowList) -> None:
        self._file = stream if isinstance(stream, io.BytesIO) else io.BytesIO(stream)
        super().__init__(self._file, fix_imports=False, buffers=buffers)
        self._size = len(self._file.getbuffer())
        self._allowed = allowed
        self._found: dict[int, Any] = {}  # by id; kept here, so that no id is given to something else
        self._callable: set[int] = set()
        self._values_left = _MAX_VALUES
        self._made: dict[int, Any] = {}
        self._depths: dict[int, tuple[int, Any]] = {}  # of arrays of objects, kept here as what was found is

    def load(self) -> Any:
        """Give the object, once nothing that was made brings methods of its own."""
        loaded = super().load()
        for made in self._made.values():
            self._require_no_methods(made)
        return loaded

    def _require_no_methods(self, made: Any) -> None:
        """Refuse what has an attribute, or may give an item as one, that Python or numpy would ask the object for."""
        for name in getattr(made, "__dict__", ()):
            if isinstance(name, str) and _is_dunder(str(name)):
                raise self._refusal(f"the attribute {str(name)!r:.80} of {_described(made)}")
        if isinstance(made, dict):
            for key in made:
                self._require_plain_name(key)

    def _keep_made(self) -> None:
        """Remember an object, to be looked at when nothing can change it any more."""
        made = self.stack[-1]
        self._made[id(made)] = made
        if isinstance(made, dict):
            self._require_no_methods(made)

    def find_class(self, module: str, name: str) -> Any:
        """Give what is on the list; importing a module happens only after its name was found there."""
        if self.proto < 3:  # names of Python 2; the standard library would translate them after they were looked up
            module, name = NAME_MAPPING.get((module, name)) or (IMPORT_MAPPING.get(module, module), name)
        if not is_name(module) or not name.isidentifier() or not self._allowed(module, name):
            raise self._refusal(f"{module}.{name}")
        found = super().find_class(module, name)
        owner, own_name = getattr(found, "__module__", None), getattr(found, "__qualname__", name)
        if not callable(found) or not isinstance(owner, str) or not isinstance(own_name, str):
            raise self._refusal(f"{module}.{name}")
        if not self._allowed(owner, own_name):
            raise self._refusal(f"{owner}.{own_name}", f"{module}.{name}")
        if self._may_be_called(found, (module, name), (owner, own_name)):
            self._callable.add(id(found))
        self._found[id(found)] = found
        return found

    def _may_be_called(self, found: Any, asked: tuple[str, str], own: tuple[str, str]) -> bool:
        named = self._allowed.names(*asked) or self._allowed.names(*own)
        if named or is_maker(*asked) or is_maker(*own) or own[0].partition(".")[0] not in CURATED:
            return True
        if isinstance(found, type):
            return judge(*own) == SAFE
        if judge(*asked) == SAFE:
            return False  # a score or a ufunc: held, not called
        raise self._refusal(f"the function {'.'.join(own)}")

    def persistent_load(self, pid: Any) -> Any:
        """Refuse: what it stands for is decided by nobody here."""
        raise self._refusal("a persistent id")

    def get_extension(self, code: int) -> None:
        """Refuse: what it stands for was registered by other code, and is not looked up by name."""
        raise self._refusal("an extension code")

    def _check_call(self, called: Any, arguments: Any, keywords: Any = ()) -> None:
        if id(called) not in self._callable or type(arguments) is not tuple:
            raise self._refusal(f"a call of {_described(called)}")
        waiting = [(arguments, 0), (keywords, 0)]
        while waiting:
            value, depth = waiting.pop()
            kind = type(value)
            self._count_value(depth)
            if kind is dict:
                waiting += [(item, depth + 1) for pair in value.items() for item in pair]
            elif kind in _PLAIN_HOLDERS:
                waiting += [(item, depth + 1) for item in value]
            elif kind not in _PLAIN_VALUES and not isinstance(value, type) and not _is_array(value):
                raise self._refusal(f"a call of {_described(called)} with {_described(value)} as argument")
        if not are_true_arguments(called, arguments):
            raise self._refusal(f"a call of {_described(called)} with arguments that do not fit each other")
        if called is codecs.encode and arguments[1:] != ("latin1",):  # as protocol 2 writes bytes; others are imported
            raise self._refusal("a codec")
        if called is slice and slice in map(type, arguments):  # Python gives such a chain back by calls within calls
            raise self._refusal("a slice of slices")
        if called is Fraction and any(isinstance(value, str) and "e" in value.lower() for value in arguments):
            raise self._refusal("a fraction with an exponent")  # 1e1000000000 is worked out

    def _count_value(self, depth: int) -> None:
        self._values_left -= 1
        if self._values_left < 0:
            raise self._refusal("so many values")
        if depth > _MAX_DEPTH:
            raise self._refusal("values that are nested so deeply")

    def _require_hashable_soon(self, keys: Iterable[Any]) -> None:
        """Refuse tuples whose hash would end the process, or take for ever: one in two places is hashed twice."""
        waiting = [(key, 0) for key in keys if isinstance(key, tuple)]
        while waiting:
            value, depth = waiting.pop()
            self._count_value(depth)
            waiting += [(item, depth + 1) for item in tuple.__iter__(value) if isinstance(item, tuple)]

    def _load_reduce(self) -> None:
        self._check_call(self.stack[-2], self.stack[-1])
        super().load_reduce()
        self._keep_made()

    def _load_newobj(self) -> None:
        cls, arguments = self.stack[-2:]
        self._require_class(cls)
        # A named tuple only keeps what it is given.
        self._check_call(cls, () if issubclass(cls, tuple) and hasattr(cls, "_fields") else arguments)
        super().load_newobj()
        self._keep_made()

    def _load_newobj_ex(self) -> None:
        self._require_class(self.stack[-3])
        self._check_call(self.stack[-3], self.stack[-2], self.stack[-1])
        super().load_newobj_ex()
        self._keep_made()

    def _refuse_old(self) -> None:
        raise self._refusal("an opcode of protocol 0 or 1 that makes instances")

    def _load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        self._require_made(target)
        if isinstance(target, numpy.dtype):
            self._replace(target, with_state(target, state))
            return
        if isinstance(target, numpy.ndarray):
            if target.nbytes:  # numpy frees what other arrays may be views of
                raise self._refusal("an array that is given its items twice")
            self._count_arrays_within(target, state)
        # Of the class: the stream may have set one on the object.
        set_state = getattr(type(target), "__setstate__", None)
        if set_state is not None:
            if not is_true_state(target, state):
                raise self._refusal(f"a state that {_described(target)} never has")
            set_state(target, state)
            self._require_no_methods(target)  # it may have taken a list of pairs
            return
        slots = None
        if type(state) is tuple and len(state) == 2:
            state, slots = state
        for attributes in (state, slots):
            if attributes is not None and type(attributes) is not dict:
                raise self._refusal("a state that is no dict")
            for key in attributes or ():
                if type(key) is not str:
                    raise self._refusal(f"an attribute that is named by {_described(key)}")
                self._require_plain_name(key)
        vars(target).update(state) if state else None
        for key, value in (slots or {}).items():
            setattr(target, key, value)

    def _count_arrays_within(self, array: Any, state: Any) -> None:
        """Refuse arrays of objects within such arrays, many deep: numpy gives them back by calls within calls."""
        items = state[4] if type(state) is tuple and len(state) > 4 and type(state[4]) is list else ()
        depths = [self._depths[id(item)][0] for item in items if id(item) in self._depths]
        self._count_value(depth := 1 + max(depths, default=0))
        if items:
            self._depths[id(array)] = depth, array

    def _replace(self, dtype: Any, made: Any) -> None:
        """Put another dtype in the place of one: whatever was made with that one keeps it as it is."""
        if made is None:
            raise self._refusal("a dtype that is not what it says")
        self.stack[-1] = made
        for index in reversed(self.memo):  # it was put there last
            if self.memo[index] is dtype:
                self.memo[index] = made
                break

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        self._require_made(target)
        if not isinstance(target, dict):
            raise self._refusal(f"items of {_described(target)}")
        self._require_hashable_soon(items[::2])
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._require_plain_name(key)
            target[key] = value

    def _load_append(self) -> None:
        self._extend([self.stack.pop()])

    def _load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        self._require_made(target)
        if isinstance(target, list):
            list.extend(target, items)
        elif isinstance(target, deque):
            deque.extend(target, items)
        else:
            raise self._refusal(f"items of {_described(target)}")

    def _load_additems(self) -> None:
        items, target = self.pop_mark(), self.stack[-1]
        self._require_made(target)
        if not isinstance(target, set):
            raise self._refusal(f"items of {_described(target)}")
        self._require_hashable_soon(items)
        set.update(target, items)

    def _load_dict(self) -> None:
        self._require_hashable_soon(self.stack[::2])
        for key in self.stack[::2]:
            self._require_plain_name(key)
        super().load_dict()

    def _load_frozenset(self) -> None:
        self._require_hashable_soon(self.stack)
        super().load_frozenset()

    def _load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        if size > self._size:  # which would be reserved before it is read
            raise DeserializationError("the stream is cut off.")
        self.append(bytearray(self.read(size)))

    def _require_class(self, value: Any) -> None:
        if not isinstance(value, type):
            raise self._refusal(f"a call of {_described(value)}")

    def _require_made(self, value: Any) -> None:
        if isinstance(value, type) or id(value) in self._found or _is_shared(value):
            raise self._refusal(f"a change of {_described(value)}")

    def _require_plain_name(self, key: Any) -> None:
        """Refuse a key that has two underscores on both sides, or is a kind of text that answers for itself.

        Of any dict: a class may take it as its attributes, and ``__array_interface__`` gives numpy any address to read.
        """
        if not isinstance(key, str):
            return
        if type(key) not in _TEXTS:
            raise self._refusal(f"an item that is named by {_described(key)}")
        if _is_dunder(str(key)):
            raise self._refusal(f"the attribute {str(key)!r:.80}")

    def _refusal(self, what: str, asked: str = "") -> UntrustedArtifactError:
        through = f", which it asks for as {asked}" if asked else ""
        listed = ", ".join(self._allowed.patterns) or "nothing"
        return UntrustedArtifactError(
            f"the object needs {what[:300]}{through[:300]}; allowed are {listed}.",
            hint="Look at what it would import and call first; if you trust that, add its full name to the list.",
        )


for _code, _method in (
    (pickle.REDUCE, RestrictedUnpickler._load_reduce),
    (pickle.NEWOBJ, RestrictedUnpickler._load_newobj),
    (pickle.NEWOBJ_EX, RestrictedUnpickler._load_newobj_ex),
    (pickle.INST, RestrictedUnpickler._refuse_old),
    (pickle.OBJ, RestrictedUnpickler._refuse_old),
    (pickle.BUILD, RestrictedUnpickler._load_build),
    (pickle.SETITEM, RestrictedUnpickler._load_setitem),
    (pickle.SETITEMS, RestrictedUnpickler._load_setitems),
    (pickle.APPEND, RestrictedUnpickler._load_append),
    (pickle.APPENDS, RestrictedUnpickler._load_appends),
    (pickle.ADDITEMS, RestrictedUnpickler._load_additems),
    (pickle.DICT, RestrictedUnpickler._load_dict),
    (pickle.FROZENSET, RestrictedUnpickler._load_frozenset),
    (pickle.BYTEARRAY8, RestrictedUnpickler._load_bytearray8),
):
    RestrictedUnpickler.dispatch[_code[0]] = _method


def _is_array(value: Any) -> bool:
    """Tell whether a value is one of numpy's own kinds and holds no objects, which could answer for themselves."""
    kind = type(value)
    if kind.__module__.partition(".")[0] != "numpy":
        return False
    dtype = value if isinstance(value, numpy.dtype) else getattr(value, "dtype", None)
    return (dtype is value or is_maker(kind.__module__, kind.__qualname__)) and not getattr(dtype, "hasobject", False)


def _described(value: Any) -> str:
    kind = value if isinstance(value, type) else type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    return name if isinstance(value, type) else f"something of {name}"


def _is_shared(value: Any) -> bool:
    """Tell whether a value is one of those dtypes that numpy keeps for the whole process."""
    return isinstance(value, numpy.dtype) and numpy.dtype(value.char) is value


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
