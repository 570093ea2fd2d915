"""The catalog between processes and threads: readers in the middle, writers at once, kills, a full disk."""

from __future__ import annotations

import multiprocessing
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from artifactdb import ArtifactDBError, StorageFullError, Workspace

SPAWN = multiprocessing.get_context("spawn")


def pair(number: int, sign: int) -> dict[str, Any]:
    return {
        "dataset_name": "pairs", "model_name": "m", "partition": "val", "op_counter": number, "step_idx": 1 + sign,
        "val_score": float(sign * number), "y_pred": np.full(3, float(number)),
    }  # fmt: skip


def write_pairs(path: Path, start: int, count: int, stop: Any) -> None:
    """Add rows in pairs whose scores add up to zero, and delete some pairs again."""
    with Workspace(path) as workspace:
        for number in range(start, start + count):
            ids = workspace.catalog.add_many([pair(number, 1), pair(number, -1)])
            if number % 5 == 0:
                workspace.catalog.delete(ids)
            if stop.is_set():
                break


def merge_forever(path: Path, stop: Any) -> None:
    with Workspace(path) as workspace:
        while not stop.is_set():
            workspace.catalog.flush()
            workspace.catalog.compact()


@pytest.mark.campaign
def test_readers_see_whole_transactions_while_others_write_flush_and_compact(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    Workspace(path).close()
    stop = SPAWN.Event()
    writers = [SPAWN.Process(target=write_pairs, args=(path, 1000 * (n + 1), 60, stop)) for n in range(2)]
    mergers = [SPAWN.Process(target=merge_forever, args=(path, stop)) for _ in range(2)]
    for process in [*writers, *mergers]:
        process.start()
    looks = 0
    try:
        with Workspace(path, mode="ro") as workspace:
            while any(process.is_alive() for process in writers):
                count, total, ids = workspace.sql(
                    "SELECT count(*), coalesce(sum(val_score), 0), count(DISTINCT id) FROM predictions"
                )[0]
                assert total == 0 and count % 2 == 0 and ids == count, "half a transaction was seen"
                arrays = workspace.sql(
                    "SELECT count(*) FROM predictions AS p ANTI JOIN arrays AS a ON a.array_id = p.y_pred_id"
                )
                assert arrays[0] == (0,), "a prediction was seen without its array"
                looks += 1
    finally:
        stop.set()
        for process in [*writers, *mergers]:
            process.join(60)
    assert [process.exitcode for process in [*writers, *mergers]] == [0] * 4
    assert looks >= 3
    with Workspace(path) as workspace:
        assert len(workspace.catalog) == 2 * 2 * 60 * 4 // 5
        workspace.catalog.compact()
        names = sorted(entry.name for entry in workspace.catalog.folder.iterdir())
        assert names == ["predictions_data.parquet", "predictions_meta.parquet"]
        assert workspace.verify().ok


@pytest.mark.campaign
def test_threads_and_joblib_workers_add_and_ask(tmp_path: Path) -> None:
    with Workspace(tmp_path / "study.sqlite") as workspace:
        catalog = workspace.catalog
        errors: list[BaseException] = []

        def work(start: int) -> None:
            try:
                for number in range(start, start + 10):
                    catalog.add(**pair(number, 1))
                    assert len(catalog.filter(op_counter=number)) == 1
                    if number % 4 == 0:
                        catalog.flush()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(1, 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        joblib.Parallel(n_jobs=2)(joblib.delayed(catalog.add)(**pair(number, 1)) for number in range(1000, 1010))
        assert len(catalog) == 40
        assert workspace.verify().ok


def fill(path: Path, limit: int, what: str, answer: Any) -> None:
    """Merge where no file may grow beyond a size, as on a disk that is full."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    workspace = Workspace(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        getattr(workspace.catalog, what)()
        answer.put("done")
    except StorageFullError as error:
        answer.put(str(error))
    except BaseException as error:
        answer.put(f"another error: {error!r}")
    workspace.database.close()


@pytest.mark.campaign
@pytest.mark.parametrize("what", ["flush", "compact"])
def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, what: str) -> None:
    path = tmp_path / "study.sqlite"
    with Workspace(path) as workspace:
        rng = np.random.default_rng(0)
        workspace.catalog.add_many(pair(number, 1) | {"y_pred": rng.normal(size=200)} for number in range(200))
        workspace.database.close()
    answers = SPAWN.Queue()
    process = SPAWN.Process(target=fill, args=(path, 100_000, what, answers))
    process.start()
    process.join(60)
    said = answers.get(timeout=5)
    assert "could not be written" in said or "could not be read or written" in said or "no room" in said, said
    with Workspace(path) as workspace:
        assert len(workspace.catalog) == 200
        assert list(workspace.catalog.folder.iterdir()) == [], "nothing half-written is left"
        workspace.catalog.compact()
        assert workspace.verify().ok


@pytest.mark.parametrize("failing", range(1, 60, 3))
def test_an_error_at_any_step_leaves_the_state_before_or_after(
    tmp_path: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th call of what touches the disk raises; the same object goes on working when the fault is gone."""
    from artifactdb.catalog import files, merging, parquet
    from artifactdb.database import disk

    calls = 0

    def faulty(function: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(5, "Input/output error")
            return function(*arguments, **options)

        return wrapped

    with Workspace(tmp_path / "study.sqlite") as workspace:
        catalog = workspace.catalog
        catalog.add_many(pair(number, 1) for number in range(20))
        catalog.compact()
        ids = catalog.add_many(pair(number, 1) for number in range(20, 30))
        catalog.delete(ids[0])
        with monkeypatch.context() as patched:
            for module, name in [
                (disk, "sync"), (disk, "link"), (disk, "remove"), (disk, "copy"), (parquet, "content_hash"),
                (merging, "enter"), (merging, "remove_unread"), (files, "footer_hash"),
                (parquet.pq.ParquetWriter, "close"), (parquet.pq.ParquetWriter, "write_table"),
            ]:  # fmt: skip
                patched.setattr(module, name, faulty(getattr(module, name)))
            with suppress(ArtifactDBError):
                catalog.compact()
        assert len(catalog) == 29
        catalog.compact()
        assert len(catalog) == 29
        assert workspace.verify().ok
        names = sorted(entry.name for entry in catalog.folder.iterdir())
        assert names == ["predictions_data.parquet", "predictions_meta.parquet"]


@pytest.mark.campaign
def test_an_export_keeps_what_it_reads_while_another_process_compacts(tmp_path: Path, in_new_process: Any) -> None:
    path = tmp_path / "study.sqlite"
    code = (
        "import sys; from artifactdb import Workspace; w = Workspace(sys.argv[1], timeout_s=0.5);"
        "w.catalog.compact(); w.close()"
    )
    with Workspace(path) as workspace:
        for number in range(3):
            workspace.registry("pairs", f"{number:04}").register(np.arange(3.0), f"{number:04}$aaaaaaaaaaaa:0", "model")
            workspace.catalog.add(**pair(number, 1) | {"dataset_name": "pairs"})
            workspace.catalog.flush()
        compacted = []

        def compact(done: int, total: int) -> None:
            if not compacted:
                compacted.append(in_new_process(code, path))

        workspace.export(tmp_path / "tree", progress=compact)
        assert compacted
        assert len(workspace.catalog) == 3
    with Workspace(tmp_path / "again.sqlite") as again:
        assert again.import_folder(tmp_path / "tree").predictions == 3
