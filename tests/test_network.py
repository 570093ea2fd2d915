"""File systems that machines share: known by what the system says of its mounts, and written there only when told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from artifactdb import BusyError, InvalidValueError, ReadOnlyError, Workspace
from artifactdb.database import network
from tests import fresh
from tests.campaigns.acts import content, prediction, require_content

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
36 35 0:31 / /home/ann\\040lee rw,relatime shared:12 - nfs4 server:/export/home rw,vers=4.2,rsize=1048576,hard,proto=tcp
37 27 0:32 / /mnt/share rw,relatime shared:13 - cifs //server/share rw,vers=3.1.1,cache=strict,username=ann
38 27 0:33 / /mnt/far rw,nosuid,nodev,relatime shared:14 - fuse.sshfs ann@far:/data rw,user_id=1000,group_id=1000
39 27 0:34 / /mnt/c rw,noatime - 9p C:\\134 rw,dirsync,aname=drvfs;path=C:\\;uid=1000
40 27 0:35 / /scratch rw,relatime master:1 shared:15 - lustre 10.0.0.1@o2ib:/scratch rw,flock,lazystatfs
41 27 0:36 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=8g
42 27 0:37 / /stick rw,relatime - fuseblk /dev/sdb1 rw,user_id=0
43 27 0:38 / /var/lib/docker/overlay2/x rw,relatime - overlay overlay rw,lowerdir=/nfs,upperdir=/b
"""


@pytest.mark.parametrize(
    ("minor", "kind"),
    [
        (31, "nfs4"),
        (32, "cifs"),
        (33, "fuse.sshfs"),
        (34, "9p"),
        (35, "lustre"),
        (36, ""),
        (37, ""),
        (38, ""),
        (99, ""),
    ],
)
def test_linux_says_which_file_systems_are_shared(minor: int, kind: str) -> None:
    assert network.shared_kind(MOUNTS, os.makedev(0, minor)) == kind


@pytest.fixture
def on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of which the system says that it is mounted by NFS."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"{MOUNTS}50 27 {os.major(device)}:{os.minor(device)} / /data rw - nfs4 server:/data rw\n")
    monkeypatch.setattr(network, "_MOUNTS", str(mounts))
    network._of_device.cache_clear()
    yield tmp_path
    network._of_device.cache_clear()


def filled(file: Path) -> Path:
    with Workspace(file) as workspace:
        workspace.registry("wheat").register(content(1), "0001$aaaaaaaaaaaa:0", "model")
        workspace.catalog.add_many(prediction(number) for number in range(3))
    return file


def test_nobody_writes_where_machines_share_files_and_the_reason_is_said(on_nfs: Path) -> None:
    with pytest.raises(ReadOnlyError, match=r"nfs4.*do not share.*local disk.*mode='ro'.*ARTIFACTDB_NETWORK=single"):
        Workspace(on_nfs / "new" / "study.sqlite")
    assert not (on_nfs / "new").exists()


def test_what_is_at_rest_is_read_where_machines_share_files(on_nfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as told:
        told.setenv("ARTIFACTDB_NETWORK", "single")
        file = filled(on_nfs / "study.sqlite")
    with Workspace(file, mode="ro") as workspace:
        require_content(workspace.load("0001$aaaaaaaaaaaa:0"), 1)
        assert len(workspace.catalog) == 3 and workspace.verify().ok
        workspace.backup(on_nfs / "copy.sqlite")
    log = on_nfs / "study.sqlite-wal"
    log.write_bytes(b"another machine is at work")
    with pytest.raises(ReadOnlyError, match="while others write"):
        Workspace(file, mode="ro")
    log.unlink()


def test_one_machine_that_was_told_to_be_alone_writes_without_shared_memory(
    on_nfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTIFACTDB_NETWORK", "single")
    file = filled(on_nfs / "study.sqlite")
    with Workspace(file) as workspace, Workspace(file, timeout_s=0.1) as other:
        with workspace.transaction():
            workspace.registry("wheat").register(content(2), "0001$aaaaaaaaaaaa:1", "model")
            assert {path.suffix for path in on_nfs.iterdir()} >= {".sqlite", ".sqlite-journal"}
            assert not list(on_nfs.glob("*-shm")) and not list(on_nfs.glob("*-wal"))
            with pytest.raises(BusyError), other.transaction():
                pass
        assert workspace.database.value("PRAGMA journal_mode") == "delete"
        assert workspace.database.value("PRAGMA synchronous") == 3, "the removal of a journal is on the disk as well"
        require_content(other.load("0001$aaaaaaaaaaaa:1"), 2)
        assert other.query("SELECT count(*) FROM artifacts").rows == [(2,)]
        other.catalog.compact()
        assert workspace.gc() == [] and workspace.verify().ok
    left = sorted(path.name for path in on_nfs.iterdir())
    assert left == ["mountinfo", "study.catalog", "study.sqlite"]


def test_a_process_and_the_command_line_are_told_by_the_environment(tmp_path: Path) -> None:
    file = filled(tmp_path / "study.sqlite")
    told = {**os.environ, "ARTIFACTDB_NETWORK": "single"}
    for arguments in (["gc", file], ["verify", file], ["ls", file]):
        done = fresh.run("from artifactdb.cli import main; main()", *arguments, env=told)
        assert done.returncode == 0, done.stderr
    assert file.read_bytes()[18] == 1, "a rollback journal"
    with Workspace(file) as workspace:
        assert workspace.database.value("PRAGMA journal_mode") == "wal", "the log is back where it can be used"


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_the_log_of_a_writer_that_died_is_read_without_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    file = filled(tmp_path / "study.sqlite")
    copy = tmp_path / "dead" / "study.sqlite"
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    writer = apsw.Connection(str(file))
    writer.pragma("wal_autocheckpoint", 0)
    writer.execute("UPDATE records SET custom_name = 'renamed'")
    copy.with_name("study.sqlite-wal").write_bytes(file.with_name("study.sqlite-wal").read_bytes())
    writer.close()
    (nowhere := copy.with_name("study.sqlite-shm")).mkdir()  # where shared memory would be made
    monkeypatch.setenv("ARTIFACTDB_NETWORK", "single")
    with Workspace(copy, mode=mode) as workspace:
        assert [record.custom_name for record in workspace.records()] == ["renamed"]
        assert workspace.query("SELECT count(*) FROM artifacts").rows == [(1,)]
    nowhere.rmdir()
    assert [path.name for path in copy.parent.iterdir()] == ["study.sqlite"]


def test_a_file_of_another_program_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "other.sqlite"
    other = apsw.Connection(str(file))
    other.pragma("journal_mode", "WAL")
    other.execute("CREATE TABLE t (a)")
    other.close()
    before = file.read_bytes()
    monkeypatch.setenv("ARTIFACTDB_NETWORK", "single")
    with pytest.raises(Exception, match="another program"):
        Workspace(file)
    assert file.read_bytes() == before


def test_another_word_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTDB_NETWORK", "yes")
    with pytest.raises(InvalidValueError, match="single"):
        Workspace(tmp_path / "study.sqlite")
