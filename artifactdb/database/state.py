"""One state of a workspace file, as it is handed from thread to thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import apsw

from artifactdb.database.sealed import believed, seal_of
from artifactdb.database.translate import taken_back

Row = tuple[Any, ...]


class Snapshot:
    """One state of a workspace file, which several threads may read in turn."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self._seal = seal_of(connection)
        self.path = path
        self._lock = threading.Lock()
        self.rows("SELECT 1 FROM sqlite_schema LIMIT 1")  # a state is taken with the first read

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """Run one statement and give all its rows."""
        return [row for batch in self.batches(sql, parameters, 10_000) for row in batch]

    def batches(
        self, sql: str, parameters: Sequence[Any] | dict[str, Any] = (), rows: int = 10_000
    ) -> Iterator[list[Row]]:
        """Run one statement and give its rows, so many at a time."""
        with self._lock, believed(self._seal, self.path):
            if not self._connection.in_transaction:
                raise taken_back(self.path)  # else what follows would be read of another state
            cursor = self._connection.execute(sql, parameters)
        while True:
            with self._lock, believed(self._seal, self.path):
                batch = list(islice(cursor, rows))
            if not batch:
                return
            yield batch
