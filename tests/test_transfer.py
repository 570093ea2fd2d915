"""Whole workspaces: packed into one file, and merged into one."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifactdb import (
    ArtifactDBError,
    BusyError,
    CatalogFileError,
    CorruptBlobError,
    DependencyCycleError,
    DuplicateError,
    InvalidValueError,
    MetaModelConfig,
    NewerSchemaError,
    NotAWorkspaceError,
    ReadOnlyError,
    StorageFullError,
    Workspace,
    WorkspaceNotFoundError,
)
from tests import fresh
from tests.campaigns.studies import copied

GOLDEN = Path(__file__).parent / "golden"
BIG = np.arange(30_000.0)


def fill(workspace: Workspace, fitted: dict[str, Any], dataset: str = "wheat", *, only: str = "") -> None:
    """A study: a shared scaler, fold models, a stack, large arrays, predictions in files and staged, a library."""
    with workspace.run(dataset, name=f"run{only}") as run, run.pipeline([only], name="study") as pipeline:
        registry = pipeline.registry
        scaler = registry.register_with_chain(fitted["scaler"], "s1.StandardScaler", "transformer", 1)
        models = [
            registry.register_with_chain(
                fitted[name], f"s2.{name}", "model", 2, fold_id=0, depends_on=[scaler.artifact_id]
            ).artifact_id
            for name in ("pls", "forest", "svr")
        ]
        registry.register_with_chain(
            {"big": BIG, "other": BIG + 1, "only": only}, "s3.Meta", "meta_model", 3,
            meta_config=MetaModelConfig.of_sources(models, list("abc")),
        )  # fmt: skip
        pipeline.log_metrics({"val": {"rmse": 0.5}})
        workspace.catalog.add_many(prediction(dataset, pipeline.pipeline_id, fold) for fold in range(5))
        workspace.catalog.flush()
        workspace.catalog.add(**prediction(dataset, pipeline.pipeline_id, 5))
    workspace.library.save_pipeline_full(dataset, pipeline.pipeline_id, f"kept{only}")
    workspace.library.save_template({"a": 1}, "template")


def prediction(dataset: str, pipeline_id: str, fold: int) -> dict[str, Any]:
    return {
        "dataset_name": dataset, "pipeline_uid": pipeline_id, "model_name": "m", "fold_id": fold, "partition": "val",
        "metric": "rmse", "val_score": [0.5, float("nan"), None, 0.25, float("inf"), 0.1][fold],
        "y_true": np.arange(4.0), "y_pred": np.arange(4, dtype=np.float32) * fold,
    }  # fmt: skip


QUESTIONS = (
    "SELECT artifact_id, dataset, chain_path, fold_id, artifact_type, class_name, parameters, content_hash, format, "
    "versions, created_at FROM artifacts ORDER BY 1, 2",
    "SELECT artifact_id, dataset, position, depends_on FROM dependencies ORDER BY 1, 2, 3",
    "SELECT run_id, name, dataset, status, pipelines, artifacts, versions FROM runs ORDER BY 1",
    "SELECT pipeline_id, dataset, run_id, status, configuration, artifacts FROM pipelines_with_runs ORDER BY 1, 2",
    'SELECT pipeline_id, dataset, "partition", fold_id, metric, value FROM metrics ORDER BY 1, 2, 3, 4, 5',
    "SELECT name, type, config, metrics, source, artifacts FROM library ORDER BY 1, 2",
)


def content(workspace: Workspace) -> list[Any]:
    """All that a workspace says, in an order of its own."""
    said: list[Any] = [workspace.query(question).rows for question in QUESTIONS]
    rows = workspace.catalog.filter().to_dicts()
    said.append(sorted(map(repr, rows)))
    arrays = workspace.catalog.arrays([row["id"] for row in rows]) if rows else {}
    each = ((key, name, a) for key, named in arrays.items() for name, a in named.items() if a is not None)
    said.append(sorted((key, name, str(a.dtype), a.tobytes()) for key, name, a in each))
    return said


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, fitted: dict[str, Any]) -> Callable[..., Path]:
    """A filled workspace that is closed, one for each way to fill it."""

    @cache
    def fill_one(**given_: Any) -> Path:
        workspace = Workspace(tmp_path_factory.mktemp("filled") / "study.sqlite")
        fill(workspace, fitted, **given_)
        workspace.database.close()  # without moving the staged rows
        return workspace.path

    return fill_one


@pytest.fixture
def made(tmp_path: Path, filled: Callable[..., Path]) -> Iterator[Callable[..., Workspace]]:
    opened = []

    def make(name: str, **given_: Any) -> Workspace:
        file = tmp_path / f"{name}.sqlite"
        if given_:
            copied(filled(**given_), file)
        opened.append(Workspace(file))
        return opened[-1]

    yield make
    for workspace in opened:
        workspace.close()
        with Workspace(workspace.path, mode="ro") as again:
            assert again.verify().ok


class TestPack:
    def test_one_file_holds_everything_and_nothing_orphaned(
        self, made: Callable[..., Workspace], tmp_path: Path, fitted: dict[str, Any]
    ) -> None:
        workspace = made("study", only="x")
        registry = workspace.registry("wheat", "0009_gone")
        registry.register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
        registry.delete_pipeline_artifacts("0009_gone")
        workspace.catalog.delete(fold_id=0)
        assert workspace.orphans()
        folder = tmp_path / "post"
        folder.mkdir()
        packed = workspace.pack(folder / "study.sqlite")
        assert [path.name for path in folder.iterdir()] == ["study.sqlite"]
        with Workspace(packed) as other:
            assert content(other) == content(workspace)
            assert other.orphans() == []
            assert other.verify().ok
            assert other.query("PRAGMA freelist_count")[0] == (0,)
            assert other.library.load("keptx").keys() == workspace.library.load("keptx").keys()
        assert [path.name for path in folder.iterdir()] == ["study.sqlite"]

    def test_a_packed_file_is_used_like_any_other(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        packed = made("study", only="").pack(tmp_path / "packed.sqlite")
        with Workspace(packed) as workspace:
            before = len(workspace.catalog)
            workspace.catalog.add(**prediction("wheat", "0002", 3))
            workspace.catalog.delete(fold_id=4)
            assert len(workspace.catalog) == before
            assert workspace.catalog.flush() == 1
            assert len(workspace.catalog) == before
            workspace.backup(tmp_path / "copy.sqlite")
            workspace.catalog.compact()
            assert sorted(p.name for p in (tmp_path / "packed.catalog").iterdir()) == [
                "predictions_data.parquet", "predictions_meta.parquet",
            ]  # fmt: skip
            assert workspace.query("SELECT count(*) FROM catalog_payloads")[0] == (0,)
            assert len(workspace.catalog) == before
            assert workspace.verify().ok
        with Workspace(tmp_path / "copy.sqlite") as copy:
            assert len(copy.catalog) == before
            assert copy.verify().ok

    @pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
    def test_read_only_media_answer(self, made: Callable[..., Workspace], tmp_path: Path, in_new_process: Any) -> None:
        sealed = Path(tempfile.mkdtemp())  # where another user may look
        try:
            made("study", only="").pack(sealed / "study.sqlite").chmod(0o444)
            sealed.chmod(0o555)
            code = (
                "import os, sys\nimport artifactdb.catalog, artifactdb.catalog.catalog, duckdb, pyarrow.dataset\n"
                "from artifactdb import Workspace\n"
                "len(Workspace(sys.argv[2]).catalog)  # imports what it needs before the rights go\n"
                "if os.getuid() == 0:\n    os.setgid(65534); os.setuid(65534)\n"
                "with Workspace(sys.argv[1], mode='ro') as w:\n"
                "    print(len(w.catalog), len(w.records()), w.sql('SELECT count(*) FROM predictions')[0][0])"
            )
            assert in_new_process(code, sealed / "study.sqlite", tmp_path / "other.sqlite") == "6 5 6"
            assert [path.name for path in sealed.iterdir()] == ["study.sqlite"]
        finally:
            sealed.chmod(0o755)
            shutil.rmtree(sealed)

    def test_a_file_that_is_there_is_refused_unless_told(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        workspace = made("study", only="")
        target = tmp_path / "packed.sqlite"
        target.write_bytes(b"mine")
        with pytest.raises(InvalidValueError, match="is there already"):
            workspace.pack(target)
        assert target.read_bytes() == b"mine"
        workspace.pack(target, overwrite=True)
        with Workspace(target) as packed:
            assert len(packed.records()) == 5
        with pytest.raises(InvalidValueError, match="the workspace itself"):
            workspace.pack(workspace.path, overwrite=True)
        with pytest.raises(WorkspaceNotFoundError):
            workspace.pack(tmp_path / "nowhere" / "p.sqlite")

    @pytest.mark.skipif(sys.platform == "win32", reason="pipes and links of POSIX")
    def test_what_is_no_plain_file_stays_what_it_is(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        pipe, link, nowhere = tmp_path / "pipe", tmp_path / "link", tmp_path / "nowhere"
        os.mkfifo(pipe)
        (tmp_path / "kept.txt").write_text("kept")
        link.symlink_to(tmp_path / "kept.txt")
        nowhere.symlink_to(tmp_path / "nothing")
        workspace = made("ours")
        for target in (pipe, link, nowhere):
            for overwrite in (False, True):
                with pytest.raises(InvalidValueError):
                    workspace.pack(target, overwrite=overwrite)
            with pytest.raises(InvalidValueError):
                workspace.backup(target)
        assert pipe.is_fifo() and link.is_symlink() and nowhere.is_symlink()

    def test_a_wrong_byte_is_not_posted(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        workspace = made("study", only="")
        with workspace.transaction():
            workspace.database.rows(
                "UPDATE chunks SET payload = zeroblob(length(payload)) WHERE rowid = (SELECT max(rowid) FROM chunks)"
            )
        with pytest.raises(CorruptBlobError, match="sha256:"):
            workspace.pack(tmp_path / "packed.sqlite")
        assert sorted(path.name for path in tmp_path.iterdir() if "packed" in path.name) == []
        with workspace.transaction():  # so that the check at the end of the test passes
            workspace.registry("wheat").purge_dataset_artifacts(confirm=True)
            workspace.library.delete("kept")
        workspace.gc()

    @pytest.mark.campaign
    def test_a_full_disk_leaves_no_half_made_file(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        made("study", only="").close()
        code = (
            "import resource, sys\nfrom artifactdb import Workspace, ArtifactDBError\n"
            "w = Workspace(sys.argv[1], mode='ro')\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "try:\n    w.pack(sys.argv[2])\nexcept ArtifactDBError as error:\n    print(type(error).__name__)"
        )
        done = fresh.run(code, tmp_path / "study.sqlite", tmp_path / "packed.sqlite")
        assert done.stdout.strip() == StorageFullError.__name__, done.stderr
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
        assert [path.name for path in tmp_path.iterdir() if "packed" in path.name or path.name.startswith(".")] == []

    def test_an_older_file_is_packed(self, tmp_path: Path) -> None:
        shutil.copytree(GOLDEN / "schema_2.catalog", tmp_path / "old.catalog")
        with Workspace(shutil.copy(GOLDEN / "schema_2.sqlite", tmp_path / "old.sqlite")) as workspace:
            packed = workspace.pack(tmp_path / "packed.sqlite")
            with Workspace(packed, mode="ro") as other:
                assert content(other) == content(workspace)

    def test_what_an_older_file_left_beside_is_no_part_of_the_new_one(
        self, made: Callable[..., Workspace], tmp_path: Path
    ) -> None:
        workspace, target = made("study", only=""), tmp_path / "victim.sqlite"
        code = (
            "import os, signal, sys\nfrom artifactdb import Workspace\nw = Workspace(sys.argv[1])\n"
            "w.registry('old', '0001').register({'old': 1}, '0001$aaaaaaaaaaaa:0', 'model')\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        fresh.run(code, target)
        assert target.with_name("victim.sqlite-wal").exists()
        log = target.with_name("victim.sqlite-wal").read_bytes()
        for there in (True, False):
            if not there:
                target.unlink()
                target.with_name("victim.sqlite-wal").write_bytes(log)
            workspace.pack(target, overwrite=there)
            with Workspace(target) as packed:
                assert packed.datasets() == ["wheat"]
                assert packed.verify().ok

    def test_a_workspace_in_use_is_not_overwritten(self, made: Callable[..., Workspace]) -> None:
        workspace, other = made("study", only=""), made("other")
        with pytest.raises(BusyError, match="is in use"):
            workspace.pack(other.path, overwrite=True)
        other.registry("corn", "0001").register({"a": 1}, "0001$aaaaaaaaaaaa:0", "model")
        assert other.datasets() == ["corn"]

    def test_what_a_killed_pack_left_goes_with_the_next(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        workspace = made("study", only="")
        left = tmp_path / ".packed.sqlite.0123456789abcdef.unfinished"
        left.write_bytes(b"half")
        left.with_name(left.name + ".files").mkdir()
        workspace.pack(tmp_path / "packed.sqlite")
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_a_run_that_goes_on_is_interrupted_in_the_copy(
        self, made: Callable[..., Workspace], tmp_path: Path
    ) -> None:
        workspace = made("study")
        with workspace.run("wheat") as run, run.pipeline() as pipeline:
            with Workspace(workspace.pack(tmp_path / "packed.sqlite"), mode="ro") as packed:
                assert packed.runs()[0].status == packed.pipelines()[0].status == "interrupted"
            assert run.status == pipeline.record.status == "running"

    @pytest.mark.parametrize("name", ["x" * 300, "a\0b", "a\udcff.sqlite"])
    def test_a_name_that_no_file_can_have_is_refused(self, made: Callable[..., Workspace], name: str) -> None:
        with pytest.raises(InvalidValueError, match=r"no name for a file|UTF-8 cannot hold"):
            made("study").pack(name)

    def test_a_backup_has_a_name_that_utf8_holds(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        with pytest.raises(InvalidValueError, match="UTF-8 cannot hold"):
            made("study").backup(tmp_path / "a\udcff.sqlite")


class TestStrangers:
    """Files that were damaged or made up: an error of ours, and nothing taken in."""

    @pytest.mark.parametrize(
        "harm",
        [
            "UPDATE blobs SET size_bytes = size_bytes + 1",
            "UPDATE blobs SET size_bytes = max(size_bytes - 1, 0)",
            "UPDATE blobs SET stored_bytes = 1",
            "UPDATE chunks SET chunk_index = chunk_index + 1",
            "UPDATE chunks SET size_bytes = 1000000000000000",
            "UPDATE chunks SET shuffle = '[[8, 1]]'",
            "UPDATE chunks SET codec = 'other'",
            "DELETE FROM blob_parts",
            "DELETE FROM chunks",
            "UPDATE blob_parts SET part_key = (SELECT min(blob_key) FROM blobs)",
            "DELETE FROM blobs WHERE blob_key = 1",
            "DELETE FROM pipelines",
            "DELETE FROM datasets",
            "DELETE FROM chains",
            "DELETE FROM records WHERE record_key = 1",
            "UPDATE chains SET chain_hash = '000000000000'",
            "UPDATE records SET branch_path = 'a.b'",
            "UPDATE records SET meta_config = '[1]'",
            "UPDATE parameter_sets SET parameters = '[1, 2]' WHERE parameter_set_key = 1",
            "UPDATE environments SET versions = '[1]' WHERE environment_key = 2",
            "UPDATE library_entries SET metrics = '\"abc\"' WHERE entry_type <> 'template'",
            'UPDATE library_entries SET metrics = \'{"val": {"rmse": "abc"}}\'',
            "UPDATE library_artifacts SET record = '[]'",
            "UPDATE library_entries SET name = char(27) || '[31m' || name",
            "INSERT INTO record_sources VALUES (1, 9, 4)",
            "ALTER TABLE chunks RENAME TO c; CREATE VIEW chunks AS SELECT * FROM c",
        ],
    )
    def test_nothing_of_them_comes_in(self, made: Callable[..., Workspace], tmp_path: Path, harm: str) -> None:
        stranger = made("stranger", only="a").backup(tmp_path / "harmed.sqlite")
        connection = apsw.Connection(str(stranger))
        connection.pragma("ignore_check_constraints", True)
        connection.execute(harm)
        connection.close()
        ours = made("ours")
        with pytest.raises(ArtifactDBError):
            ours.merge(stranger)
        assert ours.records() == ours.runs() == ours.library.search() == []
        assert ours.query("SELECT count(*) FROM blobs")[0] == (0,)

    def test_an_array_under_the_id_of_another_is_refused(self, made: Callable[..., Workspace]) -> None:
        ours, theirs = made("ours"), made("theirs")
        for dtype in (np.float64, np.int64, np.float32, bool, np.complex64, np.uint64):
            theirs.catalog.add(
                dataset_name="d", model_name=str(dtype), partition="val", y_pred=np.arange(5).astype(dtype),
                y_true=np.array([np.nan, np.inf, -0.0, 2**60, 1]),
            )  # fmt: skip
        assert ours.merge(theirs, dry_run=True).added == {"predictions": 6}
        with theirs.transaction():
            theirs.database.rows("UPDATE staged_arrays SET data = zeroblob(length(data)) WHERE dtype = '<f8'")
        with pytest.raises(CatalogFileError, match="other content than its id says"):
            ours.merge(theirs)
        assert len(ours.catalog) == 0
        assert not ours.catalog.folder.exists()
        assert "other content than its id says" in str(theirs.verify().problems)
        theirs.catalog.delete([row["id"] for row in theirs.catalog.filter().to_dicts()])
        theirs.database.rows("DELETE FROM staged_arrays")

    @pytest.mark.parametrize("process", ["[1]", "null", "5", '{"pid": -1}'])
    def test_whatever_a_run_says_of_its_process_the_file_opens(
        self, made: Callable[..., Workspace], tmp_path: Path, process: str
    ) -> None:
        stranger = made("stranger", only="a").backup(tmp_path / "harmed.sqlite")
        connection = apsw.Connection(str(stranger))
        connection.execute("UPDATE run_entries SET status = 'running', process = ?", (process,))
        connection.close()
        with Workspace(stranger) as opened:
            assert opened.runs()[0].status in ("running", "interrupted")
        ours = made("ours")
        ours.merge(stranger)
        assert ours.runs()[0].status == "interrupted"


class TestMerge:
    @pytest.mark.parametrize("of_registry", [True, False])
    def test_taking_back_a_run_that_came_in_leaves_what_was_here(self, tmp_path: Path, of_registry: bool) -> None:
        def train(path: Path, *more: dict[str, Any], finished: bool) -> None:
            with Workspace(path) as workspace:
                registry = workspace.registry("wheat", pipeline_id="0001_pls")
                registry.start_run()
                for number, model in enumerate([{"w": [1.0]}, *more]):
                    registry.register_with_chain(model, f"s{number}.PLS", "model", number, fold_id=0)
                if finished:
                    registry.end_run()

        train(tmp_path / "ours.sqlite", finished=True)
        train(tmp_path / "theirs.sqlite", {"w": [2.0]}, finished=False)
        with Workspace(tmp_path / "ours.sqlite") as ours:
            ours.merge(tmp_path / "theirs.sqlite")
            assert len(ours.records()) == 2
            if of_registry:
                assert ours.registry("wheat", pipeline_id="0001_pls").cleanup_failed_run() == 1
            else:
                (theirs,) = [run.run_id for run in ours.runs() if run.status == "interrupted"]
                assert ours.clean_up_run(theirs)["artifacts"] == 1
            assert [ours.load(record.artifact_id) for record in ours.records()] == [{"w": [1.0]}]
            ours.merge(tmp_path / "theirs.sqlite")
            assert len(ours.records()) == 2

    @staticmethod
    def trained(file: Path, model: Any, *, finished: bool) -> str:
        """A run on wheat with one pipeline and one model; give its id."""
        with Workspace(file) as workspace:
            with suppress(RuntimeError), workspace.run("wheat") as run, run.pipeline([1], name="pls") as pipeline:
                pipeline.registry.register_with_chain(model, "s1.PLS", "model", 1)
                if not finished:
                    raise RuntimeError
            return run.run_id

    @pytest.mark.parametrize("policy", ["ours", "theirs", "newer"])
    @pytest.mark.parametrize("is_same", [True, False])
    def test_taking_back_a_run_of_ours_leaves_what_came_in(self, tmp_path: Path, policy: str, is_same: bool) -> None:
        ours, theirs = tmp_path / "ours.sqlite", tmp_path / "theirs.sqlite"
        mine = self.trained(ours, {"w": 1.0}, finished=False)
        their = self.trained(theirs, {"w": 1.0 if is_same else 2.0}, finished=True)
        with Workspace(ours) as workspace:
            workspace.merge(theirs, on_conflict=policy)
            came = is_same or policy != "ours"
            counted = {run.run_id: run.artifacts for run in workspace.runs()}
            assert counted == {mine: int(is_same or not came), their: int(came)}
            assert workspace.clean_up_run(mine)["artifacts"] == int(not came)
            found = [workspace.load(record.artifact_id) for record in workspace.records()]
            assert found == [{"w": 1.0 if is_same else 2.0}] * came
            assert [run.run_id for run in workspace.runs()] == [their] and workspace.verify().ok

    def test_what_theirs_made_outside_of_a_run_goes_with_none(self, tmp_path: Path) -> None:
        ours, theirs = tmp_path / "ours.sqlite", tmp_path / "theirs.sqlite"
        mine = self.trained(ours, {"w": 1.0}, finished=False)
        with Workspace(ours) as workspace, Workspace(theirs) as other:
            pipeline_id = workspace.pipelines()[0].pipeline_id
            other.registry("wheat", pipeline_id).register_with_chain({"w": 1.0}, "s1.PLS", "model", 1)
            assert workspace.merge(other).present["artifacts"] == 1
            assert workspace.clean_up_run(mine)["artifacts"] == 0 and len(workspace.records()) == 1

    def test_a_pipeline_that_ended_is_newer_than_the_same_while_it_went_on(self, tmp_path: Path) -> None:
        with Workspace(tmp_path / "server.sqlite") as server, Workspace(tmp_path / "laptop.sqlite") as laptop:
            with server.run("wheat") as run, run.pipeline([1], name="pls"):
                laptop.merge(server)
            (trained,) = server.pipelines()
            server.merge(laptop, on_conflict="newer")
            assert server.pipelines() == [trained] and trained.status == "completed"
            laptop.merge(server, on_conflict="newer")
            assert laptop.pipelines() == [trained] and laptop.runs() == server.runs()

    def test_everything_of_the_other_comes_in_once(self, made: Callable[..., Workspace]) -> None:
        ours, theirs = made("ours", dataset="wheat", only="a"), made("theirs", dataset="corn", only="b")
        contents = ours.query("SELECT count(*) FROM blobs")[0][0]
        merged = ours.merge(theirs.path)
        assert merged.conflicts == []
        assert merged.added == {
            "artifacts": 5, "runs": 1, "pipelines": 1, "metrics": 1, "library entries": 1, "predictions": 6,
        }  # fmt: skip
        assert merged.present == {"library entries": 1}
        assert sorted(ours.datasets()) == ["corn", "wheat"]
        assert [row for row in content(ours)[0] if row[1] == "corn"] == content(theirs)[0]
        for record in theirs.records():
            assert type(ours.load(record.artifact_id, "corn")) is type(theirs.load(record.artifact_id))
        # The scaler, the models and the large arrays are the same on both sides, and stored once.
        assert ours.query("SELECT count(*) FROM blobs")[0][0] == contents + 1
        assert ours.catalog.filter(dataset_name="corn").to_dicts()
        assert ours.records(parameter=("n_components", 4), dataset="corn")

    def test_again_it_adds_nothing(self, made: Callable[..., Workspace]) -> None:
        ours, theirs = made("ours", dataset="wheat", only="a"), made("theirs", dataset="corn", only="b")
        ours.merge(theirs)
        before = content(ours)
        again = ours.merge(theirs)
        assert (again.added, again.conflicts) == ({}, [])
        assert content(ours) == before

    def test_either_direction_gives_the_same(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        ours, theirs = made("ours", dataset="wheat", only="a"), made("theirs", dataset="wheat", only="b")
        copies = [Workspace(ours.backup(tmp_path / "o.sqlite")), Workspace(theirs.backup(tmp_path / "t.sqlite"))]
        ours.merge(copies[1])
        theirs.merge(copies[0])
        assert content(ours) == content(theirs)
        for copy in copies:
            copy.close()

    def test_the_same_artifact_made_twice_is_of_the_earlier_time(self, made: Callable[..., Workspace]) -> None:
        ours, theirs = made("ours"), made("theirs")
        for workspace in (theirs, ours):
            workspace.registry("wheat", "0001").register({"a": 1}, "0001$aaaaaaaaaaaa:0", "model")
        created = theirs.records()[0].created_at
        assert ours.merge(theirs).present == {"artifacts": 1}
        assert ours.records()[0].created_at == created

    @pytest.mark.parametrize(("policy", "expected"), [("ours", 1), ("theirs", 2), ("newer", 2), ("error", 1)])
    def test_conflicts_are_listed_and_follow_the_policy(
        self, made: Callable[..., Workspace], policy: str, expected: int
    ) -> None:
        ours, theirs = made("ours"), made("theirs")
        for number, workspace in enumerate((ours, theirs), start=1):
            workspace.registry("wheat", "0001").register({"a": number}, "0001$aaaaaaaaaaaa:0", "model")
            workspace.library.save_template({"a": number}, "template")
            workspace.catalog.add(dataset_name="w", model_name="m", partition="val", val_score=number, metric="r")
        if policy == "error":
            before = content(ours)
            with pytest.raises(DuplicateError, match="artifact 0001"):
                ours.merge(theirs, on_conflict=policy)
            assert content(ours) == before
            return
        merged = ours.merge(theirs, on_conflict=policy)
        undated = 2 if policy == "theirs" else 1
        assert [(c.kind, c.kept) for c in merged.conflicts] == [
            ("artifact", "ours" if expected == 1 else "theirs"),
            ("library entry", "ours" if expected == 1 else "theirs"),
            ("prediction", "ours" if undated == 1 else "theirs"),
        ]
        assert ours.load("0001$aaaaaaaaaaaa:0") == {"a": expected}
        assert ours.library.load_template("template") == {"a": expected}
        assert [row["val_score"] for row in ours.catalog.filter().to_dicts()] == [undated]
        assert "conflicts" in repr(merged)
        assert merged.to_dict()["conflicts"][0]["name"] == "0001$aaaaaaaaaaaa:0"

    @pytest.mark.parametrize(("policy", "kept"), [("newer", "ours"), ("theirs", "theirs")])
    def test_metrics_of_two_trainings_are_not_mixed(self, tmp_path: Path, policy: str, kept: str) -> None:
        metrics = {}
        for name, folds in (("ours", (9.0, 10.0, 11.0)), ("theirs", (100.0, 20.0, 30.0))):
            with Workspace(tmp_path / f"{name}.sqlite") as workspace:
                with workspace.run("wheat") as run, run.pipeline([1], name="pls") as pipeline:
                    for fold, value in enumerate(folds):
                        pipeline.log_metrics({"val": {"rmse": value}}, fold_id=fold)
                metrics[name] = workspace.pipelines()[0].metrics
        with Workspace(tmp_path / "ours.sqlite") as ours:
            merged = ours.merge(tmp_path / "theirs.sqlite", on_conflict=policy)
            assert {c.kept for c in merged.conflicts if c.kind == "metric"} == {kept}
            assert ours.pipelines()[0].metrics == metrics[kept]

    @pytest.mark.parametrize(
        ("policy", "notes"),
        [
            ("ours", ["0001$bbbbbbbbbbbb:0 of theirs depends on 0001$aaaaaaaaaaaa:0, of which ours was kept"]),
            ("theirs", ["0001$cccccccccccc:0 of ours depends on 0001$aaaaaaaaaaaa:0, which is theirs now"]),
        ],
    )
    def test_what_depends_on_an_artifact_of_the_other_side_is_named(
        self, made: Callable[..., Workspace], policy: str, notes: list[str]
    ) -> None:
        ours, theirs = made("ours"), made("theirs")
        for workspace, own in ((ours, "c"), (theirs, "b")):
            registry = workspace.registry("wheat", "0001")
            registry.register({"scaler": own}, "0001$aaaaaaaaaaaa:0", "transformer")
            for name in (own, "d"):  # d is the same on both sides
                registry.register({"model": name}, f"0001${name * 12}:0", "model", depends_on=["0001$aaaaaaaaaaaa:0"])
        merged = ours.merge(theirs, on_conflict=policy)
        assert merged.notes == merged.to_dict()["notes"] == notes
        assert notes[0] in merged._repr_html_()
        assert ours.merge(theirs, on_conflict="ours").notes == []

    def test_what_was_made_later_is_newer_whatever_zone_its_time_is_in(
        self, made: Callable[..., Workspace], tmp_path: Path
    ) -> None:
        sides = {}
        for name, value, when in (
            ("ours", 1, "2025-12-31T23:00:00+00:00"),
            ("theirs", 2, "2026-01-01T00:30:00+02:00"),  # half an hour earlier
            ("local", 3, "2025-12-31 23:30"),
        ):
            text = str(value).encode()
            (tmp_path / f"{name}.json").write_bytes(text)
            artifact = {
                "artifact_id": "0001_a$aaaaaaaaaaaa:0", "path": f"{name}.json", "format": "json", "created_at": when,
                "content_hash": f"sha256:{hashlib.sha256(text).hexdigest()}", "artifact_type": "model",
                "class_name": "X", "pipeline_id": "0001_a", "dataset": "wheat",
            }  # fmt: skip
            sides[name] = made(name)
            sides[name].registry("wheat").import_from_manifest([artifact], tmp_path, trust=True)
        for name, expected in (("theirs", 1), ("local", 3)):
            sides["ours"].merge(sides[name], on_conflict="newer")
            assert sides["ours"].load("0001_a$aaaaaaaaaaaa:0") == expected

    def test_trying_makes_no_folder(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        ours, theirs = made("ours"), made("theirs", only="a")
        ours.merge(theirs, dry_run=True)
        assert not ours.catalog.folder.exists()
        with Workspace(ours.path, mode="ro") as looking, pytest.raises(ReadOnlyError):
            looking.merge(theirs)
        assert not ours.catalog.folder.exists()

    def test_a_dry_run_changes_nothing(self, made: Callable[..., Workspace]) -> None:
        ours, theirs = made("ours", dataset="wheat", only="a"), made("theirs", dataset="corn", only="b")
        before, files = content(ours), sorted(ours.catalog.folder.iterdir())
        assert ours.merge(theirs, dry_run=True).added["artifacts"] == 5
        assert content(ours) == before
        assert sorted(ours.catalog.folder.iterdir()) == files
        assert ours.query("SELECT count(*) FROM catalog_files")[0][0] == len(files)

    def test_a_packed_file_merges(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        ours, theirs = made("ours", dataset="wheat", only="a"), made("theirs", dataset="corn", only="b")
        packed = theirs.pack(tmp_path / "packed.sqlite")
        assert ours.merge(packed).added["predictions"] == 6
        with Workspace(packed) as other:
            assert other.merge(ours).added["predictions"] == 6
            assert content(other)[0] == content(ours)[0]
            assert len(other.catalog) == len(ours.catalog) == 12

    @pytest.mark.parametrize("number", [1, 2])
    def test_a_file_of_an_older_schema_merges_and_is_not_touched(
        self, made: Callable[..., Workspace], tmp_path: Path, number: int
    ) -> None:
        old = tmp_path / "old.sqlite"
        shutil.copy(GOLDEN / f"schema_{number}.sqlite", old)
        if number > 1:
            shutil.copytree(GOLDEN / f"schema_{number}.catalog", tmp_path / "old.catalog")
        before = old.read_bytes()
        ours = made("ours")
        merged = ours.merge(old)
        assert merged.added["artifacts"] == 5
        assert merged.added.get("predictions", 0) == (3 if number > 1 else 0)
        assert old.read_bytes() == before

    def test_what_cannot_be_merged_is_refused_and_nothing_changes(
        self, made: Callable[..., Workspace], tmp_path: Path
    ) -> None:
        ours = made("ours", only="a")
        before = content(ours)
        newer = ours.backup(tmp_path / "newer.sqlite")
        data = bytearray(newer.read_bytes())
        data[60:64] = (99).to_bytes(4, "big")
        newer.write_bytes(data)
        text = tmp_path / "text.sqlite"
        text.write_text("no database, and long enough to be looked at" * 30)
        for other, error in (
            (newer, NewerSchemaError),
            (text, NotAWorkspaceError),
            (tmp_path / "none.sqlite", WorkspaceNotFoundError),
            (ours.path, InvalidValueError),
            (ours, InvalidValueError),
        ):
            with pytest.raises(error):
                ours.merge(other)
        with pytest.raises(InvalidValueError, match="on_conflict is one of"):
            ours.merge(text, on_conflict="mine")
        with pytest.raises(InvalidValueError, match="inside a transaction"), ours.transaction():
            ours.merge(text)
        assert content(ours) == before

    def test_a_wrong_byte_of_the_other_leaves_nothing_here(
        self, made: Callable[..., Workspace], tmp_path: Path
    ) -> None:
        ours, theirs = made("ours", only="a"), made("theirs", dataset="corn", only="b")
        damaged = Workspace(theirs.backup(tmp_path / "damaged.sqlite"))
        with damaged.transaction():
            damaged.database.rows("UPDATE chunks SET payload = zeroblob(length(payload)) WHERE size_bytes = 240000")
            damaged.database.rows("UPDATE blobs SET stored_bytes = stored_bytes")
        before, files = content(ours), sorted(ours.catalog.folder.iterdir())
        fresh = made("fresh")
        with pytest.raises(CorruptBlobError):
            fresh.merge(damaged)
        assert fresh.records() == []
        assert fresh.query("SELECT count(*) FROM blobs")[0] == (0,)
        # What is here already is not asked of the other.
        ours.merge(damaged, dry_run=True)
        assert (content(ours), sorted(ours.catalog.folder.iterdir())) == (before, files)
        damaged.close()

    @pytest.mark.campaign
    def test_a_full_disk_leaves_what_was_there(self, made: Callable[..., Workspace], tmp_path: Path) -> None:
        ours, theirs = made("ours", only="a"), made("theirs", dataset="corn", only="b")
        before = content(ours)
        ours.close()
        theirs.close()
        code = (
            "import resource, signal, sys\nfrom artifactdb import Workspace, ArtifactDBError\n"
            "w = Workspace(sys.argv[1])\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
            "try:\n    w.merge(sys.argv[2])\nexcept ArtifactDBError as error:\n    print(type(error).__name__)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        )
        for limit in (1_000, 50_000, 80_000):
            done = fresh.run(code, ours.path, theirs.path, limit)
            assert done.stdout.strip() == StorageFullError.__name__, (limit, done.stdout, done.stderr)
            with Workspace(ours.path) as again:
                assert content(again) == before
                assert again.verify().ok
        with Workspace(ours.path) as again:
            assert again.merge(theirs.path).added["artifacts"] == 5

    @pytest.mark.campaign
    def test_a_merge_while_the_other_is_written_takes_one_state(
        self, made: Callable[..., Workspace], fitted: dict[str, Any]
    ) -> None:
        ours, theirs = made("ours"), made("theirs", only="a")
        code = (
            "import sys\nfrom artifactdb import Workspace\nw = Workspace(sys.argv[1])\n"
            "r = w.registry('live', '0001')\nprint('go', flush=True)\n"
            "for i in range(400):\n"
            "    with w.transaction():\n"
            "        a = r.register({'n': i}, f'0001$aaaaaaaaaaaa:{2 * i}', 'model')\n"
            "        r.register({'n': -i}, f'0001$aaaaaaaaaaaa:{2 * i + 1}', 'model', depends_on=[a.artifact_id])\n"
        )
        with fresh.Process(code, theirs.path) as writer:
            writer.stdout.readline()
            while writer.poll() is None:
                ours.merge(theirs.path)
                assert len(ours.records(dataset="live")) % 2 == 0
                assert not ours.orphans()
        ours.merge(theirs.path)
        assert len(ours.records(dataset="live")) == 800

    def test_replaced_records_may_not_close_a_circle(self, made: Callable[..., Workspace]) -> None:
        ours, theirs = made("ours"), made("theirs")
        for workspace, (first, second) in ((ours, "ab"), (theirs, "ba")):
            registry = workspace.registry("wheat", "0001")
            for name, sources in ((first, []), (second, [first])):
                registry.register(
                    {"of": str(workspace.path)}, f"0001${name * 12}:0", "model",
                    depends_on=[f"0001${source * 12}:0" for source in sources],
                )  # fmt: skip
        assert len(ours.merge(theirs).conflicts) == 2
        assert ours.merge(theirs, on_conflict="theirs").conflicts
        ours.registry("wheat", "0001").register(
            {"c": 1}, "0001$cccccccccccc:0", "model", depends_on=["0001$aaaaaaaaaaaa:0"]
        )
        theirs.registry("wheat", "0001").register({"c": 2}, "0001$cccccccccccc:0", "model")
        theirs.registry("wheat", "0001").register(
            {"b": 3}, "0001$bbbbbbbbbbbb:0", "model", depends_on=["0001$cccccccccccc:0"]
        )
        before = content(ours)
        # Ours: c needs a, a needs b. Theirs made later: b needs c. Taking only what is newer would close a circle.
        with ours.transaction():
            ours.database.rows("UPDATE records SET created_at = '2999' WHERE artifact_id LIKE '%ccc%'")
        with pytest.raises(DependencyCycleError):
            ours.merge(theirs, on_conflict="newer")
        assert [row[:2] for row in content(ours)[0]] == [row[:2] for row in before[0]]


def test_what_merged_predictions_share_with_staged_ones_outlives_these(tmp_path: Path) -> None:
    common = {"dataset_name": "wheat", "partition": "val", "y_true": np.arange(4.0)}
    with Workspace(tmp_path / "theirs.sqlite") as theirs, Workspace(tmp_path / "ours.sqlite") as ours:
        taken = theirs.catalog.add(**common, model_name="theirs", y_pred=np.ones(4))
        staged = ours.catalog.add(**common, model_name="ours", y_pred=np.zeros(4))
        ours.merge(theirs)
        assert ours.verify().ok
        ours.catalog.delete(staged)
        assert ours.catalog.get(taken)["y_true"].tolist() == [0.0, 1.0, 2.0, 3.0]
        ours.catalog.flush()
        assert ours.verify().ok


@pytest.mark.campaign
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.integers(0, 2), st.booleans()), max_size=12))
def test_merging_is_idempotent_and_newer_decides_alike_in_both_directions(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    sides = {name: Workspace(folder / f"{name}.sqlite") for name in "ab"}
    try:
        for side, number, value, big in steps:
            registry = sides[side].registry("wheat", "0001")
            content_ = {"value": value, "big": BIG + value if big else None}
            registry.register(content_, f"0001${str(number) * 12}:0", "model")
        copy = Workspace(sides["a"].backup(folder / "copy.sqlite"))
        sides["a"].merge(sides["b"], on_conflict="newer")
        sides["b"].merge(copy, on_conflict="newer")
        copy.close()
        assert content(sides["a"])[:2] == content(sides["b"])[:2]
        before = content(sides["a"])
        assert sides["a"].merge(sides["b"], on_conflict="newer").added == {}
        assert content(sides["a"]) == before
        for workspace in sides.values():
            assert workspace.verify().ok
    finally:
        for workspace in sides.values():
            workspace.close()


def test_errors_are_ours(made: Callable[..., Workspace], tmp_path: Path) -> None:
    with pytest.raises(ArtifactDBError):
        made("ours").merge(tmp_path)
