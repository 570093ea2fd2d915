"""What happened to the workspace: who added, replaced, deleted, trusted, packed and merged what, and when.

Each event is written in the transaction of the act. Nothing here, or anywhere else, changes or deletes one. It is
what the processes said of themselves: with a file of somebody else's it is a claim, where a signature is a proof.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from artifactdb.database import Database
from artifactdb.database.translate import interprets
from artifactdb.version import __version__

WORKSPACE = 0
"""Stands for the workspace as a whole, where a record's key is meant otherwise."""

_NEW = "INSERT INTO history (record_key, event_index, happened_at, actor_key, act) VALUES (?, 0, ?, ?, ?)"
_FURTHER = """
INSERT INTO history (record_key, event_index, happened_at, actor_key, act, artifact_id, details)
VALUES (?1, (SELECT coalesce(max(event_index) + 1, 0) FROM history WHERE record_key = ?1), ?2, ?3, ?4, ?5, ?6)
"""
OF_ARTIFACT = """
SELECT happened_at, act, ?1, user, host, process, version, details FROM history JOIN actors USING (actor_key)
WHERE record_key IN (
  SELECT record_key FROM records WHERE artifact_id = ?1 UNION SELECT record_key FROM history WHERE artifact_id = ?1)
ORDER BY record_key, event_index
"""
OF_ALL = """
SELECT happened_at, act, artifact_id, user, host, process, version, details FROM events
ORDER BY happened_at DESC LIMIT ?
"""


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
    user, host, process, version : str
        Who did it: account, machine, number of the process, artifactdb's version.
    details : dict
    """

    happened_at: str
    act: str
    artifact_id: str
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
    sql = "SELECT actor_key FROM actors WHERE user = ? AND host = ? AND process = ? AND version = ?"
    return database.value(sql, columns) or database.insert(
        "INSERT INTO actors (user, host, process, version) VALUES (?, ?, ?, ?)", columns
    )


def note_new(database: Database, record_key: int, actor: int, act: str) -> None:
    """Write down that a record is new."""
    database.rows(_NEW, (record_key, now(), actor, act))


def note(database: Database, act: str, record_key: int = WORKSPACE, details: Mapping[str, Any] | None = None) -> None:
    """Write down what happened to a record, or to the workspace as a whole."""
    note_many(database, act, [(record_key, None, details)])


def note_many(
    database: Database, act: str, happened: Iterable[tuple[int, str | None, Mapping[str, Any] | None]]
) -> None:
    """Write down one act on several records: key, id if the record will be gone, and details of each."""
    actor, time = key_of_actor(database), now()
    rows = [
        (key, time, actor, act, artifact_id, None if details is None else json.dumps(details, ensure_ascii=False))
        for key, artifact_id, details in happened
    ]
    database.run_many(_FURTHER, rows)


def of_artifact(database: Database, artifact_id: str) -> list[Event]:
    """Give what happened to the artifacts of an id, those that were deleted included, oldest first."""
    return [_event(row) for row in database.rows(OF_ARTIFACT, (artifact_id,))]


def latest(database: Database, limit: int) -> list[Event]:
    """Give what happened last, newest first."""
    return [_event(row) for row in database.rows(OF_ALL, (limit,))]


@interprets
def _event(row: Sequence[Any]) -> Event:
    happened_at, act, artifact_id, user, host, process, version, details = row
    found = json.loads(details) if details else {}
    if not isinstance(found, dict):
        raise TypeError("an event with details of another kind")
    return Event(happened_at, act, artifact_id or "", user, host, process, version, found)


def now() -> str:
    """Give the time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat()
