"""Plain values and arrays become a tree of JSON and buffers; what would come back different is refused.

Exact types only: a subclass, such as ``numpy.float64`` of ``float``, is another type. ``docs/format.md`` has the tags.
"""

from __future__ import annotations

import base64
import math
import struct
import sys
from collections.abc import Sequence
from types import NoneType
from typing import Any

from artifactdb.content import Buffer
from artifactdb.formats.container import OUT_OF_BAND_BYTES, ArrayBuffer
from artifactdb.formats.data_text import MAX_DEPTH, MAX_TEXT_BYTES, WHOLE_NUMBERS
from artifactdb.formats.dtypes import described, has_gaps, is_sound, laid_out, tidied

PLAIN_TYPES = frozenset({NoneType, bool, int, float, complex, str, bytes, list, tuple, dict})
KEY_TYPES = frozenset({NoneType, bool, int, float, str, bytes})
MAX_OTHER_KEYS = 32_768
"""Keys that are no strings, in one object: unlike those of strings, anybody can choose their hashes to collide."""

_TUPLE_CHARACTERS = len('{"$tuple":}')


class Writer:
    """Makes the tree of one object.

    Attributes
    ----------
    buffers : list of ArrayBuffer
        What the tree refers to, in order.
    has_arrays : bool
        Whether numpy is needed to read it.

    Examples
    --------
    >>> Writer().tree({"folds": (0, 1), "gap": float("inf")})
    {'folds': {'$tuple': [0, 1]}, 'gap': {'$float': '000000000000f07f'}}
    """

    def __init__(self) -> None:
        self.buffers: list[ArrayBuffer] = []
        self.has_arrays = False
        self._numpy = sys.modules.get("numpy")
        self._seen: set[int] = set()
        self._tuples: dict[int, tuple[Any, int]] = {}
        self._characters = 0
        self._other_keys = 0

    def tree(self, value: Any, depth: int = 0) -> Any:
        """Give the tree of a value that has ``depth`` brackets around it.

        Raises
        ------
        TypeError
            When it holds what cannot be kept without loss.
        """
        kind = type(value)
        if kind is str:
            self._grow(len(value) + 2)
            return value
        if kind is float:
            self._grow(3)
            return value if math.isfinite(value) else {"$float": struct.pack("<d", value).hex()}
        if kind is int:
            return self._int(value)
        if value is None or kind is bool:
            self._grow(4)
            return value
        if kind is list:
            self._once(value)
            return self._items(value, depth + 1)
        if kind is dict:
            self._once(value)
            return self._dict(value, depth + 1)
        if kind is tuple:
            return self._tuple(value, depth + 2)
        if kind is bytes:
            return {"$bytes": self._bytes(value)}
        if kind is complex:
            self._grow(46)
            return {"$complex": struct.pack("<dd", value.real, value.imag).hex()}
        if self._numpy is not None and kind is self._numpy.ndarray:
            return {"$array": self._array(value)}
        if self._numpy is not None and isinstance(value, self._numpy.generic):
            return {"$scalar": self._scalar(value)}
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} is no plain value")

    def _grow(self, characters: int) -> None:
        # Never more than there will be: an object that would be too long is given up before its text is made.
        self._characters += characters
        if self._characters > MAX_TEXT_BYTES:
            raise TypeError(f"its JSON would have more than {MAX_TEXT_BYTES} bytes")

    def _once(self, value: Any) -> None:
        """See that what can be changed, or is large, stands in one place: two would be two objects after a load."""
        if id(value) in self._seen:
            raise TypeError(f"the same {type(value).__qualname__} stands there twice, or within itself")
        self._seen.add(id(value))

    def _int(self, value: int) -> Any:
        if value in WHOLE_NUMBERS:
            self._grow(1)
            return value
        self._grow(value.bit_length() // 4)
        return {"$int": hex(value)}

    def _items(self, items: Sequence[Any], depth: int) -> list[Any]:
        _require_depth(depth)
        self._grow(1)
        kinds = set(map(type, items))
        # Long lists of numbers need no look at each.
        if kinds == {float} and all(map(math.isfinite, items)):
            self._grow(4 * len(items))
            return list(items)
        if kinds == {int} and min(items) in WHOLE_NUMBERS and max(items) in WHOLE_NUMBERS:
            self._grow(2 * len(items))
            return list(items)
        return [self.tree(item, depth) for item in items]

    def _tuple(self, value: tuple[Any, ...], depth: int) -> Any:
        # One that stands in many places is written in each, and taken apart once: there may be 2 ** depth of them.
        if id(value) not in self._tuples:
            before = self._characters, len(self._seen)
            made = {"$tuple": self._items(value, depth)}
            self._grow(_TUPLE_CHARACTERS)
            if len(self._seen) == before[1]:
                self._tuples[id(value)] = made, self._characters - before[0]
            return made
        made, characters = self._tuples[id(value)]
        self._grow(characters)
        return made

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        _require_depth(depth)
        if is_plain_dict(value):
            self._grow(1 + sum(map(len, value)) + 4 * len(value))
            return {key: self.tree(item, depth) for key, item in value.items()}
        for key in value:
            if type(key) not in KEY_TYPES or (type(key) is int and key not in WHOLE_NUMBERS):
                raise TypeError(f"a key of type {type(key).__qualname__} is no string or small plain value")
            self._other_keys += type(key) is not str
        if self._other_keys > MAX_OTHER_KEYS:
            raise TypeError(f"more than {MAX_OTHER_KEYS} keys are no strings")
        self._grow(4 * len(value))
        return {"$dict": [[self.tree(key, depth + 2), self.tree(item, depth + 2)] for key, item in value.items()]}

    def _array(self, array: Any) -> list[Any]:
        self.has_arrays = True
        self._once(array)
        dtype = described(array.dtype, self._numpy)
        if not is_sound(array, self._numpy):
            raise TypeError("an array has truth values other than 0 and 1, or characters that are none")
        assert self._numpy is not None
        order, items = laid_out(tidied(array, self._numpy) if has_gaps(array.dtype) else array, self._numpy)
        if array.nbytes < OUT_OF_BAND_BYTES:
            data = self._data(items.view(self._numpy.uint8).tobytes(), array.itemsize)
        else:
            # Viewed as bytes, because not every dtype (datetime64, for one) can export itself.
            data = self._data(memoryview(items.view(self._numpy.uint8)), array.itemsize)
        return [dtype, [int(length) for length in array.shape], order, data]

    def _scalar(self, value: Any) -> list[Any]:
        numpy, kind = self._numpy, type(value)
        assert numpy is not None
        self.has_arrays = True
        if kind is numpy.str_:  # without a size: an item of an array loses zeros at its end
            self._grow(len(value))
            return ["U", str.__str__(value)]  # numpy's own drops them
        if kind is numpy.bytes_:
            return ["S", self._bytes(value)]
        dtype = described(value.dtype, numpy)
        if value.dtype.subdtype is not None or numpy.dtype(value.dtype.str).type is not kind:
            raise TypeError(f"{kind.__module__}.{kind.__qualname__} is no plain value")
        if kind is numpy.void:
            self._once(value)
        array = tidied(numpy.asarray(value), numpy)
        if not is_sound(array, numpy):
            raise TypeError("a record has truth values other than 0 and 1, or characters that are none")
        return [dtype, self._data(array.reshape(1).view(numpy.uint8).tobytes(), array.itemsize)]

    def _bytes(self, value: bytes) -> str | int:
        if len(value) >= OUT_OF_BAND_BYTES:
            self._once(value)  # a pickle holds them once, and buffers would be as many as places
        return self._data(bytes(value), 1)

    def _data(self, data: Buffer, item_size: int) -> str | int:
        """Give bytes as Base64, or where they stand among the buffers."""
        if len(data) < OUT_OF_BAND_BYTES:
            text = base64.b64encode(data).decode()
            self._grow(len(text))
            return text
        self.buffers.append(ArrayBuffer(data, item_size))
        return len(self.buffers) - 1


def _require_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TypeError(f"its JSON would be more than {MAX_DEPTH} brackets deep")


def is_plain_dict(value: dict[Any, Any]) -> bool:
    """Tell whether a dict can stand as a JSON object: strings as keys, none of which could be a tag.

    Examples
    --------
    >>> is_plain_dict({"a": 1}), is_plain_dict({"$a": 1}), is_plain_dict({0: 1})
    (True, False, False)
    """
    return all(type(key) is str and not key.startswith("$") for key in value)
