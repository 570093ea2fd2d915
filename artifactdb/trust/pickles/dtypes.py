"""The dtype that a state describes, made as one makes dtypes.

numpy's own ``__setstate__`` believes what it is told: a dtype that hides an object, or has a field that lies outside of
an item, makes pointers of bytes, and reads what is not its array's; and some states end the process.
"""

from __future__ import annotations

from typing import Any

import numpy

_HAS_OBJECT, _ALIGNED = 1, 0x80  # of the flags


def with_state(dtype: numpy.dtype[Any], state: Any) -> numpy.dtype[Any] | None:
    """Give the dtype that one becomes with a state; the one that is given is left as it is.

    What numpy would not make of the same names, formats and offsets is None; so are titles of fields.

    Examples
    --------
    >>> double = numpy.dtype("f8", False, True)
    >>> with_state(double, (3, ">", None, None, None, -1, -1, 0)), double
    (dtype('>f8'), dtype('float64'))
    >>> hidden = {"a": (numpy.dtype("O"), 0)}
    >>> with_state(numpy.dtype("V8"), (3, "|", None, ("a",), hidden, 8, 1, 0)) is None
    True
    """
    try:
        return _made(dtype, *state)
    except (TypeError, ValueError, KeyError, OverflowError):
        return None


def _made(
    dtype: Any, version: Any, order: Any, subdtype: Any, names: Any, fields: Any, size: Any, alignment: Any, flags: Any,
    more: Any = None,
) -> numpy.dtype[Any]:  # fmt: skip
    made: numpy.dtype[Any]
    unit = None
    if dtype.kind in "mM" and version == 4:
        more, unit = more
    if subdtype is not None:
        item, shape = subdtype
        made = numpy.dtype((_plain(item, numpy.dtype), shape))
    elif names is not None:
        made = _structured(dtype, names, fields, size, bool(flags & _ALIGNED))
    else:
        _plain(fields, type(None))
        made = (numpy.dtype(f"{dtype.kind}8{_unit(*unit)}") if unit else dtype).newbyteorder(order)
    # The size of a number is not said.
    if version not in (3, 4) or size not in (-1, made.itemsize) or bool(flags & _HAS_OBJECT) != made.hasobject:
        raise ValueError("it is another one")
    return numpy.dtype(made, metadata=_plain(more, dict)) if more else made


def _structured(dtype: Any, names: Any, fields: Any, size: Any, aligned: bool) -> Any:
    if dtype.kind != "V" or len(fields) != len(names):
        raise ValueError("fields of something else")
    described = [fields[name] for name in names]
    layout: Any = {
        "names": [_plain(name, str) for name in names],
        "formats": [_plain(format, numpy.dtype) for format, _ in described],
        "offsets": [_plain(offset, int) for _, offset in described],
        "itemsize": _plain(size, int),
    }
    made = numpy.dtype(layout, aligned)
    return numpy.dtype((numpy.record, made)) if dtype.type is numpy.record else made


def _unit(name: bytes, count: int, parts: int, events: int) -> str:
    if (parts, events) != (1, 1):
        raise ValueError("a part of a unit of time")
    return "" if name == b"generic" else f"[{_plain(count, int)}{name.decode('ascii')}]"


def _plain(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError("it is of another kind")
    return value
