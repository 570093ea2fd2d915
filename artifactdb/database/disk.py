"""What is done to files and folders besides SQLite's own work, where it has to outlast a power cut.

What a file holds is on the disk once the file was synced; under which names it lies, and that a file is gone, once
their folder was. Of what came after, any part may be lost, and any other part not. The campaign power_cut records what
is done here and cuts the power after each of it; so whoever does it names it as ``disk.sync``.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from artifactdb.errors import ReadOnlyError, StorageError, StorageFullError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MAY_NOT = {errno.EACCES, errno.EPERM, errno.EROFS}
_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CANNOT_SYNC_FOLDERS = {errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP}


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return  # Windows cannot be asked to
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            _flush(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # SQLite goes on there too: a folder that may not be listed, a file system that has no such thing.
        if not is_folder or error.errno not in _CANNOT_SYNC_FOLDERS:
            raise


def _flush(descriptor: int) -> None:
    """Wait until what was written to a file is on the disk, and not in the cache of a drive, where a Mac leaves it."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        with suppress(OSError):  # a file system that does not know it
            fcntl.fcntl(descriptor, full)
            return
    os.fsync(descriptor)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder, and those that it lies in, unless they are there, and wait until they are on the disk."""
    missing = [path for path in folder.parents if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=mode)
    # The last one in any case: whoever made it may have died before it was on the disk.
    for path in (folder, *missing):
        sync(path.parent)


def create(path: Path, mode: int = 0o666) -> int:
    """Make an empty file that is not there yet, and give its descriptor, for reading and writing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)


def copy(source: Path, target: Path) -> None:
    """Copy what a file holds, and wait until it is on the disk."""
    shutil.copyfile(source, target)
    sync(target)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, which must be free."""
    os.link(source, target)


def rename(source: Path, target: Path) -> None:
    """Give a file another name, in the place of what bears that."""
    source.replace(target)


def remove(path: Path) -> None:
    """Take a file's name away, if it is there."""
    path.unlink(missing_ok=True)


def refusal(what: str, error: OSError, hint: str) -> StorageError:
    """Give the error of ours for what the operating system did not do."""
    if error.errno in _MAY_NOT:
        return ReadOnlyError(f"{what} ({error}).", hint=f"Check the permissions. {hint}")
    return StorageFullError(f"{what} ({error}).", hint=f"Free space. {hint}" if error.errno in _IS_FULL else hint)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that lies in it, as far as that can be done."""
    shutil.rmtree(folder, ignore_errors=True)
