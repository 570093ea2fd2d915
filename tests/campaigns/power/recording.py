"""Keeps, in order, everything that reaches the files of a folder: SQLite's work through a VFS, all else from `disk`.

Everything is done as ever, and noted. Files that SQLite did not write are noted with what they hold when they are
synced, or copied: nothing is promised of them before.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Self

import apsw

from artifactdb.database import disk
from tests.campaigns.power.disk import (
    FOLDER,
    Acknowledged,
    Name,
    Operation,
    Sync,
    SyncFolder,
    Truncate,
    Write,
    folder_of,
)

_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
_WRAPPED = ("sync", "make_folder", "create", "link", "rename", "remove", "remove_folder")


class Recording:
    """Notes what is done within a folder for as long as the block lasts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log: list[Operation] = []
        self.files: dict[str, int] = {}
        """Names as they are now, by path below the root."""
        self._numbers = count(FOLDER + 1)
        self._of_sqlite: set[int] = set()
        self._real = {name: getattr(disk, name) for name in _WRAPPED}

    def __enter__(self) -> Self:
        self._default = apsw.vfs_names()[0]
        self._vfs = _VFS(self)
        for name in _WRAPPED:
            setattr(disk, name, getattr(self, f"_{name}"))
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self._real.items():
            setattr(disk, name, function)
        self._vfs.unregister()
        apsw.set_default_vfs(self._default)

    def acknowledge(self, state: Any, act: str) -> None:
        self.log.append(Acknowledged(state, act))

    def put(self, path: Path, content: bytes) -> None:
        """Let a file be there, and on the disk."""
        self._make_folder(path.parent)
        path.write_bytes(content)
        self._sync(path)
        self._sync(path.parent)

    def path_below(self, path: str | Path | None) -> str | None:
        """Give a path as it is called here, or None for one that lies elsewhere."""
        if path is None or not Path(path).is_relative_to(self.root):
            return None
        below = Path(path).relative_to(self.root).as_posix()
        return "" if below == "." else below

    def opened_by_sqlite(self, path: str) -> int:
        if path not in self.files:
            self.name((path, next(self._numbers)))
        self._of_sqlite.add(self.files[path])
        return self.files[path]

    def name(self, *changes: tuple[str, int | None]) -> None:
        self.log.append(Name(folder_of(changes[0][0]), changes))
        for path, file in changes:
            if file is None:
                self.files.pop(path, None)
            else:
                self.files[path] = file

    # -- in the place of disk's functions: noted first, then done ---------------------------------------

    def _sync(self, path: Path) -> None:
        below = self.path_below(path)
        if below is not None and path.is_dir():
            self.log.append(SyncFolder(below))
        elif below is not None:
            self._sync_file(path, below)
        self._real["sync"](path)

    def _sync_file(self, path: Path, below: str) -> None:
        if below not in self.files:
            self.name((below, next(self._numbers)))
        file = self.files[below]
        if file not in self._of_sqlite:
            content = path.read_bytes()
            self.log += [Truncate(file, len(content)), Write(file, 0, content)]
        self.log.append(Sync(file))

    def _make_folder(self, folder: Path, mode: int = 0o777) -> None:
        for path in reversed([folder, *folder.parents]):
            below = self.path_below(path)
            if below and not path.exists():
                self.name((below, FOLDER))
        self._real["make_folder"](folder, mode)

    def _create(self, path: Path, mode: int = 0o666) -> int:
        descriptor: int = self._real["create"](path, mode)
        if below := self.path_below(path):
            self.name((below, next(self._numbers)))
        return descriptor

    def _link(self, source: Path, target: Path) -> None:
        self._real["link"](source, target)
        if below := self.path_below(target):
            self.name((below, self.files[self.path_below(source) or ""]))

    def _rename(self, source: Path, target: Path) -> None:
        self._real["rename"](source, target)
        below = self.path_below(source)
        if below is not None:
            assert source.parent == target.parent, "names of two folders do not change together"
            within = [path for path in self.files if path.startswith(f"{below}/")]
            assert not within or self._is_synced(below), "what a folder holds is not on the disk by its own new name"
            called = self.path_below(target) or ""
            moved = [(path, called + path.removeprefix(below), self.files[path]) for path in (below, *within)]
            self.name(*((old, None) for old, _, _ in moved), *((new, file) for _, new, file in moved))

    def _is_synced(self, folder: str) -> bool:
        for operation in reversed(self.log):
            if isinstance(operation, Name | SyncFolder) and operation.folder == folder:
                return isinstance(operation, SyncFolder)
        return True

    def _remove(self, path: Path) -> None:
        self._real["remove"](path)
        self.gone(self.path_below(path))

    def _remove_folder(self, folder: Path) -> None:
        self._real["remove_folder"](folder)
        below = self.path_below(folder)
        if below is not None:
            for path in sorted((path for path in self.files if f"{path}/".startswith(f"{below}/")), reverse=True):
                self.gone(path)

    def gone(self, path: str | None) -> None:
        if path in self.files:
            self.name((path, None))


class _VFS(apsw.VFS):
    def __init__(self, recording: Recording) -> None:
        super().__init__("power-cut", "unix", makedefault=True)
        self.recording = recording

    def xOpen(self, name: Any, flags: Any) -> Any:  # noqa: N802
        path = self.recording.path_below(name.filename() if isinstance(name, apsw.URIFilename) else name)
        return _File(self.recording, path, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(name, syncdir)
        path = self.recording.path_below(name)
        self.recording.gone(path)
        if syncdir and path is not None:
            self.recording.log.append(SyncFolder(folder_of(path)))


class _File(apsw.VFSFile):
    def __init__(self, recording: Recording, path: str | None, name: Any, flags: Any) -> None:
        super().__init__("unix", name, flags)
        wanted = flags[0]
        self.note: Callable[[Operation], None] = recording.log.append if path is not None else lambda operation: None
        self.file = -1 if path is None else recording.opened_by_sqlite(path)
        # As SQLite's own VFS does it: the first sync of a new journal syncs the folder too.
        self.unsynced_folder = None
        if path is not None and wanted & apsw.SQLITE_OPEN_CREATE and wanted & _JOURNALS:
            self.unsynced_folder = folder_of(path)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self.note(Write(self.file, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self.note(Truncate(self.file, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        if flags & apsw.SQLITE_SYNC_FULL != apsw.SQLITE_SYNC_FULL:
            return  # a Mac leaves what was written in the cache of its drive then
        self.note(Sync(self.file))
        if self.unsynced_folder is not None:
            self.note(SyncFolder(self.unsynced_folder))
            self.unsynced_folder = None
