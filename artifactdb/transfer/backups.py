"""A series of backups in one folder: each of one instant and whole, what did not change stored once.

A copy is cut into pieces of equal size, and each piece kept as a file under the SHA-256 of its bytes; a list says
which pieces make which files. ``docs/format.md`` defines the folder, which plain tools can put together too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from artifactdb.artifacts import check
from artifactdb.catalog import copying
from artifactdb.catalog.checking import check as check_catalog
from artifactdb.catalog.files import catalog_file_kind, catalog_folder, device_errors, only_writer
from artifactdb.catalog.store import Store
from artifactdb.database import Database, disk
from artifactdb.database.identity import workspace_id_of
from artifactdb.database.making import new_file
from artifactdb.database.opening import is_workspace_name
from artifactdb.errors import CorruptWorkspaceError, InvalidValueError, WorkspaceNotFoundError
from artifactdb.ids import validate_count
from artifactdb.version import __version__

Progress = Callable[[int, int], None]

PIECE_BYTES = 256 << 10
_MAX_PIECES = 1 << 16
"""Of one file: larger ones are cut into larger pieces, so that a list stays short whoever wrote it."""
_MAX_LIST_BYTES = 16 << 20
_PATIENCE = timedelta(days=1)
_FORMAT = "artifactdb backup 1"
_PIECES, _LISTS, _UNFINISHED = "pieces", "copies", ".unfinished-"
_HASH = re.compile(r"[0-9a-f]{64}")
_HALF = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Copy:
    """One backup of a series.

    Parameters
    ----------
    name : str
        When it was taken, as it names its list.
    taken_at : str
        ISO 8601, UTC: it holds everything that was acknowledged before.
    workspace : str
        Name of the file that it is of.
    size_bytes : int
        Of its files, as they are when they are restored.
    new_bytes : int
        How much of that no earlier copy had.
    workspace_id : str
        Which workspace it is of, whatever the file is called; "" where an earlier version took it.
    """

    name: str
    taken_at: str
    workspace: str
    size_bytes: int
    new_bytes: int
    workspace_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give plain types."""
        return asdict(self)


def take(store: Store, folder: Path, *, keep: int | None = None, progress: Progress | None = None) -> Copy:
    """Add a copy of one state of a workspace to a folder; what fails half way leaves the others as they are."""
    keep = None if keep is None else validate_count("keep", keep, least=1)  # the new one included
    with device_errors(folder), only_writer(folder, store.database.timeout_s):
        _require_series(folder)
        for left_over in folder.glob(f"{_UNFINISHED}*"):
            disk.remove_folder(left_over)
        unfinished = folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
        unfinished.mkdir()
        try:
            taken_at = _next_moment(folder)
            file = copying.backup(store, unfinished / store.database.path.name, None)
            _require_sound(file)
            made = _keep(folder, file, taken_at, workspace_id_of(store.database).hex(), progress)
        finally:
            disk.remove_folder(unfinished)
        if keep is not None:
            _make_room(folder, made, keep)
    return made


def _make_room(folder: Path, made: Copy, keep: int) -> None:
    """Remove the oldest copies of a workspace, and the pieces that no other needs."""
    names = _names(folder)
    known = _readable(folder, names)
    if unread := [name for name in names if name not in known]:
        # Nor does it count as one that is kept; which pieces it needs nobody can say.
        warnings.warn(
            f"{_list_file(folder, unread[0])} cannot be read, so no older copy was removed: move it away.", stacklevel=4
        )
        return
    # A copy of the workspace has the same id, and lives a life of its own. What has no id may be another's.
    same = [name for name in names if _whose(known[name]) == _whose(made)]
    for old in [name for name in same if name < made.name][: 1 - keep or None]:
        disk.remove(_list_file(folder, old))
    disk.sync(folder / _LISTS)
    _sweep(folder)


def _whose(copy: Copy) -> tuple[str, str]:
    return copy.workspace_id, copy.workspace


def copies(folder: Path) -> list[Copy]:
    """Give the copies of a series, oldest first; warns of a list that cannot be read, and leaves it out.

    Raises
    ------
    WorkspaceNotFoundError
        When the folder holds no series.
    CorruptWorkspaceError
        When no list can be read.
    """
    found, wrong = [], None
    with device_errors(folder):
        for name in _names_of(folder):
            try:
                found.append(_copy(name, _read_list(folder, name)))
            except CorruptWorkspaceError as error:
                wrong = error
                warnings.warn(f"a copy is left out: {error}", stacklevel=3)
    if wrong is not None and not found:
        raise wrong
    return found


def _names_of(folder: Path) -> list[str]:
    if not (folder / _LISTS).is_dir():
        raise WorkspaceNotFoundError(f"{folder} holds no backups.", hint="`artifactdb backup FILE --to DIR` makes one.")
    return _names(folder)


def restore(folder: Path, target: Path, *, at: str | None = None, progress: Progress | None = None) -> Path:
    """Put the files of a copy together again, each compared with its hash; the target is new."""
    known = _names_of(folder)
    moment = _moment(at)
    names = [name for name in known if moment is None or _time_of(name) <= moment]
    if not names:
        first = f"the first is of {_time_of(known[0]).isoformat()}" if known else "there is none"
        raise WorkspaceNotFoundError(f"{folder} holds no copy of {at or 'any time'}: {first}.")
    newest = {copy.workspace_id: copy for copy in _identified(folder, names).values()}
    if len(newest) > 1 and moment != _time_of(names[-1]):
        each = "; ".join(
            f"{copy.workspace[:80]!r} ({copy.workspace_id[:8]}) of {copy.taken_at}" for copy in newest.values()
        )
        raise InvalidValueError(
            f"{folder} holds copies of several workspaces, the last ones {each}.",
            hint="The very time of a copy, as at='...' or --at, says which; `artifactdb backups` lists all.",
        )
    found = _read_list(folder, names[-1])
    chosen, files = _copy(names[-1], found), found["files"]
    total, done = sum(file["size_bytes"] for file in files), 0
    if target.is_dir():
        if not is_workspace_name(chosen.workspace):
            raise InvalidValueError(
                f"the copy is of {chosen.workspace[:80]!r}, which is no name for a workspace.",
                hint="Say which file it shall be, for example restored.sqlite.",
            )
        target = target / chosen.workspace
    beside = catalog_folder(target)
    if os.path.lexists(beside):
        raise InvalidValueError(f"{beside} is there already.", hint="Name a new file, or remove that one first.")
    with device_errors(target), new_file(target, beside=beside) as unfinished:
        for file in files:
            path = beside / file["name"] if file["kind"] == "catalog" else unfinished
            disk.make_folder(path.parent)
            for size in _put_together(folder, file, path):
                done += size
                if progress:
                    progress(done, total)
            disk.sync(path)
        if beside.exists():
            disk.sync(beside)
            disk.sync(beside.parent)
        Database(unfinished, mode="ro").close()  # only a workspace gets the name of one
    return target


# -- lists --------------------------------------------------------------------------------------------


def _moment(at: str | None) -> datetime | None:
    """Give the last time that a copy may be of."""
    if at is None:
        return None
    try:
        time = datetime.fromisoformat(at)
        if len(at) <= len("2026-11-27"):
            time = time.replace(hour=23, minute=59, second=59, microsecond=999_999)
        return time.astimezone(UTC)  # without a zone: the local one
    except (TypeError, ValueError, OverflowError):
        raise InvalidValueError(
            f"{at!r} is no time.", hint="It looks like 2026-11-27 or 2026-11-27T18:30:00+01:00."
        ) from None


def _next_moment(folder: Path) -> datetime:
    """Give the time, and one that no copy has yet should the clock have been put back."""
    now = datetime.now(UTC)
    last = max(map(_time_of, _names(folder)), default=now)
    if last > now + _PATIENCE:
        raise InvalidValueError(
            f"{folder} holds a copy of {_name(last)}, which is still to come.",
            hint="Set the clock, or remove that list from the folder copies.",
        )
    return max(now, last + timedelta(microseconds=1))


_TIME = "%Y%m%dT%H%M%S.%fZ"


def _name(time: datetime) -> str:
    return time.strftime(_TIME)


def _names(folder: Path) -> list[str]:
    """Give the names of the copies, oldest first."""
    names = sorted(path.stem for path in (folder / _LISTS).glob("[!.]*.json"))
    for name in names:
        _time_of(name)
    return names


def _time_of(name: str) -> datetime:
    try:
        time = datetime.strptime(name, _TIME).replace(tzinfo=UTC)
    except ValueError:
        time = None
    if time is None or _name(time) != name:
        raise CorruptWorkspaceError(f"among the copies lies {name[:80]!r}, which is none.", hint="Move it away.")
    return time


def _readable(folder: Path, names: list[str]) -> dict[str, Copy]:
    found: dict[str, Copy] = {}
    for name in names:
        with suppress(CorruptWorkspaceError):
            found[name] = _copy(name, _read_list(folder, name))
    return found


def _identified(folder: Path, names: list[str]) -> dict[str, Copy]:
    """Give the copies that can be read; one that has no id of its workspace has that of the only one so called."""
    found = _readable(folder, names)
    said = {(copy.workspace, copy.workspace_id) for copy in found.values() if copy.workspace_id}
    for name, copy in found.items():
        ids = [key for called, key in said if called == copy.workspace]
        if not copy.workspace_id:
            found[name] = replace(copy, workspace_id=ids[0] if len(ids) == 1 else copy.workspace)
    return found


def _list_file(folder: Path, name: str) -> Path:
    return folder / _LISTS / f"{name}.json"


def _require_series(folder: Path) -> None:
    """See that a folder is a series already, or empty: nobody's files are mixed with pieces, or swept away."""
    if not (folder / _LISTS).is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InvalidValueError(f"{folder} holds other files.", hint="Name a folder of its own for backups.")
    for part in (_LISTS, _PIECES):
        disk.make_folder(folder / part)
    for path in (folder / _LISTS, folder / _PIECES, *(folder / _PIECES).iterdir()):
        if path.is_symlink():
            raise InvalidValueError(f"{path} is a link: what it leads to would be written.", hint="Remove it.")


def _read_list(folder: Path, name: str) -> Mapping[str, Any]:
    """Read and check the list of a copy: it says where files are written, and comes from anybody."""
    file = _list_file(folder, name)
    try:
        found = json.loads(_read(file, _MAX_LIST_BYTES))
        wrong = found["format"] != _FORMAT or not isinstance(found["new_bytes"], int)
        kinds = [entry["kind"] for entry in found["files"]]
        wrong = wrong or kinds.count("workspace") != 1 or {*kinds} - {"workspace", "catalog"}
        for entry in found["files"]:
            name_fits = catalog_file_kind(entry["name"]) or entry["kind"] == "workspace"
            pieces, size = entry["pieces"], entry["piece_bytes"]
            fits = name_fits and entry["size_bytes"] >= 0 and all(map(_HASH.fullmatch, [entry["sha256"], *pieces]))
            wrong = wrong or not fits or size != _piece_bytes(entry["size_bytes"])
            wrong = wrong or len(pieces) != -(-entry["size_bytes"] // size)
        wrong = wrong or _name(datetime.fromisoformat(found["taken_at"])) != name
        wrong = wrong or not isinstance(found["workspace"], str) or not isinstance(found.get("workspace_id", ""), str)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
        raise CorruptWorkspaceError(f"{file} cannot be read ({type(error).__name__}: {str(error)[:200]}).") from error
    if wrong:
        raise CorruptWorkspaceError(f"{file} is no list of a backup, or of a newer artifactdb.")
    return found  # type: ignore[no-any-return]


def _copy(name: str, found: Mapping[str, Any]) -> Copy:
    size_bytes, workspace_id = sum(file["size_bytes"] for file in found["files"]), found.get("workspace_id", "")
    return Copy(name, found["taken_at"], found["workspace"], size_bytes, found["new_bytes"], workspace_id)


# -- pieces -------------------------------------------------------------------------------------------


def _keep(folder: Path, file: Path, taken_at: datetime, workspace_id: str, progress: Progress | None) -> Copy:
    """Keep the files of a copy: pieces first, the list last, each on the disk before what names it."""
    beside = catalog_folder(file)
    kinds = [("workspace", file), *(("catalog", path) for path in sorted(beside.glob("*.parquet")))]
    total, done = sum(path.stat().st_size for _, path in kinds), 0
    named: set[Path] = set()
    new_bytes, files = 0, []
    for kind, path in kinds:
        whole, names, size = hashlib.sha256(), [], path.stat().st_size
        for piece in _pieces(path, _piece_bytes(size)):
            whole.update(piece)
            digest = hashlib.sha256(piece).hexdigest()
            names.append(digest)
            named.add(kept := _piece_file(folder, digest))
            if not _holds(kept, piece):
                _write(kept, piece)
                new_bytes += len(piece)
            done += len(piece)
            if progress:
                progress(done, total)
        files.append(
            {"kind": kind, "name": path.name, "size_bytes": size, "sha256": whole.hexdigest(),
             "piece_bytes": _piece_bytes(size), "pieces": names}
        )  # fmt: skip
    # Also what was there: one that was broken off may have left it where only the system's memory has it.
    for kept in sorted(named):
        disk.sync(kept)
    for parent in (*sorted({kept.parent for kept in named}), folder / _PIECES):
        disk.sync(parent)
    name = _name(taken_at)
    found = {
        "format": _FORMAT, "taken_at": taken_at.isoformat(), "workspace": file.name, "workspace_id": workspace_id,
        "artifactdb": __version__, "new_bytes": new_bytes, "files": files,
    }  # fmt: skip
    listed = _list_file(folder, name)
    _write(listed, json.dumps(found, indent=1).encode(), synced=True)
    disk.sync(listed.parent)
    return _copy(name, found)


def _piece_bytes(size_bytes: int) -> int:
    """Give how large the pieces of a file are: the same for a file that grows, until there would be too many."""
    size = PIECE_BYTES
    while size * _MAX_PIECES < size_bytes:
        size *= 2
    return size


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(size):
            yield piece


def _piece_file(folder: Path, digest: str) -> Path:
    return folder / _PIECES / digest[:2] / digest


def _holds(kept: Path, piece: bytes) -> bool:
    """Tell whether a piece is there, by its bytes: a power cut or the years may have left others under its name."""
    try:
        return _read(kept, len(piece)) == piece
    except (FileNotFoundError, ValueError):
        return False


def _read(path: Path, limit: int) -> bytes:
    """Read a file that is a file, and no larger than it can be; ValueError for what is not: it may wait, or not end."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
        raise ValueError(f"{path.name} is no file of {limit} bytes at most")
    return path.read_bytes()


def _write(path: Path, content: bytes, *, synced: bool = False) -> None:
    if not path.parent.is_dir():
        disk.make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(disk.create(unfinished), "wb") as stream:
        stream.write(content)
    if synced:  # else a name could outlast a power cut that what it names does not
        disk.sync(unfinished)
    disk.rename(unfinished, path)


def _put_together(folder: Path, file: Mapping[str, Any], target: Path) -> Iterator[int]:
    whole = hashlib.sha256()
    with target.open("wb") as stream:
        for digest in file["pieces"]:
            try:
                piece = _read(_piece_file(folder, digest), file["piece_bytes"])
            except (FileNotFoundError, ValueError):
                piece = b""
            if hashlib.sha256(piece).hexdigest() != digest:
                raise CorruptWorkspaceError(
                    f"a piece of {file['name']} is {'damaged' if piece else 'not there'}: {digest}.",
                    hint="Restore another copy, or the same from another place. Nothing was restored.",
                )
            whole.update(piece)
            stream.write(piece)
            yield len(piece)
    if whole.hexdigest() != file["sha256"]:
        raise CorruptWorkspaceError(f"the pieces of {file['name']} make another file.", hint="Restore another copy.")


def _sweep(folder: Path) -> None:
    """Remove the pieces that no copy needs."""
    needed = {
        digest for name in _names(folder) for file in _read_list(folder, name)["files"] for digest in file["pieces"]
    }
    for path in (folder / _PIECES).glob("*/*"):
        # Half-written ones of a killed process too; but nothing that is not ours.
        if (_HASH.fullmatch(path.name) and path.name not in needed) or _HALF.fullmatch(path.name):
            disk.remove(path)


def _require_sound(file: Path) -> None:
    """See that a copy opens, and that every page, reference, content and Parquet file of it is right."""
    database = Database(file, mode="ro")
    try:
        problems = [*check.verify(database).problems, *check_catalog(Store(database))]
    finally:
        database.close()
    if problems:
        raise CorruptWorkspaceError(
            f"the copy is not sound, and was not kept: {problems[0]}", hint="`artifactdb verify` says what is wrong."
        )
