"""Predictions as the user gives them become columns: checked, complete, each row with an id that is always the same."""

from __future__ import annotations

import hashlib
import json
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, repeat
from types import NoneType
from typing import Any

import numpy as np

from artifactdb.catalog.arrays import StoredArray, from_stored, samples, to_stored_many
from artifactdb.catalog.columns import (
    ARRAYS,
    COLUMNS,
    FLOAT_COLUMNS,
    IDENTITY,
    INTEGER_COLUMNS,
    JSON_COLUMNS,
    PARTITIONS,
    REQUIRED,
    VALUES,
    require_columns,
)
from artifactdb.errors import InvalidValueError

Row = tuple[Any, ...]
Columns = list[list[Any]]
_Values = list[Any]

NAN = "nan"
"""What stands for not-a-number in SQLite, which keeps NaN as NULL."""

_DEFAULTS: dict[str, Any] = {**dict.fromkeys(JSON_COLUMNS, "{}"), "step_idx": 0, "op_counter": 0, "n_features": 0}
_PER_SAMPLE = ("y_true", "y_proba", "sample_indices")


def to_columns(predictions: Iterable[Mapping[str, Any]]) -> tuple[Columns, list[StoredArray]]:
    """Give the values of predictions, one list for each of ``COLUMNS``, and the arrays that they name.

    Handling them column by column is several times faster than one by one.

    Raises
    ------
    InvalidValueError
        For an unknown or missing column, a value of the wrong kind, or arrays of different lengths.
    """
    columns: Columns = [[] for _ in COLUMNS]
    arrays: list[StoredArray] = []
    for names, alike in groupby(predictions, key=tuple):
        own_columns, own_arrays = _columns_alike(names, list(alike))
        for values, own in zip(columns, own_columns, strict=True):
            values += own
        arrays += own_arrays
    return columns, arrays


def _columns_alike(
    names: tuple[str, ...], predictions: Sequence[Mapping[str, Any]]
) -> tuple[Columns, list[StoredArray]]:
    require_columns(names, (*VALUES, *ARRAYS))
    columns: dict[str, list[Any]] = {
        name: _CHECKS[name](name, [prediction[name] for prediction in predictions]) for name in names if name in _CHECKS
    }
    for column in REQUIRED:
        if not all(columns.get(column, [None])):
            raise InvalidValueError(f"a prediction needs {column}.", hint=f"Needed are {', '.join(REQUIRED)}.")
    stored = {
        name: to_stored_many([prediction[name] for prediction in predictions], role)
        for name, role in ARRAYS.items() if name in names
    }  # fmt: skip
    _require_equal_lengths(stored)
    _require_indices(stored.get("sample_indices", ()))
    count = len(predictions)
    for name in ARRAYS:
        columns[f"{name}_id"] = [array and array.array_id for array in stored.get(name, repeat(None, count))]
    predicted = stored.get("y_pred", [None] * count)
    columns["n_samples"] = [
        given if given is not None else samples(array.shape) if array is not None else 0
        for given, array in zip(columns.get("n_samples", repeat(None, count)), predicted, strict=True)
    ]
    for column, default in _DEFAULTS.items():
        columns[column] = [default if value is None else value for value in columns.get(column, repeat(None, count))]
    for column in COLUMNS:
        columns.setdefault(column, [None] * count)
    _require_partitions(columns["partition"])
    made = _made_ids([columns[column] for column in IDENTITY])
    columns["id"] = [given or own for given, own in zip(columns["id"], made, strict=True)]
    arrays = [array for several in stored.values() for array in several if array is not None]
    return [columns[column] for column in COLUMNS], arrays


def _require_partitions(values: Iterable[str]) -> None:
    unknown = sorted(set(values).difference(PARTITIONS))
    if unknown:
        raise InvalidValueError(f"partition is one of {', '.join(PARTITIONS)}, not {unknown[0]!r}.")


def _made_ids(identities: Sequence[_Values]) -> Iterator[str]:
    """Give the ids of rows: 16 hex digits of SHA-256 over the JSON list of what identifies a row, ``IDENTITY``.

    The same values come again and again, and are encoded once.
    """
    encoded = _Encoded()
    for texts in zip(*(map(encoded.__getitem__, values) for values in identities), strict=True):
        yield hashlib.sha256(f"[{', '.join(texts)}]".encode()).hexdigest()[:16]


class _Encoded(dict[Any, str]):
    def __missing__(self, value: Any) -> str:
        text = self[value] = _encode_identity(value)
        return text


def _texts(column: str, values: _Values) -> _Values:
    if not set(map(type, values)) <= {str, NoneType}:
        values = [_text(column, value) for value in values]
    try:
        "".join(filter(None, values)).encode()
    except UnicodeEncodeError as error:
        raise InvalidValueError(f"{column} is no text that UTF-8 can hold ({error}).") from None
    return values


def _text(column: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if column == "fold_id" and (type(value) is int or isinstance(value, np.integer)):
        return str(value)
    raise InvalidValueError(f"{column} is text, not {value!r}.")


def _numbers(column: str, values: _Values) -> _Values:
    if not set(map(type, values)) <= {float, NoneType}:
        values = [_number(column, value) for value in values]
    return [value if value == value else NAN for value in values]  # only NaN differs from itself


def _number(column: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidValueError(f"{column} is a number, not {value!r}.")
    try:
        return float(value)
    except OverflowError:
        raise InvalidValueError(f"{column} is a number of no more than 1.8e308.") from None


def _integers(column: str, values: _Values) -> _Values:
    # The usual case, seen at once.
    if set(map(type, values)) == {int} and min(values) > -(2**31) and max(values) < 2**31:
        return values
    return [_integer(column, value) for value in values]


def _integer(column: str, value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, numbers.Integral)):
        raise InvalidValueError(f"{column} is a whole number, not {value!r}.")
    whole = int(value)
    if not -(2**63) <= whole < 2**63:
        raise InvalidValueError(f"{column} does not fit 64 bits: {whole}.")
    return whole


def _jsons(column: str, values: _Values) -> _Values:
    return ["{}" if value is None else _json(column, value) for value in values]


def _json(column: str, value: Any) -> str:
    if value is None or (isinstance(value, dict | str) and (not value or value == "{}")):
        return "{}"
    try:
        text = _encode(json.loads(value) if isinstance(value, str) else value)
        if not text.isascii():
            text.encode()
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"{column} cannot be written as JSON ({error}).") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def _encoder(encode: json.JSONEncoder) -> Callable[[Any], str]:
    """Give ``encode``, made once: the standard library makes its own anew for each value, which costs as much again."""
    texts = json.encoder.encode_basestring_ascii if encode.ensure_ascii else json.encoder.encode_basestring
    try:
        make = json.encoder.c_make_encoder  # type: ignore[attr-defined]
        made = make(None, encode.default, texts, None, ": ", ", ", encode.sort_keys, False, True)
    except (AttributeError, TypeError):  # another Python has it otherwise, or not at all
        return encode.encode
    return lambda value: "".join(made(value, 0))


_encode_identity = _encoder(json.JSONEncoder())
_encode = _encoder(json.JSONEncoder(sort_keys=True, default=_plain, ensure_ascii=False))


def _check_of(column: str) -> Callable[[str, _Values], _Values]:
    if column in JSON_COLUMNS:
        return _jsons
    if column in FLOAT_COLUMNS:
        return _numbers
    return _integers if column in INTEGER_COLUMNS else _texts


_CHECKS = {column: _check_of(column) for column in VALUES}


def _require_equal_lengths(stored: Mapping[str, list[StoredArray | None]]) -> None:
    for name in _PER_SAMPLE:
        for array, predicted in zip(stored.get(name, ()), stored.get("y_pred", ()), strict=False):
            if array is None or predicted is None or array.shape == predicted.shape:
                continue
            length, expected = samples(array.shape), samples(predicted.shape)
            if length != expected and length and expected:  # nirs4all keeps an empty array for what is missing
                raise InvalidValueError(f"{name} has {length} samples and y_pred has {expected}.")


def _require_indices(stored: Iterable[StoredArray | None]) -> None:
    """See that each sample has one whole number."""
    for array in stored:
        if array is None:
            continue
        if array.dtype[1] in "iu" and "," not in array.shape:  # the usual case
            continue
        values = from_stored(array.dtype, array.shape, array.data)
        is_whole = array.dtype[1] in "iuf" and bool(np.all(np.isfinite(values) & (values == np.floor(values))))
        if values.size != samples(array.shape) or not is_whole:
            raise InvalidValueError(
                f"sample_indices are whole numbers, one for each sample, not {array.dtype} of shape {array.shape}."
            )
