"""Who signed what, and what happened to records, goes along with the records."""

from __future__ import annotations

import json
from collections.abc import Sequence

from artifactdb.artifacts import history
from artifactdb.artifacts.save import key_of_signer
from artifactdb.database import Database, Snapshot
from artifactdb.transfer.keys import AT_ONCE, Keys

_HISTORY = """
SELECT record_key, event_index, happened_at, actor_key, act, artifact_id, details FROM history
WHERE record_key IN (SELECT value FROM json_each(?)) ORDER BY record_key, event_index
"""
_WHOLE = ("signed_at", "contents", "size_bytes", "root", "signature")


def take_signers(source: Snapshot, target: Database, keys: Keys) -> None:
    """Take in signers, and the signatures that anyone can check."""
    for key, *columns in source.rows("SELECT signer_key, scheme, key_id, material, name FROM signers ORDER BY 1"):
        keys.signers[key] = key_of_signer(target, *columns)
    for batch in source.batches("SELECT statement, signer_key, signature FROM signatures", (), AT_ONCE):
        target.run_many(
            "INSERT OR IGNORE INTO signatures (statement, signer_key, signature) VALUES (?, ?, ?)",
            [(statement, keys.signers[key], signature) for statement, key, signature in batch],
        )


def take_history(source: Snapshot, target: Database, keys: Keys, new: Sequence[int]) -> None:
    """Take in what happened to records that are new here, by their keys in the source."""
    actors: dict[int, int] = {}
    for first in range(0, len(new), AT_ONCE):
        rows = source.rows(_HISTORY, (json.dumps(new[first : first + AT_ONCE]),))
        for actor in {row[3] for row in rows} - actors.keys():
            (columns,) = source.rows("SELECT user, host, process, version FROM actors WHERE actor_key = ?", (actor,))
            actors[actor] = history.key_of_actor(target, columns)
        target.run_many(
            "INSERT INTO history (record_key, event_index, happened_at, actor_key, act, artifact_id, details) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(keys.records[row[0]], *row[1:3], actors[row[3]], *row[4:]) for row in rows],
        )


def take_whole_signatures(source: Snapshot, target: Database, keys: Keys) -> None:
    """Take in the signatures over all records, for a target that holds these records and no others."""
    names = ", ".join(_WHOLE)
    target.run_many(
        f"INSERT INTO workspace_signatures (signer_key, {names}) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (keys.signers[key], *columns)
            for key, *columns in source.rows(
                f"SELECT signer_key, {names} FROM workspace_signatures ORDER BY workspace_signature_key"
            )
        ],
    )


def note_arrival(target: Database, keys: Keys, new: Sequence[int], replaced: Sequence[int], source: str) -> None:
    """Write down that a merge took place, which records came in with it, and from where."""
    history.note(target, "merged", details={"from": source, "new": len(new), "replaced": len(replaced)})
    for act, chosen in (("merged", new), ("replaced", replaced)):
        history.note_many(target, act, [(keys.records[key], None, {"from": source}) for key in chosen])
