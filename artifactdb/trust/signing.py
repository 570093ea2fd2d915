"""Signatures of the user's own on what they save or vouch for: made with each record, checked with each load.

``docs/format.md`` says what is signed and how, so that somebody else could check it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from artifactdb.database import Database
from artifactdb.database.grants import Secret, granted_by
from artifactdb.database.identity import workspace_id_of
from artifactdb.errors import ArtifactDBError
from artifactdb.records import ArtifactRecord
from artifactdb.trust.own_key import own_key

SCHEME: Final = "blake2b"
SIGNATURE_TEXT: Final = "g.key_id || ':' || lower(hex(g.material)) || ':' || lower(hex(r.signature))"
"""SQL for the text of a signature, with the record as ``r`` and its signer as ``g``."""
_BY_CHARACTERS: Final = 49
_TEXT: Final = re.compile(r"([0-9a-f]{16}):([0-9a-f]{32}):([0-9a-f]{64})")


class Signature(NamedTuple):
    """A signature, and what it takes to find the key that made it.

    Parameters
    ----------
    key_id : str
    workspace_id : bytes
        Of the workspace that it was made in.
    mac : bytes
    """

    key_id: str
    workspace_id: bytes
    mac: bytes

    @property
    def by(self) -> tuple[str, bytes]:
        """Key and workspace: whose it is."""
        return self[:2]

    def __str__(self) -> str:
        return f"{self.key_id}:{self.workspace_id.hex()}:{self.mac.hex()}"

    @classmethod
    def parse(cls, text: str) -> Signature | None:
        """Read what ``str`` gave; None for anything else."""
        found = _TEXT.fullmatch(text)
        return cls(found[1], bytes.fromhex(found[2]), bytes.fromhex(found[3])) if found else None


@dataclass(frozen=True, slots=True)
class Signer(Secret):
    """Signs in one workspace."""

    key_id: str
    workspace_id: bytes
    key: bytes = field(repr=False)

    def sign(self, artifact_id: str, content_hash: str, format: str) -> Signature:
        """Sign what an artifact is: its id, "sha256:" and hex digits of its content, and how that is read."""
        mac = _mac(self.key, statement(artifact_id, content_hash, format))
        return Signature(self.key_id, self.workspace_id, mac.digest())


def statement(artifact_id: str, content_hash: str, format: str) -> bytes:
    r"""Give what is signed: a text that stands for these three and nothing else.

    Examples
    --------
    >>> statement("0001$aaaaaaaaaaaa:0", "sha256:00", "pickle5")
    b'artifactdb artifact 1\nsha256:00\n7\npickle5\n0001$aaaaaaaaaaaa:0'
    """
    # The length of the format keeps its end from being taken for the beginning of the id.
    text = f"artifactdb artifact 1\n{content_hash}\n{len(format)}\n{format}\n{artifact_id}"
    return text.encode("utf-8", "surrogatepass")


def _mac(key: bytes, said: bytes) -> hashlib.blake2b:
    mac = _keyed(key).copy()
    mac.update(said)
    return mac


@lru_cache(maxsize=16)
def _keyed(key: bytes) -> hashlib.blake2b:
    # Keyed BLAKE2b is a MAC by itself, and takes a third of the time of an HMAC; half of that is taking the key in.
    return hashlib.blake2b(key=key, digest_size=32)


def signer_of(database: Database) -> Signer:
    """Give who signs in a workspace: the user; in a worker, the user whose process sent it the workspace."""
    found: Signer | None = database.kept.get("signer")
    if found is None:
        workspace_id = workspace_id_of(database)
        granted = next((by for by in database.grants if by.endswith(f":{workspace_id.hex()}")), None)
        if granted is None:
            key = own_key()
            found = Signer(key.key_id, workspace_id, key.for_workspace(workspace_id))
        else:
            found = Signer(granted.partition(":")[0], workspace_id, database.grants[granted])
        database.kept["signer"] = found
    return found


def is_own(database: Database, record: ArtifactRecord) -> bool:
    """Tell whether the user signed this artifact with this content and format."""
    # Asked with every load: two look-ups, one hash, and nothing that could wait for the first of a workspace.
    signature = record.signature
    known = database.grants.get(signature[:_BY_CHARACTERS])
    key = known or _own_key_of(signature)
    if key is None:
        return False
    said = statement(record.artifact_id, record.content_hash, record.format)
    mac = signature[_BY_CHARACTERS + 1 :].encode("utf-8", "replace")
    right = hmac.compare_digest(_mac(key, said).hexdigest().encode(), mac)
    if right and known is None:
        database.grants[signature[:_BY_CHARACTERS]] = key  # not before: it goes to workers
    return right


def claims_to_be_own(record: ArtifactRecord) -> bool:
    """Tell whether a record bears the id of the user's key, be its signature right or wrong."""
    return _own_key_of(record.signature) is not None


def _own_key_of(text: str) -> bytes | None:
    signature = Signature.parse(text)
    if signature is None or signature.key_id != own_key().key_id:
        return None
    return own_key().for_workspace(signature.workspace_id)


@granted_by
def _grants_of(database: Database) -> dict[str, bytes]:
    """Give the keys that a worker needs to check and sign what is in one workspace; not the user's key.

    Other workspaces' keys only where a signature was right that was made in them: anybody can write their names here.
    """
    with suppress(ArtifactDBError):  # it is closed, or damaged: what was found right until then goes along
        signer = signer_of(database)
        database.grants[f"{signer.key_id}:{signer.workspace_id.hex()}"] = signer.key
        elsewhere = [
            signer_key
            for signer_key, workspace_id in database.rows(_ELSEWHERE, (signer.key_id, SCHEME))
            if isinstance(workspace_id, bytes) and f"{signer.key_id}:{workspace_id.hex()}" not in database.grants
        ]
        for row in database.rows(_SIGNED_BY, (json.dumps(elsewhere),)) if elsewhere else ():
            is_own(database, ArtifactRecord(row[0], row[1], format=row[2], signature=row[3]))
        for text, content_hash in database.rows(_KEPT, (signer.key_id,)):
            kept = json.loads(text)
            record = ArtifactRecord(str(kept.get("artifact_id")), content_hash, format=str(kept.get("format")))
            record.signature = str(kept.get("signature"))
            is_own(database, record)
    return dict(database.grants)


_ELSEWHERE = "SELECT signer_key, material FROM signers WHERE key_id = ? AND scheme = ? ORDER BY 1 LIMIT 10000"
_SIGNED_BY = f"""
SELECT r.artifact_id, 'sha256:' || lower(hex(b.content_hash)), r.format, {SIGNATURE_TEXT}
FROM (
  SELECT record_key, row_number() OVER (PARTITION BY signer_key) AS nth FROM records
  WHERE signer_key IN (SELECT value FROM json_each(?))) AS chosen
JOIN records AS r ON r.record_key = chosen.record_key
JOIN signers AS g ON g.signer_key = r.signer_key JOIN blobs AS b ON b.blob_key = r.blob_key
WHERE chosen.nth <= 100
"""
"""Not the first alone: what is wrong with one says nothing of the others."""
_KEPT = """
SELECT kept.record, 'sha256:' || lower(hex(b.content_hash)) FROM library_artifacts AS kept
JOIN blobs AS b ON b.blob_key = kept.blob_key
WHERE json_valid(kept.record) AND json_type(kept.record) = 'object'
  AND substr(json_extract(kept.record, '$.signature'), 1, 16) = ? LIMIT 10000
"""
