"""Alternatives in a configuration, and all the concrete configurations that they stand for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from artifactdb.errors import InvalidValueError
from artifactdb.estimators.configuration import from_plain

OPERATORS = ("model", "meta_model", "preprocessing", "transformer", "y_processing")
"""Keys of a step under which an operator stands, and beside which "params" is a grid."""
MOST = 100_000
"""How many pipelines one configuration may stand for."""

_GENERATORS = ("_or_", "_range_", "_log_range_")
_SHAPES = 'Write {"_or_": [a, b]}, {"_range_": [first, last, step]} or {"_log_range_": [first, last, count]}.'


def expand(configuration: Any) -> list[list[Any]]:
    """Give all concrete configurations of one, in order; the last alternative varies fastest.

    Parameters
    ----------
    configuration : list or dict
        Steps, or ``{"pipeline": [...]}``. Wherever a step or a value may stand there may be ``{"_or_": [a, b, None]}``,
        ``{"_range_": [first, last, step]}`` (with its last) or ``{"_log_range_": [first, last, count]}``. The "params"
        beside a model are a grid: a list, a range or an array of one dimension holds alternatives, anything else is
        one value. A step that is None is left out.

    Returns
    -------
    list of list
        Steps without alternatives. Objects in them are the same everywhere: nothing is copied.

    Raises
    ------
    InvalidValueError
        For alternatives that cannot be read, that are empty, or that stand for more than 100,000 pipelines.

    Examples
    --------
    >>> expand([{"_or_": ["snv", None]}, {"model": "pls", "params": {"n": {"_range_": [2, 4, 2]}}}])[1:3]
    [['snv', {'model': 'pls', 'params': {'n': 4}}], [{'model': 'pls', 'params': {'n': 2}}]]
    """
    number = count(configuration)
    if number > MOST:
        raise InvalidValueError(
            f"the configuration stands for {number:,} pipelines, and at most {MOST:,} are made.",
            hint="Make its alternatives fewer, or its ranges coarser.",
        )
    return list(_tree(configuration).each())


def count(configuration: Any) -> int:
    """Tell how many pipelines a configuration stands for, without making them.

    Examples
    --------
    >>> count([{"_or_": ["snv", "msc", None]}, {"model": "pls", "params": {"n": {"_range_": [1, 10]}}}])
    30
    """
    try:
        return _tree(configuration).count()
    except RecursionError:
        raise InvalidValueError("the configuration is nested too deeply, or holds itself.") from None


def options(value: Any) -> list[Any] | range | None:
    """Give the alternatives that a value among the "params" beside a model holds, or None if it is one value.

    Examples
    --------
    >>> options(np.array([0.1, 1.0])), options({"range": [1, 9, 2]}), options((1, 2)), options("rbf")
    ([0.1, 1.0], range(1, 9, 2), None, None)
    """
    # As to_plain writes arrays and ranges.
    if isinstance(value, Mapping) and set(value) in ({"array", "dtype"}, {"range"}):
        value = from_plain(value)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return list(value.tolist())
    return value if isinstance(value, list | range) else None


@dataclass(frozen=True)
class _One:
    """A value without alternatives."""

    value: Any

    def count(self) -> int:
        return 1

    def each(self) -> Iterator[Any]:
        yield self.value


@dataclass(frozen=True)
class _Either:
    """Alternatives."""

    options: Sequence[_Node]

    def count(self) -> int:
        return sum(option.count() for option in self.options)

    def each(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(option.each() for option in self.options)


@dataclass(frozen=True)
class _All:
    """Parts, each of which may have alternatives, and what is made of them."""

    parts: Sequence[_Node]
    build: Callable[[Sequence[Any]], Any]

    def count(self) -> int:
        return math.prod(part.count() for part in self.parts)

    def each(self) -> Iterator[Any]:
        return map(self.build, itertools.product(*(part.each() for part in self.parts)))


_Node = _One | _Either | _All
_Reader = Callable[[Any], _Node]


def _tree(configuration: Any) -> _Node:
    steps: Any = configuration
    if isinstance(configuration, Mapping) and _listed(configuration) is None:
        found = [key for key in ("pipeline", "steps") if key in configuration]
        if len(found) != 1:
            keys = ", ".join(map(str, configuration)) or "no keys"
            raise InvalidValueError(f'a configuration as a dict has its steps under "pipeline"; this one has {keys}.')
        steps = configuration[found[0]]
    listed = _listed(steps)
    if listed is None:
        raise InvalidValueError(f"a configuration is a list of steps, not {_shown(steps)}.")
    return _steps(listed)


def _steps(steps: Sequence[Any]) -> _Node:
    return _All([_step(step) for step in steps], lambda made: [step for step in made if step is not None])


def _step(step: Any) -> _Node:
    listed = _listed(step)
    if listed:
        # Of operators side by side that are all left out nothing remains, not an empty step.
        return _All([_step(one) for one in listed], lambda made: [one for one in made if one is not None] or None)
    if not isinstance(step, Mapping) or set(step) in ({"class"}, {"class", "params"}):
        return _value(step)
    if _generator(step):
        return _alternatives(step, _step)
    if "branch" in step:
        return _dict(step, {"branch": _branches})
    roles = [key for key in OPERATORS if key in step]
    if not roles:
        return _value(step)
    made = _dict(step, {**dict.fromkeys(roles, _step), "params": _grid, "source_models": _stacked})
    return _All([made], lambda only: None if any(only[0][role] is None for role in roles) else only[0])


def _branches(branches: Any) -> _Node:
    """Read branches; one that loses all its steps stays, and hands on what it is given."""
    listed = _listed(branches)
    if listed is not None:
        return _list([_branch(branch) for branch in listed])
    if isinstance(branches, Mapping):
        return _alternatives(branches, _branches) if _generator(branches) else _dict(branches, {}, _branch)
    return _value(branches)


def _branch(branch: Any) -> _Node:
    if isinstance(branch, Mapping) and "steps" in branch:
        return _dict(branch, {"steps": _branch})
    listed = _listed(branch)
    return _step(branch) if listed is None else _steps(listed)


def _stacked(names: Any) -> _Node:
    """Read the models that a meta-model stacks: a tuple of names is a list of them."""
    listed = _listed(names)
    if listed is not None:
        return _list([_value(name) for name in listed], names if isinstance(names, list) else None)
    generates = isinstance(names, Mapping) and _generator(names)
    return _alternatives(names, _stacked) if generates else _value(names)


def _value(value: Any) -> _Node:
    if isinstance(value, list):
        return _list([_value(item) for item in value], value)
    if isinstance(value, tuple):
        return _list([_value(item) for item in value], value, tuple)
    if isinstance(value, Mapping):
        return _alternatives(value, _value) if _generator(value) else _dict(value, {})
    return _One(value)


def _grid(params: Any) -> _Node:
    """Read parameters beside an operator: a list of a parameter holds alternatives."""
    if isinstance(params, list):
        return _either(params, _grid, "params")
    if not isinstance(params, Mapping):
        return _One(params)
    if _generator(params):
        return _alternatives(params, _grid)
    return _dict(params, {}, _parameter)


def _parameter(value: Any) -> _Node:
    listed = options(value)
    if listed is None:
        return _value(value)
    if isinstance(listed, range):
        # len() of a range overflows beyond 2**63.
        size = max(0, -((listed.start - listed.stop) // listed.step))
        if size > MOST:
            raise InvalidValueError(f"{_shown(listed)} has {size:,} values; at most {MOST:,} pipelines are made.")
    return _either(list(listed), _value, "params")


def _list(parts: Sequence[_Node], same: Any = None, build: Callable[[Sequence[Any]], Any] = list) -> _Node:
    # A value without alternatives stays the very object that it was.
    if same is not None and all(isinstance(part, _One) for part in parts):
        return _One(same)
    return _All(parts, build)


def _dict(given: Mapping[Any, Any], readers: Mapping[str, _Reader], otherwise: _Reader = _value) -> _Node:
    keys = list(given)
    parts = [readers.get(key, otherwise)(given[key]) for key in keys]
    if all(isinstance(part, _One) for part in parts) and not readers:
        return _One(given)
    return _All(parts, lambda values: dict(zip(keys, values, strict=True)))


def _generator(given: Mapping[Any, Any]) -> str | None:
    return next((key for key in _GENERATORS if key in given), None)


def _alternatives(given: Mapping[Any, Any], read: _Reader) -> _Node:
    key = _generator(given)
    assert key is not None
    beside = {name: value for name, value in given.items() if name != key}
    if not beside:
        return _READ[key](given[key], read)
    roles = [role for role in OPERATORS if role in beside]
    if len(roles) != 1 or not isinstance(beside.get("param"), str) or _GENERATORS[0] in beside:
        raise InvalidValueError(
            f"{key} has beside it {', '.join(map(repr, beside))}.",
            hint='It stands alone, or with its parameter: {"_range_": [1, 9], "param": "alpha", "model": ...}.',
        )
    # As nirs4all writes it: one parameter of the model beside it.
    name, params = beside.pop("param"), beside.get("params") or {}
    if not isinstance(params, Mapping):
        raise InvalidValueError(f"params beside {key} is a dict, not {_shown(params)}.")
    return _step({**beside, "params": {**params, name: {key: given[key]}}})


def _either(options: Any, read: _Reader, key: str = "_or_") -> _Node:
    listed = _listed(options)
    if not listed:
        raise InvalidValueError(f"{key} has no alternatives: {_shown(options)}.", hint=_SHAPES)
    return _Either([read(option) for option in listed])


def _range(given: Any, read: _Reader) -> _Node:
    numbers = _numbers("_range_", given, (2, 3))
    first, last, step = (*numbers, 1)[:3]
    # In decimals 0.1 + 2 * 0.1 is 0.3, and the last one is not missed by a rounding.
    low, high, by = (Decimal(str(number)) for number in (first, last, step))
    size = 0 if by == 0 else int((high - low) / by) + 1 if (high - low) / by >= 0 else 0
    if size == 0:
        raise InvalidValueError(f"_range_ {_shown(given)} has no value.", hint=_SHAPES)
    if size > MOST:
        raise InvalidValueError(f"_range_ {_shown(given)} has {size:,} values; at most {MOST:,} pipelines are made.")
    kind = int if all(isinstance(number, int) for number in numbers) else float
    return _Either([_One(kind(low + index * by)) for index in range(size)])


def _log_range(given: Any, read: _Reader) -> _Node:
    first, last, size = _numbers("_log_range_", given, (3,))
    if first <= 0 or last <= 0 or not isinstance(size, int) or not 1 <= size <= MOST:
        raise InvalidValueError(
            f"_log_range_ goes from a positive number to another in a whole number of values, not {_shown(given)}.",
            hint=_SHAPES,
        )
    values = np.geomspace(first, last, size).tolist()
    # Numbers of trees are whole ones.
    whole = isinstance(first, int) and isinstance(last, int) and all(value.is_integer() for value in values)
    return _Either([_One(int(value) if whole else value) for value in values])


def _numbers(key: str, given: Any, lengths: Sequence[int]) -> list[Any]:
    listed = _listed(given) or []
    right = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in listed)
    if len(listed) not in lengths or not right:
        raise InvalidValueError(f"{key} does not take {_shown(given)}.", hint=_SHAPES)
    return list(listed)


_READ: dict[str, Callable[[Any, _Reader], _Node]] = {"_or_": _either, "_range_": _range, "_log_range_": _log_range}


def _listed(value: Any) -> Sequence[Any] | None:
    """Give a list of steps as one, whether it is a list, a tuple, or a tuple as JSON has it; None for anything else."""
    if isinstance(value, Mapping) and set(value) == {"tuple"}:
        value = value["tuple"]
    return value if isinstance(value, list | tuple) else None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
