"""The way of an object into the file, in one place.

Object, canonical bytes, hash, (already there? stop), encode and check, begin, blob, record, sources, commit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from artifactdb.artifacts import environment, history, parameters
from artifactdb.artifacts.composite import Composite
from artifactdb.artifacts.dependencies import refuse_circle, replace_sources, source_keys, with_present_ids
from artifactdb.artifacts.find import BY_KEY, StoredRecord, from_row, stored_record
from artifactdb.artifacts.history import now
from artifactdb.artifacts.place import Place
from artifactdb.blobs import store
from artifactdb.chain import compute_chain_hash
from artifactdb.content import Content
from artifactdb.database import Database
from artifactdb.database.state import Row
from artifactdb.database.translate import interprets
from artifactdb.errors import DuplicateError
from artifactdb.formats import dump
from artifactdb.records import MetaModelConfig
from artifactdb.trust.signing import SCHEME, Signature, is_own, signer_of


@dataclass(slots=True)
class Payload:
    """The content of an artifact and how to read it.

    Attributes
    ----------
    created_at : str, default ""
        ISO 8601, UTC; when it is stored, where nothing else is known.
    vouched : bool, default True
        Whether the user signs it: because it is their own, or because they say so.
    signature : str, default ""
        What it was signed with elsewhere, where the user does not sign.
    act : str, default "added"
        What the history calls it.
    """

    content: Content
    format: str
    versions: Mapping[str, str]
    format_version: str = ""
    created_at: str = ""
    vouched: bool = True
    signature: str = ""
    act: str = "added"


def save(
    database: Database,
    obj: Any,
    place: Place,
    *,
    format_hint: str | None = None,
    run_key: int | None = None,
) -> StoredRecord:
    """Store a fitted object and its record, durably, in one transaction.

    The same id with the same content and description changes nothing; else it is replaced. A composite is described as
    the container that it is of, and depends on its parts.
    """
    dumped, serializer = dump(obj, format_hint)
    if isinstance(obj, Composite):
        needed = dict.fromkeys([*(part.artifact_id for part in obj.parts), *place.depends_on])
        obj, place = obj.container, replace(place, depends_on=list(needed))
    package = type(obj).__module__.partition(".")[0]
    versions = environment.versions_now(dumped.packages | {package})
    version = versions.get(package)
    payload = Payload(dumped.content, serializer.name, versions, f"{package}=={version}" if version else "")
    given = place.params if place.params is not None else parameters.parameters_of(obj)
    return save_content(database, payload, place, given, type(obj).__name__, run_key)


def save_content(
    database: Database,
    payload: Payload,
    place: Place,
    params: Mapping[str, Any],
    class_name: str,
    run_key: int | None = None,
    ready: store.Encoded | None = None,
) -> StoredRecord:
    """Store content that is bytes already, and its record; ``ready`` is what was encoded of it before."""
    place = with_present_ids(database, place)
    parameters_json = parameters.to_json(params)
    versions_json = environment.to_json(payload.versions)
    meta_config_json = json.dumps(place.meta_config.to_dict(), allow_nan=False) if place.meta_config else None
    content = payload.content
    happened_at = now()
    created_at = payload.created_at or happened_at
    ahead = None
    if not database.in_transaction:  # others can write meanwhile
        ahead = _ahead(database, content, ready, store.find(database, content.digest))
    content_hash = content.digest.hex()
    signature = _signature(database, payload, place.artifact_id, f"sha256:{content_hash}")
    with database.transaction(undo=False):
        (dataset_key, pipeline_key, record_key, chain_key, parameter_set_key, environment_key, blob_key, signer_key,
         actor_key, free_key) = database.rows(
            PRESENT,
            (place.dataset, place.dataset, place.pipeline_id, place.artifact_id, place.dataset, place.chain_path,
             parameters_json, versions_json, content.digest, *(signature.by if signature else ("", b"")),
             *history.this_actor()),
        )[0]  # fmt: skip
        sources = source_keys(database, dataset_key, place.artifact_id, place.depends_on)
        before = None
        if record_key is not None:
            refuse_circle(database, record_key, sources)
            before = database.row(CONTENT_BEFORE, (record_key,))
            if before is not None:
                chain_key = chain_key if place.chain_path else before[2]
                place = _as_said_before(place, before)
        # What is refused is refused by now; from here on the file is written.
        ready, damaged = ahead or _ahead(database, content, ready, blob_key)
        _mend(database, content, ready, damaged)
        if record_key is not None:
            _share(database, record_key, run_key)
        if dataset_key is None:
            dataset_key = key_of_dataset(database, place.dataset)
        if signature and signer_key is None:
            signer_key = key_of_signer(database, SCHEME, *signature.by)
        if actor_key is None:
            actor_key = history.key_of_actor(database)
        if before is not None and before[0] == blob_key:
            there = from_row(database.rows(BY_KEY, (record_key,))[0])
            # What the user vouches for comes whole: what a stranger says of the same content is not taken over.
            is_same = _describes(there, place, parameters_json)
            if _stays(database, there, payload, signature, is_same=is_same):
                return there
        if blob_key is None:
            blob_key = store.put_new(database, content, created_at, ready)
        if pipeline_key is None:
            pipeline_key = _insert_pipeline(database, dataset_key, place.pipeline_id)
        if chain_key is None:
            chain_key = _insert_chain(database, place.chain_path)
        if parameter_set_key is None:
            parameter_set_key = _insert_parameters(database, parameters_json)
        if environment_key is None:
            environment_key = _insert_environment(database, versions_json)
        columns = (
            dataset_key, pipeline_key, place.artifact_id, chain_key, place.step_index, place.substep_index,
            place.source_index, ".".join(map(str, place.branch_path)), place.fold_id, place.artifact_type, class_name,
            place.custom_name, parameter_set_key,
            meta_config_json, blob_key, payload.format,
            payload.format_version, environment_key, created_at, signer_key, signature.mac if signature else None,
        )  # fmt: skip
        if before is None:
            record_key = next(history.new_keys(database)) if free_key is None else free_key
            database.insert(_INSERT, (record_key, *columns))
            history.note_new(database, record_key, actor_key, payload.act, happened_at)
            if run_key is not None:
                database.insert("INSERT INTO run_records VALUES (?, ?)", (run_key, record_key))
        else:
            database.rows(_UPDATE, (*columns, record_key))
            contents = {"content_before": f"sha256:{before[1]}", "content": f"sha256:{content_hash}"}
            history.note(database, "replaced", record_key, contents)
        replace_sources(database, record_key, sources, is_new=before is None)
    # What was written is known; asking the file for it again would cost a quarter of a save.
    return stored_record(
        record_key, place.artifact_id, place.dataset, place.pipeline_id, place.chain_path, place.step_index,
        place.substep_index, place.source_index, list(place.branch_path), place.fold_id,
        place.artifact_type, class_name, place.custom_name, json.loads(parameters_json),
        MetaModelConfig.from_dict(place.meta_config.to_dict()) if place.meta_config else None,
        content_hash, payload.format, payload.format_version, dict(sorted(payload.versions.items())),
        created_at, content.total_bytes, list(place.depends_on), blob_key, str(signature or ""),
    )  # fmt: skip


PRESENT = f"""
SELECT
  (SELECT dataset_key FROM datasets WHERE name = ?),
  (SELECT pipeline_key FROM pipelines
    WHERE dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?) AND pipeline_id = ?),
  (SELECT record_key FROM records
    WHERE artifact_id = ? AND dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?)),
  (SELECT chain_key FROM chains WHERE chain_path = ?),
  (SELECT parameter_set_key FROM parameter_sets WHERE parameters = ?),
  (SELECT environment_key FROM environments WHERE versions = ?),
  (SELECT blob_key FROM blobs WHERE content_hash = ?),
  (SELECT signer_key FROM signers WHERE key_id = ? AND material = ? AND scheme = 'blake2b'),
  (SELECT actor_key FROM actors WHERE user = ? AND host = ? AND process = ? AND version = ?),
  ({history.FREE_KEY})
"""
"""One look at what is there already, because ten would take a tenth of a save."""
CONTENT_BEFORE = """
SELECT r.blob_key, lower(hex(b.content_hash)), r.chain_key, c.chain_path, r.step_index,
  r.branch_path, r.source_index, r.substep_index
FROM records AS r JOIN blobs AS b ON b.blob_key = r.blob_key LEFT JOIN chains AS c ON c.chain_key = r.chain_key
WHERE r.record_key = ?
"""

_COLUMNS = (
    "dataset_key, pipeline_key, artifact_id, chain_key, step_index, substep_index, source_index, branch_path, "
    "fold_id, artifact_type, class_name, custom_name, parameter_set_key, meta_config, blob_key, format, "
    "format_version, environment_key, created_at, signer_key, signature"
)
_INSERT = f"INSERT INTO records (record_key, {_COLUMNS}) VALUES (?, {', '.join('?' * len(_COLUMNS.split(',')))})"
_UPDATE = f"UPDATE records SET {' = ?, '.join(_COLUMNS.split(', '))} = ? WHERE record_key = ?"


@interprets
def _as_said_before(place: Place, before: Row) -> Place:
    """Give a place that says what was said before of chain, branch, source and substep, where it does not say it.

    Raises
    ------
    DuplicateError
        When it says another branch, source or substep, which the id does not tell apart.
    """
    chain_path, step_index, branch, source, substep = before[3:]
    given = ".".join(map(str, place.branch_path)) or None, place.source_index, place.substep_index
    differ = [
        f"{name} {there} and {now}"
        for name, there, now in zip(("branch", "source", "substep"), before[5:], given, strict=True)
        if there not in ("", None, now) and now is not None
    ]
    if differ:
        raise DuplicateError(
            f"{place.artifact_id} is there already, and its id does not tell apart {', '.join(differ)}.",
            hint="Say it in the chain, as in s2.PLS[br=0,src=1,sub=2]; or delete the one that is there.",
        )
    return replace(
        place,
        chain_path=place.chain_path or chain_path or "",
        step_index=place.step_index if place.chain_path else place.step_index or step_index,
        branch_path=list(place.branch_path) or ([int(part) for part in branch.split(".")] if branch else []),
        source_index=source if place.source_index is None else place.source_index,
        substep_index=substep if place.substep_index is None else place.substep_index,
    )


def _share(database: Database, record_key: int, run_key: int | None) -> None:
    """Let what is saved again not go with an earlier run alone."""
    if run_key is None:
        database.rows(SETTLE, (record_key,))
    else:
        database.rows(_MADE_AGAIN, (run_key, record_key))


# What was there before any run goes with none.
_MADE_AGAIN = """
INSERT OR IGNORE INTO run_records (run_key, record_key)
SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM run_records WHERE record_key = ?2)
"""
OF_REGISTRY = "of_registry"
"""In the metadata of a run that a registry's start_run began."""
# One that a with block carries out counts it still.
SETTLE = f"""
DELETE FROM run_records WHERE record_key = ? AND EXISTS (
  SELECT 1 FROM run_entries AS e WHERE e.run_key = run_records.run_key
    AND (e.status IN ('failed', 'interrupted') OR e.status = 'running' AND e.metadata ->> '{OF_REGISTRY}'))
"""


def keep_content(database: Database, content: Content) -> int:
    """Store content that no record has, unless it is there and right, and give the key of its blob."""
    damaged = store.find_damaged(database, content)
    with database.transaction():
        _mend(database, content, {}, damaged)
        key = store.find(database, content.digest)
        return store.put_new(database, content, now(), {}) if key is None else key


def _ahead(
    database: Database, content: Content, ready: store.Encoded | None, blob_key: int | None
) -> tuple[store.Encoded, dict[bytes, str]]:
    """Encode what is not there yet, and see what of the rest is damaged."""
    present = store.present_of(database, content.parts)
    if blob_key is not None:
        present[content.digest] = blob_key
    if ready is None:
        ready = store.encode_ahead(content, present)
    return ready, store.find_damaged(database, content) if present else {}


def _mend(database: Database, content: Content, ready: store.Encoded, damaged: Mapping[bytes, str]) -> None:
    """Write anew what is there, but damaged: else what is saved would be acknowledged, and not load."""
    if damaged:
        store.mend(database, content, now(), ready, damaged)
        done = [f"blob sha256:{digest.hex()} was written anew" for digest in damaged]
        history.note(database, "repaired", details={"done": done})


def _signature(database: Database, payload: Payload, artifact_id: str, content_hash: str) -> Signature | None:
    if not payload.vouched:
        return Signature.parse(payload.signature)
    return signer_of(database).sign(artifact_id, content_hash, payload.format)


def _describes(there: StoredRecord, place: Place, parameters_json: str) -> bool:
    """Tell whether a record says of its content what would be written."""
    given, present = (config.to_dict() if config else None for config in (place.meta_config, there.meta_config))
    return (
        given == present
        and parameters.to_json(there.params) == parameters_json
        and list(place.depends_on) == list(there.depends_on)
        and all(getattr(place, name) == getattr(there, name) for name in _DESCRIBED)
    )


_DESCRIBED = (
    "custom_name", "artifact_type", "step_index", "chain_path", "branch_path", "source_index", "substep_index",
)  # fmt: skip


def _stays(
    database: Database, there: StoredRecord, payload: Payload, signature: Signature | None, *, is_same: bool
) -> bool:
    """Tell whether a record that has the same content already is as good as the one that would be written."""
    text = str(signature) if signature else ""
    if not payload.vouched and not (text and is_own(database, replace(there, format=payload.format, signature=text))):
        return True
    return is_same and there.format == payload.format and (there.signature == text or is_own(database, there))


def is_there(database: Database, dataset: str, artifact_id: str, content_hash: str, format: str) -> bool:
    """Tell whether what comes in is there already; it must take the place of nothing else.

    Raises
    ------
    DuplicateError
        When the id is there with other content, or to be read in another format.
    """
    there = content_there(database, dataset, artifact_id)
    if there is None:
        return False
    present, present_format = there
    if present != content_hash:
        raise DuplicateError(
            f"the id {artifact_id} is there already with other content ({present}).",
            hint="Delete it first, or take this into another workspace.",
        )
    if present_format != format:
        raise DuplicateError(f"the id {artifact_id} is there already, to be read as {present_format}, not {format}.")
    return True


def content_there(database: Database, dataset: str, artifact_id: str) -> tuple[str, str] | None:
    """Give the content hash and the format of what has that very id in a dataset."""
    row = database.row(_PRESENT_CONTENT, (artifact_id, dataset))
    return (row[0], row[1]) if row else None


_PRESENT_CONTENT = """
SELECT 'sha256:' || lower(hex(b.content_hash)), r.format FROM records AS r JOIN blobs AS b ON b.blob_key = r.blob_key
WHERE r.artifact_id = ? AND r.dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?)
"""


def key_of_dataset(database: Database, name: str) -> int:
    """Give the key of a dataset, new or not."""
    found: int | None = database.value("SELECT dataset_key FROM datasets WHERE name = ?", (name,))
    if found is not None:
        return found
    return database.insert("INSERT INTO datasets (name, created_at) VALUES (?, ?)", (name, now()))


def key_of_pipeline(database: Database, dataset_key: int, pipeline_id: str) -> int:
    """Give the key of a pipeline, new or not."""
    sql = "SELECT pipeline_key FROM pipelines WHERE dataset_key = ? AND pipeline_id = ?"
    found: int | None = database.value(sql, (dataset_key, pipeline_id))
    return _insert_pipeline(database, dataset_key, pipeline_id) if found is None else found


def key_of_environment(database: Database, versions_json: str) -> int:
    """Give the key of a combination of versions, new or not."""
    found: int | None = database.value("SELECT environment_key FROM environments WHERE versions = ?", (versions_json,))
    return _insert_environment(database, versions_json) if found is None else found


INSERT_SIGNATURE = """
INSERT OR REPLACE INTO signatures (statement, signer_key, signature, row_check)
VALUES (?1, ?2, ?3, row_check(?1, ?2, ?3))
"""


def key_of_signer(database: Database, scheme: str, key_id: str, material: bytes, name: str = "") -> int:
    """Give the key of who signs, new or not."""
    sql = "SELECT signer_key FROM signers WHERE scheme = ? AND key_id = ? AND material = ?"
    found: int | None = database.value(sql, (scheme, key_id, material))
    if found is not None:
        return found
    return database.insert(
        "INSERT INTO signers (scheme, key_id, material, name) VALUES (?, ?, ?, ?)", (scheme, key_id, material, name)
    )


def _insert_pipeline(database: Database, dataset_key: int, pipeline_id: str) -> int:
    return database.insert(
        "INSERT INTO pipelines (dataset_key, pipeline_id, created_at) VALUES (?, ?, ?)",
        (dataset_key, pipeline_id, now()),
    )


def _insert_chain(database: Database, chain_path: str) -> int | None:
    if not chain_path:
        return None
    return database.insert(
        "INSERT INTO chains (chain_path, chain_hash) VALUES (?, ?)",
        (chain_path, compute_chain_hash(chain_path)),
    )


def _insert_parameters(database: Database, parameters_json: str) -> int:
    key = database.insert("INSERT INTO parameter_sets (parameters) VALUES (?)", (parameters_json,))
    database.run_many(
        "INSERT INTO parameter_values (parameter_set_key, name, value) VALUES (?, ?, ?)",
        [(key, name, value) for name, value in parameters.values(parameters_json)],
    )
    return key


def _insert_environment(database: Database, versions_json: str) -> int:
    return database.insert("INSERT INTO environments (versions) VALUES (?)", (versions_json,))
