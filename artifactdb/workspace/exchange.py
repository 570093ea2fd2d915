"""Workspaces and folders go out as wholes, and come in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from artifactdb.paths import local_path
from artifactdb.workspace.opened import Opened

if TYPE_CHECKING:
    from artifactdb.interop.report import ExportReport, ImportReport
    from artifactdb.transfer.conflicts import Merge
    from artifactdb.workspace import Workspace


class Exchange(Opened):
    """The part of ``Workspace`` that packs, merges, exports and imports."""

    def pack(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Write everything to one new file, its predictions inside: to mail, to archive, to put on read-only media.

        Content that no record reaches stays behind; what goes along is compared with its hashes.

        Parameters
        ----------
        path : str or Path
            A new file.
        overwrite : bool, default False
            Replace a file that is there.
        dry_run : bool, default False
            Only see that it could be written there.
        progress : callable, optional
            Called with (stored bytes done, stored bytes in all).

        Raises
        ------
        InvalidValueError
            When the file is there, unless it may be overwritten; inside a transaction.
        CorruptBlobError
            When content does not match its hash; nothing is left then.
        """
        from artifactdb.transfer.pack import pack, require_target

        target = local_path(path)
        if dry_run:
            require_target(self.catalog._store, target, overwrite=overwrite)
            return target
        return pack(self.catalog._store, target, overwrite=overwrite, progress=progress)

    def merge(
        self,
        other: str | os.PathLike[str] | Workspace,
        *,
        on_conflict: str = "ours",
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Merge:
        """Take in another workspace by content: what is here already comes once, all comes or nothing.

        Parameters
        ----------
        other : str, Path or Workspace
        on_conflict : {"ours", "theirs", "newer", "error"}, default "ours"
            What stays where both hold something else under one name: what is here; what the other has; what was made
            later (ours for metrics and predictions, which bear no date); or refuse the whole merge.
        dry_run : bool, default False
            Only say what would come in.
        progress : callable, optional
            Called with (stored bytes done, stored bytes in all).

        Returns
        -------
        Merge
            Counts, the conflicts with what each side has, and notes of artifacts that now depend on one of the other
            side's, as where a model comes in and the scaler of the same name stays ours.

        Raises
        ------
        DuplicateError
            For a conflict, with ``on_conflict="error"``.
        NewerSchemaError, NotAWorkspaceError
        InvalidValueError
            For a workspace that is to be merged into itself.
        CorruptBlobError
            When content of the other does not match its hash.
        """
        from artifactdb.transfer.merge import merge_into

        return merge_into(self.catalog._store, other, on_conflict=on_conflict, dry_run=dry_run, progress=progress)

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        layout: str = "v3",
        dataset: str | None = None,
        overwrite: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> ExportReport:
        """Write the folders of the seed: ``runs/``, ``binaries/``, ``exports/``, ``library/`` and ``catalog/``.

        Parameters
        ----------
        path : str or Path
            A new folder; it gets its name when it is whole.
        layout : {"v3"}, default "v3"
        dataset : str, optional
            Only this one; the library is left out then.
        overwrite : bool, default False
            Replace an earlier export.
        dry_run : bool, default False
            Only count.
        progress : callable, optional
            Called with (artifacts done, artifacts in all).

        Raises
        ------
        InvalidValueError
            When the folder is there and not empty, unless it may be overwritten.
        """
        from artifactdb.interop.exporting import export

        return export(
            self.database, self.catalog, local_path(path), layout=layout, dataset=dataset, overwrite=overwrite,
            dry_run=dry_run, progress=progress,
        )  # fmt: skip

    def import_folder(
        self,
        path: str | os.PathLike[str],
        *,
        dataset: str | None = None,
        trust: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> ImportReport:
        """Take in a folder that ``export`` wrote, a workspace of nirs4all 0.6 or 1.4, or files of joblib and pickle.

        Nothing of it is run, and bytes come in as they are. What cannot come in is listed, the rest comes; what is here
        already stays, so that importing again changes nothing, and is listed where it differs.

        Parameters
        ----------
        path : str or Path
            A folder, or the file of one fitted object.
        dataset : str, optional
            For plain files, the dataset that they belong to; of a workspace, only this one.
        trust : bool, default False
            Vouch for all of it, as for what you saved yourself. Otherwise it is a stranger's: it is kept, but not
            loaded where that would run code.
        dry_run : bool, default False
            Only say what would come in.
        progress : callable, optional
            Called with (pipelines done, pipelines in all).

        Returns
        -------
        ImportReport
            Counts, and what was refused with the reason.
        """
        from artifactdb.interop.importing import import_folder

        return import_folder(
            self.database, self.catalog, local_path(path, to_read=True), dataset=dataset, trust=trust, dry_run=dry_run,
            progress=progress,
        )  # fmt: skip
