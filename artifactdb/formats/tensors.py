"""Arrays by name as a safetensors file, for what reads those. The library is the extra ``safetensors``."""

from __future__ import annotations

from typing import Any

from artifactdb.content import Content, Segment, StoredContent
from artifactdb.errors import DeserializationError
from artifactdb.formats.dtypes import described, is_sound
from artifactdb.formats.serializer import Dumped

_DTYPES = frozenset({"|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"})


class SafetensorsSerializer:
    """``dict[str, numpy.ndarray]``. The file sorts the names; so the dict comes back equal, in another order."""

    name = "safetensors"
    extension = "safetensors"
    executable = False

    def dump(self, obj: Any) -> Dumped:
        """Give the bytes of the file.

        Raises
        ------
        TypeError
            When it is something else, or would come back different.
        """
        import numpy
        import safetensors.numpy

        if type(obj) is not dict:
            raise TypeError(f"{type(obj).__name__} is no dict of arrays")
        seen: set[int] = set()
        arrays = {}
        for name, array in obj.items():
            if type(name) is not str or name == "__metadata__":
                raise TypeError(f"{name!r} cannot be the name of an array there")
            if type(array) is not numpy.ndarray or id(array) in seen:
                raise TypeError(f"{name} is {type(array).__name__}, or an array that has another name too")
            described(array.dtype, numpy)  # refuses metadata
            if array.dtype.str not in _DTYPES or not is_sound(array, numpy):
                raise TypeError(f"{name} is of {array.dtype}; only little-endian real numbers and bools are kept")
            if array.flags.f_contiguous and not array.flags.c_contiguous:
                raise TypeError(f"{name} is in Fortran order, which would be lost; make it numpy.ascontiguousarray")
            seen.add(id(array))
            # The library writes the memory from the first item on, whatever the strides are.
            arrays[name] = array if array.flags.c_contiguous else numpy.ascontiguousarray(array)
        return Dumped(Content([Segment(safetensors.numpy.save(arrays))]), frozenset({"safetensors", "numpy"}))

    def load(self, content: StoredContent) -> Any:
        """Give the dict of arrays, each writable.

        Raises
        ------
        DeserializationError
        """
        import numpy
        import safetensors.numpy

        try:
            arrays = safetensors.numpy.load(bytes(content.data))
        except KeyError as error:
            raise DeserializationError(f"it holds numbers of the kind {error}, which numpy does not have.") from error
        except (safetensors.SafetensorError, ValueError, TypeError, MemoryError) as error:
            raise DeserializationError(f"the content is no safetensors file: {error}.") from error
        unsound = [name for name, array in arrays.items() if not is_sound(array, numpy)]
        if unsound:
            raise DeserializationError(f"the array {unsound[0][:80]!r} has truth values other than 0 and 1.")
        return {name: array if array.flags.writeable else array.copy() for name, array in arrays.items()}
