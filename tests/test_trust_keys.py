"""Keys: how they are called, whom they are believed for, and what keeps them where they are."""

from __future__ import annotations

import copy
import os
import pickle
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import dill
import numpy as np
import pytest
from typer.testing import CliRunner

from artifactdb import ArtifactDBError, UntrustedArtifactError, Workspace
from artifactdb.artifacts import delete
from artifactdb.cli.app import app
from artifactdb.errors import DuplicateError, InvalidValueError, SerializationError
from artifactdb.trust import signing, team_keys
from artifactdb.trust.own_key import own_key
from artifactdb.trust.team_keys import PublicKey
from tests import fresh
from tests.users import as_, model_id

SNEAKY = "mallory\x1b[2K\n\u202etrusted"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARTIFACTDB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*command: object) -> str:
    done = CliRunner().invoke(app, list(map(str, command)), env={"COLUMNS": "200"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def write_signer(workspace: Workspace, material: bytes, name: str, key_id: str | None = None) -> str:
    """Write a signer into the file, as whoever sends it can; give the id of its key."""
    key_id = key_id or PublicKey(name, material).key_id
    workspace.database.rows(
        "INSERT INTO signers (scheme, key_id, material, name) VALUES ('ed25519', ?, ?, ?)", (key_id, material, name)
    )
    return key_id


class TestNames:
    @pytest.mark.parametrize("name", ["0123456789abcdef", "0123456789ABCDEF"])
    def test_none_looks_like_the_id_of_a_key(self, name: str) -> None:
        with pytest.raises(InvalidValueError, match="does not look like the id"):
            team_keys.make(name)
        with pytest.raises(InvalidValueError, match="does not look like the id"):
            team_keys.trust(PublicKey(name, bytes(32)))
        assert not team_keys.trusted()

    def test_none_is_that_of_an_own_pair_too(self) -> None:
        pair = team_keys.make("ada")
        with pytest.raises(DuplicateError, match=pair.key_id):
            team_keys.trust(PublicKey("ada", bytes(32)))
        team_keys.trust(PublicKey("bob", bytes(32)))
        with pytest.raises(DuplicateError, match="'bob' already"):
            team_keys.make("bob")

    def test_one_that_stands_for_two_keys_forgets_neither(self, home: Path) -> None:
        team_keys.trust(first := PublicKey("ada", bytes(32)))
        with (home / "trusted_keys").open("a") as lines:  # by hand
            lines.write(f"{(second := PublicKey('ada', bytes([1] * 32)))}\n")
        with pytest.raises(InvalidValueError, match=f"several keys.*{first.key_id}, {second.key_id}"):
            team_keys.forget("ada")
        assert team_keys.forget(second.key_id) == second
        assert list(team_keys.trusted()) == [first.key_id]

    def test_an_own_pair_is_trusted_as_long_as_it_is_there(self, home: Path) -> None:
        pair = team_keys.make("ada")
        team_keys.trust(pair)
        for called in ("ada", pair.key_id):
            with pytest.raises(InvalidValueError, match=r"your own.*ada\.key"):
                team_keys.forget(called)

    def test_one_that_came_with_the_key_is_said_to_be_what_the_key_says(self, study: Path, tmp_path: Path) -> None:
        line = str(key := PublicKey("ada", bytes(32)))
        (tmp_path / "from the post.pub").write_text(line)
        with Workspace(study) as workspace:
            write_signer(workspace, key.raw, "ada")
        for given in (line, tmp_path / "from the post.pub"):
            assert run("keys", "trust", given) == f"trusted: the key {key.key_id}, which says it is ada\n"
        assert run("trust", study, "--signer", key.key_id).strip().endswith("which says it is ada")
        assert run("keys", "forget", "ada") == f"no longer trusted: the key {key.key_id}, ada\n"
        assert run("keys", "trust", line, "--name", "mallory") == f"trusted: the key {key.key_id}, mallory\n"

    def test_the_users_own_choice_stands_for_one_that_cannot_be(self) -> None:
        line = str(PublicKey("../../key", bytes(32)))
        with pytest.raises(InvalidValueError, match="no name for a key"):
            run("keys", "trust", line)
        assert "mallory" in run("keys", "trust", line, "--name", "mallory")

    @pytest.mark.parametrize("given", ["x" * 5000, "a/" * 3000, "\0", "/", "artifactdb-ed25519 " + "A" * 5000])
    def test_what_is_neither_a_key_nor_a_file_says_so(self, given: str) -> None:
        with pytest.raises(InvalidValueError, match="is no public key"):
            run("keys", "trust", given)

    def test_a_file_that_is_called_like_a_key_stands_for_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        line = str(meant := PublicKey("ada", bytes(32)))
        (tmp_path / line).write_text(str(PublicKey("ada", bytes([1] * 32))))
        monkeypatch.chdir(tmp_path)
        run("keys", "trust", line)
        assert list(team_keys.trusted()) == [meant.key_id]


class TestWhatIsTrusted:
    @pytest.mark.parametrize("length", [0, 31, 33, 100_000])
    def test_a_key_of_another_length_is_none(self, study: Path, length: int) -> None:
        with Workspace(study) as workspace:
            key_id = write_signer(workspace, bytes(length), "mallory")
            with pytest.raises(InvalidValueError, match=f"it has {length} bytes, not 32"):
                workspace.trust(signer=key_id)
        assert team_keys.trusted() == {}

    def test_a_line_that_is_no_key_leaves_the_others_as_they_are(self, home: Path) -> None:
        team_keys.trust(key := PublicKey("ada", bytes(32)))
        lines = home / "trusted_keys"
        for bad in (b"artifactdb-ed25519 AAAA mallory\n", b"\xff\xfe\x00\n", b"artifactdb-ed25519 %%%% x\n"):
            before = lines.read_bytes()
            lines.write_bytes(bad + before)
            with pytest.warns(UserWarning, match=r"line 1 of .*trusted_keys is left out"):
                assert list(team_keys.trusted().values()) == [key]
            lines.write_bytes(before)

    def test_it_is_said_once(self, home: Path) -> None:
        team_keys.trust(PublicKey("ada", bytes(32)))
        (home / "trusted_keys").write_text("nonsense\n")
        code = "from artifactdb.trust import team_keys\nfor _ in range(5): team_keys.trusted()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr.count("is left out") == 1

    def test_odd_files_are_no_key_pairs_and_break_none(self, home: Path) -> None:
        pair = team_keys.make("ada")
        keys = home / "keys"
        (keys / "a folder.key").mkdir()
        (keys / "folder.key").mkdir()
        (keys / "a b.key").write_text("ab" * 32)
        (keys / "README").write_text("mine")
        if os.name == "posix":
            (keys / "dangling.key").symlink_to("nowhere")
            (keys / "round.key").symlink_to("round.key")
        with warnings.catch_warnings(action="error"):
            assert list(team_keys.trusted().values()) == [pair]
            assert team_keys.own() == pair, "the only one"
        for name, content in {"binary": bytes(range(256)), "short": b"abcd\n", "empty": b""}.items():
            (keys / f"{name}.key").write_bytes(content)
            (keys / f"{name}.key").chmod(0o600)
            with pytest.warns(UserWarning, match=rf"{name}\.key cannot be read as a key"):
                assert list(team_keys.trusted().values()) == [pair]
            with pytest.raises(InvalidValueError, match=rf"{name}\.key cannot be read as a key"):
                team_keys.own(name)
            (keys / f"{name}.key").unlink()

    @pytest.mark.skipif(os.name != "posix", reason="modes of files")
    def test_a_private_key_that_others_can_read_is_closed_to_them(self, home: Path) -> None:
        pair = team_keys.make("ada")
        file = home / "keys" / "ada.key"
        file.chmod(0o644)
        with pytest.warns(UserWarning, match="could be read by others"):
            assert team_keys.own() == pair
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_processes_that_trust_keys_at_once_lose_none(self, home: Path) -> None:
        code = (
            "import sys; from artifactdb.trust.team_keys import PublicKey, forget, trust\n"
            "mine = int(sys.argv[1])\n"
            "for number in range(15):\n"
            "    trust(PublicKey(f'key-{mine}-{number}', bytes([mine, number] * 16)))\n"
            "    if number % 3 == 0: forget(f'key-{mine}-{number}')\n"
        )
        processes = [fresh.Process(code, number) for number in range(6)]
        assert [process.wait() for process in processes] == [0] * 6
        names = {key.name for key in team_keys.trusted().values()}
        assert names == {f"key-{mine}-{number}" for mine in range(6) for number in range(15) if number % 3}
        assert sorted(file.name for file in home.iterdir()) == ["trusted.sqlite", "trusted_keys"]


class TestSecrets:
    @pytest.fixture
    def workspace(self, study: Path) -> Iterator[Workspace]:
        with Workspace(study) as opened:
            opened.load(model_id(opened))  # so that there is a grant
            yield opened

    @pytest.fixture(params=["signer", "own key", "grants"])
    def secret(self, request: pytest.FixtureRequest, workspace: Workspace) -> Any:
        signer, grants = signing.signer_of(workspace.database), workspace.database.grants
        assert list(grants.values()) == [signer.key]
        return {"signer": signer, "own key": own_key(), "grants": grants}[request.param]

    def test_they_are_not_shown(self, secret: Any, workspace: Workspace) -> None:
        shown = f"{secret!r} {secret}"
        assert repr(signing.signer_of(workspace.database).key) not in shown and repr(own_key().secret) not in shown
        assert own_key().key_id in shown

    @pytest.mark.parametrize("dumps", [pickle.dumps, pickle._dumps, cloudpickle.dumps, dill.dumps, copy.deepcopy])  # type: ignore[attr-defined]
    def test_they_are_not_pickled(self, secret: Any, dumps: Callable[[Any], bytes]) -> None:
        with pytest.raises(SerializationError, match="holds a key"):
            dumps(secret)

    @pytest.mark.parametrize("hint", [None, "pickle", "pickle5", "dill", "joblib", "data", "json"])
    def test_they_enter_no_workspace(
        self, secret: Any, hint: str | None, workspace: Workspace, fitted: dict[str, Any]
    ) -> None:
        model = copy.copy(fitted["ridge"])
        model.by_ = secret
        for holder in (secret, {"model": secret}, [secret], model):
            with pytest.raises(SerializationError):
                workspace.registry("wheat").register(holder, "0009:1:all", "model", format_hint=hint)

    def test_a_worker_gets_what_it_needs(self, study: Path, tmp_path: Path) -> None:
        with Workspace(study) as workspace:
            artifact_id = model_id(workspace)
            sent = pickle.dumps(workspace)
            again = pickle.dumps(pickle.loads(sent))
            code = "import pickle, sys; w = pickle.load(sys.stdin.buffer); print(type(w.load(sys.argv[1])).__name__)"
            for stream in (sent, again):
                done = fresh.run(
                    code, artifact_id, input=stream, env={**os.environ, "ARTIFACTDB_HOME": str(tmp_path / "worker")}
                )
                assert done.stdout.strip() == "Ridge", done.stderr


class TestWhatAFileSays:
    """Names that came with a stranger's file are told in errors, and steer no terminal."""

    @staticmethod
    def said(error: ArtifactDBError) -> str:
        text = str(error)
        assert text.isprintable(), ascii(text)
        return text

    def test_of_its_signers(self, study: Path) -> None:
        with Workspace(study) as workspace:
            write_signer(workspace, bytes(32), "ada", key_id=SNEAKY)
            key_id = write_signer(workspace, bytes(32), SNEAKY)
            for asked in ("0" * 16, SNEAKY):
                with pytest.raises(InvalidValueError) as caught:
                    workspace.trust(signer=asked)
                assert "mallory" in self.said(caught.value)
            with pytest.raises(InvalidValueError, match="no name for a key") as caught:
                workspace.trust(signer=key_id)
            self.said(caught.value)

    def test_of_its_artifacts(self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with Workspace(study) as workspace:
            workspace.database.rows("UPDATE records SET artifact_id = ? WHERE class_name = 'Ridge'", (SNEAKY,))
        monkeypatch.setenv("ARTIFACTDB_HOME", str(tmp_path / "bob"))
        team_keys.make("bob")
        with Workspace(study) as workspace, pytest.raises(UntrustedArtifactError) as caught:
            workspace.sign()
        assert "mallory" in self.said(caught.value)

    @pytest.mark.parametrize("command", [("make",), ("show",), ("trust",), ("forget",)])
    def test_of_what_was_pasted(self, command: tuple[str, ...]) -> None:
        with pytest.raises(ArtifactDBError) as caught:
            run("keys", *command, SNEAKY)
        self.said(caught.value)
        with pytest.raises(ArtifactDBError) as caught:
            run("keys", "trust", str(PublicKey(SNEAKY.replace("\n", ""), bytes(32))))
        self.said(caught.value)


class TestKeyPairs:
    def test_a_signature_says_what_became_of_the_file(self, study: Path, ada: Path, fitted: dict[str, Any]) -> None:
        key = team_keys.make("ada")
        with Workspace(study) as workspace:
            assert workspace.sign() == key
            assert workspace.signatures().ok
            registry = workspace.registry("wheat", "0001_ridge")
            registry.register_with_chain(fitted["svr"], "s1.SVR", "model", 1)
            registry.register(np.arange(6.0), "0001_ridge$aaaaaaaaaaaa:0", "model")
            artifact_id = model_id(workspace)
            delete.delete_records(workspace.database, [workspace.record(artifact_id).record_key])  # type: ignore[attr-defined]
            (whole,) = workspace.signatures().whole
        assert whole.right and whole.trusted and whole.name == "ada"
        found = {(change.what, change.details): change for change in whole.changes}
        assert set(found) == {("added", ""), ("changed", "content"), ("removed", "")}
        assert found["removed", ""].artifact_id == artifact_id
        assert found["removed", ""].by.startswith("deleted by ")
        assert found["added", ""].signed_by == own_key().key_id

    def test_a_wrong_signature_is_said_to_be_wrong(self, study: Path, ada: Path) -> None:
        team_keys.make("ada")
        with Workspace(study) as workspace:
            workspace.sign()
            for change in ("root = zeroblob(32)", "signed_at = '2020'", "contents = x'00'", "size_bytes = 5"):
                with workspace.database.transaction(keep=False):
                    workspace.database.rows(f"UPDATE workspace_signatures SET {change}")
                    workspace.database.rows("UPDATE records SET custom_name = 'x'")  # what is as signed needs no list
                    (whole,) = workspace.signatures().whole
                    assert not whole.right, change

    def test_a_signature_that_was_taken_away_is_missed(
        self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = team_keys.make("ada")
        with Workspace(study) as workspace:
            workspace.sign()
        as_("bob", tmp_path, monkeypatch)
        team_keys.trust(key)
        with Workspace(study) as workspace:
            assert workspace.signatures().ok
            workspace.database.rows("DELETE FROM workspace_signatures")
            assert not workspace.signatures().ok

    def test_a_key_is_forgotten_under_all_its_names(self, ada: Path, tmp_path: Path) -> None:
        first, second = (team_keys.PublicKey(name, bytes(32)) for name in ("a", "b"))
        team_keys.trust(first)
        team_keys.trust(second)
        team_keys.forget("b")
        assert team_keys.trusted() == {}

    def test_nobody_vouches_for_a_stranger_by_mistake(
        self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        as_("bob", tmp_path, monkeypatch)
        team_keys.make()
        with Workspace(study) as workspace:
            with pytest.raises(UntrustedArtifactError, match="3 artifacts are a stranger's"):
                workspace.sign()
            workspace.trust()
            workspace.sign()

    def test_nor_for_what_a_strangers_library_keeps(
        self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Workspace(study) as workspace:
            workspace.library.save_pipeline_full("wheat", "0001_ridge", "nice")
            delete.delete_records(workspace.database, [r.record_key for r in workspace.records()])  # type: ignore[attr-defined]
        as_("bob", tmp_path, monkeypatch)
        team_keys.make()
        with Workspace(tmp_path / "bobs.sqlite") as workspace:
            workspace.merge(study)
            assert not workspace.records()
            with pytest.raises(UntrustedArtifactError, match="3 artifacts are a stranger's"):
                workspace.sign()
            assert workspace.query("SELECT count(*) FROM signatures")[0] == (0,)

    def test_names_and_lines_are_looked_at(self, ada: Path) -> None:
        key = team_keys.make("ada")
        with pytest.raises(DuplicateError):
            team_keys.make("ada")
        other = team_keys.PublicKey("ada", bytes(32))
        team_keys.trust(key)
        with pytest.raises(DuplicateError, match="another key"):
            team_keys.trust(other)
        for line in ("", "ssh-ed25519 AAAA ada", f"artifactdb-ed25519 {'A' * 20} ada", "a b c d", "x\n y"):
            with pytest.raises(InvalidValueError):
                team_keys.PublicKey.parse(line)
        for name in ("../key", "", "a b", "a\x1b[31m"):
            with pytest.raises(InvalidValueError):
                team_keys.make(name)

    def test_a_users_own_key_is_no_signer_for_others(self, study: Path) -> None:
        with Workspace(study) as workspace:
            (record, *_) = workspace.records(class_name="Ridge")
            with pytest.raises(InvalidValueError, match="nobody else can check"):
                workspace.trust(signer=record.signature[:16])
            with pytest.raises(InvalidValueError, match="carries no public key"):
                workspace.trust(signer="0" * 16)
