"""An older file is migrated wholly or stays as it is, wherever the migration is cut off; a newer one is not touched."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from artifactdb import ArtifactDBError, NewerSchemaError, Workspace
from artifactdb.database.declared import DECLARED, DIGESTS, digest
from artifactdb.database.migrations import latest_version
from tests import fresh
from tests.campaigns.studies import copied
from tests.golden.make import CHAIN, fold_model
from tests.test_older_files import FILES, assert_equal

OLDER = FILES[:-1]
NEWEST_FIRST = [OLDER[-1], *(pytest.param(file, marks=pytest.mark.slow) for file in OLDER[:-1])]
"""The cuts of the longer migrations take a minute."""


class CutFile(apsw.VFSFile):
    """A file of which the n-th call that changes it does not happen, or only half of it."""

    def __init__(self, cut: Callable[[Callable[[], None]], object], name: Any, flags: Any) -> None:
        super().__init__("unix", name, flags)
        self.cut = cut

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        half = bytes(data)[: len(data) // 2]
        self.cut(lambda: super(CutFile, self).xWrite(half, offset))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.cut(lambda: None)
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.cut(lambda: None)
        super().xTruncate(size)


@contextmanager
def files_cut_by(cut: Callable[[Callable[[], None]], object]) -> Iterator[None]:
    class CutVFS(apsw.VFS):
        def xOpen(self, name: Any, flags: Any) -> CutFile:  # noqa: N802
            return CutFile(cut, name, flags)

    default = apsw.vfs_names()[0]
    vfs = CutVFS("cut", "unix", makedefault=True)
    try:
        yield
    finally:
        apsw.set_default_vfs(default)
        vfs.unregister()


class Calls:
    """Counts calls, and raises an error at the n-th; what is called with does not matter."""

    def __init__(self, failing: int, error: BaseException) -> None:
        self.made, self.failing, self.error = 0, failing, error

    def __call__(self, *_: object) -> bool:
        self.made += 1
        if self.made == self.failing:
            raise self.error
        return True


@pytest.mark.campaign
@pytest.mark.parametrize("file", NEWEST_FIRST, ids=lambda value: value.stem)
def test_a_migration_whose_file_fails_at_any_call_leaves_the_old_file_or_the_new_one(
    file: Path, tmp_path: Path
) -> None:
    def attempt(path: Path, failing: int) -> bool:
        calls = Calls(failing, apsw.IOError("injected"))
        with files_cut_by(calls):
            try:
                Workspace(path).close()
            except ArtifactDBError:
                return True
        return calls.made >= failing

    outcomes = cut_everywhere(file, tmp_path, attempt)
    assert outcomes.count(version_of(file)) > 10
    assert latest_version() in outcomes


@pytest.mark.campaign
@pytest.mark.parametrize("file", NEWEST_FIRST, ids=lambda value: value.stem)
def test_a_migration_that_is_stopped_before_any_statement_leaves_the_old_file_or_the_new_one(
    file: Path, tmp_path: Path
) -> None:
    def attempt(path: Path, failing: int) -> bool:
        calls = Calls(failing, KeyboardInterrupt())
        hook = lambda connection: connection.set_exec_trace(calls)  # noqa: E731
        apsw.connection_hooks.append(hook)
        try:
            Workspace(path).close()
        except KeyboardInterrupt:
            return True
        finally:
            apsw.connection_hooks.remove(hook)
        return calls.made >= failing

    outcomes = cut_everywhere(file, tmp_path, attempt)
    assert outcomes.count(version_of(file)) > 10
    assert latest_version() in outcomes


KILLED = """
import os, signal, sys
from pathlib import Path
from artifactdb import Workspace
from tests.test_migrations import files_cut_by

class Killing:
    def __init__(self, failing, torn):
        self.left, self.torn = failing, torn
    def __call__(self, write_half):
        self.left -= 1
        if not self.left:
            if self.torn:
                write_half()
            os.kill(os.getpid(), signal.SIGKILL)

folder, failing, passed = Path(sys.argv[1]), 0, False
while not passed:
    failing += 1
    path = folder / f"{failing}.sqlite"
    path.write_bytes((folder / "old.sqlite").read_bytes())
    if not (child := os.fork()):
        with files_cut_by(Killing(failing, torn=failing % 2)):
            Workspace(path).close()
        os._exit(0)
    passed = os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.campaign
@pytest.mark.parametrize("file", NEWEST_FIRST, ids=lambda value: value.stem)
def test_a_process_killed_anywhere_in_a_migration_leaves_the_old_file_or_the_new_one(
    file: Path, tmp_path: Path
) -> None:
    shutil.copy(file, tmp_path / "old.sqlite")
    assert fresh.run(KILLED, tmp_path).returncode == 0
    left = [path for path in tmp_path.glob("*.sqlite") if path.name != "old.sqlite"]
    outcomes = [left_behind(path, file) for path in left]
    assert outcomes.count(version_of(file)) > 20
    assert outcomes.count(latest_version()) > 20


@pytest.mark.parametrize("file", OLDER, ids=lambda file: file.stem)
def test_processes_that_open_an_older_file_at_once_all_find_it_migrated(file: Path, tmp_path: Path) -> None:
    path = copied(file, tmp_path / "study.sqlite")
    code = "import sys; from artifactdb import Workspace; w = Workspace(sys.argv[1]); print(len(w.records()))"
    running = [fresh.Process(code, path) for _ in range(4)]
    printed = {process.communicate()[0] for process in running}
    assert len(printed) == 1
    assert int(printed.pop()) >= 5
    assert left_behind(path, file) == latest_version()


@pytest.mark.parametrize("mode", ["rw", "ro"])
@pytest.mark.parametrize("running", [False, True], ids=["at_rest", "after_a_crash"])
def test_a_newer_file_is_refused_with_every_byte_and_file_as_it_was(tmp_path: Path, mode: Any, running: bool) -> None:
    path = copied(FILES[-1], tmp_path / "study.sqlite")
    newer = apsw.Connection(str(path))
    newer.execute("CREATE TABLE invented_later (a); INSERT INTO invented_later VALUES (1)").fetchall()
    newer.pragma("user_version", latest_version() + 1)
    if running:  # as who was killed leaves it: the newest state is in the -wal
        newer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    newer.close()
    assert path.with_name(f"{path.name}-wal").exists() == running
    before = everything_in(tmp_path)
    with pytest.raises(NewerSchemaError, match=rf"schema {latest_version() + 1}.*pip install --upgrade artifactdb"):
        Workspace(path, mode=mode)
    assert everything_in(tmp_path) == before


def cut_everywhere(file: Path, folder: Path, attempt: Callable[[Path, int], bool]) -> list[int]:
    """Migrate a copy for each call that can be cut off, until none is; give the schemas that were left."""
    outcomes, failing, was_cut = [], 0, True
    while was_cut:
        failing += 1
        assert failing < 2000, "the migration never passes"
        path = Path(shutil.copy(file, folder / f"{failing}.sqlite"))
        was_cut = attempt(path, failing)
        outcomes.append(left_behind(path, file))
    assert outcomes[-1] == latest_version()
    return outcomes


def left_behind(path: Path, old: Path) -> int:
    """See that a file is of one schema, holds what the old one did, and can be used; give the schema."""
    connection = apsw.Connection(str(path))
    version = int(connection.pragma("user_version"))
    assert version in (version_of(old), latest_version())
    assert digest(connection.execute(DECLARED).fetchall()) == DIGESTS[version]
    assert connection.pragma("integrity_check") == "ok"
    if version == version_of(old):
        assert contents(connection) == contents_of(old)
    connection.close()
    with Workspace(path) as workspace:
        assert workspace.database.value("PRAGMA user_version") == latest_version()
        assert workspace.database.rows("PRAGMA foreign_key_check") == []
        workspace.trust()
        assert_equal(workspace.loader("wheat").load_by_chain(CHAIN, 2), fold_model(2))
    assert not path.with_name(f"{path.name}-wal").exists()
    return version


def version_of(file: Path) -> int:
    return int(file.stem.partition("_")[2])


def contents_of(file: Path) -> dict[str, str]:
    connection = apsw.Connection(f"file:{file}?immutable=1", apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        return contents(connection)
    finally:
        connection.close()


def contents(connection: apsw.Connection) -> dict[str, str]:
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()]
    rows = {name: sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"').fetchall())) for name in names}
    return {name: hashlib.sha256("\n".join(found).encode()).hexdigest() for name, found in rows.items()}


def everything_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Give the bytes and time of each file; of a -shm, in which locks are kept, only that it is there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path): (b"", 0) if path.name.endswith("-shm") else (path.read_bytes(), path.stat().st_mtime_ns)
        for path in files
    }
