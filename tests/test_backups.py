"""A series of backups: each copy of one instant, whole and checked; what did not change is stored once."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from artifactdb import (
    ArtifactDBError,
    CorruptWorkspaceError,
    InvalidValueError,
    StorageError,
    Workspace,
    WorkspaceNotFoundError,
)
from artifactdb.cli.app import app
from artifactdb.database import disk
from artifactdb.transfer import backups
from artifactdb.transfer.backups import PIECE_BYTES
from tests import fresh


def fill(workspace: Workspace, number: int, model: Any) -> str:
    """Add an artifact with its prediction."""
    with workspace.transaction():
        record = workspace.registry("wheat", f"{number:04}_m").register_with_chain(model, "s1.Model", "model", 1)
        workspace.catalog.add(
            dataset_name="wheat", pipeline_uid=f"{number:04}_m", model_name="m", partition="val", metric="rmse",
            val_score=float(number), y_pred=np.arange(50.0) + number, model_artifact_id=record.artifact_id,
        )  # fmt: skip
    return record.artifact_id


def picture(path: Path) -> dict[str, Any]:
    """Give what a workspace holds, read back and compared with its hashes."""
    with Workspace(path, mode="ro") as workspace:
        assert workspace.verify().ok
        ids = [row["id"] for row in workspace.catalog.filter().to_dicts()]
        rows = [workspace.catalog.get(prediction_id, arrays=True) for prediction_id in ids]
        return {
            "records": {record.artifact_id: record.content_hash for record in workspace.records()},
            "predictions": sorted((row["id"], row["val_score"], np.sum(row["y_pred"])) for row in rows),
        }


@pytest.fixture
def ballast() -> np.ndarray[Any, Any]:
    """What does not change from one copy to the next, and cannot be compressed."""
    return np.random.default_rng(0).normal(size=400_000)


def test_each_copy_is_what_was_there_and_shares_what_did_not_change(
    file: Path, tmp_path: Path, fitted: dict[str, Any], ballast: Any
) -> None:
    folder, pictures, copies = tmp_path / "backups", [], []
    for number, name in enumerate(["pls", "ridge", "svr", "forest"]):
        with Workspace(file) as workspace:
            workspace.registry("wheat", "0100").register(ballast, "0100$aaaaaaaaaaaa:0", "model")
            fill(workspace, number, fitted[name])
            copies.append(workspace.backup_to(folder))
            if number == 1:
                workspace.catalog.flush()
        pictures.append(picture(file))
    assert copies[0].new_bytes == copies[0].size_bytes
    assert all(copy.new_bytes < copy.size_bytes / 2 for copy in copies[1:]), copies
    assert Workspace.backups(folder) == copies
    for copy, expected in zip(copies, pictures, strict=True):
        restored = Workspace.restore(folder, tmp_path / f"{copy.name}.sqlite", at=copy.taken_at)
        assert picture(restored) == expected, "and nothing that came later"
    stored = sum(path.stat().st_size for path in folder.glob("pieces/*/*"))
    assert stored == sum(copy.new_bytes for copy in copies)
    assert {path.name for path in folder.iterdir()} == {"pieces", "copies"}


def test_the_oldest_go_with_what_only_they_had(file: Path, tmp_path: Path, fitted: dict[str, Any]) -> None:
    folder = tmp_path / "backups"
    with Workspace(file) as workspace:
        for number, name in enumerate(["pls", "ridge", "svr", "forest"]):
            fill(workspace, number, fitted[name])
            workspace.catalog.compact()
            workspace.backup_to(folder, keep=2)
    kept = Workspace.backups(folder)
    assert len(kept) == 2
    for copy in kept:
        picture(Workspace.restore(folder, tmp_path / f"{copy.name}.sqlite", at=copy.taken_at))
    needed = {
        piece
        for path in (folder / "copies").iterdir()
        for listed in json.loads(path.read_text())["files"]
        for piece in listed["pieces"]
    }
    assert {path.name for path in folder.glob("pieces/*/*")} == needed
    with pytest.raises(WorkspaceNotFoundError, match="the first is of"):
        Workspace.restore(folder, tmp_path / "too early.sqlite", at="2020-01-01")
    assert Workspace.restore(folder, tmp_path / "today.sqlite", at=kept[1].taken_at[:10]).exists(), "the day as a whole"


def test_several_workspaces_in_one_folder_do_not_take_each_others_place(tmp_path: Path, fitted: dict[str, Any]) -> None:
    folder, expected, copies = tmp_path / "backups", {}, {}
    for name in ("wheat", "barley", "wheat", "barley"):
        with Workspace(tmp_path / name) as workspace:  # whose file is called workspace.sqlite
            fill(workspace, len(copies), fitted["ridge"])
            copies[name] = workspace.backup_to(folder, keep=1)
        expected[name] = picture(tmp_path / name / "workspace.sqlite")
    assert Workspace.backups(folder) == [copies["wheat"], copies["barley"]]
    with pytest.raises(InvalidValueError, match=copies["wheat"].taken_at[:26]):
        Workspace.restore(folder, tmp_path / "restored.sqlite")
    for name, copy in copies.items():
        restored = Workspace.restore(folder, tmp_path / f"{name}.sqlite", at=copy.taken_at)
        assert picture(restored) == expected[name]
    for path in (folder / "copies").iterdir():  # as earlier versions wrote them
        listed = json.loads(path.read_text())
        del listed["workspace_id"]
        path.write_text(json.dumps(listed))
    assert Workspace.restore(folder, tmp_path / "newest.sqlite").exists(), "who has no id goes by its name"
    with Workspace(tmp_path / "wheat") as workspace:
        workspace.backup_to(folder, keep=1)
    assert len(Workspace.backups(folder)) == 3, "what does not say whose it is may be another's"


def test_a_copy_of_a_workspace_takes_the_place_of_none_of_its_own(file: Path, tmp_path: Path, fitted: Any) -> None:
    """It has the same id; a workspace that was renamed cannot be told from one that was copied."""
    folder, other = tmp_path / "backups", tmp_path / "other.sqlite"
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])
        workspace.backup(other)
        copies = [workspace.backup_to(folder, keep=1)]
    with Workspace(other) as workspace:
        copies += [workspace.backup_to(folder, keep=1) for _ in range(2)][1:]
    assert Workspace.backups(folder) == copies
    assert Workspace.restore(folder, tmp_path / "newest.sqlite").exists()
    assert Workspace.restore(folder, tmp_path / "first.sqlite", at=copies[0].taken_at).exists()


@pytest.mark.campaign
def test_a_copy_is_of_one_instant_while_others_write(file: Path, tmp_path: Path, fitted: dict[str, Any]) -> None:
    """A record and its prediction come in one transaction: no copy has the one without the other."""
    folder, done = tmp_path / "backups", threading.Event()
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])

        def write() -> None:
            number = 1
            while not done.is_set():
                fill(workspace, number, {"number": number})
                if number % 5 == 0:
                    workspace.catalog.flush()
                if number % 12 == 0:
                    workspace.catalog.compact()
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            copies = [workspace.backup_to(folder) for _ in range(4)]
        finally:
            done.set()
            writer.join()
    sizes = []
    for copy in copies:
        found = picture(Workspace.restore(folder, tmp_path / f"{copy.name}.sqlite", at=copy.taken_at))
        assert len(found["records"]) == len(found["predictions"])
        sizes.append(len(found["records"]))
    assert sizes == sorted(sizes)


@pytest.mark.campaign
def test_one_that_is_killed_is_gone_on_with(file: Path, tmp_path: Path, fitted: dict[str, Any], ballast: Any) -> None:
    folder = tmp_path / "backups"
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])
        first = workspace.backup_to(folder)
        workspace.registry("wheat", "0100").register(ballast, "0100$aaaaaaaaaaaa:0", "model")
    code = (
        "import os, sys; from artifactdb import Workspace\n"
        "def kill(done, total):\n    if done > total / 2: os.kill(os.getpid(), 9)\n"
        "Workspace(sys.argv[1]).backup_to(sys.argv[2], progress=kill)"
    )
    killed = fresh.run(code, file, folder)
    assert killed.returncode == -9
    assert Workspace.backups(folder) == [first]
    picture(Workspace.restore(folder, tmp_path / "first.sqlite"))
    with Workspace(file) as workspace:
        second = workspace.backup_to(folder, keep=1)
    assert second.new_bytes < ballast.nbytes * 0.7, "what the killed one wrote is not written again"
    assert picture(Workspace.restore(folder, tmp_path / "second.sqlite")) == picture(file)
    assert not list(folder.glob(".*")), "and what it left half done is cleared away"


def test_what_one_that_was_broken_off_wrote_is_on_the_disk_before_a_list_names_it(
    file: Path, tmp_path: Path, fitted: dict[str, Any], ballast: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, synced, sync = tmp_path / "backups", set[Path](), disk.sync

    def break_off(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    def note(path: Path) -> None:
        sync(path)
        synced.add(path)

    monkeypatch.setattr(disk, "sync", note)
    with Workspace(file) as workspace:
        workspace.registry("wheat", "0100").register(ballast, "0100$aaaaaaaaaaaa:0", "model")
        with pytest.raises(KeyboardInterrupt):
            workspace.backup_to(folder, progress=break_off)
        assert (pieces := set(folder.glob("pieces/*/*"))) and not pieces & synced
        synced.clear()
        workspace.backup_to(folder)
    assert synced >= {*folder.glob("pieces/*/*"), *folder.glob("pieces/*"), folder / "pieces"}


def test_a_damaged_piece_is_found_and_the_next_copy_mends_it(
    file: Path, tmp_path: Path, fitted: dict[str, Any]
) -> None:
    folder = tmp_path / "backups"
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["forest"])
        workspace.catalog.flush()
        workspace.backup_to(folder)
        pieces = sorted(folder.glob("pieces/*/*"))
        assert len(pieces) >= 2
        for piece in pieces:
            whole = piece.read_bytes()
            for damage in (whole[:-1], whole[:5] + bytes([whole[5] ^ 1]) + whole[6:], b"", None):
                piece.unlink()
                if damage is not None:
                    piece.write_bytes(damage)
                with pytest.raises(CorruptWorkspaceError, match=piece.name):
                    Workspace.restore(folder, tmp_path / "restored.sqlite")
                assert not (tmp_path / "restored.sqlite").exists()
                assert not (tmp_path / "restored.catalog").exists()
                if damage is None:
                    piece.write_bytes(whole)
        pieces[0].write_bytes(b"rotten")
        workspace.backup_to(folder)
    for copy in Workspace.backups(folder):
        picture(Workspace.restore(folder, tmp_path / f"{copy.name}.sqlite", at=copy.taken_at))


def test_a_damaged_workspace_takes_the_place_of_no_good_copy(file: Path, tmp_path: Path, fitted: Any) -> None:
    folder = tmp_path / "backups"
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])
        workspace.backup_to(folder)
        workspace.database.rows("UPDATE chunks SET payload = zeroblob(length(payload))")
        with pytest.raises(CorruptWorkspaceError, match="not sound, and was not kept"):
            workspace.backup_to(folder, keep=1)
    picture(Workspace.restore(folder, tmp_path / "restored.sqlite"))


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.update(format="artifactdb backup 2"),
        lambda found: found.update(workspace=["elsewhere.sqlite"]),
        lambda found: found.update(taken_at="2000-01-01T00:00:00+00:00"),
        lambda found: found["files"][0].update(piece_bytes=1),
        lambda found: found["files"][-1].update(name="../outside.parquet"),
        lambda found: found["files"][-1].update(name="/etc/passwd"),
        lambda found: found["files"][0].update(pieces=["../../../etc/passwd"]),
        lambda found: found["files"][0]["pieces"].append("0" * 64),
        lambda found: found["files"][0].update(kind="catalog"),
        lambda found: found.update(files=5),
        lambda found: found["files"][0].update(size_bytes="5"),
        lambda found: found.pop("taken_at"),
    ],
)
def test_a_list_that_leads_elsewhere_is_refused(file: Path, tmp_path: Path, fitted: Any, change: Any) -> None:
    """A folder of backups may come from anybody."""
    folder = tmp_path / "backups"
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])
        workspace.catalog.flush()
        workspace.backup_to(folder)
    (listed,) = (folder / "copies").iterdir()
    found = json.loads(listed.read_text())
    change(found)
    listed.write_text(json.dumps(found))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(CorruptWorkspaceError):
        Workspace.restore(folder, tmp_path / "restored.sqlite")
    assert set(tmp_path.rglob("*")) == before
    pieces = len(list(folder.glob("pieces/*/*")))
    with Workspace(file) as workspace:
        first = workspace.backup_to(folder)
        with pytest.warns(UserWarning, match="cannot be read, so no older copy was removed"):
            workspace.backup_to(folder, keep=1)
    assert len(list(folder.glob("pieces/*/*"))) >= pieces, "and while one cannot be read nothing is swept away"
    assert (folder / "copies" / f"{first.name}.json").exists()


@pytest.mark.parametrize(
    "name", ["json.py", "study.sqlite-wal", "../elsewhere.sqlite", ".hidden.sqlite", "", "a\ud800.sqlite", "x" * 300]
)
def test_a_copy_that_is_put_into_a_folder_bears_the_name_of_a_workspace(
    file: Path, tmp_path: Path, fitted: Any, name: str
) -> None:
    """A list may say json.py: the next script that runs there would import it."""
    folder = tmp_path / "backups"
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])
        workspace.backup_to(folder)
    (listed,) = (folder / "copies").iterdir()
    listed.write_text(json.dumps(json.loads(listed.read_text()) | {"workspace": name}))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ArtifactDBError):
        Workspace.restore(folder, tmp_path)
    assert set(tmp_path.rglob("*")) == before


def test_what_is_no_workspace_is_not_restored_as_one(tmp_path: Path) -> None:
    code = b"print('ran')"
    digest = hashlib.sha256(code).hexdigest()
    folder = tmp_path / "backups"
    (folder / "pieces" / digest[:2]).mkdir(parents=True)
    (folder / "pieces" / digest[:2] / digest).write_bytes(code)
    (folder / "copies").mkdir()
    (folder / "copies" / "20260101T000000.000000Z.json").write_text(
        json.dumps(
            {"format": "artifactdb backup 1", "taken_at": "2026-01-01T00:00:00+00:00", "workspace": "wheat.sqlite",
             "new_bytes": 1, "files": [{"kind": "workspace", "name": "wheat.sqlite", "size_bytes": len(code),
             "sha256": digest, "piece_bytes": PIECE_BYTES, "pieces": [digest]}]}
        )
    )  # fmt: skip
    assert len(Workspace.backups(folder)) == 1
    for target in (tmp_path, tmp_path / "json.py"):
        with pytest.raises(ArtifactDBError, match=r"not an SQLite database|is not a"):
            Workspace.restore(folder, target)
    assert {path.name for path in tmp_path.iterdir()} == {"backups"}


def test_links_in_a_folder_of_backups_lead_to_no_other_files(file: Path, tmp_path: Path, fitted: Any) -> None:
    victim = tmp_path / "victim" / "docs"
    victim.mkdir(parents=True)
    for name in ("thesis.txt", "20200101T000000.000000Z.json", "a" * 64):
        (victim / name).write_text("years of work")
    folder = tmp_path / "backups"
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])
        workspace.backup_to(folder)
        piece = next(folder.glob("pieces/*/*"))
        for link in (folder / "pieces" / "zz", folder / "pieces", folder / "copies"):
            kept = link.rename(tmp_path / "kept") if link.exists() else None
            link.symlink_to(victim if link.name == "zz" else victim.parent, target_is_directory=True)
            with pytest.raises(InvalidValueError, match="is a link"):
                workspace.backup_to(folder, keep=1)
            link.unlink()
            if kept:
                kept.rename(link)
        piece.unlink()
        os.mkfifo(piece)
        with pytest.raises(CorruptWorkspaceError, match="not there"):
            Workspace.restore(folder, tmp_path / "restored.sqlite")
        workspace.backup_to(folder, keep=1)
    assert sorted(path.read_text() for path in victim.iterdir()) == ["years of work"] * 3
    picture(Workspace.restore(folder, tmp_path / "restored.sqlite"))


def test_a_copy_of_a_time_to_come_is_no_reason_to_remove_the_new_one(file: Path, tmp_path: Path, fitted: Any) -> None:
    folder = tmp_path / "backups"
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])
        first = workspace.backup_to(folder)
        listed = folder / "copies" / f"{first.name}.json"
        for days, fits in ((0.5, True), (400, False)):
            later = datetime.now(UTC) + timedelta(days=days)
            name = later.strftime("%Y%m%dT%H%M%S.%fZ")
            made_up = folder / "copies" / f"{name}.json"
            made_up.write_text(json.dumps(json.loads(listed.read_text()) | {"taken_at": later.isoformat()}))
            if fits:
                newest = workspace.backup_to(folder, keep=1)  # the clock was put back
                assert [copy.name for copy in Workspace.backups(folder)] == [newest.name]
                listed = folder / "copies" / f"{newest.name}.json"
            else:
                with pytest.raises(InvalidValueError, match="still to come"):
                    workspace.backup_to(folder, keep=1)
                assert listed.exists()


def test_a_large_file_is_cut_into_fewer_pieces() -> None:
    assert [backups._piece_bytes(size) for size in (0, 1, PIECE_BYTES << 16, (PIECE_BYTES << 16) + 1, 100 << 30)] == [
        PIECE_BYTES, PIECE_BYTES, PIECE_BYTES, 2 * PIECE_BYTES, 8 * PIECE_BYTES,
    ]  # fmt: skip


def test_a_catalog_that_is_a_link_is_not_written_to(file: Path, tmp_path: Path, fitted: Any) -> None:
    """A stranger's workspace may come with a link to another's catalog beside it."""
    with Workspace(tmp_path / "mine.sqlite") as mine:
        fill(mine, 0, fitted["ridge"])
        mine.catalog.compact()
    with Workspace(file) as workspace:
        workspace.registry("wheat", "0100").register(np.arange(3.0), "0100$aaaaaaaaaaaa:0", "model")
    file.with_suffix(".catalog").symlink_to(tmp_path / "mine.catalog", target_is_directory=True)
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine.catalog").iterdir()}
    with Workspace(file) as workspace:
        fill(workspace, 1, fitted["svr"])
        for write in (workspace.catalog.flush, workspace.catalog.compact):
            with pytest.raises(ArtifactDBError, match="is a link"):
                write()
        file.with_suffix(".catalog").unlink()
    assert {path.name: path.read_bytes() for path in (tmp_path / "mine.catalog").iterdir()} == before


def test_bad_input_gets_a_clear_error(file: Path, tmp_path: Path, fitted: Any) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])
        with pytest.raises(InvalidValueError, match="holds other files"):
            workspace.backup_to(tmp_path / "mine", keep=1)
        for keep in (0, -1, True, "2"):
            with pytest.raises(InvalidValueError, match="keep is"):
                workspace.backup_to(tmp_path / "backups", keep=keep)  # type: ignore[arg-type]
        with pytest.raises(ArtifactDBError):
            workspace.backup_to(file)
        workspace.backup_to(tmp_path / "backups")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    with pytest.raises(WorkspaceNotFoundError, match="no backups"):
        Workspace.backups(tmp_path / "nowhere")
    with pytest.raises(InvalidValueError, match="is no time"):
        Workspace.restore(tmp_path / "backups", tmp_path / "new.sqlite", at="yesterday")
    with pytest.raises(InvalidValueError, match="is there already"):
        Workspace.restore(tmp_path / "backups", file)
    (tmp_path / "new.catalog").mkdir()
    with pytest.raises(InvalidValueError, match="is there already"):
        Workspace.restore(tmp_path / "backups", tmp_path / "new.sqlite")
    assert (tmp_path / "new.catalog").is_dir(), "what was there stays"


@pytest.mark.campaign
@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs a full device")
def test_a_full_disk_leaves_the_copies_that_were_there(file: Path, tmp_path: Path, fitted: Any, ballast: Any) -> None:
    folder = tmp_path / "backups"
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])
        workspace.backup_to(folder)
        workspace.registry("wheat", "0100").register(ballast, "0100$aaaaaaaaaaaa:0", "model")
    code = (
        "import resource, signal, sys; from artifactdb import ArtifactDBError, Workspace\n"
        "workspace = Workspace(sys.argv[1], mode='ro')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "try: workspace.backup_to(sys.argv[2])\n"
        "except ArtifactDBError as error: print(type(error).__name__)"
    )
    for limit in (PIECE_BYTES - 1, 1 << 20):
        said = fresh.run(code, file, folder, limit)
        assert said.stdout.strip() in {error.__name__ for error in (StorageError, *StorageError.__subclasses__())}
        assert len(Workspace.backups(folder)) == 1
    picture(Workspace.restore(folder, tmp_path / "restored.sqlite"))


def test_the_command_line(file: Path, tmp_path: Path, fitted: dict[str, Any]) -> None:
    with Workspace(file) as workspace:
        fill(workspace, 0, fitted["ridge"])

    def run(*command: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, list(map(str, command)))
        assert done.exit_code == code or isinstance(done.exception, ArtifactDBError), (done.output, done.exception)
        return done.output

    folder = tmp_path / "backups"
    assert "are new" in run("backup", file, "--to", folder, "--keep", 3)
    (copy,) = json.loads(run("backups", folder, "--json"))
    assert copy["workspace"] == file.name and copy["taken_at"][:19] in run("backups", folder)
    run("restore", folder, tmp_path / "restored.sqlite", "--at", copy["taken_at"])
    assert picture(tmp_path / "restored.sqlite") == picture(file)
    assert json.loads(run("restore", folder, tmp_path / "again.sqlite", "--json"))["size_bytes"] > 0
    with pytest.raises(InvalidValueError):
        CliRunner().invoke(app, ["backup", str(file)], catch_exceptions=False)
