"""File systems that several machines share: what SQLite's write-ahead log cannot be used on, and what is done instead.

The log needs memory that all who use the file share, and machines share none: two of them that write destroy the file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

import apsw

from artifactdb.database.outdating import outdate
from artifactdb.errors import InvalidValueError, ReadOnlyError

NETWORK_VARIABLE: Final = "ARTIFACTDB_NETWORK"
"""``single``: all who use a workspace at a time are on one machine, wherever the file lies."""

_MOUNTS = "/proc/self/mountinfo"
_SHARED = {
    "9p", "afs", "afpfs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf",
    "fuse.beegfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.cephfs", "fuse.curlftpfs", "fuse.davfs2", "fuse.drive",
    "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.moosefs", "fuse.mfs", "fuse.mount-s3",
    "fuse.rclone", "fuse.s3fs", "fuse.seaweedfs", "fuse.smbnetfs", "fuse.sshfs",
}  # fmt: skip
_DRIVE_REMOTE = 4


def is_single() -> bool:
    """Tell whether the user has said that one machine at a time uses the workspaces.

    Raises
    ------
    InvalidValueError
        When the variable says anything else.
    """
    said = os.environ.get(NETWORK_VARIABLE, "")
    if said not in ("", "single"):
        raise InvalidValueError(f"{NETWORK_VARIABLE} is 'single' or not set, not {said!r}.")
    return said == "single"


def require_unshared(path: Path, *, to: str = "written") -> None:
    """Refuse what is not safe where several machines may use the file, unless one machine at a time does.

    Raises
    ------
    ReadOnlyError
    """
    if is_single():
        return
    kind = shared_file_system(path)
    if kind:
        raise ReadOnlyError(
            f"{path} lies on a file system that machines share ({kind}), and cannot be {to} there: the write-ahead log "
            "needs memory that machines do not share, and two that write would destroy the file.",
            hint="Copy it to a local disk; or, when nobody is writing, open it with mode='ro'; or set "
            f"{NETWORK_VARIABLE}=single if one machine at a time uses it.",
        )


def shared_file_system(path: Path) -> str:
    """Give the kind of the file system that a file lies on, or will lie on, if machines share it; else ""."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return _of_drive(folder) if os.name == "nt" else _of_device(folder.stat().st_dev)
    except OSError:
        return ""


@lru_cache(maxsize=64)
def _of_device(device: int) -> str:
    try:
        with open(_MOUNTS, encoding="utf-8", errors="replace") as mounts:  # noqa: PTH123 - as for each first opening
            return shared_kind(mounts.read(), device)
    except FileNotFoundError:
        return ""  # macOS: the system tells it to programs in C alone


def shared_kind(mountinfo: str, device: int) -> str:
    """Look up a device in what Linux says of its mounts; give the kind of file system if machines share it, else "".

    Examples
    --------
    >>> shared_kind("69 27 0:49 / /data rw shared:9 - nfs4 server:/data rw,vers=4.2,hard", os.makedev(0, 49))
    'nfs4'
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        mount, _, system = line.partition(" - ")
        fields, kinds = mount.split(" "), system.split(" ")
        if len(fields) > 2 and fields[2] == number and kinds[0] in _SHARED:
            return kinds[0]
    return ""


def _of_drive(folder: Path) -> str:
    import ctypes

    root = os.path.splitdrive(folder.resolve())[0] + "\\"
    is_remote = ctypes.windll.kernel32.GetDriveTypeW(root) == _DRIVE_REMOTE  # type: ignore[attr-defined, unused-ignore]
    return "a network drive" if is_remote else ""


def without_log(connection: apsw.Connection) -> apsw.Connection:
    """Let a new connection share no memory with others, where they may be on other machines; nothing is read yet."""
    if is_single():
        connection.pragma("locking_mode", "EXCLUSIVE")
    return connection


def choose_journal(connection: apsw.Connection) -> None:
    """Let a file be written with the write-ahead log; where one machine of several has it, with a rollback journal.

    That one keeps to SQLite's locks on the file, so readers and writers wait for each other. What is acknowledged is
    kept by both, as ``synchronous`` is ``EXTRA``.
    """
    if not is_single():
        if connection.pragma("journal_mode") != "wal":
            outdate(Path(connection.filename))
            # Some tools take a file out of this mode, and so does a pack that was to replace it and failed.
            with suppress(apsw.BusyError):  # in use by somebody who left it so
                connection.pragma("journal_mode", "WAL")
        return
    if not connection.readonly("main"):
        if connection.pragma("journal_mode") == "wal":
            outdate(Path(connection.filename))
        only_reads = connection.pragma("query_only")
        connection.pragma("query_only", False)  # a reader, too, folds in the log that a writer left
        connection.pragma("journal_mode", "DELETE")
        connection.pragma("query_only", only_reads)
    connection.pragma("locking_mode", "NORMAL")
    connection.execute("SELECT 1 FROM sqlite_schema").fetchall()  # which gives the lock back
