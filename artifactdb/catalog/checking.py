"""What is wrong with a catalog: files that are not what was written, ids that lead nowhere or twice."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from artifactdb.artifacts.descriptions import Problem
from artifactdb.catalog.arrays import is_what_its_id_says
from artifactdb.catalog.asking import ask
from artifactdb.catalog.bloom import hashed, may_contain
from artifactdb.catalog.columns import ARRAY_IDS
from artifactdb.catalog.files import CatalogFile, content_hash
from artifactdb.catalog.inside import content_hash_inside
from artifactdb.catalog.parquet import ids_of
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import State, state_of
from artifactdb.database.translate import interprets
from artifactdb.errors import ArtifactDBError

_AT_ONCE = 1000
_TWICE = "SELECT id, count(*) AS times FROM predictions GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT 10"
_TWICE_ARRAYS = "SELECT array_id, count(*) AS times FROM arrays GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 10"
_NAMED = " UNION ".join(f"SELECT {name} AS array_id FROM predictions WHERE {name} IS NOT NULL" for name in ARRAY_IDS)
DANGLING = f"""
WITH named AS ({_NAMED})
SELECT array_id FROM named WHERE array_id NOT IN (SELECT array_id FROM arrays) ORDER BY 1
"""


@interprets
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
            wrong = wrong or _wrong_filter(state, file)
            if wrong:
                problems.append(Problem(_name_of(store, file), wrong))
            if progress:
                progress(done, len(state.files))
        for batch in state.snapshot.batches("SELECT array_id, dtype, shape, data FROM staged_arrays", (), _AT_ONCE):
            wrong_ids = [str(array[0]) for array in batch if not is_what_its_id_says(*array)]
            problems += [Problem("arrays", f"{array_id} has other content than its id says") for array_id in wrong_ids]
    if problems:
        return problems
    try:
        problems += [Problem("predictions", f"{row[0]} is there {row[1]} times") for row in ask(store, _TWICE)]
        problems += [Problem("arrays", f"{row[0]} is there {row[1]} times") for row in ask(store, _TWICE_ARRAYS)]
        problems += [
            Problem("arrays", f"{row[0]} is named and not there") for row in ask(store, f"{DANGLING} LIMIT 10")
        ]
    except ArtifactDBError as error:
        problems.append(Problem("predictions", str(error)))
    return problems


def _wrong_filter(state: State, file: CatalogFile) -> str:
    """See that the Bloom filter lets every id of a file pass; else one that is there could be added again."""
    (bits,) = state.snapshot.rows("SELECT id_filter FROM catalog_files WHERE file_key = ?", (file.file_key,))[0]
    try:
        path = state.inspector.path_of(state.snapshot, file)
        knows_all = all(bits and may_contain(bits, hashed(ids)).all() for ids in ids_of(path, file.kind) if ids)
    except (ArtifactDBError, pa.ArrowException, OSError) as error:
        return f"cannot be read ({error})"
    return "" if knows_all else "is not described as it was written: its filter of ids does not know them all"


def _name_of(store: Store, file: CatalogFile) -> str:
    return f"{store.database.path}, {file.name} inside it" if file.inside else str(store.folder / file.name)
