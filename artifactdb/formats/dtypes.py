"""numpy's dtypes as plain JSON, and arrays as their items: what of them can be kept without a pickle.

Only dtypes whose items are the same on every machine: no objects, and no long doubles.
"""

from __future__ import annotations

import re
from math import prod
from typing import Any

MAX_ITEM_BYTES = 2**31 - 1
_SIMPLE = re.compile(
    r"\|[biu]1|[<>](?:[iu][248]|f[248]|c8|c16)|\|[SV][1-9][0-9]{0,9}|[<>]U[1-9][0-9]{0,8}"
    r"|[<>][mM]8(?:\[(?:[1-9][0-9]{0,9})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)
_LAST_CODE_POINT = 0x10FFFF


def described(dtype: Any, numpy: Any) -> Any:
    """Give the JSON of a dtype; ``docs/format.md`` defines it.

    Raises
    ------
    TypeError
        When a dtype made of it would be another one.

    Examples
    --------
    >>> import numpy
    >>> described(numpy.dtype(">f8"), numpy)
    '>f8'
    >>> described(numpy.dtype([("a", "i4"), ("b", "u1", (2,))]), numpy)
    {'fields': [['a', '<i4', 0], ['b', {'item': '|u1', 'shape': [2]}, 4]], 'size': 6, 'aligned': False}
    """
    description = _described(dtype)
    try:
        made = made_of(description, numpy)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the dtype {dtype} cannot be kept as data ({error})") from None
    if made != dtype or not _of_same_classes(made, dtype):
        raise TypeError(f"the dtype {dtype!r} is more than the layout of its items")
    return description


def made_of(description: Any, numpy: Any) -> Any:
    """Give the dtype of a description that anybody may have written.

    Raises
    ------
    ValueError, TypeError
        When it is none that ``described`` gives.

    Examples
    --------
    >>> import numpy
    >>> made_of("<M8[ms]", numpy)
    dtype('<M8[ms]')
    """
    if type(description) is str and _SIMPLE.fullmatch(description):
        dtype = numpy.dtype(description)
        if dtype.str != description or not 0 < dtype.itemsize <= MAX_ITEM_BYTES:
            raise ValueError(f"{description} is no dtype as it is written")
        return dtype
    if type(description) is dict and list(description) == ["item", "shape"]:
        shape = shape_of(description["shape"])
        item = made_of(description["item"], numpy)
        if not 0 < prod(shape) * item.itemsize <= MAX_ITEM_BYTES:
            raise ValueError("an array within an item has no items, or too many")
        dtype = numpy.dtype((item, shape))
        if dtype.subdtype is None or dtype.subdtype[1] != shape:
            raise ValueError("an array within an item has no dimension")
        return dtype
    if type(description) is dict and list(description) == ["fields", "size", "aligned"]:
        return _structured(description["fields"], description["size"], description["aligned"], numpy)
    raise ValueError(f"{str(description)[:80]!r} is no dtype")


def shape_of(shape: Any) -> tuple[int, ...]:
    """Give the shape of a JSON list that anybody may have written; raises ValueError for what is none.

    Examples
    --------
    >>> shape_of([2, 3])
    (2, 3)
    """
    if type(shape) is not list or len(shape) > 64 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("a shape is a list of lengths")
    return tuple(shape)


def laid_out(array: Any, numpy: Any) -> tuple[str, Any]:
    """Give the order of an array ("C" or "F") and its items in that order, one-dimensional, copied only if need be.

    Examples
    --------
    >>> import numpy
    >>> laid_out(numpy.asfortranarray([[1, 2], [3, 4]]), numpy)
    ('F', array([1, 3, 2, 4]))
    """
    if array.flags.c_contiguous:
        return "C", array.reshape(-1)
    if array.flags.f_contiguous:
        return "F", array.T.reshape(-1)
    array = tidied(array, numpy) if has_gaps(array.dtype) else numpy.ascontiguousarray(array)
    return "C", array.reshape(-1)


def has_gaps(dtype: Any) -> bool:
    """Tell whether an item has bytes that belong to no field.

    Examples
    --------
    >>> import numpy
    >>> has_gaps(numpy.dtype([("a", "u1"), ("b", "f8")], align=True))
    True
    """
    if dtype.subdtype is not None:
        return has_gaps(dtype.subdtype[0])
    if dtype.names is None:
        return False
    fields = [dtype[name] for name in dtype.names]
    return sum(field.itemsize for field in fields) != dtype.itemsize or any(map(has_gaps, fields))


def beside_layout(dtype: Any) -> Any:
    """Give what equal dtypes differ in: to numpy a record is equal to a void, and alignment and metadata do not count.

    Examples
    --------
    >>> import numpy
    >>> plain = numpy.dtype([("a", "u1"), ("b", "u1")])
    >>> plain == (record := numpy.dtype((numpy.record, plain))), beside_layout(plain) == beside_layout(record)
    (True, False)
    """
    if dtype.metadata is not None:
        return id(dtype)  # its values may be anything
    if dtype.subdtype is not None:
        return beside_layout(dtype.subdtype[0])
    if dtype.names is None:
        return None
    return dtype.type, dtype.isalignedstruct, *(beside_layout(dtype[name]) for name in dtype.names)


def tidied(array: Any, numpy: Any) -> Any:
    """Give a copy with zeros between the fields: numpy leaves there whatever the memory held before.

    Examples
    --------
    >>> import numpy
    >>> array = numpy.frombuffer(bytes(range(16)), numpy.dtype([("a", "u1"), ("b", "u2")], align=True))
    >>> tidied(array, numpy).tobytes()[:8].hex()
    '0000020304000607'
    """
    copy = numpy.zeros(array.shape, array.dtype, _order(array))
    copy[...] = array
    return copy


def _order(array: Any) -> str:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def is_sound(array: Any, numpy: Any) -> bool:
    """Tell whether truth values are 0 or 1 and characters are such; numpy does not ask, and relies on it.

    Examples
    --------
    >>> import numpy
    >>> is_sound(numpy.array([2], "u1").view("?"), numpy)
    False
    """
    dtype = array.dtype
    if dtype.names:
        return all(is_sound(array[name], numpy) for name in dtype.names)
    if array.size == 0 or dtype.kind not in "bU":
        return True
    if dtype.kind == "b":
        return bool(array.view(numpy.uint8).max() <= 1)
    characters = numpy.dtype((f"{dtype.str[0]}u4", (dtype.itemsize // 4,)))
    return bool(array.view(characters).max() <= _LAST_CODE_POINT)


def _described(dtype: Any) -> Any:
    if dtype.metadata is not None:
        raise TypeError(f"the dtype {dtype} carries metadata")
    if dtype.subdtype is not None:
        item, shape = dtype.subdtype
        return {"item": _described(item), "shape": list(shape)}
    if dtype.names is None:
        return dtype.str
    fields = []
    for name in dtype.names:
        inner, offset, *title = dtype.fields[name]
        if title:
            raise TypeError(f"the field {name!r} has a title")
        fields.append([name, _described(inner), offset])
    return {"fields": fields, "size": dtype.itemsize, "aligned": dtype.isalignedstruct}


def _of_same_classes(made: Any, dtype: Any) -> bool:
    """Tell whether equal dtypes give items of the same classes; to numpy a record is equal to a void."""
    if dtype.subdtype is not None:
        return _of_same_classes(made.subdtype[0], dtype.subdtype[0])
    if dtype.names and not all(_of_same_classes(made[name], dtype[name]) for name in dtype.names):
        return False
    # int64 and long long are one dtype wherever it is asked for by its name.
    return dtype.kind in "iu" or made.type is dtype.type


def _structured(fields: Any, size: Any, aligned: Any, numpy: Any) -> Any:
    if type(fields) is not list or type(size) is not int or not 0 < size <= MAX_ITEM_BYTES or type(aligned) is not bool:
        raise ValueError("a structured dtype has fields, a size, and whether it is aligned")
    names, formats, places = [], [], []
    for field in fields:
        if type(field) is not list or len(field) != 3 or type(field[0]) is not str or type(field[2]) is not int:
            raise ValueError("a field is a name, a dtype and an offset")
        names.append(field[0])
        formats.append(made_of(field[1], numpy))
        places.append((field[2], field[2] + formats[-1].itemsize))
    # Fields that lie over each other would let a few bytes cost any amount of time.
    ends = [0, *(end for _, end in sorted(places))]
    if not names or any(start < end for (start, _), end in zip(sorted(places), ends, strict=False)) or ends[-1] > size:
        raise ValueError("the fields of a structured dtype do not lie one after the other within it")
    offsets = [start for start, _ in places]
    dtype = numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size}, align=aligned)
    same = [dtype.fields[name][1] for name in dtype.names] == offsets and list(dtype.names) == names
    if not same or dtype.itemsize != size or dtype.isalignedstruct is not aligned:
        raise ValueError("a structured dtype comes out as another one")
    return dtype
