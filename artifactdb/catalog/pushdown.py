"""Filters that DuckDB hands to an Arrow dataset become conditions of SQLite, so that only matching rows cross over.

What cannot be said in SQL is left out: DuckDB's filter is applied to the rows once more, so a condition may be wider
than the filter, never narrower.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_COMPARISONS = {
    "equal": "=",
    "not_equal": "<>",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
}

_WORD = re.compile(r"^(\w+): '(\w*)'$", re.MULTILINE)

Condition = tuple[str, list[Any]]


class _NotSayableError(Exception):
    """The expression has no counterpart here."""


def conditions(expression: pc.Expression | None, columns: Mapping[str, str]) -> Condition:
    """Give SQL and its parameters for the parts of a filter that SQLite can answer.

    Parameters
    ----------
    expression : pyarrow.compute.Expression, optional
    columns : mapping
        SQL expression of each column that may be used.

    Examples
    --------
    >>> conditions((pc.field("fold_id") == 3) & pc.field("class_name").isin(["PLS", "Ridge"]),
    ...            {"fold_id": "fold_id", "class_name": "class_name"})
    ('fold_id = ? AND class_name IN (SELECT value FROM json_each(?))', [3, '["PLS", "Ridge"]'])
    """
    if expression is None:
        return "", []
    try:
        tree = _parse(expression)
    except (_NotSayableError, pa.ArrowException, KeyError, IndexError, ValueError, TypeError, RecursionError):
        return "", []
    parts = [part for part in (_say(node, columns) for node in _conjuncts(tree)) if part]
    return " AND ".join(sql for sql, _ in parts), [value for _, values in parts for value in values]


def _parse(expression: pc.Expression) -> Any:
    """Read what Arrow writes when an expression is pickled: its parts in prefix order, constants in a record batch."""
    _, (serialized, *_) = expression.__reduce__()
    with pa.ipc.open_file(pa.BufferReader(serialized)) as reader:
        # A key comes many times, which the mapping that Arrow gives loses; its text has all. The words are names of
        # functions and of columns of ours, numbers and nothing else.
        text = reader.schema.to_string(truncate_metadata=False, show_field_metadata=False)
        constants = [column[0].as_py() for column in reader.get_batch(0).columns]
    words = _WORD.findall(text.partition("-- schema metadata --")[2])
    tree, rest = _node(words, constants)
    if rest:
        raise _NotSayableError
    return tree


def _node(words: list[tuple[str, str]], constants: list[Any]) -> tuple[Any, list[tuple[str, str]]]:
    (kind, value), rest = words[0], words[1:]
    if kind == "field_ref":
        return ("field", value), rest
    if kind == "literal":
        return ("literal", constants[int(value)]), rest
    if kind != "call":
        raise _NotSayableError
    children: list[Any] = []
    options = None
    while rest[0][0] != "end":
        if rest[0][0] == "options":
            options, rest = constants[int(rest[0][1])], rest[1:]
            continue
        child, rest = _node(rest, constants)
        children.append(child)
    return ("call", value, children, options), rest[1:]


def _conjuncts(tree: Any) -> list[Any]:
    if tree[0] == "call" and tree[1] in ("and_kleene", "and"):
        return [part for child in tree[2] for part in _conjuncts(child)]
    return [tree]


def _say(tree: Any, columns: Mapping[str, str]) -> Condition | None:
    try:
        return _condition(tree, columns)
    except _NotSayableError:
        return None


def _condition(tree: Any, columns: Mapping[str, str]) -> Condition:
    if tree[0] != "call":
        raise _NotSayableError
    _, name, children, options = tree
    if name in _COMPARISONS:
        return f"{_column(children[0], columns)} {_COMPARISONS[name]} ?", [_constant(children[1])]
    if name == "is_in":
        values = json.dumps([_constant(("literal", value)) for value in options["value_set"]])
        return f"{_column(children[0], columns)} IN (SELECT value FROM json_each(?))", [values]
    if name == "is_valid":
        return f"{_column(children[0], columns)} IS NOT NULL", []
    if name == "is_null":
        return f"{_column(children[0], columns)} IS NULL", []
    if name == "if_else" and children[2] == ("literal", None):
        return _condition(children[1], columns)
    if name in ("and_kleene", "and", "or_kleene", "or"):
        (left, left_values), (right, right_values) = (_condition(child, columns) for child in children)
        word = "AND" if name.startswith("and") else "OR"
        return f"({left} {word} {right})", left_values + right_values
    raise _NotSayableError


def _column(tree: Any, columns: Mapping[str, str]) -> str:
    if tree[0] != "field" or tree[1] not in columns:
        raise _NotSayableError
    return columns[tree[1]]


def _constant(tree: Any) -> Any:
    if tree[0] != "literal" or not isinstance(tree[1], str | int | float):
        raise _NotSayableError
    if isinstance(tree[1], float) and not math.isfinite(tree[1]):
        raise _NotSayableError
    return tree[1]
