"""A tree of JSON and buffers, which anybody may have written, becomes plain values and arrays.

Whatever a writer would not have written is refused, and nothing is made that is larger than what is there.
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from artifactdb.content import Buffer
from artifactdb.formats.container import OUT_OF_BAND_BYTES
from artifactdb.formats.data_text import WHOLE_NUMBERS
from artifactdb.formats.data_writing import KEY_TYPES, MAX_OTHER_KEYS, is_plain_dict
from artifactdb.formats.dtypes import has_gaps, is_sound, laid_out, made_of, shape_of, tidied

_INT = re.compile(r"-?0x[1-9a-f][0-9a-f]*+")
_HEX = re.compile(r"[0-9a-f]*+")


class Reader:
    """Makes the object of one tree; what it is given must come from ``data_text.from_text``, which bounds its depth.

    Parameters
    ----------
    buffers : sequence of bytearray
        Writable; arrays are made on them without a copy.

    Examples
    --------
    >>> Reader([]).read({"folds": {"$tuple": [0, 1]}})
    {'folds': (0, 1)}
    """

    def __init__(self, buffers: Sequence[bytearray]) -> None:
        self._buffers = buffers
        self._taken = 0
        self._other_keys = 0
        self._tags: dict[str, Callable[[Any], Any]] = {
            "$int": self._int, "$float": self._float, "$complex": self._complex, "$bytes": self._bytes,
            "$tuple": self._tuple, "$dict": self._dict, "$array": self._array, "$scalar": self._scalar,
        }  # fmt: skip

    def read(self, tree: Any) -> Any:
        """Give the object.

        Raises
        ------
        ValueError, TypeError
            When no writer made this tree for these buffers.
        """
        value = self._value(tree)
        _require(self._taken == len(self._buffers), "buffers are left over")
        return value

    def _value(self, tree: Any) -> Any:
        kind = type(tree)
        if kind is list:
            return self._items(tree)
        if kind is int:
            _require(tree in WHOLE_NUMBERS, "an integer is too great for a number of JSON")
        if kind is not dict:
            return tree
        if is_plain_dict(tree):
            return {key: self._value(item) for key, item in tree.items()}
        ((tag, payload), *more) = tree.items()
        _require(tag in self._tags and not more, f"an object with the key {tag[:80]!r} means nothing")
        return self._tags[tag](payload)

    def _items(self, tree: list[Any]) -> list[Any]:
        kinds = set(map(type, tree))
        if kinds == {int}:
            _require(min(tree) in WHOLE_NUMBERS and max(tree) in WHOLE_NUMBERS, "an integer is too great for JSON")
            return tree
        return tree if kinds == {float} else [self._value(item) for item in tree]

    def _int(self, text: Any) -> int:
        _require(type(text) is str and _INT.fullmatch(text), "an integer is not written as one")
        value = int(text, 16)
        _require(value not in WHOLE_NUMBERS, "a small integer is a number of JSON")
        return value

    def _float(self, text: Any) -> float:
        (value,) = struct.unpack("<d", _of_hex(text, 8))
        _require(not math.isfinite(value), "a finite number is a number of JSON")
        return float(value)

    def _complex(self, text: Any) -> complex:
        return complex(*struct.unpack("<dd", _of_hex(text, 16)))

    def _bytes(self, payload: Any) -> bytes:
        return bytes(self._data(payload))

    def _tuple(self, items: Any) -> tuple[Any, ...]:
        _require(type(items) is list, "a tuple is a list of its items")
        return tuple(self._items(items))

    def _dict(self, pairs: Any) -> dict[Any, Any]:
        _require(type(pairs) is list, "a dict is a list of pairs")
        made: dict[Any, Any] = {}
        for pair in pairs:
            _require(type(pair) is list and len(pair) == 2, "a dict is a list of pairs")
            key = self._value(pair[0])
            _require(
                type(key) in KEY_TYPES and (type(key) is not int or key in WHOLE_NUMBERS),
                f"a key is no string or small plain value but a {type(key).__name__}",
            )
            self._other_keys += type(key) is not str
            _require(self._other_keys <= MAX_OTHER_KEYS, f"more than {MAX_OTHER_KEYS} keys are no strings")
            _require(key not in made, "a key stands there twice")
            made[key] = self._value(pair[1])
        _require(not is_plain_dict(made), "a dict with strings as keys is an object of JSON")
        return made

    def _array(self, payload: Any) -> Any:
        import numpy

        _require(type(payload) is list and len(payload) == 4, "an array is a dtype, a shape, an order and its items")
        dtype, shape = made_of(payload[0], numpy), shape_of(payload[1])
        order, data = payload[2], self._data(payload[3])
        _require(dtype.subdtype is None, "the items of an array are arrays")
        _require(order in ("C", "F"), "the order of an array is neither C nor F")
        _require(math.prod(shape) * dtype.itemsize == len(data), "the shape of an array does not fit its items")
        array: Any = numpy.ndarray(shape, dtype, _writable(data), 0, None, order)
        _require(order == "C" or not array.flags.c_contiguous, "an array that has no other order is in C order")
        _require_sound(array, numpy)
        return array

    def _scalar(self, payload: Any) -> Any:
        import numpy

        _require(type(payload) is list and len(payload) == 2, "a scalar is a dtype and its bytes")
        description, content = payload
        if description == "U":
            _require(type(content) is str, "a string is no string")
            return numpy.str_(content)
        if description == "S":
            return numpy.bytes_(bytes(self._data(content)))
        dtype, data = made_of(description, numpy), self._data(content)
        _require(dtype.subdtype is None and dtype.kind not in "SU", "a scalar has a dtype that none has")
        _require(dtype.itemsize == len(data), "a scalar has more or fewer bytes than its dtype")
        # Only the numbers within a record may have the other byte order.
        _require(dtype.names or description[0] != ">", "a scalar is not little-endian")
        array: Any = numpy.ndarray((), dtype, _writable(data))
        _require_sound(array, numpy)
        return array[()]

    def _data(self, payload: Any) -> Buffer:
        """Give the bytes that stand there as Base64, or in the buffer whose turn it is."""
        if type(payload) is str:
            data = base64.b64decode(payload, validate=True)
            canonical = len(data) < OUT_OF_BAND_BYTES and base64.b64encode(data).decode() == payload
            _require(canonical, "bytes are not written in their one form")
            return data
        _require(type(payload) is int and payload == self._taken, "a buffer is asked for out of turn")
        _require(payload < len(self._buffers), "a buffer is missing")
        self._taken += 1
        _require(len(self._buffers[payload]) >= OUT_OF_BAND_BYTES, "a buffer is too small to be one")
        return self._buffers[self._taken - 1]


def _require(condition: Any, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _require_sound(array: Any, numpy: Any) -> None:
    _require(is_sound(array, numpy), "an array has truth values other than 0 and 1, or characters that are none")
    if has_gaps(array.dtype):
        items, tidy = (laid_out(of, numpy)[1].view(numpy.uint8) for of in (array, tidied(array, numpy)))
        _require(numpy.array_equal(items, tidy), "an array has something between its fields")


def _of_hex(text: Any, size: int) -> bytes:
    _require(type(text) is str and len(text) == 2 * size and _HEX.fullmatch(text), "bytes are not written as hex")
    return bytes.fromhex(text)


def _writable(data: Buffer) -> bytearray:
    return data if isinstance(data, bytearray) else bytearray(data)
