"""What a stranger could slip past the gate: under a known id, a claimed hash, a library's name, a signature."""

from __future__ import annotations

import contextlib
import os
import pickle
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

from artifactdb import ArtifactDBError, UntrustedArtifactError, Workspace
from artifactdb.artifacts.composite import Composite, Part
from artifactdb.cli.app import app
from artifactdb.errors import DeserializationError, InvalidValueError
from artifactdb.trust import team_keys
from tests import fresh

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

    @pytest.mark.campaign
    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells how much a process took")
    def test_nothing_is_unpacked_of_what_may_not_be_loaded(self, tmp_path: Path, become: Become) -> None:
        """Half a gigabyte of zeros takes a few hundred kilobytes in the file: it is there to fill a memory."""
        become("bob")
        file = tmp_path / "bomb.sqlite"
        with Workspace(file) as workspace:
            model = Ridge().fit(np.eye(2), [1.0, 2.0])
            model.ballast_ = np.zeros(1 << 26)
            artifact_id = (
                workspace.registry("wheat", MODEL).register_with_chain(model, "s1.Ridge", "model", 1).artifact_id
            )
        become("ada")
        code = (
            "import sys\nfrom artifactdb import Workspace, UntrustedArtifactError\n"
            "w = Workspace(sys.argv[1], mode='ro')\n"
            "try: w.load(sys.argv[2])\n"
            "except UntrustedArtifactError: print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(file), artifact_id], capture_output=True, text=True, check=True
        )
        assert int(done.stdout) < 200 << 10, "kB at most, of this process alone"


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


class TestOwnComesBack:
    """What a stranger signed first is the user's own again once their own comes in."""

    @pytest.mark.parametrize("way", ["merge", "import", "import with trust"])
    def test_what_the_library_keeps_too(self, tmp_path: Path, become: Become, fitted: dict[str, Any], way: str) -> None:
        become("ada")
        hers = tmp_path / "hers.sqlite"
        artifact_id = save(hers, fitted["ridge"])
        with Workspace(hers) as workspace:
            workspace.library.save_pipeline_full("wheat", MODEL, "quality")
            workspace.export(tmp_path / "tree")
        become("bob")
        with Workspace(tmp_path / "bobs.sqlite") as workspace:
            workspace.import_folder(tmp_path / "tree", trust=True)
        become("eve" if way == "import with trust" else "ada")
        with Workspace(tmp_path / "again.sqlite") as workspace:
            workspace.merge(tmp_path / "bobs.sqlite")
            refusal(lambda: workspace.library.load("quality"))
            if way == "merge":
                workspace.merge(hers)
            else:
                workspace.import_folder(tmp_path / "tree", trust=way == "import with trust")
            assert isinstance(workspace.library.load("quality")[artifact_id], Ridge)
            assert workspace.verify().ok

    def test_a_right_signature_takes_the_place_of_a_wrong_one(
        self, tmp_path: Path, become: Become, fitted: dict[str, Any]
    ) -> None:
        """Anybody can write a line in a colleague's name; it must not be in the way of what the colleague wrote."""
        become("ada")
        hers = tmp_path / "hers.sqlite"
        artifact_id = save(hers, fitted["ridge"])
        key = team_keys.make("ada")
        with Workspace(hers) as workspace:
            workspace.sign()
            workspace.pack(tmp_path / "forged.sqlite")
        with Workspace(tmp_path / "forged.sqlite") as workspace:
            workspace.database.rows("UPDATE signatures SET signature = randomblob(64)")
            workspace.database.rows(
                "INSERT INTO signatures SELECT randomblob(32), signer_key, signature, 0 FROM signatures"
            )
        become("bob")
        team_keys.trust(key)
        with Workspace(tmp_path / "bobs.sqlite") as workspace:
            workspace.merge(tmp_path / "forged.sqlite")
            refusal(lambda: workspace.load(artifact_id))
            assert workspace.query("SELECT count(*) FROM signatures")[0] == (1,), "of what is there, and no other"
            workspace.merge(hers)
            assert isinstance(workspace.load(artifact_id), Ridge)
            workspace.merge(tmp_path / "forged.sqlite")
            assert isinstance(workspace.load(artifact_id), Ridge), "and it stays"

    def test_what_is_trusted_no_longer_still_loads_where_ones_own_key_signed_it(
        self, tmp_path: Path, become: Become, fitted: dict[str, Any]
    ) -> None:
        become("ada")
        file = tmp_path / "hers.sqlite"
        artifact_id = save(file, fitted["ridge"])
        done = CliRunner().invoke(app, ["trust", str(file), "--artifact", artifact_id, "--forget"])
        assert "1 artifacts load in any case: your own key signed them" in done.output


class TestWorkers:
    @pytest.mark.campaign
    def test_keys_of_many_merged_workspaces_go_along_and_of_the_library_too(
        self, tmp_path: Path, become: Become, fitted: dict[str, Any]
    ) -> None:
        become("ada")
        names = {}
        for number in range(25):
            part = tmp_path / f"{number}.sqlite"
            with Workspace(part) as workspace:
                record = workspace.registry("wheat", f"{number:04}").register_with_chain(
                    fitted["scaler"], f"s1.Scaler{number}", "transformer", 1
                )
                if number == 0:
                    workspace.library.save_pipeline_full("wheat", "0000", "kept")
            with Workspace(tmp_path / "all.sqlite") as workspace:
                workspace.merge(part)
                if number == 0:
                    workspace.registry("wheat").delete_pipeline_artifacts("0000")
                else:
                    names[number] = record.artifact_id
        with Workspace(tmp_path / "all.sqlite") as workspace:
            # One that somebody damaged is in the way of no other.
            workspace.database.rows("UPDATE records SET signature = randomblob(32) WHERE pipeline_key = 3")
            workspace.registry("wheat", "0003").register(np.arange(3.0), "0003$aaaaaaaaaaaa:0", "model")
            sent = pickle.dumps(workspace.loader("wheat")) + pickle.dumps(workspace.library)
        code = (
            "import pickle, sys; loader, library = pickle.load(sys.stdin.buffer), pickle.load(sys.stdin.buffer)\n"
            "for name in sys.argv[1:]: loader.load_by_id(name)\n"
            "print(len(library.load('kept')))"
        )
        bad = [name for number, name in names.items() if number == 2]
        done = fresh.run(
            code, *[name for name in names.values() if name not in bad], input=sent,
            env={**os.environ, "ARTIFACTDB_HOME": str(tmp_path / "a worker's")},
        )  # fmt: skip
        assert done.stdout.strip() == "1", done.stderr[-2000:]

    def test_a_closed_workspace_takes_along_what_it_found_right(
        self, tmp_path: Path, become: Become, fitted: dict[str, Any]
    ) -> None:
        become("ada")
        file = tmp_path / "hers.sqlite"
        artifact_id = save(file, fitted["ridge"])
        with Workspace(file) as workspace:
            loader = workspace.loader("wheat")
            loader.load_by_id(artifact_id)
        sent = pickle.dumps(loader)
        become("a worker")
        assert isinstance(pickle.loads(sent).load_by_id(artifact_id), Ridge)


class TestErrorsOfOurs:
    @pytest.mark.parametrize(
        "record",
        [
            "[]", "7", '{"artifact_id": 7}', '{"artifact_id": "a", "format": []}', '{"artifact_id": "a", "params": 3}',
            '{"artifact_id": "a", "depends_on": [1]}', '{"artifact_id": "a", "content_hash": {}}',
            '{"artifact_id": "a", "signature": "\\ud800"}',
        ],
    )  # fmt: skip
    def test_a_library_of_other_types_is_damage(self, bobs: tuple[Path, str], record: str) -> None:
        file, _ = bobs
        with Workspace(file) as workspace:
            workspace.library.save_pipeline_full("wheat", MODEL, "quality")
            workspace.database.rows("UPDATE library_artifacts SET record = ?", (record,))
            pickle.dumps(workspace.loader("wheat"))
            for ask in (
                lambda: workspace.library.load("quality"),
                lambda: workspace.trust(),
                lambda: workspace.trust(content="0" * 64),
                workspace.sign,
                lambda: workspace.library.export("quality", file.with_name("cut.sqlite")),
            ):
                with contextlib.suppress(ArtifactDBError):
                    ask()

    def test_signatures_and_signers_of_other_types_are_nobodys(self, bobs: tuple[Path, str]) -> None:
        file, artifact_id = bobs
        team_keys.make("ada")
        with Workspace(file) as workspace:
            workspace.trust()
            key = workspace.sign()
            workspace.trust(forget=True)
            connection = workspace.database.connection()
            for change in (
                "UPDATE signatures SET signature = CAST('text' AS TEXT)",
                "UPDATE signers SET material = 'short'",
                "UPDATE signers SET key_id = 5, name = x'00ff'",
            ):
                with workspace.database.transaction(keep=False):
                    try:
                        connection.execute(change)
                    except Exception as error:  # the schema's own types stand before
                        assert "cannot store" in str(error)
                        continue
                    refusal(lambda: workspace.load(artifact_id))
                    with pytest.raises(ArtifactDBError):
                        workspace.trust(signer=key.key_id)

    @pytest.mark.parametrize(
        "state",
        [{}, {"parts": 5}, {"parts": [5], "skeleton": 1}, {"parts": [Part(7)], "skeleton": 1}],  # type: ignore[arg-type]
    )
    def test_a_container_that_names_no_parts_is_no_crash(
        self, workspace: Workspace, tmp_path: Path, state: Any
    ) -> None:
        (tmp_path / "odd.pkl").write_bytes(pickle.dumps(Odd(state)))
        item = {"artifact_id": "0001$aaaaaaaaaaaa:0", "path": "odd.pkl", "format": "pickle", "dataset": "wheat"}
        workspace.registry("wheat", MODEL).import_from_manifest([item], tmp_path, trust=True)
        with pytest.raises(DeserializationError, match="name its parts"):
            workspace.load("0001$aaaaaaaaaaaa:0")


class Odd:
    """Becomes a composite with any state when it is loaded."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return object.__new__, (Composite,), self.state
