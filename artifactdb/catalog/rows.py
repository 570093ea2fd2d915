"""One prediction as the user gives it becomes one row: checked, complete, with an id that is always the same."""

from __future__ import annotations

import hashlib
import json
import math
import numbers
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np

from artifactdb.catalog.arrays import StoredArray, samples, to_stored
from artifactdb.catalog.columns import (
    ARRAYS,
    COLUMNS,
    FLOAT_COLUMNS,
    IDENTITY,
    INTEGER_COLUMNS,
    JSON_COLUMNS,
    REQUIRED,
    VALUES,
    require_columns,
)
from artifactdb.errors import InvalidValueError

Row = tuple[Any, ...]

NAN = "nan"
"""What stands for not-a-number in SQLite, which keeps NaN as NULL."""

_BLANK: dict[str, Any] = dict.fromkeys(COLUMNS) | {
    **dict.fromkeys(JSON_COLUMNS, "{}"), "step_idx": 0, "op_counter": 0, "n_features": 0,
}  # fmt: skip
_PER_SAMPLE = ("y_true", "y_proba", "sample_indices")
_in_order = itemgetter(*COLUMNS)
_identity = itemgetter(*IDENTITY)


def to_row(prediction: Mapping[str, Any]) -> tuple[Row, list[StoredArray]]:
    """Give the values in the order of ``COLUMNS``, and the arrays they name.

    Raises
    ------
    InvalidValueError
        For an unknown or missing column, a value of the wrong kind, or arrays of different lengths.
    """
    values = dict(_BLANK)
    arrays: dict[str, StoredArray] = {}
    for name, value in prediction.items():
        if value is None:
            continue
        check = _CHECKS.get(name)
        if check is not None:
            values[name] = value if check is _text and type(value) is str else check(name, value)
        elif name in ARRAYS:
            arrays[name] = stored = to_stored(value, ARRAYS[name])
            values[f"{name}_id"] = stored.array_id
        else:
            require_columns([name], (*VALUES, *ARRAYS))
    for column in REQUIRED:
        if not values[column]:
            raise InvalidValueError(f"a prediction needs {column}.", hint=f"Needed are {', '.join(REQUIRED)}.")
    _require_equal_lengths(arrays)
    if values["n_samples"] is None:
        values["n_samples"] = samples(arrays["y_pred"].shape) if "y_pred" in arrays else 0
    if not values["id"]:
        values["id"] = make_id(values)
    return _in_order(values), list(arrays.values())


def make_id(values: Mapping[str, Any]) -> str:
    """Give the id of a row: 16 hex digits of SHA-256 over what identifies it."""
    return hashlib.sha256(_encode_identity(_identity(values)).encode()).hexdigest()[:16]


def _text(column: str, value: Any) -> str:
    if column == "fold_id" and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str):
        raise InvalidValueError(f"{column} is text, not {value!r}.")
    return str(value)


def _number(column: str, value: Any) -> float | str:
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        raise InvalidValueError(f"{column} is a number, not {value!r}.")
    number = float(value)
    return NAN if math.isnan(number) else number


def _integer(column: str, value: Any) -> int:
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, numbers.Integral)):
        raise InvalidValueError(f"{column} is a whole number, not {value!r}.")
    whole = int(value)
    if not -(2**63) <= whole < 2**63:
        raise InvalidValueError(f"{column} does not fit 64 bits: {whole}.")
    return whole


def _json(column: str, value: Any) -> str:
    if not value or value == "{}":
        return "{}"
    try:
        return _encode(json.loads(value) if isinstance(value, str) else value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"{column} cannot be written as JSON ({error}).") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON value")


_encode_identity = json.JSONEncoder().encode
_encode = json.JSONEncoder(sort_keys=True, default=_plain, ensure_ascii=False).encode


def _check_of(column: str) -> Callable[[str, Any], Any]:
    if column in JSON_COLUMNS:
        return _json
    if column in FLOAT_COLUMNS:
        return _number
    return _integer if column in INTEGER_COLUMNS else _text


_CHECKS = {column: _check_of(column) for column in VALUES}


def _require_equal_lengths(arrays: Mapping[str, StoredArray]) -> None:
    if "y_pred" not in arrays:
        return
    expected = samples(arrays["y_pred"].shape)
    for name in _PER_SAMPLE:
        length = samples(arrays[name].shape) if name in arrays else expected
        if length not in (expected, 0):  # nirs4all keeps an empty array for what is missing
            raise InvalidValueError(f"{name} has {length} samples and y_pred has {expected}.")
