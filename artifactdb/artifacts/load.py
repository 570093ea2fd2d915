"""The way of an object out of the file: record, blob, decode, hash, object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from artifactdb.artifacts import environment
from artifactdb.artifacts.find import StoredRecord
from artifactdb.blobs import store
from artifactdb.content import StoredContent
from artifactdb.database import Database
from artifactdb.errors import ArtifactDBError, DeserializationError
from artifactdb.formats import serializer


def load(database: Database, record: StoredRecord) -> Any:
    """Give the object of a record.

    Raises
    ------
    CorruptBlobError
        When its stored bytes do not match its hash.
    DeserializationError
        When this environment cannot make an object of the bytes; says which versions wrote them.
    """
    return next(load_many(database, [record]))


def load_many(database: Database, records: Sequence[StoredRecord]) -> Iterator[Any]:
    """Give the objects of several records, whose content is read a few at a time; raises what ``load`` raises."""
    for first in range(0, len(records), _TOGETHER):
        together = records[first : first + _TOGETHER]
        with database.reading():
            contents = store.get_many(database, [record.blob_key for record in together])
        for record, content in zip(together, contents, strict=True):
            yield _object(record, content)


_TOGETHER = 8


def _object(record: StoredRecord, content: StoredContent) -> Any:
    reader = serializer(record.format)
    environment_differs = environment.differences(record.environment)
    if environment_differs:
        environment.warn_of_differences(record.artifact_id, record.environment)
    try:
        return reader.load(content)
    except ArtifactDBError:
        raise
    except Exception as error:
        written = ", ".join(f"{name} {version}" for name, version in record.environment.items())
        differing = f" Other here: {', '.join(environment_differs)}." if environment_differs else ""
        wanted = environment.requirements(record.environment)
        raise DeserializationError(
            f"{record.artifact_id} ({record.class_name}, format {record.format}) cannot be loaded here: "
            f"{type(error).__name__}: {error}. It was written with {written}.{differing}",
            hint=f"Install what wrote it: pip install {wanted}" if wanted else "",
        ) from error
