"""The source models of a stacking meta-model, found and checked, in feature order."""

from __future__ import annotations

from collections.abc import Sequence

from artifactdb.artifacts import find
from artifactdb.artifacts.find import StoredRecord
from artifactdb.database import Database
from artifactdb.errors import InvalidValueError, MissingDependencyError
from artifactdb.records import ArtifactType


def source_records(database: Database, stack: StoredRecord, *, validate_branch: bool) -> list[StoredRecord]:
    """Give the records of a stack's sources in feature order.

    Raises
    ------
    InvalidValueError
        For what is no meta-model, or says no order of its sources; with ``validate_branch`` for a source of a branch
        that is neither the stack's nor a parent of it.
    MissingDependencyError
        When a source is not there.
    """
    records = []
    for source_id in _source_ids(stack):
        record = find.by_id(database, source_id, stack.dataset)
        if record is None:
            raise MissingDependencyError(
                f"the source model {source_id} of {stack.artifact_id} is not there.", missing=[source_id]
            )
        if validate_branch and record.branch_path != stack.branch_path[: len(record.branch_path)]:
            raise InvalidValueError(
                f"the source model {source_id} is of branch {record.branch_path}, "
                f"{stack.artifact_id} of branch {stack.branch_path}.",
                hint="Pass validate_branch=False if it stacks across branches on purpose.",
            )
        records.append(record)
    return records


def feature_columns(stack: StoredRecord, sources: Sequence[StoredRecord]) -> list[str]:
    """Give the names of the columns of a stack's X, one for each source."""
    if stack.meta_config is None:
        return [f"{source.class_name}_pred" for source in sources]
    return list(stack.meta_config.feature_columns)


def _source_ids(stack: StoredRecord) -> list[str]:
    if stack.meta_config is not None:
        try:
            ordered = sorted(stack.meta_config.source_models, key=lambda item: int(item.get("feature_index", 0)))
        except (TypeError, ValueError) as error:
            raise InvalidValueError(f"a feature_index of {stack.artifact_id} is no number ({error}).") from None
        return [str(source["artifact_id"]) for source in ordered]
    if stack.artifact_type != ArtifactType.META_MODEL:
        raise InvalidValueError(f"{stack.artifact_id} ({stack.artifact_type}) is no meta-model with sources.")
    return stack.depends_on  # in the order in which they were named
