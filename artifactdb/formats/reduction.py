"""How the parts of an object are taken apart, for C pickle and dill alike.

Arrays leave the stream as buffers in a layout that does not depend on how they came to be; numpy's own types are
written through their public constructors, so that numpy 1 and 2 read each other's; and a class or function
that would not be found in another process is reported instead of being written by name.
"""

from __future__ import annotations

import sys
import types
from functools import lru_cache
from pickle import PickleBuffer
from typing import Any

from artifactdb.formats.container import OUT_OF_BAND_BYTES, ArrayBuffer
from artifactdb.formats.dtypes import beside_layout, laid_out

_MAIN_MODULES = frozenset({"__main__", "__mp_main__"})
_PLAIN_KINDS = frozenset("biufcSUMm")
_NAMED = (type, types.FunctionType)


class ByValueNeededError(Exception):
    """Something would be saved by a name that other processes cannot resolve."""


def importable_elsewhere(obj: Any) -> bool:
    """Tell whether another process can import a class or function by its module and name.

    What is defined in a script, a notebook or a test module cannot; what is nested in a function neither.
    """
    module = getattr(obj, "__module__", None)
    if not isinstance(module, str):
        return True  # built in
    if _is_of_here(module) or "<locals>" in getattr(obj, "__qualname__", ""):
        return False
    loaded = sys.modules.get(module)
    return loaded is None or getattr(loaded, "__spec__", None) is not None


@lru_cache(maxsize=1024)
def _is_of_here(module: str) -> bool:
    """Tell whether a module's name is that of a script, a notebook or tests."""
    package, _, name = module.rpartition(".")
    return (
        module in _MAIN_MODULES
        or name.startswith("test_")
        or name.endswith("_test")
        or name == "conftest"
        or (package or name).partition(".")[0] == "tests"
    )


class Reducer:
    """What a pickler asks during one dump, and the buffers that were taken out of it.

    Parameters
    ----------
    by_value : bool
        Whether the pickler itself writes out what cannot be imported elsewhere.
    """

    def __init__(self, *, by_value: bool) -> None:
        self.buffers: list[ArrayBuffer] = []
        self.writable: set[int] = set()
        self._by_value = by_value
        self._pending: dict[int, tuple[PickleBuffer, int]] = {}
        self._numpy = sys.modules.get("numpy")
        self._dtypes: dict[Any, Any] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Say how to take ``obj`` apart, or ``NotImplemented`` for the ordinary way (PEP 574)."""
        numpy = self._numpy
        if numpy is not None:
            kind = type(obj)
            if kind is numpy.ndarray or kind is numpy.memmap:
                return self._array(obj)
            if isinstance(obj, numpy.generic):
                return _scalar(obj, numpy)
            if isinstance(obj, numpy.dtype):
                return self._dtype(obj)
        if isinstance(obj, _NAMED) and not self._by_value and not importable_elsewhere(obj):
            raise ByValueNeededError(f"{obj.__module__}.{obj.__qualname__}")
        return NotImplemented

    def take_buffer(self, buffer: PickleBuffer) -> bool:
        """Keep a buffer out of band (False) or leave it in the stream (True)."""
        _, item_size = self._pending.pop(id(buffer), (buffer, 0))
        if item_size:
            self.writable.add(len(self.buffers))
        else:
            with memoryview(buffer) as view:
                if view.nbytes < OUT_OF_BAND_BYTES or not view.contiguous:
                    return True
                item_size = view.itemsize
        self.buffers.append(ArrayBuffer(buffer.raw(), item_size))
        return False

    def _array(self, array: Any) -> Any:
        numpy = self._numpy
        assert numpy is not None
        dtype = array.dtype
        if dtype.hasobject:
            return NotImplemented
        order, flat = laid_out(array, numpy)
        if array.nbytes < OUT_OF_BAND_BYTES:
            buffer: Any = bytearray(flat.tobytes())
        else:
            # Viewed as bytes, because not every dtype (datetime64, for one) can export itself.
            buffer = PickleBuffer(numpy.asarray(flat).view(numpy.uint8))
            self._pending[id(buffer)] = (buffer, int(dtype.itemsize))
        return numpy.ndarray, (array.shape, self._one_of_its_value(dtype), buffer, 0, None, order)

    def _dtype(self, dtype: Any) -> Any:
        numpy = self._numpy
        assert numpy is not None
        if dtype.metadata is not None or dtype.subdtype is not None or (dtype.names and dtype.type is not numpy.void):
            return NotImplemented
        if dtype.kind in _PLAIN_KINDS and numpy.dtype(dtype.str) == dtype:
            return numpy.dtype, (dtype.str,)
        fields = [dtype.fields[name] for name in dtype.names or ()]
        if not fields or any(len(field) > 2 for field in fields):  # titles
            return NotImplemented
        description = {
            "names": list(dtype.names),
            "formats": [self._one_of_its_value(field[0]) for field in fields],
            "offsets": [field[1] for field in fields],
            "itemsize": dtype.itemsize,
        }
        return numpy.dtype, (description, dtype.isalignedstruct)

    def _one_of_its_value(self, dtype: Any) -> Any:
        # Equal dtypes are not always one object, and become others after a load.
        return self._dtypes.setdefault((dtype, beside_layout(dtype)), dtype) if dtype.metadata is None else dtype


def _scalar(scalar: Any, numpy: Any) -> Any:
    exact = (
        numpy.bool_, numpy.int8, numpy.int16, numpy.int32, numpy.int64, numpy.uint8, numpy.uint16, numpy.uint32,
        numpy.uint64, numpy.float16, numpy.float32, numpy.float64, numpy.complex64, numpy.complex128,
    )  # fmt: skip
    kind = type(scalar)
    if kind in exact:
        return kind, (scalar.item(),)
    # numpy takes zeros at the end of a text for what fills it up; only as a text of Python they stay.
    for text, zero in ((numpy.str_, "\0"), (numpy.bytes_, b"\0")):
        if kind is text and scalar[-1:] == zero:
            return kind, (scalar[:],)
    return NotImplemented
