"""One SQLite file that keeps every fitted object of your machine-learning pipelines, and gives it back.

Everything public is here. Names are imported on first use, so that ``import artifactdb`` costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from artifactdb.version import __version__

_HOMES = {
    "artifactdb.cache": ("LRUCache",),
    "artifactdb.catalog": ("Catalog",),
    "artifactdb.chain": ("OperatorChain", "OperatorNode", "compute_chain_hash"),
    "artifactdb.errors": (
        "ArtifactDBError", "ArtifactNotFoundError", "BusyError", "CatalogFileError", "CorruptBlobError",
        "CorruptWorkspaceError", "DependencyCycleError", "DeserializationError", "DuplicateError",
        "InvalidChainError", "InvalidIdError", "InvalidValueError", "LibraryEntryNotFoundError",
        "MissingDependencyError", "NewerSchemaError", "NotAWorkspaceError", "PredictionNotFoundError", "QueryError",
        "ReadOnlyError", "RunNotFoundError", "SerializationError", "StillReferencedError", "StorageError",
        "StorageFullError", "UntrustedArtifactError", "WorkspaceNotFoundError",
    ),
    "artifactdb.artifacts.environment": ("ArtifactVersionWarning",),
    "artifactdb.fitted": ("Logged",),
    "artifactdb.graph": ("DependencyGraph",),
    "artifactdb.ids": (
        "compute_content_hash", "extract_fold_id_from_artifact_id", "extract_pipeline_id_from_artifact_id",
        "generate_artifact_id_v3", "generate_filename", "get_short_hash", "is_v3_artifact_id",
        "parse_artifact_id_v3", "validate_artifact_id",
    ),
    "artifactdb.library": ("LibraryManager",),
    "artifactdb.loader": ("ArtifactLoader",),
    "artifactdb.records": (
        "ArtifactRecord", "ArtifactType", "MetaModelConfig", "parse_filename", "register_artifact_type",
    ),
    "artifactdb.registry": ("ArtifactRegistry",),
    "artifactdb.results": ("QueryResult",),
    "artifactdb.runner.predictions": ("Predictions",),
    "artifactdb.runner.runner": ("PipelineRunner",),
    "artifactdb.runs": ("PipelineRecord", "PipelineRun", "Run", "RunRecord"),
    "artifactdb.transfer.recover": ("recover",),
    "artifactdb.transfer.recovery": ("Recovery",),
    "artifactdb.workspace": ("Workspace",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from artifactdb.artifacts.environment import ArtifactVersionWarning
    from artifactdb.cache import LRUCache
    from artifactdb.catalog import Catalog
    from artifactdb.chain import OperatorChain, OperatorNode, compute_chain_hash
    from artifactdb.errors import (
        ArtifactDBError,
        ArtifactNotFoundError,
        BusyError,
        CatalogFileError,
        CorruptBlobError,
        CorruptWorkspaceError,
        DependencyCycleError,
        DeserializationError,
        DuplicateError,
        InvalidChainError,
        InvalidIdError,
        InvalidValueError,
        LibraryEntryNotFoundError,
        MissingDependencyError,
        NewerSchemaError,
        NotAWorkspaceError,
        PredictionNotFoundError,
        QueryError,
        ReadOnlyError,
        RunNotFoundError,
        SerializationError,
        StillReferencedError,
        StorageError,
        StorageFullError,
        UntrustedArtifactError,
        WorkspaceNotFoundError,
    )
    from artifactdb.fitted import Logged
    from artifactdb.graph import DependencyGraph
    from artifactdb.ids import (
        compute_content_hash,
        extract_fold_id_from_artifact_id,
        extract_pipeline_id_from_artifact_id,
        generate_artifact_id_v3,
        generate_filename,
        get_short_hash,
        is_v3_artifact_id,
        parse_artifact_id_v3,
        validate_artifact_id,
    )
    from artifactdb.library import LibraryManager
    from artifactdb.loader import ArtifactLoader
    from artifactdb.records import (
        ArtifactRecord,
        ArtifactType,
        MetaModelConfig,
        parse_filename,
        register_artifact_type,
    )
    from artifactdb.registry import ArtifactRegistry
    from artifactdb.results import QueryResult
    from artifactdb.runner.predictions import Predictions
    from artifactdb.runner.runner import PipelineRunner
    from artifactdb.runs import PipelineRecord, PipelineRun, Run, RunRecord
    from artifactdb.transfer.recover import recover
    from artifactdb.transfer.recovery import Recovery
    from artifactdb.workspace import Workspace

__all__ = [  # noqa: RUF022 - sorted as people look for them: the classes, the functions, the errors
    "Workspace", "ArtifactRegistry", "ArtifactLoader", "Catalog", "LibraryManager", "PipelineRunner",
    "Predictions", "Logged", "ArtifactRecord",
    "ArtifactType", "MetaModelConfig", "Run", "PipelineRun", "RunRecord", "PipelineRecord",
    "OperatorChain", "OperatorNode", "DependencyGraph", "LRUCache", "QueryResult", "Recovery", "ArtifactVersionWarning",
    "compute_chain_hash", "compute_content_hash", "extract_fold_id_from_artifact_id",
    "extract_pipeline_id_from_artifact_id", "generate_artifact_id_v3", "generate_filename", "get_short_hash",
    "is_v3_artifact_id", "parse_artifact_id_v3", "parse_filename", "recover", "register_artifact_type",
    "validate_artifact_id",
    "ArtifactDBError", "ArtifactNotFoundError", "BusyError", "CatalogFileError", "CorruptBlobError",
    "CorruptWorkspaceError", "DependencyCycleError", "DeserializationError", "DuplicateError", "InvalidChainError",
    "InvalidIdError", "InvalidValueError", "LibraryEntryNotFoundError", "MissingDependencyError", "NewerSchemaError",
    "NotAWorkspaceError", "PredictionNotFoundError", "QueryError", "ReadOnlyError", "RunNotFoundError",
    "SerializationError", "StillReferencedError", "StorageError", "StorageFullError", "UntrustedArtifactError",
    "WorkspaceNotFoundError", "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'artifactdb' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
