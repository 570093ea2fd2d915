"""A workspace while it is open: its file, its transactions, and the services that share both."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from artifactdb.artifacts import statistics
from artifactdb.database import Database
from artifactdb.errors import BusyError, InvalidValueError, ReadOnlyError
from artifactdb.library import LibraryManager
from artifactdb.loader import ArtifactLoader
from artifactdb.registry import ArtifactRegistry
from artifactdb.results import html_fields
from artifactdb.runs import store as run_store

if TYPE_CHECKING:
    from artifactdb.catalog import Catalog
    from artifactdb.workspace import Workspace


class Opened:
    """What every part of ``Workspace`` builds on."""

    def __init__(self, path: str | os.PathLike[str], *, mode: str = "rw", timeout_s: float = 30.0) -> None:
        self.database = Database(path, mode=mode, timeout_s=timeout_s)
        self._catalog: Catalog | None = None
        if mode == "rw":
            try:
                with suppress(BusyError, ReadOnlyError):  # said another time; who asks is told in any case
                    run_store.mark_interrupted(self.database)
            except BaseException:
                self.database.close()  # nobody else holds it, and an open one leaves a -wal beside the file
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r})"

    def _repr_html_(self) -> str:
        shown: dict[str, Any] = {"state": "closed"} if self.database.closed else statistics.statistics(self.database)
        return f"<p><b>Workspace</b> {escape(str(self.path))}</p>{html_fields(shown)}"

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self.database.path

    def close(self) -> None:
        """Move staged predictions to Parquet and close the file; after the last close no part of it lies beside it."""
        if not self.database.closed and self.database.in_transaction:
            raise InvalidValueError(
                "a workspace cannot be closed inside a transaction.", hint="Close it after the block."
            )
        try:
            if self._catalog is not None:
                self._catalog.flush_on_close()
        finally:
            self.database.close()
            if self._catalog is not None:
                self._catalog.close()

    def transaction(self) -> AbstractContextManager[None]:
        """Group changes: all of them durable when the block ends, none when it raises. Blocks may be nested.

        Who catches an error inside goes on with what is left: an inner block that raised, and a save that was refused,
        are as if they had not been tried. A save that a full disk or an interrupt stops half way takes the block that
        it is in with it. Of tasks of asyncio only the one that began a block, and those that it begins inside, may
        write until it ends.
        """
        return self.database.transaction()

    def registry(self, dataset: str, pipeline_id: str = "") -> ArtifactRegistry:
        """Give the registry of a dataset, which shares this workspace's transactions."""
        return ArtifactRegistry(cast("Workspace", self), dataset, pipeline_id=pipeline_id)

    def loader(self, dataset: str, cache_size: int = 100) -> ArtifactLoader:
        """Give a loader for a dataset."""
        return ArtifactLoader(cast("Workspace", self), dataset, cache_size=cache_size)

    @property
    def library(self) -> LibraryManager:
        """The reusable configurations that this workspace keeps."""
        return LibraryManager(self)

    @property
    def catalog(self) -> Catalog:
        """The predictions that belong to this workspace."""
        if self._catalog is None:
            # DuckDB and Arrow take a while to import, and most who open a workspace do without.
            from artifactdb.catalog import Catalog

            self._catalog = Catalog(self.database)
        return self._catalog

    def _has_predictions(self) -> bool:
        return statistics.has_predictions(self.database)
