"""What happened to the workspace: who added, replaced, deleted, trusted, packed and merged what, and when.

Each event is written in the transaction of the act. Nothing here, or anywhere else, changes or deletes one. It is
what the processes said of themselves: with a file of somebody else's it is a claim, where a signature is a proof.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from artifactdb.database import Database
from artifactdb.database.keys import last_key_of
from artifactdb.database.row_checks import row_check
from artifactdb.database.state import Row
from artifactdb.database.translate import interprets
from artifactdb.errors import CorruptWorkspaceError
from artifactdb.version import __version__

WORKSPACE = 0
"""Stands for the workspace as a whole, where a record's key is meant otherwise."""

_COLUMNS = "record_key, event_index, happened_at, actor_key, act, artifact_id, details"
_INSERT = f"INSERT INTO history ({_COLUMNS}, row_check) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
"""SQLite tells nobody of the rows of this table, so their checks are written with them."""
_LAST_INDEX = (1 << 63) - 1
_LAST_EVENTS = f"""
SELECT record_key, max(event_index) FROM history
WHERE record_key IN (SELECT value FROM json_each(?)) AND event_index BETWEEN 0 AND {_LAST_INDEX}
GROUP BY record_key
"""
_AT_ONCE = 2000
_FURTHER = f"""
INSERT INTO history ({_COLUMNS}, row_check)
SELECT ?1, next_index, ?2, ?3, ?4, ?5, ?6, row_check(?1, next_index, ?2, ?3, ?4, ?5, ?6) FROM (
  SELECT CASE max(event_index) WHEN {_LAST_INDEX} THEN (
    SELECT min(i) + 1 FROM (
      SELECT -1 AS i UNION ALL
      SELECT event_index FROM history WHERE record_key = ?1 AND event_index BETWEEN 0 AND {_LAST_INDEX - 1}
    ) WHERE NOT EXISTS (SELECT 1 FROM history WHERE record_key = ?1 AND event_index = i + 1)
  ) ELSE coalesce(max(event_index) + 1, 0) END AS next_index FROM history WHERE record_key = ?1 AND event_index >= 0)
"""
"""Where a made-up file holds the last index that there is, the first one that is free."""
_NEXT_KNOWN = f"SELECT min(record_key) FROM history WHERE record_key > ? AND record_key <= {_LAST_INDEX}"
"""The limit leaves out what is no number, which a made-up file may hold, and which is above every number."""
_LAST_KEY = f"""
SELECT last, ({_NEXT_KNOWN.replace("?", "last")}) AS next_known FROM (
  SELECT max(0, {last_key_of("records")}) AS last)
"""
FREE_KEY = f"""
SELECT last + 1 FROM ({_LAST_KEY}) WHERE next_known IS NULL AND last < {_LAST_INDEX}
"""
"""The first of ``new_keys`` in one look, NULL where it takes more."""
_EVENTS = """
SELECT
  h.happened_at, h.act, coalesce(r.artifact_id, h.artifact_id, gone.artifact_id),
  coalesce(d.name, CASE WHEN json_valid(gone.details) THEN gone.details ->> '$.dataset' END) AS dataset,
  a.user, a.host, a.process, a.version, h.details
FROM history AS h
JOIN actors AS a ON a.actor_key = h.actor_key
LEFT JOIN records AS r ON r.record_key = h.record_key AND h.record_key > 0
LEFT JOIN datasets AS d ON d.dataset_key = r.dataset_key
LEFT JOIN history AS gone ON r.record_key IS NULL AND gone.record_key = h.record_key AND h.record_key > 0
  AND gone.event_index = (SELECT max(event_index) FROM history WHERE record_key = h.record_key)
"""
"""The last event of a record that is gone says what it was."""
_OF_ARTIFACT = f"""{_EVENTS}
WHERE h.record_key IN (
  SELECT record_key FROM records WHERE artifact_id = ?1 AND record_key > 0
  UNION SELECT record_key FROM history AS deleted WHERE artifact_id = ?1 AND record_key > 0
    AND NOT EXISTS (SELECT 1 FROM records WHERE record_key = deleted.record_key))
AND (?2 IS NULL OR dataset IS NULL OR dataset = ?2)
"""
OF_ARTIFACT = f"{_OF_ARTIFACT} ORDER BY h.record_key, h.event_index"
LAST_OF_ARTIFACT = f"{_OF_ARTIFACT} ORDER BY h.happened_at DESC LIMIT 1"
OF_ALL = f"{_EVENTS} WHERE ?1 IS NULL OR dataset = ?1 ORDER BY h.happened_at DESC LIMIT ?2"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Parameters
    ----------
    happened_at : str
        ISO 8601, UTC.
    act : str
        added, imported, merged, replaced, deleted, trusted, signed, packed, ...
    artifact_id : str
        "" for the workspace as a whole.
    dataset : str
        "" for the workspace as a whole, and where nobody wrote down which it was.
    user, host, process, version : str
        Who did it: account, machine, number of the process, artifactdb's version.
    details : dict
    """

    happened_at: str
    act: str
    artifact_id: str
    dataset: str
    user: str
    host: str
    process: str
    version: str
    details: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return asdict(self)


def this_actor() -> tuple[str, str, str, str]:
    """Give the columns of this process in ``actors``."""
    return (*_account(), str(os.getpid()), __version__)


@cache
def _account() -> tuple[str, str]:
    try:
        import pwd

        user = pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        user = os.environ.get("USERNAME", "")  # Windows; or a container's number without a name
    return user, socket.gethostname()


def key_of_actor(database: Database, actor: Sequence[str] | None = None) -> int:
    """Give the key of an actor, new or not; of this process without one."""
    columns = actor or this_actor()
    found = database.value(
        "SELECT actor_key FROM actors WHERE user = ? AND host = ? AND process = ? AND version = ?", columns
    )
    if found is not None:
        return int(found)
    return database.insert("INSERT INTO actors (user, host, process, version) VALUES (?, ?, ?, ?)", columns)


def new_keys(database: Database) -> Iterator[int]:
    """Give keys for new records, which no record has and no event: what happened to others is not theirs.

    A packed file has events of records that are gone; a made-up one may have events of records that are yet to come.

    Raises
    ------
    CorruptWorkspaceError
        When a made-up file has used them up.
    """
    last, known = database.rows(_LAST_KEY)[0]
    while True:
        while known is None or last + 1 < known:
            if last >= _LAST_INDEX:
                raise CorruptWorkspaceError(
                    f"{database.path} has no number left for another record: somebody gave the last one away.",
                    hint="`artifactdb pack` writes a new file, which counts from 1 again.",
                )
            last += 1
            yield last
        last, known = known, database.value(_NEXT_KNOWN, (known,))


def note_new(database: Database, record_key: int, actor: int, act: str, happened_at: str) -> None:
    """Write down that a record is new, with a key that ``new_keys`` gave."""
    insert_many(database, [(record_key, 0, happened_at, actor, act, None, None)])


def note(database: Database, act: str, record_key: int = WORKSPACE, details: Mapping[str, Any] | None = None) -> None:
    """Write down what happened to a record, or to the workspace as a whole."""
    note_many(database, act, [(record_key, None, details)])


def note_many(
    database: Database, act: str, happened: Iterable[tuple[int, str | None, Mapping[str, Any] | None]]
) -> None:
    """Write down one act on several records: key, id if the record will be gone, and details of each."""
    with database.transaction():
        actor, time = key_of_actor(database), now()
        rows = [
            (key, time, actor, act, artifact_id, None if details is None else json.dumps(details, ensure_ascii=False))
            for key, artifact_id, details in happened
        ]
        for first in range(0, len(rows), _AT_ONCE):
            several = rows[first : first + _AT_ONCE]
            last: dict[int, int] = dict(database.rows(_LAST_EVENTS, (json.dumps([row[0] for row in several]),)))
            new: list[Row] = []
            for row in several:
                last[row[0]] = last.get(row[0], -1) + 1
                new.append((row[0], last[row[0]], *row[1:]))
            if max(last.values()) > _LAST_INDEX:
                database.run_many(_FURTHER, several)
            else:
                insert_many(database, new)


def insert_many(database: Database, events: Iterable[Row]) -> None:
    """Write events down: key and index, time, actor, act, id if the record will be gone, and details as JSON."""
    database.run_many(_INSERT, [(*event, row_check(*event)) for event in events])


def of_artifact(database: Database, artifact_id: str, dataset: str | None = None) -> list[Event]:
    """Give what happened to the artifacts of an id, those that were deleted included, oldest first.

    With a dataset, of those in it, and of those of which nobody wrote down where they were.
    """
    return [_event(row) for row in database.rows(OF_ARTIFACT, (artifact_id, dataset))]


def last_of_artifact(database: Database, artifact_id: str, dataset: str) -> Event | None:
    """Give what happened last to an artifact."""
    row = database.row(LAST_OF_ARTIFACT, (artifact_id, dataset))
    return _event(row) if row else None


def latest(database: Database, limit: int, dataset: str | None = None) -> list[Event]:
    """Give what happened last, newest first; with a dataset, to the artifacts in it."""
    return [_event(row) for row in database.rows(OF_ALL, (dataset, limit))]


@interprets
def _event(row: Sequence[Any]) -> Event:
    happened_at, act, artifact_id, dataset, user, host, process, version, details = row
    found = json.loads(details) if details else {}
    if not isinstance(found, dict):
        raise TypeError("an event with details of another kind")
    return Event(happened_at, act, artifact_id or "", str(dataset or ""), user, host, process, version, found)


def now() -> str:
    """Give the time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat()
