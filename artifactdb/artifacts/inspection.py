"""What loading an artifact would import and call, read from its bytes: nothing is executed."""

from __future__ import annotations

from dataclasses import replace

from artifactdb.artifacts.find import StoredRecord
from artifactdb.artifacts.gate import require_same
from artifactdb.blobs import store
from artifactdb.database import Database
from artifactdb.trust.pickles.report import Report
from artifactdb.trust.pickles.scan import LIMITS, scan


def inspect(database: Database, record: StoredRecord) -> Report:
    """Give what loading a record's object would import and call, as far as reading can tell.

    Raises
    ------
    CorruptBlobError
        When its stored bytes do not match its hash.
    """
    with database.reading():
        # What unpacks to more than this is read no further: it may be there to fill the memory.
        content, size_bytes = store.head(database, record.blob_key, LIMITS.size_bytes)
    require_same(record, content)
    report = scan(content, record.format)
    if size_bytes > len(content.data):
        unread = f"only the first {len(content.data)} of {size_bytes} bytes were read"
        report = replace(report, problems=[unread, *report.problems])
    return report
