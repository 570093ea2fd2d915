"""Predictions: staged in the workspace's transactions, kept as Parquet beside it, asked with DuckDB.

Only this package imports ``duckdb`` and needs ``pyarrow``; it is imported on the first use of ``Workspace.catalog``.
"""

from artifactdb.catalog.catalog import Catalog

__all__ = ["Catalog"]
