"""The numbered files under ``schema/`` make a workspace and bring an older one up to date.

Each file is applied once, in order, all in one transaction; ``user_version`` is the number of the last one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import apsw

from artifactdb.database import row_checks
from artifactdb.database.declared import DECLARED, Declaration, require_declared
from artifactdb.database.network import choose_journal
from artifactdb.database.strict import restrict, schema_writable
from artifactdb.errors import CorruptWorkspaceError, NewerSchemaError, NotAWorkspaceError

APPLICATION_ID = 0x41444231
"""Marks a file as a workspace: the bytes "ADB1" at offset 68 of the SQLite header."""


@cache
def schema_folder() -> Path:
    """Where the schema files are: inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "schema"
    return installed if installed.is_dir() else package.parent / "schema"


@cache
def schema_files() -> dict[int, Path]:
    """Give the schema files by number."""
    # Listed rather than globbed: compiling a pattern would cost as much as opening the file.
    names = sorted(name for name in os.listdir(schema_folder()) if name.endswith(".sql"))  # noqa: PTH208
    return {int(name[:4]): schema_folder() / name for name in names}


def latest_version() -> int:
    """Give the number of the newest schema file."""
    return max(schema_files())


def is_current(connection: apsw.Connection, path: Path) -> bool:
    """Tell whether the file has the newest schema; refuse a file that is not ours or from a later version.

    Raises
    ------
    NotAWorkspaceError
        When the file belongs to another application.
    NewerSchemaError
        When a later version of artifactdb wrote it.
    CorruptWorkspaceError
        When it declares anything else than the schema of its version.
    """
    application_id, version, declared = _announcement(connection)
    if application_id == APPLICATION_ID:
        if version > latest_version():
            raise NewerSchemaError(
                f"{path} has schema {version}; this artifactdb knows schemas up to {latest_version()}.",
                hint="Update with: pip install --upgrade artifactdb",
            )
        if version < 0:
            raise CorruptWorkspaceError(f"{path} is damaged: its header says schema {version}.")
        require_declared(declared, path, [file for number, file in schema_files().items() if number <= version])
        return bool(version == latest_version())
    if application_id or version or declared:
        raise NotAWorkspaceError(
            f"{path} is a database of another program (application id {application_id:#x}).",
            hint="Name a new file; nothing was changed.",
        )
    return False


def _announcement(connection: apsw.Connection) -> tuple[int, int, list[Declaration]]:
    """Read what the file says it is and has from one state of it: another process may just be making it."""
    alone = not connection.in_transaction
    if alone:
        connection.execute("BEGIN")
    try:
        declared = connection.execute(DECLARED).fetchall()
        return int(connection.pragma("application_id")), int(connection.pragma("user_version")), declared
    finally:
        if alone and connection.in_transaction:
            connection.execute("ROLLBACK")


def set_page_size(path: Path, page_bytes: int) -> None:
    """Give an empty file its page size, before the schema is applied."""
    connection = restrict(apsw.Connection(str(path)))
    try:
        connection.pragma("page_size", page_bytes)
        connection.pragma("auto_vacuum", "INCREMENTAL")
        connection.execute("CREATE TABLE empty (a); DROP TABLE empty")  # the first write settles both
    finally:
        connection.close()


def migrate(connection: apsw.Connection, path: Path) -> None:
    """Apply the schema files that the file does not have yet, all or none."""
    if connection.pragma("user_version") == 0:
        # Only a new file takes this; deleted content can then be given back without writing the file anew.
        connection.pragma("auto_vacuum", "INCREMENTAL")
    choose_journal(connection)
    with connection_transaction(connection):
        if is_current(connection, path):
            return
        applied = connection.pragma("user_version")
        apply(connection, [file for number, file in schema_files().items() if number > applied])
        row_checks.compute_all(connection)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", latest_version())


def apply(connection: apsw.Connection, files: Iterable[Path]) -> None:
    """Apply schema files, in the order given, within a transaction of the caller's."""
    with schema_writable(connection):
        for file in files:
            for _ in connection.execute(file.read_text(encoding="utf-8")):
                pass


class connection_transaction:  # noqa: N801 - reads as a function
    """``BEGIN IMMEDIATE`` … ``COMMIT``, or ``ROLLBACK`` when the block raises."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection

    def __enter__(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self.connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        # SQLite has already rolled back by itself after some errors, a full disk for one.
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
