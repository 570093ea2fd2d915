"""Signatures that anyone can check: on each record, and on all of them at once.

The one over all records keeps a line for each, so that it can say later what was added, removed or changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

from artifactdb.artifacts import descriptions, gate, history, lines
from artifactdb.artifacts.find import KEPT, RECORD, StoredRecord, from_json, from_row
from artifactdb.artifacts.lines import Difference
from artifactdb.artifacts.save import INSERT_SIGNATURE, key_of_signer
from artifactdb.blobs.codec import compress_text
from artifactdb.database import Database
from artifactdb.database.translate import interprets
from artifactdb.errors import InvalidValueError, UntrustedArtifactError
from artifactdb.trust import signing, team_keys
from artifactdb.trust.pickles.report import printable
from artifactdb.trust.team_keys import PublicKey

Progress = Callable[[int, int], None]

_AT_ONCE = 1000
_RECORDS = f"{RECORD} ORDER BY r.record_key"
_MOST_CHANGES, _MOST_OF_A_STRANGER = 1000, 100
_MOST_STRANGERS = 10
_SIGNERS = """
SELECT g.material, min(substr(g.name, 1, 64)), max(w.workspace_signature_key) AS latest
FROM workspace_signatures AS w JOIN signers AS g ON g.signer_key = w.signer_key
WHERE g.scheme = 'ed25519' AND length(g.material) = 32
GROUP BY g.material ORDER BY hex(g.material) IN (SELECT value FROM json_each(?)) DESC, latest DESC LIMIT ?
"""
"""Each key that signed, however often it is named, the trusted ones first: a file may name millions of others."""
_SIGNED = """
SELECT substr(w.signed_at, 1, 64), w.root, w.signature, w.workspace_signature_key FROM workspace_signatures AS w
WHERE w.signer_key IN (SELECT signer_key FROM signers WHERE scheme = 'ed25519' AND material = ?)
ORDER BY w.workspace_signature_key DESC LIMIT ?
"""
"""The last first."""
_CONTENTS = "SELECT contents, size_bytes FROM workspace_signatures WHERE workspace_signature_key = ?"
_COUNT_SIGNERS = """
SELECT count(DISTINCT CASE WHEN scheme = 'ed25519' AND length(material) = 32 THEN material ELSE signer_key END)
FROM workspace_signatures JOIN signers USING (signer_key)
"""
_SIGNED_BY = """
SELECT g.key_id FROM records AS r JOIN signers AS g ON g.signer_key = r.signer_key
WHERE r.artifact_id = ? AND r.dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?)
"""


@dataclass(frozen=True, slots=True)
class Change:
    """How a record differs from what was signed.

    Attributes
    ----------
    what : {"added", "removed", "changed"}
    details : str
        For what was changed: "content" or "description".
    by : str
        Who did it and when, as the history says; "" where it says nothing.
    signed_by : str
        Key id of the user who signed it since, as the record says; "" for nobody.
    """

    what: str
    artifact_id: str
    dataset: str
    details: str = ""
    by: str = ""
    signed_by: str = ""


@dataclass(frozen=True, slots=True)
class WorkspaceSignature:
    """A signature over all records, compared with what is there now.

    Attributes
    ----------
    name : str
        What the user calls the key; of a key that is not trusted, what it calls itself.
    trusted, right : bool
        Whether the user trusts the key, and whether the signature is its own.
    changes : list of Change
        Of a trusted key the first 1000, of another the first 100.
    more : bool
        Whether there are further ones.
    """

    key_id: str
    name: str
    signed_at: str
    trusted: bool
    right: bool
    changes: list[Change] = field(default_factory=list)
    more: bool = False


@dataclass(slots=True)
class SignatureReport:
    """Who signed a workspace, and what became of it since.

    Attributes
    ----------
    records : int
    own, team, unsigned : int
        How many the user signed, how many a trusted key pair signed, how many neither did.
    wrong : list of str
        Ids of records that bear the user's key but not the user's signature: somebody changed them.
    whole : list of WorkspaceSignature
        The last of each signer whom the user trusts, and of those few others who signed last.
    others : int
        How many more signed the file as a whole; nobody looked at what.
    misleading : list of str
        Where the file gives another answer when it is asked than when it is read, which is what was signed.
    """

    records: int = 0
    own: int = 0
    team: int = 0
    unsigned: int = 0
    wrong: list[str] = field(default_factory=list)
    whole: list[WorkspaceSignature] = field(default_factory=list)
    others: int = 0
    misleading: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool | None:
        """Whether exactly what is there is what a key signed that the user trusts; None when none signed it as a whole.

        Then each record may be vouched for, and others may have been removed, or moved to other places.
        """
        believed = [found for found in self.whole if found.trusted and found.right]
        return any(not found.changes for found in believed) and not self.misleading if believed else None

    @property
    def ok(self) -> bool:
        """Whether somebody whom the user trusts signed exactly what is there; and none of the user's own is wrong."""
        return self.complete is True and not self.wrong

    @property
    def own_alone(self) -> bool:
        """Whether the user signed each record and nobody the file as a whole: as a file is that is worked on."""
        unchanged = all(found.right and not found.changes for found in self.whole)
        return self.complete is None and unchanged and 0 < self.own == self.records and not self.misleading

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return {"ok": self.ok, "complete": self.complete, **asdict(self)}


def sign(database: Database, name: str | None, progress: Progress | None = None) -> PublicKey:
    """Sign every record, every artifact of the library, and all records at once, with a key pair.

    Raises
    ------
    UntrustedArtifactError
        When there is something that the user does not trust: a signature vouches for it.
    InvalidValueError
        When there is no such key, or there are more records than one signature can stand for: some millions.
    """
    key = team_keys.own(name)
    with database.transaction():
        statements: list[bytes] = []
        said: list[bytes] = []
        doubtful: list[str] = []
        total = database.value("SELECT count(*) FROM records")
        for record in _records(database):
            if not gate.is_believed(database, record):
                doubtful.append(record.artifact_id)
            statements.append(signing.statement(record.artifact_id, record.content_hash, record.format))
            said.append(lines.line_of(record))
            if progress:
                progress(len(said), total)
        for kept in _kept(database):
            if not gate.is_believed(database, kept):
                doubtful.append(kept.artifact_id)
            statements.append(signing.statement(kept.artifact_id, kept.content_hash, kept.format))
        if doubtful:
            raise UntrustedArtifactError(
                f"{len(doubtful)} artifacts are a stranger's: {', '.join(map(printable, doubtful[:5]))}"
                f"{' …' if len(doubtful) > 5 else ''}. A signature would vouch for them.",
                hint="Look at them; then trust them with `artifactdb trust`, or delete them. Nothing was signed.",
            )
        signer_key = key_of_signer(database, team_keys.SCHEME, key.key_id, key.raw, key.name)
        # In order and once, so that the tree of statements is written from one end to the other.
        wanted = sorted(set(statements))
        database.run_many(
            INSERT_SIGNATURE,
            [
                (hashlib.sha256(one).digest(), signer_key, made)
                for one, made in zip(wanted, team_keys.sign(name, wanted), strict=True)
            ],
        )
        _sign_whole(database, name, signer_key, lines.joined(sorted(said)))
        history.note(database, "signed", details={"key": key.key_id, "name": key.name, "records": len(said)})
    return key


@interprets
def _kept(database: Database) -> list[StoredRecord]:
    """Give the records of the library, each with the hash of the content that is there, whatever it claims."""
    found = []
    for text, content_hash in database.rows(KEPT):
        record = from_json(text)
        record.content_hash = content_hash
        found.append(record)
    return found


def _sign_whole(database: Database, name: str | None, signer_key: int, contents: bytes) -> None:
    frame = compress_text(contents)
    if not lines.could_be(len(frame), len(contents)):
        raise InvalidValueError(
            f"what there is to say of the records takes {len(contents)} bytes, more than a signature can stand for.",
            hint="Divide the workspace. Nothing was signed.",
        )
    root, signed_at = hashlib.sha256(contents).digest(), history.now()
    (signature,) = team_keys.sign(name, [lines.statement(root, signed_at)])
    database.insert(
        "INSERT INTO workspace_signatures (signer_key, signed_at, contents, size_bytes, root, signature) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (signer_key, signed_at, frame, len(contents), root, signature),
    )


@interprets
def compare(database: Database) -> SignatureReport:
    """Say who signed what, and what was added, removed or changed since."""
    report = SignatureReport()
    now: list[bytes] = []
    trusted = team_keys.trusted()
    with database.reading():
        for record in _records(database):
            report.records += 1
            now.append(lines.line_of(record))
            if signing.is_own(database, record):
                report.own += 1
            elif signing.claims_to_be_own(record):
                report.wrong.append(record.artifact_id)
            elif gate.is_vouched_for(database, record, trusted):
                report.team += 1
            else:
                report.unsigned += 1
        now.sort()
        root = lines.root_of(now)
        materials = json.dumps([key.raw.hex().upper() for key in trusted.values()])
        signers = database.rows(_SIGNERS, (materials, len(trusted) + _MOST_STRANGERS))
        for material, name, _ in sorted(signers, key=lambda signer: signer[2]):
            report.whole.append(_compared(database, PublicKey(name, material), trusted, now, root))
        total = database.value(_COUNT_SIGNERS)
        report.others = total - len(report.whole)
        wrong = [*descriptions.check_indexes(database), *descriptions.check(database)]
        report.misleading = [f"{problem.where}: {problem.what}" for problem in wrong]
    return report


def _compared(
    database: Database, key: PublicKey, trusted: Mapping[str, PublicKey], now: list[bytes], root: bytes
) -> WorkspaceSignature:
    """Compare the last right signature of a key over all records with those that are there.

    What is not signed by the key is not read. Of a trusted one no number of wrong ones hides a right one.
    """
    known = trusted.get(key.key_id)
    is_trusted = known is not None and known.raw == key.raw
    shown = known.name if known and is_trusted else key.name
    wrong = WorkspaceSignature(key.key_id, shown, "", is_trusted, right=False)
    with database.snapshot() as state:
        for batch in state.batches(_SIGNED, (key.raw, -1 if is_trusted else _MOST_OF_A_STRANGER), _AT_ONCE):
            for signed_at, signed_root, signature, number in batch:
                wrong = replace(wrong, signed_at=wrong.signed_at or signed_at)
                if not team_keys.is_right(key.raw, signature, lines.statement(signed_root, signed_at)):
                    continue
                found = replace(wrong, signed_at=signed_at, right=True)
                if signed_root == root:
                    return found
                changes = _changes(
                    database, number, signed_root, now, _MOST_CHANGES if is_trusted else _MOST_OF_A_STRANGER
                )
                if changes is not None:
                    return replace(found, changes=changes[0], more=changes[1])
    return wrong


def _changes(
    database: Database, number: int, root: bytes, now: list[bytes], most: int
) -> tuple[list[Change], bool] | None:
    """Give how what is there differs from what was signed, and whether there is more; None when that is not kept."""
    ((contents, size_bytes),) = database.rows(_CONTENTS, (number,))
    if not lines.is_root_of(contents, size_bytes, root):
        return None
    try:
        found = list(islice(lines.differences(contents, size_bytes, now), most + 1))
    except (ValueError, RecursionError):
        return None  # somebody's key signed what artifactdb never signs
    return [_change(database, difference) for difference in found][:most], len(found) > most


def _records(database: Database) -> Iterator[StoredRecord]:
    with database.snapshot() as state:
        for batch in state.batches(_RECORDS, (), _AT_ONCE):
            yield from map(from_row, batch)


def _change(database: Database, difference: Difference) -> Change:
    dataset, artifact_id, before, now = difference
    details = ""
    if before and now:
        details = "description" if before[:2] == now[:2] else "content"
    what = "changed" if before and now else "removed" if before else "added"
    event = history.last_of_artifact(database, artifact_id, dataset)
    by = f"{event.act[:32]} by {event.user[:64]}@{event.host[:64]} at {event.happened_at[:19]}" if event else ""
    signed_by = database.value(_SIGNED_BY, (artifact_id, dataset)) or ""
    return Change(what, artifact_id, dataset, details, by, signed_by[:16])
