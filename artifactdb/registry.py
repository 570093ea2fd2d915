"""The registry of the seed: everything that is written goes through it, and is on disk when a call returns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifactdb.artifacts import delete, dependencies, find, load, save, statistics
from artifactdb.artifacts.delete import Orphan
from artifactdb.artifacts.find import StoredRecord
from artifactdb.artifacts.manifest import ManifestImport, export_manifest, import_manifest
from artifactdb.artifacts.place import Place, checked_place, listed_ids, require_own_chain
from artifactdb.chain import OperatorChain, OperatorNode, compute_chain_hash
from artifactdb.database.connection import database_of
from artifactdb.errors import InvalidValueError, MissingDependencyError
from artifactdb.ids import (
    agreeing_fold,
    artifact_id_of_hash,
    extract_fold_id_from_artifact_id,
    extract_pipeline_id_from_artifact_id,
    generate_artifact_id_v3,
    parse_legacy_id,
    require_artifact_id,
    validate_artifact_id,
    validate_pipeline_id,
)
from artifactdb.paths import local_path
from artifactdb.records import ArtifactRecord, ArtifactType, MetaModelConfig
from artifactdb.runs.naming import require_dataset_name
from artifactdb.runs.store import RunKey
from artifactdb.runs.tracking import Tracking

if TYPE_CHECKING:
    from artifactdb.workspace import Workspace


class ArtifactRegistry:
    """Registers fitted objects of one dataset.

    Parameters
    ----------
    workspace : str, Path or Workspace
        A directory, a file, or an open workspace.
    dataset : str
        Name of the data that the pipelines are trained on.
    manifest_manager : object, optional
        Taken for the sake of code written for the seed; records live in the file.
    pipeline_id : str, default ""
        The pipeline that artifacts belong to unless a call names another.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> folder = getfixture("tmp_path")
    >>> registry = ArtifactRegistry(folder / "study.sqlite", "wheat", pipeline_id="0001_pls")
    >>> scaler = StandardScaler().fit([[1.0], [3.0]])
    >>> record = registry.register_with_chain(scaler, "s1.StandardScaler", ArtifactType.TRANSFORMER, step_index=1)
    >>> registry.resolve(record.artifact_id).class_name
    'StandardScaler'
    """

    def __init__(
        self,
        workspace: str | os.PathLike[str] | Workspace,
        dataset: str,
        manifest_manager: object = None,
        pipeline_id: str = "",
    ) -> None:
        self._database = database_of(workspace)
        self._own = self._database is not getattr(workspace, "database", None)
        self.dataset = require_dataset_name(dataset)
        self.pipeline_id = validate_pipeline_id(pipeline_id) if pipeline_id else ""
        self.manifest_manager = manifest_manager
        self._tracking = Tracking(self._database, self.dataset, self.pipeline_id)

    def __repr__(self) -> str:
        return f"ArtifactRegistry({str(self._database.path)!r}, {self.dataset!r}, pipeline_id={self.pipeline_id!r})"

    @property
    def workspace(self) -> Path:
        """The folder of the workspace file."""
        return self._database.path.parent

    def close(self) -> None:
        """Close the file, if this registry opened it by path; otherwise the workspace closes it."""
        if self._own:
            self._database.close()

    # -- register -----------------------------------------------------------------------------------

    def generate_id(
        self, chain: str | OperatorChain, fold_id: int | None = None, pipeline_id: str | None = None
    ) -> str:
        """Give the id of a chain and fold: ``{pipeline_id}${chain_hash}:{fold_id|all}``."""
        return generate_artifact_id_v3(self._pipeline(chain, pipeline_id), chain, agreeing_fold(chain, fold_id))

    def register_with_chain(
        self,
        obj: Any,
        chain: str | OperatorChain,
        artifact_type: ArtifactType | str,
        step_index: int,
        branch_path: Sequence[int] | None = None,
        source_index: int | None = None,
        fold_id: int | None = None,
        substep_index: int | None = None,
        depends_on: Sequence[str] | None = None,
        params: Mapping[str, Any] | None = None,
        meta_config: MetaModelConfig | None = None,
        format_hint: str | None = None,
        custom_name: str | None = None,
        pipeline_id: str | None = None,
    ) -> ArtifactRecord:
        """Store a fitted object under the id of its chain and fold, durably, with record and dependencies.

        Parameters
        ----------
        obj : object
            Anything that pickle or dill takes.
        chain : str or OperatorChain
            How data reached the object, itself included.
        artifact_type : ArtifactType or str
        step_index : int
            Position of the step, 0 or more.
        branch_path : sequence of int, optional
            Taken from the chain's last operator when not given; of what is there already it stays what it was.
        source_index, substep_index : int, optional
            Likewise.
        fold_id : int, optional
            None for what all folds share.
        depends_on : sequence of str, optional
            Ids that must be there already.
        params : dict, optional
            Default: the object's own ``get_params()``.
        meta_config : MetaModelConfig, optional
            For a stack; its source models become dependencies.
        format_hint : str, optional
            Name of a serializer.
        custom_name : str, optional
        pipeline_id : str, optional
            Default: the registry's.

        Returns
        -------
        ArtifactRecord

        Raises
        ------
        InvalidChainError, InvalidIdError, InvalidValueError, SerializationError
        MissingDependencyError, DependencyCycleError
            Nothing is left behind.
        DuplicateError
            When the id is that of another branch, source or substep, which the chain does not tell apart.
        """
        path, last = find.read_chain(chain)
        fold = agreeing_fold(chain, fold_id)
        pipeline = self._pipeline(chain, pipeline_id)
        place = checked_place(
            dataset=self.dataset,
            pipeline_id=pipeline,
            artifact_id=artifact_id_of_hash(pipeline, compute_chain_hash(path), fold),
            artifact_type=artifact_type,
            step_index=step_index,
            chain_path=path,
            branch_path=last.branch_path if branch_path is None else branch_path,
            source_index=last.source_index if source_index is None else source_index,
            substep_index=last.substep_index if substep_index is None else substep_index,
            fold_id=fold,
            depends_on=depends_on,
            params=params,
            meta_config=meta_config,
            custom_name=custom_name,
        )
        return self._save(obj, place, format_hint)

    def register(
        self,
        obj: Any,
        artifact_id: str,
        artifact_type: ArtifactType | str,
        depends_on: Sequence[str] | None = None,
        params: Mapping[str, Any] | None = None,
        meta_config: MetaModelConfig | None = None,
        format_hint: str | None = None,
        custom_name: str | None = None,
        chain_path: str = "",
        source_index: int | None = None,
    ) -> ArtifactRecord:
        """Store a fitted object under an id of the caller's; step, branch and substep come from the chain path.

        Parameters
        ----------
        artifact_id : str
            Of this or an older scheme.
        chain_path : str, default ""
            The one whose hash the id has. Without it, step and branch come from an id of an older scheme, or are what
            they were, else the step is 0.

        See Also
        --------
        register_with_chain : for the other parameters and what is raised.
        """
        require_artifact_id(artifact_id)
        known = validate_artifact_id(artifact_id)
        legacy = parse_legacy_id(artifact_id)
        chain_path, last = find.read_chain(chain_path) if chain_path else ("", None)
        if last is None and legacy is not None:
            last = OperatorNode(legacy.step_index, "", list(legacy.branch_path), substep_index=legacy.substep_index)
        place = checked_place(
            dataset=self.dataset,
            pipeline_id=extract_pipeline_id_from_artifact_id(artifact_id) if known else self.pipeline_id or artifact_id,
            artifact_id=artifact_id,
            artifact_type=artifact_type,
            step_index=last.step_index if last else 0,
            chain_path=require_own_chain(artifact_id, chain_path),
            branch_path=last.branch_path if last else [],
            source_index=last.source_index if last and source_index is None else source_index,
            substep_index=last.substep_index if last else None,
            fold_id=extract_fold_id_from_artifact_id(artifact_id) if known else None,
            depends_on=depends_on,
            params=params,
            meta_config=meta_config,
            custom_name=custom_name,
        )
        return self._save(obj, place, format_hint)

    def register_meta_model(
        self,
        obj: Any,
        artifact_id: str,
        source_model_ids: Iterable[str],
        feature_columns: Sequence[str] | None = None,
        params: Mapping[str, Any] | None = None,
        format_hint: str | None = None,
    ) -> ArtifactRecord:
        """Store a stacking meta-model with its sources in feature order.

        Parameters
        ----------
        source_model_ids : iterable of str
            Registered before; the position is the feature index.
        feature_columns : sequence of str, optional
            Default: ``{ClassName}_pred`` of each source.
        """
        source_model_ids = listed_ids("source_model_ids", source_model_ids)
        sources = [(source_id, self.resolve(source_id)) for source_id in source_model_ids]
        missing = [source_id for source_id, record in sources if record is None]
        if missing:
            raise MissingDependencyError(
                f"{artifact_id} stacks models that are not there: {', '.join(missing[:5])}.",
                hint="Register the source models first.",
                missing=missing,
            )
        if feature_columns is None:
            feature_columns = [f"{record.class_name}_pred" for _, record in sources if record]
        if len(feature_columns) != len(sources):
            raise InvalidValueError(f"{len(sources)} source models need as many columns, not {len(feature_columns)}.")
        config = MetaModelConfig.of_sources(source_model_ids, feature_columns)
        return self.register(
            obj, artifact_id, ArtifactType.META_MODEL, params=params, meta_config=config, format_hint=format_hint
        )

    def _save(self, obj: Any, place: Place, format_hint: str | None) -> StoredRecord:
        return save.save(self._database, obj, place, format_hint=format_hint, run_key=self._tracking.key)

    def _pipeline(self, chain: str | OperatorChain, pipeline_id: str | None) -> str:
        of_chain = chain.pipeline_id if isinstance(chain, OperatorChain) else ""
        return validate_pipeline_id(pipeline_id or self.pipeline_id or of_chain)

    # -- find ---------------------------------------------------------------------------------------

    def resolve(self, artifact_id: str) -> ArtifactRecord | None:
        """Give the record of an id, ids of older schemes included, or None."""
        return find.by_id(self._database, artifact_id, self.dataset)

    def resolve_by_hash(self, content_hash: str) -> ArtifactRecord | None:
        """Give the first record with that content, of whatever dataset of the file, or None."""
        return find.by_hash(self._database, content_hash)

    def get_by_chain(self, chain: str | OperatorChain, fold_id: int | None = None) -> ArtifactRecord | None:
        """Give the record of a chain and fold, or None.

        Without a fold: what all folds share, else the first fold. The registry's own pipeline comes first, then
        the newest of the dataset.
        """
        return find.by_chain(self._database, chain, fold_id, self.dataset, self.pipeline_id)

    def get_chain_prefix(
        self,
        prefix: str | OperatorChain,
        branch_path: Sequence[int] | None = None,
        source_index: int | None = None,
    ) -> list[ArtifactRecord]:
        """Give the records whose chain begins with these operators; None matches anything."""
        return list(
            find.filtered(
                self._database, dataset=self.dataset, chain_prefix=find.chain_text(prefix), branch_path=branch_path,
                source_index=source_index,
            )
        )  # fmt: skip

    def get_dependencies(self, artifact_id: str) -> list[str]:
        """Give the ids that an artifact directly depends on."""
        return dependencies.direct(self._database, self._stored(artifact_id).record_key)

    def resolve_dependencies(self, artifact_id: str) -> list[ArtifactRecord]:
        """Give the records of all that an artifact depends on, sources before what needs them."""
        return list(dependencies.transitive(self._database, self._stored(artifact_id).record_key))

    def get_artifacts_for_step(
        self,
        pipeline_id: str,
        step_index: int,
        branch_path: Sequence[int] | None = None,
        fold_id: int | None = None,
    ) -> list[ArtifactRecord]:
        """Give the records of a step; None matches anything. A pipeline is named in full or by its number."""
        return list(
            find.filtered(
                self._database, dataset=self.dataset, pipeline_number=pipeline_id, step_index=step_index,
                branch_path=branch_path, fold_id=fold_id,
            )
        )  # fmt: skip

    def get_fold_models(
        self, pipeline_id: str, step_index: int, branch_path: Sequence[int] | None = None
    ) -> list[ArtifactRecord]:
        """Give the records of a step's fold models, sorted by fold."""
        found = find.filtered(
            self._database, dataset=self.dataset, pipeline_number=pipeline_id, step_index=step_index,
            branch_path=branch_path, folds_only=True,
        )  # fmt: skip
        return sorted((record for record in found if find.is_model(record)), key=lambda record: record.fold_id or 0)

    def get_all_records(self) -> list[ArtifactRecord]:
        """Give every record of the dataset."""
        return list(find.filtered(self._database, dataset=self.dataset))

    def load_artifact(self, record: ArtifactRecord | str) -> Any:
        """Give the object of an id, or of a record, be it of another dataset of the file."""
        if isinstance(record, ArtifactRecord):
            stored = find.require(self._database, record.artifact_id, record.dataset or self.dataset)
        else:
            stored = self._stored(record)
        return load.load(self._database, stored)

    def _stored(self, artifact_id: str) -> StoredRecord:
        return find.require(self._database, artifact_id, self.dataset)

    # -- exchange -----------------------------------------------------------------------------------

    def import_from_manifest(
        self,
        manifest: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        results_dir: str | os.PathLike[str],
        *,
        trust: bool = False,
    ) -> ManifestImport:
        """Take in the records of a manifest and the files they name under ``results_dir``; runs none of it.

        ``trust`` vouches for all of it, as for what is saved here.
        """
        return import_manifest(self._database, manifest, local_path(results_dir), self.dataset, trust=trust)

    def export_to_manifest(self) -> dict[str, Any]:
        """Give the dataset's records (of the registry's pipeline, if it has one) as a manifest."""
        records = find.filtered(self._database, dataset=self.dataset, pipeline_id=self.pipeline_id or None)
        return export_manifest(records)

    # -- clean up -----------------------------------------------------------------------------------

    def find_orphaned_artifacts(self, scan_all_manifests: bool = True) -> list[str]:
        """Give the content hashes that no record and no entry of the library of the whole file reaches.

        ``scan_all_manifests`` is the seed's; the file is always looked at as a whole.
        """
        return [orphan.content_hash for orphan in delete.find_orphans(self._database)]

    def delete_orphaned_artifacts(self, dry_run: bool = True, scan_all_manifests: bool = True) -> tuple[list[str], int]:
        """Delete content that nothing reaches; give (content hashes, bytes freed within the file)."""
        orphans: list[Orphan] = delete.delete_orphans(self._database, dry_run=dry_run)
        return [orphan.content_hash for orphan in orphans], sum(orphan.stored_bytes for orphan in orphans)

    def delete_pipeline_artifacts(self, pipeline_id: str, delete_files: bool = False, *, cascade: bool = False) -> int:
        """Delete a pipeline's records; give how many.

        Parameters
        ----------
        pipeline_id : str
        delete_files : bool, default False
            Delete the content too, where nothing else has it.
        cascade : bool, default False
            Delete what other pipelines made of it too.

        Raises
        ------
        StillReferencedError
            When artifacts of other pipelines depend on these.
        """
        with self._database.transaction():
            keys = delete.records_of_pipeline(self._database, self.dataset, pipeline_id)
            count = delete.delete_records(self._database, keys, cascade=cascade)
            if delete_files:
                delete.delete_orphans(self._database, dry_run=False)
        return count

    def purge_dataset_artifacts(self, confirm: bool = False) -> tuple[int, int]:
        """Delete everything of the dataset; give (artifacts deleted, bytes freed within the file).

        Raises
        ------
        InvalidValueError
            Without ``confirm=True``.
        """
        if confirm is not True:
            raise InvalidValueError(f"purging {self.dataset!r} deletes all its artifacts.", hint="Pass confirm=True.")
        with self._database.transaction():
            count = delete.delete_records(self._database, delete.records_of_dataset(self._database, self.dataset))
            orphans = delete.delete_orphans(self._database, dry_run=False)
        return count, sum(orphan.stored_bytes for orphan in orphans)

    def belong_to_run(self, run: RunKey) -> None:
        """Let a run keep track of what is registered; for ``Run``."""
        self._tracking.around = run

    def start_run(self) -> None:
        """Begin to keep track of what is registered, so that a failed training can be taken back.

        One that was begun before and not ended has failed; what it registered stays.
        """
        self._tracking.begin()

    def end_run(self) -> None:
        """Say that training ended well: what it registered stays."""
        self._tracking.end()

    def cleanup_failed_run(self) -> int:
        """Delete what was first registered since ``start_run``, and by nobody else since; give how many.

        Called by a new process for the same dataset and pipeline, it takes back what a process that died left.
        """
        return self._tracking.take_back()

    def get_stats(self, scan_all_manifests: bool = True) -> dict[str, Any]:
        """Count the dataset's artifacts and bytes; see ``artifactdb.artifacts.statistics``."""
        return statistics.statistics(self._database, self.dataset)
