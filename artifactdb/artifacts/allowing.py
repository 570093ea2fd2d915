"""The user says what of a stranger's file may be loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from artifactdb.artifacts import dependencies, find, history
from artifactdb.database import Database
from artifactdb.database.translate import interprets
from artifactdb.errors import ArtifactNotFoundError, InvalidValueError, ReadOnlyError
from artifactdb.formats import is_data_only
from artifactdb.records import ArtifactRecord
from artifactdb.trust import remembered, signing, team_keys
from artifactdb.trust.pickles.report import printable
from artifactdb.trust.team_keys import PublicKey

_ALL = """
SELECT DISTINCT 'sha256:' || lower(hex(b.content_hash)), r.format FROM records AS r
JOIN blobs AS b ON b.blob_key = r.blob_key
"""
_OF_DATASET = """
SELECT r.record_key, 'sha256:' || lower(hex(b.content_hash)), r.format FROM records AS r
JOIN blobs AS b ON b.blob_key = r.blob_key
WHERE r.dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?)
"""
_OF_CONTENT = """
SELECT r.record_key, r.format FROM records AS r JOIN blobs AS b ON b.blob_key = r.blob_key WHERE b.content_hash = ?
"""
_SIGNED = f"""
SELECT r.artifact_id, 'sha256:' || lower(hex(b.content_hash)), r.format, {signing.SIGNATURE_TEXT} FROM records AS r
JOIN blobs AS b ON b.blob_key = r.blob_key JOIN signers AS g ON g.signer_key = r.signer_key
WHERE ?1 IS NULL OR r.record_key IN (SELECT value FROM json_each(?1))
"""
_DIGITS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Trusted:
    """What was allowed, or no longer is.

    Attributes
    ----------
    artifacts : int
        Contents that run code when they are loaded, and were meant.
    own : int
        How many artifacts of them the user signed: those load in any case.
    new : int
        How many of them that made a difference to.
    key_id, name : str
        The key, if one was meant.
    """

    artifacts: int = 0
    new: int = 0
    own: int = 0
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
    content: str | None = None,
    format: str | None = None,
    forget: bool = False,
) -> Trusted:
    """Allow the contents of one artifact, one content, a dataset, or all, library included; or no longer."""
    details: dict[str, Any] = {}
    of_dataset = None
    with database.reading():
        if content is not None:
            contents, keys = _of_content(database, content, format)
        elif artifact_id is None and dataset is not None:
            contents, of_dataset = _of_dataset(database, dataset)
            keys, details = [history.WORKSPACE], {"dataset": dataset}
        elif artifact_id is None:
            contents = {(found, how) for found, how in database.rows(_ALL)} | _kept(database)
            keys = [history.WORKSPACE]
        else:
            record = find.require(database, artifact_id, dataset)
            records = [record]
            if with_dependencies:
                records += dependencies.transitive(database, record.record_key)
            contents = {(found.content_hash, found.format) for found in records}
            keys = [found.record_key for found in records]
        own = _count_own(database, keys if of_dataset is None else of_dataset) if forget else 0
    meant = sorted((found, how) for found, how in contents if not is_data_only(how))
    data = sorted((found, how) for found, how in contents if is_data_only(how))  # loads in any case; to be signed
    with _noted(database, keys, "distrusted" if forget else "trusted", {"contents": len(meant), **details}):
        new, _ = [
            remembered.forget(several) if forget else remembered.allow(several, database.path.name)
            for several in (meant, data)
        ]
    return Trusted(len(meant), new, own)


def _count_own(database: Database, keys: list[int]) -> int:
    """Count the records, of all or of some, that the user signed: it is not by a memory that those are trusted."""
    chosen = None if keys == [history.WORKSPACE] else json.dumps(keys)
    return sum(
        signing.is_own(database, ArtifactRecord(row[0], row[1], format=row[2], signature=row[3]))
        for row in database.rows(_SIGNED, (chosen,))
        if not is_data_only(row[2])
    )


def _of_dataset(database: Database, dataset: str) -> tuple[set[tuple[str, str]], list[int]]:
    """Give the contents of a dataset, what the library keeps of it included, and the keys of its records."""
    rows = database.rows(_OF_DATASET, (dataset,))
    contents = {(found, how) for _, found, how in rows} | _kept(database, dataset=dataset)
    if not contents:
        raise ArtifactNotFoundError(
            f"{database.path.name} has nothing of the dataset {dataset[:100]!r}.",
            hint="`artifactdb ls` lists them.",
        )
    return contents, [key for key, *_ in rows]


def _of_content(database: Database, content: str, format: str | None) -> tuple[set[tuple[str, str]], list[int]]:
    """Give a content with how it is read, and the keys of the records that have it."""
    digits = content.removeprefix("sha256:").lower() if isinstance(content, str) else ""
    if not _DIGITS.fullmatch(digits):
        raise InvalidValueError(f"{str(content)[:100]!r} is no content hash.", hint="It is sha256: and 64 hex digits.")
    name = f"sha256:{digits}"
    digest = bytes.fromhex(digits)
    rows = database.rows(_OF_CONTENT, (digest,))
    formats = {how for _, how in rows} | {how for _, how in _kept(database, digest)}
    if format is not None:
        formats &= {format}
    if not formats:
        read = f" to be read as {format[:50]}" if format else ""
        raise ArtifactNotFoundError(
            f"{database.path.name} has no artifact of the content {name}{read}.", hint="`artifactdb ls` lists them."
        )
    if len(formats) > 1:
        # The same bytes can be harmless in one and not in another.
        raise InvalidValueError(f"{name} is there as {', '.join(sorted(formats))}.", hint="Say which one with format=.")
    return {(name, how) for how in formats}, [key for key, how in rows if how in formats] or [history.WORKSPACE]


def _kept(database: Database, digest: bytes | None = None, dataset: str | None = None) -> set[tuple[str, str]]:
    """Give the contents that the library keeps, or one of them, or those of a dataset, each with how it is read."""
    rows = database.rows(f"{find.KEPT} WHERE ?1 IS NULL OR b.content_hash = ?1", (digest,))
    kept = [(found, find.from_json(text)) for text, found in rows]
    return {(found, record.format) for found, record in kept if dataset in (None, record.dataset)}


@interprets
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
        there = f"It carries {', '.join(map(printable, known[:20]))}." if known else "It carries no public key."
        raise InvalidValueError(f"{printable(database.path.name)} knows no signer {key_id[:80]!r}.", hint=there)
    key = PublicKey(team_keys.require_name(name or found.name), found.raw)
    with _noted(database, [history.WORKSPACE], "trusted", {"key": key.key_id, "name": key.name}):
        team_keys.trust(key)
    return Trusted(key_id=key.key_id, name=key.name)


@contextmanager
def _noted(database: Database, keys: list[int], act: str, details: dict[str, Any]) -> Iterator[None]:
    """Write down what the block makes the user's memory hold; first, so that what is remembered raises nothing more.

    Where the file cannot be written, the user remembers and the file does not.
    """
    with ExitStack() as held:
        with suppress(ReadOnlyError):
            held.enter_context(database.transaction())
            history.note_many(database, act, [(key, None, details) for key in keys])
        yield
