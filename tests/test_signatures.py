"""Signatures over a file as a whole: what they cover, what is said without one, and what a made-up one costs."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import apsw
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from artifactdb import InvalidValueError, UntrustedArtifactError, Workspace
from artifactdb.artifacts import lines
from artifactdb.artifacts.save import key_of_signer
from artifactdb.blobs.codec import LEVEL
from artifactdb.cli.app import app
from artifactdb.database import row_checks
from artifactdb.trust import team_keys
from artifactdb.trust.team_keys import PublicKey


@pytest.fixture
def ada(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublicKey:
    be("ada", tmp_path, monkeypatch)
    return team_keys.make("ada")


def be(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTIFACTDB_HOME", str(folder / f"home of {name}"))


@pytest.fixture
def study(file: Path, ada: PublicKey, fitted: dict[str, Any]) -> Path:
    """A scaler and a ridge that depends on it, not signed as a whole."""
    with Workspace(file) as workspace:
        registry = workspace.registry("wheat", "0001_ridge")
        scaler = registry.register_with_chain(fitted["minmax"], "s1.MinMaxScaler", "transformer", 1)
        registry.register_with_chain(
            fitted["ridge"], "s1.MinMaxScaler>s2.Ridge", "model", 2, fold_id=0, depends_on=[scaler.artifact_id]
        )
    return file


def change(file: Path, *statements: str) -> None:
    """Change a file without any of our rules."""
    connection = apsw.Connection(str(file))
    for statement in statements:
        connection.execute(statement).fetchall()
    row_checks.register(connection)
    row_checks.compute_all(connection)  # as whoever means to deceive does
    connection.close()


def verify(file: Path, code: int) -> str:
    done = CliRunner().invoke(app, ["verify", str(file), "--signatures"], env={"COLUMNS": "200"})
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def sign_as(workspace: Workspace, private: Ed25519PrivateKey, root: bytes, contents: bytes, size_bytes: int) -> None:
    """Enter a signature over all records, with a key of whoever it may be."""
    key = PublicKey("x", private.public_key().public_bytes_raw())
    signer = key_of_signer(workspace.database, team_keys.SCHEME, key.key_id, key.raw, "x")
    workspace.database.insert(
        "INSERT INTO workspace_signatures (signer_key, signed_at, contents, size_bytes, root, signature) "
        "VALUES (?, '2026', ?, ?, ?, ?)",
        (signer, contents, size_bytes, root, private.sign(lines.statement(root, "2026"))),
    )


MOVED = {
    "place": ["UPDATE records SET step_index = 9 WHERE class_name = 'Ridge'"],
    "sources": ["DELETE FROM record_sources"],
    "dataset": ["UPDATE datasets SET name = 'rye'"],
    "one removed": ["DELETE FROM record_sources", "DELETE FROM records WHERE class_name = 'Ridge'"],
    "emptied": ["DELETE FROM record_sources", "DELETE FROM records"],
}


class TestTheWhole:
    @pytest.mark.parametrize("what", MOVED)
    def test_what_the_signature_of_a_record_does_not_cover_shows_in_that_over_all(self, study: Path, what: str) -> None:
        with Workspace(study) as workspace:
            workspace.sign()
            found = workspace.signatures()
            assert found.ok and found.complete is True
        change(study, *MOVED[what])
        with Workspace(study) as workspace:
            found = workspace.signatures()
            assert (found.ok, found.complete, found.wrong, found.own) == (False, False, [], found.records)
            assert found.whole[0].changes
        assert "the file is not as it was signed" in verify(study, 6)
        change(study, "DELETE FROM workspace_signatures")
        with Workspace(study) as workspace:
            found = workspace.signatures()
            assert (found.ok, found.complete) == (False, None), "nobody can say"

    def test_own_records_without_one_are_said_to_be_just_that(self, study: Path) -> None:
        assert "each record is vouched for, but nobody whom you trust signed the file as a whole" in verify(study, 0)
        change(study, *MOVED["emptied"])
        assert "nobody whom you trust signed the file as a whole" in verify(study, 6), "nothing is vouched for"

    def test_a_colleagues_records_without_one_are_not_enough(
        self, study: Path, ada: PublicKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Workspace(study) as workspace:
            workspace.sign()
        be("bob", tmp_path, monkeypatch)
        team_keys.trust(ada)
        assert "nothing was changed since\nsigned as a whole" in verify(study, 0)
        change(study, "DELETE FROM workspace_signatures")
        assert "each record is vouched for, but nobody" in verify(study, 6)

    def test_one_of_another_file_says_nothing_of_this(self, study: Path, tmp_path: Path, fitted: Any) -> None:
        with Workspace(tmp_path / "other.sqlite") as other:
            other.registry("wheat", "0001_ridge").register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
            other.sign()
            (columns,) = other.database.rows(
                "SELECT signed_at, contents, size_bytes, root, signature FROM workspace_signatures"
            )
        with Workspace(study) as workspace:
            workspace.sign()
            workspace.database.rows(
                "INSERT INTO workspace_signatures (signer_key, signed_at, contents, size_bytes, root, signature) "
                "SELECT signer_key, ?, ?, ?, ?, ? FROM signers WHERE scheme = 'ed25519'",
                columns,
            )
            found = workspace.signatures()
            assert (found.ok, found.complete) == (False, False)
            assert sorted(change.what for change in found.whole[0].changes) == ["added", "added", "removed"]

    def test_a_strangers_neither_makes_up_for_one_nor_takes_it_away(
        self, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Workspace(study) as workspace:
            workspace.sign()
            sign_as(workspace, Ed25519PrivateKey.generate(), hashlib.sha256(b"").digest(), b"", 0)
            assert workspace.signatures().ok
            ours = [found.right for found in workspace.signatures().whole if found.trusted]
            assert ours == [True]
        be("bob", tmp_path, monkeypatch)
        with Workspace(study) as workspace:
            assert (workspace.signatures().ok, workspace.signatures().complete) == (False, None)

    def test_what_differs_is_told_in_full_and_by_dataset(self, study: Path, fitted: dict[str, Any]) -> None:
        with Workspace(study) as workspace:
            for dataset in ("rye", 'w"heat', "wheat!", "äé"):
                workspace.registry(dataset, "0001_ridge").register_with_chain(fitted["svr"], "s1.SVR", "model", 1)
            workspace.sign()
            workspace.registry("rye", "0001_ridge").register_with_chain(fitted["pls"], "s1.SVR", "model", 1)
            workspace.registry("wheat!", "0001_ridge").delete_pipeline_artifacts("0001_ridge")
            workspace.registry("äé", "0002").register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
            workspace.database.rows("UPDATE records SET custom_name = 'best' WHERE class_name = 'Ridge'")
            (whole,) = workspace.signatures().whole
        found = {(change.dataset, change.what, change.details): change.by.split(" ")[0] for change in whole.changes}
        assert found == {
            ("rye", "changed", "content"): "replaced",
            ("wheat!", "removed", ""): "deleted",
            ("wheat", "changed", "description"): "added",
            ("äé", "added", ""): "added",
        }

    def test_what_would_not_be_believed_is_not_signed(self, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lines, "_MOST_BYTES", 100)
        with Workspace(study) as workspace:
            with pytest.raises(InvalidValueError, match="more than a signature can stand for"):
                workspace.sign()
            assert workspace.query("SELECT count(*) FROM signatures")[0] == (0,)


def test_those_of_a_key_pair_go_along_with_a_library_entry(
    study: Path, ada: PublicKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace(study) as workspace:
        workspace.library.save_pipeline_full("wheat", "0001_ridge", "best")
        workspace.sign()
        registry = workspace.registry("wheat", "0001_ridge")
        registry.register_with_chain({"another": 1}, "s1.MinMaxScaler>s2.Ridge", "model", 2, fold_id=0)
        workspace.library.export("best", tmp_path / "best.sqlite")
    be("bob", tmp_path, monkeypatch)
    with Workspace(tmp_path / "best.sqlite") as best:
        (ridge,) = best.records(class_name="Ridge")
        with pytest.raises(UntrustedArtifactError):
            best.load(ridge.artifact_id)
        team_keys.trust(ada)
        assert best.load(ridge.artifact_id).alpha == 0.5
        assert len(best.library.load("best")) == 2
        report = best.signatures()
        assert (report.team, report.unsigned, report.complete) == (2, 0, None)


class TestKeysBelowOne:
    @pytest.mark.parametrize("key", [0, -1, -(1 << 63)])
    def test_a_record_with_one_is_seen_by_all(self, study: Path, fitted: Any, key: int) -> None:
        with Workspace(study) as workspace:
            workspace.sign()
            evil = workspace.registry("wheat", "0009").register_with_chain(fitted["svr"], "s1.SVR", "model", 1)
        change(
            study,
            f"UPDATE records SET record_key = {key}, signature = NULL, signer_key = NULL WHERE class_name = 'SVR'",
        )
        with Workspace(study) as workspace:
            found = workspace.signatures()
            assert (found.records, found.unsigned, found.ok) == (3, 1, False)
            assert [(change.what, change.artifact_id) for change in found.whole[0].changes] == [
                ("added", evil.artifact_id)
            ]
            with pytest.raises(UntrustedArtifactError, match=r"1 artifacts are a stranger's: 0009"):
                workspace.sign()
            (problem,) = workspace.verify().problems
            assert (problem.where, problem.artifact_ids) == (f"records row {key}", (evil.artifact_id,))

    def test_other_rows_with_one_are_found_by_verify(self, study: Path) -> None:
        change(
            study,
            "UPDATE signers SET signer_key = -3",
            "UPDATE records SET signer_key = -3",
            "INSERT INTO history SELECT -7, 0, happened_at, actor_key, act, NULL, NULL, 0 FROM history LIMIT 1",
        )
        with Workspace(study) as workspace:
            found = workspace.verify().problems
        assert [problem.where for problem in found] == ["signers row -3", "history row -7"]


def many_lines() -> bytes:
    """What nobody can shorten, as a signer of very many records would have it."""
    made = (json.dumps(["d", f"{i:08}", "c", "f", hashlib.sha256(b"%d" % i).hexdigest()]) for i in range(150_000))
    return b"".join(line.replace(", ", ",").encode() + b"\n" for line in made)


class TestMadeUp:
    @pytest.mark.parametrize(
        ("plain", "right"),
        [(many_lines, True), (lambda: bytes(1 << 27), False), (lambda: (b"x" * 9999 + b"\n") * 10_000, False)],
    )
    def test_a_signature_over_very_much_costs_little_memory(self, study: Path, plain: Any, right: bool) -> None:
        contents = plain()
        size, root, frame = len(contents), hashlib.sha256(contents).digest(), zstandard.compress(contents, 1)
        with Workspace(study) as workspace:
            sign_as(workspace, Ed25519PrivateKey.generate(), root, frame, size)
            del contents
            workspace.signatures()
            tracemalloc.start()
            (whole,) = workspace.signatures().whole
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert whole.right == right and whole.more == right
        assert len(whole.changes) == (100 if right else 0)
        assert peak < len(frame) + (8 << 20), f"{peak >> 20} MB for {size >> 20} MB"

    @pytest.mark.parametrize(
        "plain",
        [
            b"x", b"x\n", b"[]\n", b'["a","b","c","d"]\n', b'["a","b","c","d",5]\n', b"[" * 20_000 + b"\n",
            b'["a","\\ud800","c","d","e"]\n', b'["b","b","c","d","e"]\n["a","b","c","d","e"]\n',
            b'["a", "b", "c", "d", "e"]\n', b'["a","b","c","d","e"]', b"\xff\n", b"\n\n", b'"abcde"\n',
        ],
    )  # fmt: skip
    def test_lines_that_are_none_make_a_signature_wrong_and_nothing_else(self, study: Path, plain: bytes) -> None:
        with Workspace(study) as workspace:
            workspace.sign()
            frame = zstandard.compress(plain, LEVEL)
            sign_as(workspace, Ed25519PrivateKey.generate(), hashlib.sha256(plain).digest(), frame, len(plain))
            found = workspace.signatures()
        assert found.ok
        assert [whole.right for whole in found.whole] == [True, False]

    def test_thousands_of_signers_do_not_hide_a_trusted_one(self, study: Path) -> None:
        empty = hashlib.sha256(b"").digest()
        with Workspace(study) as workspace:
            workspace.sign()
            with workspace.transaction():
                for _ in range(2000):
                    sign_as(workspace, Ed25519PrivateKey.generate(), empty, b"", 0)
            found = workspace.signatures()
        assert found.ok and found.whole[0].trusted
        assert len(found.whole) < 20 and len(found.whole) + found.others == 2001
        assert f"{found.others} more signed it, whom you do not trust" in verify(study, 0)
