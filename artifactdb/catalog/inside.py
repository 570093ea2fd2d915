"""Parquet files that lie inside the SQLite file, as `pack` leaves them: DuckDB reads copies in a temporary folder."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

from artifactdb.catalog.files import FINAL_NAMES, CatalogFile, device_errors, enter
from artifactdb.database import Database, Snapshot
from artifactdb.errors import CorruptWorkspaceError

if TYPE_CHECKING:
    from artifactdb.catalog.parquet import Written

CHUNK_BYTES = 4 << 20
_CHUNKS = "SELECT chunk_index FROM catalog_payloads WHERE file_key = ? ORDER BY chunk_index"
_CHUNK = "SELECT payload FROM catalog_payloads WHERE file_key = ? AND chunk_index = ?"


def put_inside(database: Database, path: Path, written: Written) -> None:
    """Copy a Parquet file into the SQLite file, and let it count; within the caller's transaction."""
    file_key = enter(database, path, *astuple(written))
    with path.open("rb") as stream:
        index = 0
        while payload := stream.read(CHUNK_BYTES):
            database.insert("INSERT INTO catalog_payloads VALUES (?, ?, ?)", (file_key, index, payload))
            index += 1


def payloads(source: Database | Snapshot, file_key: int) -> Iterator[bytes]:
    """Give the bytes of a file that lies inside, a chunk at a time."""
    for (index,) in source.rows(_CHUNKS, (file_key,)):
        found = source.rows(_CHUNK, (file_key, index))
        if not found or not isinstance(found[0][0], bytes):
            raise CorruptWorkspaceError(f"a catalog file inside the workspace is damaged at chunk {index}.")
        yield found[0][0]


def content_hash_inside(source: Database | Snapshot, file_key: int) -> bytes:
    """Hash a file that lies inside."""
    digest = hashlib.sha256()
    for payload in payloads(source, file_key):
        digest.update(payload)
    return digest.digest()


class UnpackedFiles:
    """Copies of files that lie inside, made on first use and removed with the object."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"artifactdb-{os.getpid()}-{secrets.token_hex(8)}-catalog"
        self._process = os.getpid()
        weakref.finalize(self, _remove, self.folder, self._process)

    def remove(self) -> None:
        """Remove the copies; they are made again when they are asked for."""
        _remove(self.folder, self._process)

    def path_of(self, source: Database | Snapshot, file: CatalogFile) -> Path | None:
        """Give the copy of a file, or None when its bytes are not those that were written."""
        if file.kind not in FINAL_NAMES:  # which would be a part of the path
            raise CorruptWorkspaceError(f"there is no kind of catalog file {file.kind!r:.80}.")
        path = self.folder / f"{file.kind}-{file.file_key}-{file.footer_hash.hex()[:16]}.parquet"
        if path.exists():
            return path
        expected = source.rows("SELECT content_hash FROM catalog_files WHERE file_key = ?", (file.file_key,))[0][0]
        digest = hashlib.sha256()
        with device_errors(self.folder):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            unfinished = path.with_suffix(f".{secrets.token_hex(4)}")
            try:
                with unfinished.open("wb") as stream:
                    for payload in payloads(source, file.file_key):
                        digest.update(payload)
                        stream.write(payload)
                if digest.digest() != expected:
                    return None
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        return path


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # a forked child leaves its parent's files alone
        shutil.rmtree(folder, ignore_errors=True)
