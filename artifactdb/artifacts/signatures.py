"""Signatures that anyone can check: on each record, and on all of them at once.

The one over all records keeps a line for each, so that it can say later what was added, removed or changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from artifactdb.artifacts import gate, history
from artifactdb.artifacts.find import BY_KEYS, KEPT, StoredRecord, from_json, from_row
from artifactdb.artifacts.save import key_of_signer
from artifactdb.blobs.codec import compress_text, decompress_text
from artifactdb.database import Database
from artifactdb.database.translate import interprets
from artifactdb.errors import CorruptWorkspaceError, UntrustedArtifactError
from artifactdb.trust import signing, team_keys
from artifactdb.trust.pickles.report import printable
from artifactdb.trust.team_keys import PublicKey

Progress = Callable[[int, int], None]

_AT_ONCE = 1000
_MAX_LINES_BYTES = 1 << 30
_LEFT_OUT = ("signature", "created_at", "environment", "artifactdb_version", "nirs4all_version")
"""What a merge may change of a record that it calls the same."""
_LATEST = """
SELECT g.key_id, g.material, g.name, w.signed_at, w.contents, w.size_bytes, w.root, w.signature
FROM workspace_signatures AS w JOIN signers AS g ON g.signer_key = w.signer_key
WHERE w.workspace_signature_key IN (SELECT max(workspace_signature_key) FROM workspace_signatures GROUP BY signer_key)
ORDER BY w.workspace_signature_key
"""
_LAST_ACT = """
SELECT act, user, host, happened_at FROM history JOIN actors USING (actor_key)
WHERE record_key IN (
  SELECT record_key FROM records WHERE artifact_id = ?1 UNION SELECT record_key FROM history WHERE artifact_id = ?1)
ORDER BY happened_at DESC LIMIT 1
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
    """

    key_id: str
    name: str
    signed_at: str
    trusted: bool
    right: bool
    changes: list[Change] = field(default_factory=list)


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
        The last of each signer.
    """

    records: int = 0
    own: int = 0
    team: int = 0
    unsigned: int = 0
    wrong: list[str] = field(default_factory=list)
    whole: list[WorkspaceSignature] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether somebody vouches for the file as it is: every signature is right, nothing was changed since.

        Either a key that the user trusts signed all records, or the user signed each: what is not signed at all could
        have been stripped of its signatures.
        """
        vouched = self.own == self.records or any(found.trusted and found.right for found in self.whole)
        return vouched and not self.wrong and all(found.right and not found.changes for found in self.whole)

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return {"ok": self.ok, **asdict(self)}


def sign(database: Database, name: str | None, progress: Progress | None = None) -> PublicKey:
    """Sign every record, every artifact of the library, and all records at once, with a key pair.

    Raises
    ------
    UntrustedArtifactError
        When there is something that the user does not trust: a signature vouches for it.
    InvalidValueError
        When there is no such key.
    """
    key = team_keys.own(name)
    with database.transaction():
        statements: list[bytes] = []
        lines: list[str] = []
        doubtful: list[str] = []
        total = database.value("SELECT count(*) FROM records")
        for record in _records(database):
            if not gate.is_trusted(database, record):
                doubtful.append(record.artifact_id)
            statements.append(signing.statement(record.artifact_id, record.content_hash, record.format))
            lines.append(_line(record))
            if progress:
                progress(len(lines), total)
        for kept in _kept(database):
            if not gate.is_trusted(database, kept):
                doubtful.append(kept.artifact_id)
            statements.append(signing.statement(kept.artifact_id, kept.content_hash, kept.format))
        if doubtful:
            raise UntrustedArtifactError(
                f"{len(doubtful)} artifacts are a stranger's: {', '.join(map(printable, doubtful[:5]))}"
                f"{' …' if len(doubtful) > 5 else ''}. A signature would vouch for them.",
                hint="Trust them first, with `artifactdb trust`, or delete them. Nothing was signed.",
            )
        signer_key = key_of_signer(database, team_keys.SCHEME, key.key_id, key.raw, key.name)
        # In order and once, so that the tree of statements is written from one end to the other.
        wanted = sorted(set(statements))
        database.run_many(
            "INSERT OR REPLACE INTO signatures (statement, signer_key, signature) VALUES (?, ?, ?)",
            [
                (hashlib.sha256(said).digest(), signer_key, made)
                for said, made in zip(wanted, team_keys.sign(name, wanted), strict=True)
            ],
        )
        _sign_whole(database, name, signer_key, lines)
        history.note(database, "signed", details={"key": key.key_id, "name": key.name, "records": len(lines)})
    return key


@interprets
def _kept(database: Database) -> list[StoredRecord]:
    """Give the records of the library, each with the hash of the content that is there, whatever it claims."""
    found = []
    for text, content_hash in database.rows(KEPT):
        record = from_json(text)
        if not all(isinstance(value, str) for value in (record.artifact_id, record.format, record.class_name)):
            raise TypeError("a record of the library with other types than its fields have")
        record.content_hash = content_hash
        found.append(record)
    return found


def _sign_whole(database: Database, name: str | None, signer_key: int, lines: list[str]) -> None:
    contents = _joined(lines)
    root, signed_at = hashlib.sha256(contents).digest(), history.now()
    (signature,) = team_keys.sign(name, [_whole_statement(root, signed_at)])
    database.insert(
        "INSERT INTO workspace_signatures (signer_key, signed_at, contents, size_bytes, root, signature) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (signer_key, signed_at, compress_text(contents), len(contents), root, signature),
    )


@interprets
def compare(database: Database) -> SignatureReport:
    """Say who signed what, and what was added, removed or changed since."""
    report = SignatureReport()
    lines: list[str] = []
    signed_by: dict[tuple[str, str], str] = {}
    trusted = team_keys.trusted()
    with database.reading():
        for record in _records(database):
            report.records += 1
            lines.append(_line(record))
            own = signing.Signature.parse(record.signature)
            signed_by[record.dataset, record.artifact_id] = own.key_id if own else ""
            if signing.is_own(database, record):
                report.own += 1
            elif signing.claims_to_be_own(record):
                report.wrong.append(record.artifact_id)
            elif gate.is_vouched_for(database, record, trusted):
                report.team += 1
            else:
                report.unsigned += 1
        for key_id, material, name, signed_at, contents, size_bytes, root, signature in database.rows(_LATEST):
            key = PublicKey(name, material)
            known = trusted.get(key_id)
            is_trusted = known is not None and known.raw == material
            before = _lines_of(database, contents, size_bytes, root)
            right = (
                key.key_id == key_id
                and before is not None
                and team_keys.is_right(material, signature, _whole_statement(root, signed_at))
            )
            changes = _changes(database, before or [], lines, signed_by) if right else []
            shown = known.name if known and is_trusted else name
            report.whole.append(WorkspaceSignature(key_id, shown, signed_at, is_trusted, right, changes))
    return report


def _records(database: Database) -> Iterator[StoredRecord]:
    last = 0
    while True:
        keys = [
            key
            for (key,) in database.rows(
                "SELECT record_key FROM records WHERE record_key > ? ORDER BY record_key LIMIT ?", (last, _AT_ONCE)
            )
        ]
        if not keys:
            return
        yield from map(from_row, database.rows(BY_KEYS, (json.dumps(keys),)))
        last = keys[-1]


def _line(record: StoredRecord) -> str:
    """Give the line of a record: dataset, id, content, format, and a hash over everything else that it says."""
    said = {name: value for name, value in record.to_dict().items() if name not in _LEFT_OUT}
    rest = hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    values = [record.dataset, record.artifact_id, record.content_hash, record.format, rest]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in sorted(lines)).encode()


def _whole_statement(root: bytes, signed_at: str) -> bytes:
    return hashlib.sha256(f"artifactdb records 1\n{signed_at}\n{root.hex()}".encode()).digest()


def _lines_of(database: Database, contents: bytes, size_bytes: int, root: bytes) -> list[str] | None:
    """Give the lines that were signed, or None when they are not those that the root stands for."""
    if size_bytes > _MAX_LINES_BYTES:
        raise CorruptWorkspaceError(f"{database.path}: a signature is said to cover {size_bytes} bytes of lines.")
    plain = decompress_text(contents, size_bytes)
    if plain is None or hashlib.sha256(plain).digest() != root:
        return None
    return plain.decode().split("\n")[:-1]


def _changes(
    database: Database, before: list[str], now: list[str], signed_by: Mapping[tuple[str, str], str]
) -> list[Change]:
    old, new = _by_place(set(before) - set(now)), _by_place(set(now) - set(before))
    changes = []
    for place in sorted(old.keys() | new.keys()):
        dataset, artifact_id = place
        if place not in new:
            what, details = "removed", ""
        elif place not in old:
            what, details = "added", ""
        else:
            what, details = "changed", "description" if old[place][:2] == new[place][:2] else "content"
        changes.append(
            Change(what, artifact_id, dataset, details, _last_act(database, artifact_id), signed_by.get(place, ""))
        )
    return changes


def _by_place(lines: set[str]) -> dict[tuple[str, str], list[str]]:
    found = {}
    for line in lines:
        dataset, artifact_id, *rest = json.loads(line)
        found[dataset, artifact_id] = rest
    return found


def _last_act(database: Database, artifact_id: str) -> str:
    row = database.row(_LAST_ACT, (artifact_id,))
    return f"{row[0]} by {row[1]}@{row[2]} at {row[3][:19]}" if row else ""
