"""What is wrong with a catalog: files that are not what was written, ids that lead nowhere or twice."""

from __future__ import annotations

from collections.abc import Callable

from artifactdb.artifacts.check import Problem
from artifactdb.catalog.asking import ask
from artifactdb.catalog.columns import ARRAY_IDS
from artifactdb.catalog.files import CatalogFile, content_hash
from artifactdb.catalog.inside import content_hash_inside
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import state_of
from artifactdb.errors import ArtifactDBError

_TWICE = "SELECT id, count(*) AS times FROM predictions GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT 10"
_TWICE_ARRAYS = "SELECT array_id, count(*) AS times FROM arrays GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 10"
_NAMED = " UNION ".join(f"SELECT {name} AS array_id FROM predictions WHERE {name} IS NOT NULL" for name in ARRAY_IDS)
_DANGLING = f"""
WITH named AS ({_NAMED})
SELECT array_id FROM named WHERE array_id NOT IN (SELECT array_id FROM arrays) ORDER BY 1 LIMIT 10
"""


def check(store: Store, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Compare every file with its hash, then every row with the arrays it names."""
    problems: list[Problem] = []
    with state_of(store.database, store.inspector) as state:
        for done, file in enumerate(state.files, start=1):
            wrong = state.problems.get(file.file_key, "")
            if not wrong:
                (digest,) = state.snapshot.rows(
                    "SELECT content_hash FROM catalog_files WHERE file_key = ?", (file.file_key,)
                )[0]
                try:
                    found = (
                        content_hash_inside(state.snapshot, file.file_key)
                        if file.inside
                        else content_hash(store.folder / file.name)
                    )
                    wrong = "" if found == digest else "has other content than was written"
                except OSError as error:
                    wrong = f"cannot be read ({error.strerror})"
            if wrong:
                problems.append(Problem(_name_of(store, file), wrong))
            if progress:
                progress(done, len(state.files))
    if problems:
        return problems
    try:
        problems += [Problem("predictions", f"{row[0]} is there {row[1]} times") for row in ask(store, _TWICE)]
        problems += [Problem("arrays", f"{row[0]} is there {row[1]} times") for row in ask(store, _TWICE_ARRAYS)]
        problems += [Problem("arrays", f"{row[0]} is named and not there") for row in ask(store, _DANGLING)]
    except ArtifactDBError as error:
        problems.append(Problem("predictions", str(error)))
    return problems


def _name_of(store: Store, file: CatalogFile) -> str:
    return f"{store.database.path}, {file.name} inside it" if file.inside else str(store.folder / file.name)
