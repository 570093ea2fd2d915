"""Operators as objects and as JSON, both ways.

What JSON has no type for is a dict of one of these forms; a dict is read as a form only if its keys are exactly those:

    {"class": "sklearn.linear_model.Ridge", "params": {"alpha": 0.5}}    an estimator, a splitter, a kernel
    {"tuple": [0, 1]}   {"set": [1, 2]}   {"dict": [[1, 0.5]]}           keys that are no text, or look like a form
    {"array": [1, 2], "dtype": "int64"}   {"float": "nan"}
    {"slice": [0, 5, null]}   {"range": [0, 5, 1]}
    {"function": "numpy.log1p"}   {"type": "numpy.float32"}
    {"repr": "<function mine>"}                                          for people only; it cannot be made again
"""

from __future__ import annotations

import builtins
import inspect
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any

import numpy as np

from artifactdb.errors import InvalidValueError
from artifactdb.estimators import signatures
from artifactdb.estimators.kinds import is_splitter
from artifactdb.estimators.names import (
    class_named,
    function_name,
    function_named,
    is_kind_of_estimator,
    name_of,
    refuse_reading,
)

_TYPES = ("bool", "int", "float", "str", "object")
_FORMS = [
    *({"class"}, {"class", "params"}, {"array", "dtype"}),
    *({key} for key in ("tuple", "set", "dict", "float", "slice", "range", "function", "type", "repr")),
]


def to_plain(value: Any, *, strict: bool = True) -> Any:
    """Give a configuration, or one value of it, as JSON types; the same in every process.

    Parameters
    ----------
    value : object
        Lists, dicts, tuples, estimators and splitters (with those parameters only that differ from the defaults),
        classes, numbers, arrays, ufuncs of numpy.
    strict : bool, default True
        Whether to refuse what JSON cannot hold; else it becomes ``{"repr": ...}``, which people can read.

    Raises
    ------
    InvalidValueError
        For what JSON cannot hold, with the step and the parameter where it stands.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> to_plain([MinMaxScaler(feature_range=(0, 2)), {"model": Ridge()}])[0]
    {'class': 'sklearn.preprocessing.MinMaxScaler', 'params': {'feature_range': {'tuple': [0, 2]}}}
    """
    try:
        return _Writer(strict).top(value)
    except RecursionError:
        raise InvalidValueError("the configuration is nested too deeply, or holds itself.") from None


def from_plain(value: Any, allow: Sequence[str] = ()) -> Any:
    """Give the value that ``to_plain`` wrote; what is JSON already stays as it is.

    Parameters
    ----------
    value : object
        Of JSON types. Other objects are given back as they are.
    allow : sequence of str, optional
        Packages that classes may come from, besides those that are known.

    Raises
    ------
    InvalidValueError
        For a class that may not be named, a parameter that the class does not have, a value it does not take, for
        what would read from the disk (``memory`` that is a folder, ``input="filename"``), and for what had been left
        out of JSON.

    Examples
    --------
    >>> from_plain({"class": "sklearn.linear_model.Ridge", "params": {"alpha": {"float": "inf"}}})
    Ridge(alpha=inf)
    >>> from_plain([1, {"tuple": [2, "sklearn.linear_model.Ridge"]}])
    [1, (2, 'sklearn.linear_model.Ridge')]
    """
    try:
        read = _read(value, allow)
        refuse_reading("the configuration", read)
        return read
    except RecursionError:
        raise InvalidValueError("the configuration is nested too deeply.") from None


def operator(value: Any, allow: Sequence[str] = ()) -> Any:
    """Give the estimator or splitter that stands in a configuration.

    Parameters
    ----------
    value : object
        An estimator or a splitter (given back as it is), its class, its name, or ``{"class": ..., "params": ...}``.
    allow : sequence of str, optional
        Packages that classes may come from, besides those that are known.

    Raises
    ------
    InvalidValueError
        For anything else.

    Examples
    --------
    >>> operator("sklearn.preprocessing._data.MinMaxScaler")
    MinMaxScaler()
    >>> operator({"class": "sklearn.model_selection.KFold", "params": {"n_splits": 3}}).get_n_splits()
    3
    """
    if isinstance(value, Mapping) and set(value) not in ({"class"}, {"class", "params"}, {"repr"}):
        raise _no_operator(f"a dict with the keys {', '.join(map(str, value)) or '(none)'}")
    if isinstance(value, str):
        made = _made(class_named(value, allow), {}, allow)
    elif isinstance(value, type) and is_kind_of_estimator(value):
        made = _made(value, {}, allow)
    else:
        made = from_plain(value, allow)
    if isinstance(made, type) or not (hasattr(made, "fit") or is_splitter(made)):
        raise _no_operator(_described(made))
    return made


def with_params(made: Any, params: Any, allow: Sequence[str] = ()) -> Any:
    """Give an operator like another, unfitted and with other parameters.

    Parameters
    ----------
    made : object
        An estimator; it stays as it is.
    params : dict
        Values as ``from_plain`` reads them. "estimator__alpha" is a parameter of a parameter.
    allow : sequence of str, optional
        Packages that classes may come from, besides those that are known.

    Raises
    ------
    InvalidValueError
        For parameters that it does not have, and for those that would read from the disk.

    Examples
    --------
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> with_params(MinMaxScaler(), {"feature_range": [0, 2]})
    MinMaxScaler(feature_range=(0, 2))
    """
    from sklearn.base import clone

    cls = type(made)
    if not callable(getattr(made, "get_params", None)):
        # A splitter has none to be set: it is made again.
        mine = _arguments(cls, params, signatures.names(cls), signatures.defaults(cls), allow)
        return _made(cls, {**signatures.parameters(made), **mine}, allow)
    now = made.get_params()
    given = _arguments(cls, params, None if signatures.names(cls) is None else now, now, allow)
    try:
        other = clone(made).set_params(**given)
    except Exception as error:
        raise InvalidValueError(f"{cls.__name__} does not take {', '.join(given)}: {error}") from error
    refuse_reading(cls.__name__, other, known=[made, *given.values()])
    return other


class _Writer:
    """Writes plain values; ``where`` says in errors what is being written."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.step = ""

    def top(self, value: Any) -> Any:
        keys = ("pipeline", "steps")
        if isinstance(value, Mapping) and any(isinstance(value.get(key), list | tuple) for key in keys):
            return {str(key): self.top(item) if key in keys else self.plain(item) for key, item in value.items()}
        if not isinstance(value, list):
            return self.plain(value)
        plain = []
        for number, item in enumerate(value, 1):
            self.step = f"step {number}"
            plain.append(self.plain(item))
        return plain

    def plain(self, value: Any, where: str = "") -> Any:
        if value is None or isinstance(value, bool | np.bool_):
            return value if value is None else bool(value)
        if isinstance(value, str) and not isinstance(value, Enum):
            return str(value)
        if isinstance(value, int | np.integer) and not isinstance(value, Enum | np.timedelta64):
            return int(value)
        if isinstance(value, float | np.floating) and not isinstance(value, np.longdouble):
            return float(value) if math.isfinite(value) else {"float": str(float(value))}
        if isinstance(value, list):
            return [self.plain(item, where) for item in value]
        if isinstance(value, tuple):
            return {"tuple": [self.plain(item, where) for item in value]}
        if isinstance(value, dict):
            return self._dict(value, where)
        if isinstance(value, set | frozenset):
            return {"set": sorted((self.plain(item, where) for item in value), key=_text)}
        if isinstance(value, slice):
            return {"slice": [self.plain(item, where) for item in (value.start, value.stop, value.step)]}
        if isinstance(value, range):
            return {"range": [value.start, value.stop, value.step]}
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        if isinstance(value, np.dtype) and value.isnative and value.kind in "biuf":
            return self._type(value.type, where)
        if isinstance(value, type):
            return self._type(value, where)
        if function_name(value) is not None:
            return {"function": function_name(value)}
        if is_kind_of_estimator(type(value)):
            return self._estimator(value, where)
        return self._cannot(value, where)

    def _dict(self, value: dict[Any, Any], where: str) -> Any:
        # In a configuration a form is a form; among an estimator's parameters it is a dict like any other.
        if all(isinstance(key, str) for key in value) and not (where and set(value) in _FORMS):
            items = sorted(value.items()) if where else value.items()
            return {str(key): self.plain(item, where) for key, item in items}
        return {"dict": sorted(([self.plain(one, where) for one in pair] for pair in value.items()), key=_text)}

    def _array(self, value: Any, where: str) -> Any:
        kind = value.dtype.kind
        plain = (kind in "biuf" and value.dtype.itemsize <= 8) or kind in "UO"
        # Nested lists do not tell the shape of what is empty, or of lists within an array.
        unclear = (value.size == 0 and value.ndim > 1) or (kind == "O" and any(np.ndim(item) for item in value.flat))
        if not plain or unclear:
            return self._cannot(value, where)
        return {"array": self.plain(value.tolist(), where), "dtype": str(value.dtype)}

    def _type(self, value: type, where: str = "") -> Any:
        if issubclass(value, np.generic) and value is getattr(np, value.__name__, None):
            return {"type": f"numpy.{value.__name__}"}
        if value in (bool, int, float, str, object):
            return {"type": value.__name__}
        if not is_kind_of_estimator(value) or (self.strict and "<locals>" in value.__qualname__):
            return self._cannot(value, where)
        return {"class": name_of(value)}

    def _estimator(self, value: Any, where: str) -> Any:
        cls = type(value)
        try:
            parameters = signatures.parameters(value)
        except Exception as error:  # a get_params of another's
            if self.strict:
                message = f"{self._place('the parameters of ' + cls.__name__)} cannot be read: {error}"
                raise InvalidValueError(message) from error
            return self._cannot(value, where)
        plain = self._type(cls, where)
        if "class" not in plain:
            return plain
        defaults = signatures.defaults(cls)
        written = {
            name: self.plain(item, f"{name} of {cls.__name__}")
            for name, item in parameters.items()
            if not (name in defaults and _same(item, defaults[name]))
        }
        return {**plain, "params": written} if written else plain

    def _cannot(self, value: Any, where: str) -> Any:
        if not self.strict:
            try:
                # An address in memory would make each process write another text.
                return {"repr": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))}
            except Exception:
                return {"repr": f"<{type(value).__name__}>"}
        hint = ""
        if isinstance(value, np.random.RandomState | np.random.Generator):
            hint = "Give a number as random_state."
        elif callable(value):
            hint = "Define it in a module as a class with fit and transform."
        raise InvalidValueError(
            f"{self._place(where) or 'the value'} is {_described(value)} that JSON cannot hold.", hint=hint
        )

    def _place(self, where: str) -> str:
        return ": ".join(filter(None, (self.step, where)))


def _read(value: Any, allow: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_read(item, allow) for item in value]
    if isinstance(value, tuple):
        return tuple(_read(item, allow) for item in value)
    if not isinstance(value, dict):
        return value
    keys = set(value)
    if keys in ({"class"}, {"class", "params"}):
        return _made(class_named(value["class"], allow), value.get("params") or {}, allow)
    if keys not in _FORMS:
        return {key: _read(item, allow) for key, item in value.items()}
    if keys == {"repr"}:
        raise InvalidValueError(
            f"{value['repr']} was given as an object that JSON cannot hold.", hint="Give the object again."
        )
    form = next(key for key in value if key != "dtype")
    try:
        return _READERS[form](value, _read(value[form], allow))
    except InvalidValueError:
        raise
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InvalidValueError(f"{_text(value)} cannot be read: {error}") from None


def _array(value: dict[str, Any], items: Any) -> Any:
    return np.array(items, dtype=np.dtype(value["dtype"]))


def _float(value: dict[str, Any], text: Any) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError("it is one of nan, inf, -inf")
    return float(text)


def _type(value: dict[str, Any], name: Any) -> type:
    found = getattr(np, str(name).removeprefix("numpy."), None)
    if name in _TYPES:
        return getattr(builtins, name)  # type: ignore[no-any-return]
    if not (str(name).startswith("numpy.") and isinstance(found, type) and issubclass(found, np.generic)):
        raise ValueError(f"types are {', '.join(_TYPES)} and those of numpy's numbers")
    return found


_READERS: dict[str, Callable[[dict[str, Any], Any], Any]] = {
    "tuple": lambda _, items: tuple(items),
    "set": lambda _, items: set(items),
    "dict": lambda _, pairs: dict(pairs),
    "array": _array,
    "float": _float,
    "slice": lambda _, items: slice(*items),
    "range": lambda _, items: range(*items),
    "function": lambda _, name: function_named(name),
    "type": _type,
}


def _made(cls: type, params: Any, allow: Sequence[str]) -> Any:
    given = _arguments(cls, params, signatures.names(cls), signatures.defaults(cls), allow)
    try:
        made = cls(**given)
    except Exception as error:
        raise InvalidValueError(f"{cls.__name__} cannot be made: {error}") from error
    # Again, because a class may keep a parameter under another name than that by which it was given.
    refuse_reading(cls.__name__, made, known=list(given.values()))
    return made


def _arguments(
    cls: type, params: Any, known: Iterable[str] | None, usual: Mapping[str, Any], allow: Sequence[str]
) -> dict[str, Any]:
    """Give parameters as a class takes them; ``known`` are their names, ``usual`` values that show their types."""
    if not isinstance(params, Mapping):
        raise InvalidValueError(f"params of {cls.__name__} is a dict, not {_described(params)}.")
    try:
        given = {str(name): _read(value, allow) for name, value in params.items()}
        refuse_reading(cls.__name__, given)
    except RecursionError:
        raise InvalidValueError(f"the params of {cls.__name__} are nested too deeply.") from None
    for name, value in given.items():
        if known is not None and name not in known:
            close = get_close_matches(name, known, 3)
            raise InvalidValueError(
                f"{cls.__name__} has no parameter {name!r}.",
                hint=f"Did you mean {' or '.join(close)}?" if close else f"It has {', '.join(known) or 'none'}.",
            )
        # JSON writes both as a list.
        if isinstance(value, list) and isinstance(usual.get(name), tuple):
            given[name] = tuple(value)
    return given


def _same(value: Any, default: Any) -> bool:
    if value is default or default is None:
        return value is default
    writer = _Writer(strict=True)
    try:
        return _text(writer.plain(value, "x")) == _text(writer.plain(default, "x"))
    except InvalidValueError:
        return False


def _text(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, default=repr)


def _described(value: Any) -> str:
    if inspect.isroutine(value):
        return f"a function ({getattr(value, '__qualname__', repr(value))})"
    if isinstance(value, type):
        return f"a class ({value.__qualname__})"
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _no_operator(found: str) -> InvalidValueError:
    return InvalidValueError(
        f"{found} stands where an operator is expected.",
        hint='An operator is an object with fit or split, its class, its name as "sklearn.linear_model.Ridge", '
        'or {"class": "sklearn.linear_model.Ridge", "params": {"alpha": 1.0}}.',
    )
