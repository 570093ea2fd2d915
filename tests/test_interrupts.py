"""Interrupts: Ctrl-C comes at any moment, right behind a commit too; what was acknowledged stays, nothing is locked."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifactdb import Workspace
from artifactdb.catalog import catalog as catalog_module
from artifactdb.catalog import engine
from artifactdb.database import connection, disk
from tests import fresh


def predictions(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "dataset_name": "wheat", "model_name": "pls", "partition": "val", "metric": "rmse", "val_score": 0.5,
            "op_counter": number, "y_pred": np.arange(3.0) + number,
        }
        for number in range(first, first + count)
    ]  # fmt: skip


def interrupted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, act: Callable[[], object]) -> None:
    """Do something that is interrupted where it calls a function of a module."""

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, name, interrupt)
        act()


def flush(workspace: Workspace, _: Path) -> None:
    workspace.catalog.flush()


def add_very_many(workspace: Workspace, _: Path) -> None:
    workspace.catalog.add_many(predictions(50, first=100))


def merge(workspace: Workspace, other: Path) -> None:
    workspace.merge(other)


class TestBehindACommit:
    """``shorten_log`` is what a transaction calls when it is durable."""

    @pytest.mark.parametrize(("act", "rows"), [(flush, 7), (add_very_many, 57), (merge, 16)])
    def test_files_that_count_stay(
        self, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Any, rows: int
    ) -> None:
        monkeypatch.setattr(catalog_module, "_STAGED_AT_MOST", 20)
        with Workspace(tmp_path / "other.sqlite") as other:
            other.catalog.add_many(predictions(9, first=50))
        workspace.catalog.add_many(predictions(7))
        workspace.catalog.flush()
        workspace.catalog.delete(op_counter=0)
        workspace.catalog.add_many(predictions(1))
        interrupted(monkeypatch, connection, "shorten_log", lambda: act(workspace, tmp_path / "other.sqlite"))
        assert len(workspace.catalog) == rows
        assert workspace.catalog.verify() == []
        workspace.catalog.compact()
        assert len(workspace.catalog.filter()) == rows

    def test_files_that_do_not_count_go(
        self, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Workspace(tmp_path / "other.sqlite") as other:
            other.catalog.add_many(predictions(9, first=50))
        workspace.catalog.add_many(predictions(7))
        folder = workspace.catalog._store.folder
        for act in (flush, merge):
            with monkeypatch.context() as patched:
                patched.setattr("artifactdb.database.row_checks.Written.compute", _fail)
                with pytest.raises(RuntimeError):
                    act(workspace, tmp_path / "other.sqlite")
            assert not folder.exists() or list(folder.glob("*.parquet")) == []
            assert len(workspace.catalog) == 7


def _fail(*_: Any) -> None:
    raise RuntimeError


def test_before_a_transaction_has_begun_nothing_stays_locked(
    file: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = workspace.registry("wheat", "0001_a")
    save = lambda: registry.register_with_chain({"a": 1}, "s1.A", "model", 1)  # noqa: E731
    interrupted(monkeypatch, connection, "outdate", save)
    with Workspace(file, mode="rw") as other:
        other.registry("wheat", "0002_b").register_with_chain({"b": 1}, "s1.B", "model", 1)
    save()
    assert len(workspace.records()) == 2


def test_a_block_that_ends_late_leaves_the_next_ones_alone(workspace: Workspace) -> None:
    """An interrupt between a block and its end lets it end when the traceback goes, which at a prompt is much later."""
    registry = workspace.registry("wheat", "0001_a")
    database = workspace.database
    late = []
    with pytest.raises(KeyboardInterrupt), workspace.transaction():
        for block in (database.transaction(), database.transaction(undo=False)):
            block.__enter__()
            registry.register_with_chain({"a": len(late)}, f"s{len(late)}.A", "model", 1)
            late.append(block)
        raise KeyboardInterrupt
    assert workspace.records() == []
    with workspace.transaction():
        registry.register_with_chain({"b": 1}, "s1.B", "model", 1)
        while late:
            late.pop()  # here it ends
        registry.register_with_chain({"c": 1}, "s2.C", "model", 2)
    assert not database.in_transaction
    assert len(workspace.records()) == 2


@pytest.mark.parametrize("act", ["backup", "restore"])
def test_a_copy_that_has_its_name_keeps_its_predictions(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    workspace.catalog.add_many(predictions(7))
    workspace.catalog.flush()
    workspace.backup_to(tmp_path / "series")
    target = tmp_path / "copies" / "copy.sqlite"
    target.parent.mkdir()
    sync = disk.sync

    def interrupt(path: Path) -> None:
        sync(path)
        if path == target.parent and target.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(disk, "sync", interrupt)
        workspace.backup(target) if act == "backup" else Workspace.restore(tmp_path / "series", target)
    with Workspace(target) as copy:
        assert len(copy.catalog.filter()) == 7


SAVES = """
import random, signal, sys
from artifactdb import Workspace
chance = random.Random(int(sys.argv[2]))

armed = False

def interrupt(*_):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
with Workspace(sys.argv[1]) as workspace:
    saved = []
    registry = workspace.registry("wheat", "0001_a")
    for number in range(400):
        artifact_id = registry.generate_id(f"s{number}.A")
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 8e-4))
        try:
            armed = True
            registry.register_with_chain({"n": number}, f"s{number}.A", "model", 1)
            armed = False
            saved.append(artifact_id)
        except KeyboardInterrupt:
            pass
        assert not workspace.database.in_transaction
        assert not workspace.database.connection().in_transaction, number
    there = {record.artifact_id for record in workspace.records()}
    assert set(saved) <= there, "what was acknowledged is there"
    assert workspace.verify().ok
    print(400 - len(saved))
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer of Unix")
def test_saves_that_are_interrupted_anywhere_lose_nothing_and_lock_nothing(tmp_path: Path) -> None:
    done = fresh.run(SAVES, tmp_path / "study.sqlite", 7)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20, "else nothing was tried"


ASKED = """
import os, signal, sys, threading
from artifactdb import Workspace

with Workspace(sys.argv[1]) as workspace:
    workspace.query("SELECT 1")
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        workspace.query("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
    except KeyboardInterrupt:
        print("stopped")
    print(workspace.query("SELECT 1 AS a").rows)
"""


def test_a_question_is_stopped_without_a_timeout_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASKED, str(tmp_path / "study.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["stopped", "[(1,)]"], done.stderr


def test_what_duckdb_makes_of_an_interrupt_is_one_again() -> None:
    with pytest.raises(KeyboardInterrupt), engine.translated():
        raise RuntimeError("Query interrupted")
