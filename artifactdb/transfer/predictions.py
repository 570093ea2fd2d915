"""Predictions of another workspace come in: those with new ids go to new Parquet files, with the arrays they name."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import pyarrow as pa

from artifactdb.catalog.arrays import wrong_ids
from artifactdb.catalog.columns import ARRAY_IDS, COLUMNS
from artifactdb.catalog.deleting import delete
from artifactdb.catalog.engine import translated
from artifactdb.catalog.files import device_errors, enter, new_name, owner_of
from artifactdb.catalog.merging import write_sorted
from artifactdb.catalog.staging import unstage
from artifactdb.catalog.store import Store
from artifactdb.catalog.views import State, rows_of, state_of
from artifactdb.database import disk
from artifactdb.errors import CatalogFileError
from artifactdb.transfer.conflicts import Merge

_CHOSEN = """
CREATE OR REPLACE TEMP TABLE chosen_ids AS
SELECT id FROM theirs ANTI JOIN ours USING (id) UNION ALL SELECT unnest(?) AS id
"""


def take_predictions(ours: Store, theirs: Store, their_state: State, merge: Merge, made: list[Path]) -> None:
    """Write what is new to files of ours and let them count with the caller's transaction.

    Parameters
    ----------
    made : list of Path
        Gets the files; the caller discards them when its transaction fails.
    """
    engine = ours.engine_with(theirs)
    with (
        device_errors(ours.folder),
        state_of(ours.database, ours.inspector) as our_state,
        engine.session([]) as session,
        translated(),
    ):
        theirs_named = replace(their_state, prefix="their_")
        theirs_named.read_whole(theirs_named.files)
        for kind, own, other in (("meta", "ours", "theirs"), ("data", "our_arrays", "their_arrays")):
            # Of our arrays those in files: what a row of a file names has to lie there too.
            staged = kind == "meta"
            session.view(own, rows_of(session, our_state, kind, our_state.of_kind(kind), staged=staged))
            session.view(other, rows_of(session, theirs_named, kind, theirs_named.of_kind(kind)))
        ((in_all,),) = session.cursor.execute("SELECT count(*) FROM theirs").fetchall()
        differ = " OR ".join(f't."{name}" IS DISTINCT FROM o."{name}"' for name in COLUMNS)
        conflicting = [
            row[0]
            for row in session.cursor.execute(
                f"SELECT t.id FROM theirs AS t JOIN ours AS o ON t.id = o.id WHERE {differ} ORDER BY t.id"
            ).fetchall()
        ]
        won = [name for name in conflicting if merge.theirs_wins("prediction", name, ("", ""), ("", ""), dated=False)]
        merge.settle()
        # Kept before anything is deleted, which these very views would see.
        session.cursor.execute(_CHOSEN, [won])
        session.view("chosen", "SELECT t.* FROM theirs AS t SEMI JOIN chosen_ids USING (id)")
        named = " UNION ".join(f"SELECT {name} AS array_id FROM chosen" for name in ARRAY_IDS)
        arrays = (
            "SELECT a.* FROM their_arrays AS a ANTI JOIN our_arrays AS o ON a.array_id = o.array_id "
            f"WHERE a.array_id IN ({named})"
        )
        ((rows,),) = session.cursor.execute("SELECT count(*) FROM chosen_ids").fetchall()
        if rows:
            if won:
                delete(ours, won)
            for kind, select in (("data", arrays), ("meta", "FROM chosen")):
                ((count,),) = session.cursor.execute(f"SELECT count(*) FROM ({select})").fetchall()
                if count:
                    path = ours.folder / new_name(kind)
                    made.append(path)
                    check = _require_ids if kind == "data" else None
                    owner = owner_of(ours.database)
                    written = write_sorted(session, select, path, kind, owner, count, lambda _: None, check)
                    enter(ours.database, path, *astuple(written))
            ours_staged = [array_id for (array_id,) in ours.database.rows("SELECT array_id FROM staged_arrays")]
            twice = f"SELECT array_id FROM ({arrays}) WHERE array_id IN (SELECT unnest(?))"
            found = session.cursor.execute(twice, [ours_staged]).fetchall() if ours_staged else []
            unstage(ours.database, [array_id for (array_id,) in found])
        if made:
            disk.sync(ours.folder)
        merge.count("predictions", new=rows - len(won), same=in_all - rows - (len(conflicting) - len(won)))


def _require_ids(batch: pa.RecordBatch) -> None:
    """Refuse arrays that bear the id of other content: ours of that content would be taken for them."""
    wrong = wrong_ids(batch)
    if wrong:
        raise CatalogFileError(
            f"the array {wrong[0]} of the other workspace has other content than its id says.",
            hint="Nothing was changed here.",
        )
