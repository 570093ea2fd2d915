"""The one way into a workspace file: open, migrate, transact, query, back up, check.

Only this package imports ``apsw``; nothing here knows what the tables mean.
"""

from artifactdb.database.connection import Database
from artifactdb.database.state import Snapshot

__all__ = ["Database", "Snapshot"]
