"""What is left of a damaged workspace comes back: pages zeroed, files cut short, headers and schema destroyed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from artifactdb import (
    ArtifactDBError,
    InvalidValueError,
    NotAWorkspaceError,
    Recovery,
    UntrustedArtifactError,
    Workspace,
    recover,
)
from artifactdb.artifacts import delete
from tests import fresh
from tests.campaigns.studies import copied, make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("study") / "study.sqlite", weight=60)


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    return copied(study, tmp_path / study.name)


def page_bytes(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[16:18], "big")


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def contents(path: Path) -> dict[tuple[str, str], str]:
    """Every artifact with the hash of its content, in a workspace that must be sound."""
    with Workspace(path, mode="ro") as workspace:
        found = workspace.verify()
        assert found.ok, found.problems
        return {(record.dataset, record.artifact_id): record.content_hash for record in workspace.records()}


def readable(path: Path) -> set[tuple[str, str]]:
    """The artifacts whose record and content SQLite itself can still read by key: it is asked one by one."""
    found = set()
    connection = apsw.Connection(f"file:{path}?immutable=1", apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    for key in range(1, 100):
        try:
            rows = connection.execute(
                "SELECT d.name, r.artifact_id, r.blob_key FROM records AS r JOIN datasets AS d USING (dataset_key) "
                "WHERE r.record_key = ?", (key,),
            ).fetchall()  # fmt: skip
            for dataset, artifact_id, blob in rows:
                parts = connection.execute("SELECT part_key FROM blob_parts WHERE blob_key = ?", (blob,)).fetchall()
                for (wanted,) in [(blob,), *parts]:
                    chunks = connection.execute("SELECT payload FROM chunks WHERE blob_key = ?", (wanted,)).fetchall()
                    size = connection.execute("SELECT stored_bytes FROM blobs WHERE blob_key = ?", (wanted,)).fetchall()
                    assert chunks
                    assert sum(len(payload) for (payload,) in chunks) == size[0][0]
                    assert not any(bytes(512) in payload for (payload,) in chunks)
                found.add((dataset, artifact_id))
        except (apsw.Error, AssertionError, IndexError, TypeError):
            continue
    connection.close()
    return found


def check_recovery(study: Path, damaged: Path, target: Path) -> Recovery:
    """Nothing that can be read is lost, nothing that is lost goes unsaid, and what is saved is sound."""
    before, expected = contents(study), readable(damaged)
    content = damaged.read_bytes()
    recovery = recover(damaged, target)
    assert damaged.read_bytes() == content
    saved = contents(target)
    assert saved.items() <= before.items()
    assert expected <= saved.keys()
    lost = {artifact_id for _, artifact_id in before.keys() - saved.keys()}
    assert lost == {gone.artifact_id for gone in recovery.gone}
    return recovery


def zero_each(study: Path, tmp_path: Path, pages: range) -> None:
    size = page_bytes(study)
    for page in pages:
        folder = tmp_path / str(page)
        folder.mkdir()
        damaged = copied(study, folder / study.name)
        overwrite(damaged, (page - 1) * size, bytes(size))
        recovery = check_recovery(study, damaged, folder / "saved.sqlite")
        assert len(recovery.gone) <= 30, (page, recovery)
        shutil.rmtree(folder)


def pages_of(study: Path) -> int:
    return study.stat().st_size // page_bytes(study)


@pytest.mark.campaign
def test_whatever_page_is_zeroed_all_that_lies_elsewhere_comes_back(study: Path, tmp_path: Path) -> None:
    zero_each(study, tmp_path, range(1, pages_of(study) + 1, 90))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_page_zeroed_in_turn_all_that_lies_elsewhere_comes_back(study: Path, tmp_path: Path) -> None:
    zero_each(study, tmp_path, range(1, pages_of(study) + 1))


@pytest.mark.parametrize("version", [1, 4, 200])
def test_a_header_that_says_another_schema_costs_nothing(study: Path, copy: Path, tmp_path: Path, version: int) -> None:
    overwrite(copy, 60, version.to_bytes(4, "big"))
    recovery = recover(copy, tmp_path / "saved.sqlite")
    assert recovery.ok, recovery
    assert contents(tmp_path / "saved.sqlite") == contents(study)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_file_that_was_cut_short_gives_what_lies_before_the_cut(
    study: Path, copy: Path, tmp_path: Path, share: float
) -> None:
    os.truncate(copy, int(copy.stat().st_size * share))
    recovery = check_recovery(study, copy, tmp_path / "saved.sqlite")
    assert not recovery.ok


@pytest.mark.parametrize("size", [16, 100, 4096, 2 * 4096])
def test_a_file_whose_beginning_is_gone_gives_all_that_lies_behind(
    study: Path, copy: Path, tmp_path: Path, size: int
) -> None:
    overwrite(copy, 0, bytes(size))
    recovery = check_recovery(study, copy, tmp_path / "saved.sqlite")
    assert recovery.saved["artifacts"] == len(contents(study)) - len(recovery.gone)
    assert not recovery.gone


def test_of_a_small_file_whose_first_tables_are_gone_content_and_records_come_back(
    study: Path, copy: Path, tmp_path: Path
) -> None:
    overwrite(copy, 0, bytes(20 * 4096))  # names of datasets and pipelines, chains, parameters, hashes of blobs
    recovery = recover(copy, tmp_path / "saved.sqlite")
    hashes = {artifact_id: digest for (_, artifact_id), digest in contents(study).items()}
    assert {artifact_id: digest for (_, artifact_id), digest in contents(tmp_path / "saved.sqlite").items()} == hashes
    assert {incomplete.artifact_id for incomplete in recovery.incomplete} == hashes.keys()
    assert not recovery.gone


def test_what_is_whole_comes_back_whole(study: Path, copy: Path, tmp_path: Path) -> None:
    recovery = check_recovery(study, copy, tmp_path / "saved.sqlite")
    assert recovery.ok
    assert answers(tmp_path / "saved.sqlite") == answers(study)


def answers(path: Path) -> dict[str, Any]:
    """What the public views say, and every prediction."""
    views = (
        "artifacts",
        "folds",
        "dependencies",
        "lineage_up",
        "shared_blobs",
        "runs",
        "pipelines_with_runs",
        "metrics",
        "library",
    )
    with Workspace(path, mode="ro") as workspace:
        found: dict[str, Any] = {view: sorted(workspace.query(f"SELECT * FROM {view}"), key=repr) for view in views}
        found["events"] = [
            event
            for event in workspace.query("SELECT act, artifact_id, details FROM events ORDER BY 2, 1")
            if event[0] != "recovered"
        ]
        found["predictions"] = sorted(workspace.sql("SELECT id, val_score, y_pred_id FROM predictions"))
        found["arrays"] = sorted(workspace.sql("SELECT array_id, array_size FROM arrays"))
        return found


def test_objects_load_from_a_recovered_workspace_without_being_asked_about(
    study: Path, copy: Path, tmp_path: Path
) -> None:
    overwrite(copy, 0, bytes(4096))
    recover(copy, tmp_path / "saved.sqlite")
    with Workspace(study, mode="ro") as before, Workspace(tmp_path / "saved.sqlite") as workspace:
        for record in workspace.records(dataset="wheat", class_name="PLSRegression"):
            model, original = (each.load(record.artifact_id, dataset="wheat") for each in (workspace, before))
            assert np.array_equal(model.coef_, original.coef_)


def test_the_table_of_blobs_is_counted_again_from_its_index_and_the_chunks(
    study: Path, copy: Path, tmp_path: Path
) -> None:
    overwrite(copy, 16 * 4096, bytes(4096))  # page 17, where `blobs` begins
    recovery = check_recovery(study, copy, tmp_path / "saved.sqlite")
    assert not recovery.gone


def test_records_whose_page_is_gone_are_made_again_of_the_indexes(tmp_path: Path) -> None:
    study = make_study(tmp_path / "small.sqlite", 1, 2)
    before = contents(study)
    with Workspace(study, mode="ro") as workspace:
        branches = sorted(workspace.query("SELECT artifact_id, step_index, branch_path, fold_id FROM artifacts"))
    overwrite(study, 23 * 4096, bytes(4096))  # page 24, where `records` begins: all of them lie in it
    recovery = recover(study, tmp_path / "saved.sqlite")
    assert contents(tmp_path / "saved.sqlite") == before
    assert {incomplete.artifact_id for incomplete in recovery.incomplete} == {name for _, name in before}
    assert not recovery.gone
    with Workspace(tmp_path / "saved.sqlite") as workspace:
        again = workspace.query("SELECT artifact_id, step_index, branch_path, fold_id FROM artifacts")
        assert sorted(again) == branches
        (model, *_) = workspace.records(dataset="wheat", class_name="PLSRegression", fold_id=0)
        with pytest.raises(UntrustedArtifactError):  # nobody vouches for it any more
            workspace.load(model.artifact_id, dataset="wheat")
        workspace.trust(model.artifact_id, dataset="wheat")
        assert type(workspace.load(model.artifact_id, dataset="wheat")).__name__ == "PLSRegression"


def test_a_file_that_is_written_meanwhile_is_said_to_be(copy: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from artifactdb import Workspace\n"
        "with Workspace(sys.argv[1]) as workspace:\n"
        "    workspace.registry('wheat', '0009').register({'a': 1}, '0009$aaaaaaaaaaaa:0', 'model')\n"
    )
    came: list[int] = []

    def somebody_comes(done: int, total: int) -> None:
        if not came:
            came.append(fresh.run(code, copy).returncode)

    assert recover(copy, tmp_path / "at rest.sqlite").notes == []
    recovery = recover(copy, tmp_path / "saved.sqlite", progress=somebody_comes)
    assert came == [0] and "written meanwhile" in recovery.notes[-1]


def test_a_lost_record_is_an_event_of_the_history(study: Path, copy: Path, tmp_path: Path) -> None:
    content = copy.read_bytes()
    with Workspace(study, mode="ro") as workspace:
        payload = workspace.database.value("SELECT payload FROM chunks ORDER BY length(payload) DESC LIMIT 1")
    overwrite(copy, content.index(payload[2000:2060]), b"\xff" * 8)
    recovery = recover(copy, tmp_path / "saved.sqlite")
    names = {(gone.dataset, gone.artifact_id) for gone in recovery.gone}
    assert names
    assert all(gone.has_record and gone.reason for gone in recovery.gone)
    assert contents(tmp_path / "saved.sqlite").keys() == contents(study).keys() - names
    with Workspace(tmp_path / "saved.sqlite") as workspace:
        lost = workspace.query("SELECT artifact_id FROM events WHERE act = 'lost'")
    assert {name for (name,) in lost} == {artifact_id for _, artifact_id in names}


def test_a_parquet_file_with_a_wrong_byte_gives_the_rows_whose_checksums_hold(
    study: Path, copy: Path, tmp_path: Path
) -> None:
    data = copy.with_name("study.catalog") / "predictions_data.parquet"
    overwrite(data, data.stat().st_size // 3, b"\xff\xfe\xfd")
    recovery = check_recovery(study, copy, tmp_path / "saved.sqlite")
    assert recovery.lost["arrays of predictions"] > 0
    assert recovery.saved["predictions"] == len(answers(study)["predictions"])


def test_parquet_files_are_found_when_nothing_names_them_any_more(study: Path, copy: Path, tmp_path: Path) -> None:
    overwrite(copy, 42 * 4096, bytes(4096))  # page 43, where `catalog_files` begins
    recover(copy, tmp_path / "saved.sqlite")
    assert answers(tmp_path / "saved.sqlite")["predictions"] == answers(study)["predictions"]


def test_a_packed_workspace_gives_the_predictions_inside_it(study: Path, tmp_path: Path) -> None:
    with Workspace(study, mode="ro") as workspace:
        packed = workspace.pack(tmp_path / "packed.sqlite")
    overwrite(packed, 0, bytes(512))
    recovery = recover(packed, tmp_path / "saved.sqlite")
    assert recovery.ok
    assert answers(tmp_path / "saved.sqlite")["arrays"] == answers(study)["arrays"]


def test_what_was_deleted_stays_deleted(copy: Path, tmp_path: Path) -> None:
    with Workspace(copy) as workspace:
        before = len(workspace.records(dataset="barley"))
        delete.delete_records(workspace.database, delete.records_of_dataset(workspace.database, "barley"), cascade=True)
        workspace.gc(release_space=False)
        workspace.database.close()
    assert before
    overwrite(copy, 0, bytes(4096))
    recover(copy, tmp_path / "saved.sqlite")
    assert {dataset for dataset, _ in contents(tmp_path / "saved.sqlite")} == {"wheat"}


def test_what_is_committed_in_the_write_ahead_log_counts(study: Path, tmp_path: Path, in_new_process: Any) -> None:
    path = tmp_path / "study.sqlite"
    in_new_process(
        "import os, sys\n"
        "from artifactdb import Workspace\n"
        "workspace = Workspace(sys.argv[1])\n"
        "registry = workspace.registry('wheat', '0001_a')\n"
        "registry.register_with_chain({'a': 1}, 's1.A', 'model', 1)\n"
        "print('done', flush=True)\n"
        "os._exit(0)\n", path,
    )  # fmt: skip
    assert path.with_name("study.sqlite-wal").stat().st_size > 0
    recovery = recover(path, tmp_path / "saved.sqlite")
    assert recovery.saved["artifacts"] == 1


def test_what_a_rollback_journal_takes_back_was_never_acknowledged(study: Path, copy: Path, tmp_path: Path) -> None:
    writer = apsw.Connection(str(copy))
    writer.pragma("journal_mode", "DELETE")
    writer.pragma("cache_spill", 1)
    writer.execute("BEGIN; UPDATE records SET custom_name = 'half'; DELETE FROM blobs; DELETE FROM history")
    writer.execute("CREATE TABLE other AS SELECT zeroblob(99999) FROM records")
    writer.cache_flush()
    dead = copied(copy, tmp_path / "dead.sqlite")
    shutil.copy(copy.with_name("study.sqlite-journal"), journal := dead.with_name("dead.sqlite-journal"))
    writer.execute("ROLLBACK")
    writer.close()
    assert b"half" in dead.read_bytes() and dead.stat().st_size > study.stat().st_size
    recovery = recover(dead, tmp_path / "saved.sqlite")
    assert recovery.ok, recovery
    assert answers(tmp_path / "saved.sqlite") == answers(study)
    journal.write_bytes(bytes(28) + journal.read_bytes()[28:])  # as one is left that has ended
    assert not recover(dead, tmp_path / "ended.sqlite").ok


def test_nothing_is_left_of_a_recovery_that_fails(copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    other.write_bytes(b"SQLite format 3\0" + bytes(9000))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(NotAWorkspaceError):
        recover(other, tmp_path / "saved.sqlite")
    with pytest.raises(InvalidValueError):
        recover(copy, other)
    with pytest.raises(ArtifactDBError):
        recover(tmp_path / "missing.sqlite", tmp_path / "saved.sqlite")
    assert sorted(tmp_path.iterdir()) == before
