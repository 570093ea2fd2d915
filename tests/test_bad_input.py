"""Bad input gets a clear error of ours, and leaves what was there as it was."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from artifactdb import (
    ArtifactDBError,
    ArtifactRegistry,
    CorruptBlobError,
    CorruptWorkspaceError,
    DeserializationError,
    InvalidChainError,
    InvalidIdError,
    InvalidValueError,
    NotAWorkspaceError,
    SerializationError,
    StorageFullError,
    Workspace,
    WorkspaceNotFoundError,
)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"chain": ""}, InvalidChainError),
        ({"chain": "s1"}, InvalidChainError),
        ({"chain": "s1.A>"}, InvalidChainError),
        ({"chain": "s1.A>>s2.B"}, InvalidChainError),
        ({"chain": "s1.A[br=x]"}, InvalidChainError),
        ({"chain": "s1.A\x00"}, InvalidChainError),
        ({"chain": "s1." + "A" * 10_000_000}, InvalidChainError),
        ({"chain": 7}, InvalidValueError),
        ({"chain": None}, InvalidValueError),
        ({"step_index": -1}, InvalidValueError),
        ({"step_index": "3"}, InvalidValueError),
        ({"step_index": 3.0}, InvalidValueError),
        ({"step_index": True}, InvalidValueError),
        ({"step_index": 10**30}, InvalidValueError),
        ({"fold_id": -1}, InvalidValueError),
        ({"fold_id": "0"}, InvalidValueError),
        ({"branch_path": [0, -2]}, InvalidValueError),
        ({"source_index": -1}, InvalidValueError),
        ({"artifact_type": "unheard_of"}, InvalidValueError),
        ({"artifact_type": None}, InvalidValueError),
        ({"params": [1, 2]}, InvalidValueError),
        ({"pipeline_id": "a$b"}, InvalidIdError),
        ({"pipeline_id": "a\nb"}, InvalidIdError),
        ({"pipeline_id": "a" * 10_000_000}, InvalidIdError),
        ({"custom_name": "a\x1b[31m"}, InvalidValueError),
        ({"depends_on": ["\x00"]}, InvalidIdError),
        ({"format_hint": "unheard_of"}, InvalidValueError),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_stored(
    registry: ArtifactRegistry, fitted: dict[str, Any], arguments: dict[str, Any], error: type[Exception]
) -> None:
    good = {"chain": "s1.A", "artifact_type": "model", "step_index": 1}
    with pytest.raises(error) as caught:
        registry.register_with_chain(fitted["pls"], **{**good, **arguments})
    assert len(str(caught.value)) < 1000, "a message does not repeat 10 MB"
    assert registry.get_all_records() == []
    assert registry.get_stats()["orphaned_count"] == 0


def test_numpy_integers_are_integers(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    record = registry.register_with_chain(fitted["pls"], "s1.A", "model", np.int64(1), fold_id=np.int32(2))
    assert record.artifact_id.endswith(":2")
    assert registry.get_by_chain("s1.A", fold_id=np.int64(2)) == record


@pytest.mark.parametrize("artifact_id", ["", "a\x00b", "x" * 10_000_000, None, 5, "a\ud800"])
def test_an_impossible_id_is_refused(registry: ArtifactRegistry, fitted: dict[str, Any], artifact_id: Any) -> None:
    with pytest.raises(InvalidIdError) as caught:
        registry.register(fitted["pls"], artifact_id, "model")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("dataset", ["", "a\nb", None, 3, "x" * 600])
def test_an_impossible_dataset_is_refused(workspace: Workspace, dataset: Any) -> None:
    with pytest.raises(InvalidValueError):
        workspace.registry(dataset)


def test_an_object_that_no_serializer_takes_names_its_attribute(
    registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    from sklearn.base import clone

    broken = clone(fitted["ridge"])
    broken.rows_ = {"open": [1, (row for row in [])]}
    with pytest.raises(SerializationError) as caught:
        registry.register_with_chain(broken, "s1.A", "model", 1)
    assert caught.value.attribute == "rows_['open'][1]"
    assert registry.get_all_records() == []


class TestFiles:
    def test_text_is_no_workspace(self, file: Path) -> None:
        file.write_text("not a database, however long it may be " * 100)
        before = file.read_bytes()
        with pytest.raises(NotAWorkspaceError):
            Workspace(file)
        assert file.read_bytes() == before

    def test_a_truncated_file_is_found_out(self, file: Path) -> None:
        with Workspace(file) as workspace:
            registry = workspace.registry("wheat", "0001")
            registry.register(np.random.default_rng(0).normal(size=50_000), "0001$aaaaaaaaaaaa:0", "model")
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises((CorruptWorkspaceError, CorruptBlobError)), Workspace(file) as workspace:
            workspace.load("0001$aaaaaaaaaaaa:0")
        assert file.read_bytes()[:1000] == content[:1000]

    def test_a_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "plain").write_text("x")
        with pytest.raises(ArtifactDBError):
            Workspace(tmp_path / "plain" / "inner")

    def test_a_device_is_no_workspace(self) -> None:
        with pytest.raises(NotAWorkspaceError):
            Workspace("/dev/null")

    @pytest.mark.parametrize("path", ["", "a\x00b", None, 3])
    def test_an_impossible_path(self, path: Any) -> None:
        with pytest.raises(InvalidValueError):
            Workspace(path)

    def test_a_folder_that_cannot_be_made(self) -> None:
        with pytest.raises(WorkspaceNotFoundError):
            Workspace("/proc/nothing/here")

    def test_a_full_disk_changes_nothing_and_the_workspace_goes_on(
        self, workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
    ) -> None:
        kept = registry.register_with_chain(fitted["pls"], "s1.A", "model", 1)
        connection = workspace.database.connection()
        limit = connection.pragma("max_page_count")
        connection.pragma("max_page_count", connection.pragma("page_count") + 5)
        with pytest.raises(StorageFullError, match="room"):
            registry.register(np.random.default_rng(0).normal(size=100_000), "0001$aaaaaaaaaaaa:0", "model")
        connection.pragma("max_page_count", limit)
        assert registry.get_all_records() == [kept]
        registry.register_with_chain(fitted["svr"], "s2.B", "model", 2)
        assert len(registry.get_all_records()) == 2

    def test_a_limit_on_file_size_is_an_error_of_ours(self, file: Path) -> None:
        code = """
import sys, signal, resource
import numpy as np
from artifactdb import Workspace, StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
workspace = Workspace(sys.argv[1])
registry = workspace.registry("wheat", "0001")
registry.register({"a": 1}, "0001$aaaaaaaaaaaa:0", "model")
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
try:
    registry.register(np.random.default_rng(0).normal(size=1_000_000), "0001$aaaaaaaaaaaa:1", "model")
except StorageError as error:
    print(type(error).__name__, len(registry.get_all_records()))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
registry.register({"a": 2}, "0001$aaaaaaaaaaaa:2", "model")
print(len(registry.get_all_records()), workspace.verify().ok)
"""
        assert resource.RLIMIT_FSIZE is not None
        done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["StorageFullError", "1", "2", "True"]


class TestDamage:
    @pytest.fixture
    def damaged(self, workspace: Workspace, fitted: dict[str, Any]) -> Workspace:
        registry = workspace.registry("wheat", "0001")
        registry.register_with_chain(fitted["pls"], "s1.A", "model", 1)
        registry.register_with_chain(fitted["ridge"], "s2.B", "model", 2)
        return workspace

    def change(self, workspace: Workspace, sql: str) -> None:
        with workspace.transaction():
            workspace.database.rows(sql)

    def test_a_wrong_byte_is_found_by_load_and_by_verify_and_the_rest_loads(self, damaged: Workspace) -> None:
        bad, good = (record.artifact_id for record in damaged.records())
        key = damaged.query("SELECT blob_key FROM records WHERE step_index = 1")[0][0]
        row = damaged.database.row("SELECT payload FROM chunks WHERE blob_key = ?", (key,))
        assert row is not None
        for position in (0, len(row[0]) // 2, len(row[0]) - 1):
            flipped = bytearray(row[0])
            flipped[position] ^= 1
            with damaged.transaction():
                damaged.database.rows("UPDATE chunks SET payload = ? WHERE blob_key = ?", (bytes(flipped), key))
            with pytest.raises(CorruptBlobError, match="artifactdb verify"):
                damaged.load(bad)
            (problem,) = damaged.verify().problems
            assert problem.artifact_ids == (bad,)
            assert damaged.load(good).alpha == 0.5
        with damaged.transaction():
            damaged.database.rows("UPDATE chunks SET payload = ? WHERE blob_key = ?", (row[0], key))

    @pytest.mark.parametrize(
        "sql",
        [
            "UPDATE chunks SET codec = 'unheard_of'",
            "UPDATE chunks SET shuffle = '[[8, 80000000]]'",
            "UPDATE chunks SET shuffle = 'x'",
            "UPDATE chunks SET size_bytes = size_bytes + 1",
            "UPDATE chunks SET codec = 'raw', shuffle = NULL",
            "UPDATE chunks SET chunk_index = 7",
        ],
    )
    def test_a_lying_chunk_is_an_error_of_ours(self, file: Path, fitted: dict[str, Any], sql: str) -> None:
        with Workspace(file) as workspace:
            workspace.registry("wheat", "0001").register_with_chain(fitted["pls"], "s1.A", "model", 1)
            self.change(workspace, sql)
            with pytest.raises(CorruptBlobError):
                workspace.load(workspace.records()[0].artifact_id)
            assert not workspace.verify().ok

    def test_a_format_that_nobody_knows_says_which_there_are(self, damaged: Workspace) -> None:
        self.change(damaged, "UPDATE records SET format = 'unheard_of'")
        with pytest.raises(DeserializationError, match="pickle5"):
            damaged.load(damaged.records()[0].artifact_id)

    def test_an_object_that_cannot_be_made_here_says_which_versions_wrote_it(self, damaged: Workspace) -> None:
        class_text = "sklearn.cross_decomposition"
        self.change(damaged, 'UPDATE environments SET versions = \'{"nothing":"7.0","sklearn":"1.8.0"}\'')
        self.change(damaged, "UPDATE records SET format = 'pickle'")
        damaged.trust()
        with pytest.raises(DeserializationError, match=r"pip install nothing==7\.0 scikit-learn==1\.8\.0"):
            damaged.load(damaged.records()[0].artifact_id)
        assert class_text

    def test_other_versions_warn_once(self, damaged: Workspace) -> None:
        import warnings

        self.change(damaged, 'UPDATE environments SET versions = \'{"sklearn":"1.0.1"}\'')
        first, second = damaged.records()
        with pytest.warns(UserWarning, match=r"saved with sklearn 1\.0\.1 \(here: "):
            damaged.load(first.artifact_id)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            damaged.load(second.artifact_id)


def test_apsw_alone_has_the_file_open(workspace: Workspace) -> None:
    assert isinstance(workspace.database.connection(), apsw.Connection)
