"""The workspace: one file, transactions that nest, SQL that cannot write, copies that are consistent."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from artifactdb import (
    ArtifactLoader,
    ArtifactRegistry,
    DependencyCycleError,
    InvalidValueError,
    MissingDependencyError,
    QueryError,
    ReadOnlyError,
    SerializationError,
    StorageError,
    Workspace,
    WorkspaceNotFoundError,
)
from artifactdb.database.session import _inside

CHAIN = "s1.MinMaxScaler>s3.PLSRegression"


def test_a_directory_and_a_file_are_both_workspaces(tmp_path: Path) -> None:
    with Workspace(tmp_path / "study") as workspace:
        assert workspace.path == tmp_path / "study" / "workspace.sqlite"
    with Workspace(tmp_path / "wheat.sqlite") as workspace:
        assert workspace.path == tmp_path / "wheat.sqlite"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["wheat.sqlite", "workspace.sqlite"]


class TestTransactions:
    def test_nothing_of_a_block_that_raises_remains(
        self, workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
    ) -> None:
        with pytest.raises(RuntimeError), workspace.transaction():
            registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
            registry.register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
            raise RuntimeError
        assert registry.get_all_records() == []
        assert workspace.query("SELECT count(*) FROM blobs")[0] == (0,)

    def test_closing_inside_a_block_is_refused_and_loses_nothing(
        self, workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
    ) -> None:
        with workspace.transaction():
            registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
            # What was written is not settled yet, and would look damaged.
            with pytest.raises(InvalidValueError, match="verify cannot run inside a transaction"):
                workspace.verify()
            with pytest.raises(InvalidValueError, match="inside a transaction"):
                workspace.close()
        assert len(registry.get_all_records()) == 1

    def test_an_inner_block_that_raises_takes_back_only_itself(
        self, workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
    ) -> None:
        with workspace.transaction():
            kept = registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
            with pytest.raises(RuntimeError), workspace.transaction():
                registry.register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
                raise RuntimeError
        assert registry.get_all_records() == [kept]

    def test_what_is_refused_inside_takes_back_nothing(
        self, workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
    ) -> None:
        with workspace.transaction():
            first = registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
            second = registry.register_with_chain(
                fitted["ridge"], "s1.Ridge", "model", 1, depends_on=[first.artifact_id]
            )
            with pytest.raises(DependencyCycleError):
                registry.register_with_chain(fitted["ridge"], CHAIN, "model", 3, depends_on=[second.artifact_id])
            with pytest.raises(MissingDependencyError):
                workspace.registry("barley", "0001").register_with_chain(
                    fitted["ridge"], "s1.Ridge", "model", 1, depends_on=["0001:1:0"]
                )
            with pytest.raises(SerializationError):
                registry.register_with_chain({"rows": (row for row in [1])}, "s2.Rows", "model", 2)
            for wrong in ({"meta_config": ["no", "sources"]}, {"branch_path": 0}, {"step_index": 2**70}):
                with pytest.raises(InvalidValueError):
                    registry.register_with_chain(
                        fitted["ridge"],
                        "s2.Ridge",
                        "model",
                        **{"step_index": 2, **wrong},
                        depends_on=[first.artifact_id],
                    )
        assert {record.artifact_id for record in workspace.records()} == {first.artifact_id, second.artifact_id}
        assert workspace.datasets() == ["wheat"]

    def test_a_block_without_a_savepoint_that_fails_half_way_takes_back_what_is_around_it(
        self, workspace: Workspace
    ) -> None:
        database = workspace.database

        def insert(name: str) -> None:
            database.insert("INSERT INTO datasets (name, created_at) VALUES (?, 'now')", (name,))

        def fail(*, half_way: bool) -> None:
            with suppress(RuntimeError), database.transaction(undo=False):
                if half_way:
                    insert("half")
                raise RuntimeError

        with database.transaction():
            insert("before")
            fail(half_way=False)
            with pytest.raises(StorageError, match="taken back"), database.transaction():
                insert("around")
                fail(half_way=True)
            insert("after")
        assert workspace.datasets() == ["after", "before"]
        with pytest.raises(StorageError, match="taken back"), database.transaction():
            insert("first")
            fail(half_way=True)
            with pytest.raises(StorageError, match="taken back"):
                insert("more")
        insert("again")
        assert workspace.datasets() == ["after", "again", "before"]

    def test_others_see_nothing_until_it_ends_and_a_query_inside_sees_it(
        self, workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any], file: Path
    ) -> None:
        count = "SELECT count(*) FROM artifacts"
        with Workspace(file) as other:
            with workspace.transaction():
                registry.register_with_chain(fitted["pls"], CHAIN, "model", 3)
                assert workspace.query(count)[0] == (1,)
                assert other.query(count)[0] == (0,)
            assert other.query(count)[0] == (1,)

    def test_a_query_inside_a_transaction_cannot_write_either(self, workspace: Workspace) -> None:
        with workspace.transaction():
            with pytest.raises(QueryError):
                workspace.query("INSERT INTO datasets (name, created_at) VALUES ('x', 'y')")
            with pytest.raises(QueryError):
                workspace.query("COMMIT")
        assert workspace.datasets() == []


class TestQueries:
    @pytest.mark.parametrize(
        "sql",
        [
            "DELETE FROM records",
            "INSERT INTO datasets (name, created_at) VALUES ('x', 'y')",
            "WITH x AS (SELECT 1) UPDATE datasets SET name = 'x'",
            "DROP TABLE records",
            "CREATE TEMP TABLE x (a)",
            "ATTACH ':memory:' AS other",
            "PRAGMA user_version = 9",
            "PRAGMA journal_mode = DELETE",
            "PRAGMA writable_schema(1)",
            "VACUUM INTO 'copy.sqlite'",
            "BEGIN IMMEDIATE",
            "SELECT load_extension('x')",
            "SELECT 1; DELETE FROM records",
            "REINDEX",
        ],
    )
    def test_whatever_writes_is_refused(self, workspace: Workspace, sql: str) -> None:
        with pytest.raises(QueryError):
            workspace.query(sql)

    def test_parameters_may_be_any_mapping_or_none(self, workspace: Workspace) -> None:
        assert workspace.query("SELECT :a", MappingProxyType({"a": np.int64(1)})).rows == [(1,)]
        assert workspace.query("SELECT ?, ?", np.array([0, 2])).rows == [(0, 2)]
        assert workspace.query("SELECT ?", np.array([0])).rows == [(0,)]
        assert workspace.query("SELECT 1", None).rows == [(1,)]  # type: ignore[arg-type]

    def test_wrong_sql_and_wrong_parameters_say_so(self, workspace: Workspace) -> None:
        for sql, params in (("SELEC 1", ()), ("SELECT * FROM nothing", ()), ("SELECT ?, ?", (1,))):
            with pytest.raises(QueryError):
                workspace.query(sql, params)

    def test_a_second_statement_is_refused_and_a_comment_is_none(self, workspace: Workspace) -> None:
        for sql in ("SELECT 1 AS a; SELECT 2 AS b", "SELECT name FROM datasets; SELECT 1"):
            with pytest.raises(QueryError, match="one statement"):
                workspace.query(sql)
        assert workspace.query("-- first\nSELECT 1 AS a; -- last").to_dicts() == [{"a": 1}]

    def test_columns_of_the_same_name_are_told_apart(self, workspace: Workspace) -> None:
        result = workspace.query("SELECT 1 AS a, 2 AS b, 3 AS a")
        assert result.to_dicts() == [{"a": 1, "b": 2, "a_1": 3}]
        assert result.to_polars().width == len(result.to_pandas().columns) == 3
        assert workspace.query("SELECT name, name FROM datasets").columns == ["name", "name_1"]

    def test_a_time_limit_stops_it_and_the_workspace_goes_on(self, workspace: Workspace) -> None:
        endless = "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"
        with pytest.raises(QueryError, match="longer"):
            workspace.query(endless, timeout_s=0.2)
        assert workspace.query("SELECT 1")[0] == (1,)

    def test_a_row_limit_marks_the_result(self, workspace: Workspace) -> None:
        numbers = "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 100) SELECT n FROM t"
        result = workspace.query(numbers, max_rows=10)
        assert (len(result), result.truncated) == (10, True)
        assert workspace.query(numbers).truncated is False

    def test_rows_turn_into_what_people_use(self, workspace: Workspace) -> None:
        result = workspace.query("SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, NULL")
        assert result.to_dicts() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
        assert result.to_pandas()["a"].tolist() == [1, 2]
        assert result.to_polars()["b"].to_list() == ["x", None]
        assert result.to_arrow().to_pylist() == result.to_dicts()
        empty = workspace.query("SELECT name, created_at FROM datasets")
        assert empty.columns == ["name", "created_at"]
        assert empty.to_arrow().num_rows == empty.to_polars().height == len(empty.to_pandas()) == 0
        assert "<table>" in result._repr_html_()
        assert len(workspace.query("SELECT hex(zeroblob(50000)) AS long")._repr_html_()) < 1000

    def test_a_column_of_several_types_is_text_where_columns_have_one(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        import pyarrow.parquet

        result = workspace.query("VALUES ('scale', 1, x'01'), (0.1, 2.5, 'a'), (NULL, NULL, NULL), (3, 1, 2)")
        texts, numbers = ["scale", "0.1", None, "3"], [1.0, 2.5, None, 1.0]
        written = pyarrow.parquet.read_table(result.write(tmp_path / "mixed.parquet"))
        for table in (result.to_arrow(), written):
            assert [column.to_pylist() for column in table.columns] == [texts, numbers, ["01", "a", None, "2"]]
        assert result.to_polars()["column1"].to_list() == texts
        with pytest.raises(InvalidValueError, match="ends in neither"):
            result.write(tmp_path / "mixed.txt")

    def test_named_parameters_and_views_answer_in_one_line(
        self, workspace: Workspace, registry: ArtifactRegistry, fold_models: list[Any]
    ) -> None:
        for fold, model in enumerate(fold_models):
            registry.register_with_chain(model, CHAIN, "model", 3, fold_id=fold)
        registry.register_with_chain(fold_models[0], "s9.Copy", "model", 9)
        folds = workspace.query("SELECT fold_id FROM folds WHERE chain_path = :chain ORDER BY 1", {"chain": CHAIN})
        assert [fold for (fold,) in folds] == [0, 1, 2, 3, 4]
        shared = workspace.query("SELECT artifact_id FROM shared_blobs")
        assert len(shared) == 2


class TestCopies:
    def test_a_backup_is_whole_while_another_thread_writes(
        self, workspace: Workspace, fitted: dict[str, Any], tmp_path: Path
    ) -> None:
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                registry = workspace.registry("wheat", f"{number:04}_x")
                with workspace.transaction():  # two artifacts or none
                    registry.register_with_chain({"n": number}, "s1.A", "model", 1)
                    registry.register_with_chain({"m": number, "x": fitted["pls"]}, "s2.B", "model", 2)
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            copies = [workspace.backup(tmp_path / f"copy{number}.sqlite") for number in range(5)]
        finally:
            stop.set()
            writer.join()
        for copy in copies:
            with Workspace(copy) as opened:
                assert opened.verify().ok
                assert opened.query("SELECT count(*) % 2 FROM records")[0] == (0,)
        assert not list(tmp_path.glob("*.unfinished*")) and not list(tmp_path.glob("copy*-wal"))

    def test_a_backup_does_not_overwrite(self, workspace: Workspace, tmp_path: Path) -> None:
        (tmp_path / "there.sqlite").write_text("precious")
        with pytest.raises(InvalidValueError, match="there already"):
            workspace.backup(tmp_path / "there.sqlite")
        assert (tmp_path / "there.sqlite").read_text() == "precious"
        with pytest.raises(WorkspaceNotFoundError):
            workspace.backup(tmp_path / "no" / "folder.sqlite")

    def test_sqlite_utils_gets_every_record_and_no_payload(
        self, workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
    ) -> None:
        registry.register_with_chain(fitted["forest"], CHAIN, "model", 3)
        for number in range(2):
            workspace.catalog.add(dataset_name="d", model_name="m", partition="val", op_counter=number, y_pred=[1.0])
            if number == 0:
                workspace.catalog.flush()
        database = workspace.sqlite_utils()
        assert [row["class_name"] for row in database["artifacts"].rows] == ["RandomForestRegressor"]
        assert not {"chunks", "staged_arrays"} & set(database.table_names())
        assert [row["op_counter"] for row in database["staged_predictions"].rows] == [1]
        assert {row["id_filter"] for row in database["catalog_files"].rows} == {b""}
        (row,) = database.query("SELECT artifact_size(content_hash) AS size, size_bytes FROM artifacts")
        assert row["size"] == row["size_bytes"] > 0
        database["records"].delete_where()  # a copy: nothing happens to the file
        assert len(workspace.records()) == 1
        copy = weakref.ref(database.conn)
        del database
        gc.collect()
        assert copy() is None

    def test_space_is_given_back_after_deletion(
        self, workspace: Workspace, registry: ArtifactRegistry, file: Path
    ) -> None:
        registry.register(np.random.default_rng(0).normal(size=500_000), "0001$aaaaaaaaaaaa:0", "model")
        before = file.stat().st_size + file.with_name(file.name + "-wal").stat().st_size
        registry.delete_pipeline_artifacts("0001")
        assert len(workspace.gc(dry_run=True)) == 2
        assert len(workspace.gc()) == 2
        assert before > 3_000_000
        assert file.stat().st_size < 350_000


class TestLife:
    def test_a_closed_workspace_says_so(self, file: Path) -> None:
        workspace = Workspace(file)
        workspace.close()
        assert "closed" in workspace._repr_html_()
        with pytest.raises(StorageError, match="closed"):
            workspace.stats()

    @pytest.mark.parametrize("made", [ArtifactRegistry, ArtifactLoader])
    def test_what_was_made_of_a_workspace_does_not_close_it(self, file: Path, made: Any) -> None:
        with Workspace(file) as workspace:
            made(workspace, "wheat").close()
            assert workspace.records() == []
        alone = made(file, "wheat")
        alone.close()
        with pytest.raises(StorageError, match="closed"):
            alone.import_from_manifest([], file.parent)

    def test_read_only_reads_and_does_not_write(self, file: Path, fitted: dict[str, Any]) -> None:
        with Workspace(file) as workspace:
            workspace.registry("wheat", "0001_x").register_with_chain(fitted["pls"], CHAIN, "model", 3)
        before = file.read_bytes()
        with Workspace(file, mode="ro") as workspace:
            assert len(workspace.records()) == 1
            assert workspace.verify().ok
            with pytest.raises(ReadOnlyError):
                workspace.registry("wheat", "0001_x").register_with_chain(fitted["ridge"], CHAIN, "model", 3)
        assert file.read_bytes() == before
        assert [path.name for path in file.parent.iterdir()] == [file.name]

    def test_reading_what_is_not_there_makes_nothing(self, file: Path) -> None:
        with pytest.raises(FileNotFoundError, match="artifactdb init"):
            Workspace(file, mode="ro")
        assert not file.exists()

    def test_it_shows_itself_without_running_what_it_holds(self, workspace: Workspace) -> None:
        workspace.registry("<script>alert(1)", "0001").register({"a": 1}, "0001$aaaaaaaaaaaa:0", "model")
        assert "study.sqlite" in repr(workspace)
        assert "<script>" not in workspace._repr_html_()
        assert "<script>" not in workspace.records()[0]._repr_html_()

    def test_an_engine_of_another_copy_reads_the_closed_file(self, file: Path, fitted: dict[str, Any]) -> None:
        with Workspace(file) as workspace:
            workspace.registry("wheat", "0001_x").register_with_chain(fitted["pls"], CHAIN, "model", 3)
        # Nothing of ours has the file open any more.
        connection = sqlite3.connect(file)
        assert connection.execute("SELECT class_name FROM artifacts").fetchall() == [("PLSRegression",)]
        connection.close()


def test_transactions_on_two_workspaces_may_be_nested(workspace: Workspace, tmp_path: Path) -> None:
    with Workspace(tmp_path / "other.sqlite") as other:
        with workspace.transaction():
            for step in range(12):
                with other.transaction():
                    other.registry("oat", "0001").register_with_chain({"o": step}, f"s{step}.O", "transformer", step)
                    workspace.registry("oat", "0001").register_with_chain([step], f"s{step}.O", "transformer", step)
                workspace.registry("rye", "0001").register_with_chain([step], f"s{step}.O", "transformer", step)
        assert (len(workspace.records()), len(other.records())) == (24, 12)
    assert len(_inside.get()) <= 2, "what has ended is forgotten"


def test_a_task_does_not_write_into_the_transaction_of_another(workspace: Workspace) -> None:
    registry = workspace.registry("wheat", "0001")
    began, tried = asyncio.Event(), asyncio.Event()
    acknowledged: list[str] = []

    async def taken_back() -> None:
        with workspace.transaction():
            registry.register_with_chain({"a": 1}, "s1.A", "transformer", 1)
            began.set()
            await tried.wait()
            raise ZeroDivisionError

    async def beside() -> None:
        await began.wait()
        try:
            acknowledged.append(registry.register_with_chain({"b": 2}, "s2.B", "transformer", 2).artifact_id)
        finally:
            tried.set()

    async def both() -> list[Any]:
        return await asyncio.gather(taken_back(), beside(), return_exceptions=True)

    async def inside() -> None:
        with workspace.transaction():  # what a task begins within its transaction is a part of it
            await asyncio.wait_for(asyncio.gather(kept(3), kept(4)), 30)

    async def kept(step: int) -> None:
        registry.register_with_chain({"c": step}, f"s{step}.C", "transformer", step)

    failed, refused = asyncio.run(both())
    assert isinstance(failed, ZeroDivisionError)
    assert isinstance(refused, InvalidValueError) and "another task" in str(refused)
    assert not acknowledged and workspace.records() == []
    registry.register_with_chain({"b": 2}, "s2.B", "transformer", 2)
    with workspace.transaction():
        asyncio.run(inside())
    assert len(workspace.records()) == 3
