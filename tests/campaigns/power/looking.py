"""Looks at what a power cut left, as the next user would: opens it, checks it, compares it, and goes on working."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from artifactdb import ArtifactDBError, ReadOnlyError, Workspace, WorkspaceNotFoundError
from artifactdb.artifacts import check
from artifactdb.catalog.files import catalog_folder
from artifactdb.trust.own_key import _own_key
from tests.campaigns.power.disk import Tree
from tests.campaigns.power.histories import (
    DATASET,
    OWN,
    Artifacts,
    Contents,
    Predictions,
    State,
    artifacts_of,
    fitted,
    prediction,
    predictions_of,
    rows_of,
)

_CATALOG_TABLES = ("catalog_files", "catalog_payloads", "staged_predictions", "staged_arrays", "deleted_predictions")
_BESIDE = ("-wal", "-shm", "-journal")


class LostError(AssertionError):
    """What was acknowledged is not there, or something is that never was."""


class Looker:
    """Puts disks into one folder, again and again, and remembers what it has seen of equal ones.

    DuckDB takes longer to start than all else together; so predictions are read once for each content of the catalog's
    tables and files, and a flush is tried once for each of these and each kind of thing left over.
    """

    def __init__(self, folder: Path, file: str) -> None:
        self.folder, self.path = folder, folder / file
        self._seen: dict[bytes, tuple[Contents, dict[str, Contents]]] = {}
        self._predictions: dict[bytes, Predictions] = {}
        self._tried: set[tuple[object, ...]] = set()
        self._copies: dict[bytes, Contents] = {}

    def compare(self, tree: Tree, before: State, after: State) -> bool:
        """Raise unless the disk holds what was acknowledged, or that and all of what was being done.

        Give whether it was another disk than any before.
        """
        key = _digest(tree)
        is_new = key not in self._seen
        if is_new:
            try:
                self._seen[key] = self._look(tree)
            except ArtifactDBError as error:
                raise LostError(f"{type(error).__name__}: {error}") from error
        found, copies = self._seen[key]
        self._compare("the workspace", found, before.workspace, after.workspace)
        for name in sorted(after.copies.keys() | copies.keys()):
            self._compare(name, copies.get(name), before.copies.get(name), after.copies.get(name))
        return is_new

    def _compare(self, name: str, found: Contents | None, before: Contents | None, after: Contents | None) -> None:
        if found not in (before, after):
            raise LostError(f"{name} {_difference(found, before)}, and {_difference(found, after)}")

    def _look(self, tree: Tree) -> tuple[Contents, dict[str, Contents]]:
        self._put(tree)
        seen = self._read_only() if len(self._seen) % 8 == 0 else None
        with Workspace(self.path) as workspace:
            contents, key = self._contents(workspace)
            if seen not in (None, contents.artifacts):
                raise LostError(f"who only reads sees {sorted(seen or {})}, and not {sorted(contents.artifacts)}")
            own = [name for name in contents.artifacts if name.startswith(OWN)]
            if own and workspace.load(own[0]).predict([[1.0]]).tolist() != [3.0]:
                raise LostError("what was loaded is not what was saved")
            others = [path for path in sorted(self.folder.glob("*.sqlite")) if path != self.path]
            copies = {path.name: self._copy(path, tree) for path in others}
            self._go_on(workspace, contents, key)
        self._require_rest()
        return contents, copies

    def _read_only(self) -> Artifacts | None:
        """Look without writing, where there is something yet."""
        with suppress(WorkspaceNotFoundError, ReadOnlyError), Workspace(self.path, mode="ro") as workspace:
            return artifacts_of(workspace)
        return None

    def _contents(self, workspace: Workspace) -> tuple[Contents, bytes]:
        """Check a workspace and read it; give a key of what its catalog is made of too."""
        found = check.verify(workspace.database)
        if not found.ok:
            raise LostError(f"verify finds {found.problems} in {workspace.path}")
        key = self._catalog_key(workspace)
        if key not in self._predictions:
            problems = workspace.catalog.verify()
            if problems:
                raise LostError(f"the catalog's verify finds {problems} in {workspace.path}")
            self._predictions[key] = predictions_of(workspace)
        return Contents(artifacts_of(workspace), self._predictions[key], rows_of(workspace)), key

    def _copy(self, path: Path, tree: Tree) -> Contents:
        """Look at another workspace on the disk."""
        parts = (path.name, catalog_folder(path).name)
        key = _digest({name: content for name, content in tree.items() if name.startswith(parts)})
        if key not in self._copies:
            with Workspace(path) as copy:
                contents, _ = self._contents(copy)
            self._copies[key] = replace(contents, rows=())
        return self._copies[key]

    def _put(self, tree: Tree) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for path, content in tree.items():
            if content is None:
                (self.folder / path).mkdir()
            else:
                (self.folder / path).write_bytes(content)
                (self.folder / path).chmod(0o600)  # as the key has to be
        os.environ["ARTIFACTDB_HOME"] = str(self.folder / "home")
        _own_key.cache_clear()

    def _catalog_key(self, workspace: Workspace) -> bytes:
        rows = [workspace.database.rows(f"SELECT * FROM {table}") for table in _CATALOG_TABLES]
        digest = hashlib.sha256(repr(rows).encode())
        for (name,) in workspace.database.rows("SELECT name FROM catalog_files ORDER BY file_key"):
            path = catalog_folder(workspace.path) / name
            digest.update(path.read_bytes() if path.exists() else b"is not there")
        return digest.digest()

    def _go_on(self, workspace: Workspace, contents: Contents, key: bytes) -> None:
        """Work on, which must be no harder than it was, and clears away what was left over."""
        workspace.registry(DATASET, "0007_after").register_with_chain(fitted()[0], "s1.Ridge", "model", 1)
        folder = catalog_folder(self.path)
        parquet = sorted(path.name.partition("-")[0] for path in folder.iterdir()) if folder.exists() else []
        if self._is_new(key, *parquet):
            workspace.catalog.add(**prediction(5000))
            workspace.catalog.flush()
            live = sorted(name for (name,) in workspace.database.rows("SELECT name FROM catalog_files"))
            if (left := sorted(path.name for path in folder.iterdir())) != live:
                raise LostError(f"{left} lie in the catalog's folder, where {live} count")
            if len(workspace.catalog) != len(contents.predictions) + 1:
                raise LostError(f"a flush of one more made {len(workspace.catalog)} predictions")
        unfinished = [path for path in self.folder.glob(".packed.sqlite.*") if ".unfinished" in path.name]
        if unfinished and self._is_new(*sorted(path.name.partition(".unfinished")[2] for path in unfinished)):
            workspace.pack(self.folder / "packed.sqlite", overwrite=True)
            if left := [path.name for path in unfinished if path.exists()]:
                raise LostError(f"{left} are left over, and another pack does not clear them away")

    def _is_new(self, *situation: object) -> bool:
        known = situation in self._tried
        self._tried.add(situation)
        return not known

    def _require_rest(self) -> None:
        beside = {self.path.name + suffix for suffix in _BESIDE}
        if left := beside & {path.name for path in self.path.parent.iterdir()}:
            raise LostError(f"{left} lie beside the workspace at rest")


def _digest(tree: Tree) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for path, content in tree.items():
        digest.update(f"{path}\0{-1 if content is None else len(content)}\0".encode())
        digest.update(content or b"")
    return digest.digest()


def _difference(found: Contents | None, expected: Contents | None) -> str:
    if found is None or expected is None:
        return f"is {'not there' if found is None else 'there'}, but was{'' if expected else ' not'}"
    lost = {**expected.artifacts, **expected.predictions}.items() - {**found.artifacts, **found.predictions}.items()
    more = {**found.artifacts, **found.predictions}.items() - {**expected.artifacts, **expected.predictions}.items()
    return f"misses {[name for name, _ in lost]}, has {[name for name, _ in more]}, rows {found.rows} {expected.rows}"
