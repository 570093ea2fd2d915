"""Rows that somebody made up, in a file of the right form: nothing that the user writes rests on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from artifactdb import (
    CorruptWorkspaceError,
    DependencyCycleError,
    UntrustedArtifactError,
    Workspace,
    recover,
)
from artifactdb.artifacts.save import key_of_dataset, key_of_environment, key_of_pipeline
from artifactdb.database.keys import REFERENCES
from artifactdb.trust import team_keys

LAST = (1 << 63) - 1
TO_COME = "WITH RECURSIVE n (i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 60) "
LEFT_BEHIND = [
    "INSERT INTO record_sources SELECT i, 9, 1 FROM n",
    "INSERT INTO record_sources SELECT 1, i, i FROM n",
    "INSERT INTO chunks SELECT i, 0, 5, 'raw', NULL, x'0102030405' FROM n",
    "INSERT INTO blob_parts SELECT i, 0, 1 FROM n",
    "INSERT INTO parameter_values SELECT i, 'alpha', 77.0 FROM n",
    "INSERT INTO run_records SELECT i, 1 FROM n",
    "INSERT INTO trained_pipelines SELECT i, NULL, 'x', 'completed', '', NULL, NULL, '{}', '{}', '[]', '', 0 FROM n",
    "INSERT INTO pipeline_metrics SELECT i, 'val', '', 'rmse', 0.0 FROM n",
    "INSERT INTO pipelines SELECT 100 + i, i, '0002_new', '', 0 FROM n",
    "INSERT INTO library_files SELECT i, 'x', 1 FROM n",
]


def change(file: Path, *statements: str) -> None:
    """Change a file without any of our rules."""
    connection = apsw.Connection(str(file))
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


@pytest.fixture
def study(file: Path, fitted: dict[str, Any]) -> Path:
    save(file, fitted, "0001_ridge")
    return file


def save(file: Path, fitted: dict[str, Any], pipeline_id: str, dataset: str = "wheat") -> list[Any]:
    """Save a scaler and a ridge that depends on it, and give both as they load."""
    with Workspace(file) as workspace:
        registry = workspace.registry(dataset, pipeline_id)
        scaler = registry.register_with_chain(fitted["minmax"], "s1.MinMaxScaler", "transformer", 1)
        ridge = registry.register_with_chain(
            fitted["ridge"], "s1.MinMaxScaler>s2.Ridge", "model", 2, fold_id=0, depends_on=[scaler.artifact_id]
        )
        return [workspace.load(record.artifact_id, dataset=dataset) for record in (scaler, ridge)]


class TestKeysToCome:
    @pytest.mark.parametrize("rows", LEFT_BEHIND)
    def test_nothing_is_written_where_rows_wait_for_it(
        self, study: Path, fitted: Any, tmp_path: Path, rows: str
    ) -> None:
        change(study, TO_COME + rows)
        with pytest.raises(CorruptWorkspaceError, match=r"for what is yet to come.*artifactdb recover"):
            save(study, fitted, "0002_new", "rye")
        with Workspace(study, mode="ro") as workspace:
            assert len(workspace.records()) == 2
        recover(study, tmp_path / "whole.sqlite")
        assert len(save(tmp_path / "whole.sqlite", fitted, "0002_new", "rye")) == 2

    def test_what_sorts_above_every_number_hides_none(
        self, study: Path, fitted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("artifactdb.database.structure._READ_THROUGH_BYTES", 0)  # as for a large file
        swap = "UPDATE sqlite_schema SET sql = replace(sql, '{}', '{}') WHERE name = 'run_records'"
        change(study, "PRAGMA writable_schema = ON", swap.format(") STRICT", ") /*RICT*/"))
        change(study, TO_COME + "INSERT INTO run_records SELECT i, 1 FROM n UNION ALL SELECT '../../x', 1")
        change(study, "PRAGMA writable_schema = ON", swap.format(") /*RICT*/", ") STRICT"))
        with pytest.raises(CorruptWorkspaceError, match=r"run_records belongs to '../../x'.*artifactdb recover"):
            save(study, fitted, "0002_new", "rye")
        recover(study, tmp_path / "whole.sqlite")
        assert len(save(tmp_path / "whole.sqlite", fitted, "0002_new", "rye")) == 2

    def test_an_event_of_what_is_no_number_is_of_no_record_to_come(
        self, study: Path, fitted: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("artifactdb.database.structure._READ_THROUGH_BYTES", 0)  # as for a large file
        swap = "UPDATE sqlite_schema SET sql = replace(sql, '{}', '{}') WHERE name = 'history'"
        change(study, "PRAGMA writable_schema = ON", swap.format(") STRICT", ") /*RICT*/"))
        change(
            study, "UPDATE history SET record_key = x'616263' WHERE record_key = (SELECT max(record_key) FROM history)"
        )
        change(study, "PRAGMA writable_schema = ON", swap.format(") /*RICT*/", ") STRICT"))
        assert len(save(study, fitted, "0002_new", "rye")) == 2

    def test_every_reference_that_an_index_begins_with_is_looked_at(self, study: Path) -> None:
        with Workspace(study) as workspace:
            led = workspace.database.rows("""
                SELECT DISTINCT t.name, f."from", f."table"
                FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS f
                JOIN pragma_index_list(t.name) AS i JOIN pragma_index_info(i.name) AS c
                WHERE t.type = 'table' AND c.seqno = 0 AND c.name = f."from"
                UNION SELECT t.name, f."from", f."table"
                FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS f
                JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table' AND c.pk = 1 AND c.name = f."from"
            """)
        assert sorted(led) == sorted(REFERENCES)

    @pytest.mark.parametrize(
        "last",
        [
            f"UPDATE sqlite_sequence SET seq = {LAST} WHERE name = 'blobs'",
            f"INSERT INTO blobs VALUES ({LAST}, randomblob(32), 0, 0, '', 0)",
            f"INSERT INTO sqlite_sequence VALUES ('workspace_signatures', {LAST})",
            f"INSERT INTO datasets VALUES ({LAST}, 'z', '', 0)",
        ],
    )
    def test_a_key_that_is_used_up_is_not_called_a_full_disk(
        self, study: Path, fitted: Any, tmp_path: Path, last: str
    ) -> None:
        change(study, last)
        with Workspace(study) as workspace:
            with pytest.raises(CorruptWorkspaceError, match=r"no number left for another row.*artifactdb pack"):
                workspace.registry("rye", "0002").register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
            workspace.pack(tmp_path / "packed.sqlite")
        assert save(tmp_path / "packed.sqlite", fitted, "0002_new", "rye")

    def test_keys_that_a_deletion_gives_back_are_looked_at_again(self, study: Path, fitted: Any) -> None:
        change(
            study,
            "INSERT INTO parameter_sets VALUES (99, '{}')",
            "INSERT INTO parameter_values VALUES (50, 'alpha', 77.0)",
        )
        with Workspace(study) as workspace:
            with pytest.raises(CorruptWorkspaceError, match="parameter_values"):
                workspace.gc(dry_run=False)
            with pytest.raises(CorruptWorkspaceError, match="parameter_values"):
                workspace.registry("rye", "0002").register_with_chain(fitted["pls"], "s1.PLS", "model", 1)

    def test_a_key_of_zero_is_a_key(self, study: Path, fitted: Any) -> None:
        change(
            study,
            "INSERT INTO datasets VALUES (0, 'rye', '', 0)",
            "INSERT INTO pipelines VALUES (0, 0, '0002_new', '', 0)",
            "INSERT INTO environments VALUES (0, '{}')",
        )
        with Workspace(study) as workspace, workspace.transaction():
            assert key_of_dataset(workspace.database, "rye") == 0
            assert key_of_pipeline(workspace.database, 0, "0002_new") == 0
            assert key_of_environment(workspace.database, "{}") == 0
        assert len(save(study, fitted, "0002_new", "rye")) == 2


class TestDamagedContent:
    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE chunks SET payload = zeroblob(length(payload))",
            "DELETE FROM chunks",
            "UPDATE blobs SET size_bytes = size_bytes + 1",
        ],
    )
    def test_what_is_saved_does_not_rest_on_it(self, study: Path, fitted: Any, damage: str) -> None:
        change(study, damage)
        for pipeline_id in ("0002_new", "0001_ridge"):
            assert [type(obj).__name__ for obj in save(study, fitted, pipeline_id)] == ["MinMaxScaler", "Ridge"]
        with Workspace(study) as workspace:
            assert workspace.verify().ok
            repaired = [event.details["done"] for event in workspace.history() if event.act == "repaired"]
            assert len(repaired) == 2 and all("was written anew" in done[0] for done in repaired)

    def test_an_array_that_is_a_blob_of_its_own_is_written_anew_too(self, file: Path) -> None:
        import numpy

        array = numpy.random.default_rng(0).random(200_000)
        with Workspace(file) as workspace:
            workspace.registry("wheat", "0001").register({"a": array}, "0001$aaaaaaaaaaaa:0", "model")
            assert workspace.query("SELECT count(*) FROM blob_parts")[0] == (1,)
        change(file, "UPDATE chunks SET payload = zeroblob(length(payload))", "DELETE FROM blob_parts")
        with Workspace(file) as workspace:
            workspace.registry("wheat", "0002").register({"a": array}, "0002$aaaaaaaaaaaa:0", "model")
            assert (workspace.load("0002$aaaaaaaaaaaa:0")["a"] == array).all()
            assert workspace.verify().ok

    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE chunks SET payload = zeroblob(length(payload))",
            "DELETE FROM chunks",
            "UPDATE blobs SET size_bytes = size_bytes + 1",
            "DELETE FROM blob_parts",
        ],
    )
    def test_what_is_merged_does_not_rest_on_it(self, file: Path, tmp_path: Path, damage: str) -> None:
        import numpy

        content = {"a": numpy.random.default_rng(0).random(20_000)}  # whose array is a blob of its own
        for path in (file, tmp_path / "other.sqlite"):
            with Workspace(path) as workspace:
                pipeline_id = f"0001_{path.stem}"
                workspace.registry("wheat", pipeline_id).register(content, f"{pipeline_id}$aaaaaaaaaaaa:0", "model")
        change(file, damage)
        with Workspace(file) as workspace:
            workspace.merge(tmp_path / "other.sqlite", dry_run=True)
            assert not workspace.verify().ok
            workspace.merge(tmp_path / "other.sqlite")
            for record in workspace.records():
                assert (workspace.load(record.artifact_id)["a"] == content["a"]).all()
            assert workspace.verify().ok
            (repaired,) = [event.details["done"] for event in workspace.history() if event.act == "repaired"]
            assert all("was written anew" in done for done in repaired)


class TestWhatIsSigned:
    @pytest.fixture
    def signed(self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("ARTIFACTDB_HOME", str(tmp_path / "home"))
        with Workspace(study) as workspace:
            workspace.trust()
            team_keys.make("ada")
            workspace.sign()
            assert workspace.signatures().ok
        return study

    @pytest.mark.parametrize(
        "lie",
        [
            "UPDATE parameter_values SET value = 1000 WHERE name = 'alpha'",
            "DELETE FROM parameter_values WHERE name = 'alpha'",
            """UPDATE parameter_sets SET parameters = replace(parameters, '{"alpha"', '{"alpha":1000,"alpha"')""",
            """UPDATE environments SET versions = replace(versions, '{"art', '{"x":"1","x":"2","art')""",
            "UPDATE chains SET chain_hash = '000000000000'",
            "INSERT INTO record_sources VALUES (1, 0, 2)",
        ],
    )
    def test_what_is_looked_up_otherwise_than_read_is_found(self, signed: Path, lie: str) -> None:
        change(signed, lie)
        with Workspace(signed) as workspace:
            assert not workspace.verify().ok
            found = workspace.signatures()
            assert (found.ok, found.complete) == (False, False) and found.misleading

    def test_an_index_that_leads_to_another_record_is_found(self, signed: Path) -> None:
        index = "SELECT sql, rootpage FROM sqlite_schema WHERE name = 'records_by_class'"
        connection = apsw.Connection(str(signed))
        ((sql, page),) = connection.execute(index).fetchall()
        connection.execute("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'records_by_class'")
        connection.close()
        change(signed, "UPDATE records SET class_name = class_name || 'X'")
        connection = apsw.Connection(str(signed))
        connection.execute("PRAGMA writable_schema = ON")
        row = ("index", "records_by_class", "records", page, sql)
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
        connection.close()
        with Workspace(signed, mode="ro") as workspace:
            assert any("records_by_class" in what for what in workspace.signatures().misleading)

    @pytest.mark.parametrize("removed", [False, True])
    def test_wrong_signatures_of_a_key_do_not_hide_the_right_one(self, signed: Path, removed: bool) -> None:
        change(
            signed,
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
            "INSERT INTO signers SELECT 1000 + i, 'ed25519', 'k' || i, material, 'x', 0 FROM n, signers "
            "WHERE scheme = 'ed25519'",
            "INSERT INTO workspace_signatures (signer_key, signed_at, contents, size_bytes, root, signature) "
            "SELECT g.signer_key, 'x', w.contents, w.size_bytes, w.root, w.signature "
            "FROM signers AS g, workspace_signatures AS w WHERE g.scheme = 'ed25519'",
        )
        if removed:
            change(signed, "DELETE FROM record_sources", "DELETE FROM records WHERE class_name = 'Ridge'")
        with Workspace(signed) as workspace:
            found = workspace.signatures()
        assert (found.ok, found.complete, found.others) == (not removed, not removed, 0)
        assert [whole.right for whole in found.whole] == [True]

    def test_data_of_a_stranger_is_signed_only_when_the_user_says_so(
        self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import numpy

        monkeypatch.setenv("ARTIFACTDB_HOME", str(tmp_path / "home of eve"))
        with Workspace(study) as workspace:
            workspace.registry("wheat", "0001").register(numpy.arange(5.0), "0001$aaaaaaaaaaaa:0", "model")
        monkeypatch.setenv("ARTIFACTDB_HOME", str(tmp_path / "home of ada"))
        team_keys.make("ada")
        with Workspace(study) as workspace:
            for record in workspace.records(pipeline_id="0001_ridge"):
                workspace.trust(record.artifact_id)
            with pytest.raises(
                UntrustedArtifactError, match=r"1 artifacts are a stranger's: 0001\$a.*artifactdb trust"
            ):
                workspace.sign()
            allowed = workspace.trust("0001$aaaaaaaaaaaa:0")
            assert (allowed.artifacts, allowed.new) == (0, 0), "it runs no code"
            workspace.sign()


def test_a_circle_is_an_error_of_ours_and_is_found(study: Path) -> None:
    change(study, "INSERT INTO record_sources VALUES (1, 0, 2)")
    with Workspace(study) as workspace:
        ridge = workspace.records(class_name="Ridge")[0].artifact_id
        for ask in (
            lambda: workspace.loader("wheat").load_with_dependencies(ridge),
            lambda: workspace.registry("wheat", "0001_ridge").resolve_dependencies(ridge),
            lambda: workspace.library.save_pipeline_full("wheat", "0001_ridge", "mine"),
            lambda: workspace.trust(ridge, with_dependencies=True),
        ):
            with pytest.raises(DependencyCycleError, match="in a circle"):
                ask()
        (problem,) = workspace.verify().problems
        assert "in a circle" in problem.what and ridge in problem.artifact_ids
