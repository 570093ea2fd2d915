"""Who signed what, and what happened to records, goes along with the records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from artifactdb.artifacts import history
from artifactdb.artifacts.find import KEPT, from_json
from artifactdb.artifacts.save import INSERT_SIGNATURE, key_of_signer
from artifactdb.database import Database, Snapshot
from artifactdb.transfer.keys import AT_ONCE, Keys
from artifactdb.trust import signing

_RECORDS = """
SELECT r.artifact_id, 'sha256:' || lower(hex(b.content_hash)), r.format FROM records AS r
JOIN blobs AS b ON b.blob_key = r.blob_key
"""
_OF = """
SELECT statement, signer_key, signature FROM signatures
WHERE statement IN (SELECT unhex(value) FROM json_each(?)) ORDER BY statement, signer_key
"""
_REST = "happened_at, actor_key, act, artifact_id, details"
_IN_ORDER = "ORDER BY record_key, event_index"
_OF_RECORDS = f"""
SELECT record_key, {_REST} FROM history
WHERE record_key IN (SELECT value FROM json_each(?)) AND record_key > 0 {_IN_ORDER}
"""
_OF_THE_REST = f"""
SELECT record_key, {_REST} FROM history WHERE record_key = 0 OR record_key IN (
  SELECT record_key FROM history AS gone WHERE artifact_id IS NOT NULL AND record_key > 0
    AND NOT EXISTS (SELECT 1 FROM records WHERE record_key = gone.record_key))
{_IN_ORDER}
"""
_WHOLE = ("signed_at", "contents", "size_bytes", "root", "signature")


def take_signers(source: Snapshot, target: Database, keys: Keys) -> None:
    """Take in who signed."""
    for key, *columns in source.rows("SELECT signer_key, scheme, key_id, material, name FROM signers ORDER BY 1"):
        keys.signers[key] = key_of_signer(target, *columns)


def take_signatures(source: Snapshot, target: Database, keys: Keys) -> None:
    """Take in the signatures that anyone can check, of what there is in the source and of nothing else."""
    if not source.rows("SELECT 1 FROM signatures LIMIT 1"):
        return
    for batch in _statements(source):
        said = {hashlib.sha256(text).digest(): text for text in batch}
        chosen = json.dumps([statement.hex() for statement in said])
        theirs = [
            (statement, keys.signers[key], signature) for statement, key, signature in source.rows(_OF, (chosen,))
        ]
        ours = {(statement, key): signature for statement, key, signature in target.rows(_OF, (chosen,))}
        taken = [
            (statement, key, signature)
            for statement, key, signature in theirs
            if (statement, key) not in ours or _is_better(target, key, said[statement], signature, ours[statement, key])
        ]
        target.run_many(INSERT_SIGNATURE, taken)


def _statements(source: Snapshot) -> Iterator[list[bytes]]:
    """Give what there is to sign, of records and of what the library keeps."""
    for batch in source.batches(_RECORDS, (), AT_ONCE):
        yield [signing.statement(*row) for row in batch]
    for batch in source.batches(KEPT, (), AT_ONCE):
        kept = [(from_json(text), content_hash) for text, content_hash in batch]
        yield [signing.statement(record.artifact_id, content_hash, record.format) for record, content_hash in kept]


def _is_better(target: Database, signer_key: int | None, said: bytes, theirs: bytes, ours: bytes) -> bool:
    """Tell whether a signature is right where the one that is there is not: anybody can write one in a name."""
    if theirs == ours or find_spec("cryptography") is None:
        return False
    from artifactdb.trust.team_keys import is_right

    material = target.value("SELECT material FROM signers WHERE signer_key = ?", (signer_key,))
    return is_right(material, theirs, said) and not is_right(material, ours, said)


def take_history(source: Snapshot, target: Database, keys: Keys, new: Sequence[int]) -> None:
    """Take in what happened to records that are new here, by their keys in the source."""
    for first in range(0, len(new), AT_ONCE):
        batches = source.batches(_OF_RECORDS, (json.dumps(new[first : first + AT_ONCE]),), AT_ONCE)
        _take_events(source, target, batches, keys.records.__getitem__)


def take_rest_of_history(source: Snapshot, target: Database) -> None:
    """Take in what happened to the workspace as a whole and to records that are gone, for a copy of that workspace."""
    new_keys = history.new_keys(target)
    batches = source.batches(_OF_THE_REST, (), AT_ONCE)
    _take_events(source, target, batches, lambda key: next(new_keys) if key else history.WORKSPACE)


def _take_events(
    source: Snapshot, target: Database, batches: Iterable[list[tuple[Any, ...]]], key_in_target: Callable[[int], int]
) -> None:
    """Write events down that come in order, those of each record counted from 0: theirs may be made-up numbers."""
    actors: dict[int, int] = {}
    of, key, index = -1, 0, 0
    for batch in batches:
        events = []
        for record, happened_at, actor, act, artifact_id, details in batch:
            if record != of:
                of, key, index = record, key_in_target(record), 0
            if actor not in actors:
                (who,) = source.rows("SELECT user, host, process, version FROM actors WHERE actor_key = ?", (actor,))
                actors[actor] = history.key_of_actor(target, who)
            events.append((key, index, happened_at, actors[actor], act, artifact_id, details))
            index += 1
        history.insert_many(target, events)


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


def note_arrival(
    target: Database, keys: Keys, new: Sequence[int], replaced: Sequence[int], signed: Sequence[int], source: str
) -> None:
    """Write down that a merge took place, which records came in with it, or a signature of them, and from where."""
    history.note(target, "merged", details={"from": source, "new": len(new), "replaced": len(replaced)})
    for act, chosen in (("merged", new), ("replaced", replaced), ("signed", signed)):
        history.note_many(target, act, [(keys.records[key], None, {"from": source}) for key in chosen])
