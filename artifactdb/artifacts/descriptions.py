"""Whether what records say is the same by whichever way it is asked: read, looked up, or followed.

A record is found by an index and by its parameters one by one, and read as JSON. In a file that somebody made up these
may say different things, of which a signature covers one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from artifactdb.artifacts import environment, parameters
from artifactdb.artifacts.dependencies import sources_first
from artifactdb.chain import compute_chain_hash
from artifactdb.database import Database, Snapshot
from artifactdb.errors import DependencyCycleError
from artifactdb.ids import is_id_of_chain

_AT_ONCE = 1000
_INDEXED = """
SELECT DISTINCT tbl_name FROM sqlite_schema
WHERE type = 'index' AND tbl_name NOT IN ('chunks', 'catalog_payloads', 'staged_arrays', 'staged_predictions')
ORDER BY tbl_name
"""
"""All but those that hold content, of which a check would read all."""
_PARAMETERS = "SELECT parameter_set_key, parameters FROM parameter_sets ORDER BY parameter_set_key"
_VALUES = """
SELECT parameter_set_key, name, value FROM parameter_values
WHERE parameter_set_key IN (SELECT value FROM json_each(?))
"""
_CHAINS = """
SELECT r.artifact_id, c.chain_path, c.chain_hash FROM records AS r JOIN chains AS c ON c.chain_key = r.chain_key
"""
_USERS = "SELECT artifact_id FROM records WHERE {} = ? ORDER BY artifact_id"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: ``where`` names the blob, the artifact or the file."""

    where: str
    what: str
    artifact_ids: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return {"where": self.where, "what": self.what, "artifact_ids": list(self.artifact_ids)}


def check_indexes(database: Database) -> list[Problem]:
    """Compare the indexes by which records are found with the rows that they lead to."""
    return [
        Problem(f"table {table}", message)
        for (table,) in database.rows(_INDEXED)
        for (message,) in database.rows(f"PRAGMA integrity_check({table})")
        if message != "ok"
    ]


def check(database: Database) -> list[Problem]:
    """Compare texts with what is looked up of them, ids with chains, and follow what depends on what."""
    with database.snapshot() as state:
        problems = [*_parameters(database, state), *_texts(database, state), *_chains(state)]
        edges: dict[int, list[int]] = {}
        for batch in state.batches("SELECT record_key, source_key FROM record_sources"):
            for record, source in batch:
                edges.setdefault(record, []).append(source)
    try:
        sources_first(database, edges)
    except DependencyCycleError as error:
        problems.append(Problem(error.cycle[0], error.message, tuple(dict.fromkeys(error.cycle))))
    return problems


def _parameters(database: Database, state: Snapshot) -> Iterator[Problem]:
    for batch in state.batches(_PARAMETERS, (), _AT_ONCE):
        found: dict[int, list[tuple[str, Any]]] = {key: [] for key, _ in batch}
        for key, name, value in state.rows(_VALUES, (json.dumps(list(found)),)):
            found[key].append((name, value))
        for key, text in batch:
            wrong = _is_not_ours(text, _parameters_json)
            if not wrong:
                said = list(parameters.values(text))
                if len(found[key]) != len(said) or set(found[key]) != set(said):
                    wrong = "its parameters one by one, by which it is found, are not those of the set"
            if wrong:
                yield Problem(f"parameter set {key}", wrong, _users(database, "parameter_set_key", key))


def _texts(database: Database, state: Snapshot) -> Iterator[Problem]:
    for key, text in state.rows("SELECT environment_key, versions FROM environments"):
        if wrong := _is_not_ours(text, environment.to_json):
            yield Problem(f"environment {key}", wrong, _users(database, "environment_key", key))
    for batch in state.batches("SELECT artifact_id, meta_config FROM records WHERE meta_config NOT NULL"):
        for artifact_id, text in batch:
            if wrong := _is_not_ours(text, json.dumps):
                yield Problem(artifact_id, wrong, (artifact_id,))


def _chains(state: Snapshot) -> Iterator[Problem]:
    for batch in state.batches(_CHAINS):
        for artifact_id, path, digest in batch:
            if not is_chain_of(artifact_id, path, digest):
                yield Problem(artifact_id, f"its chain {path} has the hash {digest}", (artifact_id,))


def is_chain_of(artifact_id: str, path: str, digest: str) -> bool:
    """Tell whether a chain is what its hash says, and the id of the record."""
    return digest == compute_chain_hash(path) and is_id_of_chain(artifact_id, path)


def _is_not_ours(text: str, to_json: Callable[[Any], str]) -> str:
    """Say what is wrong with JSON that artifactdb would write otherwise: readers differ over a name given twice."""
    try:
        value = json.loads(text)
        if isinstance(value, dict) and to_json(value) == text:
            return ""
    except (ValueError, RecursionError):
        pass
    return "its JSON is not as artifactdb writes it: what it says depends on who reads it"


def _parameters_json(value: Any) -> str:
    """Give parameters that are JSON already as ``parameters.to_json`` does, which would shorten what is long."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _users(database: Database, column: str, key: int) -> tuple[str, ...]:
    return tuple(artifact_id for (artifact_id,) in database.rows(_USERS.format(column), (key,)))
