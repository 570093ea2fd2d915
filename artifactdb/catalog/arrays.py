"""Arrays between numpy and the catalog: every numeric dtype and shape comes back as it went in."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from artifactdb.errors import InvalidValueError


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


@lru_cache(1024)
def _described(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[str, str, bytes]:
    """Give dtype and shape as texts, and what of them is hashed."""
    texts = dtype.str, json.dumps(shape)
    return *texts, "".join(texts).encode()


@lru_cache(1024)
def samples(shape: str) -> int:
    """Give the number of samples: the first of a shape."""
    return int(json.loads(shape)[0])


def from_stored(dtype: str, shape: str, data: bytes) -> np.ndarray[Any, Any]:
    """Give the array, which is the caller's to change."""
    return np.frombuffer(data, np.dtype(dtype)).reshape(json.loads(shape)).copy()


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
