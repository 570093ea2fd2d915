"""The way of an object out of the file: record, blob, decode, hash, object; of a composite, its parts too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import compress
from typing import Any

from artifactdb.artifacts import environment, find, gate
from artifactdb.artifacts.composite import Composite
from artifactdb.artifacts.find import StoredRecord
from artifactdb.blobs import store
from artifactdb.database import Database
from artifactdb.errors import ArtifactDBError, CorruptBlobError, DeserializationError, MissingDependencyError
from artifactdb.formats import is_data_only, serializer


def load(database: Database, record: StoredRecord) -> Any:
    """Give the object of a record.

    Raises
    ------
    CorruptBlobError
        When its stored bytes do not match its hash.
    DeserializationError
        When this environment cannot make an object of the bytes; says which versions wrote them.
    MissingDependencyError
        When a part of a composite is not there.
    UntrustedArtifactError
        When loading it would run code, and nobody whom the user believes vouches for it.
    """
    return next(load_with_parts(database, [record]))[0]


def load_with_parts(
    database: Database, records: Sequence[StoredRecord]
) -> Iterator[tuple[Any, dict[str, StoredRecord]]]:
    """Give the objects of several records, each with the records of its parts by id; raises what ``load`` raises."""
    for record, obj in _read_current(database, records):
        if not isinstance(obj, Composite):
            yield obj, {}
            continue
        parts = _Parts(database)
        # Looked up again, so that the container and all of its parts are of one state of the file.
        with database.reading():
            current = find.require(database, record.artifact_id, record.dataset)
            if current.blob_key != record.blob_key:
                ((_, obj),) = _read(database, [current])
            whole = parts.whole(current, obj)
        yield whole, parts.used


def load_entry(database: Database, records: Sequence[StoredRecord]) -> Iterator[tuple[Any, dict[str, StoredRecord]]]:
    """Give the objects of a library entry, each with the records of its parts; raises what ``load`` raises.

    Parts are looked for among the records of the entry, which stays as it is when a pipeline is trained again.
    """
    known = {(record.dataset, record.artifact_id): record for record in records}
    parts = _Parts(database, known)
    for record, obj in _read(database, records):
        yield parts.whole(record, obj), parts.of(record)


class _Parts:
    """Puts composites together, and makes each part once.

    Attributes
    ----------
    used : dict
        The records of the parts by id.
    """

    def __init__(self, database: Database, entry: Mapping[tuple[str, str], StoredRecord] | None = None) -> None:
        self.used: dict[str, StoredRecord] = {}
        self._database = database
        self._entry = entry
        self._made: dict[tuple[str, str], Any] = {}
        self._named: dict[tuple[str, str], list[str]] = {}

    def of(self, record: StoredRecord) -> dict[str, StoredRecord]:
        """Give the records of the parts of a record that was put together, and of their parts."""
        found: dict[str, StoredRecord] = {}
        waiting = list(self._named.get((record.dataset, record.artifact_id), ()))
        while waiting:
            name = waiting.pop()
            part = self._find(record.dataset, name)
            if part is not None and name not in found:
                found[name] = part
                waiting += self._named.get((record.dataset, name), ())
        return found

    def whole(self, record: StoredRecord, obj: Any) -> Any:
        """Give what was read of a record, with its parts if it has any."""
        if isinstance(obj, Composite):
            self._named[record.dataset, record.artifact_id] = obj.part_ids()
            obj = obj.assemble(lambda artifact_id: self._part(record, artifact_id))
        self._made[record.dataset, record.artifact_id] = obj
        return obj

    def _part(self, container: StoredRecord, artifact_id: str) -> Any:
        place = (container.dataset, artifact_id)
        if place not in self._made:
            record = self._find(*place)
            # What is not named as a dependency could lead in a circle.
            if record is None or artifact_id not in container.depends_on:
                raise MissingDependencyError(
                    f"the part {artifact_id} of {container.artifact_id} ({container.class_name}) is not there.",
                    hint="Train and save it again, or take in a workspace that has it.",
                    missing=[artifact_id],
                )
            self.used[artifact_id] = record
            for _, obj in _read(self._database, [record]):
                self.whole(record, obj)
        return self._made[place]

    def _find(self, dataset: str, artifact_id: str) -> StoredRecord | None:
        if self._entry is not None:
            return self._entry.get((dataset, artifact_id))
        return find.by_id(self._database, artifact_id, dataset)


def _read_current(database: Database, records: Sequence[StoredRecord]) -> Iterator[tuple[StoredRecord, Any]]:
    """Give what records hold; of one that was replaced since it was looked up and is gone, what is there now."""
    for first in range(0, len(records), _TOGETHER):
        together = records[first : first + _TOGETHER]
        while True:
            try:
                read = list(_read(database, together))
                break
            except CorruptBlobError:
                current = [find.require(database, record.artifact_id, record.dataset) for record in together]
                if [_content(record) for record in current] == [_content(record) for record in together]:
                    raise
                together = current
        yield from read


def _content(record: StoredRecord) -> tuple[int, str]:
    return record.blob_key, record.content_hash


def _read(database: Database, records: Sequence[StoredRecord]) -> Iterator[tuple[StoredRecord, Any]]:
    """Give what records hold, a composite as such; content is read a few at a time, once it may be loaded."""
    for first in range(0, len(records), _TOGETHER):
        together = records[first : first + _TOGETHER]
        with database.reading():
            readers = [serializer(record.format) for record in together]
            trusted = [gate.is_trusted(database, record) for record in together]
            contents = iter(store.get_many(database, [record.blob_key for record in compress(together, trusted)]))
        for record, reader, is_trusted in zip(together, readers, trusted, strict=True):
            if is_trusted:
                content = next(contents)
                gate.require_same(record, content)
                yield record, _made(record, partial(reader.load, content))
            else:
                yield record, _made(record, partial(gate.load_restricted, database, record))


_TOGETHER = 8


def _made(record: StoredRecord, make: Callable[[], Any]) -> Any:
    """Give what ``make`` does; say of other versions than those that wrote it that it may, or why it does not."""
    if is_data_only(record.format):  # the same to the last bit, whatever reads it
        return make()
    try:
        with _versions_compared(record.environment):
            obj = make()
    except DeserializationError as error:
        if error.hint or not isinstance(error.__cause__, Exception):
            raise
        raise _failed(record, error.__cause__) from error.__cause__
    except ArtifactDBError:
        raise
    except Exception as error:
        raise _failed(record, error) from error
    environment.warn_of_differences(record.artifact_id, record.environment)
    return obj


def _versions_compared(written: Mapping[str, str]) -> AbstractContextManager[None]:
    differs = written.get("sklearn", "") not in ("", environment.version_here("sklearn"))
    unknown = not environment.requirements(written)  # as of what another program wrote
    if not (differs or unknown):
        return nullcontext()
    from artifactdb.estimators.versions import compared

    return compared(said=differs)


def _failed(record: StoredRecord, error: Exception) -> DeserializationError:
    differing = environment.differences(record.environment)  # now: what was not imported before told no version
    written = ", ".join(f"{name} {version}" for name, version in record.environment.items())
    wanted = environment.requirements(record.environment)
    reason = f"{type(error).__name__}: {error}".rstrip(".")
    said = [
        f"{record.artifact_id} ({record.class_name}, format {record.format}) cannot be loaded here: {reason}.",
        f"It was written with {written}." if written else "It is not known what wrote it.",
        f"Other here: {', '.join(differing)}." if differing else "",
    ]
    hint = f"Install what wrote it: pip install {wanted}" if wanted else ""
    return DeserializationError(" ".join(filter(None, said)), hint=hint)
