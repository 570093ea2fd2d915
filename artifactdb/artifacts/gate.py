"""Whether an object may be loaded: its format runs no code, or somebody whom the user believes vouches for it.

In this order, the cheapest first: its format; a signature of the user's own; what the user allowed; a signature of
somebody whom the user trusts; the environment. What nobody vouches for is loaded within the allow-list of the
configuration, if there is one, and refused otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from artifactdb.artifacts.find import StoredRecord
from artifactdb.blobs import store
from artifactdb.content import StoredContent
from artifactdb.database import Database
from artifactdb.errors import CorruptBlobError, UntrustedArtifactError
from artifactdb.formats import is_data_only
from artifactdb.trust import home, remembered, signing

if TYPE_CHECKING:
    from artifactdb.trust.team_keys import PublicKey

SIGNATURES = """
SELECT g.key_id, s.signature FROM signatures AS s JOIN signers AS g ON g.signer_key = s.signer_key
WHERE s.statement = ?1 AND g.scheme = 'ed25519'
  AND g.key_id || ':' || lower(hex(g.material)) IN (SELECT value FROM json_each(?2))
"""
"""By some keys, whole: others who sign the same, or take their names, hide none of them however many they are."""
_BY_ANYBODY = "SELECT 1 FROM signatures WHERE statement = ? LIMIT 1"


def is_trusted(database: Database, record: StoredRecord) -> bool:
    """Tell whether an object may be loaded as it is; nothing of it is read."""
    return (
        is_data_only(record.format)  # first: it asks nothing of the user's folder, which need not be usable
        or is_believed(database, record)
        or home.everything_is_trusted()
    )


def is_believed(database: Database, record: StoredRecord) -> bool:
    """Tell whether the user knows whose an artifact is: that loading it runs no code makes it nobody's."""
    return (
        signing.is_own(database, record)
        or remembered.is_allowed(record.content_hash, record.format)
        or is_vouched_for(database, record)
    )


def is_vouched_for(database: Database, record: StoredRecord, trusted: Mapping[str, PublicKey] | None = None) -> bool:
    """Tell whether a key pair that the user trusts signed this artifact with this content and format.

    ``trusted`` is what ``team_keys.trusted`` gives, for who asks of many.
    """
    said = signing.statement(record.artifact_id, record.content_hash, record.format)
    statement = hashlib.sha256(said).digest()
    if not database.rows(_BY_ANYBODY, (statement,)):
        return False
    from artifactdb.trust import team_keys

    if trusted is None:
        trusted = team_keys.trusted()
    keys = json.dumps([f"{key_id}:{key.raw.hex()}" for key_id, key in trusted.items()])
    return any(
        isinstance(signature, bytes) and team_keys.is_right(trusted[key_id].raw, signature, said)
        for key_id, signature in database.rows(SIGNATURES, (statement, keys))
    )


def require_same(record: StoredRecord, content: StoredContent) -> None:
    """See that what was read is what the record says, which is what was signed.

    Raises
    ------
    CorruptBlobError
    """
    if content.digest.hex() != record.content_hash[7:]:
        raise CorruptBlobError(
            f"{record.artifact_id} has other content than a moment ago.",
            hint="Somebody is changing the file: ask again.",
            content_hash=record.content_hash,
        )


def load_restricted(database: Database, record: StoredRecord) -> Any:
    """Give the object of a stranger, if it asks for nothing off the allow-list of the configuration.

    Where there is no such list no more of it is read than a report needs.

    Raises
    ------
    UntrustedArtifactError
        Says who wrote it as far as is known, what it would import and call, and how to allow it.
    """
    patterns = home.allowed_patterns()
    refused = ""
    if patterns:
        from artifactdb.trust.pickles.restricted import require_format, restricted_load

        try:
            require_format(record.format)
            with database.reading():
                (content,) = store.get_many(database, [record.blob_key])
            require_same(record, content)
            return restricted_load(content, patterns, record.format)
        except UntrustedArtifactError as error:
            refused = error.message
    from artifactdb.artifacts.refusal import refusal  # with a scanner's tables, which most do without

    raise refusal(database, record, refused)
