"""The loader of the seed: objects by id, chain, step or name, kept in a cache that never serves what was replaced."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from artifactdb.artifacts import dependencies, find, stacking
from artifactdb.artifacts.find import StoredRecord
from artifactdb.artifacts.loaded import LoadedObjects
from artifactdb.artifacts.manifest import ManifestImport, import_manifest, items_of
from artifactdb.artifacts.place import branch_indexes, listed_ids, require_name
from artifactdb.cache import LRUCache
from artifactdb.chain import OperatorChain
from artifactdb.database.connection import database_of
from artifactdb.errors import CorruptBlobError, DeserializationError, InvalidValueError, UntrustedArtifactError
from artifactdb.paths import local_path
from artifactdb.records import ArtifactRecord, artifact_type_name

if TYPE_CHECKING:
    from artifactdb.workspace import Workspace


class ArtifactLoader:
    """Gives fitted objects back.

    Parameters
    ----------
    workspace : str, Path or Workspace
    dataset : str
        Name of the dataset whose artifacts are looked up.
    results_dir : str or Path, optional
        Taken for the sake of code written for the seed.
    cache_size : int, default 100
        Objects to keep in memory.
    cache_bytes : int, optional, keyword-only
        Bound on the sum of their sizes, in logical bytes (``size_bytes``).

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from artifactdb import ArtifactRegistry
    >>> file = getfixture("tmp_path") / "study.sqlite"
    >>> registry = ArtifactRegistry(file, "wheat", pipeline_id="0001_ridge")
    >>> model = Ridge().fit([[0.0], [1.0]], [0.0, 2.0])
    >>> _ = registry.register_with_chain(model, "s1.Ridge", "model", step_index=1, fold_id=0)
    >>> loader = ArtifactLoader(file, "wheat")
    >>> loader.load_by_chain("s1.Ridge", fold_id=0).predict([[1.0]]).tolist() == model.predict([[1.0]]).tolist()
    True
    """

    def __init__(
        self,
        workspace: str | os.PathLike[str] | Workspace,
        dataset: str,
        results_dir: str | os.PathLike[str] | None = None,
        cache_size: int = 100,
        *,
        cache_bytes: int | None = None,
    ) -> None:
        self._database = database_of(workspace)
        self._own = self._database is not getattr(workspace, "database", None)
        self.dataset = require_name("dataset", dataset)
        self.results_dir = local_path(results_dir) if results_dir is not None else None
        self._loaded = LoadedObjects(self._database, dataset, LRUCache(cache_size, max_bytes=cache_bytes))
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def from_manifest(
        cls,
        manifest: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        results_dir: str | os.PathLike[str],
        cache_size: int = 100,
        *,
        trust: bool = False,
    ) -> ArtifactLoader:
        """Make a loader of a manifest and the folder with its files, in a temporary workspace.

        Parameters
        ----------
        manifest : dict or list of dict
            ``{"schema_version": "3.0", "items": [...]}``, or its items.
        results_dir : str or Path
            Where the files are.
        cache_size : int, default 100
            Objects to keep in memory.
        trust : bool, default False
            Vouch for all of it. Otherwise what the user did not sign is not loaded where that would run code.

        Raises
        ------
        InvalidValueError
            When it is no manifest.
        """
        items = items_of(manifest)
        named = manifest.get("dataset") if isinstance(manifest, Mapping) else None
        named = named or (items[0].get("dataset") if items else None) or local_path(results_dir).name or "imported"
        dataset = require_name("dataset", named)
        folder = tempfile.TemporaryDirectory(prefix="artifactdb-")
        loader = cls(local_path(folder.name) / "manifest.sqlite", dataset, results_dir, cache_size)
        loader._folder = folder
        loader.import_from_manifest([{**item, "dataset": dataset} for item in items], results_dir, trust=trust)
        return loader

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_database": self._database,
            "_own": self._own,
            "dataset": self.dataset,
            "results_dir": self.results_dir,
            "_loaded": self._loaded,
            "_folder": None,
        }

    def __repr__(self) -> str:
        return f"ArtifactLoader({str(self._database.path)!r}, {self.dataset!r}, {len(self._loaded.cache)} cached)"

    def close(self) -> None:
        """Close the file, if this loader opened it by path; otherwise the workspace closes it."""
        self._loaded.cache.clear()
        if self._own:
            self._database.close()
        if self._folder is not None:
            self._folder.cleanup()

    def import_from_manifest(
        self,
        manifest: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        results_dir: str | os.PathLike[str],
        *,
        trust: bool = False,
    ) -> ManifestImport:
        """Take in the records of a manifest and the files they name; runs none of it. ``trust`` vouches for it."""
        done = import_manifest(self._database, manifest, local_path(results_dir), self.dataset, trust=trust)
        self._loaded.left_out.refused += done.refused
        self._loaded.left_out.missing += done.missing
        return done

    # -- load ---------------------------------------------------------------------------------------

    def load_by_id(self, artifact_id: str) -> Any:
        """Give the object of an id.

        Raises
        ------
        ArtifactNotFoundError
            A KeyError, when no record answers to the id.
        WorkspaceNotFoundError
            A FileNotFoundError, when its file was not where the manifest was imported from.
        """
        return self._loaded.by_id(artifact_id)

    def load_by_chain(self, chain: str | OperatorChain, fold_id: int | None = None) -> Any | None:
        """Give the object of a chain and fold, or None when it is absent.

        Without a fold: what all folds share, else the first fold.
        """
        record = find.by_chain(self._database, chain, fold_id, self.dataset)
        return self._get(record) if record else None

    def load_by_chain_prefix(
        self,
        prefix: str | OperatorChain,
        branch_path: Sequence[int] | None = None,
        source_index: int | None = None,
    ) -> list[tuple[str, Any]]:
        """Give (id, object) of all artifacts whose chain begins with these operators."""
        found = find.filtered(
            self._database, dataset=self.dataset, chain_prefix=find.chain_text(prefix), source_index=source_index
        )
        return self._pairs(record for record in found if _in_branch(record, branch_path))

    def load_for_step(
        self,
        step_index: int,
        branch_path: Sequence[int] | None = None,
        source_index: int | None = None,
        fold_id: int | None = None,
        pipeline_id: str | None = None,
    ) -> list[tuple[str, Any]]:
        """Give (id, object) of a step's artifacts.

        With a branch, source or fold given: those of it and those shared by all; None matches anything.

        Parameters
        ----------
        pipeline_id : str, optional
            A pipeline's id, or its number alone; default: every pipeline of the dataset.
        """
        return self._pairs(
            record
            for record in self._step(step_index, pipeline_id)
            if _in_branch(record, branch_path)
            and (source_index is None or record.source_index in (None, source_index))
            and (fold_id is None or record.fold_id in (None, fold_id))
        )

    def load_with_dependencies(self, artifact_id: str) -> OrderedDict[str, Any]:
        """Give all that an artifact depends on, sources first, and the artifact last, by id."""
        record = self._loaded.require(artifact_id)
        records = [*dependencies.transitive(self._database, record.record_key), record]
        return OrderedDict((item.artifact_id, self._get(item)) for item in records)

    def load_fold_models(
        self, step_index: int, branch_path: Sequence[int] | None = None, pipeline_id: str | None = None
    ) -> list[tuple[int, Any]]:
        """Give (fold, model) of a step, sorted by fold.

        Parameters
        ----------
        branch_path : sequence of int, optional
            Those of this branch, and those that all branches share.
        pipeline_id : str, optional
            A pipeline's id, or its number alone.

        Warns
        -----
        UserWarning
            Where several pipelines have models at that step and none is named: averaged, they would be no model's.
        """
        records = [
            record
            for record in self._step(step_index, pipeline_id)
            if record.fold_id is not None and find.is_model(record) and _in_branch(record, branch_path)
        ]
        pipelines = sorted({record.pipeline_id for record in records})
        if pipeline_id is None and len(pipelines) > 1:
            warnings.warn(
                f"these are the models of {len(pipelines)} pipelines: {', '.join(pipelines[:5])}. "
                "Name one with pipeline_id.",
                stacklevel=2,
            )
        records.sort(key=lambda record: (record.fold_id or 0, record.record_key))
        return [(record.fold_id or 0, model) for record, model in zip(records, self._loaded.of(records), strict=True)]

    def load_meta_model_with_sources(
        self, artifact_id: str, validate_branch: bool = True
    ) -> tuple[Any, list[tuple[str, Any]], list[str]]:
        """Give a stack, its source models as (id, model) and its column names, both in feature order.

        Raises
        ------
        ArtifactNotFoundError
            A KeyError, when the stack is absent.
        InvalidValueError
            A ValueError, for what is no meta-model, and with ``validate_branch`` for a source of a branch that is
            neither the stack's nor a parent of it.
        MissingDependencyError
            A ValueError, when a source model is absent.
        """
        record = self._loaded.require(artifact_id)
        sources = stacking.source_records(self._database, record, validate_branch=validate_branch)
        return self._get(record), self._pairs(sources), stacking.feature_columns(record, sources)

    def load_meta_model_for_prediction(
        self,
        artifact_id: str,
        X: Any = None,  # noqa: N803
        *,
        validate_branch: bool = True,
    ) -> tuple[Any, list[tuple[str, Any]], list[str]]:
        """Give what ``load_meta_model_with_sources`` gives, checked to fit ``X``.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), optional
            What the source models will be given.
        validate_branch : bool, default True
            Whether a source of another branch is refused.

        Raises
        ------
        InvalidValueError
            A ValueError, when a source was trained on another number of features.
        """
        stack, sources, columns = self.load_meta_model_with_sources(artifact_id, validate_branch)
        import numpy as np

        shape = None if X is None else np.shape(X)
        if shape is not None and len(shape) != 2:
            raise InvalidValueError(f"X has two dimensions, samples and features, not {len(shape)}.")
        given = shape[1] if shape else None
        for source_id, source in sources:
            trained = getattr(source, "n_features_in_", None)
            if given is not None and trained not in (None, given):
                raise InvalidValueError(f"{source_id} was trained on {trained} features, X has {given}.")
        return stack, sources, columns

    # -- as nirs4all's controllers ask --------------------------------------------------------------

    def load_by_artifact_id(self, artifact_id: str) -> tuple[str, Any]:
        """Give (name, object): the user's name, else the class, with the fold behind it if there is one."""
        record = self._loaded.require(artifact_id)
        return _display_name(record), self._get(record)

    def get_step_binaries_by_artifact_ids(self, artifact_ids: Iterable[str]) -> list[tuple[str, Any]]:
        """Give (name, object) of several ids, in their order."""
        return [self.load_by_artifact_id(artifact_id) for artifact_id in listed_ids("artifact_ids", artifact_ids)]

    def find_artifact_by_custom_name(
        self,
        name: str,
        step_index: int | None = None,
        fold_id: int | None = None,
        branch_path: Sequence[int] | None = None,
    ) -> ArtifactRecord | None:
        """Give the record of the newest artifact that bears the user's name, or None."""
        found = find.filtered(
            self._database, dataset=self.dataset, custom_name=name, step_index=step_index, fold_id=fold_id,
            branch_path=branch_path,
        )  # fmt: skip
        return max(found, key=lambda record: record.record_key, default=None)

    def get_step_binaries(
        self, step_id: int | str, branch_id: int | None = None, branch_path: Sequence[int] | None = None
    ) -> list[tuple[str, Any]]:
        """Give (name, object) of a step, ``3`` or ``"3_1"`` with a substep; a branch includes what is shared."""
        step, _, substep = str(step_id).partition("_")
        if not step.isdecimal() or not (substep.isdecimal() or not substep):
            raise InvalidValueError(f"a step is named like 3 or '3_1', not {str(step_id)[:80]!r}.")
        branch = branch_path if branch_path is not None else ([branch_id] if branch_id is not None else None)
        return [
            (_display_name(record), self._get(record))
            for record in self._step(int(step), None)
            if _in_branch(record, branch) and (not substep or record.substep_index in (None, int(substep)))
        ]

    def has_binaries_for_step(
        self, step_number: int, substep_number: int | None = None, branch_id: int | None = None
    ) -> bool:
        """Tell whether a step has artifacts."""
        branch = None if branch_id is None else [branch_id]
        return any(
            _in_branch(record, branch) and (substep_number is None or record.substep_index == substep_number)
            for record in self._step(step_number, None)
        )

    # -- records ------------------------------------------------------------------------------------

    def get_record(self, artifact_id: str) -> ArtifactRecord | None:
        """Give the record of an id, or None."""
        return find.by_id(self._database, artifact_id, self.dataset)

    def get_record_by_chain(self, chain_path: str | OperatorChain, fold_id: int | None = None) -> ArtifactRecord | None:
        """Give the record of a chain and fold; without a fold what all folds share, else the first fold."""
        return find.by_chain(self._database, chain_path, fold_id, self.dataset)

    def get_artifacts_by_chain_filter(
        self,
        step_index: int | None = None,
        branch_path: Sequence[int] | None = None,
        source_index: int | None = None,
        fold_id: int | None = None,
        *,
        chain_prefix: str | OperatorChain | None = None,
        artifact_type: str | None = None,
    ) -> list[ArtifactRecord]:
        """Give the records that meet every condition; None matches anything."""
        return list(
            find.filtered(
                self._database, dataset=self.dataset, chain_prefix=chain_prefix, step_index=step_index,
                branch_path=branch_path, source_index=source_index, fold_id=fold_id,
                artifact_type=None if artifact_type is None else artifact_type_name(artifact_type),
            )
        )  # fmt: skip

    def get_all_records(self) -> list[ArtifactRecord]:
        """Give every record of the dataset."""
        return list(find.filtered(self._database, dataset=self.dataset))

    # -- cache --------------------------------------------------------------------------------------

    def preload_artifacts(
        self, artifact_ids: Iterable[str] | None = None, artifact_types: Iterable[str] | None = None
    ) -> int:
        """Load artifacts into the cache ahead of use; give how many.

        Parameters
        ----------
        artifact_ids : iterable of str, optional
            Ids that are absent are left out, and what is damaged, untrusted or of other libraries' versions.
        artifact_types : iterable of str, optional
            Only these types. Without either, everything of the dataset.
        """
        if artifact_ids is None:
            records = find.filtered(self._database, dataset=self.dataset)
        else:
            found = (find.by_id(self._database, one, self.dataset) for one in listed_ids("artifact_ids", artifact_ids))
            records = [record for record in found if record is not None]
        kinds = [artifact_types] if isinstance(artifact_types, str) else artifact_types
        wanted = None if kinds is None else {artifact_type_name(kind) for kind in kinds}
        loaded = 0
        for record in records:
            if wanted is not None and record.artifact_type not in wanted:
                continue
            try:
                self._get(record)
            except (DeserializationError, UntrustedArtifactError, CorruptBlobError):
                continue
            loaded += 1
        return loaded

    def clear_cache(self) -> None:
        """Forget every loaded object."""
        self._loaded.cache.clear()

    def set_cache_size(self, n: int) -> None:
        """Keep at most ``n`` objects."""
        self._loaded.cache.resize(n)

    def get_cache_info(self) -> dict[str, Any]:
        """Give counts of the cache and of the dataset's artifacts."""
        by_type: dict[str, int] = dict(self._database.rows(_BY_TYPE, (self.dataset,)))
        counts: dict[str, Any] = dict(self._loaded.cache.stats)
        return {
            "cached_count": counts.pop("size"),
            **counts,
            "total_artifacts": sum(by_type.values()),
            "artifacts_by_type": by_type,
        }

    def _get(self, record: StoredRecord) -> Any:
        return self._loaded.of([record])[0]

    def _pairs(self, records: Iterable[StoredRecord]) -> list[tuple[str, Any]]:
        listed = list(records)
        return [(record.artifact_id, obj) for record, obj in zip(listed, self._loaded.of(listed), strict=True)]

    def _step(self, step_index: int, pipeline_id: str | None) -> list[StoredRecord]:
        return find.filtered(self._database, dataset=self.dataset, step_index=step_index, pipeline_number=pipeline_id)


_BY_TYPE = (
    "SELECT artifact_type, count(*) FROM records "
    "WHERE dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?) GROUP BY artifact_type"
)


def _in_branch(record: ArtifactRecord, branch_path: Sequence[int] | None) -> bool:
    """Tell whether a record is of a branch or shared; None matches anything."""
    return branch_path is None or not record.branch_path or record.branch_path == branch_indexes(branch_path)


def _display_name(record: ArtifactRecord) -> str:
    name = record.custom_name or record.class_name
    return name if record.fold_id is None else f"{name}_fold{record.fold_id}"
