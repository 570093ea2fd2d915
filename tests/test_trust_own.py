"""What a user saves is the user's own: it loads without a question, wherever it goes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import Ridge

from artifactdb import UntrustedArtifactError, Workspace
from artifactdb.errors import InvalidValueError
from artifactdb.trust.own_key import own_key
from tests import fresh
from tests.users import CHAIN, as_, model_id


class TestOwnFiles:
    def test_the_key_is_made_once_for_this_user_alone(self, study: Path, ada: Path) -> None:
        key = ada / "key"
        assert len(bytes.fromhex(key.read_text())) == 32
        if os.name == "posix":
            assert stat.S_IMODE(key.stat().st_mode) == 0o600
        before = key.read_text()
        with Workspace(study) as workspace:
            assert isinstance(workspace.load(model_id(workspace)), Ridge)
        assert key.read_text() == before

    def test_processes_that_make_the_key_at_once_agree(self, tmp_path: Path) -> None:
        code = "from artifactdb.trust.own_key import own_key; print(own_key().key_id)"
        environment = {**os.environ, "ARTIFACTDB_HOME": str(tmp_path / "new")}
        processes = [fresh.Process(code, env=environment) for _ in range(8)]
        assert len({process.communicate()[0] for process in processes}) == 1
        assert [file.name for file in (tmp_path / "new").iterdir()] == ["key"]

    @pytest.mark.skipif(os.name != "posix", reason="modes of files")
    def test_a_key_that_others_can_read_is_closed_to_them(self, tmp_path: Path, ada: Path) -> None:
        ada.mkdir()
        (ada / "key").write_text("ab" * 32)
        (ada / "key").chmod(0o644)
        with pytest.warns(UserWarning, match="could be read by others"):
            own_key()
        assert stat.S_IMODE((ada / "key").stat().st_mode) == 0o600

    def test_what_is_no_key_says_so(self, file: Path, ada: Path, fitted: dict[str, Any]) -> None:
        ada.mkdir()
        (ada / "key").write_text("not hex")
        with Workspace(file) as workspace, pytest.raises(InvalidValueError, match="Move it away"):
            workspace.registry("wheat", "0001").register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)

    def test_where_no_key_can_be_kept_a_process_still_has_its_own(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: dict[str, Any]
    ) -> None:
        (tmp_path / "a file").touch()
        monkeypatch.setenv("ARTIFACTDB_HOME", str(tmp_path / "a file" / "home"))
        with Workspace(file) as workspace:
            with pytest.warns(UserWarning, match="ARTIFACTDB_TRUST=all"):
                record = workspace.registry("wheat", "0001").register_with_chain(fitted["ridge"], "s1.R", "model", 1)
            assert isinstance(workspace.load(record.artifact_id), Ridge)

    def test_a_lost_key_is_made_up_for_by_the_command_in_the_error(
        self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        as_("ada on a new machine", tmp_path, monkeypatch)
        with Workspace(study) as workspace:
            with pytest.raises(UntrustedArtifactError, match=r"artifactdb trust .*study\.sqlite. for the whole file"):
                workspace.load(model_id(workspace))
            workspace.trust()
            assert isinstance(workspace.load(model_id(workspace)), Ridge)
            # What is saved from now on is signed with the new key.
            new = workspace.registry("wheat", "0002").register_with_chain(
                Ridge().fit([[0.0]], [1.0]), "s1.R", "model", 1
            )
            assert new.signature.startswith(own_key().key_id)

    def test_the_environment_trusts_all(self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        as_("ci", tmp_path, monkeypatch)
        monkeypatch.setenv("ARTIFACTDB_TRUST", "all")
        with Workspace(study) as workspace:
            assert isinstance(workspace.load(model_id(workspace)), Ridge)
            monkeypatch.setenv("ARTIFACTDB_TRUST", "yes")
            with pytest.raises(InvalidValueError, match="'all', or not set"):
                workspace.load(model_id(workspace))

    def test_own_records_stay_own_through_pack_merge_export_and_library(self, study: Path, tmp_path: Path) -> None:
        with Workspace(study) as workspace:
            artifact_id = model_id(workspace)
            workspace.library.save_pipeline_full("wheat", "0001_ridge", "quality")
            workspace.pack(tmp_path / "packed.sqlite")
            workspace.export(tmp_path / "tree")
            workspace.backup(tmp_path / "backup.sqlite")
            workspace.library.export("quality", tmp_path / "cut.sqlite")
        with Workspace(tmp_path / "merged.sqlite") as merged, Workspace(tmp_path / "imported.sqlite") as imported:
            assert merged.merge(tmp_path / "packed.sqlite").added["artifacts"] == 3
            assert imported.import_folder(tmp_path / "tree").ok
            assert set(imported.library.load("quality")) == set(merged.library.load("quality"))
        for name in ("packed", "backup", "cut", "merged", "imported"):
            with Workspace(tmp_path / f"{name}.sqlite") as workspace:
                assert isinstance(workspace.load(artifact_id), Ridge), name
                assert workspace.signatures().unsigned == 0, name

    def test_saving_what_a_stranger_sent_makes_it_own(
        self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: dict[str, Any]
    ) -> None:
        as_("bob", tmp_path, monkeypatch)
        with Workspace(study) as workspace:
            with pytest.raises(UntrustedArtifactError):
                workspace.load(model_id(workspace))
            workspace.registry("wheat", "0001_ridge").register_with_chain(
                fitted["ridge"], CHAIN, "model", 2, fold_id=0,
                depends_on=[record.artifact_id for record in workspace.records(class_name="MinMaxScaler")],
            )  # fmt: skip
            assert isinstance(workspace.load(model_id(workspace)), Ridge), "he made the same bytes himself"
