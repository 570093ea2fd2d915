"""What a workspace is asked: for records, for objects, in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from artifactdb.artifacts import find, load, statistics
from artifactdb.chain import OperatorChain
from artifactdb.database import querying, snapshot
from artifactdb.errors import InvalidValueError
from artifactdb.ids import validate_fold_id
from artifactdb.records import ArtifactRecord
from artifactdb.results import QueryResult
from artifactdb.workspace.opened import Opened

if TYPE_CHECKING:
    import sqlite_utils


_ROOTS = """
SELECT r.artifact_id, d.name FROM pipelines AS p
JOIN datasets AS d ON d.dataset_key = p.dataset_key
JOIN records AS r ON r.pipeline_key = p.pipeline_key
WHERE p.pipeline_id = ?1 AND (?2 IS NULL OR d.name = ?2) AND NOT EXISTS (
  SELECT 1 FROM record_sources AS rs JOIN records AS made ON made.record_key = rs.record_key
  WHERE rs.source_key = r.record_key AND made.pipeline_key = r.pipeline_key)
ORDER BY d.name, r.artifact_id
"""


class Questions(Opened):
    """The part of ``Workspace`` that answers and changes nothing."""

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
        """Give the object of an id: of an artifact, or of a pipeline, which stands for what is made of all the rest.

        Raises
        ------
        ArtifactNotFoundError
            A KeyError.
        InvalidValueError
            For a pipeline that ends in several artifacts, such as folds; lists them.
        UntrustedArtifactError
            A PermissionError, when loading it would run code of somebody whom the user does not trust.
        """
        record = find.by_id(self.database, artifact_id, dataset)
        if record is None:
            record = find.require(self.database, *self._root(artifact_id, dataset))
        return load.load(self.database, record)

    def _root(self, pipeline_id: str, dataset: str | None) -> tuple[str, str | None]:
        """Give id and dataset of the artifact of a pipeline that no other of it needs; what was given if none is."""
        roots = self.database.rows(_ROOTS, (pipeline_id, dataset))
        if len(roots) > 1:
            listed = ", ".join(artifact_id for artifact_id, _ in roots[:10])
            several = sorted({name for _, name in roots})
            raise InvalidValueError(
                f"{pipeline_id!r} ends in {len(roots)} artifacts: {listed}{' …' if len(roots) > 10 else ''}.",
                hint="Load one of them."
                if len(several) == 1
                else f"It is there in {', '.join(several)}: say which with dataset=.",
            )
        return roots[0] if roots else (pipeline_id, dataset)

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
            The views ``artifacts, folds, dependencies, lineage_up, lineage_down, runs, pipelines_with_runs, metrics,
            library, events, shared_blobs, orphan_blobs`` answer the common questions; ``SELECT name, sql FROM
            sqlite_schema`` gives every table and view with its comments.
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
            ``artifacts, chains, folds, dependencies, pipelines, runs, metrics, library``.
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

    def sqlite_utils(self) -> sqlite_utils.Database:
        """Give a ``sqlite_utils.Database`` in memory with every record and no payload, as of now."""
        return snapshot.sqlite_utils_database(self.database)
