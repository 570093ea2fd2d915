"""Which keys of a record table a statement can use, so that a join with ten predictions fetches ten artifacts.

DuckDB passes constant filters on to a table that it is handed, but not what it learns while joining. The statement is
read here as DuckDB's own parser sees it: where a record table is joined by a key to predictions, to another record
table, or to a selection of predictions, that side is asked for its keys first, and only rows with these are fetched.

A narrowed answer must be the answer. So the keys are those of more rows than the statement uses, never fewer:
conditions whose value may differ from one time to the next are left out, ``LIMIT`` takes ties along, and whatever is
not of the few forms understood here fetches every row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from artifactdb.catalog.columns import quoted
from artifactdb.catalog.engine import Session
from artifactdb.catalog.tables import RECORD_TABLES
from artifactdb.catalog.views import TABLES, State, narrow

_WORTH_IT = 5_000
_MOST_KEYS = 20_000
Node = dict[str, Any]
Keys = tuple[str, list[Any]]

_PREDICTIONS = {name.lower() for name in TABLES["predictions"]}
_STABLE = {"COLUMN_REF", "CONSTANT", "PARAMETER", "COMPARISON", "CONJUNCTION", "BETWEEN", "CAST", "OPERATOR"}
_STABLE_FUNCTIONS = {"~~", "!~~", "~~*", "!~~*", "+", "-", "*", "/", "lower", "upper", "isnan", "isfinite", "->>"}
_HOLDS_FOR = {
    "INNER": (True, True),
    "LEFT": (False, True),
    "RIGHT": (True, False),
    "SEMI": (True, True),
    "ANTI": (False, True),
}
"""Whether only rows that meet the condition of a join matter, of its left and of its right side."""


def narrow_tables(session: Session, state: State, sql: str, parameters: Any) -> None:
    """Let the record tables of a statement give no rows but those that can matter to it."""
    if not any(name in sql.lower() for name in RECORD_TABLES):
        return
    if state.snapshot.rows("SELECT coalesce(max(record_key), 0) FROM records")[0][0] < _WORTH_IT:
        return
    try:
        statement = _Statement(session.cursor, sql, parameters)
        uses = list(statement.uses())
        # Twice, since a table may be joined to predictions only by way of another.
        for use in [*uses, *uses]:
            if use.table not in statement.narrowed:
                keys = statement.keys_of(use)
                if keys is not None:
                    statement.narrowed.add(use.table)
                    narrow(session, state, use.table, keys)
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, KeyError, IndexError, TypeError, ValueError):
        return


@dataclass(frozen=True, slots=True)
class _Relation:
    """A table or subquery within a FROM clause, and the conditions that a row of it must meet to matter."""

    node: Node
    alias: str
    table: str
    columns: Sequence[str] | None
    conditions: list[Node]


@dataclass(frozen=True, slots=True)
class _Use:
    """The only place where a statement names a record table."""

    table: str
    relation: _Relation
    others: list[_Relation]

    @property
    def all(self) -> list[_Relation]:
        """Everything in the same FROM clause."""
        return [self.relation, *self.others]


class _Statement:
    """A statement as DuckDB parses it, and as it was written."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Any) -> None:
        self.cursor = cursor
        self.text = sql.encode()
        self.parameters = parameters
        self.narrowed: set[str] = set()
        ((parsed,),) = cursor.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
        self.tree: Node = json.loads(parsed)["statements"][0]["node"]
        self.nodes = list(_walk(self.tree))
        self.ctes = [entry["key"].lower() for node in self.nodes for entry in _cte_map(node)]

    def uses(self) -> Iterator[_Use]:
        """Give the record tables that are named once, in a FROM clause that is understood."""
        functions = {str(node.get("function_name", "")).lower() for node in self.nodes}
        if functions & {"query", "query_table"} or any(name in TABLES for name in self.ctes):
            return
        named = [node["table_name"].lower() for node in self.nodes if node.get("type") == "BASE_TABLE"]
        for select in self.nodes:
            if select.get("type") != "SELECT_NODE" or not select.get("from_table") or select.get("sample"):
                continue
            if not _is_understood(select["from_table"]):
                continue
            relations = list(_relations(select["from_table"], _conjuncts(select.get("where_clause"))))
            for relation in relations:
                if relation.table in RECORD_TABLES and named.count(relation.table) == 1 and _is_plain(relation.node):
                    yield _Use(relation.table, relation, [other for other in relations if other is not relation])

    def keys_of(self, use: _Use) -> Keys | None:
        """Ask what the table is joined to for keys; None when nothing narrows it down."""
        for condition in use.relation.conditions:
            found = self._from_subquery(use, condition) or self._from_join(use, condition)
            if found is not None:
                return found
        return None

    def _from_subquery(self, use: _Use, condition: Node) -> Keys | None:
        if condition.get("subquery_type") != "ANY" or condition.get("comparison_type") != "COMPARE_EQUAL":
            return None
        column, select = self._key_column(use, condition["child"]), condition["subquery"]["node"]
        if column is None or len(select["select_list"]) != 1:
            return None
        return self._of_selection(column, select, select["select_list"][0].get("column_names", [""])[-1])

    def _from_join(self, use: _Use, condition: Node) -> Keys | None:
        if condition.get("type") != "COMPARE_EQUAL":
            return None
        for mine, theirs in ((condition["left"], condition["right"]), (condition["right"], condition["left"])):
            column = self._key_column(use, mine)
            other = next((one for one in use.others if _belongs(theirs, one, use.all)), None)
            if column is None or other is None:
                continue
            selection = self._selection(other)
            if selection is not None:
                return self._of_selection(column, selection, theirs["column_names"][-1])
            if other.table in TABLES and _is_plain(other.node):
                return self._of_table(use, column, other, theirs)
        return None

    def _of_table(self, use: _Use, column: str, other: _Relation, key: Node) -> Keys | None:
        own = [one for one in use.relation.conditions if _is_stable(one) and _all_belong(one, other, use.all)]
        if other.table in RECORD_TABLES and other.table not in self.narrowed and not own:
            return None  # all of a large table would have to be read for its keys
        return self._ask(column, self._text(key), other.node, own)

    def _selection(self, relation: _Relation) -> Node | None:
        """Give the SELECT that a relation is: a subquery, or a CTE of the whole statement with a name of its own."""
        found: Node
        if relation.node["type"] == "SUBQUERY" and not relation.node.get("sample"):
            found = relation.node["subquery"]["node"]
            return found if not relation.node.get("column_name_alias") else None
        entries = {entry["key"].lower(): entry["value"] for entry in _cte_map(self.tree)}
        if self.ctes.count(relation.table) != 1 or relation.table not in entries or not _is_plain(relation.node):
            return None
        entry = entries[relation.table]
        found = entry["query_node"] if "query_node" in entry else entry["query"]["node"]
        return found if not entry.get("aliases") else None

    def _of_selection(self, column: str, select: Node, key: str) -> Keys | None:
        """Ask a SELECT of some predictions for keys, with all that tie for its last place."""
        if not _is_selection_of_predictions(select) or key.lower() not in _shown(select):
            return None
        limit, orders = _limit(select)
        if limit is None:
            return None
        conditions = _conjuncts(select.get("where_clause"))
        known = [one for one in conditions if _is_stable(one) and _names(one) <= _PREDICTIONS]
        ranks = [order["expression"] for order in orders] if limit else []
        if limit and (len(known) < len(conditions) or not all(_is_stable(one) for one in (*ranks, *limit))):
            return None
        if not all(_names(one) <= _PREDICTIONS for one in ranks):
            return None
        order = ", ".join(self._text(one["expression"]) + _direction(one) for one in orders)
        last = f" QUALIFY rank() OVER (ORDER BY {order}) <= {self._text(limit[0])}" if limit else ""
        return self._ask(column, quoted(key), select["from_table"], known, last, [*ranks, *limit])

    def _ask(
        self, column: str, key: str, source: Node, conditions: Sequence[Node], last: str = "", rest: Sequence[Node] = ()
    ) -> Keys | None:
        where = f" WHERE {' AND '.join(f'({self._text(one)})' for one in conditions)}" if conditions else ""
        rows_of = f"SELECT {key} AS k FROM {self._text(source)}{where}{last}"
        sql = f"SELECT DISTINCT k FROM ({rows_of}) LIMIT {_MOST_KEYS + 1}"
        names = [node["identifier"] for part in (*conditions, *rest) for node in _placeholders(part)]
        if isinstance(self.parameters, Mapping):
            values: Any = {name: self.parameters[name] for name in names}
        elif b"$" in self.text or re.search(rb"\?\d", self.text):
            return None
        else:
            values = [self.parameters[int(name) - 1] for name in names]
        rows = self.cursor.execute(sql, values).fetchall()
        return None if len(rows) > _MOST_KEYS else (column, [row[0] for row in rows if row[0] is not None])

    def _text(self, node: Node) -> str:
        """Give a part as it was written; what USING says without writing it, by its names."""
        if "query_location" not in node:
            return ".".join(map(quoted, node["column_names"]))
        start = node["query_location"]
        return self.text[start : start + node["query_location_length"]].decode()

    def _key_column(self, use: _Use, node: Node) -> str | None:
        if not _belongs(node, use.relation, use.all):
            return None
        column: str = node["column_names"][-1].lower()
        return column if column in RECORD_TABLES[use.table].keys else None


# -- reading the tree -------------------------------------------------------------------------------


def _walk(node: Any) -> Iterator[Node]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)


def _cte_map(node: Node) -> list[Node]:
    found: list[Node] = (node.get("cte_map") or {}).get("map", [])
    return found


def _conjuncts(condition: Node | None) -> list[Node]:
    if not condition:
        return []
    if condition.get("type") == "CONJUNCTION_AND":
        return [part for child in condition["children"] for part in _conjuncts(child)]
    return [condition]


def _placeholders(part: Node) -> list[Node]:
    """Give the placeholders of an expression as they were written, from left to right."""
    return sorted(
        (node for node in _walk(part) if node.get("class") == "PARAMETER"), key=lambda node: node["query_location"]
    )


def _is_understood(node: Node) -> bool:
    """Tell whether every join of a FROM clause is one whose conditions can be reasoned about."""
    if node["type"] != "JOIN":
        return True
    known = node["join_type"] in _HOLDS_FOR and node.get("ref_type") in ("REGULAR", "CROSS")
    return known and _is_understood(node["left"]) and _is_understood(node["right"])


def _is_plain(node: Node) -> bool:
    return node["type"] == "BASE_TABLE" and not node.get("sample") and not node.get("column_name_alias")


def _is_selection_of_predictions(select: Node) -> bool:
    """Tell whether a SELECT takes whole rows or columns of ``predictions``, under their own names, and no more."""
    source = select.get("from_table") or {}
    if select.get("type") != "SELECT_NODE" or source.get("type") != "BASE_TABLE" or not _is_plain(source):
        return False
    if source["table_name"].lower() != "predictions" or _cte_map(select):
        return False
    if any(select.get(part) for part in ("group_expressions", "group_sets", "having", "qualify", "sample")):
        return False
    return all(map(_is_shown_as_it_is, select["select_list"]))


def _is_shown_as_it_is(item: Node) -> bool:
    if item["class"] == "STAR":
        changes = set(item) - {"class", "type", "alias", "query_location", "query_location_length"}
        return not any(item[change] for change in changes)
    return item["class"] == "COLUMN_REF" and item["alias"].lower() in ("", _last_name(item))


def _last_name(item: Node) -> str:
    return str(item["column_names"][-1]).lower()


def _shown(select: Node) -> set[str]:
    """Give the columns of ``predictions`` that a SELECT shows."""
    if any(item["class"] == "STAR" for item in select["select_list"]):
        return _PREDICTIONS
    return {_last_name(item) for item in select["select_list"]} & _PREDICTIONS


def _limit(select: Node) -> tuple[list[Node] | None, list[Node]]:
    """Give the limit of a SELECT (empty for none) and its order; None for what may differ each time."""
    limit: list[Node] = []
    orders: list[Node] = []
    for modifier in select.get("modifiers", ()):
        if modifier["type"] == "ORDER_MODIFIER":
            orders = modifier["orders"]
        elif modifier["type"] == "LIMIT_MODIFIER" and modifier["limit_type"] == "ROW_COUNT" and not modifier["offset"]:
            limit = [modifier["limit"]]
        else:
            return None, []
    by_position = any(order["expression"].get("class") == "CONSTANT" for order in orders)
    return (None if limit and (not orders or by_position) else limit), orders


def _direction(order: Node) -> str:
    nulls = str(order.get("null_order", "")).upper()
    words = " DESC" if order["type"] == "DESCENDING" else ""
    return words + next((f" NULLS {end}" for end in ("FIRST", "LAST") if end in nulls), "")


def _is_stable(expression: Node) -> bool:
    """Tell whether an expression has the same value whenever it is asked."""
    for node in _walk(expression):
        kind = node.get("class")
        if kind == "FUNCTION" and node.get("function_name") not in _STABLE_FUNCTIONS:
            return False
        if kind is not None and kind not in _STABLE and kind != "FUNCTION":
            return False
    return True


def _names(expression: Node) -> set[str]:
    return {_last_name(node) for node in _walk(expression) if node.get("class") == "COLUMN_REF"}


def _relations(node: Node, conditions: list[Node]) -> Iterator[_Relation]:
    if node["type"] != "JOIN":
        table = node.get("table_name", "").lower()
        yield _Relation(node, (node["alias"] or table).lower(), table, TABLES.get(table), conditions)
        return
    left, right = _HOLDS_FOR.get(node["join_type"], (False, False))
    own = _conjuncts(node.get("condition"))
    if node.get("using_columns"):
        own = [_equal(node["left"], node["right"], column) for column in node["using_columns"]]
    yield from _relations(node["left"], [*conditions, *own] if left else conditions)
    yield from _relations(node["right"], [*conditions, *own] if right else conditions)


def _equal(left: Node, right: Node, column: str) -> Node:
    """Say what USING says; only two tables side by side are understood."""
    sides = [
        {"class": "COLUMN_REF", "column_names": [side["alias"] or side["table_name"], column]} for side in (left, right)
    ]
    return {"type": "COMPARE_EQUAL", "left": sides[0], "right": sides[1]}


def _all_belong(expression: Node, relation: _Relation, relations: Sequence[_Relation]) -> bool:
    references = [node for node in _walk(expression) if node.get("class") == "COLUMN_REF"]
    return bool(references) and all(_belongs(one, relation, relations) for one in references)


def _belongs(node: Node, relation: _Relation, relations: Sequence[_Relation]) -> bool:
    """Tell whether an expression is a column of one relation, as far as can be known for certain."""
    if node.get("class") != "COLUMN_REF":
        return False
    *qualifier, column = (name.lower() for name in node["column_names"])
    if qualifier:
        return qualifier == [relation.alias]
    # Were it a column of a subquery too, DuckDB would refuse the statement as ambiguous.
    return [one for one in relations if column in (one.columns or ())] == [relation]
