"""Which workspace a file is, as it says itself: a copy says the same."""

from __future__ import annotations

from artifactdb.database.connection import Database
from artifactdb.database.state import Snapshot
from artifactdb.errors import CorruptWorkspaceError

_BYTES = 16


def workspace_id_of(source: Database | Snapshot) -> bytes:
    """Give the id of a workspace.

    Raises
    ------
    CorruptWorkspaceError
        When the file has none.
    """
    found = source.rows("SELECT workspace_id FROM identity")
    if not found or not isinstance(found[0][0], bytes) or len(found[0][0]) != _BYTES:
        raise CorruptWorkspaceError(f"{source.path} does not say which workspace it is.")
    return found[0][0]
