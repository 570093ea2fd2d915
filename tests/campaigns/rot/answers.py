"""What a workspace answers, and which pages of its file each answer is made of."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import joblib

from artifactdb import ArtifactDBError, ArtifactNotFoundError, LibraryEntryNotFoundError, Workspace
from artifactdb.database import structure
from artifactdb.database.pages import Pages

_VIEWS = (
    "artifacts", "folds", "dependencies", "lineage_up", "lineage_down", "shared_blobs", "orphan_blobs", "runs",
    "pipelines_with_runs", "metrics", "library", "events",
)  # fmt: skip
_CATALOG = (
    "SELECT file_key, kind, name, rows, size_bytes, content_hash, footer_hash, id_filter FROM catalog_files",
    "SELECT file_key, chunk_index, payload FROM catalog_payloads",
    "SELECT * FROM staged_predictions",
    "SELECT * FROM staged_arrays",
    "SELECT * FROM deleted_predictions",
)
_ROWS = "catalog rows"
_DUCKDB = ("predictions", "arrays")


@dataclass
class Answers:
    """What a workspace answers; ``errors`` by question where it says that something is wrong."""

    given: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def loads(self) -> list[str]:
        """The questions that load an object."""
        return [question for question in self.given if question.startswith("load ")]

    def differ_from(self, expected: Answers) -> list[str]:
        """Give the questions that are answered otherwise."""
        return [question for question, answer in self.given.items() if answer != expected.given[question]]

    def ask(self, question: str, act: Callable[[], Any]) -> None:
        try:
            self.given[question] = act()
        except (
            ArtifactNotFoundError,
            LibraryEntryNotFoundError,
        ) as error:  # another answer, and nothing that was found
            self.given[question] = f"{type(error).__name__}: {error}"
        except ArtifactDBError as error:
            self.errors[question] = f"{type(error).__name__}: {error}"


def questions_of(workspace: Workspace, loads: Iterable[str]) -> dict[str, Callable[[], Any]]:
    """Give what is asked of a workspace through SQLite, by name; ``loads`` name what is loaded."""

    def load(name: str) -> str | None:
        dataset, _, artifact_id = name.removeprefix("load ").partition(" ")
        return joblib.hash(workspace.load(artifact_id, dataset=dataset))

    return {
        "records": lambda: sorted(repr(record.to_dict()) for record in workspace.records()),
        **{
            view: lambda view=view: sorted(map(repr, workspace.query(f"SELECT * FROM {view}"))) for view in _VIEWS
        },
        "statistics": lambda: repr({**workspace.stats(), "file_size_bytes": 0}),
        "template": lambda: repr(workspace.library.load_template("baseline")),
        "pipelines": lambda: [repr(pipeline) for pipeline in workspace.pipelines()],
        **{name: lambda name=name: load(name) for name in loads},
        _ROWS: lambda: [workspace.database.rows(sql) for sql in _CATALOG],
    }  # fmt: skip


def ask_all(path: Path, expected: Answers | None = None, only: Container[str] | None = None) -> tuple[Answers, bool]:
    """Give the answers of a workspace, and whether ``verify`` finds something where they are others and no error.

    Questions that are not in ``only`` count as answered as before.
    """
    answers, found = Answers(), True
    structure._seen.clear()
    try:
        workspace = Workspace(path, mode="ro")
    except ArtifactDBError as error:
        answers.errors["open"] = f"{type(error).__name__}: {error}"
        return answers, True
    with workspace:
        loads = loads_of(workspace) if expected is None else expected.loads
        for question, act in questions_of(workspace, loads).items():
            if expected is None or only is None or question in only:
                answers.ask(question, act)
            else:
                answers.given[question] = expected.given[question]
        # What DuckDB answers is made of these rows alone, and takes ten times longer than all the rest.
        if expected is None or answers.given.get(_ROWS) != expected.given[_ROWS]:
            answers.ask("predictions", lambda: sorted(map(repr, workspace.sql("SELECT * FROM predictions"))))
            answers.ask("arrays", lambda: sorted(map(repr, workspace.sql("SELECT array_id, array_data FROM arrays"))))
        else:
            answers.given |= {name: expected.given[name] for name in _DUCKDB}
        if expected is not None:
            answers.given.pop(_ROWS, None)  # which is no answer
        differing = [] if expected is None else answers.differ_from(expected)
        if differing and (not answers.errors or any(question.startswith("load ") for question in differing)):
            try:
                found = not workspace.verify().ok
            except ArtifactDBError:
                found = True
    return answers, found


def loads_of(workspace: Workspace) -> list[str]:
    return [f"load {record.dataset} {record.artifact_id}" for record in workspace.records()]


def pages_read(path: Path, expected: Answers) -> dict[int, set[str]]:
    """Give the questions whose answers can depend on each page: those that read it, in a workspace opened for them."""
    readers: dict[int, set[str]] = {}
    with closing(Pages(path)) as pages:
        size = pages.size
    disk = _Watched(default := apsw.vfs_names()[0])
    try:
        for question in [name for name in expected.given if name not in _DUCKDB]:
            disk.ranges.clear()
            with Workspace(path, mode="ro") as workspace:
                questions_of(workspace, expected.loads)[question]()
            for offset, amount in disk.ranges:
                for number in range(offset // size + 1, (offset + amount - 1) // size + 2):
                    readers.setdefault(number, set()).add(question)
    finally:
        disk.unregister()
        apsw.set_default_vfs(default)
    return readers


class _Watched(apsw.VFS):
    """The default file system, and which ranges SQLite read of its files."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.ranges: set[tuple[int, int]] = set()
        super().__init__("watched", base, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> _WatchedFile:  # noqa: N802 - APSW's name
        return _WatchedFile(self.base, name, flags, self.ranges)


class _WatchedFile(apsw.VFSFile):
    def __init__(self, base: str, name: Any, flags: list[int], ranges: set[tuple[int, int]]) -> None:
        self._ranges = ranges
        super().__init__(base, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - APSW's name
        self._ranges.add((offset, amount))
        return super().xRead(amount, offset)
