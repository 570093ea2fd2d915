"""What a user is told of an object that nobody vouches for: who wrote it, what it would do, how to allow it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from artifactdb.artifacts.find import StoredRecord
from artifactdb.artifacts.inspection import inspect
from artifactdb.database import Database
from artifactdb.errors import UntrustedArtifactError
from artifactdb.trust import home, signing
from artifactdb.trust.pickles.report import printable

_SHOWN_LINES = 30


def refusal(database: Database, record: StoredRecord, refused: str = "") -> UntrustedArtifactError:
    """Give the error for an object that nobody vouches for."""
    report = inspect(database, record)
    lines = str(report).splitlines()
    if len(lines) > _SHOWN_LINES:
        lines = [*lines[:_SHOWN_LINES], f"... {len(lines) - _SHOWN_LINES} more lines: `artifactdb inspect`"]
    found = "\n".join(f"  {line}" for line in lines)
    by_list = f"\nThe allow-list of {home.config_file()} does not take it: {refused}" if refused else ""
    what = f"{printable(record.class_name)}, format {printable(record.format)}"
    command = f"artifactdb trust {_quoted(str(database.path))}"
    # By content, as it was read here: an id may stand for other content in a library, or in a moment.
    this = f"--content {record.content_hash} --format {_quoted(record.format)}"
    return UntrustedArtifactError(
        f"{printable(record.artifact_id)} ({what}) was not loaded: "
        f"{_author(database, record)}, and loading it runs code.\nWhat it would import and call, as far as reading "
        f"can tell:\n{found}{by_list}\n",
        hint=f"If you trust who wrote it: `{command} {this}`, or `{command}` for the whole file. Such a list is no "
        f"boundary: who writes a pickle can hide from it. An allow-list is one, within what it states: "
        f'allow = ["sklearn.*", "numpy.*"] in {home.config_file()}.',
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
        return f"nobody signed it ({printable(written)}{said})"
    return f"it is signed with the key {signature.key_id}, which is not yours ({printable(written)}{said})"


def _actor(database: Database, record: StoredRecord) -> str:
    if not record.record_key:
        return ""
    row: Sequence[Any] | None = database.row(
        "SELECT a.user, a.host FROM history AS h JOIN actors AS a ON a.actor_key = h.actor_key "
        "WHERE h.record_key = ? AND h.act IN ('added', 'replaced') ORDER BY h.event_index DESC LIMIT 1",
        (record.record_key,),
    )
    return printable(f"{row[0]}@{row[1]}") if row else ""


def _quoted(text: str) -> str:
    """Give a text as a shell takes it, whole; what could move the cursor of a terminal is left to the reader."""
    return shlex.quote(text) if text.isprintable() else "..."
