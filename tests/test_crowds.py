"""Many at once: writers take turns, readers see whole transactions, and the log stays short whoever reads."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from artifactdb import ArtifactNotFoundError, BusyError, Catalog, Workspace
from artifactdb.artifacts import check, find, load
from artifactdb.blobs import store
from artifactdb.catalog import questions
from artifactdb.database import Database, log
from tests.campaigns.acts import content, prediction, require_content
from tests.campaigns.crowds import campaign
from tests.campaigns.kills import fork


@pytest.mark.campaign
def test_a_crowd_is_never_told_to_go_away_and_sees_no_half() -> None:
    campaign(seconds=5, seed=time.time_ns() % 10_000, writers=2, readers=4, threads=4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_minutes_of_a_crowd() -> None:
    campaign(seconds=120, seed=time.time_ns() % 10_000)


def test_who_waits_to_write_is_not_overtaken_again_and_again(workspace: Workspace, tmp_path: Path) -> None:
    """Without turns nearly all of the others' transactions come first while one goes on waiting."""
    writers, enough = 8, 400
    written = multiprocessing.Value("q", 0, lock=False)

    def write(number: int) -> None:
        overtaken = 0
        with Workspace(workspace.path) as own:
            while written.value < enough:
                before = written.value
                with own.transaction():
                    overtaken = max(overtaken, written.value - before)
                    named = (f"{number}-{written.value}",)
                    own.database.insert("INSERT INTO datasets (name, created_at) VALUES (?, '')", named)
                    written.value += 1
        (tmp_path / f"{number}.most").write_text(str(overtaken))

    children = [fork(partial(write, number), tmp_path / "failed") for number in range(writers)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * writers, (tmp_path / "failed").read_text()
    most = [int((tmp_path / f"{number}.most").read_text()) for number in range(writers)]
    assert max(most) < enough / 3, most


def test_who_gave_up_waiting_leaves_no_place_in_the_queue(workspace: Workspace) -> None:
    with workspace.transaction(), Workspace(workspace.path, timeout_s=0.1) as other:
        for _ in range(3):
            with pytest.raises(BusyError, match="another writer"), other.transaction():
                pass
    with Workspace(workspace.path, timeout_s=5) as other, other.transaction():
        pass


@contextmanager
def somebody_always_reads(path: Path, readers: int = 3) -> Iterator[None]:
    """Readers each of whom leaves when the next one has come."""
    ended = threading.Event()
    turns = [threading.Event() for _ in range(readers)]

    def read(number: int) -> None:
        with Workspace(path, mode="ro") as workspace:
            while True:
                turns[number].wait()
                turns[number].clear()
                if ended.is_set():
                    turns[(number + 1) % readers].set()
                    return
                with workspace.database.reading():
                    workspace.database.value("SELECT count(*) FROM records")
                    turns[(number + 1) % readers].set()
                    time.sleep(0.05)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    turns[0].set()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@pytest.mark.campaign
def test_the_log_stays_short_though_somebody_always_reads(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LOG_BYTES", 1 << 20)
    workspace.database._log_limit = 1 << 20
    monkeypatch.setattr(log, "PATIENCE_S", 5.0)
    registry, written, peak = workspace.registry("wheat"), 0, 0
    with somebody_always_reads(workspace.path):
        for number in range(40):
            written += len(noise := os.urandom(400_000))
            registry.register({"noise": noise}, f"0001$aaaaaaaaaaaa:{number}", "model")
            peak = max(peak, workspace.path.with_name(workspace.path.name + "-wal").stat().st_size)
    assert written > 15 << 20 and peak < 5 << 20, f"{peak} of {written} bytes were in the log"


def test_space_is_given_back_to_others_too_though_somebody_reads(workspace: Workspace) -> None:
    registry = workspace.registry("wheat", "0001")
    registry.register({"noise": os.urandom(2_000_000)}, "0001$aaaaaaaaaaaa:0", "model")
    with Workspace(workspace.path, mode="ro") as reader, reader.database.reading():
        assert reader.database.value("SELECT count(*) FROM records") == 1
        registry.delete_pipeline_artifacts("0001")
        assert workspace.gc(), "who reads an older state is no reason to refuse"
    registry.register({"small": 1}, "0001$aaaaaaaaaaaa:0", "model")
    workspace.gc()
    assert workspace.path.stat().st_size < 1_000_000


def test_a_prediction_comes_with_its_arrays_though_it_is_deleted_meanwhile(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = workspace.catalog
    (first, *_) = ids = catalog.add_many(prediction(number) for number in range(3))
    catalog.compact()
    arrays_of = questions._arrays_of

    def then_delete(*given: object) -> object:
        monkeypatch.setattr(questions, "_arrays_of", arrays_of)
        thread = threading.Thread(target=delete)  # another thread, as a state belongs to the thread that reads
        thread.start()
        thread.join()
        return arrays_of(*given)  # type: ignore[arg-type]

    def delete() -> None:
        with Workspace(workspace.path, timeout_s=1) as other:
            other.catalog.delete(ids)
            Catalog.flush(other.catalog)

    monkeypatch.setattr(questions, "_arrays_of", then_delete)
    assert catalog.get(first)["y_pred"] is not None
    assert len(catalog) == 0


def test_a_check_finds_nothing_wrong_with_what_is_deleted_meanwhile(workspace: Workspace) -> None:
    registry = workspace.registry("wheat", "0001")
    for number in range(3):
        registry.register({"n": number}, f"0001$aaaaaaaaaaaa:{number}", "model")

    def delete_all(done: int, _: int) -> None:
        if done == 1:
            with Workspace(workspace.path) as other:
                other.registry("wheat").delete_pipeline_artifacts("0001", delete_files=True)

    assert check.verify(workspace.database, delete_all).ok


def test_what_is_saved_again_while_others_delete_it_is_there(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = workspace.registry("wheat", "0001")
    name = registry.register(content(1), "0001$aaaaaaaaaaaa:0", "model").artifact_id

    def check_late(database: Database, key: int) -> str:
        with Workspace(workspace.path) as other:
            other.registry("wheat").delete_pipeline_artifacts("0001", delete_files=True)
        return found(database, key)

    with Workspace(workspace.path) as saving:  # one that has not read it yet
        found = store.check
        monkeypatch.setattr(store, "check", check_late)
        saving.registry("wheat", "0002").register(content(1), "0002$aaaaaaaaaaaa:0", "model")
        monkeypatch.undo()
        assert [record.artifact_id for record in saving.records()] == [name.replace("0001", "0002")]
        require_content(saving.load("0002$aaaaaaaaaaaa:0"), 1)


def test_what_is_replaced_while_it_is_loaded_comes_as_it_is_now(workspace: Workspace) -> None:
    registry = workspace.registry("wheat", "0001")
    name = registry.register({"n": 1}, "0001$aaaaaaaaaaaa:0", "model").artifact_id
    seen = find.require(workspace.database, name, "wheat")
    registry.register({"n": 2}, name, "model")
    workspace.gc()
    assert load.load(workspace.database, seen) == {"n": 2}
    registry.delete_pipeline_artifacts("0001", delete_files=True)
    with pytest.raises(ArtifactNotFoundError):
        load.load(workspace.database, seen)
