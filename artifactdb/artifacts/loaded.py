"""Objects that were loaded, kept as long as the file still holds what they were made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from artifactdb.artifacts import find, load
from artifactdb.artifacts.find import StoredRecord
from artifactdb.artifacts.manifest import ManifestImport
from artifactdb.cache import LRUCache
from artifactdb.database import Database
from artifactdb.errors import ArtifactNotFoundError, WorkspaceNotFoundError

_ABSENT = object()


class LoadedObjects:
    """The objects of a dataset: from the cache, else from the file.

    Parameters
    ----------
    database : Database
    dataset : str
    cache : LRUCache
    """

    def __init__(self, database: Database, dataset: str, cache: LRUCache) -> None:
        self.cache = cache
        self._database = database
        self._dataset = dataset
        self._seen: object = database.version()
        self.left_out = ManifestImport()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": None}

    def by_id(self, artifact_id: str) -> Any:
        """Give the object of an id; raises as ``require`` and ``load.load`` do."""
        if not isinstance(artifact_id, str):
            self.require(artifact_id)  # which says so
        version, _ = self._forget_what_changed()
        found = self.cache.get(artifact_id, _ABSENT)
        if found is not _ABSENT:
            return found
        record = self.require(artifact_id)
        return self._keep(version, record, artifact_id, *next(load.load_with_parts(self._database, [record])))

    def require(self, artifact_id: str) -> StoredRecord:
        """Give the record of an id; where there is none because an import left it out, say why."""
        try:
            return find.require(self._database, artifact_id, self._dataset)
        except ArtifactNotFoundError:
            reason = dict(self.left_out.refused).get(artifact_id)
            if reason is None:
                raise
        kind = WorkspaceNotFoundError if artifact_id in self.left_out.missing else ArtifactNotFoundError
        raise kind(f"{artifact_id} was not imported: {reason}", hint="Import its manifest with its files.")

    def of(self, records: Sequence[StoredRecord]) -> list[Any]:
        """Give the objects of records."""
        version, has_changed = self._forget_what_changed()
        if has_changed:  # maybe since these were looked up
            records = [find.require(self._database, record.artifact_id, record.dataset) for record in records]
        objects = {record.artifact_id: self.cache.get(record.artifact_id, _ABSENT) for record in records}
        absent = list({r.artifact_id: r for r in records if objects[r.artifact_id] is _ABSENT}.values())
        for record, (obj, parts) in zip(absent, load.load_with_parts(self._database, absent), strict=True):
            objects[record.artifact_id] = self._keep(version, record, record.artifact_id, obj, parts)
        return [objects[record.artifact_id] for record in records]

    def _keep(
        self, version: object, record: StoredRecord, key: str, obj: Any, parts: Mapping[str, StoredRecord]
    ) -> Any:
        if self._database.version() != version:  # another thread may have kept what took its place
            return obj
        size_bytes = record.size_bytes + sum(part.size_bytes for part in parts.values())
        made_of = {own: (made.content_hash, made.format) for own, made in [(key, record), *parts.items()]}
        self.cache.put(key, obj, size_bytes, made_of)
        return obj

    def _forget_what_changed(self) -> tuple[object, bool]:
        """Drop what was replaced, after any change to the file; give what it is now, and whether there was one."""
        version = self._database.version()
        if version == self._seen:
            return version, False
        for key in self.cache.keys():  # noqa: SIM118 - a method of ours that takes a copy
            made_of = self.cache.tag(key)
            if not isinstance(made_of, dict) or any(self._made_of(own) != made_of[own] for own in made_of):
                self.cache.remove(key)
        self._seen = version  # as it was before: what changed since is for the next time
        return version, True

    def _made_of(self, artifact_id: str) -> tuple[str, str] | None:
        record = find.by_id(self._database, artifact_id, self._dataset)
        return (record.content_hash, record.format) if record else None
