"""Parameters of fitted objects as plain JSON that people can read and SQL can ask for.

scikit-learn's parameters hold numpy scalars, arrays, enums, functions and whole estimators.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

from artifactdb.errors import InvalidValueError

_MAX_ITEMS = 1000
_MAX_TEXT = 10_000
_MAX_DEPTH = 20
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def parameters_of(obj: Any) -> dict[str, Any]:
    """Give the constructor parameters of an estimator, or {} for what is none."""
    if isinstance(obj, type) or not callable(getattr(obj, "get_params", None)):
        return {}
    try:
        names = _names_of(obj)
        if names is not None:
            return {name: getattr(obj, name) for name in names}
        found = obj.get_params(deep=False)
    except Exception:
        return {}  # a broken get_params must not keep a fitted object from being saved
    return dict(found) if isinstance(found, Mapping) else {}


_names: WeakKeyDictionary[type, tuple[str, ...]] = WeakKeyDictionary()


def _names_of(obj: Any) -> tuple[str, ...] | None:
    """Give the names that scikit-learn's own ``get_params`` inspects the class for each time; None for another's."""
    class_, base = type(obj), sys.modules.get("sklearn.base")
    if base is None or class_.get_params is not base.BaseEstimator.get_params:
        return None
    names = _names.get(class_)
    if names is None:
        names = _names[class_] = tuple(obj.get_params(deep=False))
    return names


def to_json(parameters: Mapping[str, Any]) -> str:
    """Give canonical JSON (sorted keys) of parameters.

    Examples
    --------
    >>> import numpy
    >>> to_json({"tol": numpy.float32(0.5), "alpha": float("nan"), "kernel": len})
    '{"alpha":"NaN","kernel":"builtins.len","tol":0.5}'
    """
    if not isinstance(parameters, Mapping):
        raise InvalidValueError(f"params is a dict, not {type(parameters).__name__}.")
    return _encode(readable(parameters))


def readable(value: Any, depth: int = 0) -> Any:
    """Turn any value into JSON's types, keeping as much as a reader can use.

    NaN and the infinities become the strings "NaN", "Infinity" and "-Infinity"; an estimator becomes its class
    and parameters; a long array its shape and dtype; a class or function its dotted name; anything else its repr.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return readable(value.value, depth)
    if isinstance(value, str):
        return _text(str(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _number(float(value))
    if depth > _MAX_DEPTH:
        return _text(repr(value))
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.generic):
            return readable(value.item(), depth + 1) if value.dtype.kind in "biufU" else _text(str(value))
        if isinstance(value, numpy.ndarray):
            if value.size <= _MAX_ITEMS:
                return readable(value.tolist(), depth + 1)
            return {"class": "numpy.ndarray", "shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, Mapping):
        return {_text(str(key)): readable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((readable(item, depth + 1) for item in value), key=repr)[:_MAX_ITEMS]
    if isinstance(value, list | tuple | range):
        return [readable(item, depth + 1) for item in value[:_MAX_ITEMS]]
    if isinstance(value, type) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    parameters = parameters_of(value)
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if parameters or hasattr(value, "get_params"):
        return {"class": name, "params": readable(parameters, depth + 1)}
    text = repr(value)
    # An address in memory would make each process write another value.
    return name if " at 0x" in text else _text(text)


def values(parameters_json: str) -> Iterator[tuple[str, Any]]:
    """Give (name, value) of each top-level parameter as SQLite keeps it."""
    for name, value in json.loads(parameters_json).items():
        if isinstance(value, bool):
            yield name, int(value)
        elif isinstance(value, dict | list) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
            yield name, json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        else:
            yield name, value


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _text(text: str) -> str:
    # Lone surrogates cannot be stored as UTF-8.
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"
