"""How much there is: counts and bytes, asked of the file each time."""

from __future__ import annotations

from typing import Any

from artifactdb.database import Database, Snapshot
from artifactdb.database.connection import database_file_size


def has_predictions(database: Database | Snapshot) -> bool:
    """Tell whether the catalog holds anything, which is asked before DuckDB and Arrow are imported for it."""
    return bool(database.rows(_HAS_PREDICTIONS)[0][0])


_HAS_PREDICTIONS = "SELECT EXISTS (SELECT 1 FROM catalog_files) OR EXISTS (SELECT 1 FROM staged_predictions)"


def statistics(database: Database, dataset: str | None = None) -> dict[str, Any]:
    """Count artifacts, distinct contents and bytes, of one dataset or of all.

    Returns
    -------
    dict
        ``total_artifacts``; ``unique_files``: distinct contents; ``total_size_bytes``: logical bytes as if each
        artifact had its own copy; ``unique_size_bytes``: logical bytes of the distinct contents;
        ``deduplication_ratio``: 1 - unique / total artifacts; ``stored_bytes`` and ``compression_ratio``: logical bytes
        of the distinct contents over stored ones; ``by_type``; of the whole file ``orphaned_count``,
        ``orphaned_size_bytes`` (stored bytes, which ``gc`` gives back) and ``disk_usage_bytes``.
    """
    with database.reading():
        total, unique, size = database.rows(_TOTALS, (dataset, dataset))[0]
        unique_size, stored = database.rows(_BLOBS, (dataset, dataset))[0]
        by_type: dict[str, int] = dict(database.rows(_BY_TYPE, (dataset, dataset)))
        orphans, orphaned = database.rows("SELECT count(*), coalesce(sum(stored_bytes), 0) FROM orphan_blobs")[0]
    return {
        "total_artifacts": total,
        "unique_files": unique,
        "total_size_bytes": size,
        "unique_size_bytes": unique_size,
        "stored_bytes": stored,
        "deduplication_ratio": 1 - unique / total if total else 0.0,
        "compression_ratio": unique_size / stored if stored else 0.0,
        "by_type": by_type,
        "orphaned_count": orphans,
        "orphaned_size_bytes": orphaned,
        "disk_usage_bytes": database_file_size(database.path),
    }


_OF_DATASET = "(? IS NULL OR r.dataset_key = (SELECT dataset_key FROM datasets WHERE name = ?))"
_TOTALS = f"""
SELECT count(*), count(DISTINCT r.blob_key), coalesce(sum(b.size_bytes + coalesce(parts.size_bytes, 0)), 0)
FROM records AS r
JOIN blobs AS b ON b.blob_key = r.blob_key
LEFT JOIN (
  SELECT bp.blob_key, sum(part.size_bytes) AS size_bytes
  FROM blob_parts AS bp JOIN blobs AS part ON part.blob_key = bp.part_key GROUP BY bp.blob_key
) AS parts ON parts.blob_key = r.blob_key
WHERE {_OF_DATASET}
"""
_BLOBS = f"""
WITH roots (blob_key) AS (SELECT DISTINCT r.blob_key FROM records AS r WHERE {_OF_DATASET}),
reached (blob_key) AS (
  SELECT blob_key FROM roots
  UNION
  SELECT bp.part_key FROM roots JOIN blob_parts AS bp ON bp.blob_key = roots.blob_key
)
SELECT coalesce(sum(b.size_bytes), 0), coalesce(sum(b.stored_bytes), 0)
FROM reached JOIN blobs AS b ON b.blob_key = reached.blob_key
"""
_BY_TYPE = f"SELECT r.artifact_type, count(*) FROM records AS r WHERE {_OF_DATASET} GROUP BY r.artifact_type ORDER BY 1"
