"""Where nothing may be written: a clear error for who wants to write, and everything for who only reads."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifactdb import ReadOnlyError, StorageFullError, Workspace
from artifactdb.catalog.files import device_errors
from tests import fresh

CODE = """
import os, sys
import numpy, sklearn.linear_model
import artifactdb.workspace, artifactdb.database.snapshot, artifactdb.interop.exporting
from artifactdb.transfer import backups, repair
from artifactdb import ReadOnlyError, Workspace
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
folder = sys.argv[1]
for attempt in (
    lambda: Workspace(f"{folder}/new.sqlite"),
    lambda: Workspace(f"{folder}/inner/new.sqlite"),
    lambda: Workspace(f"{folder}/study.sqlite").registry("wheat").register({"b": 2}, "0001:2:all", "model"),
    lambda: Workspace(f"{folder}/study.sqlite", mode="ro").export(f"{folder}/exported"),
    lambda: Workspace(f"{folder}/study.sqlite", mode="ro").backup_to(f"{folder}/backups"),
    lambda: repair.repair(f"{folder}/study.sqlite"),
):
    try:
        attempt()
        print("no error")
    except ReadOnlyError:
        print("ReadOnlyError")
try:
    Workspace(f"{folder}/closed/study.sqlite", mode="ro")
except ReadOnlyError as error:
    print("looked for" in str(error))
with Workspace(f"{folder}/study.sqlite", mode="ro") as workspace:
    print(workspace.load("0001:1:all"), workspace.verify().ok, len(workspace.query("SELECT * FROM artifacts")))
print(sorted(os.listdir(folder)))
"""


@pytest.fixture
def sealed_folder() -> Iterator[Path]:
    """A folder with a workspace, in which another user (or, if we are not root, we) may only read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Workspace(folder / "study.sqlite") as workspace:
            workspace.registry("wheat").register({"a": 1}, "0001:1:all", "model")
        (folder / "closed").mkdir(mode=0)
        (folder / "study.sqlite").chmod(0o444)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_sealed_folder_is_read_and_not_written(sealed_folder: Path) -> None:
    done = fresh.run(CODE, sealed_folder)
    assert done.stdout.splitlines() == [
        *["ReadOnlyError"] * 6, "True", "{'a': 1} True 1", "['closed', 'study.sqlite']",
    ], done.stdout + done.stderr  # fmt: skip


def test_what_to_do_is_said_by_what_went_wrong(tmp_path: Path) -> None:
    for error, kind, hint in (
        (OSError(13, "denied"), ReadOnlyError, "permissions"), (OSError(30, "read-only"), ReadOnlyError, "permissions"),
        (OSError(28, "full"), StorageFullError, "Free space"),
    ):  # fmt: skip
        with pytest.raises(kind, match=hint), device_errors(tmp_path):
            raise error
