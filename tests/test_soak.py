"""A long life of one file: whatever is done to it for however long, it holds what it must, and nothing grows."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from artifactdb import Workspace
from artifactdb.catalog import engine
from artifactdb.catalog.files import live_files
from tests.campaigns.soak import campaign
from tests.campaigns.soaking.watching import MEASURES, WINDOWS, Series, judge


@pytest.mark.slow
def test_a_file_is_sound_and_alone_after_two_processes_did_everything_to_it(tmp_path: Path) -> None:
    in_memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    judged = campaign(minutes=0.03, out=tmp_path / "soak.png", report=lambda text: None, folder=in_memory)
    assert set(judged) >= {"file", "wal", "catalog", "memory, first", "descriptors, second", "temporary"}
    assert (tmp_path / "soak.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_descriptors_and_temporary_files_are_left_over_after_two_minutes() -> None:
    judged = campaign(minutes=2)
    for name in ("descriptors, first", "descriptors, second", "temporary"):
        assert not judged[name].grows, judged[name]


class TestWhatGrows:
    """One hour of memory: 400 MB, with noise."""

    memory = MEASURES["memory, first"]
    minutes = np.arange(WINDOWS) + 0.5
    noise = 400 + np.random.default_rng(0).normal(scale=15, size=WINDOWS)

    def grows(self, values: np.ndarray) -> bool:
        judged = judge(self.memory, Series(list(self.minutes * 60), list(values)), 3600)
        return judged is not None and judged.grows

    def test_what_grows_slowly_to_the_end_is_found_in_the_noise(self) -> None:
        assert self.grows(self.noise + 1.5 * self.minutes)

    def test_what_is_flat_or_shrinks_passes(self) -> None:
        assert not self.grows(self.noise)
        assert not self.grows(self.noise - self.minutes)

    def test_warming_up_is_no_growth(self) -> None:
        assert not self.grows(self.noise - 300 * np.exp(-self.minutes / 4))

    def test_a_few_high_samples_are_no_growth(self) -> None:
        assert not self.grows(np.where(np.isin(np.arange(WINDOWS), [40, 50, 58]), 900, self.noise))


def test_collecting_waits_while_another_connection_folds_the_log_in(workspace: Workspace) -> None:
    # SQLite itself would not: it gives up at once, whatever the busy timeout.
    is_folding, may_go_on = threading.Event(), threading.Event()

    class SlowDisk(apsw.VFSFile):
        def xSync(self, flags: int) -> None:  # noqa: N802
            is_folding.set()
            may_go_on.wait(30)
            super().xSync(flags)

    class SlowDisks(apsw.VFS):
        def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
            return SlowDisk("", name, flags)

    slow = SlowDisks("slow", "")
    registry = workspace.registry("wheat", "0001_a")
    registry.register_with_chain({"window": 11}, "s1.Smooth", "transformer", 1)
    other = apsw.Connection(str(workspace.path), vfs="slow")
    other.execute("SELECT * FROM records").fetchall()
    folding = threading.Thread(target=other.wal_checkpoint)
    folding.start()
    assert is_folding.wait(30)
    registry.delete_pipeline_artifacts("0001_a")
    done = threading.Timer(0.2, may_go_on.set)
    done.start()
    try:
        assert len(workspace.gc()) == 1
    finally:
        for thread in (done, folding):
            thread.join()
        other.close()
        slow.unregister()


def test_what_is_remembered_of_catalog_files_goes_when_they_are_gone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_GONE_AT_MOST", 2)
    catalog = workspace.catalog
    for number in range(12):
        catalog.add(dataset_name="wheat", model_name=f"m{number}", partition="val", metric="rmse", val_score=number)
        catalog.flush()
        assert len(catalog.top(20, "rmse")) == number + 1
    live = live_files(workspace.database)
    assert set(catalog._store.inspector._seen) == {file.file_key for file in live}
    assert len(catalog._store.engine._names) <= 2 * len(live) + 2 + len(live)


@pytest.mark.campaign
def test_adding_deleting_and_flushing_for_long_leaves_few_files_and_no_list_of_deletions(workspace: Workspace) -> None:
    catalog, kept = workspace.catalog, []
    files = []
    for number in range(24):
        rows = [
            {"dataset_name": "wheat", "model_name": f"m{number}", "fold_id": fold, "partition": "val",
             "metric": "rmse", "val_score": number, "y_pred": np.arange(5.0) + number + fold / 8}
            for fold in range(4)
        ]  # fmt: skip
        kept.append(catalog.add_many(rows))
        if len(kept) > 3:
            assert catalog.delete(kept.pop(0)) == 4
        catalog.flush()
        files.append(len([file for file in live_files(workspace.database) if file.kind == "meta"]))
    assert max(files) <= 5, "each row moves a few times only, and so there are a few files"
    assert workspace.database.value("SELECT count(*) FROM deleted_predictions") <= 4 * 5
    catalog.compact()
    assert {row["id"] for row in catalog.filter().to_dicts()} == {name for batch in kept for name in batch}
    assert workspace.sql("SELECT count(*) FROM arrays")[0] == (12,), "those of deleted predictions are gone"
    assert set(catalog.arrays(kept[0])) == set(kept[0])
