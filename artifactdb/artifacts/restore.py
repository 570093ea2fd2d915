"""A record comes back from a manifest, a library entry or another workspace, its content being in the file already."""

from __future__ import annotations

from artifactdb.artifacts.find import StoredRecord
from artifactdb.artifacts.place import Place
from artifactdb.artifacts.save import Payload, save_content
from artifactdb.content import Content
from artifactdb.database import Database
from artifactdb.ids import extract_pipeline_id_from_artifact_id, require_artifact_id
from artifactdb.records import ArtifactRecord, register_artifact_type


def restore(database: Database, record: ArtifactRecord) -> StoredRecord:
    """Write a record whose content is there; what it depends on must be there too.

    Raises
    ------
    MissingDependencyError
    """
    digest = bytes.fromhex(record.content_hash.removeprefix("sha256:"))
    payload = Payload(
        Content.already_stored(digest, record.size_bytes),
        record.format,
        versions_of(record),
        record.format_version,
        record.created_at,
        vouched=False,
        signature=record.signature,
    )
    return save_content(database, payload, place_of(record, record.dataset), record.params, record.class_name)


def place_of(record: ArtifactRecord, dataset: str) -> Place:
    """Give where a record says that it belongs."""
    return Place(
        dataset=record.dataset or dataset,
        pipeline_id=record.pipeline_id or extract_pipeline_id_from_artifact_id(record.artifact_id),
        artifact_id=require_artifact_id(record.artifact_id),
        artifact_type=register_artifact_type(str(record.artifact_type)),
        step_index=record.step_index,
        chain_path=record.chain_path,
        branch_path=record.branch_path,
        source_index=record.source_index,
        substep_index=record.substep_index,
        fold_id=record.fold_id,
        custom_name=record.custom_name,
        depends_on=record.depends_on,
        meta_config=record.meta_config,
    )


def versions_of(record: ArtifactRecord) -> dict[str, str]:
    """Give the versions that wrote a record, as far as it says."""
    name, _, version = record.format_version.partition("==")
    versions = dict(record.environment) or ({name: version} if version else {})
    if record.nirs4all_version:
        versions["nirs4all"] = record.nirs4all_version
    return versions
