"""Pipelines enter the workspace: files are read, hashed and encoded by threads while the one before is written.

A pipeline comes in whole or not at all; the disk is waited for a few times a second, not once for each.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from artifactdb.artifacts import find
from artifactdb.artifacts.reading import artifact_content
from artifactdb.artifacts.restore import place_of, versions_of
from artifactdb.artifacts.save import Payload, content_there, is_there, save_content
from artifactdb.blobs import store
from artifactdb.content import Content
from artifactdb.database import Database
from artifactdb.database.bulk import checkpoints_aside
from artifactdb.errors import (
    ArtifactDBError,
    InvalidValueError,
    MissingDependencyError,
    StorageError,
)
from artifactdb.interop.items import Item, Pipeline
from artifactdb.interop.report import ImportReport
from artifactdb.records import ArtifactRecord
from artifactdb.runs.manifests import differences, enter_pipeline
from artifactdb.trust.signing import is_own

Progress = Callable[[int, int], None]

_THREADS = 2
_GROUP_SECONDS = 0.3
_AHEAD_BYTES, _AHEAD_STEPS = 96 << 20, 8
_PIPELINE = """
SELECT p.pipeline_key, t.run_key, t.pipeline_key IS NOT NULL FROM pipelines AS p
LEFT JOIN trained_pipelines AS t ON t.pipeline_key = p.pipeline_key
WHERE p.pipeline_id = ? AND p.dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?)
"""


@dataclass(frozen=True, slots=True)
class _Read:
    """The content of an item, checked against its hash, and as it will lie in the file."""

    content: Content
    ready: store.Encoded


@dataclass(slots=True)
class _Step:
    """One thing of the stream: a pipeline that begins, an item of it, or its end."""

    pipeline: Pipeline
    item: Item | None = None
    reading: Future[_Read] | None = None
    size: int = 0
    ends: bool = False


@dataclass(slots=True)
class Entering:
    """Enters pipelines and counts what came in.

    Parameters
    ----------
    database : Database
    report : ImportReport
    """

    database: Database
    report: ImportReport
    _waiting: list[tuple[Pipeline, Item]] = field(default_factory=list)

    def enter(self, pipelines: Iterable[Pipeline], progress: Progress | None = None, total: int = 0) -> None:
        """Enter pipelines one after the other; what cannot come in is listed, the rest comes."""
        self._enter_all(pipelines, progress, total)
        # Sources may lie in a pipeline that came later.
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            self._enter_all(_regrouped(waiting), None, 0)
            if len(self._waiting) == len(waiting):
                break
        for pipeline, item in self._waiting:
            missing = [
                source
                for source in item.record.depends_on
                if content_there(self.database, pipeline.dataset, source) is None
            ]
            self._refuse(item, f"it depends on what is not there: {', '.join(missing[:5])}.")

    def _enter_all(self, pipelines: Iterable[Pipeline], progress: Progress | None, total: int) -> None:
        with checkpoints_aside(self.database), ThreadPoolExecutor(_THREADS) as pool:
            stream = self._stream(pipelines, pool)
            try:
                done = 0
                while group := self._enter_group(stream):
                    done += group
                    if progress:
                        progress(done, max(done, total))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _enter_group(self, stream: Iterator[_Step]) -> int:
        """Enter pipelines for a while, and wait for the disk once; give how many.

        When something breaks, those that were complete stay.
        """
        failure: BaseException | None = None
        done = 0
        until = time.monotonic() + _GROUP_SECONDS
        with self.database.transaction():
            try:
                for first in stream:
                    with self.database.transaction():
                        self._enter_pipeline(first.pipeline, stream)
                    done += 1
                    if time.monotonic() > until:
                        break
            except BaseException as error:
                failure = error
        if failure is not None:
            raise failure
        return done

    def _enter_pipeline(self, pipeline: Pipeline, stream: Iterator[_Step]) -> None:
        refusal = self._enter_manifest(pipeline)
        row = self.database.row(_PIPELINE, (pipeline.pipeline_id, pipeline.dataset))
        run_key = row[1] if row else None
        for step in stream:
            if step.ends:
                return
            assert step.item is not None
            if refusal:
                self._refuse(step.item, refusal)
            else:
                self._enter_item(pipeline, step.item, step.reading, run_key)

    def _enter_manifest(self, pipeline: Pipeline) -> str:
        """Enter what is said of a pipeline; give why it is refused, "" when it is not."""
        row = self.database.row(_PIPELINE, (pipeline.pipeline_id, pipeline.dataset))
        if pipeline.manifest is None:
            if pipeline.pipeline_id:
                self.report.count("pipelines", new=row is None)
            return ""
        try:
            with self.database.transaction():
                key = enter_pipeline(self.database, pipeline.manifest)
                differ = differences(self.database, key, pipeline.manifest) if row and row[2] else []
        except StorageError:
            raise
        except ArtifactDBError as error:
            self.report.refused.append((pipeline.name, str(error)))
            return f"its pipeline {pipeline.name} was refused."
        if differ:  # its artifacts come in nevertheless
            reason = f"it is here already with other {', '.join(differ)}, which stay."
            self.report.refused.append((pipeline.name, reason))
        else:
            self.report.count("pipelines", new=not (row and row[2]))
        return ""

    def _enter_item(self, pipeline: Pipeline, item: Item, reading: Future[_Read] | None, run_key: int | None) -> None:
        record = item.record
        if item.problem:
            self._refuse(item, item.problem)
            return
        try:
            read = reading.result() if reading is not None else None
            content_hash = f"sha256:{read.content.digest.hex()}" if read else record.content_hash
            is_new = not is_there(self.database, pipeline.dataset, record.artifact_id, content_hash, record.format)
            if read is None and is_new:
                raise InvalidValueError("it was deleted while this went on.", hint="Import again.")
            if read is None:
                self.report.count("artifacts", new=False)
                return
            payload = Payload(
                read.content, record.format, versions_of(record), record.format_version, record.created_at,
                vouched=self.report.trusted, signature=record.signature, act="imported",
            )  # fmt: skip
            place = place_of(record, pipeline.dataset)
            save_content(
                self.database, payload, place, record.params, record.class_name, run_key=run_key, ready=read.ready
            )
        except MissingDependencyError:
            self._waiting.append((pipeline, item))
            return
        except StorageError:
            raise
        except (ArtifactDBError, OSError) as error:
            self._refuse(item, str(error))
            return
        self.report.count("artifacts", new=is_new)
        if item.note and is_new:
            self.report.notes.append((record.artifact_id, item.note))

    def _is_needed(self, dataset: str, record: ArtifactRecord) -> bool:
        """Tell whether the file of a record has to be read: not when it is there already, or is refused.

        What the user vouches for now, and did not before, is read: what it claims to be could be another content.
        """
        present = content_there(self.database, dataset, record.artifact_id)
        if present is None or not record.content_hash:
            return True
        if record.content_hash != present[0] or not (self.report.trusted or is_own(self.database, record)):
            return False
        there = find.by_id(self.database, record.artifact_id, dataset)
        return there is not None and not is_own(self.database, there)

    def _refuse(self, item: Item, reason: str) -> None:
        self.report.refused.append((item.record.artifact_id or item.record.path, reason))

    # -- reading ahead ------------------------------------------------------------------------------

    def _stream(self, pipelines: Iterable[Pipeline], pool: ThreadPoolExecutor) -> Iterator[_Step]:
        """Give pipelines with their items in order, while files further on are read within bounds of memory."""
        ahead: deque[_Step] = deque()
        ahead_bytes = 0
        submitted: set[str] = set()
        for step in _steps(pipelines):
            if step.item is not None:
                self._submit(step, pool, submitted)
                ahead_bytes += step.size
            ahead.append(step)
            while ahead_bytes > _AHEAD_BYTES or (len(ahead) > _AHEAD_STEPS and _is_read(ahead[0])):
                given = ahead.popleft()
                ahead_bytes -= given.size
                yield given
        yield from _popped(ahead)

    def _submit(self, step: _Step, pool: ThreadPoolExecutor, submitted: set[str]) -> None:
        item = step.item
        assert item is not None
        if item.problem or item.file is None:
            return
        if not self._is_needed(step.pipeline.dataset, item.record):
            return
        claimed = item.record.content_hash.removeprefix("sha256:")
        try:
            step.size = item.file.stat().st_size
        except OSError as error:
            item.problem = f"{item.file.name} cannot be read ({error.strerror})."
            return
        known = bool(claimed) and (
            claimed in submitted or store.find(self.database, bytes.fromhex(claimed)) is not None
        )
        submitted.add(claimed)
        step.reading = pool.submit(_read, item, encode=not known)


def _steps(pipelines: Iterable[Pipeline]) -> Iterator[_Step]:
    for pipeline in pipelines:
        yield _Step(pipeline)
        for item in _sources_first(pipeline.items):
            yield _Step(pipeline, item)
        yield _Step(pipeline, ends=True)


def _is_read(step: _Step) -> bool:
    return step.reading is None or step.reading.done()


def _popped(steps: deque[_Step]) -> Iterator[_Step]:
    # Taken out one by one, so that what was read goes with its step.
    while steps:
        yield steps.popleft()


def _sources_first(items: list[Item]) -> list[Item]:
    """Order items so that what others depend on comes before them; those of a circle come last."""
    ordered: list[Item] = []
    waiting = items
    while waiting:
        ids = {item.record.artifact_id for item in waiting}
        ready = [item for item in waiting if ids.isdisjoint(item.record.depends_on)]
        if not ready:
            return ordered + waiting
        ordered += ready
        chosen = set(map(id, ready))
        waiting = [item for item in waiting if id(item) not in chosen]
    return ordered


def _regrouped(waiting: list[tuple[Pipeline, Item]]) -> list[Pipeline]:
    """Give the items that still wait, by dataset, in an order that may serve them all."""
    by_dataset: dict[str, list[Item]] = {}
    for pipeline, item in waiting:
        by_dataset.setdefault(pipeline.dataset, []).append(item)
    return [Pipeline(dataset, "", items) for dataset, items in by_dataset.items()]


def _read(item: Item, *, encode: bool) -> _Read:
    """Read an item's file, compare it with its hash, and encode it; runs in a thread, and knows nothing of the file."""
    assert item.file is not None
    content = artifact_content(item.file, item.record.format, item.parts.get, item.record.content_hash)
    item.record.content_hash = f"sha256:{content.digest.hex()}"
    whole = all(isinstance(segment.data, bytes) for blob in (content, *content.parts) for segment in blob.segments)
    if not encode or not whole:
        return _Read(content, {})
    ready = store.encode_quickly(content)
    # What is encoded need not be kept twice.
    lean = [Content.already_stored(part.digest, part.size_bytes) for part in content.parts]
    encoded = Content.already_stored(content.digest, content.size_bytes)
    encoded.parts = lean
    return _Read(encoded, ready)
