"""Your own files just load; a stranger's are read by anyone and run nothing until they are allowed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import StackingRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from artifactdb import ArtifactDBError, ArtifactLoader, UntrustedArtifactError, Workspace
from artifactdb.cli.app import app
from artifactdb.database.grants import without_grants
from artifactdb.errors import InvalidValueError
from artifactdb.trust.own_key import own_key
from artifactdb.trust.signing import Signature, statement
from tests import fresh
from tests.users import CHAIN, as_, model_id


class TestTwoUsers:
    """A workspace is mailed: seen listed, refused, inspected, trusted; each load is a process."""

    @staticmethod
    def run(home: Path, *command: object, code: int = 0) -> str:
        arguments = list(map(str, command))
        done = CliRunner().invoke(app, arguments, env={"ARTIFACTDB_HOME": str(home), "COLUMNS": "200"})
        if isinstance(done.exception, ArtifactDBError):
            assert done.exception.exit_code == code, done.exception
            return str(done.exception)
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    LOAD = (
        "import sys; from artifactdb import Workspace; w = Workspace(sys.argv[1], mode='ro');"
        "print(w.load(sys.argv[2]).predict([[0.1] * 10]).tolist()); w.close()"
    )

    def load(self, home: Path, file: Path, artifact_id: str) -> subprocess.CompletedProcess[str]:
        return fresh.run(self.LOAD, file, artifact_id, env={**os.environ, "ARTIFACTDB_HOME": str(home)})

    def test_a_study_is_mailed(self, tmp_path: Path, study: Path, fitted: dict[str, Any]) -> None:
        ada, bob = tmp_path / "home of ada", tmp_path / "home of bob"
        with Workspace(study, mode="ro") as workspace:
            artifact_id = model_id(workspace)
            expected = str(fitted["ridge"].predict([[0.1] * 10]).tolist())
        assert self.load(ada, study, artifact_id).stdout.strip() == expected, "her own: no question"

        mailed = tmp_path / "post" / "it's from ada.sqlite"
        mailed.parent.mkdir()
        self.run(ada, "pack", study, mailed)
        assert artifact_id in self.run(bob, "ls", mailed)
        assert "Ridge" in self.run(bob, "query", mailed, "SELECT class_name FROM artifacts")
        assert "all is well" in self.run(bob, "verify", mailed)
        self.run(bob, "pack", mailed, tmp_path / "again.sqlite")
        self.run(bob, "export", mailed, tmp_path / "tree")
        refused = self.load(bob, mailed, artifact_id)
        assert refused.returncode != 0 and "UntrustedArtifactError" in refused.stderr
        assert "sklearn.linear_model._ridge: Ridge" in refused.stderr
        assert "no boundary" in refused.stderr
        assert "known-safe" in self.run(bob, "inspect", mailed, artifact_id)
        assert "home of bob" not in str(list((tmp_path / "post").iterdir())), "the folder stays as it is"

        command = refused.stderr.split("If you trust who wrote it: `artifactdb ")[1].split("`")[0]
        done = subprocess.run(
            f"{Path(sys.executable).parent / 'artifactdb'} {command}", shell=True, capture_output=True, text=True,
            env={**os.environ, "ARTIFACTDB_HOME": str(bob)}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "1 of them new" in done.stdout
        assert self.load(bob, mailed, artifact_id).stdout.strip() == expected
        copy = shutil.copy(mailed, tmp_path / "a copy.sqlite")
        assert self.load(bob, copy, artifact_id).stdout.strip() == expected, "remembered by content, not by path"
        assert self.load(tmp_path / "home of eve", copy, artifact_id).returncode != 0, "for Bob alone"
        assert "trusted" in self.run(bob, "history", mailed, artifact_id)

        # Ada trains again: other content, which asks again.
        with Workspace(study) as workspace:
            other = Ridge(alpha=9.0).fit(np.eye(10), np.arange(10.0))
            workspace.registry("wheat", "0001_ridge").register_with_chain(other, CHAIN, "model", 2, fold_id=0)
        self.run(ada, "pack", study, mailed, "--overwrite")
        assert "UntrustedArtifactError" in self.load(bob, mailed, artifact_id).stderr
        self.run(bob, "trust", mailed)
        assert self.load(bob, mailed, artifact_id).stdout.strip() == str(other.predict([[0.1] * 10]).tolist())
        self.run(bob, "trust", mailed, "--forget")
        assert self.load(bob, mailed, artifact_id).returncode != 0

    def test_a_key_pair_vouches_for_a_colleague(self, tmp_path: Path, study: Path) -> None:
        ada, bob = tmp_path / "home of ada", tmp_path / "home of bob"
        assert "no key" in self.run(ada, "sign", study, code=2)
        line = self.run(ada, "keys", "make", "ada").strip()
        self.run(ada, "sign", study)
        with Workspace(study, mode="ro") as workspace:
            artifact_id = model_id(workspace)
        mailed = tmp_path / "mailed.sqlite"
        self.run(ada, "pack", study, mailed)
        assert self.load(bob, mailed, artifact_id).returncode != 0
        assert "who is not trusted" in self.run(bob, "verify", mailed, "--signatures", code=6)
        self.run(bob, "keys", "trust", line, "--name", "ada.of.the.lab")
        assert self.load(bob, mailed, artifact_id).returncode == 0
        said = self.run(bob, "verify", mailed, "--signatures")
        assert "signed by ada.of.the.lab" in said and "nothing was changed since" in said
        self.run(bob, "keys", "forget", "ada.of.the.lab")
        assert self.load(bob, mailed, artifact_id).returncode != 0
        # The file carries the public key, so that its id is enough.
        key_id = json.loads(self.run(ada, "keys", "show", "--json"))["key_id"]
        self.run(bob, "trust", mailed, "--signer", key_id)
        assert self.load(bob, mailed, artifact_id).returncode == 0


class TestStrangers:
    @pytest.fixture
    def bob(self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Be Bob, who got Ada's study."""
        as_("bob", tmp_path, monkeypatch)
        return study

    def test_every_way_to_an_object_asks(self, bob: Path) -> None:
        from artifactdb import PipelineRunner

        with Workspace(bob) as workspace:
            artifact_id = model_id(workspace)
            workspace.library.save_pipeline_full("wheat", "0001_ridge", "quality")
            loader = workspace.loader("wheat")
            registry = workspace.registry("wheat", "0001_ridge")
            ways = [
                lambda: workspace.load(artifact_id),
                lambda: loader.load_by_id(artifact_id),
                lambda: loader.load_by_chain(CHAIN, 0),
                lambda: loader.load_for_step(2),
                lambda: loader.load_fold_models(2),
                lambda: loader.load_with_dependencies(artifact_id),
                lambda: loader.get_step_binaries(2),
                lambda: registry.load_artifact(artifact_id),
                lambda: workspace.library.load("quality"),
                lambda: PipelineRunner(workspace).predict(artifact_id, np.zeros((1, 10))),
            ]
            for number, way in enumerate(ways):
                with pytest.raises(UntrustedArtifactError):
                    pytest.fail(f"way {number} gave {way()}")

    def test_data_needs_no_trust_and_says_so(self, bob: Path) -> None:
        with Workspace(bob) as workspace:
            assert workspace.load("0001_ridge$aaaaaaaaaaaa:0").tolist() == [0, 1, 2, 3, 4]
            rows = workspace.query("SELECT class_name, data_only FROM artifacts ORDER BY class_name").rows
            assert rows == [("MinMaxScaler", 0), ("Ridge", 0), ("ndarray", 1)]
            assert workspace.record(model_id(workspace)).params["alpha"] == 0.5, "nor do parameters"

    def test_the_error_says_who_what_and_how(self, bob: Path) -> None:
        with Workspace(bob) as workspace:
            record = workspace.record(model_id(workspace))
            with pytest.raises(UntrustedArtifactError) as caught:
                workspace.load(record.artifact_id)
        said = str(caught.value)
        assert "is signed with the key" in said and "artifactdb 0." in said
        assert f"--content {record.content_hash} --format pickle5" in said and "config.toml" in said
        assert caught.value.report.verdict == "known-safe"  # type: ignore[attr-defined]
        assert pickle.loads(pickle.dumps(caught.value)).hint == caught.value.hint

    def test_one_artifact_is_allowed_and_no_other(self, bob: Path) -> None:
        with Workspace(bob) as workspace:
            artifact_id = model_id(workspace)
            assert workspace.trust(artifact_id).artifacts == 1
            assert isinstance(workspace.load(artifact_id), Ridge)
            with pytest.raises(UntrustedArtifactError):
                workspace.loader("wheat").load_with_dependencies(artifact_id)
            assert workspace.trust(artifact_id, with_dependencies=True).new == 1
            assert len(workspace.loader("wheat").load_with_dependencies(artifact_id)) == 2

    def test_a_dataset_is_allowed_and_no_other(
        self, file: Path, tmp_path: Path, ada: Path, monkeypatch: pytest.MonkeyPatch, fitted: dict[str, Any]
    ) -> None:
        with Workspace(file) as workspace:
            for name in ("wheat", "oats"):
                ridge = clone(fitted["ridge"]).fit([[1.0], [2.0]], [len(name), 1.0])
                workspace.registry(name, "0001_ridge").register_with_chain(ridge, CHAIN, "model", 2)
            workspace.library.save_pipeline_full("wheat", "0001_ridge", "kept")
        as_("bob", tmp_path, monkeypatch)
        with Workspace(file) as workspace:
            artifact_id = workspace.records(dataset="wheat")[0].artifact_id
            assert workspace.trust(dataset="wheat").new == 1
            assert workspace.history()[0].details["dataset"] == "wheat"
            assert isinstance(workspace.load(artifact_id, "wheat"), Ridge)
            assert isinstance(workspace.library.load("kept")[artifact_id], Ridge)
            with pytest.raises(UntrustedArtifactError):
                workspace.load(artifact_id, "oats")
            assert workspace.trust(dataset="wheat", forget=True).new == 1
            with pytest.raises(UntrustedArtifactError):
                workspace.load(artifact_id, "wheat")
            with pytest.raises(KeyError, match="nothing of the dataset 'corn'"):
                workspace.trust(dataset="corn")

    @pytest.mark.parametrize(
        "alone",
        [{"with_dependencies": True}, {"format": "pickle5"}, {"name": "ada"}, {"signer": "0" * 16, "dataset": "d"}],
    )
    def test_what_narrows_nothing_is_refused_rather_than_trusting_all(self, bob: Path, alone: dict[str, Any]) -> None:
        with Workspace(bob) as workspace:
            with pytest.raises(InvalidValueError, match=r"goes with .*Nothing was trusted"):
                workspace.trust(**alone)
            with pytest.raises(UntrustedArtifactError):
                workspace.load(model_id(workspace))

    def test_a_container_asks_for_its_parts_too(
        self, file: Path, tmp_path: Path, ada: Path, monkeypatch: pytest.MonkeyPatch, xy: Any
    ) -> None:
        pipeline = make_pipeline(StandardScaler(), Ridge()).fit(*xy)
        with Workspace(file) as workspace:
            logged = workspace.log(pipeline, dataset="d")
        as_("bob", tmp_path, monkeypatch)
        with Workspace(file) as workspace:
            (container,) = workspace.records(class_name="Pipeline")
            workspace.trust(container.artifact_id)
            with pytest.raises(UntrustedArtifactError, match="StandardScaler"):
                workspace.load(logged.pipeline_id)
            workspace.trust(container.artifact_id, with_dependencies=True)
            assert np.array_equal(workspace.load(logged.pipeline_id).predict(xy[0]), pipeline.predict(xy[0]))

    def test_an_own_signature_fits_nothing_else(self, study: Path, fitted: dict[str, Any]) -> None:
        """Whoever gets the file may change it: then it is no longer hers."""
        with Workspace(study) as workspace:
            artifact_id = model_id(workspace)
            evil = workspace.registry("wheat", "0009").register_with_chain(fitted["svr"], "s1.SVR", "model", 1)
        changes = [
            "UPDATE records SET blob_key = (SELECT blob_key FROM records WHERE class_name = 'SVR')",
            "UPDATE records SET format = 'dill'",
            "UPDATE records SET signature = zeroblob(32)",
            "UPDATE records SET signature = NULL, signer_key = NULL",
            f"UPDATE records SET artifact_id = '{evil.artifact_id}x'",
            "UPDATE signers SET material = randomblob(16)",
        ]
        for change in changes:
            with Workspace(study) as workspace, workspace.database.transaction(keep=False):
                where = "" if "signers" in change else f" WHERE artifact_id = '{artifact_id}'"
                workspace.database.rows(change + where)
                found = f"{evil.artifact_id}x" if "SET artifact_id" in change else artifact_id
                with pytest.raises(UntrustedArtifactError):
                    pytest.fail(f"{change}: {workspace.load(found)}")
                found_out = workspace.signatures()
                assert not found_out.ok or found_out.unsigned, change

    def test_a_signature_names_nothing_else(self) -> None:
        assert statement("b", "sha256:aa", "x\n1\ny") != statement("b\n", "sha256:aa", "x\n1\ny")
        assert statement("a", "h", "1\nx") != statement("x\na", "h", "1")
        assert Signature.parse("x" * 200) is None and Signature.parse("") is None

    def test_a_merge_brings_a_strangers_records_as_a_strangers(
        self, bob: Path, tmp_path: Path, fitted: dict[str, Any]
    ) -> None:
        with Workspace(tmp_path / "bobs.sqlite") as workspace:
            own = workspace.registry("wheat", "0001_ridge").register_with_chain(
                fitted["svr"], CHAIN, "model", 2, fold_id=0
            )
            workspace.merge(bob, on_conflict="ours")
            assert workspace.load(own.artifact_id).C == fitted["svr"].C
            workspace.merge(bob, on_conflict="theirs")
            with pytest.raises(UntrustedArtifactError):
                workspace.load(own.artifact_id)
        with Workspace(bob) as theirs:
            theirs.registry("wheat", "0001_ridge").register_with_chain(
                fitted["ridge"], CHAIN, "model", 2, fold_id=0, depends_on=theirs.record(own.artifact_id).depends_on
            )
        with Workspace(tmp_path / "bobs.sqlite") as workspace:
            assert not workspace.merge(bob).conflicts

    def test_own_records_come_back_over_a_strangers_and_over_damage(
        self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: dict[str, Any]
    ) -> None:
        """Bob signs the same objects; Ada, who got his file first, takes in her own, whichever way."""
        with Workspace(study) as hers:
            artifact_id = model_id(hers)
            hers.export(tmp_path / "tree")
        as_("bob", tmp_path, monkeypatch)
        with Workspace(tmp_path / "bobs.sqlite") as bobs:
            bobs.import_folder(tmp_path / "tree", trust=True)
        as_("ada", tmp_path, monkeypatch)
        for number, take_in in enumerate(
            [lambda workspace: workspace.merge(study), lambda workspace: workspace.import_folder(tmp_path / "tree")]
        ):
            with Workspace(tmp_path / f"{number}.sqlite") as workspace:
                workspace.merge(tmp_path / "bobs.sqlite")
                with pytest.raises(UntrustedArtifactError):
                    workspace.load(artifact_id)
                take_in(workspace)
                assert isinstance(workspace.load(artifact_id), Ridge)
                workspace.merge(tmp_path / "bobs.sqlite")
                assert isinstance(workspace.load(artifact_id), Ridge), "and they stay hers"
        for damage in ("signature = randomblob(32)", "format = 'pickle'"):
            with Workspace(study) as workspace:
                workspace.database.rows(f"UPDATE records SET {damage} WHERE artifact_id = ?", (artifact_id,))
                with pytest.raises(UntrustedArtifactError):
                    workspace.load(artifact_id)
                workspace.registry("wheat", "0001_ridge").register_with_chain(
                    fitted["ridge"], CHAIN, "model", 2, fold_id=0,
                    depends_on=workspace.record(artifact_id).depends_on,
                )  # fmt: skip
                assert isinstance(workspace.load(artifact_id), Ridge), damage

    def test_an_import_vouches_for_the_format_that_came_in(self, study: Path, tmp_path: Path) -> None:
        with Workspace(study) as workspace:
            artifact_id = model_id(workspace)
            workspace.export(tmp_path / "tree")
            workspace.database.rows("UPDATE records SET format = 'dill' WHERE artifact_id = ?", (artifact_id,))
            assert artifact_id in dict(workspace.import_folder(tmp_path / "tree", trust=True).refused)
            with pytest.raises(UntrustedArtifactError):
                workspace.load(artifact_id)

    def test_an_import_is_nobodys_until_it_is_told_otherwise(self, tmp_path: Path, ada: Path, xy: Any) -> None:
        folder = tmp_path / "joblib"
        folder.mkdir()
        model = LinearRegression().fit(*xy)
        joblib.dump(model, folder / "linear.joblib")
        with Workspace(tmp_path / "a.sqlite") as workspace:
            assert workspace.import_folder(folder).artifacts == 1
            (record,) = workspace.records()
            with pytest.raises(UntrustedArtifactError, match="nobody signed it"):
                workspace.load(record.artifact_id)
            assert workspace.import_folder(folder, trust=True).present["artifacts"] == 1
            assert np.array_equal(workspace.load(record.artifact_id).predict(xy[0]), model.predict(xy[0]))
        item = {"artifact_id": "0001$aaaaaaaaaaaa:0", "path": "linear.joblib", "format": "joblib", "dataset": "d"}
        loader = ArtifactLoader.from_manifest([item], folder)
        with pytest.raises(UntrustedArtifactError):
            loader.load_by_id(item["artifact_id"])
        loader = ArtifactLoader.from_manifest([item], folder, trust=True)
        assert np.array_equal(loader.load_by_id(item["artifact_id"]).predict(xy[0]), model.predict(xy[0]))


class TestAllowList:
    def test_what_is_on_it_loads_and_nothing_else(
        self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = as_("bob", tmp_path, monkeypatch)
        home.mkdir()
        (home / "config.toml").write_text('allow = ["sklearn.*", "numpy.*"]')
        with Workspace(study) as workspace:
            assert isinstance(workspace.load(model_id(workspace)), Ridge)
            (home / "config.toml").write_text('allow = ["numpy.*"]')
            os.utime(home / "config.toml", (1, 1))
            with pytest.raises(UntrustedArtifactError, match=r"does not take it: the object needs sklearn"):
                workspace.load(model_id(workspace))
            (home / "config.toml").write_text('allow = "sklearn.*"')
            with pytest.raises(InvalidValueError, match="one list"):
                workspace.load(model_id(workspace))

    def test_a_team_names_its_own_file(self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        as_("bob", tmp_path, monkeypatch)
        monkeypatch.setenv("ARTIFACTDB_CONFIG", str(tmp_path / "team.toml"))
        with Workspace(study) as workspace:
            with pytest.raises(InvalidValueError, match="cannot be read"):
                workspace.load(model_id(workspace))
            (tmp_path / "team.toml").write_text('allow = ["sklearn.*", "numpy.*"]')
            assert isinstance(workspace.load(model_id(workspace)), Ridge)

    def test_it_is_not_looked_for_beside_the_workspace(
        self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        as_("bob", tmp_path, monkeypatch)
        (study.parent / "config.toml").write_text('allow = ["sklearn.*"]')
        monkeypatch.chdir(study.parent)
        with Workspace(study) as workspace, pytest.raises(UntrustedArtifactError):
            workspace.load(model_id(workspace))


class TestWorkers:
    CODE = (
        "import pickle, sys; loader = pickle.load(sys.stdin.buffer);"
        "print(type(loader.load_by_chain('s1.MinMaxScaler>s2.Ridge', 0)).__name__);"
        "from artifactdb import ArtifactRegistry; r = pickle.load(sys.stdin.buffer);"
        "r.register_with_chain(loader.load_by_chain('s1.MinMaxScaler'), 's1.Other', 'transformer', 1)"
    )

    def test_a_worker_elsewhere_trusts_what_its_driver_signed(self, study: Path, tmp_path: Path) -> None:
        with Workspace(study) as workspace:
            sent = pickle.dumps(workspace.loader("wheat")) + pickle.dumps(workspace.registry("wheat", "0002"))
            assert bytes.fromhex((tmp_path / "home of ada" / "key").read_text()) not in sent, "not the key itself"
            done = fresh.run(
                self.CODE, input=sent, env={**os.environ, "ARTIFACTDB_HOME": str(tmp_path / "home of a worker")}
            )
            assert done.stdout.strip() == "Ridge", done.stderr
            (made,) = workspace.records(chain_prefix="s1.Other")
            assert workspace.load(made.artifact_id), "and the driver what the worker signed"

    def test_a_name_that_was_written_into_the_file_takes_no_key_along(self, study: Path) -> None:
        with Workspace(study) as workspace:
            workspace.database.rows(
                "INSERT INTO signers (scheme, key_id, material, name) VALUES ('blake2b', ?, ?, '')",
                (own_key().key_id, b"another's place!"),
            )
            workspace.database.rows("UPDATE records SET signer_key = 2 WHERE class_name = 'Ridge'")
            sent = pickle.dumps(workspace.loader("wheat"))
        assert own_key().for_workspace(b"another's place!") not in sent

    def test_no_key_enters_a_workspace(self, study: Path, fitted: dict[str, Any]) -> None:
        """Not even with an object that holds an open workspace."""
        with Workspace(study) as workspace:
            holder = {"model": fitted["ridge"], "loader": workspace.loader("wheat")}
            (grant,) = workspace.loader("wheat").__getstate__()["_database"].__getstate__()["grants"].values()
            with without_grants():
                assert grant not in pickle.dumps(holder)
            for hint in ("pickle5", "dill", "joblib", "pickle"):
                workspace.registry("wheat", f"0009_{hint}").register_with_chain(
                    holder, "s1.Holder", "model", 1, format_hint=hint
                )
            secret = own_key().secret
            contents = [
                bytes(row[0]) for row in workspace.database.rows("SELECT payload FROM chunks WHERE codec = 'raw'")
            ]
        stored = study.read_bytes() + b"".join(contents)
        assert secret not in stored and grant not in stored
        assert secret.hex().encode() not in stored


def test_a_stack_of_strangers_is_asked_for_one_by_one(
    file: Path, tmp_path: Path, ada: Path, monkeypatch: pytest.MonkeyPatch, xy: Any
) -> None:
    stack = StackingRegressor([("a", Ridge()), ("b", LinearRegression())], cv=3).fit(*xy)
    with Workspace(file) as workspace:
        logged = workspace.log(stack, dataset="d")
    as_("bob", tmp_path, monkeypatch)
    with Workspace(file) as workspace:
        with pytest.raises(ArtifactDBError):
            workspace.load(logged.pipeline_id)
        workspace.trust()
        assert np.array_equal(workspace.load(logged.pipeline_id).predict(xy[0]), stack.predict(xy[0]))
