"""A run while it goes on: ``with workspace.run("wheat", name="baseline") as run:``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from artifactdb.artifacts.history import now
from artifactdb.artifacts.place import require_name
from artifactdb.artifacts.save import OF_REGISTRY
from artifactdb.errors import DuplicateError, InvalidValueError
from artifactdb.ids import validate_fold_id, validate_pipeline_id
from artifactdb.runs import store
from artifactdb.runs.naming import configuration_json, require_dataset_name
from artifactdb.runs.records import Metrics, PipelineRecord, RunRecord

if TYPE_CHECKING:
    from artifactdb.registry import ArtifactRegistry
    from artifactdb.workspace import Workspace

_MAX_ERROR_CHARACTERS = 2000


class Run:
    """One experiment on one dataset; ``Workspace.run`` gives it, and ``with`` starts and ends it.

    A block that raises leaves the run as failed, one that is interrupted from the keyboard as interrupted. A process
    that is killed says nothing; who opens the file next finds the run as interrupted.

    Attributes
    ----------
    run_id : str
        32 hex digits, once started.
    """

    def __init__(
        self,
        workspace: Workspace,
        dataset: str,
        *,
        name: str = "",
        configuration: Any = None,
        tags: Sequence[str] = (),
        notes: str = "",
        resume: bool | str = False,
    ) -> None:
        self.workspace = workspace
        self.dataset = require_dataset_name(dataset)
        self.name = require_name("name", name) if name else ""
        self._configuration = None if configuration is None else configuration_json(configuration)
        self._tags, self._notes, self._resume = tags, notes, resume
        self.run_id = ""
        self._key = 0
        self._process = 0
        self._ended = False
        self._earlier: list[PipelineRecord] = []

    def __repr__(self) -> str:
        return f"Run({self.dataset!r}, name={self.name!r}, run_id={self.run_id!r})"

    def __enter__(self) -> Run:
        if self._process:
            raise InvalidValueError("this run has been started before.", hint="Make another with Workspace.run.")
        database = self.workspace.database
        with database.transaction():
            found = self._to_resume()
            if found is not None:
                self._key, self.run_id = found
                store.resume_run(database, self._key)
                self._earlier = store.pipelines(database, self.dataset, self.run_id)
            else:
                self._key, self.run_id = store.start_run(
                    database, self.dataset, name=self.name, configuration=self._configuration, tags=self._tags,
                    notes=self._notes,
                )  # fmt: skip
        self._process = os.getpid()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_going_on:
            _say_how_it_ended(store.end_run, self.workspace, self._key, error)
            self._ended = True

    @property
    def is_going_on(self) -> bool:
        """Whether this process has started the run, and not ended it; a child that was forked has not."""
        return self._process == os.getpid() and not self._ended

    def _to_resume(self) -> tuple[int, str] | None:
        database = self.workspace.database
        if not self._resume:
            return None
        if isinstance(self._resume, str):
            (key, *_) = store.keys_of_run(database, self._resume, self.dataset)
            candidates = [(key, self._resume)]
        else:
            candidates = [
                (store.keys_of_run(database, run.run_id, self.dataset)[0], run.run_id)
                for run in store.runs(database, self.dataset)
                if run.name == self.name and run.status != "completed" and not run.metadata.get(OF_REGISTRY)
            ]
        if not candidates:
            return None
        key, run_id = candidates[-1]
        store.require_ended(database, run_id, [key])
        return key, run_id

    @property
    def record(self) -> RunRecord:
        """What is known of the run now."""
        return store.runs(self.workspace.database, self.dataset, self.run_id)[0]

    @property
    def status(self) -> str:
        """running, completed, failed or interrupted."""
        return self.record.status

    def describe(self, *, tags: Iterable[str] | None = None, notes: str | None = None) -> None:
        """Change tags or notes; None leaves them."""
        store.describe(self.workspace.database, "run_entries", self._key, tags=tags, notes=notes)

    def pipeline(
        self,
        configuration: Any = None,
        name: str = "",
        *,
        pipeline_id: str | None = None,
        tags: Sequence[str] = (),
        notes: str = "",
    ) -> PipelineRun:
        """Enter a pipeline under the dataset's next number; ``with`` ends it.

        In a resumed run, a pipeline with this configuration and name is the one that is there.

        Parameters
        ----------
        configuration : dict or list, optional
            What JSON can hold.
        name : str, optional
            Becomes a part of the id: ``0001_pls_4f53cd``.
        pipeline_id : str, optional
            An id of your own instead.

        Raises
        ------
        DuplicateError
            When the dataset has a pipeline of that id.
        """
        if not self.is_going_on:
            said = "has ended" if self._ended else "has not started"
            raise InvalidValueError(f"the run {said}.", hint="Use it in a with block, in one process.")
        database = self.workspace.database
        text = configuration_json(configuration)
        label = require_name("name", name) if name else ""
        with database.transaction():
            known = self._find_earlier(text, label, pipeline_id)
            if known is not None:
                key = store.key_of(database, known.pipeline_id, self.dataset)
                assert key is not None
                if known.status != "completed":
                    self._start_again(known, key)
                pipeline = PipelineRun(self, known.pipeline_id, key=key, completed=known.status == "completed")
            else:
                chosen = self._new_id(pipeline_id, label, text)
                key = store.enter_pipeline(
                    database, self.dataset, chosen,
                    {"started_at": now(), "run_key": self._key, "name": label, "status": "running",
                     "configuration": text, "tags": store.tags_json(tags), "notes": notes},
                )  # fmt: skip
                pipeline = PipelineRun(self, chosen, key=key)
        if known is not None:
            self._earlier.remove(known)  # not before: what failed is tried again
        return pipeline

    def _find_earlier(self, configuration: str, name: str, pipeline_id: str | None) -> PipelineRecord | None:
        """Give the pipeline of an earlier start that this one is."""
        for earlier in self._earlier:
            same = configuration_json(earlier.configuration) == configuration and earlier.name == name
            if same and pipeline_id in (None, earlier.pipeline_id):
                return earlier
        return None

    def _start_again(self, earlier: PipelineRecord, key: int) -> None:
        """Let go of what an unfinished pipeline said of itself; its artifacts are replaced as they are made again."""
        database = self.workspace.database
        database.rows(
            "UPDATE trained_pipelines SET status = 'running', ended_at = NULL, error = NULL WHERE pipeline_key = ?",
            (key,),
        )
        database.rows("DELETE FROM pipeline_metrics WHERE pipeline_key = ?", (key,))
        if self.workspace._has_predictions():
            self.workspace.catalog.delete(dataset_name=self.dataset, pipeline_uid=earlier.pipeline_id)

    def _new_id(self, pipeline_id: str | None, name: str, configuration: str) -> str:
        database = self.workspace.database
        if pipeline_id is None:
            return store.number_pipeline(database, self.dataset, name, configuration)
        chosen = validate_pipeline_id(pipeline_id)
        if store.key_of(database, chosen, self.dataset) is not None:
            raise DuplicateError(
                f"{self.dataset} has a pipeline {chosen!r} already.", hint="Leave pipeline_id out for the next number."
            )
        return chosen


class PipelineRun:
    """A pipeline while it is trained; ``Run.pipeline`` gives it.

    Attributes
    ----------
    pipeline_id : str
    completed : bool
        Whether an earlier start of the run has trained it already.
    """

    def __init__(self, run: Run, pipeline_id: str, *, key: int = 0, completed: bool = False) -> None:
        self.run = run
        self.pipeline_id = pipeline_id
        self.completed = completed
        self._key = key

    def __repr__(self) -> str:
        return f"PipelineRun({self.pipeline_id!r}, completed={self.completed})"

    def __enter__(self) -> PipelineRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self.completed and self.run.is_going_on:
            _say_how_it_ended(store.end_pipeline, self.run.workspace, self._key, error)

    def log_folds(self, scored: Iterable[tuple[int | None, Mapping[str, Mapping[str, Any]]]]) -> None:
        """Keep the metrics of several folds, and their means as those of all folds together.

        Parameters
        ----------
        scored : iterable of (int or None, dict)
            Fold, and metrics by partition; None for what is of no fold, which is kept as it is.
        """
        from statistics import fmean  # brings decimal and fractions along, which most who open a file do without

        of_folds: dict[str, dict[str, list[float]]] = {}
        for fold_id, metrics in scored:
            self.log_metrics(metrics, fold_id)
            if fold_id is not None:
                for partition, values in metrics.items():
                    for metric, value in values.items():
                        of_folds.setdefault(partition, {}).setdefault(metric, []).append(float(value))
        self.log_metrics(
            {
                partition: {metric: fmean(numbers) for metric, numbers in metrics.items()}
                for partition, metrics in of_folds.items()
            }
        )

    def end(
        self, status: str = "completed", error: str | None = None, *, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Say how the pipeline ended, where no with block does.

        Parameters
        ----------
        status : {"completed", "failed", "interrupted"}, default "completed"
        error : str, optional
            What went wrong.
        metadata : dict, optional
            What else is to be kept of it; what JSON can hold.
        """
        database = self.run.workspace.database
        with database.transaction():
            if metadata is not None:
                store.keep_metadata(database, self._key, metadata)
            store.end_pipeline(database, self._key, status, None if error is None else _storable(error))

    @property
    def registry(self) -> ArtifactRegistry:
        """A registry for the pipeline's artifacts."""
        registry = self.run.workspace.registry(self.run.dataset, self.pipeline_id)
        registry.belong_to_run(store.RunKey(self.run._key, self.run.run_id))
        return registry

    @property
    def record(self) -> PipelineRecord:
        """What is known of the pipeline now."""
        return store.pipeline(self.run.workspace.database, self.pipeline_id, self.run.dataset)

    @property
    def metrics(self) -> Metrics:
        """Partition, then fold ("all" for all together), then metric."""
        return self.record.metrics

    def log_metrics(self, metrics: Mapping[str, Mapping[str, Any]], fold_id: int | str | None = None) -> None:
        """Keep how well the pipeline does, e.g. ``{"val": {"rmse": 0.1}}``; a number that is there is replaced.

        Parameters
        ----------
        metrics : dict
            By partition and metric.
        fold_id : int, optional
            None for all folds together.
        """
        fold = fold_id if isinstance(fold_id, str) else validate_fold_id(fold_id)
        named = "" if fold in (None, "all") else str(fold)
        store.log_metrics(self.run.workspace.database, self._key, metrics, named)

    def describe(self, *, tags: Iterable[str] | None = None, notes: str | None = None) -> None:
        """Change tags or notes; None leaves them."""
        store.describe(self.run.workspace.database, "trained_pipelines", self._key, tags=tags, notes=notes)


def _say_how_it_ended(say: Any, workspace: Workspace, key: int, error: BaseException | None) -> None:
    if error is None:
        say(workspace.database, key, "completed")
        return
    status = "failed" if isinstance(error, Exception) else "interrupted"
    # What went wrong in the block matters more than a file that cannot take it: the run is then found as interrupted.
    with suppress(Exception):
        say(workspace.database, key, status, _text_of(error))


def _text_of(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:
        said = "(its message cannot be had)"
    return _storable(f"{type(error).__name__}: {said}")


def _storable(text: str) -> str:
    return text[:_MAX_ERROR_CHARACTERS].encode("utf-8", "backslashreplace").decode()
