"""The user says what of a stranger's file may be loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from artifactdb.artifacts import dependencies, find, history
from artifactdb.database import Database
from artifactdb.database.translate import interprets
from artifactdb.errors import InvalidValueError
from artifactdb.formats import is_data_only
from artifactdb.trust import remembered, signing, team_keys
from artifactdb.trust.team_keys import PublicKey

_ALL = """
SELECT DISTINCT 'sha256:' || lower(hex(b.content_hash)), r.format FROM records AS r
JOIN blobs AS b ON b.blob_key = r.blob_key
"""


@dataclass(frozen=True, slots=True)
class Trusted:
    """What was allowed, or no longer is.

    Attributes
    ----------
    artifacts : int
        Contents that run code when they are loaded, and were meant.
    new : int
        How many of them that made a difference to.
    key_id, name : str
        The key, if one was meant.
    """

    artifacts: int = 0
    new: int = 0
    key_id: str = ""
    name: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return asdict(self)


@interprets
def allow(
    database: Database,
    artifact_id: str | None,
    dataset: str | None,
    *,
    with_dependencies: bool = False,
    forget: bool = False,
) -> Trusted:
    """Allow the contents of one artifact or of all, library included; or no longer."""
    with database.reading():
        if artifact_id is None:
            contents = {(content, format) for content, format in database.rows(_ALL)}
            contents |= {(content, str(json.loads(text).get("format"))) for text, content in database.rows(find.KEPT)}
            keys = [history.WORKSPACE]
        else:
            record = find.require(database, artifact_id, dataset)
            records = [record]
            if with_dependencies:
                records += dependencies.transitive(database, record.record_key)
            contents = {(found.content_hash, found.format) for found in records}
            keys = [found.record_key for found in records]
    meant = sorted((content, format) for content, format in contents if not is_data_only(format))
    with _noted(database, keys, "distrusted" if forget else "trusted", {"contents": len(meant)}):
        new = remembered.forget(meant) if forget else remembered.allow(meant, database.path.name)
    return Trusted(len(meant), new)


def allow_signer(database: Database, key_id: str, name: str | None, *, forget: bool = False) -> Trusted:
    """Trust a key pair whose public key the file carries; or no longer."""
    if forget:
        with _noted(database, [history.WORKSPACE], "distrusted", {"key": key_id}):
            key = team_keys.forget(key_id)
        return Trusted(key_id=key.key_id, name=key.name)
    rows = database.rows("SELECT scheme, material, name FROM signers WHERE key_id = ?", (key_id,))
    keys = [PublicKey(own_name, material) for scheme, material, own_name in rows if scheme == team_keys.SCHEME]
    found = next((key for key in keys if key.key_id == key_id), None)
    if found is None and any(scheme == signing.SCHEME for scheme, *_ in rows):
        raise InvalidValueError(
            f"{key_id} is a user's own key: nobody else can check what it signed.",
            hint="Trust the file or an artifact of it instead, or let its user sign with `artifactdb sign`.",
        )
    if found is None:
        known = sorted({other for (other,) in database.rows("SELECT key_id FROM signers WHERE scheme = 'ed25519'")})
        there = f"It carries {', '.join(known)}." if known else "It carries no public key."
        raise InvalidValueError(f"{database.path.name} knows no signer {key_id[:80]!r}.", hint=there)
    key = PublicKey(team_keys.require_name(name or found.name), found.raw)
    with _noted(database, [history.WORKSPACE], "trusted", {"key": key.key_id, "name": key.name}):
        team_keys.trust(key)
    return Trusted(key_id=key.key_id, name=key.name)


@contextmanager
def _noted(database: Database, keys: list[int], act: str, details: dict[str, Any]) -> Iterator[None]:
    """Write down what the block makes the user's memory hold; first, so that what is remembered raises nothing more."""
    if database.mode == "ro":
        yield  # the user remembers, the file cannot
        return
    with database.transaction():
        history.note_many(database, act, [(key, None, details) for key in keys])
        yield
