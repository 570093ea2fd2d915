"""The runner: one call trains a study, another predicts with what it left."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from typing import Any

import numpy as np

from artifactdb.errors import ArtifactDBError, InvalidValueError
from artifactdb.estimators.blocks import is_frame
from artifactdb.estimators.configuration import to_plain
from artifactdb.estimators.grids import expand
from artifactdb.estimators.kinds import is_classifier, named_columns
from artifactdb.estimators.scores import task_of
from artifactdb.runner.datasets import Dataset, read_dataset, read_features
from artifactdb.runner.fitting import Job, Trained
from artifactdb.runner.operators import require_features
from artifactdb.runner.predictions import Predictions
from artifactdb.runner.progress import TrainingProgress
from artifactdb.runner.replay import Replay, averaged, weights_of
from artifactdb.runner.sources import fold_models
from artifactdb.runner.steps import Plan, in_order, plan, settled
from artifactdb.runner.training import Writer, commit, fit_all
from artifactdb.runs import PipelineRun, Run
from artifactdb.workspace import Workspace


class PipelineRunner:
    """Trains pipelines on scikit-learn, keeps all of it in a workspace, and predicts from there.

    Parameters
    ----------
    workspace : str, Path or Workspace
        A directory, a file, or an open workspace.
    n_jobs : int, optional
        Fits that go on at once; -1 for one a core. Default: one, or what ``joblib.parallel_config`` says.
    backend : str, optional
        Of joblib: ``"loky"``, ``"threading"``, ``"dask"``, ``"ray"``, or any that is registered.
    allow : sequence of str, optional
        Packages whose classes a configuration may name, e.g. ``["my_company"]``, besides scikit-learn and its kin.
    verbose : int, default 1
        0 for no progress bar; there is none where standard error is no terminal.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import KFold
    >>> from artifactdb import PipelineRunner
    >>> X, y = load_diabetes(return_X_y=True)
    >>> steps = [
    ...     "sklearn.preprocessing.StandardScaler",
    ...     KFold(3),
    ...     {"model": "sklearn.linear_model.Ridge", "params": {"alpha": [0.1, 1.0, 10.0]}},
    ... ]
    >>> with PipelineRunner(getfixture("tmp_path") / "study.sqlite") as runner:
    ...     predictions = runner.run(steps, (X, y), dataset_name="diabetes")
    ...     best = predictions.best()
    ...     y_pred = runner.predict(best["pipeline_id"], X[:5])
    >>> best["pipeline_id"], round(best["score"], 1), y_pred.shape
    ('0003_9b27e1', 55.0, (5,))
    """

    def __init__(
        self,
        workspace: str | os.PathLike[str] | Workspace,
        *,
        n_jobs: int | None = None,
        backend: str | None = None,
        allow: Sequence[str] = (),
        verbose: int = 1,
    ) -> None:
        missing = [name for name in ("joblib", "sklearn") if find_spec(name) is None]
        if missing:
            raise ArtifactDBError(f"the runner needs {missing[0]}.", hint='pip install "artifactdb[sklearn]"')
        self._own = not isinstance(workspace, Workspace)
        self.workspace = workspace if isinstance(workspace, Workspace) else Workspace(workspace)
        self.n_jobs, self.backend, self.verbose = n_jobs, backend, verbose
        self.allow = [allow] if isinstance(allow, str) else list(allow)

    def __enter__(self) -> PipelineRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"PipelineRunner({str(self.workspace.path)!r})"

    def close(self) -> None:
        """Close the workspace, if this runner opened it by path."""
        if self._own:
            self.workspace.close()

    def run(
        self,
        config: Any,
        dataset: Any,
        *,
        dataset_name: str | None = None,
        target: str | Sequence[str] | None = None,
        name: str = "",
        metric: str | None = None,
        train_scores: bool = False,
        resume: bool | str = False,
        tags: Sequence[str] = (),
        notes: str = "",
        n_jobs: int | None = None,
        backend: str | None = None,
        verbose: int | None = None,
    ) -> Predictions:
        """Train every pipeline of a configuration, and keep all of it.

        A pipeline that cannot be fitted fails alone: the run goes on, and the record says why. What is fitted is
        committed pipeline by pipeline, whole; after an interrupt, ``resume=True`` fits only what is not there.

        Parameters
        ----------
        config : list or dict
            Steps: transformers, ``{"y_processing": ...}``, a splitter, ``{"branch": [[...], [...]]}``, models, lists
            of several operators, ``{"model": ..., "name": ..., "params": ...}``, ``{"meta_model": ...,
            "source_models": [...]}``; operators as objects, classes, dotted names or ``{"class": ..., "params":
            ...}``. A list, range or array in a step's ``params``, ``{"_or_": [...]}`` and ``{"_range_": [first, last,
            step]}`` expand into several pipelines.
        dataset : tuple, dict, data frame, str or Path
            ``(X, y)``, X of shape (n_samples, n_features) or a list of such blocks; a dict with ``X, y`` and perhaps
            ``X_test`` with ``y_test``, ``groups``; a pandas or polars frame or a CSV or Parquet file with the target as
            a column.
        dataset_name : str, optional
            Default: what the file is called, else ``dataset``.
        target : str or list of str, optional
            Columns of y. Default: the column called y or target, else the last.
        name : str, optional
            Of the run, and a part of its pipelines' ids.
        metric : str, optional
            What models are compared by; rmse or accuracy when not said.
        train_scores : bool, default False
            Keep what fold models predict for the rows that they were trained on, too.
        resume : bool or str, default False
            Carry on with the last run of that dataset and name that did not complete, or the one of that id.
        tags, notes
            Of the run.
        n_jobs, backend, verbose
            Instead of the runner's own.

        Returns
        -------
        Predictions

        Raises
        ------
        InvalidValueError
            For a configuration or data that make no sense; nothing is trained then.

        Notes
        -----
        Transformers before the splitter are fitted once, on X of all rows and without y; those behind it within each
        fold, with y; encoders of y within each fold, wherever they stand. A splitter that shuffles and has no
        ``random_state`` makes the same folds in all pipelines of a run, and is kept with what it drew from. The score
        of a model is the mean over its folds, but for those where it is undefined, as r2 of one sample; predictions
        that are no finite numbers score worst. A regressor behind an encoder that gives labels back, as LabelBinarizer,
        is scored as a classifier, and so is an outlier detector, which takes a y of 1 and -1. The catalog's ``y_proba``
        has a column for each label of y, sorted. A meta-model is trained on predictions for rows that the source models
        had not seen, made by splitting each fold's training rows again: nothing that it is tested on reaches it.

        Fits in several processes may differ in their last bits from fits in one, because BLAS sums in another order
        with another number of threads. Predicting from the file always gives the bits that training gave.
        """
        if self.workspace.database.in_transaction:
            raise InvalidValueError(
                "a study commits by itself, pipeline by pipeline.", hint="Call run outside of the transaction."
            )
        jobs_at_once = self.n_jobs if n_jobs is None else n_jobs
        if jobs_at_once is not None and (not isinstance(jobs_at_once, int | np.integer) or jobs_at_once == 0):
            raise InvalidValueError(
                f"n_jobs is a whole number and not 0, not {jobs_at_once!r}.", hint="-1 for all cores."
            )
        plans = self._plans(config, metric)
        named = {name for _, read in plans for step in read.steps for name in named_columns(step.operator)}
        data = read_dataset(dataset, name=dataset_name, target=target, named=named)
        if data.y.ndim > 1:
            _require_no_classifier(plans)
        described = {
            "fingerprint": data.fingerprint(),
            "n_samples": data.n_samples,
            "n_features": data.n_features,
            "features": data.features,
            "target": data.target,
            "frame": any(is_frame(block) for block in data.sources),
            "texts": data.texts,
        }
        configuration = {
            "pipeline": to_plain(in_order(config), strict=False),
            "dataset": described,
            "metric": metric,
            "train_scores": train_scores,
        }
        run = Run(
            self.workspace, data.name, name=name, tags=tags, notes=notes, resume=resume, configuration=configuration
        )
        with run:
            _require_same_data(run, described)
            _require_same_configuration(run, configuration)
            seed = int(run.run_id[:7], 16)  # the same when it is resumed
            waiting: dict[str, PipelineRun] = {}
            jobs: list[Job] = []
            with self.workspace.transaction():
                for steps, read in plans:
                    plain = to_plain(steps, strict=False)
                    if resume and '"repr"' in json.dumps(plain):
                        raise InvalidValueError(
                            "a configuration with objects that JSON cannot hold cannot be told from another.",
                            hint="Start a new run, or name functions as numpy.log1p.",
                        )
                    entered = run.pipeline(plain, name)
                    if not entered.completed:
                        waiting[entered.pipeline_id] = entered
                        jobs.append(Job(entered.pipeline_id, name, read, data, metric, train_scores, seed))
            shown = self.verbose if verbose is None else verbose
            with TrainingProgress(len(jobs), verbose=shown) as progress:
                self._train(jobs, waiting, {"n_features": data.n_features}, progress, jobs_at_once, backend)
        predictions = Predictions(self.workspace, run.run_id, data.name)
        if shown and predictions.failed:
            first = predictions.failed[0]
            warnings.warn(
                f"{len(predictions.failed)} of {len(predictions.pipelines)} pipelines failed, e.g. "
                f"{first.pipeline_id}: {first.error}",
                stacklevel=2,
            )
        return predictions

    def _plans(self, config: Any, metric: str | None) -> list[tuple[Any, Plan]]:
        plans = [(settled(steps), plan(steps, self.allow)) for steps in map(in_order, expand(config))]
        if metric is not None:
            task = task_of(metric)
            for _, read in plans:
                _require_metric(read, metric, task)
        return plans

    def _train(
        self,
        jobs: Sequence[Job],
        pipelines: dict[str, PipelineRun],
        data: dict[str, Any],
        progress: TrainingProgress,
        n_jobs: int | None,
        backend: str | None,
    ) -> None:
        def write(group: list[Trained]) -> None:
            for said in commit(self.workspace, pipelines, group, data).values():
                progress.add(said)

        with closing(fit_all(jobs, n_jobs, backend or self.backend)) as fitted, Writer(write) as writer:
            for trained in fitted:
                writer.add(trained)

    def predict(
        self,
        source: Any,
        X: Any,  # noqa: N803
        *,
        weighted: bool = False,
        dataset: str | None = None,
    ) -> Any:
        """Predict with what the workspace holds.

        Parameters
        ----------
        source : str or dict
            A pipeline's id, or how it begins: its best model, averaged over folds. The name of a trained entry of the
            library: likewise, with what the entry keeps. An artifact's or a prediction's id: that one model. Or a row
            of ``Predictions.top``.
        X : array, list of arrays, data frame, str or Path
            As in training; of a file or frame, the columns that were trained on.
        weighted : bool, default False
            Weigh each fold by its score: by 1 / score where lower is better, else by the score, if it is above zero.
        dataset : str, optional
            Where an id is there in several datasets.

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_targets)

        Raises
        ------
        ArtifactNotFoundError
            A KeyError, when nothing answers to the source.
        MissingDependencyError
            When an operator of the chain is missing; says which.
        InvalidValueError
            When X has other features than in training; says both numbers.
        """
        chosen = fold_models(self.workspace, source, dataset)
        columns = {} if isinstance(X, np.ndarray) else chosen.columns()
        blocks = read_features(
            X, columns.get("features"), columns.get("target"), as_frame=bool(columns.get("frame")),
            texts=columns.get("texts") or (),
        )  # fmt: skip
        require_features(chosen.n_features, blocks)
        replay = Replay(chosen.find_record, chosen.load_records, len(blocks))
        replay.load([record for record in chosen.needed.values() if str(record.artifact_type) != "splitter"])
        models = [replay.model(record) for record in chosen.records]
        what = repr(source) if isinstance(source, str) else chosen.records[0].pipeline_id
        weights = None
        if weighted and len(models) > 1:
            if not chosen.scores:
                raise InvalidValueError(f"the scores of {what} are not known.", hint="Leave weighted out.")
            weights = weights_of(chosen.metric, chosen.scores)
        try:
            return averaged(models, blocks, weights)
        except ArtifactDBError:
            raise
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise InvalidValueError(f"{what} cannot predict this X ({type(error).__name__}: {error}).") from error


def _require_no_classifier(plans: Sequence[tuple[Any, Plan]]) -> None:
    found = next((step for _, read in plans for step in read.models if is_classifier(step.operator)), None)
    if found is not None:
        raise InvalidValueError(f"{found.class_name} is trained on one column of classes, and y has several.")


def _require_metric(read: Plan, metric: str, task: str) -> None:
    for step in read.models:
        own = "classification" if read.classifies(step) else "regression"
        if own != task:
            raise InvalidValueError(f"{metric} is a metric of {task}, and {step.class_name} is for {own}.")


def _require_same_configuration(run: Run, configuration: dict[str, Any]) -> None:
    """See that a resumed run goes on with what it began with: else its scores would be of several things."""
    before = run.record.configuration or {}
    now = json.loads(json.dumps(configuration))
    for name, what in (("pipeline", "configuration"), ("metric", "metric"), ("train_scores", "train_scores")):
        if name in before and before[name] != now[name]:
            shown = "" if name == "pipeline" else f" ({before[name]}; now {now[name]})"
            raise InvalidValueError(
                f"run {run.run_id} began with another {what}{shown}.",
                hint="Give the same, or start a new run without resume.",
            )


def _require_same_data(run: Run, described: dict[str, Any]) -> None:
    """See that a resumed run goes on with the data that it began with."""
    before = (run.record.configuration or {}).get("dataset") or {}
    if before.get("fingerprint", described["fingerprint"]) != described["fingerprint"]:
        raise InvalidValueError(
            f"run {run.run_id} began with other data ({before.get('n_samples')} samples, {before.get('n_features')} "
            f"features; now {described['n_samples']} and {described['n_features']}).",
            hint="Give the same data, or start a new run without resume.",
        )


__all__ = ["Dataset", "PipelineRunner", "Predictions"]
