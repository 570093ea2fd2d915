"""A joblib file, read within an allow-list: a pickle with the bytes of arrays between its opcodes.

No code of joblib's runs. Where the stream asks for joblib's wrapper of an array it gets a stand-in that can do
nothing; the state that it is given says what array follows.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy

from artifactdb.errors import DeserializationError, UntrustedArtifactError
from artifactdb.trust.pickles.allow_list import AllowList
from artifactdb.trust.pickles.findings import Limits
from artifactdb.trust.pickles.restricted import RestrictedUnpickler
from artifactdb.trust.pickles.unpacking import decompressed

_MODULES: Final = ("joblib.numpy_pickle", "joblib.numpy_pickle_compat")
_SEPARATE: Final = ("NDArrayWrapper", "ZNDArrayWrapper")
_NEEDED: Final = frozenset({"subclass", "shape", "order", "dtype"})
_ALIGNMENT: Final = "numpy_array_alignment_bytes"
_SWAPPED: Final = ">" if sys.byteorder == "little" else "<"


class _Wrapper:
    """Stands for the class of joblib's wrappers; nobody can make one of it but the unpickler."""

    __slots__ = ()


class _ArrayAhead:
    """Stands for a wrapper until its state says which array follows."""

    __slots__ = ()


_WRAPPER: Final = _Wrapper()


class JoblibUnpickler(RestrictedUnpickler):
    """An unpickler that takes the bytes of arrays from between the opcodes.

    Parameters
    ----------
    data : bytes or bytearray
        A joblib file, compressed or not.
    allowed : AllowList

    Raises
    ------
    DeserializationError
        When it cannot be decompressed, or is longer than ``Limits.size_bytes`` then.
    """

    dispatch: dict[int, Callable[[Any], None]] = dict(RestrictedUnpickler.dispatch)  # noqa: RUF012

    def __init__(self, data: bytes | bytearray, allowed: AllowList) -> None:
        limit = Limits().size_bytes
        stream, problem = decompressed(data, limit)
        if problem:
            raise DeserializationError(
                f"the joblib file cannot be read: {problem}.",
                hint=f"Of what nobody vouches for, {limit >> 20} MiB are unpacked at most; trusted, joblib reads it.",
            )
        super().__init__(stream, None, allowed)
        self._ahead = 0
        self._within: list[RestrictedUnpickler] = []

    def load(self) -> Any:
        """Give the object, once each wrapper has become an array."""
        loaded = super().load()
        if self._ahead:
            raise _refusal("a wrapper without its array")
        return loaded

    def find_class(self, module: str, name: str) -> Any:
        """Give what is on the list; a stand-in for the wrapper, which need not be; the plain array for a mapped one."""
        if module in _MODULES and name in _SEPARATE:
            raise _refusal("an array in a file of its own, as joblib wrote before 0.10,")
        if (module, name) == (_MODULES[0], "NumpyArrayWrapper"):
            self._found[id(_WRAPPER)] = _WRAPPER
            return _WRAPPER
        if (module, name) == ("numpy", "memmap"):
            name = "ndarray"
        return super().find_class(module, name)

    def _load_newobj(self) -> None:
        if self.stack[-2] is not _WRAPPER:
            super()._load_newobj()
            return
        if self.stack.pop() != ():
            raise _refusal("a wrapper that is made with arguments")
        self.stack[-1] = _ArrayAhead()
        self._ahead += 1

    def _load_build(self) -> None:
        if type(self.stack[-2]) is not _ArrayAhead:
            super()._load_build()
            return
        state = self.stack.pop()
        self.stack[-1] = self._array(state)
        self._ahead -= 1

    def _array(self, state: Any) -> Any:
        if type(state) is not dict or not all(type(key) is str for key in state) or not state.keys() >= _NEEDED:
            raise _refusal("a wrapper with another state")
        dtype, shape, order = state["dtype"], state["shape"], state["order"]
        if state["subclass"] is not numpy.ndarray:
            raise _refusal("an array of another class than numpy.ndarray")
        if not isinstance(dtype, numpy.dtype) or dtype.subdtype is not None or dtype.itemsize <= 0:
            raise _refusal("an array without a dtype")
        if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape) or order not in ("C", "F"):
            raise _refusal("an array without a shape or an order")
        frame = self._unframer.current_frame
        if frame is not None and frame.read(1):
            raise _refusal("an array within a frame")  # joblib reads it behind, and then goes on here
        if dtype.hasobject:
            return self._array_of_objects()
        if state.get(_ALIGNMENT) is not None:
            self._file.read(int.from_bytes(self._file.read(1), "little"))
        size = prod(shape) * dtype.itemsize
        if size > self._size - self._file.tell():
            raise DeserializationError("an array of the joblib file is cut off.")
        items: Any = numpy.empty(size, numpy.uint8)
        self._file.readinto(memoryview(items))
        return _native(items.view(dtype)).reshape(shape, order=order)

    def _array_of_objects(self) -> Any:
        """Give what joblib keeps as a whole pickle within the file, for which the list holds as well."""
        within = RestrictedUnpickler(self._file, None, self._allowed)
        within._values_left = self._values_left
        array = within.load()
        self._values_left = within._values_left
        self._within.append(within)  # and with it what it found, so that no id is given to something else
        if type(array) is not numpy.ndarray:
            raise _refusal("something else where an array of objects is said to be")
        return array

    def _refuse_array_ahead(self) -> None:
        """Keep a wrapper where it is made, so that one array is read for it and nothing else has it."""
        if type(self.stack[-1]) is _ArrayAhead:
            raise _refusal("a wrapper in two places")


def _refusal(what: str) -> UntrustedArtifactError:
    return UntrustedArtifactError(
        f"{what} is not read of a joblib file within an allow-list.",
        hint="Look at what the file would import and call; if you trust who wrote it, trust it as a whole.",
    )


def _copying(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def checked(unpickler: JoblibUnpickler) -> None:
        load(unpickler)
        unpickler._refuse_array_ahead()

    return checked


def _native(array: Any) -> Any:
    """Give an array in the byte order of this machine where joblib does; it leaves structures of both orders."""
    fields = array.dtype.fields
    orders = {field[0].byteorder for field in fields.values()} if fields else {array.dtype.byteorder}
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder("=")) if orders == {_SWAPPED} else array


for _code in (pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.DUP):
    JoblibUnpickler.dispatch[_code[0]] = _copying(JoblibUnpickler.dispatch[_code[0]])
for _code, _method in (
    (pickle.NEWOBJ, JoblibUnpickler._load_newobj),
    (pickle.BUILD, JoblibUnpickler._load_build),
):
    JoblibUnpickler.dispatch[_code[0]] = _method
