"""Which keys of a record table a statement can use, so that a join with ten predictions fetches ten artifacts.

DuckDB passes constant filters on to a table that it is handed, but not what it learns while joining. The statement is
read here as DuckDB's own parser sees it: where a record table is joined to another relation by a key, that relation is
asked first, alone and with its own conditions, and only rows with the keys that it gives are fetched. What is not
understood fetches every row: slower, and the same answer.
"""

from __future__ import annotations

import json
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
    except (duckdb.Error, KeyError, IndexError, TypeError, ValueError):
        return


@dataclass(frozen=True, slots=True)
class _Relation:
    """A table or subquery within a FROM clause, and the conditions that a row of it must meet to matter."""

    node: Node
    alias: str
    columns: Sequence[str] | None
    conditions: list[Node]


@dataclass(frozen=True, slots=True)
class _Use:
    """The only place where a statement names a record table."""

    table: str
    relation: _Relation
    others: list[_Relation]


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

    def uses(self) -> Iterator[_Use]:
        """Give the record tables that are named once."""
        named = [node["table_name"].lower() for node in self.nodes if node.get("type") == "BASE_TABLE"]
        for select in self.nodes:
            if select.get("type") != "SELECT_NODE" or not select.get("from_table"):
                continue
            relations = list(_relations(select["from_table"], _conjuncts(select.get("where_clause"))))
            for relation in relations:
                table = relation.node.get("table_name", "").lower()
                if table in RECORD_TABLES and named.count(table) == 1:
                    yield _Use(table, relation, [other for other in relations if other is not relation])

    def keys_of(self, use: _Use) -> tuple[str, list[Any]] | None:
        """Ask what the table is joined to for keys; None when nothing narrows it down."""
        for condition in use.relation.conditions:
            found = self._from_subquery(use, condition) or self._from_join(use, condition)
            if found is not None:
                return found
        return None

    def _from_subquery(self, use: _Use, condition: Node) -> tuple[str, list[Any]] | None:
        if condition.get("subquery_type") != "ANY" or condition.get("comparison_type") != "COMPARE_EQUAL":
            return None
        column = self._key_column(use, condition["child"])
        if column is None:
            return None
        start = self._start_of(condition["subquery"]["node"])
        end = condition["query_location"] + condition["query_location_length"]
        text = self.text[start:end].decode().rstrip().removesuffix(")")
        return self._ask(column, f"SELECT * FROM ({text})", [(start, end)])

    def _from_join(self, use: _Use, condition: Node) -> tuple[str, list[Any]] | None:
        if condition.get("type") != "COMPARE_EQUAL":
            return None
        for mine, theirs in ((condition["left"], condition["right"]), (condition["right"], condition["left"])):
            column = self._key_column(use, mine)
            other = next((one for one in use.others if _belongs(theirs, one, [use.relation, *use.others])), None)
            if column is None or other is None:
                continue
            own = [one for one in use.relation.conditions if self._only_of(one, other, [use.relation, *use.others])]
            named = other.node.get("table_name", "").lower()
            if named in RECORD_TABLES and named not in self.narrowed and not own:
                continue  # all of a large table would have to be read for its keys
            where = f" WHERE {' AND '.join(f'({self._text(one)})' for one in own)}" if own else ""
            sql = f"SELECT DISTINCT {self._text(theirs)} FROM {self._text(other.node)}{where}"
            return self._ask(column, sql, [_span(one) for one in (other.node, *own)])
        return None

    def _ask(self, column: str, sql: str, spans: list[tuple[int, int]]) -> tuple[str, list[Any]] | None:
        end_of_with = self._start_of(self.tree)
        ctes = self.text[:end_of_with].decode()
        placed = [
            node for start, end in [(0, end_of_with), *spans] for node in self.nodes
            if node.get("class") == "PARAMETER" and start <= node["query_location"] < end
        ]  # fmt: skip
        names = [node["identifier"] for node in placed]
        if isinstance(self.parameters, Mapping):
            values: Any = {name: self.parameters[name] for name in names}
        elif b"$" in self.text:
            return None
        else:
            values = [self.parameters[int(name) - 1] for name in names]
        rows = self.cursor.execute(f"FROM ({ctes}{sql}) LIMIT {_MOST_KEYS + 1}", values).fetchall()
        return None if len(rows) > _MOST_KEYS else (column, [row[0] for row in rows if row[0] is not None])

    def _text(self, node: Node) -> str:
        start, end = _span(node)
        return self.text[start:end].decode() if end else ".".join(map(quoted, node["column_names"]))

    def _key_column(self, use: _Use, node: Node) -> str | None:
        if not _belongs(node, use.relation, [use.relation, *use.others]):
            return None
        column: str = node["column_names"][-1].lower()
        return column if column in RECORD_TABLES[use.table].keys else None

    def _only_of(self, condition: Node, relation: _Relation, relations: list[_Relation]) -> bool:
        parts = list(_walk(condition))
        references = [part for part in parts if part.get("class") == "COLUMN_REF"]
        subqueries = any(part.get("class") == "SUBQUERY" for part in parts)
        return not subqueries and bool(references) and all(_belongs(one, relation, relations) for one in references)

    def _start_of(self, select: Node) -> int:
        first = min(node["query_location"] for node in _walk(select["select_list"]) if "query_location" in node)
        return self.text[:first].lower().rindex(b"select")


def _walk(node: Any) -> Iterator[Node]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)


def _conjuncts(condition: Node | None) -> list[Node]:
    if not condition:
        return []
    if condition.get("type") == "CONJUNCTION_AND":
        return [part for child in condition["children"] for part in _conjuncts(child)]
    return [condition]


_HOLDS_FOR = {
    "INNER": (True, True),
    "LEFT": (False, True),
    "RIGHT": (True, False),
    "SEMI": (True, True),
    "ANTI": (False, True),
}
"""Whether only rows that meet the condition of a join matter, of its left and of its right side."""


def _relations(node: Node, conditions: list[Node]) -> Iterator[_Relation]:
    if node["type"] != "JOIN":
        name = node.get("table_name", "").lower()
        yield _Relation(node, (node["alias"] or name).lower(), TABLES.get(name), conditions)
        return
    left, right = _HOLDS_FOR.get(node["join_type"], (False, False))
    own = _conjuncts(node.get("condition"))
    if node.get("using_columns"):
        own = [_equal(node["left"], node["right"], column) for column in node["using_columns"]]
    if node.get("ref_type") not in ("REGULAR", "CROSS"):
        own = []
    yield from _relations(node["left"], [*conditions, *own] if left else conditions)
    yield from _relations(node["right"], [*conditions, *own] if right else conditions)


def _equal(left: Node, right: Node, column: str) -> Node:
    """Say what USING says; only two tables side by side are understood."""
    sides = [
        {"class": "COLUMN_REF", "column_names": [side["alias"] or side["table_name"], column]} for side in (left, right)
    ]
    return {"type": "COMPARE_EQUAL", "left": sides[0], "right": sides[1]}


def _belongs(node: Node, relation: _Relation, relations: Sequence[_Relation]) -> bool:
    """Tell whether an expression is a column of one relation, as far as can be known for certain."""
    if node.get("class") != "COLUMN_REF":
        return False
    *qualifier, column = (name.lower() for name in node["column_names"])
    if qualifier:
        return qualifier == [relation.alias]
    # Were it a column of a subquery too, DuckDB would refuse the statement as ambiguous.
    return [one for one in relations if column in (one.columns or ())] == [relation]


def _span(node: Node) -> tuple[int, int]:
    """Give where a part was written; (0, 0) for what USING says without writing it."""
    start = node.get("query_location", 0)
    return start, start + node.get("query_location_length", 0)
