"""The Parquet files of a catalog: where they lie, which of them count, and whether they are what was written."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from artifactdb.database import Database, Snapshot, disk
from artifactdb.database.identity import workspace_id_of
from artifactdb.database.moved import require_in_place
from artifactdb.database.opening import FILE_NAME, is_workspace
from artifactdb.database.turns import lock_within, unlock
from artifactdb.errors import (
    ArtifactDBError,
    BusyError,
    CatalogFileError,
    CorruptWorkspaceError,
    ReadOnlyError,
    StorageFullError,
)

if TYPE_CHECKING:
    from artifactdb.catalog.inside import UnpackedFiles

try:
    import fcntl
except ImportError:  # Windows: a file that is open there cannot be removed, and the commit decides what counts
    fcntl = None  # type: ignore[assignment]

FINAL_NAMES = {"meta": "predictions_meta.parquet", "data": "predictions_data.parquet"}
_OURS = re.compile(r"predictions_(meta|data)(-[0-9a-f]{16})?\.parquet")
LIVE = """
SELECT file_key, kind, name, rows, size_bytes, footer_hash,
  EXISTS (SELECT 1 FROM catalog_payloads AS p WHERE p.file_key = f.file_key)
FROM catalog_files AS f ORDER BY file_key
"""
OWNER = b"artifactdb workspace"
"""The key, in the metadata of a Parquet file, of the id of the workspace that wrote it."""
_WITHOUT_OWNER = "parquet-cpp-arrow"
_END = b"PAR1"
_READ_AT_ONCE = 1 << 22
_NOT_THERE = "is not there"
_OTHER_CONTENT = "has other content than was written"
_OF_THIS_PROCESS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A Parquet file that counts; ``inside`` the SQLite file, or in the folder beside it."""

    file_key: int
    kind: str
    name: str
    rows: int
    size_bytes: int
    footer_hash: bytes
    inside: int = 0


def catalog_folder(file: Path) -> Path:
    """Give the folder of a workspace's Parquet files.

    Examples
    --------
    >>> [catalog_folder(Path(file)).as_posix() for file in ("study/workspace.sqlite", "wheat.sqlite", "wheat.db")]
    ['study/catalog', 'wheat.catalog', 'wheat.db.catalog']
    """
    return beside(file, "catalog")


def beside(file: Path, what: str) -> Path:
    """Give the path of something that belongs to a workspace and lies beside it."""
    return (
        file.parent / what if file.name == FILE_NAME else file.with_name(f"{file.name.removesuffix('.sqlite')}.{what}")
    )


def is_shared(folder: Path, file: Path) -> bool:
    """Tell whether another workspace beside one has the same folder, as ``wheat`` beside ``wheat.sqlite``."""
    namesakes = (folder.with_suffix(suffix) for suffix in ("", ".sqlite"))
    return any(
        other != file and catalog_folder(other) == folder and not other.is_symlink() and is_workspace(other)
        for other in namesakes
    )


def live_files(database: Database | Snapshot) -> list[CatalogFile]:
    """Give the files that count, oldest first.

    Raises
    ------
    CorruptWorkspaceError
        For a row that would lead out of the folder, or is not as it is written.
    """
    files = [CatalogFile(*row) for row in database.rows(LIVE)]
    for file in files:
        if file.kind not in FINAL_NAMES or not catalog_file_kind(file.name):
            raise CorruptWorkspaceError(f"{database.path} names a catalog file {str(file.name)[:80]!r}, which is none.")
        if not all(isinstance(number, int) for number in (file.rows, file.size_bytes)) or not isinstance(
            file.footer_hash, bytes
        ):
            raise CorruptWorkspaceError(f"{database.path} does not say what its catalog file {file.name} holds.")
    return files


def catalog_file_kind(name: object) -> str:
    """Give what a file of that name holds, or "" when it is none of a catalog, whose names lead nowhere else."""
    matched = _OURS.fullmatch(name) if isinstance(name, str) else None
    return matched[1] if matched else ""


def new_name(kind: str) -> str:
    """Give a name that nobody has used."""
    return f"predictions_{kind}-{secrets.token_hex(8)}.parquet"


def owner_of(source: Database | Snapshot) -> bytes:
    """Give what a workspace writes into its files to know them by."""
    return workspace_id_of(source).hex().encode()


def is_own(path: Path, owner: bytes) -> bool:
    """Tell whether a file is one that a workspace wrote, or that a process died over: others share names and folder.

    nirs4all gives its own files the same two names, and so does a workspace that was lost.
    """
    said = says_own(path, owner)
    return path.name not in FINAL_NAMES.values() and not _is_finished(path) if said is None else said


def says_own(path: Path, owner: bytes) -> bool | None:
    """Tell whether the metadata of a file say that a workspace wrote it; None when they cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return None
    # Before files said whose they were, those of artifactdb alone had no metadata at all.
    if not found.metadata:
        return str(found.created_by).startswith(_WITHOUT_OWNER)
    return bool(found.metadata.get(OWNER) == owner)


def _is_finished(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            size_bytes = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size_bytes - len(_END)))
            return size_bytes > 2 * len(_END) and stream.read() == _END  # it begins as it ends
    except OSError:
        return False


# -- reading ----------------------------------------------------------------------------------------


class Inspector:
    """Tells whether files are those that were written, and remembers what it has seen of those that count."""

    def __init__(self, folder: Path, unpacked: UnpackedFiles) -> None:
        self.folder = folder
        self.unpacked = unpacked
        self._seen: dict[int, tuple[int, ...]] = {}
        self._whole: dict[int, tuple[int, ...]] = {}

    @contextmanager
    def pinned(self, files: Sequence[CatalogFile]) -> Iterator[dict[int, str]]:
        """Keep files from being swept away while they are read; give what is wrong with them, by ``file_key``."""
        descriptors: list[int] = []
        try:
            problems = {}
            for file in files:
                problem = "" if file.inside else self._pin(file, descriptors)
                if problem:
                    problems[file.file_key] = problem
            seen = self._seen
            self._seen = {file.file_key: seen[file.file_key] for file in files if file.file_key in seen}
            # Listed at once: another thread may be putting in what it has read.
            self._whole = {key: signature for key, signature in list(self._whole.items()) if key in self._seen}
            yield problems
        finally:
            for descriptor in descriptors:
                unlock(descriptor)

    def _pin(self, file: CatalogFile, descriptors: list[int]) -> str:
        path = self.folder / file.name
        try:
            descriptor = os.open(path, os.O_RDONLY)
            descriptors.append(descriptor)
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
            found = os.fstat(descriptor)
            if found.st_nlink == 0:
                return _NOT_THERE
            signature = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if self._seen.get(file.file_key) == signature:
                return ""
            if found.st_size != file.size_bytes:
                return f"has {found.st_size} bytes where {file.size_bytes} were written"
            if footer_hash(path) != file.footer_hash:
                return _OTHER_CONTENT
        except FileNotFoundError:
            return _NOT_THERE
        except OSError as error:
            if error.errno in _OF_THIS_PROCESS:  # who skips what is damaged would give up a file that is sound
                raise StorageFullError(f"{path} cannot be read just now ({error}).", hint="Try again.") from error
            return f"cannot be read ({error.strerror})"
        self._seen[file.file_key] = signature
        return ""

    def problem_inside(self, source: Database | Snapshot, file: CatalogFile) -> str:
        """Read a whole file that is pinned, unless it was read before; give what is wrong with its content, or ""."""
        seen = self._seen.get(file.file_key)
        if file.inside or (seen is not None and self._whole.get(file.file_key) == seen):
            return ""  # what lies inside is compared when it is unpacked
        try:
            digest = content_hash(self.folder / file.name)
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if source.rows("SELECT content_hash FROM catalog_files WHERE file_key = ?", (file.file_key,)) != [(digest,)]:
            return _OTHER_CONTENT
        if seen is not None:
            self._whole[file.file_key] = seen
        return ""

    def path_of(self, source: Database | Snapshot, file: CatalogFile) -> Path:
        """Give where a file that counts can be read.

        Raises
        ------
        CatalogFileError
            For one inside the SQLite file whose bytes are not those that were written.
        """
        if not file.inside:
            return self.folder / file.name
        path = self.unpacked.path_of(source, file)
        if path is None:
            raise CatalogFileError(
                f"{file.name} inside {self.folder.name.removesuffix('.catalog')} has other content than was written.",
                hint="Take another copy; `artifactdb catalog verify` lists what is wrong.",
                file=file.name,
            )
        return path

    def error(self, file: CatalogFile, problem: str) -> CatalogFileError:
        """Give the error that names a file, and says where it was looked for."""
        moved = (
            "" if self.folder.is_dir() else f" The folder {self.folder} is not there: it belongs beside the workspace."
        )
        return CatalogFileError(
            f"{self.folder / file.name} {problem}.{moved}",
            hint="Put it back from a copy; skip_damaged=True answers without it, compact(skip_damaged=True) gives it "
            "up, and `artifactdb catalog verify` lists what is wrong.",
            file=str(self.folder / file.name),
        )


def footer_hash(path: Path) -> bytes:
    """Hash the footer of a Parquet file: it holds the place and the statistics of every column."""
    with path.open("rb") as stream:
        end = stream.seek(-8, os.SEEK_END)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(max(0, end - length))
        return hashlib.sha256(stream.read()).digest()


def content_hash(path: Path) -> bytes:
    """Hash a whole file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_READ_AT_ONCE):
            digest.update(piece)
    return digest.digest()


# -- writing ----------------------------------------------------------------------------------------


def enter(database: Database, path: Path, kind: str, rows: int, id_filter: bytes, digest: bytes) -> int:
    """Name a file in the workspace, which makes it count once the transaction is committed."""
    created_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return database.insert(
        "INSERT INTO catalog_files (kind, name, rows, size_bytes, content_hash, footer_hash, created_at, id_filter) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (kind, path.name, rows, path.stat().st_size, digest, footer_hash(path), created_at, id_filter),
    )


@contextmanager
def device_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system raises inside the block into an error of ours."""
    try:
        yield
    except ArtifactDBError:
        raise
    except OSError as error:
        raise disk.refusal(f"a file in {folder} could not be read or written", error, "Nothing was lost.") from error


@contextmanager
def only_writer(folder: Path, timeout_s: float) -> Iterator[None]:
    """Keep others from writing or clearing away files meanwhile; readers are not kept out.

    The lock lies on the folder itself, so that none is left behind when a process dies.
    """
    if folder.is_symlink():
        # Whoever sent the workspace may have sent the link with it, and another's files would be written.
        raise ReadOnlyError(f"{folder} is a link, and is not written to.", hint="Move what it leads to into its place.")
    try:
        disk.make_folder(folder)
    except OSError as error:
        raise ReadOnlyError(f"the folder {folder} cannot be made ({error.strerror}).") from None
    if fcntl is None:  # a folder cannot be opened there
        yield
        return
    with device_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not lock_within(descriptor, timeout_s):
            raise BusyError(
                f"somebody else has been writing to {folder} for {timeout_s:g} s.",
                hint="Try again, or open the workspace with a longer timeout_s.",
            )
        yield
    finally:
        # Not by a function: an interrupt at its beginning would leave the lock to this process for ever.
        try:  # noqa: SIM105
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        except OSError:
            pass
        os.close(descriptor)


def remove_unread(path: Path, timeout_s: float = 0.0) -> bool:
    """Remove a file that does not count, unless somebody is still reading it after ``timeout_s`` seconds."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if not lock_within(descriptor, timeout_s):
            return False
        disk.remove(path)
        return True
    except OSError:
        return False
    finally:
        unlock(descriptor)


def discard(database: Database, paths: Iterable[Path]) -> None:
    """Remove new files that do not count; what cannot be removed now, the next merge sweeps away.

    After an interrupt they may count all the same: it can come right behind the commit that named them.
    """
    with suppress(ArtifactDBError, MemoryError):
        named = {file.name for file in live_files(database)}
        for path in paths:
            if path.name not in named:
                with suppress(OSError):
                    disk.remove(path)


def sweep(database: Database, folder: Path, timeout_s: float = 0.0, replaced: Container[str] = ()) -> None:
    """Remove files of this workspace that do not count: left over from a crash, or replaced and no longer read.

    Whoever still reads some is waited for once, not once for each; those that stay go at the next merge. While the
    folder is shared, all stay: the other file may be a copy, which bears the same id, and count what this one replaced.
    """
    if not folder.is_dir() or is_shared(folder, database.path):
        return
    require_in_place(database.connection(), database.path)  # or what it names lies in another folder by now
    deadline = time.monotonic() + timeout_s
    # Listed first and compared after: what is named meanwhile must not be removed.
    present = [path for path in folder.iterdir() if _OURS.fullmatch(path.name)]
    live = {file.name for file in live_files(database) if not file.inside}
    owner = owner_of(database)
    for path in present:
        if path.name not in live and (path.name in replaced or is_own(path, owner)):
            remove_unread(path, max(0.0, deadline - time.monotonic()))
