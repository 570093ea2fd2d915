"""Arrays between numpy and the catalog: every numeric dtype and shape comes back as it went in."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from artifactdb.database.translate import interprets
from artifactdb.errors import InvalidValueError

_MADE_OF_CONTENT = re.compile(r"array_[0-9a-f]{32}")


class StoredArray(NamedTuple):
    """An array as bytes: little-endian items in C order."""

    array_id: str
    array_type: str
    dtype: str
    shape: str
    data: bytes


def to_stored(value: Any, array_type: str) -> StoredArray:
    """Give the stored form of an array; the same content has the same id everywhere.

    Raises
    ------
    InvalidValueError
        For what is not numeric, or has neither one nor two dimensions.
    """
    try:
        array = value if type(value) is np.ndarray else np.asarray(value)
    except ValueError as error:
        raise InvalidValueError(f"{array_type} is not an array ({error}).") from None
    if array.dtype.kind not in "biufc":  # bool, whole numbers, floats, complex
        raise InvalidValueError(
            f"{array_type} has dtype {array.dtype}; the catalog keeps numbers.",
            hint="Encode labels as integers, or convert with .astype(float).",
        )
    if array.ndim not in (1, 2):
        raise InvalidValueError(f"{array_type} has {array.ndim} dimensions; one or two can be kept.")
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    dtype, shape, said = _described(array.dtype, array.shape)
    data = array.tobytes()
    digest = hashlib.sha256(said + data).hexdigest()
    return StoredArray(f"array_{digest[:32]}", array_type, dtype, shape, data)


def to_stored_many(values: Sequence[Any], array_type: str) -> list[StoredArray | None]:
    """Give the stored forms of many arrays, None for None; what comes again is hashed once."""
    if not values or set(map(type, values)) != {np.ndarray}:
        return [None if value is None else to_stored(value, array_type) for value in values]
    # The usual case, arrays of one kind, takes a third of the time when it is seen at once.
    known: dict[int, StoredArray] = {}
    described: dict[tuple[Any, Any], tuple[str, str, bytes]] = {}
    made: list[StoredArray | None] = []
    sha256, of_kind = hashlib.sha256, described.get
    for value in values:
        stored = known.get(id(value))  # alive as long as ``values`` is
        if stored is None:
            kind = of_kind((value.dtype, value.shape))
            if kind is None:
                first = to_stored(value, array_type)
                known[id(value)] = first
                made.append(first)
                if value.dtype.byteorder != ">":
                    described[value.dtype, value.shape] = _described(value.dtype, value.shape)
                continue
            dtype, shape, said = kind
            data = value.tobytes()
            digest = sha256(said + data).hexdigest()
            stored = known[id(value)] = StoredArray("array_" + digest[:32], array_type, dtype, shape, data)
        made.append(stored)
    return made


def wrong_ids(batch: pa.RecordBatch) -> list[str]:
    """Give the ids of a data file's rows that are made of content, and of other content than they bear."""
    numbers = batch.column("array_data")
    values = numbers.values.to_numpy(zero_copy_only=False)
    ends = numbers.offsets.to_numpy()
    named = (batch.column(name).to_pylist() for name in ("array_id", "array_dtype", "array_shape", "array_bytes"))
    wrong = []
    for position, (array_id, dtype, shape, data) in enumerate(zip(*named, strict=True)):
        if dtype is None or shape is None or not _MADE_OF_CONTENT.fullmatch(array_id):
            continue
        if data is None:
            data = values[ends[position] : ends[position + 1]].astype(np.dtype(dtype)).tobytes()
        if array_id != f"array_{hashlib.sha256((dtype + shape).encode() + data).hexdigest()[:32]}":
            wrong.append(array_id)
    return wrong


def is_what_its_id_says(array_id: str, dtype: str, shape: str, data: bytes) -> bool:
    """Tell whether a stored array has the content that its id is made of; ids that came with it say nothing."""
    digest = hashlib.sha256((dtype + shape).encode() + data).hexdigest()
    return not _MADE_OF_CONTENT.fullmatch(array_id) or array_id == f"array_{digest[:32]}"


@lru_cache(1024)
def _described(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[str, str, bytes]:
    """Give dtype and shape as texts, and what of them is hashed."""
    texts = dtype.str, json.dumps(shape)
    return *texts, "".join(texts).encode()


@lru_cache(1024)
def samples(shape: str) -> int:
    """Give the number of samples: the first of a shape."""
    return int(json.loads(shape)[0])


@interprets
def from_stored(dtype: str, shape: str, data: bytes) -> np.ndarray[Any, Any]:
    """Give the array, which is the caller's to change."""
    return np.frombuffer(data, np.dtype(dtype)).reshape(json.loads(shape)).copy()


@interprets
def from_parquet(dtype: str | None, shape: str | None, numbers: Any, data: bytes | None) -> np.ndarray[Any, Any]:
    """Give the array of one row of the data file; files of nirs4all name no dtype, which is then float64."""
    if data is not None and dtype is not None:
        return from_stored(dtype, shape or "[-1]", data)
    array = np.array(numbers, dtype=np.float64)
    if dtype is not None:
        array = array.astype(np.dtype(dtype))
    return array.reshape(json.loads(shape)) if shape else array


def stored_again(
    array_id: str, array_type: str, dtype: str | None, shape: str | None, numbers: Any, data: bytes | None
) -> StoredArray:
    """Give the stored form of an array that came out of a data file."""
    array = from_parquet(dtype, shape, numbers, data)
    return StoredArray(array_id, array_type, array.dtype.str, json.dumps(array.shape), array.tobytes())
