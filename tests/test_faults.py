"""Faults: the n-th call of the system fails, for every n until the operation passes; nothing is ever half there."""

from __future__ import annotations

import gc
import resource
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from artifactdb import Workspace
from artifactdb.database import Database
from artifactdb.errors import StorageFullError
from tests.campaigns import faulty

CAMPAIGN = "tests.campaigns.faults"
needs_faults = pytest.mark.skipif(not faulty.possible(), reason="faults are made on Linux, with a C compiler")


@pytest.mark.campaign
@needs_faults
def test_a_disk_that_is_full_anywhere_leaves_the_state_before_or_after() -> None:
    assert faulty.run(CAMPAIGN, "--operation=transaction", "--kind=disk-full", "--sample") == 0


@pytest.mark.campaign
@needs_faults
def test_memory_that_runs_out_leaves_the_state_before_or_after() -> None:
    assert faulty.run(CAMPAIGN, "--operation=merge", "--kind=memory-gone", "--sample") == 0


@pytest.mark.campaign
@needs_faults
@pytest.mark.parametrize("operation", ["transaction", "catalog-flush", "merge"])
def test_an_interrupt_anywhere_leaves_the_state_before_or_after(operation: str) -> None:
    assert faulty.run(CAMPAIGN, f"--operation={operation}", "--kind=interrupt", "--sample") == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_faults
def test_any_operation_bears_any_fault() -> None:
    assert faulty.run(CAMPAIGN, "--sample", "--minutes=2") == 0


def test_a_transaction_that_sqlite_took_back_is_not_carried_on_with(workspace: Workspace) -> None:
    registry = workspace.registry("wheat", "0001_pls")
    registry.register_with_chain(np.arange(3.0), "s1.Before", "model", 1)
    connection = workspace.database.connection()
    connection.pragma("max_page_count", connection.pragma("page_count") + 4)
    with pytest.raises(StorageFullError, match="all of its transaction was taken back"), workspace.transaction():
        with suppress(StorageFullError):  # as somebody does who goes on with the next one
            registry.register_with_chain(np.random.default_rng(0).random(100_000), "s1.Large", "model", 1)
        registry.register_with_chain(np.arange(4.0), "s1.After", "model", 1)
    connection.pragma("max_page_count", 1 << 30)
    assert [record.chain_path for record in workspace.records()] == ["s1.Before"]
    registry.register_with_chain(np.arange(4.0), "s1.After", "model", 1)


def test_a_save_that_is_interrupted_within_a_transaction_leaves_nothing_half_done(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user stops at each statement of a save, and goes on with what came before and comes after."""
    left = 0

    def stopping(statement: Any) -> Any:
        def stopped(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return statement(*arguments, **options)

        return stopped

    for name in ("rows", "insert", "run_many"):
        monkeypatch.setattr(Database, name, stopping(getattr(Database, name)))
    seen = set()
    passed = False
    for n in range(1, 40):
        registry = workspace.registry(f"wheat{n}", "0001_pls")
        arrays = np.random.default_rng(n).random((3, 10_000))
        with suppress(StorageFullError), workspace.transaction():
            registry.register_with_chain(arrays[0], "s1.Before", "model", 1)
            left = n
            with suppress(KeyboardInterrupt):
                registry.register_with_chain(arrays[1], "s2.Stopped", "model", 2)
            passed, left = left > 0, 0
            registry.register_with_chain(arrays[2], "s3.After", "model", 3)
        kept = tuple(record.chain_path for record in registry.get_all_records())
        seen.add(kept)
        if passed:
            break
    assert passed
    assert seen == {(), ("s1.Before", "s3.After"), ("s1.Before", "s2.Stopped", "s3.After")}
    assert workspace.stats()["orphaned_count"] == 0
    assert workspace.verify().ok


def test_statements_of_a_transaction_that_sqlite_took_back_are_refused(workspace: Workspace) -> None:
    database = workspace.database
    with pytest.raises(StorageFullError, match="taken back"), workspace.transaction():
        database.connection().execute("ROLLBACK")  # what SQLite does by itself when a device fails
        with pytest.raises(StorageFullError):
            database.insert("INSERT INTO datasets (name) VALUES (?)", ("barley",))
    with pytest.raises(StorageFullError, match="taken back"), database.reading():
        database.connection().execute("ROLLBACK")
        workspace.records()
    assert workspace.datasets() == []


def test_a_statement_that_memory_failed_under_ends_before_the_next_transaction(workspace: Workspace) -> None:
    database = workspace.database
    before = database.connection()
    too_much = "SELECT group_concat(hex(zeroblob(1000000))) FROM json_each('[1, 2, 3, 4, 5, 6, 7, 8, 9]')"
    for reads in (nullcontext, database.reading):
        apsw.hard_heap_limit(apsw.memory_used() + (8 << 20))
        try:
            with pytest.raises(StorageFullError, match="ran out of memory") as error, reads():
                database.rows(too_much)
        finally:
            apsw.hard_heap_limit(0)
        # As long as the error is kept it holds the statement, whose end would take back what is going on then.
        assert database.connection() is not before
        with workspace.transaction():
            database.rows("INSERT INTO datasets (name, created_at) VALUES (?, 'now')", (reads.__name__,))
            del error
            gc.collect()
        before = database.connection()
    assert database.value("SELECT count(*) FROM datasets") == 2


def test_a_copy_for_sqlite_utils_that_memory_does_not_hold_is_refused(workspace: Workspace) -> None:
    registry = workspace.registry("wheat", "0001_pls")
    for step in range(1, 9):
        registry.register_with_chain(np.arange(3.0), f"s{step}.Model", "model", step, params={"note": "x" * (1 << 19)})
    apsw.memory_high_water(True)
    workspace.sqlite_utils().close()
    apsw.hard_heap_limit(apsw.memory_high_water())  # reached by what is asked for last: the copy as bytes
    try:
        with pytest.raises(StorageFullError, match="ran out of memory"):
            workspace.sqlite_utils()
    finally:
        apsw.hard_heap_limit(0)
    assert workspace.sqlite_utils()["records"].count == 8


def test_what_cannot_be_removed_now_is_cleared_away_by_the_next_try(workspace: Workspace, tmp_path: Path) -> None:
    left = tmp_path / ".packed.sqlite.0123456789abcdef.unfinished.files"
    left.mkdir()
    (left / "predictions_meta.parquet").touch()
    workspace.pack(tmp_path / "packed.sqlite")
    assert not left.exists()


@pytest.mark.filterwarnings("ignore:.*could be read by others")
def test_a_key_that_cannot_be_read_just_now_is_not_replaced_by_another(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: dict[str, Any]
) -> None:
    home = tmp_path / "home"
    (home / "key").mkdir(parents=True)  # reading it fails, and not for lack of permission
    monkeypatch.setenv("ARTIFACTDB_HOME", str(home))
    registry = workspace.registry("wheat", "0001_pls")
    with pytest.raises(StorageFullError, match="cannot be read just now"):
        registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
    (home / "key").rmdir()
    registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)


def without_rollback(connection: apsw.Connection) -> None:
    """Let taking back fail, as it does where there is no memory left to prepare the statement."""
    connection.authorizer = lambda action, first, *_: (
        apsw.SQLITE_DENY
        if action in (apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT) and first == "ROLLBACK"
        else apsw.SQLITE_OK
    )


def test_what_cannot_be_taken_back_is_neither_seen_nor_kept(workspace: Workspace) -> None:
    registry = workspace.registry("wheat", "0001_pls")
    with pytest.raises(ZeroDivisionError), workspace.transaction():
        registry.register_with_chain(np.arange(3.0), "s1.Half", "model", 1)
        without_rollback(workspace.database.connection())
        _ = 1 / 0
    assert workspace.records() == []
    with Workspace(workspace.path, timeout_s=0.1) as other:
        other.registry("wheat", "0001_pls").register_with_chain(np.arange(4.0), "s1.Whole", "model", 1)
    assert [record.chain_path for record in workspace.records()] == ["s1.Whole"]


def test_a_part_that_cannot_be_taken_back_takes_the_whole_with_it(workspace: Workspace) -> None:
    registry = workspace.registry("wheat", "0001_pls")
    with (
        pytest.raises(StorageFullError, match="taken back"), workspace.transaction(),
        suppress(ZeroDivisionError), workspace.transaction(),
    ):  # fmt: skip
        registry.register_with_chain(np.arange(3.0), "s1.Half", "model", 1)
        without_rollback(workspace.database.connection())
        _ = 1 / 0
    assert workspace.records() == []
    registry.register_with_chain(np.arange(4.0), "s1.Whole", "model", 1)


def test_a_file_that_cannot_be_opened_just_now_is_not_skipped_as_damaged(workspace: Workspace) -> None:
    workspace.catalog.add(dataset_name="wheat", model_name="PLS", partition="val", y_true=[1.0], y_pred=[2.0])
    workspace.catalog.compact()
    count = "SELECT count(*) FROM predictions"
    assert workspace.sql(count).rows == [(1,)]
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, usual[1]))
    try:
        with pytest.raises(StorageFullError, match="cannot be read just now"):
            workspace.sql(count, skip_damaged=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    assert workspace.sql(count, skip_damaged=True).rows == [(1,)]
