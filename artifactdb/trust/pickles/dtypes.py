"""The dtype that a state describes: one that numpy makes itself, or none.

numpy's own ``__setstate__`` believes what it is told. A dtype that hides an object, or has a field that lies outside of
an item, makes pointers of bytes, and reads what is not its array's.
"""

from __future__ import annotations

from typing import Any

import numpy


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
    told: Any = dtype.newbyteorder("|")  # a copy, which numpy.dtype(dtype, copy=True) need not be
    try:
        told.__setstate__(state)
        made = _made(told)
        same = all(getattr(made, fact) == getattr(told, fact) for fact in _FACTS) and made == told
    except Exception:  # numpy raises whatever it stumbles over, errors of the interpreter included
        return None
    # Never what was told: it holds the dict of the stream, which may go on to change that.
    return made if same else None


_FACTS = ("kind", "type", "itemsize", "hasobject", "names", "shape", "metadata")


def _made(told: Any) -> Any:
    made: Any
    if told.subdtype is not None:
        made = numpy.dtype(told.subdtype)
    elif told.names is None and told.fields is None:
        made = numpy.dtype(told.str)
    else:
        fields = [told.fields[name] for name in told.names]
        if len(told.fields) != len(fields) or not all(map(_is_field, fields)):
            raise ValueError("fields of another kind")
        formats, offsets = zip(*fields, strict=True) if fields else ((), ())
        layout: Any = {"names": list(told.names), "formats": formats, "offsets": offsets, "itemsize": told.itemsize}
        made = numpy.dtype(layout, told.isalignedstruct)
        made = numpy.dtype((numpy.record, made)) if told.type is numpy.record else made
    return numpy.dtype(made, metadata=dict(told.metadata)) if told.metadata else made


def _is_field(field: Any) -> bool:
    return type(field) is tuple and len(field) == 2 and isinstance(field[0], numpy.dtype) and type(field[1]) is int
