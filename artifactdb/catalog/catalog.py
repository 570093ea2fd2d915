"""The catalog of a workspace: predictions added, kept, asked and deleted."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifactdb.artifacts.descriptions import Problem
from artifactdb.catalog import bulk, copying, deleting, exchange, folds, merging, questions, staging
from artifactdb.catalog.asking import Parameters, ask
from artifactdb.catalog.checking import check
from artifactdb.catalog.pairs import of_pipelines
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import state_of
from artifactdb.database import Database
from artifactdb.database.session import require_writing
from artifactdb.database.snapshot import release_space
from artifactdb.errors import BusyError, InvalidValueError, QueryError, StorageError
from artifactdb.paths import local_path
from artifactdb.results import QueryResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Progress = Callable[[int, int], None]

# Each end by itself: asked for both at once, SQLite reads the whole table.
STAGED_ROWS = """
SELECT coalesce(last - first + 1, 0)
FROM (SELECT (SELECT min(staged_key) FROM staged_predictions) AS first,
  (SELECT max(staged_key) FROM staged_predictions) AS last)
"""
_STAGED_AT_MOST = 20_000
_COMPARED = 1000
_FLUSH_ROWS = 50_000
_FLUSH_BYTES = 64 << 20


class Catalog:
    """Predictions of a workspace; ``Workspace.catalog`` gives it.

    Parameters
    ----------
    database : Database
        The file that the predictions belong to; Parquet files lie in the folder beside it.

    Examples
    --------
    >>> from artifactdb import Workspace
    >>> with Workspace(getfixture("tmp_path") / "wheat.sqlite") as workspace:
    ...     for fold, error in enumerate([0.4, 0.3]):
    ...         added = workspace.catalog.add(
    ...             dataset_name="wheat", model_name="PLS", fold_id=fold, partition="val", metric="rmse",
    ...             val_score=error, y_true=[1.0, 2.0], y_pred=[1.0 + error, 2.0 - error],
    ...         )
    ...     best = workspace.catalog.best("rmse")
    ...     pairs = workspace.catalog.residuals(best["id"])
    >>> best["fold_id"], best["score"], [row["y_pred"] for row in pairs.to_dicts()]
    ('1', 0.3, [1.3, 1.7])
    """

    def __init__(self, database: Database) -> None:
        self._store = Store(database)
        self._has_staged = False

    @property
    def database(self) -> Database:
        """The workspace's file."""
        return self._store.database

    @property
    def folder(self) -> Path:
        """Where the Parquet files lie."""
        return self._store.folder

    def __repr__(self) -> str:
        return f"Catalog({str(self.folder)!r})"

    def __len__(self) -> int:
        return int(self.sql("SELECT count(*) FROM predictions")[0][0])

    # -- adding and deleting ------------------------------------------------------------------------

    def add(self, **prediction: Any) -> str:
        """Add one prediction and give its id; see ``add_many``."""
        return self.add_many([prediction])[0]

    def add_many(self, predictions: Iterable[Mapping[str, Any]]) -> list[str]:
        """Add predictions, all or none, in the transaction of whatever else belongs to them.

        Parameters
        ----------
        predictions : iterable of dict
            Each with ``dataset_name``, ``model_name`` and ``partition`` (train, val or test), any other column of
            ``predictions``, and the arrays ``y_true, y_pred, y_proba, sample_indices, weights``: numeric, of one or two
            dimensions, all but ``weights`` with as many rows as ``y_pred``; an empty one is as one left out. An id is
            made of what identifies a row when none is given.

        Returns
        -------
        list of str
            One id for each; what is there already with the same content stays as it is.

        Raises
        ------
        InvalidValueError
            For an unknown column, a value of the wrong kind, arrays of objects or of different lengths.
        DuplicateError
            When an id is there with other content.
        """
        given = iter(predictions)
        first = list(islice(given, _STAGED_AT_MOST + 1))
        if len(first) > _STAGED_AT_MOST and not self.database.in_transaction:
            return bulk.add_many(self._store, chain(first, given))
        ids = staging.add_many(self._store, chain(first, given))
        self.flush_if_grown()
        return ids

    def delete(
        self,
        ids: str | Sequence[str] | None = None,
        *,
        run_id: str | None = None,
        dry_run: bool = False,
        **filters: Any,
    ) -> int:
        """Delete predictions and give how many; their space comes back with ``compact``.

        Parameters
        ----------
        ids : str or sequence of str, optional
            Ids of predictions.
        run_id : str, optional
            Those of the pipelines that a run trained, but for what another run has trained too; the table ``runs``
            lists runs.
        dry_run : bool, default False
            Only count.
        **filters
            Conditions on columns, e.g. ``pipeline_uid="0001_pls"``; all must hold.
        """
        if ids is None and run_id is None and not filters:
            raise InvalidValueError("what to delete is not said.", hint="Give ids, a run_id, or conditions on columns.")
        condition, parameters = questions.where(filters)
        if ids is not None:
            condition += " AND id IN (SELECT unnest(?))"
            parameters.append(_listed(ids))
        if run_id is not None:
            trained = deleting.pipelines_of_run(self._store.database, run_id)
            condition += f" AND {of_pipelines(trained)}"
        sql = f"SELECT id FROM predictions WHERE {condition}"
        if dry_run:
            return len(ask(self._store, sql, parameters))
        with self.database.transaction():
            found = [row[0] for row in ask(self._store, sql, parameters)]
            if found:
                deleting.delete(self._store, found)
        return len(found)

    # -- files --------------------------------------------------------------------------------------

    def flush(self, progress: Progress | None = None) -> int:
        """Move staged predictions into Parquet files, and give how many; happens by itself when many are staged."""
        require_writing(self.database, "flush")
        return merging.flush(self._store, progress)

    def flush_on_close(self) -> None:
        """Flush if this process staged anything; what cannot be moved now stays staged, and safe."""
        if self._has_staged and not self.database.closed and not self.database.in_transaction and self._flush_or_warn():
            with suppress(BusyError):  # somebody is writing: the space comes back another time
                release_space(self.database, wait=False)

    def close(self) -> None:
        """Remove what was made in temporary folders; for ``Workspace.close``."""
        self._store.unpacked.remove()

    def _flush_or_warn(self) -> bool:
        try:
            merging.flush(self._store)
        except (StorageError, QueryError) as error:  # the latter where DuckDB has too little memory
            warnings.warn(f"predictions are saved, and stay staged in the workspace: {error}", stacklevel=4)
            return False
        return True

    def compact(self, progress: Progress | None = None, *, skip_damaged: bool = False) -> bool:
        """Make one file of predictions and one of arrays of all that counts; False when they were so already.

        Parameters
        ----------
        skip_damaged : bool, default False
            Give up what lies in files that are missing or damaged, instead of refusing; predictions whose arrays are
            given up stay, with their scores.
        """
        require_writing(self.database, "compact")
        return merging.compact(self._store, progress, skip_damaged=skip_damaged)

    def verify(self, progress: Progress | None = None) -> list[Problem]:
        """Read every file back, compare it with its hash, and say what is wrong."""
        return check(self._store, progress)

    def backup(self, target: str | os.PathLike[str], progress: Progress | None = None) -> Path:
        """Copy the workspace with its Parquet files, all of one state."""
        return copying.backup(self._store, local_path(target), progress)

    def flush_if_grown(self) -> None:
        """Flush when much is staged; ``add`` does so by itself, but within a transaction."""
        self._has_staged = True
        if self.database.in_transaction:
            return
        if self._store.staged_bytes >= _FLUSH_BYTES or self.database.value(STAGED_ROWS) >= _FLUSH_ROWS:
            self._flush_or_warn()

    # -- questions ----------------------------------------------------------------------------------

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Let all that is asked in the block, of records too, see one state, whose files stay in place meanwhile."""
        with state_of(self.database, self._store.inspector):
            yield

    def sql(
        self,
        sql: str,
        params: Parameters = (),
        *,
        timeout_s: float | None = None,
        max_rows: int | None = None,
        memory_limit: str | None = None,
        skip_damaged: bool = False,
    ) -> QueryResult:
        """Ask in SQL; ``Workspace.sql`` says more."""
        return ask(
            self._store,
            sql,
            params,
            timeout_s=timeout_s,
            max_rows=max_rows,
            memory_limit=memory_limit,
            skip_damaged=skip_damaged,
        )

    def filter(self, **criteria: Any) -> QueryResult:
        """Give the predictions that meet conditions on columns: a value, None for missing, or a list of values."""
        condition, parameters = questions.where(criteria)
        return ask(self._store, f"SELECT * FROM predictions WHERE {condition}", parameters)

    def top(
        self,
        n: int = 10,
        metric: str | None = None,
        ascending: bool | None = None,
        partition: str = "val",
        group_by: str | Sequence[str] | None = None,
        **filters: Any,
    ) -> QueryResult:
        """Give the best predictions, best first; those whose score is missing or not a number are left out.

        Parameters
        ----------
        n : int, default 10
            How many; with ``group_by``, of each group.
        metric : str, optional
            May be left out where all have one metric. Rows scored in another are ranked by what their ``scores`` hold.
        ascending : bool, optional
            Whether lower is better; known for the usual metrics.
        partition : {"val", "test", "train"}, default "val"
        group_by : str or list of str, optional
            Columns whose values make the groups.
        **filters
            Conditions on columns, as in ``filter``.

        Returns
        -------
        QueryResult
            Every column of ``predictions``, and ``score``.
        """
        return questions.top(self._store, n, metric, ascending, partition, group_by, filters)

    def best(
        self, metric: str | None = None, ascending: bool | None = None, partition: str = "val", **filters: Any
    ) -> dict[str, Any] | None:
        """Give the best prediction, or None when there is none; of equal ones, one whose model is kept."""
        found = self.top(1, metric, ascending, partition, **filters).to_dicts()
        if not found or found[0]["model_artifact_id"] is not None:
            return found[0] if found else None
        # Of a search only the winner is kept, and other candidates may have its score.
        alike = self.top(_COMPARED, metric, ascending, partition, **filters).to_dicts()
        kept = (row for row in alike if row["score"] == found[0]["score"] and row["model_artifact_id"] is not None)
        return next(kept, found[0])

    def get(self, prediction_id: str, arrays: bool = True) -> dict[str, Any]:
        """Give one prediction with its arrays.

        Raises
        ------
        PredictionNotFoundError
            A KeyError.
        """
        return questions.get(self._store, *_listed([prediction_id]), arrays=arrays)

    def arrays(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Give the arrays of predictions by id and name, with the shape and dtype they came with."""
        return questions.arrays(self._store, _listed(ids))

    def fold_scores(self, metric: str | None = None, partition: str = "val", **filters: Any) -> QueryResult:
        """Give one row for each model, with a column for the score of each fold."""
        return folds.fold_scores(self._store, metric, partition, filters)

    def fold_summary(
        self, metric: str | None = None, partition: str = "val", *, ascending: bool | None = None, **filters: Any
    ) -> QueryResult:
        """Give the mean, standard deviation (n - 1) and range of each model's scores over its folds, best first.

        Parameters
        ----------
        ascending : bool, optional
            Whether lower is better; known for the usual metrics.
        """
        return folds.fold_summary(self._store, metric, partition, ascending, filters)

    def averaged(
        self,
        metric: str | None = None,
        partition: str = "test",
        weighted: bool = False,
        *,
        ascending: bool | None = None,
        **filters: Any,
    ) -> QueryResult:
        """Give for each sample the mean of what the fold models of a model predicted.

        Of classes it is the one that most of them predicted, of several such the smallest; that has no ``std``.

        Parameters
        ----------
        weighted : bool, default False
            Weigh each fold by its validation score: by 1 / score where lower is better, else by the score, and not at
            all where that is negative.
        ascending : bool, optional
            Whether lower is better; known for the usual metrics.
        """
        return folds.averaged(self._store, metric, partition, weighted, ascending, filters)

    def residuals(self, prediction_id: str | Sequence[str] | None = None, **filters: Any) -> QueryResult:
        """Give one row for each sample: ``y_true``, ``y_pred`` and ``residual``, predicted minus measured."""
        return folds.residuals(self._store, _with_ids(prediction_id, filters))

    def confusion_matrix(self, prediction_id: str | Sequence[str] | None = None, **filters: Any) -> QueryResult:
        """Count how often each class (``y_true``) was predicted as each (``y_pred``)."""
        return folds.confusion_matrix(self._store, _with_ids(prediction_id, filters))

    # -- in and out ---------------------------------------------------------------------------------

    def import_parquet(
        self, path: str | os.PathLike[str], data_path: str | os.PathLike[str] | None = None
    ) -> list[str]:
        """Add the predictions of a pair of Parquet files that nirs4all 0.6 or ``compact`` wrote, and give their ids.

        Parameters
        ----------
        path : str or Path
            The folder of the pair, or the file of the rows.
        data_path : str or Path, optional
            The file of the arrays, if it lies elsewhere than beside the rows.
        """
        data = None if data_path is None else local_path(data_path)
        ids = exchange.import_parquet(self._store, local_path(path), data)
        self.flush_if_grown()
        return ids

    def export_csv(self, prediction_id: str, path: str | os.PathLike[str] | None = None) -> Path:
        """Write y_true, y_pred, sample index, fold and partition of one prediction, and give the file.

        Parameters
        ----------
        path : str or Path, optional
            A file or a folder; else ``exports/best_predictions/`` of the workspace.
        """
        return exchange.export_csv(self._store, prediction_id, None if path is None else local_path(path))

    def plot_predictions(self, prediction_id: str, ax: Axes | None = None) -> Axes:
        """Draw predicted against measured for all folds of a prediction's model (``pip install artifactdb[plot]``)."""
        from artifactdb.catalog import plots

        return plots.plot_predictions(self._store, prediction_id, ax)

    def plot_scores(
        self,
        metric: str | None = None,
        by: str | Sequence[str] = "model_name",
        partition: str = "val",
        ax: Axes | None = None,
        **filters: Any,
    ) -> Axes:
        """Draw the distribution of scores by a column, or a heat map of their mean over two parameters.

        Parameters
        ----------
        by : str or pair of str, default "model_name"
            A column such as ``fold_id``; or the names of two parameters of ``best_params`` or of the models.
        """
        from artifactdb.catalog import plots

        return plots.plot_scores(self._store, metric, by, partition, ax, filters)


def _listed(ids: Any) -> list[str]:
    listed = [ids] if isinstance(ids, str) or not isinstance(ids, Iterable) else list(ids)
    for one in listed:
        if not isinstance(one, str):  # DuckDB would compare numbers
            raise InvalidValueError(f"an id is a text, not a {type(one).__name__}.")
    return listed


def _with_ids(prediction_id: str | Sequence[str] | None, filters: Mapping[str, Any]) -> dict[str, Any]:
    if prediction_id is None and not filters:
        raise InvalidValueError("which predictions is not said.", hint="Give an id, or conditions on columns.")
    return dict(filters) if prediction_id is None else {"id": prediction_id, **filters}
