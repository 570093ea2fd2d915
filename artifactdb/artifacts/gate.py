"""Whether an object may be loaded: its format runs no code, or somebody whom the user believes vouches for it.

In this order, the cheapest first: a signature of the user's own; what the user allowed; a signature of somebody whom
the user trusts; the environment. What nobody vouches for is loaded within the allow-list of the configuration, if
there is one, and refused otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from artifactdb.artifacts.find import StoredRecord
from artifactdb.content import StoredContent
from artifactdb.database import Database
from artifactdb.errors import CorruptBlobError, UntrustedArtifactError
from artifactdb.formats import is_data_only
from artifactdb.trust import home, remembered, signing

SIGNATURES = """
SELECT g.key_id, g.material, s.signature FROM signatures AS s JOIN signers AS g ON g.signer_key = s.signer_key
WHERE s.statement = ? AND g.scheme = 'ed25519'
"""
RESTRICTED_FORMAT = "pickle5"
_SHOWN_LINES = 30


def is_trusted(database: Database, record: StoredRecord) -> bool:
    """Tell whether an object may be loaded as it is; nothing of it is read."""
    return (
        signing.is_own(database, record)
        or is_data_only(record.format)
        or remembered.is_allowed(record.content_hash, record.format)
        or is_vouched_for(database, record)
        or home.everything_is_trusted()
    )


def is_vouched_for(database: Database, record: StoredRecord) -> bool:
    """Tell whether a key pair that the user trusts signed this artifact with this content and format."""
    said = signing.statement(record.artifact_id, record.content_hash, record.format)
    signatures = database.rows(SIGNATURES, (hashlib.sha256(said).digest(),))
    if not signatures:
        return False
    from artifactdb.trust import team_keys

    trusted = team_keys.trusted()
    return any(
        key_id in trusted and trusted[key_id].raw == material and team_keys.is_right(material, signature, said)
        for key_id, material, signature in signatures
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


def load_restricted(database: Database, record: StoredRecord, content: StoredContent) -> Any:
    """Give the object of a stranger, if it asks for nothing off the allow-list of the configuration.

    Raises
    ------
    UntrustedArtifactError
        Says who wrote it as far as is known, what it would import and call, and how to allow it.
    """
    patterns = home.allowed_patterns()
    refused = ""
    if patterns and record.format == RESTRICTED_FORMAT:
        from artifactdb.trust.pickles.restricted import restricted_load

        try:
            return restricted_load(content, patterns)
        except UntrustedArtifactError as error:
            refused = error.message
    raise refusal(database, record, content, refused)


def refusal(
    database: Database, record: StoredRecord, content: StoredContent, refused: str = ""
) -> UntrustedArtifactError:
    """Give the error for an object that nobody vouches for."""
    from artifactdb.trust.pickles.scan import scan

    report = scan(content, record.format)
    lines = str(report).splitlines()
    if len(lines) > _SHOWN_LINES:
        lines = [*lines[:_SHOWN_LINES], f"... {len(lines) - _SHOWN_LINES} more lines: `artifactdb inspect`"]
    found = "\n".join(f"  {line}" for line in lines)
    by_list = f"\nThe allow-list of {home.config_file()} does not take it: {refused}" if refused else ""
    command = f"artifactdb trust {_quoted(str(database.path))}"
    return UntrustedArtifactError(
        f"{_plain(record.artifact_id)} ({_plain(record.class_name)}, format {_plain(record.format)}) was not loaded: "
        f"{_author(database, record)}, and loading it runs code.\nWhat it would import and call, as far as reading "
        f"can tell:\n{found}{by_list}\n",
        hint=f"If you trust who wrote it: `{command} --artifact {_quoted(record.artifact_id)}`, or `{command}` for the "
        f"whole file. Such a list is no boundary: who writes a pickle can hide from it. An allow-list is one, within "
        f'what it states: allow = ["sklearn.*", "numpy.*"] in {home.config_file()}.',
        report=report,
    )


def _author(database: Database, record: StoredRecord) -> str:
    if signing.claims_to_be_own(record):
        return "it bears your key's name, but not your signature: somebody changed it"
    signature = signing.Signature.parse(record.signature)
    versions = [
        f"{name} {record.environment[name]}" for name in ("artifactdb", "nirs4all") if name in record.environment
    ]
    written = f"{' and '.join(versions)} wrote it, the record says" if versions else "it is not known what wrote it"
    who = _actor(database, record)
    said = f", and by {who}" if who else ""
    if signature is None:
        return f"nobody signed it ({_plain(written)}{said})"
    return f"it is signed with the key {signature.key_id}, which is not yours ({_plain(written)}{said})"


def _actor(database: Database, record: StoredRecord) -> str:
    if not record.record_key:
        return ""
    row: Sequence[Any] | None = database.row(
        "SELECT a.user, a.host FROM history AS h JOIN actors AS a ON a.actor_key = h.actor_key "
        "WHERE h.record_key = ? AND h.act IN ('added', 'imported', 'replaced') ORDER BY h.event_index DESC LIMIT 1",
        (record.record_key,),
    )
    return _plain(f"{row[0]}@{row[1]}") if row else ""


def _plain(text: str) -> str:
    """Keep what a stranger wrote from moving the cursor of a terminal or filling it."""
    text = text if len(text) <= 200 else f"{text[:200]}..."
    return text if text.isprintable() else ascii(text)


def _quoted(text: str) -> str:
    """Give a text as a shell takes it."""
    import shlex

    return shlex.quote(_plain(text))
