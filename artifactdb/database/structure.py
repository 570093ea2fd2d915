"""A quick look at the structure of a file that this process has not seen before."""

from __future__ import annotations

from pathlib import Path

import apsw

from artifactdb.errors import CorruptWorkspaceError, WorkspaceNotFoundError

_READ_THROUGH_BYTES = 2 << 20
"""A file up to this size is read through before it is used, which takes a few milliseconds."""
_REMEMBERED = 256
_DAMAGED = "Restore a backup, or save what is right with `artifactdb recover`."
_seen: dict[tuple[int, int], tuple[int, int]] = {}


def look_over(connection: apsw.Connection, path: Path) -> None:
    """Compare what the header of a file says with the file; of a small one every page, value and rule too.

    Larger ones are for ``verify``. What was seen is remembered in this process by device, inode, size and time.

    Raises
    ------
    CorruptWorkspaceError
    """
    try:
        status = path.stat()
    except FileNotFoundError:  # removed since it was opened
        raise WorkspaceNotFoundError(f"{path} is not there any more.", hint="Open it again.") from None
    place, signature = (status.st_dev, status.st_ino), (status.st_size, status.st_mtime_ns)
    if _seen.get(place) == signature:
        return
    pages, free, encoding = (connection.pragma(name) for name in ("page_count", "freelist_count", "encoding"))
    if free >= max(pages, 1) or encoding != "UTF-8":
        raise CorruptWorkspaceError(
            f"{path} is damaged: its header names {free} free pages of {pages}, and text in {encoding}.", hint=_DAMAGED
        )
    if status.st_size <= _READ_THROUGH_BYTES:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != ("ok",):
            raise CorruptWorkspaceError(f"{path} is damaged ({found[0] if found else 'nothing'}).", hint=_DAMAGED)
    if len(_seen) >= _REMEMBERED:
        _seen.clear()
    _seen[place] = signature
