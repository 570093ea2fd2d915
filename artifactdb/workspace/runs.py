"""Runs and pipelines of a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from artifactdb.artifacts.delete import records_of_runs
from artifactdb.runs import PipelineRecord, Run, RunRecord
from artifactdb.runs import store as run_store
from artifactdb.workspace.opened import Opened

if TYPE_CHECKING:
    from artifactdb.fitted import Logged
    from artifactdb.workspace import Workspace


class Runs(Opened):
    """The part of ``Workspace`` that trains and keeps track."""

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
            True: carry on with the last run of that dataset and name that did not complete; where there is none, a
            new one starts. An id: with that one. What it has completed is not trained again.

        Raises
        ------
        RunNotFoundError
            A KeyError, when there is no run of the id to be resumed.
        BusyError
            When the run to be resumed is going on in another process.

        Examples
        --------
        >>> from sklearn.linear_model import Ridge
        >>> from artifactdb import Workspace
        >>> with Workspace(getfixture("tmp_path") / "wheat.sqlite") as workspace:
        ...     with workspace.run("wheat", name="baseline", tags=["nir"]) as run:
        ...         with run.pipeline(["Ridge"], name="ridge") as pipeline:
        ...             model = Ridge().fit([[0.0], [1.0]], [0.0, 2.0])
        ...             record = pipeline.registry.register_with_chain(model, "s1.Ridge", "model", 1, fold_id=0)
        ...             pipeline.log_metrics({"val": {"rmse": 0.5}})
        ...     workspace.pipeline(pipeline.pipeline_id).metrics
        {'val': {'all': {'rmse': 0.5}}}
        """
        return Run(
            cast("Workspace", self),
            dataset,
            name=name,
            configuration=configuration,
            tags=tags,
            notes=notes,
            resume=resume,
        )

    def log(
        self,
        fitted: Any,
        X: Any = None,  # noqa: N803
        y: Any = None,
        *,
        dataset: str = "dataset",
        name: str = "",
        metric: str | None = None,
        tags: Sequence[str] = (),
        notes: str = "",
    ) -> Logged:
        """Keep a fitted scikit-learn object as a pipeline: each operator in it, its scores, all at once or nothing.

        What is inside a pipeline, union, ensemble or search is stored apart from it, once, with a chain, parameters
        and dependencies; ``load`` puts it together again.

        Parameters
        ----------
        fitted : estimator, or dict
            Anything that was fitted; or what ``cross_validate(..., return_estimator=True)`` gave, whose estimators
            become folds. The candidates of a search become rows of the catalog.
        X, y : array or frame of shape (n_samples, n_features), array of shape (n_samples,), optional
            Data to be scored: as the training set, and for folds the samples that each held out, as far as the dict
            says which (``return_indices=True``). Labels that are no numbers are kept as indices of the sorted classes.
        dataset : str, default "dataset"
        name : str, optional
            What the run, the pipeline and the whole object are called.
        metric : str, optional
            What the scores of X and y are compared by, default rmse or accuracy. Of folds: what ``test_score`` is,
            which ``cross_validate`` does not say; without it ``r2`` or ``accuracy`` where X, y and the indices show
            that it is, else ``score``.
        tags : sequence of str, optional
        notes : str, optional

        Returns
        -------
        Logged
            The ids under which it is found.

        Raises
        ------
        InvalidValueError
            For what is not fitted or no estimator, a search without a best estimator, and X and y that do not fit.
        SerializationError
            When a part cannot be stored.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import Ridge
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from artifactdb import Workspace
        >>> X, y = load_diabetes(return_X_y=True)
        >>> fitted = make_pipeline(StandardScaler(), Ridge(alpha=0.5)).fit(X, y)
        >>> with Workspace(getfixture("tmp_path") / "study.sqlite") as workspace:
        ...     logged = workspace.log(fitted, X, y, dataset="diabetes", name="ridge")
        ...     again = workspace.load(logged.pipeline_id)
        ...     chains = [record.chain_path for record in workspace.records()]
        >>> chains
        ['s1.StandardScaler', 's1.StandardScaler>s2.Ridge', 's1.StandardScaler>s2.Ridge>s3.Pipeline']
        >>> bool((again.predict(X) == fitted.predict(X)).all())
        True
        """
        from artifactdb.fitted.log import log  # scikit-learn takes a while to import

        return log(
            cast("Workspace", self), fitted, X, y, dataset=dataset, name=name, metric=metric, tags=tags, notes=notes
        )

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

    def end_run(self, run_id: str) -> None:
        """Say of a run that its process is gone, where nobody here can tell: it is interrupted then.

        Runs of this machine are found by themselves; those of another one, or of a container that was started anew, go
        on until somebody says so. Then they can be resumed, or taken back.

        Raises
        ------
        RunNotFoundError
            A KeyError.
        BusyError
            While a process of this machine carries it out.
        """
        run_store.say_ended(self.database, run_id)

    def clean_up_run(self, run_id: str, *, dry_run: bool = False) -> dict[str, int]:
        """Take back a run: the artifacts that it first made, the predictions of its pipelines, and the run itself.

        What another run has made again, or trained, stays.

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
        run_store.require_ended(self.database, run_id, keys)
        counted = {"artifacts": 0, "predictions": 0}
        if dry_run and self.database.mode == "ro":
            counted["artifacts"] = len(records_of_runs(self.database, keys))
            if self._has_predictions():
                counted["predictions"] = self.catalog.delete(run_id=run_id, dry_run=True)
            return counted
        with self.database.transaction(keep=not dry_run):
            if self._has_predictions():
                counted["predictions"] = self.catalog.delete(run_id=run_id)
            counted["artifacts"] = run_store.take_back(self.database, keys)
            for key in keys:
                run_store.remove_run(self.database, key)
        return counted
