"""What keeps a workspace sound: checks, copies, and room given back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from artifactdb.artifacts import check, delete, history
from artifactdb.artifacts.check import Verification
from artifactdb.artifacts.delete import Orphan
from artifactdb.blobs import optimizing
from artifactdb.blobs.optimizing import LEVEL, Optimized
from artifactdb.database import snapshot
from artifactdb.database.outdating import outdated_file, parity_file
from artifactdb.database.session import require_no_transaction
from artifactdb.errors import InvalidValueError
from artifactdb.paths import local_path
from artifactdb.workspace.opened import Opened

if TYPE_CHECKING:
    from artifactdb.transfer.backups import Copy


class Care(Opened):
    """The part of ``Workspace`` that looks after the file."""

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Verification:
        """Check every page, reference, blob, id and Parquet file; runs nothing of what the file holds.

        Where the workspace is protected, every block of it too.

        Raises
        ------
        InvalidValueError
            Inside a transaction: what it has written is not settled yet.
        """
        require_no_transaction(self.database, "verify")
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
        aside. ``verify`` compares every block with it, and ``artifactdb verify --repair`` restores from it. All is
        read first, and compared with what protects it already or, where nothing does, with its hashes.

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
        CorruptWorkspaceError
            When the workspace is damaged; what protects it stays.
        BusyError
            When others read or write.
        """
        from artifactdb.transfer.protect import protect

        return protect(self.database, overhead, progress)

    def orphans(self) -> list[Orphan]:
        """Give the content that no record and no entry of the library reaches."""
        return delete.find_orphans(self.database)

    def gc(self, *, dry_run: bool = False, release_space: bool = True) -> list[Orphan]:
        """Delete the content that no record and no entry of the library reaches.

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

    def optimize(self, level: int = LEVEL, *, progress: Callable[[int, int], None] | None = None) -> Optimized:
        """Encode all content anew with more effort, and give what that saves back to the file system.

        No id and no hash changes; others read and write meanwhile. Broken off, it keeps what it has done.

        Parameters
        ----------
        level : int, default 19
            Of Zstandard, 1 to 19: 19 takes about a second for 2 MB.
        progress : callable, optional
            Called with (blobs done, blobs in all).

        Raises
        ------
        InvalidValueError
            When there is no such level.

        Examples
        --------
        >>> from artifactdb import Workspace
        >>> with Workspace(getfixture("tmp_path")) as workspace:
        ...     record = workspace.registry("wheat").register({"a": [1.5] * 9999}, "0001_a$aaaaaaaaaaaa:0", "model")
        ...     optimized = workspace.optimize()
        ...     workspace.load(record.artifact_id) == {"a": [1.5] * 9999}
        True
        """
        if level not in range(1, LEVEL + 1):
            raise InvalidValueError(f"a level is a number from 1 to {LEVEL}, not {level!r}.")
        found = optimizing.optimize(self.database, level, progress)
        with self.transaction():
            history.note(self.database, "optimized", details={"from": found.before_bytes, "to": found.after_bytes})
        snapshot.release_space(self.database)
        return found

    def backup(self, path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None) -> Path:
        """Copy the workspace to a new file, consistent even while others write; its Parquet files go along.

        Raises
        ------
        InvalidValueError
            When the target exists.
        """
        if self._has_predictions():
            return self.catalog.backup(path, progress)
        return snapshot.backup(self.database, local_path(path), progress)

    def backup_to(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Copy:
        """Add a copy to a series of backups, in which what did not change is stored once; others may write meanwhile.

        The copy is of one instant, predictions included, and is read back and checked before it counts. A backup that
        was broken off leaves those before as they are, and the next one goes on with the pieces that it wrote.

        Parameters
        ----------
        folder : str or Path
            A folder for backups and nothing else; made when it is not there. It needs room for one whole copy more
            while one is taken.
        keep : int, optional
            How many copies of this workspace under this name stay, the new one included; older ones are removed, unless
            the folder holds a list of a copy that cannot be read. Default: all.
        progress : callable, optional
            Called with (bytes done, bytes in all).

        Returns
        -------
        Copy
            When it was taken, and how much of it is new.

        Raises
        ------
        InvalidValueError
            When the folder holds other files, or ``keep`` is no number from 1.
        CorruptWorkspaceError
            When the workspace is damaged: the copy is not kept then, and no older one removed.
        """
        from artifactdb.transfer import backups

        return backups.take(self.catalog._store, local_path(folder), keep=keep, progress=progress)

    @staticmethod
    def backups(folder: str | os.PathLike[str]) -> list[Copy]:
        """Give the copies that ``backup_to`` left in a folder, oldest first.

        Raises
        ------
        WorkspaceNotFoundError
            A FileNotFoundError.
        """
        from artifactdb.transfer import backups

        return backups.copies(local_path(folder))

    @staticmethod
    def restore(
        folder: str | os.PathLike[str],
        path: str | os.PathLike[str],
        *,
        at: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Put a copy of a series together again as a new workspace; every byte is compared with its hash.

        Parameters
        ----------
        folder : str or Path
            As ``backup_to`` was given it.
        path : str or Path
            A new file.
        at : str, optional
            The last copy that was taken by then: a day (``2026-11-27``) or a time (``2026-11-27T18:30``; of this
            machine, unless it says which zone). Default: the newest. In a folder with copies of several workspaces
            the very time of one, as ``backups`` gives it.
        progress : callable, optional
            Called with (bytes done, bytes in all).

        Raises
        ------
        WorkspaceNotFoundError
            When there is no such copy.
        InvalidValueError
            When the file is there, ``at`` is no time, or which workspace is meant is not clear.
        CorruptWorkspaceError
            When a piece is damaged or missing; nothing is left then.

        Examples
        --------
        >>> from artifactdb import Workspace
        >>> folder = getfixture("tmp_path")
        >>> with Workspace(folder / "wheat.sqlite") as workspace:
        ...     copy = workspace.backup_to(folder / "backups", keep=10)
        >>> Workspace.restore(folder / "backups", folder / "as-it-was.sqlite").name
        'as-it-was.sqlite'
        """
        from artifactdb.transfer import backups

        return backups.restore(local_path(folder), local_path(path), at=at, progress=progress)
