"""Training many pipelines: fits go on in joblib's workers while this process, the only one that writes, commits."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from typing import Any

from artifactdb.errors import ArtifactDBError, InvalidValueError, StorageError
from artifactdb.records import MetaModelConfig
from artifactdb.runner.fitting import Fitted, Job, Trained, fit_pipeline
from artifactdb.runner.rows import ranked
from artifactdb.runner.workers import delayed
from artifactdb.runs import PipelineRun
from artifactdb.workspace import Workspace

_WAITING_AT_MOST = 64
"""Fitted pipelines that wait for the disk; with more, this process waits too (workers go on with theirs)."""


def fit_all(jobs: Sequence[Job], n_jobs: int | None, backend: str | None) -> Generator[Trained, None, None]:
    """Give the pipelines as they are fitted, in any order.

    A worker that is killed takes nothing with it: what it had not given back is fitted again, and a pipeline
    that kills its worker even when it is alone is given back as failed.
    """
    import joblib

    if not jobs:
        return
    with _configured(backend, n_jobs):
        workers = joblib.effective_n_jobs(n_jobs if n_jobs is not None else _configured_n_jobs())
        if workers == 1:
            yield from map(fit_pipeline, jobs)
            return
        stream = _folds_side_by_side if len(jobs) < workers else _pipelines_side_by_side
        remaining = {job.pipeline_id: job for job in jobs}
        for _ in range(2):
            try:
                for trained in stream(list(remaining.values()), workers):
                    del remaining[trained.pipeline_id]
                    yield trained
            except Exception:  # of the workers: what goes wrong in a fit is said in its result
                continue
            if not remaining:
                return
        for job in list(remaining.values()):
            yield _alone(job)


def _configured(backend: str | None, n_jobs: int | None) -> Any:
    from contextlib import nullcontext

    import joblib

    if backend is None:
        return nullcontext()  # whatever the caller has configured
    if backend == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError:
            raise InvalidValueError('backend="ray" needs ray.', hint="pip install ray") from None
        register_ray()
    try:
        return joblib.parallel_config(backend=backend, n_jobs=-1 if n_jobs is None else n_jobs)
    except (ValueError, ImportError) as error:
        raise InvalidValueError(f"joblib has no backend {backend!r} here ({error}).") from None


def _configured_n_jobs() -> int | None:
    from joblib.parallel import get_active_backend

    return get_active_backend()[1]  # type: ignore[no-any-return]


def _pipelines_side_by_side(jobs: Sequence[Job], workers: int) -> Iterator[Trained]:
    from joblib import Parallel
    from joblib.parallel import get_active_backend

    if getattr(get_active_backend()[0], "supports_return_generator", False):
        parallel = Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch="2*n_jobs")
        yield from parallel(delayed(fit_pipeline)(job) for job in jobs)
        return
    for first in range(0, len(jobs), 2 * workers):  # some at a time, so that what is fitted is committed meanwhile
        together = jobs[first : first + 2 * workers]
        yield from Parallel(n_jobs=workers)(delayed(fit_pipeline)(job) for job in together)


def _folds_side_by_side(jobs: Sequence[Job], workers: int) -> Iterator[Trained]:
    from joblib import Parallel

    with Parallel(n_jobs=workers) as parallel:
        for job in jobs:
            yield fit_pipeline(job, parallel)


def _alone(job: Job) -> Trained:
    from joblib import Parallel

    try:
        # Two workers, of which one has nothing to do: with one, joblib would fit in this process.
        (trained,) = Parallel(n_jobs=2)([delayed(fit_pipeline)(job)])
    except Exception as error:
        return Trained(job.pipeline_id, error=_why(error))
    return trained  # type: ignore[no-any-return]


def _why(error: Exception) -> str:
    said = f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, BrokenExecutor) or "Killed" in type(error).__name__:
        return f"its worker process died, each time that it was fitted ({said}). Is there enough memory?"
    return f"its worker could not give it back ({said})"


class Writer:
    """Commits fitted pipelines in another thread: those that come in while it is busy make the next group."""

    def __init__(self, write: Callable[[list[Trained]], None]) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="artifactdb-writer")
        self._going: Future[None] | None = None
        self._waiting: list[Trained] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.finish()
        finally:
            self._pool.shutdown()

    def add(self, trained: Trained) -> None:
        """Take a pipeline to be committed; raises what went wrong with those before."""
        self._waiting.append(trained)
        if self._going is None or self._going.done() or len(self._waiting) >= _WAITING_AT_MOST:
            self._start()

    def finish(self) -> None:
        """Commit what is left, and wait for it."""
        self._start()
        if self._going is not None:
            self._going.result()

    def _start(self) -> None:
        if self._going is not None:
            self._going.result()
            self._going = None
        if self._waiting:
            group, self._waiting = self._waiting, []
            self._going = self._pool.submit(self._write, group)


def commit(
    workspace: Workspace, pipelines: dict[str, PipelineRun], group: Sequence[Trained], dataset: dict[str, Any]
) -> dict[str, list[dict[str, Any]] | str]:
    """Store fitted pipelines, each whole or not at all, in one transaction.

    Returns
    -------
    dict
        By pipeline: its models, best first, or why it failed.
    """
    said: dict[str, list[dict[str, Any]] | str] = {}
    with workspace.transaction():
        for trained in group:
            pipeline = pipelines[trained.pipeline_id]
            if trained.error is None:
                try:
                    with workspace.transaction():
                        said[trained.pipeline_id] = _store(workspace, pipeline, trained, dataset)
                    continue
                except StorageError:
                    raise
                except ArtifactDBError as error:
                    trained.error = f"{type(error).__name__}: {error}"
            pipeline.end("failed", trained.error)
            said[trained.pipeline_id] = trained.error
    workspace.catalog.flush_if_grown()
    return said


def _store(
    workspace: Workspace, pipeline: PipelineRun, trained: Trained, dataset: dict[str, Any]
) -> list[dict[str, Any]]:
    registry = pipeline.registry
    for one in trained.artifacts:
        registry.register_with_chain(
            one.fitted,
            one.chain_path,
            one.artifact_type,
            one.step.index,
            branch_path=one.step.branch,
            source_index=one.source_index,
            fold_id=one.fold_id,
            substep_index=one.step.substep,
            depends_on=one.depends_on,
            meta_config=_meta_config(one),
            custom_name=one.step.name or None,
        )
    workspace.catalog.add_many(trained.rows)
    models = ranked(trained.rows, {one.artifact_id: one.chain_path for one in trained.artifacts})
    best = {one.artifact_id for one in trained.artifacts if one.chain_path == models[0]["chain_path"]}
    pipeline.log_folds(
        (row["fold_id"], {row["partition"]: row["scores"][row["partition"]]})
        for row in trained.rows
        if row["model_artifact_id"] in best
    )
    pipeline.end(metadata={"models": models, "data": dataset})
    return models


def _meta_config(one: Fitted) -> MetaModelConfig | None:
    if not one.source_models:
        return None
    sources = [{"artifact_id": source, "feature_index": index} for index, source in enumerate(one.source_models)]
    return MetaModelConfig(sources, list(one.feature_columns))
