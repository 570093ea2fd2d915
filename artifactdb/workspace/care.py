"""What keeps a workspace sound: checks, copies, and room given back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from artifactdb.artifacts import check, delete
from artifactdb.artifacts.check import Verification
from artifactdb.artifacts.delete import Orphan
from artifactdb.database import snapshot
from artifactdb.workspace.opened import Opened


class Care(Opened):
    """The part of ``Workspace`` that looks after the file."""

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Check every page, reference, blob, id and Parquet file; runs nothing of what the file holds."""
        found = check.verify(self.database, progress)
        if self._has_predictions():
            found.problems += self.catalog.verify()
        return found

    def orphans(self) -> list[Orphan]:
        """Give the content that no record reaches."""
        return delete.find_orphans(self.database)

    def gc(self, *, dry_run: bool = False, release_space: bool = True) -> list[Orphan]:
        """Delete the content that no record reaches.

        Parameters
        ----------
        dry_run : bool, default False
            Only say what would be deleted.
        release_space : bool, default True
            Give the free pages back to the file system too.
        """
        orphans = delete.delete_orphans(self.database, dry_run=dry_run)
        if release_space and not dry_run:
            snapshot.release_space(self.database)
        return orphans

    def backup(self, path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> Path:
        """Copy the workspace to a new file, consistent even while others write; its Parquet files go along.

        Raises
        ------
        InvalidValueError
            When the target exists.
        """
        if self._has_predictions():
            return self.catalog.backup(Path(path), progress)
        return snapshot.backup(self.database, Path(path), progress)
