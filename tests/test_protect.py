"""A protected workspace: any damaged block is found, and made again, unless somebody changed the file meanwhile."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import apsw
import pytest

from artifactdb import BusyError, CorruptWorkspaceError, InvalidValueError, StorageFullError, Workspace
from artifactdb.catalog.files import catalog_folder
from artifactdb.cli.app import app
from artifactdb.database import parity
from artifactdb.transfer.repair import repair
from tests import fresh
from tests.campaigns.studies import make_study

pytest.importorskip("zfec", reason="the extra artifactdb[parity] is not installed")

BLOCK = 4096
SAVE = """
import sys
from artifactdb import Workspace
with Workspace(sys.argv[1], timeout_s=0.1) as workspace:
    workspace.registry("wheat", "0009_new").register_with_chain({"a": 1}, "s1.A", "model", 1)
"""


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_study(tmp_path_factory.mktemp("study") / "study.sqlite", weight=60)
    with Workspace(path) as workspace:
        workspace.protect()
    return path


@pytest.fixture
def study(protected: Path, tmp_path: Path) -> Path:
    for file in protected.parent.iterdir():
        (shutil.copytree if file.is_dir() else shutil.copy2)(file, tmp_path / file.name)  # type: ignore[operator]
    return tmp_path / protected.name


def damage(path: Path, *blocks: int, size: int = BLOCK, content: bytes | None = None) -> None:
    """Overwrite blocks as a disk does: no time changes."""
    status = path.stat()
    with path.open("r+b") as file:
        for block in blocks:
            file.seek(block * size)
            file.write(content or os.urandom(size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def state(path: Path) -> dict[str, bytes]:
    folder = catalog_folder(path)
    return {
        file.name: file.read_bytes() for file in [path, *folder.iterdir()] if file.suffix in (".sqlite", ".parquet")
    }


def test_any_tenth_of_the_blocks_comes_back(protected: Path, study: Path) -> None:
    before = state(protected)
    blocks = study.stat().st_size // BLOCK
    damage(study, *random.Random(0).sample(range(blocks), blocks // 12))
    found = repair(study)
    assert found.ok, found.problems
    assert found.done
    assert state(study) == before


def test_one_stretch_of_the_file_comes_back_its_header_included(protected: Path, study: Path) -> None:
    blocks = study.stat().st_size // BLOCK
    damage(study, *range(blocks // 12), content=bytes(BLOCK))
    assert repair(study).ok
    assert state(study) == state(protected)


def test_a_parquet_file_comes_back_and_one_that_is_gone_too(protected: Path, study: Path) -> None:
    files = sorted(catalog_folder(study).iterdir())
    damage(files[0], 0)
    files[1].unlink()
    assert repair(study).ok
    assert state(study) == state(protected)


def test_the_damaged_file_is_kept(study: Path) -> None:
    damage(study, 3, 5)
    damaged = study.read_bytes()
    found = repair(study)
    (kept,) = found.kept
    assert kept.read_bytes() == damaged


def test_nobody_gets_in_until_the_restored_file_has_its_name(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restored = parity.restore

    def somebody_comes(*arguments: Any) -> bool:
        whole = restored(*arguments)
        said.append(fresh.run(SAVE, study).stderr)
        return whole

    said: list[str] = []
    monkeypatch.setattr(parity, "restore", somebody_comes)
    damage(study, 3, 5)
    assert repair(study).ok
    assert "BusyError" in said[0], "as what was saved then would be gone with the damaged file"


def test_damage_of_the_parity_itself_is_borne_and_said(protected: Path, study: Path) -> None:
    protecting = study.with_name("study.sqlite.parity")
    damage(protecting, 0)  # the header, of which there are two, and the first checksums
    damage(protecting, protecting.stat().st_size // BLOCK - 3)
    damage(study, 4, 9)
    with Workspace(protected, mode="ro") as workspace:
        assert workspace.verify().ok
    assert repair(study).ok
    assert state(study) == state(protected)
    with Workspace(study, mode="ro") as workspace:
        assert "is damaged itself" in str(workspace.verify().problems)


def test_what_is_damaged_too_much_is_left_alone(study: Path) -> None:
    damage(study, *range(0, study.stat().st_size // BLOCK, 2))
    damaged = study.read_bytes()
    found = repair(study)
    assert "too many to be restored" in str(found.problems)
    assert "artifactdb recover" in str(found.problems)
    assert study.read_bytes() == damaged


def test_verify_names_the_block_of_each_flipped_byte_too(study: Path) -> None:
    content = study.read_bytes()
    place = content.index(b"model of fold 1")
    damage(study, place, size=1, content=b"M")
    with Workspace(study, mode="ro") as workspace:
        *rows, block = workspace.verify().problems
    assert all("is not what was written" in row.what for row in rows)
    assert f"({place // BLOCK})" in block.what
    assert repair(study).ok
    assert study.read_bytes() == content


def test_a_workspace_that_was_changed_is_never_brought_back_to_what_it_was(study: Path) -> None:
    with Workspace(study) as workspace:
        record = workspace.registry("wheat", "0009_new").register_with_chain({"a": 1}, "s1.A", "model", 1)
        assert not study.with_name("study.sqlite.parity").exists()
        found = workspace.verify()
        assert found.ok
        assert "of an earlier state" in str(found.notes)
    content = study.read_bytes()
    damage(study, study.stat().st_size // BLOCK - 1)
    found_repair = repair(study)
    assert "of an earlier state" in str(found_repair.done)
    damage(study, content.rindex(content[-BLOCK:]) // BLOCK, content=content[-BLOCK:])
    with Workspace(study) as workspace:
        assert workspace.load(record.artifact_id) == {"a": 1}


def test_a_sound_file_that_another_program_wrote_is_not_brought_back(study: Path) -> None:
    content = study.read_bytes()
    study.write_bytes(content.replace(b"model of fold ", b"MODEL of fold "))  # at a time of its own
    found = repair(study)
    assert "nothing was restored" in str(found.problems)
    assert "its row of records is not what was written" in str(found.problems)
    assert b"MODEL of fold 1" in study.read_bytes()
    found = repair(study, as_protected=True)
    assert found.ok and study.read_bytes() == content, "unless it is asked for"
    assert any(b"MODEL of fold 1" in kept.read_bytes() for kept in found.kept), "and what was there is kept"


def test_what_is_only_tried_takes_no_protection_away(study: Path, tmp_path: Path) -> None:
    before = state(study)
    with Workspace(tmp_path / "other.sqlite") as other:
        other.registry("wheat", "0009_a").register_with_chain({"a": 1}, "s1.A", "model", 1)
        other.export(tmp_path / "folder")
    with Workspace(study) as workspace:
        assert workspace.merge(tmp_path / "other.sqlite", dry_run=True).added["artifacts"] == 1
        assert workspace.import_folder(tmp_path / "folder", dry_run=True).artifacts == 1
        assert workspace.verify().notes == []
    assert state(study) == before
    damage(study, 2)
    assert repair(study).ok
    assert state(study) == before


def test_a_workspace_is_protected_again_after_a_change(study: Path) -> None:
    with Workspace(study) as workspace:
        workspace.registry("wheat", "0009_new").register_with_chain({"a": 1}, "s1.A", "model", 1)
        workspace.protect(overhead=0.5)
        assert not study.with_name("study.sqlite.parity.stale").exists()
    content = study.read_bytes()
    damage(study, *range(0, len(content) // BLOCK, 4))
    assert repair(study).ok
    assert study.read_bytes() == content


def test_damage_is_not_protected_in_the_place_of_what_repairs_it(protected: Path, study: Path) -> None:
    parity_before = study.with_name("study.sqlite.parity").read_bytes()
    with Workspace(study, mode="ro") as workspace:
        payload = workspace.database.value("SELECT payload FROM chunks ORDER BY size_bytes DESC LIMIT 1")
    damage(study, study.read_bytes().index(payload[:20]), size=1)
    with Workspace(study) as workspace, pytest.raises(CorruptWorkspaceError, match="verify --repair"):
        workspace.protect()
    assert study.with_name("study.sqlite.parity").read_bytes() == parity_before
    assert repair(study).ok
    assert state(study) == state(protected)


def test_a_workspace_that_was_renamed_with_its_parity_is_protected_again(study: Path) -> None:
    with Workspace(study) as workspace:
        workspace.protect()
    for path in sorted(study.parent.glob(f"{study.stem}.*")):
        path.rename(path.with_name(path.name.replace(study.stem, "renamed", 1)))
    with Workspace(study.with_name("renamed.sqlite")) as workspace:
        workspace.protect()
        assert workspace.verify().ok


def test_damage_is_not_protected_the_first_time_either(study: Path) -> None:
    study.with_name("study.sqlite.parity").unlink()
    damage(sorted(catalog_folder(study).iterdir())[0], 100, size=1)
    with Workspace(study) as workspace, pytest.raises(CorruptWorkspaceError, match="recover"):
        workspace.protect()
    assert not study.with_name("study.sqlite.parity").exists()


def test_what_protects_stays_until_its_successor_is_whole(study: Path) -> None:
    before, seen = study.with_name("study.sqlite.parity").read_bytes(), []
    with Workspace(study) as workspace:
        target = workspace.protect(
            0.2, progress=lambda *_: seen.append(study.with_name("study.sqlite.parity").read_bytes() == before)
        )
        assert seen and all(seen)
        assert target.read_bytes() != before


def test_the_overhead_is_what_was_asked(study: Path) -> None:
    with Workspace(study) as workspace:
        total = sum(len(content) for content in state(study).values())
        assert workspace.protect(0.25).stat().st_size < 0.30 * total
        with pytest.raises(InvalidValueError):
            workspace.protect(2.0)
        assert study.with_name("study.sqlite.parity").exists()


def test_the_parity_of_a_known_file_is_what_the_format_says(tmp_path: Path) -> None:
    """Computed here with nothing but the field of docs/format.md."""
    from artifactdb.database import parity

    content = random.Random(1).randbytes(5 * BLOCK)
    (tmp_path / "a.sqlite").write_bytes(content)
    target = tmp_path / "a.parity"
    target.write_bytes(b"")
    parity.write(tmp_path, [parity.describe(tmp_path, "a.sqlite")], target, 0.4, "now")
    said = parity.read(target)
    assert (said.data, said.parity, said.stripes) == (5, 2, 1)
    rows = systematic(5, 7)
    blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
    written = target.read_bytes()
    for number in range(2):
        at = said.parity_at(number)
        for byte in (0, 1, BLOCK - 1):
            expected = 0
            for factor, block in zip(rows[5 + number], blocks, strict=True):
                expected ^= times(factor, block[byte])
            assert written[at + byte] == expected


def times(a: int, b: int) -> int:
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


def systematic(data: int, total: int) -> list[list[int]]:
    """A Vandermonde matrix over the points 0, 1, a, a^2, ..., times the inverse of its upper square."""
    power = [1]
    while len(power) < 255:
        power.append(times(power[-1], 2))
    rows = [[1] + [0] * (data - 1)] + [[power[r * c % 255] for c in range(data)] for r in range(total - 1)]
    # By columns: what makes the upper square the identity.
    for pivot in range(data):
        column = next(c for c in range(pivot, data) if rows[pivot][c])
        for row in rows:
            row[pivot], row[column] = row[column], row[pivot]
        inverse = next(x for x in range(1, 256) if times(x, rows[pivot][pivot]) == 1)
        for row in rows:
            row[pivot] = times(row[pivot], inverse)
        for c in range(data):
            factor = rows[pivot][c]
            if c != pivot and factor:
                for row in rows:
                    row[c] ^= times(factor, row[pivot])
    return rows


def test_the_command_line_protects_and_repairs(study: Path, capsys: Any) -> None:
    from typer.testing import CliRunner

    run = CliRunner()
    assert run.invoke(app, ["protect", str(study)]).exit_code == 0
    damage(study, 2, 7)
    assert run.invoke(app, ["verify", str(study), "--repair"]).exit_code == 0
    assert run.invoke(app, ["verify", str(study)]).exit_code == 0


def test_a_damaged_index_is_made_again_from_its_table_without_parity(study: Path) -> None:
    study.with_name("study.sqlite.parity").unlink()
    content = study.read_bytes()
    root = 28  # where records_by_dataset_and_step begins in every workspace
    place = (root - 1) * BLOCK + int.from_bytes(content[(root - 1) * BLOCK + 8 :][:2], "big") + 4
    damage(study, place, size=1, content=b"\x7e")
    with Workspace(study, mode="ro") as workspace:
        assert "records_by_dataset_and_step" in str(workspace.verify().problems)
    found = repair(study)
    assert found.ok, found.problems
    assert "indexes" in str(found.done)
    with Workspace(study) as workspace:
        assert workspace.verify().ok


def test_rows_that_lead_nowhere_are_taken_out_and_the_arrays_of_an_object_listed_again(study: Path) -> None:
    study.with_name("study.sqlite.parity").unlink()
    connection = apsw.Connection(str(study))
    connection.execute("INSERT INTO run_records VALUES (77, 1)")
    connection.execute("DELETE FROM blob_parts")
    connection.close()
    found = repair(study)
    assert found.ok, found.problems
    assert len(found.kept) == 1
    assert "run_records" in str(found.done)
    assert "listed again" in str(found.done)


def test_nothing_is_written_to_a_sound_workspace_or_to_one_in_use(study: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in study.parent.iterdir()}
    assert repair(study).ok
    assert {file.name: file.stat().st_mtime_ns for file in study.parent.iterdir()} == before
    with Workspace(study), pytest.raises(BusyError):
        repair(study)


def test_a_parity_that_cannot_be_put_aside_keeps_the_workspace_from_being_changed(study: Path) -> None:
    blocker = study.with_name("study.sqlite.parity.stale")
    blocker.mkdir()
    (blocker / "something").write_bytes(b"")
    with Workspace(study) as workspace:
        before = len(workspace.records())
        with pytest.raises(StorageFullError, match="put aside"):
            workspace.registry("wheat", "0009_new").register_with_chain({"a": 1}, "s1.A", "model", 1)
        assert len(workspace.records()) == before
        blocker.joinpath("something").unlink()
        blocker.rmdir()
        workspace.registry("wheat", "0009_new").register_with_chain({"a": 1}, "s1.A", "model", 1)
        assert len(workspace.records()) == before + 1
