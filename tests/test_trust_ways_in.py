"""What a stranger could slip past the gate: under a known id, a claimed hash, a library's name, a signature."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from typer.testing import CliRunner

from artifactdb import UntrustedArtifactError, Workspace
from artifactdb.cli.app import app
from artifactdb.errors import InvalidValueError

CHAIN = "s1.MinMaxScaler>s2.Ridge"
MODEL = "0001_ridge"

Become = Callable[[str], Path]


@pytest.fixture
def become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Become:
    """Be somebody, with a home of their own."""

    def be(name: str) -> Path:
        home = tmp_path / f"home of {name}"
        monkeypatch.setenv("ARTIFACTDB_HOME", str(home))
        return home

    return be


def save(file: Path, model: Any, **given: Any) -> str:
    """Save a model under the one id that all of these are about."""
    with Workspace(file) as workspace:
        registry = workspace.registry("wheat", MODEL)
        return registry.register_with_chain(model, CHAIN, "model", 2, fold_id=0, **given).artifact_id


@pytest.fixture
def bobs(tmp_path: Path, become: Become, fitted: dict[str, Any]) -> tuple[Path, str]:
    """A file of Bob's, with a ridge; and be Ada from here on."""
    become("bob")
    file = tmp_path / "bobs.sqlite"
    artifact_id = save(file, fitted["ridge"])
    become("ada")
    return file, artifact_id


def refusal(load: Callable[[], Any]) -> str:
    with pytest.raises(UntrustedArtifactError) as caught:
        pytest.fail(f"it gave {load()}")
    return str(caught.value)


class TestWhatIsAllowedIsWhatWasShown:
    def test_the_command_allows_what_the_library_keeps_and_not_what_bears_its_id(
        self, tmp_path: Path, become: Become, fitted: dict[str, Any]
    ) -> None:
        become("bob")
        file = tmp_path / "bobs.sqlite"
        artifact_id = save(file, fitted["ridge"])
        with Workspace(file) as workspace:
            workspace.library.save_pipeline_full("wheat", MODEL, "harmless")
        save(file, fitted["svr"])  # what the record holds is another thing now
        become("ada")
        with Workspace(file, mode="ro") as workspace:
            said = refusal(lambda: workspace.library.load("harmless"))
        command = shlex.split(said.split("`artifactdb ")[1].split("`")[0])
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0 and "1 of them new" in done.output, done.output
        with Workspace(file, mode="ro") as workspace:
            assert isinstance(workspace.library.load("harmless")[artifact_id], Ridge)
            refusal(lambda: workspace.load(artifact_id))

    def test_a_content_is_named_whole_and_with_its_format_where_there_are_several(self, bobs: tuple[Path, str]) -> None:
        file, artifact_id = bobs
        with Workspace(file) as workspace:
            content = workspace.record(artifact_id).content_hash
            with pytest.raises(InvalidValueError, match="no content hash"):
                workspace.trust(content=content[:30])
            with pytest.raises(KeyError, match="no artifact of the content"):
                workspace.trust(content="0" * 64)
            with pytest.raises(KeyError, match="to be read as joblib"):
                workspace.trust(content=content, format="joblib")
            with pytest.raises(InvalidValueError, match="several things"):
                workspace.trust(artifact_id, content=content)
            workspace.registry("wheat", "0002").import_from_manifest([], file.parent)
            workspace.database.rows("UPDATE records SET format = 'dill'")
            workspace.library.save_pipeline_full("wheat", MODEL, "as dill")
            workspace.database.rows("UPDATE records SET format = 'pickle5'")
            with pytest.raises(InvalidValueError, match="dill, pickle5"):
                workspace.trust(content=content)
            assert workspace.trust(content=content, format="pickle5").new == 1
            assert isinstance(workspace.load(artifact_id), Ridge)
            assert workspace.history(artifact_id)[-1].act == "trusted"

    def test_nothing_is_unpacked_of_what_may_not_be_loaded(self, tmp_path: Path, become: Become) -> None:
        """A gigabyte of zeros takes a few hundred kilobytes in the file: it is there to fill a memory."""
        become("bob")
        file = tmp_path / "bomb.sqlite"
        with Workspace(file) as workspace:
            model = Ridge().fit(np.eye(2), [1.0, 2.0])
            model.ballast_ = np.zeros(1 << 27)
            artifact_id = (
                workspace.registry("wheat", MODEL).register_with_chain(model, "s1.Ridge", "model", 1).artifact_id
            )
        become("ada")
        code = (
            "import sys, resource\nfrom artifactdb import Workspace, UntrustedArtifactError\n"
            "w = Workspace(sys.argv[1], mode='ro')\n"
            "try: w.load(sys.argv[2])\n"
            "except UntrustedArtifactError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(file), artifact_id], capture_output=True, text=True, check=True
        )
        assert int(done.stdout) < 500, "MB at most"


class TestWhatIsVouchedForWasRead:
    def test_an_import_vouches_for_what_its_files_hold_not_for_what_they_claim(
        self, tmp_path: Path, bobs: tuple[Path, str], fitted: dict[str, Any]
    ) -> None:
        """A folder claims to hold what a stranger's record has: to trust it is not to trust the stranger."""
        file, artifact_id = bobs
        with Workspace(file) as workspace:
            content_hash = workspace.record(artifact_id).content_hash
        own = tmp_path / "own.sqlite"
        save(own, fitted["svr"])
        with Workspace(own) as workspace:
            workspace.export(tmp_path / "tree")
        (manifest,) = (tmp_path / "tree").glob("runs/*/*/manifest.yaml")
        with Workspace(own) as workspace:
            honest = workspace.record(artifact_id).content_hash
        manifest.write_text(manifest.read_text().replace(honest, content_hash))
        with Workspace(file) as workspace:
            assert artifact_id in dict(workspace.import_folder(tmp_path / "tree", trust=True).refused)
            refusal(lambda: workspace.load(artifact_id))

    def test_a_manifest_replaces_nothing_of_ones_own(self, tmp_path: Path, bobs: tuple[Path, str], fitted: Any) -> None:
        file, artifact_id = bobs
        own = tmp_path / "own.sqlite"
        assert save(own, fitted["svr"]) == artifact_id
        with Workspace(file) as workspace:
            workspace.export(tmp_path / "tree")
            record = workspace.record(artifact_id)
        with Workspace(own) as workspace:
            item = {**record.to_dict(), "dataset": "wheat"}
            done = workspace.registry("wheat", MODEL).import_from_manifest(
                [item], tmp_path / "tree" / "binaries" / "wheat"
            )
            assert "other content" in dict(done.refused)[artifact_id]
            assert workspace.load(artifact_id).C == fitted["svr"].C

    def test_saving_what_a_stranger_has_takes_nothing_else_of_theirs(
        self, bobs: tuple[Path, str], fitted: dict[str, Any]
    ) -> None:
        """The content is the same; what it is called, was made with and depends on is the user's own."""
        file, artifact_id = bobs
        with Workspace(file) as workspace:
            workspace.database.rows(
                "UPDATE records SET custom_name = 'the best', parameter_set_key = ("
                "SELECT max(parameter_set_key) FROM parameter_sets)"
            )
            workspace.database.rows("UPDATE parameter_sets SET parameters = '{\"alpha\":99}'")
        save(file, fitted["ridge"], custom_name="mine")
        with Workspace(file) as workspace:
            record = workspace.record(artifact_id)
            assert (record.custom_name, record.params["alpha"]) == ("mine", 0.5)
            assert isinstance(workspace.load(artifact_id), Ridge)
            assert workspace.history(artifact_id)[-1].act == "replaced"
            before = len(workspace.history(artifact_id))
        save(file, fitted["ridge"], custom_name="mine")
        with Workspace(file) as workspace:
            assert len(workspace.history(artifact_id)) == before, "the second time nothing is new"
