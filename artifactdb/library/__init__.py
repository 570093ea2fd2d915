"""The library of a workspace: configurations that are used again, and trained pipelines kept as they were."""

from artifactdb.library.manager import LibraryManager

__all__ = ["LibraryManager"]
