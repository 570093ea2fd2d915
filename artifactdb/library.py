"""The library of a workspace: configurations of pipelines that are used again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifactdb.database import Database
from artifactdb.database.connection import database_of
from artifactdb.errors import InvalidValueError, LibraryEntryNotFoundError

_ENTRY = (
    "SELECT name, type, description, category, tags, config, created_at, saved_at FROM library WHERE type = 'template'"
)
_SAVE = """
INSERT INTO library_entries (entry_type, name, description, category, tags, config, created_at, saved_at)
VALUES ('template', ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (entry_type, name) DO UPDATE SET
  description = excluded.description, category = excluded.category, tags = excluded.tags, config = excluded.config,
  saved_at = excluded.saved_at
"""


class LibraryManager:
    """Saves configurations under a name and gives them back.

    Parameters
    ----------
    library_dir : str, Path or Workspace
        ``workspace / "library"``, as where the library is a folder of a workspace's directory; or an open workspace.

    Examples
    --------
    >>> from artifactdb import Workspace
    >>> with Workspace(getfixture("tmp_path") / "wheat.sqlite") as workspace:
    ...     saved = workspace.library.save_template(["MinMaxScaler", {"model": "PLS"}], "baseline", tags=["nir"])
    ...     workspace.library.load_template("baseline")
    ['MinMaxScaler', {'model': 'PLS'}]
    """

    def __init__(self, library_dir: Any) -> None:
        if isinstance(library_dir, str | Path) and Path(library_dir).name == "library":
            library_dir = Path(library_dir).parent
        self.database: Database = database_of(library_dir)

    def __repr__(self) -> str:
        return f"LibraryManager({str(self.database.path)!r})"

    def save_template(
        self,
        pipeline_config: Any,
        name: str,
        description: str = "",
        *,
        category: str = "",
        tags: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Save a configuration; one of the same name is replaced.

        Parameters
        ----------
        pipeline_config : dict or list
            What JSON can hold.

        Raises
        ------
        InvalidValueError
            For a configuration that JSON cannot hold, or an empty name.
        """
        if not isinstance(name, str) or not name.strip():
            raise InvalidValueError("a template needs a name that is not empty.")
        try:
            config = json.dumps(pipeline_config, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidValueError(
                f"the configuration cannot be written as JSON ({error}).", hint="Name classes and parameters instead."
            ) from None
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        values = (name, description, category, json.dumps(sorted(tags), ensure_ascii=False), config, now, now)
        with self.database.transaction():
            self.database.rows(_SAVE, values)
        return self._entry(name)

    def load_template(self, name: str) -> Any:
        """Give a configuration back.

        Raises
        ------
        LibraryEntryNotFoundError
            A FileNotFoundError.
        """
        return self._entry(name)["config"]

    def list_templates(self, *, category: str | None = None, tag: str | None = None) -> list[dict[str, Any]]:
        """Give the templates by name, each as a dict with its ``config``; all, or those of a category or with a tag."""
        rows = self.database.rows(
            f"{_ENTRY} AND (?1 IS NULL OR category = ?1) "
            "AND (?2 IS NULL OR EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?2)) ORDER BY name",
            (category, tag),
        )
        return [_as_dict(row) for row in rows]

    def delete_template(self, name: str) -> None:
        """Remove a template.

        Raises
        ------
        LibraryEntryNotFoundError
        """
        with self.database.transaction():
            self._entry(name)
            self.database.rows("DELETE FROM library_entries WHERE entry_type = 'template' AND name = ?", (name,))

    def _entry(self, name: str) -> dict[str, Any]:
        row = self.database.row(f"{_ENTRY} AND name = ?", (name,))
        if row is None:
            known = [other for (other,) in self.database.rows("SELECT name FROM library ORDER BY name LIMIT 10")]
            raise LibraryEntryNotFoundError(
                f"{self.database.path} has no template {name!r}.",
                hint=f"It has {', '.join(known)}." if known else "It has none yet.",
            )
        return _as_dict(row)


def _as_dict(row: tuple[Any, ...]) -> dict[str, Any]:
    name, kind, description, category, tags, config, created_at, saved_at = row
    return {
        "name": name,
        "type": kind,
        "description": description,
        "category": category,
        "tags": json.loads(tags),
        "config": json.loads(config),
        "created_at": created_at,
        "saved_at": saved_at,
        "source": None,
        "n_features": None,
    }
