"""The workspace: one file and everything that can be asked of it, tied together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifactdb.artifacts import check, delete, find, load, statistics
from artifactdb.artifacts.check import Verification
from artifactdb.artifacts.delete import Orphan
from artifactdb.chain import OperatorChain
from artifactdb.database import Database, querying, snapshot
from artifactdb.errors import BusyError, InvalidValueError, ReadOnlyError
from artifactdb.ids import validate_fold_id
from artifactdb.library import LibraryManager
from artifactdb.loader import ArtifactLoader
from artifactdb.records import ArtifactRecord
from artifactdb.registry import ArtifactRegistry
from artifactdb.results import QueryResult
from artifactdb.runs import PipelineRecord, Run, RunRecord
from artifactdb.runs import store as run_store

if TYPE_CHECKING:
    import sqlite_utils

    from artifactdb.catalog import Catalog

_HAS_PREDICTIONS = """
SELECT EXISTS (SELECT 1 FROM catalog_files) OR EXISTS (SELECT 1 FROM staged_predictions)
"""


class Workspace:
    """One SQLite file that keeps fitted objects, made on first use.

    Parameters
    ----------
    path : str or Path
        A directory, which then holds ``workspace.sqlite``, or a file such as ``wheat.sqlite``.
    mode : {"rw", "ro"}, default "rw"
        ``"ro"`` neither makes nor changes anything.
    timeout_s : float, default 30.0
        How long to wait for another writer, in seconds.

    Examples
    --------
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> with Workspace(getfixture("tmp_path") / "wheat.sqlite") as workspace:
    ...     registry = workspace.registry("wheat", pipeline_id="0001_pls")
    ...     scaler = MinMaxScaler().fit([[0.0], [2.0]])
    ...     record = registry.register_with_chain(scaler, "s1.MinMaxScaler", "transformer", step_index=1)
    ...     rows = workspace.query("SELECT class_name, step_index FROM artifacts").to_dicts()
    >>> rows
    [{'class_name': 'MinMaxScaler', 'step_index': 1}]
    """

    def __init__(self, path: str | os.PathLike[str], *, mode: str = "rw", timeout_s: float = 30.0) -> None:
        self.database = Database(path, mode=mode, timeout_s=timeout_s)
        self._catalog: Catalog | None = None
        if mode == "rw":
            with suppress(BusyError, ReadOnlyError):  # said another time; who asks is told in any case
                run_store.mark_interrupted(self.database)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r})"

    def _repr_html_(self) -> str:
        shown = self.stats()
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in shown.items()
        )
        return f"<p><b>Workspace</b> {escape(str(self.path))}</p><table>{rows}</table>"

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self.database.path

    def close(self) -> None:
        """Move staged predictions to Parquet and close the file; after the last close no part of it lies beside it."""
        if not self.database.closed and self.database.in_transaction:
            raise InvalidValueError(
                "a workspace cannot be closed inside a transaction.", hint="Close it after the block."
            )
        try:
            if self._catalog is not None:
                self._catalog.flush_on_close()
        finally:
            self.database.close()

    def transaction(self) -> AbstractContextManager[None]:
        """Group changes: all of them durable when the block ends, none when it raises. Blocks may be nested."""
        return self.database.transaction()

    def registry(self, dataset: str, pipeline_id: str = "") -> ArtifactRegistry:
        """Give the registry of a dataset, which shares this workspace's transactions."""
        return ArtifactRegistry(self, dataset, pipeline_id=pipeline_id)

    def loader(self, dataset: str, cache_size: int = 100) -> ArtifactLoader:
        """Give a loader for a dataset."""
        return ArtifactLoader(self, dataset, cache_size=cache_size)

    @property
    def library(self) -> LibraryManager:
        """The reusable configurations that this workspace keeps."""
        return LibraryManager(self)

    @property
    def catalog(self) -> Catalog:
        """The predictions that belong to this workspace."""
        if self._catalog is None:
            # DuckDB and Arrow take a while to import, and most who open a workspace do without.
            from artifactdb.catalog import Catalog

            self._catalog = Catalog(self.database)
        return self._catalog

    # -- runs ---------------------------------------------------------------------------------------

    def run(
        self,
        dataset: str,
        name: str = "",
        *,
        configuration: Any = None,
        tags: Sequence[str] = (),
        notes: str = "",
        resume: bool | str = False,
    ) -> Run:
        """Give a run to train pipelines in, for a with block.

        Parameters
        ----------
        dataset : str
        name : str, optional
            What the experiment is called.
        configuration : dict or list, optional
            Of the whole experiment; what JSON can hold.
        tags : sequence of str, optional
        notes : str, optional
        resume : bool or str, default False
            Carry on with the last run of that dataset and name that did not complete, or with the one of that id;
            what it has completed is not trained again. Where there is none, a new one starts.

        Raises
        ------
        BusyError
            When the run to be resumed is going on in another process.

        Examples
        --------
        >>> from sklearn.linear_model import Ridge
        >>> with Workspace(getfixture("tmp_path") / "wheat.sqlite") as workspace:
        ...     with workspace.run("wheat", name="baseline", tags=["nir"]) as run:
        ...         with run.pipeline(["Ridge"], name="ridge") as pipeline:
        ...             model = Ridge().fit([[0.0], [1.0]], [0.0, 2.0])
        ...             record = pipeline.registry.register_with_chain(model, "s1.Ridge", "model", 1, fold_id=0)
        ...             pipeline.log_metrics({"val": {"rmse": 0.5}})
        ...     workspace.pipeline(pipeline.pipeline_id).metrics
        {'val': {'all': {'rmse': 0.5}}}
        """
        return Run(self, dataset, name=name, configuration=configuration, tags=tags, notes=notes, resume=resume)

    def runs(
        self, dataset: str | None = None, *, run_id: str | None = None, status: str | None = None,
        tag: str | None = None,
    ) -> list[RunRecord]:  # fmt: skip
        """Give the runs that meet every condition, oldest first; one whose process is gone is interrupted."""
        found = run_store.runs(self.database, dataset, run_id, tag)
        return [run for run in found if status in (None, run.status)]

    def pipelines(
        self, dataset: str | None = None, *, run_id: str | None = None, status: str | None = None,
        tag: str | None = None,
    ) -> list[PipelineRecord]:  # fmt: skip
        """Give the pipelines that meet every condition, with their metrics, by dataset and id."""
        found = run_store.pipelines(self.database, dataset, run_id, tag)
        return [pipeline for pipeline in found if status in (None, pipeline.status)]

    def pipeline(self, pipeline_id: str, dataset: str | None = None) -> PipelineRecord:
        """Give one pipeline.

        Raises
        ------
        RunNotFoundError
            A KeyError.
        """
        return run_store.pipeline(self.database, pipeline_id, dataset)

    def clean_up_run(self, run_id: str, *, dry_run: bool = False) -> dict[str, int]:
        """Take back a run: the artifacts that it first made, the predictions of its pipelines, and the run itself.

        Parameters
        ----------
        dry_run : bool, default False
            Only count.

        Returns
        -------
        dict
            ``artifacts`` and ``predictions``: how many.

        Raises
        ------
        RunNotFoundError
            A KeyError.
        BusyError
            While a process is still carrying it out.
        StillReferencedError
            When artifacts of others depend on these.
        """
        keys = run_store.keys_of_run(self.database, run_id)
        if any(run_store.running_elsewhere(self.database, key) for key in keys):
            raise BusyError(f"run {run_id} is still going on.", hint="Wait for its end.")
        counted = {"artifacts": sum(run.artifacts for run in self.runs(run_id=run_id)), "predictions": 0}
        with self.transaction():
            if self._has_predictions():
                counted["predictions"] = self.catalog.delete(run_id=run_id, dry_run=dry_run)
            if not dry_run:
                run_store.take_back(self.database, keys)
                for key in keys:
                    run_store.remove_run(self.database, key)
        return counted

    # -- questions ----------------------------------------------------------------------------------

    def datasets(self) -> list[str]:
        """Give the names of the datasets."""
        return [name for (name,) in self.database.rows("SELECT name FROM datasets ORDER BY name")]

    def record(self, artifact_id: str, dataset: str | None = None) -> ArtifactRecord:
        """Give the record of an id.

        Raises
        ------
        ArtifactNotFoundError
            A KeyError.
        """
        return find.require(self.database, artifact_id, dataset)

    def records(
        self,
        *,
        dataset: str | None = None,
        pipeline_id: str | None = None,
        step_index: int | None = None,
        branch_path: Sequence[int] | None = None,
        fold_id: int | None = None,
        artifact_type: str | None = None,
        class_name: str | None = None,
        parameter: tuple[str, Any] | None = None,
        chain_prefix: str | OperatorChain | None = None,
        limit: int | None = None,
    ) -> list[ArtifactRecord]:
        """Give the records that meet every condition; None matches anything.

        Parameters
        ----------
        parameter : (str, value), optional
            Name and value of a parameter, e.g. ``("n_components", 10)``.
        chain_prefix : str or OperatorChain, optional
            The operators that the chain begins with.
        limit : int, optional
            At most so many.
        """
        prefix = None if chain_prefix is None else find.chain_text(chain_prefix)
        return list(
            find.filtered(
                self.database, dataset=dataset, pipeline_number=pipeline_id, step_index=step_index,
                branch_path=branch_path, fold_id=validate_fold_id(fold_id), artifact_type=artifact_type,
                class_name=class_name, parameter=parameter, chain_prefix=prefix, limit=limit,
            )
        )  # fmt: skip

    def load(self, artifact_id: str, dataset: str | None = None) -> Any:
        """Give the object of an id."""
        return load.load(self.database, find.require(self.database, artifact_id, dataset))

    def query(
        self,
        sql: str,
        params: Sequence[Any] | dict[str, Any] = (),
        *,
        timeout_s: float | None = None,
        max_rows: int | None = None,
    ) -> QueryResult:
        """Run SQL that reads; whatever else it tries is refused.

        Parameters
        ----------
        sql : str
            The views ``artifacts, folds, dependencies, lineage_up, lineage_down, shared_blobs, orphan_blobs`` answer
            the common questions.
        params : sequence or dict
            Values for ``?`` or ``:name``.
        timeout_s : float, optional
            Seconds after which the query is stopped.
        max_rows : int, optional
            Stop after so many rows; the result is then marked as truncated.

        Raises
        ------
        QueryError
        """
        return querying.query(self.database, sql, params, timeout_s=timeout_s, max_rows=max_rows)

    def sql(
        self,
        sql: str,
        params: Sequence[Any] | dict[str, Any] = (),
        *,
        timeout_s: float | None = None,
        max_rows: int | None = None,
        memory_limit: str | None = None,
        skip_damaged: bool = False,
    ) -> QueryResult:
        """Ask in DuckDB's SQL over predictions and records together, all in one state of the workspace.

        Parameters
        ----------
        sql : str
            One statement that reads. Its tables are ``predictions, arrays``, Parquet and staged rows together, and
            ``artifacts, chains, folds, dependencies, pipelines, runs, library``.
        params : sequence or dict
            Values for ``?`` or ``$name``.
        timeout_s : float, optional
            Seconds after which the query is stopped.
        max_rows : int, optional
            Stop after so many rows; the result is then marked as truncated.
        memory_limit : str, optional
            What DuckDB may take, e.g. ``"2GB"``; beyond it spills to the temporary folder. Else 80 % of the machine's.
        skip_damaged : bool, default False
            Answer without Parquet files that are missing or damaged.

        Raises
        ------
        QueryError
            For SQL that is wrong, writes, reads other files, or takes too long.
        CatalogFileError
            When a Parquet file that the statement needs is missing or damaged.
        """
        return self.catalog.sql(
            sql, params, timeout_s=timeout_s, max_rows=max_rows, memory_limit=memory_limit, skip_damaged=skip_damaged
        )

    def stats(self) -> dict[str, Any]:
        """Count artifacts, distinct contents and bytes of the whole file."""
        return statistics.statistics(self.database)

    # -- care ---------------------------------------------------------------------------------------

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Check every page, reference, blob, id and Parquet file; runs nothing of what the file holds."""
        found = check.verify(self.database, progress)
        if self._has_predictions():
            found.problems += self.catalog.verify()
        return found

    def orphans(self) -> list[Orphan]:
        """Give the content that no record reaches."""
        return delete.find_orphans(self.database)

    def gc(self, *, dry_run: bool = False, release_space: bool = True) -> list[Orphan]:
        """Delete the content that no record reaches.

        Parameters
        ----------
        dry_run : bool, default False
            Only say what would be deleted.
        release_space : bool, default True
            Give the free pages back to the file system too.
        """
        orphans = delete.delete_orphans(self.database, dry_run=dry_run)
        if release_space and not dry_run:
            snapshot.release_space(self.database)
        return orphans

    def backup(self, path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> Path:
        """Copy the workspace to a new file, consistent even while others write; its Parquet files go along.

        Raises
        ------
        InvalidValueError
            When the target exists.
        """
        if self._has_predictions():
            return self.catalog.backup(Path(path), progress)
        return snapshot.backup(self.database, Path(path), progress)

    def _has_predictions(self) -> bool:
        return bool(self.database.value(_HAS_PREDICTIONS))

    def sqlite_utils(self) -> sqlite_utils.Database:
        """Give a ``sqlite_utils.Database`` in memory with every record and no payload, as of now."""
        return snapshot.sqlite_utils_database(self.database)
