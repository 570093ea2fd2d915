"""What a workspace declares: the tables, indexes and views that the schema files make, and nothing besides.

A trigger, a view or an expression in an index is code of whoever wrote the file; so are none that we did not write.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from artifactdb.errors import CorruptWorkspaceError

Declaration = tuple[Any, ...]
"""Type, name, table, text, and the page where it begins; of a stranger's file, whatever it holds there."""

DECLARED = """
SELECT type, name, tbl_name, sql, rootpage FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_stat_' ESCAPE '\\'
ORDER BY name
"""
"""All but the statistics that ANALYZE makes, which only guide the planner."""

DIGESTS = {
    1: "609276c20645f550f09a6301eec15aa95b052b438ff1f734a7461e521c11d7a0",
    2: "18d515f26f8aee167ac05d1d05e7fb8adb303d7daf7b4a3778d8e7a44f4d33e4",
    3: "93a0831d9daed85fe94cb7277ec76d737ca1827090e9b7b49f6e54b5c17aa400",
    4: "eb4d887896a088299869863e41733d744fe1ed83b1c4be3176e35173c8016aab",
    5: "6b64bc98a9320a08fecf96b7fba31b21eeb338bdc28a5bdff8aa9f82f1030916",
}
"""What ``digest`` gives for each schema version; one that is missing here costs milliseconds at each opening."""


DRAFTS = {
    "f46882670ec48e9be3f47c14e7e082d19587556163c11cc5be4957bc84c966b8": 1,
    "31324df85944ed962864d89ea0f89a403d07043c523ec23d00d854b9a0a166c2": 1,
    "4d9dfe86113500ac8ac4611e2b090e9d210b72b16495fde967da92e1864a6704": 2,
    "af578596c5722781aec1349d055bfe3ee0480449497a0fd56a1f9a748d996198": 2,
}
"""What ``digest`` gives for files from before a schema was settled, and which: all that is in them can be taken out."""


def digest(declarations: Sequence[Declaration]) -> str:
    """Hash what is declared, wherever in the file it lies."""
    # The number of texts is fixed by the first, so that a NUL within one cannot stand for the end of it.
    texts = [str(part) for found in declarations for part in found[:4]]
    return hashlib.sha256("\0".join([str(len(texts)), *texts]).encode()).hexdigest()


def made_by(files: Sequence[Path]) -> list[Declaration]:
    """Give what schema files declare."""
    connection = apsw.Connection(":memory:")
    try:
        for file in files:
            connection.execute(file.read_text(encoding="utf-8")).fetchall()
        return connection.execute(DECLARED).fetchall()
    finally:
        connection.close()


def require_declared(found: list[Declaration], path: Path, files: Sequence[Path]) -> None:
    """Refuse a file that declares anything else than these schema files do.

    Raises
    ------
    CorruptWorkspaceError
        Names what is there and should not be, or the reverse.
    """
    pages = [page for *_, page in found if page]
    if len(set(pages)) < len(pages):
        raise CorruptWorkspaceError(f"{path} is damaged: two of its tables lie in one place.", hint=_DAMAGED)
    known_as = digest(found)
    if known_as == DIGESTS.get(len(files)):
        return
    if known_as in DRAFTS:
        raise CorruptWorkspaceError(
            f"{path} was written by an early draft of artifactdb.",
            hint=f"Take all out of it, into a new file, which is then used as any other: "
            f"`artifactdb recover {shlex.quote(str(path))} NEW.sqlite`.",
        )
    expected = {(kind, name): (table, text) for kind, name, table, text, _ in made_by(files)}
    for kind, name, table, text, _ in found:
        known = expected.pop((kind, name), None)
        if known is None:
            raise CorruptWorkspaceError(
                f"{path} holds the {_shown(kind)} {_shown(name)!r}, which no artifactdb made.",
                hint=f"Do not use the file if you do not know who put it there; if it was you, remove it with the "
                f"sqlite3 shell: DROP {_shown(kind).upper()} {_shown(name)};",
            )
        if known != (table, text):
            raise CorruptWorkspaceError(f"{path}: its {kind} {name!r} is not as artifactdb makes it.", hint=_DAMAGED)
    if expected:
        kind, name = min(expected)
        raise CorruptWorkspaceError(f"{path} lacks the {kind} {name!r} of a workspace.", hint=_DAMAGED)


_DAMAGED = "Somebody changed the file, or it is damaged: restore a backup, or ask whoever sent it."


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(text)[:80])
