"""The source models of a stacking meta-model, found and checked, in feature order."""

from __future__ import annotations

from artifactdb.artifacts import find
from artifactdb.artifacts.find import StoredRecord
from artifactdb.database import Database
from artifactdb.errors import InvalidValueError, MissingDependencyError


def source_records(database: Database, stack: StoredRecord, *, validate_branch: bool) -> list[StoredRecord]:
    """Give the records of a stack's sources in feature order.

    Raises
    ------
    InvalidValueError
        For what is no meta-model; with ``validate_branch`` for a source of a branch that is neither the stack's nor
        a parent of it.
    MissingDependencyError
        When a source is not there.
    """
    if stack.meta_config is None:
        raise InvalidValueError(f"{stack.artifact_id} ({stack.artifact_type}) is no meta-model with sources.")
    records = []
    for source in sorted(stack.meta_config.source_models, key=lambda item: int(item.get("feature_index", 0))):
        source_id = str(source["artifact_id"])
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
