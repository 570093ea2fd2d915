"""What every part of a catalog works with: the file, the folder beside it, and the two DuckDBs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artifactdb.catalog.engine import Engine
from artifactdb.catalog.files import Inspector, catalog_folder, live_files
from artifactdb.catalog.inside import UnpackedFiles
from artifactdb.database import Database

_WRITING_MEMORY = "700MB"


class Store:
    """A catalog's place on the disk; holds no row of it.

    Attributes
    ----------
    database : Database
        The workspace's file.
    folder : Path
        Where the Parquet files lie.
    engine, writing_engine : Engine
        For questions, and for merges, which keep to a bounded memory.
    staged_bytes : int
        Array bytes that this process has staged since its last flush.
    lies_in : dict
        The ``file_key`` of files that arrays were seen in; true as long as the file counts.
    only_metric : dict
        Whether a metric is the only one in some files.
    """

    def __init__(self, database: Database, folder: Path | None = None) -> None:
        self.database = database
        self.folder = folder if folder is not None else catalog_folder(database.path)
        self._start()

    def _start(self) -> None:
        self.unpacked = UnpackedFiles()
        self.inspector = Inspector(self.folder, self.unpacked)
        self.engine = self.new_engine()
        self.writing_engine = self.new_engine(_WRITING_MEMORY)
        self.staged_bytes = 0
        self.lies_in: dict[str, int] = {}
        self.only_metric: dict[tuple[tuple[int, ...], str], bool] = {}
        self._filters: dict[int, bytes] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"database": self.database, "folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def new_engine(self, memory_limit: str | None = None) -> Engine:
        """Give a DuckDB that reads this catalog's files and no others."""
        return Engine((self.folder, self.unpacked.folder), memory_limit)

    def engine_with(self, other: Store) -> Engine:
        """Give a DuckDB for writing that reads the files of two catalogs."""
        return Engine((self.folder, self.unpacked.folder, other.folder, other.unpacked.folder), _WRITING_MEMORY)

    def forget(self) -> None:
        """Forget what is remembered of files, by number."""
        self._filters.clear()
        self.lies_in.clear()
        self.only_metric.clear()

    def filters(self, kind: str) -> dict[int, bytes]:
        """Give the Bloom filters of the files that count, by ``file_key``."""
        files = live_files(self.database)
        for file in files:
            if file.file_key not in self._filters:
                # A file never changes, and its number is never used again.
                bits = self.database.value("SELECT id_filter FROM catalog_files WHERE file_key = ?", (file.file_key,))
                self._filters[file.file_key] = bits
        self._filters = {file.file_key: self._filters[file.file_key] for file in files}
        return {file.file_key: self._filters[file.file_key] for file in files if file.kind == kind}
