"""What loading an artifact would import and call, read from its bytes: nothing is executed."""

from __future__ import annotations

from artifactdb.artifacts.find import StoredRecord
from artifactdb.blobs import store
from artifactdb.database import Database
from artifactdb.trust.pickles.report import Report
from artifactdb.trust.pickles.scan import scan


def inspect(database: Database, record: StoredRecord) -> Report:
    """Give what loading a record's object would import and call, as far as reading can tell.

    Raises
    ------
    CorruptBlobError
        When its stored bytes do not match its hash.
    """
    with database.reading():
        (content,) = store.get_many(database, [record.blob_key])
    return scan(content, record.format)
