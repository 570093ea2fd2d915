"""Where a catalog lies, who shares it, and who reads, forks or copies while others write."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artifactdb import BusyError, Catalog, InvalidValueError, ReadOnlyError, StorageError, Workspace
from artifactdb.catalog import copying, views
from artifactdb.catalog.files import catalog_folder, is_shared
from tests import fresh
from tests.campaigns.acts import prediction


def filled(path: Path, count: int = 3) -> Path:
    with Workspace(path) as workspace:
        workspace.catalog.add_many(prediction(number) for number in range(count))
    return path


class TestPlaces:
    def test_a_folder_of_any_name_changes_no_row(self, tmp_path: Path) -> None:
        place = filled(tmp_path / "model_name=XXX" / "fold_id=9")
        with Workspace(place) as workspace:
            assert workspace.sql("SELECT DISTINCT model_name FROM predictions").rows == [("PLS",)]
            workspace.catalog.compact()
            assert {row["fold_id"] for row in workspace.catalog.filter().to_dicts()} == {"0", "1", "2"}

    @pytest.mark.parametrize("name", ["run[1]", "run*1", "a?b", "it's"])
    def test_characters_of_patterns_stand_for_themselves(self, tmp_path: Path, name: str) -> None:
        filled(tmp_path / "run1", 5)
        place = filled(tmp_path / name)
        with Workspace(place) as workspace:
            assert len(workspace.catalog) == 3
            workspace.catalog.add(**prediction(9))
            workspace.catalog.compact()
            assert len(workspace.catalog) == 4 and not workspace.catalog.verify()

    def test_two_workspaces_never_share_a_folder(self, tmp_path: Path) -> None:
        files = [filled(tmp_path / name) for name in ("wheat.sqlite", "wheat.db")]
        for file in files:
            with Workspace(file) as workspace:
                assert len(workspace.catalog) == 3

    def test_a_link_leads_to_the_catalog_of_the_file(self, tmp_path: Path) -> None:
        file = filled(tmp_path / "v1.sqlite")
        link = tmp_path / "latest.sqlite"
        link.symlink_to(file)
        with Workspace(link) as workspace:
            workspace.catalog.add(**prediction(7))
        with Workspace(file) as workspace:
            assert len(workspace.catalog) == 4

    def test_looking_changes_nothing(self, tmp_path: Path) -> None:
        file = filled(tmp_path / "study.sqlite")
        leftover = file.with_suffix(".catalog") / "predictions_meta-0123456789abcdef.parquet"
        leftover.write_bytes(b"left over from a crash")
        with Workspace(file, mode="ro") as workspace:
            assert len(workspace.catalog) == 3
            for merge in (workspace.catalog.flush, workspace.catalog.compact):
                with pytest.raises(ReadOnlyError):
                    merge()
        assert leftover.exists()

    @pytest.mark.parametrize("staged", [0, 1])
    def test_the_second_name_that_a_compaction_left_goes_with_the_next_flush(self, tmp_path: Path, staged: int) -> None:
        with Workspace(filled(tmp_path / "study.sqlite")) as workspace:
            folder = workspace.catalog.folder
            (file,) = folder.glob("predictions_meta-*.parquet")
            (folder / "predictions_meta.parquet").hardlink_to(file)  # it died right behind this step
            workspace.catalog.add_many(prediction(number) for number in range(7, 7 + staged))
            workspace.catalog.flush()
            assert not (folder / "predictions_meta.parquet").exists()
            assert len(workspace.catalog) == 3 + staged and not workspace.catalog.verify()


class TestOthersInTheFolder:
    """What this workspace did not write stays, whatever its name."""

    @pytest.mark.parametrize("staged", [0, 1])
    def test_the_files_of_another_program_stay(self, tmp_path: Path, staged: int) -> None:
        other = filled(tmp_path / "other.sqlite")
        with Workspace(other) as workspace:
            workspace.catalog.compact()
        with Workspace(tmp_path / "study") as workspace:
            folder = workspace.catalog.folder
            shutil.copytree(other.with_suffix(".catalog"), folder)
            theirs = {path.name: path.read_bytes() for path in folder.iterdir()}
            workspace.catalog.add_many(prediction(number) for number in range(staged))
            workspace.catalog.flush()
            assert not workspace.catalog.compact(), "the names that it cannot have are not tried for again and again"
        assert {name: (folder / name).read_bytes() for name in theirs} == theirs
        with Workspace(tmp_path / "study") as workspace:
            assert len(workspace.catalog) == staged and not workspace.catalog.verify()
            for name in theirs:
                (folder / name).unlink()
            workspace.catalog.compact()
            assert sorted(path.name for path in folder.iterdir()) == (sorted(theirs) if staged else [])

    def test_what_a_lost_workspace_left_stays(self, tmp_path: Path) -> None:
        file = filled(tmp_path / "wheat.sqlite")
        file.unlink()
        left = sorted(file.with_suffix(".catalog").iterdir())
        with Workspace(filled(file, 2)) as workspace:
            workspace.catalog.compact()
            assert len(workspace.catalog) == 2
        assert left and all(path.exists() for path in left)

    def test_what_another_program_put_in_the_place_of_a_file_stays_when_that_is_given_up(self, tmp_path: Path) -> None:
        with Workspace(filled(tmp_path / "study")) as workspace:
            catalog = workspace.catalog
            catalog.compact()
            theirs, broken = (catalog.folder / f"predictions_{kind}.parquet" for kind in ("meta", "data"))
            theirs.unlink()
            pq.write_table(pa.table({"x": [1, 2]}), theirs)
            broken.write_bytes(broken.read_bytes()[:-9] + b"otherPAR1")
            assert catalog.compact(skip_damaged=True) and not catalog.compact(skip_damaged=True)
            catalog.add(**prediction(7))
            catalog.compact()
            assert pq.read_table(theirs).to_pydict() == {"x": [1, 2]}
            assert len(catalog) == 1 and workspace.verify().ok
            assert len(list(catalog.folder.iterdir())) == 3, "what is broken is nobody's, and was replaced"

    def test_two_workspaces_in_one_folder_leave_each_other_alone(self, tmp_path: Path) -> None:
        files = [filled(tmp_path / "wheat.sqlite", 3), tmp_path / "wheat"]
        with Workspace(files[0]) as workspace:
            workspace.pack(files[1])
        for number in range(2):
            for file in files:
                with Workspace(file) as workspace:
                    workspace.catalog.add(**prediction(10 + number))
                    workspace.catalog.compact()
        for file in files:
            with Workspace(file) as workspace:
                assert len(workspace.catalog) == 5 and workspace.verify().ok

    def test_a_copy_that_shares_the_folder_and_the_original_lose_nothing(self, tmp_path: Path) -> None:
        original, copy = tmp_path / "wheat.sqlite", tmp_path / "wheat"
        with Workspace(filled(original)) as workspace:
            workspace.catalog.compact()
        shutil.copy(original, copy)
        for file, number in ((original, 3), (copy, 3), (original, 4)):
            with Workspace(file) as workspace:
                workspace.catalog.add(**prediction(number))
                workspace.catalog.compact()
        for file, count in ((original, 5), (copy, 4)):
            with Workspace(file) as workspace:
                assert len(workspace.catalog) == count and workspace.verify().ok
        copy.unlink()
        with Workspace(original) as workspace:
            workspace.catalog.compact()
            assert sorted(path.name for path in workspace.catalog.folder.iterdir()) == [
                "predictions_data.parquet",
                "predictions_meta.parquet",
            ]

    def test_a_folder_is_shared_by_files_whose_names_give_one(self, tmp_path: Path) -> None:
        names = ("wheat", "wheat.sqlite", "wheat.db", "wheat.db.sqlite", "rye.sqlite", "catalog.sqlite", "pea.sqlite")
        with Workspace(tmp_path / "workspace.sqlite"):
            pass
        for name in names:
            shutil.copy(tmp_path / "workspace.sqlite", tmp_path / name)
        (tmp_path / "pea").write_text("notes, and no workspace")
        (tmp_path / "rye").symlink_to("rye.sqlite")
        (tmp_path / "oats").mkdir()
        files = [tmp_path / name for name in (*names, "workspace.sqlite", "oats.sqlite")]
        shared = [file.name for file in files if is_shared(catalog_folder(file), file)]
        assert shared == ["wheat", "wheat.sqlite", "wheat.db", "wheat.db.sqlite"]


@pytest.mark.skipif(os.name != "posix", reason="an open file can be moved")
class TestMoved:
    """Who has a workspace open that was moved, replaced or removed writes nowhere."""

    def test_the_one_in_its_place_is_left_alone(self, tmp_path: Path) -> None:
        file = filled(tmp_path / "wheat.sqlite")
        with Workspace(file) as workspace:
            workspace.backup(tmp_path / "copy.sqlite")
        still_open = Workspace(file)
        still_open.catalog.add(**prediction(7))
        for name in ("wheat.sqlite", "wheat.sqlite-wal", "wheat.sqlite-shm", "wheat.catalog"):
            (tmp_path / name).rename(tmp_path / name.replace("wheat", "old"))
        for name in ("sqlite", "catalog"):
            (tmp_path / f"copy.{name}").rename(tmp_path / f"wheat.{name}")
        assert fresh.run(_ADD_AND_COMPACT, file).returncode == 0
        with pytest.raises(StorageError, match="moved, replaced or removed"):
            still_open.registry("wheat", "0001").register_with_chain({"a": 1}, "s1.A", "transformer", 1)
        with pytest.warns(UserWarning, match="stay staged"):
            still_open.close()
        for name, count in (("wheat", 4), ("old", 4)):
            with Workspace(tmp_path / f"{name}.sqlite") as workspace:
                assert len(workspace.catalog) == count and workspace.verify().ok

    def test_what_was_saved_last_is_in_the_log_and_is_moved_along(self, tmp_path: Path) -> None:
        with Workspace(tmp_path / "wheat.sqlite") as workspace:
            workspace.library.save_template([], "first")
        workspace = Workspace(tmp_path / "wheat.sqlite")
        workspace.library.save_template([], "second")
        workspace.path.rename(tmp_path / "old.sqlite")
        with pytest.raises(StorageError, match=r"wheat.sqlite-wal, if it is there, holds what was saved last"):
            workspace.library.save_template([], "third")
        workspace.close()
        (tmp_path / "wheat.sqlite-wal").rename(tmp_path / "old.sqlite-wal")
        with Workspace(tmp_path / "old.sqlite") as workspace:
            assert [entry["name"] for entry in workspace.library.list_templates()] == ["first", "second"]
            assert workspace.verify().ok

    def test_a_removed_one_acknowledges_nothing(self, tmp_path: Path) -> None:
        workspace = Workspace(tmp_path / "wheat.sqlite")
        workspace.path.unlink()
        with pytest.raises(StorageError, match="moved, replaced or removed"):
            workspace.library.save_template([], "t")
        workspace.close()


_ADD_AND_COMPACT = """
import sys
from artifactdb import Workspace
from tests.campaigns.acts import prediction
with Workspace(sys.argv[1]) as workspace:
    workspace.catalog.add(**prediction(8))
    workspace.catalog.compact()
"""


@pytest.mark.parametrize("written", [b"", b"PAR1", b"PAR1" + 200 * b"x"])
def test_what_a_process_died_over_is_left_over_however_far_it_came(tmp_path: Path, written: bytes) -> None:
    with Workspace(filled(tmp_path / "study.sqlite")) as workspace:
        left = workspace.catalog.folder / "predictions_meta-0123456789abcdef.parquet"
        left.write_bytes(written)
        workspace.catalog.flush()
        assert not left.exists() and len(workspace.catalog) == 3


@pytest.mark.parametrize("stays", [True, False])
def test_files_of_before_they_said_whose_they_are_are_told_from_those_of_others(tmp_path: Path, stays: bool) -> None:
    with Workspace(filled(tmp_path / "study.sqlite")) as workspace:
        folder = workspace.catalog.folder
        (own,) = folder.glob("predictions_meta-*")
        rows = pq.read_table(own).replace_schema_metadata(None)
        pq.write_table(rows, folder / "predictions_meta.parquet", store_schema=stays)
        workspace.catalog.flush()
        assert (folder / "predictions_meta.parquet").exists() is stays


class TestForks:
    def test_a_forked_child_asks_by_itself_and_ends(self, tmp_path: Path) -> None:
        with Workspace(tmp_path / "study.sqlite") as workspace:
            workspace.catalog.add_many(prediction(number) for number in range(3))
            workspace.catalog.flush()
            assert len(workspace.catalog) == 3
            context = multiprocessing.get_context("fork")
            answers = context.Queue()
            child = context.Process(target=lambda: answers.put(len(workspace.catalog)))
            child.start()
            assert answers.get(timeout=30) == 3
            child.join(30)
            assert child.exitcode == 0
            idle = os.fork()
            if idle == 0:
                os._exit(0)
            assert os.waitpid(idle, 0)[1] == 0
            assert len(workspace.catalog) == 3, "the parent goes on"

    def test_a_child_that_exits_as_usual_takes_nothing_down(self, tmp_path: Path, in_new_process: Any) -> None:
        code = """
import os, sys
from artifactdb import Workspace
with Workspace(sys.argv[1]) as workspace:
    len(workspace.catalog)
    child = os.fork()
    if child == 0:
        sys.exit(0)
    print(os.waitpid(child, 0)[1], len(workspace.catalog))
"""
        assert in_new_process(code, filled(tmp_path / "study.sqlite")) == "0 3"

    def test_a_child_forked_during_a_flush_keeps_no_lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from artifactdb.catalog import merging

        with Workspace(tmp_path / "study.sqlite", timeout_s=2.0) as workspace:
            workspace.catalog.add_many(prediction(number) for number in range(3))
            children: list[int] = []
            publish = merging._publish

            def fork_first(*arguments: Any, **options: Any) -> None:
                child = os.fork()
                if child == 0:
                    time.sleep(30)
                    os._exit(0)
                children.append(child)
                publish(*arguments, **options)

            monkeypatch.setattr(merging, "_publish", fork_first)
            workspace.catalog.flush()
            monkeypatch.setattr(merging, "_publish", publish)
            try:
                workspace.catalog.add(**prediction(5))
                assert workspace.catalog.flush() == 1
            finally:
                for child in children:
                    os.kill(child, 9)
                    os.waitpid(child, 0)


class TestOthersMeanwhile:
    @pytest.fixture
    def catalog(self, workspace: Workspace) -> Catalog:
        workspace.catalog.add_many(prediction(number) for number in range(3))
        workspace.catalog.compact()
        return workspace.catalog

    def test_a_copy_is_of_one_state_though_another_compacts(
        self, workspace: Workspace, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copied_files = copying._copied_files

        def then_compact(*arguments: Any) -> Path | None:
            folder = copied_files(*arguments)
            monkeypatch.setattr(copying, "_copied_files", copied_files)
            with Workspace(workspace.path, timeout_s=0.2) as other:
                other.catalog.add(**prediction(8))
                other.catalog.flush()
            return folder

        monkeypatch.setattr(copying, "_copied_files", then_compact)
        workspace.backup(tmp_path / "copy.sqlite")
        with Workspace(tmp_path / "copy.sqlite") as copy:
            assert len(copy.catalog) == 4 and copy.verify().ok

    def test_a_copy_has_no_name_before_it_is_known_to_be_whole(
        self, workspace: Workspace, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that is killed meanwhile leaves no file of that name, which would be taken for a copy."""
        live_files, seen = copying.live_files, []

        def look(made: Any) -> Any:
            seen.append([path.name for path in tmp_path.glob("copy*")])
            return live_files(made)

        monkeypatch.setattr(copying, "live_files", look)
        workspace.backup(tmp_path / "copy.sqlite")
        assert seen == [[]]
        left = {path.name for path in tmp_path.iterdir()} - {path.name for path in workspace.path.parent.glob("study*")}
        assert left == {"copy.sqlite", "copy.catalog"}

    def test_a_reader_takes_a_newer_state_when_a_name_changed_hands(
        self, workspace: Workspace, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        live_files = views.live_files

        def then_compact(snapshot: Any) -> Any:
            found = live_files(snapshot)
            monkeypatch.setattr(views, "live_files", live_files)
            with Workspace(workspace.path) as other:
                other.catalog.add(**prediction(8))
                other.catalog.compact()
            return found

        monkeypatch.setattr(views, "live_files", then_compact)
        assert len(catalog) == 4

    def test_a_question_is_answered_while_another_thread_reads_files_whole(self, catalog: Catalog) -> None:
        inspector = catalog._store.inspector

        class FileKey(int):
            def __hash__(self) -> int:  # in the moment in which it is looked at
                inspector._whole[len(inspector._whole) + 1000] = ()
                return super().__hash__()

        inspector._whole = {FileKey(-1): ()}
        assert len(catalog) == 3

    def test_closing_does_not_wait_for_readers(self, tmp_path: Path) -> None:
        file = filled(tmp_path / "study.sqlite")
        with Workspace(file, mode="ro") as reader, reader.database.reading():
            reader.database.value("SELECT count(*) FROM catalog_files")
            writer = Workspace(file, timeout_s=20.0)
            writer.catalog.add(**prediction(8))
            started = time.monotonic()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                writer.close()
            assert time.monotonic() - started < 10
        with Workspace(file) as workspace:
            assert len(workspace.catalog) == 4

    def test_without_memory_to_move_them_predictions_stay_staged(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = workspace.catalog._store
        with monkeypatch.context() as patched:
            patched.setattr("artifactdb.catalog.catalog._FLUSH_ROWS", 1)
            patched.setattr(store, "writing_engine", store.new_engine("1MB"))
            rows = [
                {
                    "dataset_name": "d",
                    "model_name": "m",
                    "partition": "val",
                    "step_idx": n,
                    "y_pred": np.arange(2e3) + n,
                }
                for n in range(600)
            ]
            with pytest.warns(UserWarning, match="stay staged"):
                workspace.catalog.add_many(rows)
        assert len(workspace.catalog) == 600
        assert workspace.catalog.flush() == 600

    def test_adding_succeeds_though_its_flush_must_wait(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from artifactdb.catalog.files import only_writer

        monkeypatch.setattr("artifactdb.catalog.catalog._FLUSH_ROWS", 1)
        file = filled(tmp_path / "study.sqlite")
        with Workspace(file, timeout_s=0.2) as workspace:
            locked, done = threading.Event(), threading.Event()

            def hold() -> None:
                with only_writer(workspace.catalog.folder, 1.0):
                    locked.set()
                    done.wait(20)

            holder = threading.Thread(target=hold)
            holder.start()
            locked.wait(20)
            with pytest.warns(UserWarning, match="stay staged"):
                workspace.catalog.add(**prediction(8))
            with pytest.raises(BusyError):
                workspace.catalog.flush()
            done.set()
            holder.join()
            assert len(workspace.catalog) == 4


class TestValues:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"partition": "validation"}, "partition is one of train, val, test"),
            ({"metadata": np.array([object()])}, "cannot be written as JSON"),
            ({"dataset_name": "a\ud800"}, "UTF-8"),
        ],
    )
    def test_what_no_question_could_find_is_refused(
        self, workspace: Workspace, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InvalidValueError, match=message):
            workspace.catalog.add(**prediction(1) | changes)

    def test_arrays_are_json_too(self, workspace: Workspace) -> None:
        added = workspace.catalog.add(**prediction(1) | {"metadata": {"window": np.array([1, 2])}})
        assert workspace.catalog.get(added)["metadata"] == {"window": [1, 2]}

    def test_ids_that_are_none_are_refused(self, workspace: Workspace) -> None:
        with pytest.raises(InvalidValueError, match="an id is a text"):
            workspace.catalog.delete(5)  # type: ignore[arg-type]

    def test_a_place_that_cannot_be_written_is_said(self, workspace: Workspace, tmp_path: Path) -> None:
        from artifactdb import StorageFullError, WorkspaceNotFoundError

        found = workspace.sql("SELECT 1 AS one")
        with pytest.raises(WorkspaceNotFoundError, match="is not there"):
            found.write(tmp_path / "nowhere" / "x.csv")
        (tmp_path / "folder.csv").mkdir()
        with pytest.raises(StorageFullError, match="cannot be written"):
            found.write(tmp_path / "folder.csv")
        shutil.rmtree(tmp_path / "nowhere", ignore_errors=True)
