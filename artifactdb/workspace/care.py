"""What keeps a workspace sound: checks, copies, and room given back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from artifactdb.artifacts import check, delete
from artifactdb.artifacts.check import Verification
from artifactdb.artifacts.delete import Orphan
from artifactdb.database import snapshot
from artifactdb.database.outdating import outdated_file, parity_file
from artifactdb.workspace.opened import Opened


class Care(Opened):
    """The part of ``Workspace`` that looks after the file."""

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Check every page, reference, blob, id and Parquet file; runs nothing of what the file holds.

        Where the workspace is protected, every block of it too.
        """
        found = check.verify(self.database, progress)
        if self._has_predictions():
            found.problems += self.catalog.verify()
        if parity_file(self.path).exists() or outdated_file(self.path).exists():
            from artifactdb.transfer.protect import differences

            problems, notes = differences(self.path, progress)
            found.problems += problems
            found.notes += notes
        return found

    def protect(self, overhead: float = 0.1, *, progress: Callable[[int, int], None] | None = None) -> Path:
        """Write a file beside the workspace from which damaged blocks of it can be made again.

        It protects the workspace as it is now, its Parquet files included, until the next change; any change puts it
        aside. ``verify`` compares every block with it, and ``artifactdb verify --repair`` restores from it.

        Parameters
        ----------
        overhead : float, default 0.1
            How large it is, as a share of the workspace: up to that share of it may be damaged. 0.01 to 1.
        progress : callable, optional
            Called with (done, in all).

        Returns
        -------
        Path
            The workspace's name and ``.parity``.

        Raises
        ------
        StorageError
            Without the package zfec, which the extra ``artifactdb[parity]`` brings.
        BusyError
            When others read or write.
        """
        from artifactdb.transfer.protect import protect

        return protect(self.database, overhead, progress)

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
