"""A stranger's file: nothing of it runs, and it takes no more memory and time than it may."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
import zstandard

from artifactdb import (
    ArtifactDBError,
    CorruptBlobError,
    CorruptWorkspaceError,
    DeserializationError,
    QueryError,
    Workspace,
)
from artifactdb.blobs import codec
from artifactdb.content import StoredContent
from artifactdb.database import declared, strict, structure
from artifactdb.database.migrations import schema_files
from artifactdb.formats.container import MAGIC, unpack
from tests import fresh
from tests.campaigns import hostile, mutations


@pytest.fixture
def study(file: Path) -> Path:
    """A closed workspace with one artifact, whose array is a blob of its own."""
    with Workspace(file) as workspace:
        workspace.registry("wheat", "0001").register(np.arange(20_000.0), "0001$aaaaaaaaaaaa:0", "model")
    return file


def change(file: Path, *statements: str) -> None:
    """Change a file without any of our rules."""
    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA ignore_check_constraints = 1; PRAGMA writable_schema = 1")
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


class TestConnections:
    def test_every_connection_is_restricted(self, workspace: Workspace) -> None:
        reader = workspace.database.open_reader()
        for connection in (workspace.database.connection(), reader):
            for name, value in strict._SWITCHES.items():
                assert connection.config(getattr(apsw, f"SQLITE_DBCONFIG_{name}"), -1) == value, name
            for name, value in strict._LIMITS.items():
                assert connection.limit(getattr(apsw, f"SQLITE_LIMIT_{name}"), -1) == value, name
            assert connection.pragma("cell_size_check") == 1
            assert connection.pragma("trusted_schema") == 0
        reader.close()
        for statement in ("CREATE VIRTUAL TABLE planted USING fts5(a)", "ATTACH ':memory:' AS other"):
            with pytest.raises(apsw.SQLError, match=r"no such module|too many attached"):
                workspace.database.connection().execute(statement)


class TestDeclarations:
    def test_what_is_known_of_each_schema_is_what_its_files_make(self) -> None:
        files = list(schema_files().values())
        made = {number: declared.digest(declared.made_by(files[:number])) for number in range(1, len(files) + 1)}
        assert made == declared.DIGESTS, "a new schema file: enter its digest in artifactdb/database/declared.py"

    @pytest.mark.parametrize(
        ("statement", "name"),
        [
            ("CREATE TRIGGER planted AFTER INSERT ON records BEGIN DELETE FROM chunks; END", "trigger 'planted'"),
            ("CREATE VIEW planted AS SELECT 1", "view 'planted'"),
            ("CREATE TABLE planted (a)", "table 'planted'"),
            ("CREATE VIRTUAL TABLE planted USING fts5(a)", "table 'planted'"),
            ("CREATE INDEX planted ON records (lower(class_name))", "index 'planted'"),
            (
                "UPDATE sqlite_schema SET sql = replace(sql, 'r.fold_id IS', '1 IS') WHERE name = 'folds'",
                "view 'folds'",
            ),
            ("DELETE FROM sqlite_schema WHERE name = 'folds'", "view 'folds'"),
            ("UPDATE sqlite_schema SET rootpage = 2 WHERE name IN ('records', 'chunks')", "one place"),
        ],
    )
    def test_what_no_artifactdb_made_is_refused_by_name(self, study: Path, statement: str, name: str) -> None:
        change(study, statement)
        before = study.read_bytes()
        for mode in ("rw", "ro"):
            with pytest.raises(CorruptWorkspaceError, match=name):
                Workspace(study, mode=mode)
        assert study.read_bytes() == before

    def test_a_trigger_in_an_older_file_does_not_run_while_it_is_brought_up_to_date(self, tmp_path: Path) -> None:
        file = tmp_path / "old.sqlite"
        shutil.copyfile(Path(__file__).parent / "golden" / "schema_1.sqlite", file)
        change(file, "CREATE TRIGGER planted AFTER DELETE ON training_runs BEGIN DELETE FROM chunks; END")
        with pytest.raises(CorruptWorkspaceError, match="planted"):
            Workspace(file)

    def test_statistics_of_the_planner_are_no_strangers(self, study: Path) -> None:
        change(study, "ANALYZE")
        with Workspace(study) as workspace:
            assert workspace.verify().ok


class TestStructure:
    @pytest.mark.parametrize(
        ("offset", "value"), [(36, b"\x7f\0\0\0"), (56, b"\0\0\0\2"), (28, b"\x7f\0\0\0"), (60, b"\xff\xff\xff\xff")]
    )
    def test_a_header_that_does_not_fit_the_file_is_refused(self, study: Path, offset: int, value: bytes) -> None:
        content = study.read_bytes()
        study.write_bytes(content[:offset] + value + content[offset + 4 :])
        with pytest.raises(ArtifactDBError):
            Workspace(study)

    def test_a_small_file_is_read_through_once(self, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Workspace(study).close()
        change(study, "UPDATE records SET meta_config = '{'")
        with pytest.raises(CorruptWorkspaceError, match="CHECK"):
            Workspace(study)
        change(study, "UPDATE records SET meta_config = NULL")
        Workspace(study).close()
        monkeypatch.setattr(structure, "_READ_THROUGH_BYTES", -1)
        assert structure._seen[study.stat().st_dev, study.stat().st_ino]


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"


class TestContent:
    @pytest.mark.parametrize(
        "frame",
        [
            zstandard.ZstdCompressor().compress(bytes(101)),
            zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100)),
            zstandard.ZstdCompressor().compress(bytes(100)) * 2,
            zstandard.ZstdCompressor().compress(bytes(50)) * 2,
            SKIPPABLE, SKIPPABLE + zstandard.ZstdCompressor().compress(bytes(100)), b"", b"\x28\xb5\x2f\xfd",
            b"\x28\xb5\x2f\xfd\xa3\x01\x02\x03\x04" + (100).to_bytes(4, "little") + b"\x01\x00\x00",  # a dictionary
            b"\x28\xb5\x2f\xfd\x80\xf8" + (100).to_bytes(4, "little") + b"\x01\x00\x00",  # a window of terabytes
            b"\x28\xb5\x2f\xfd\x60\x64\x00\x03\x00\x10x",  # a block longer than the frame
        ],
    )  # fmt: skip
    def test_a_frame_that_lies_is_refused(self, frame: bytes) -> None:
        with pytest.raises(CorruptBlobError):
            codec.decode(codec.EncodedChunk(100, "zstd", None, frame))

    @pytest.mark.parametrize(
        "shuffle",
        ["[]", "x", "[[8,96]]", "[[8,101]]", "[[0,100]]", "[[1,-1],[1,101]]", "[[1e999,100]]", '[["1","100"]]',
         "[[true,1]]", "[" * 5000, "[[300,100]]", "[[1,100]]" + " " * 100_000,
         "[[1,99999999999999999999999]]", "null", "5", "{}"],
    )  # fmt: skip
    def test_a_shuffle_that_does_not_fit_is_refused(self, shuffle: str) -> None:
        frame = zstandard.ZstdCompressor().compress(bytes(100))
        with pytest.raises(CorruptBlobError):
            codec.decode(codec.EncodedChunk(100, "zstd", shuffle, frame))

    @pytest.mark.parametrize(
        "values",
        [(None, "raw", None, b""), ("1", "raw", None, b"1"), (1, 2, None, b"1"), (1, "raw", 3, b"1"),
         (1, "raw", None, "1"), (1.0, "raw", None, b"1")],
    )  # fmt: skip
    def test_a_row_with_values_of_other_types_is_refused(self, values: tuple[Any, ...]) -> None:
        with pytest.raises(CorruptBlobError):
            codec.stored_chunk(*values)

    def test_a_chunk_that_cannot_hold_what_it_says_costs_no_memory(self) -> None:
        with pytest.raises(CorruptBlobError, match="stored bytes"):
            codec.decode(codec.EncodedChunk(64 << 20, "zstd", None, b"\x28\xb5\x2f\xfd" + bytes(10)))

    @pytest.mark.parametrize("size", [-1, 1 << 33, 1 << 62, (1 << 63) - 1])
    def test_a_blob_that_lies_about_its_size_costs_no_memory(self, study: Path, size: int) -> None:
        change(study, f"UPDATE blobs SET size_bytes = {size}")
        self.refused(study, CorruptBlobError, CorruptWorkspaceError)
        change(study, f"UPDATE chunks SET size_bytes = {size}")
        self.refused(study, CorruptBlobError, CorruptWorkspaceError)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE chunks SET chunk_index = 1", "DELETE FROM chunks", "UPDATE chunks SET size_bytes = 0",
            "UPDATE chunks SET size_bytes = -5", "UPDATE chunks SET size_bytes = 1",
            "DELETE FROM blob_parts", "UPDATE blob_parts SET part_key = blob_key",
            "UPDATE blob_parts SET blob_key = part_key",
            "INSERT INTO blob_parts SELECT blob_key, 1, part_key FROM blob_parts",
            "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100000) "
            "INSERT INTO blob_parts SELECT blob_key, x, part_key FROM blob_parts, n",
            "UPDATE blobs SET content_hash = x'00' WHERE blob_key = 1", "DELETE FROM blobs WHERE blob_key = 1",
        ],
    )  # fmt: skip
    def test_chunks_and_parts_that_lead_elsewhere_are_refused(self, study: Path, statement: str) -> None:
        change(study, statement)
        self.refused(study, CorruptBlobError, CorruptWorkspaceError)

    @pytest.mark.parametrize(
        "statement",
        [
            "INSERT INTO chunks SELECT blob_key, chunk_index + 1, size_bytes, codec, shuffle, payload FROM chunks",
            "INSERT INTO blob_parts SELECT part_key, 0, blob_key FROM blob_parts",
        ],
    )
    def test_chunks_and_parts_that_no_load_reads_are_found_by_verify(self, study: Path, statement: str) -> None:
        change(study, statement)
        with Workspace(study) as workspace:
            assert workspace.load("0001$aaaaaaaaaaaa:0").shape == (20_000,)
            assert not workspace.verify().ok
            with pytest.raises(CorruptBlobError):
                workspace.pack(study.with_name("packed.sqlite"))

    def refused(self, study: Path, *errors: type[Exception]) -> None:
        before = _peak_bytes()
        with pytest.raises(errors), Workspace(study) as workspace:
            assert not workspace.verify().ok
            workspace.load("0001$aaaaaaaaaaaa:0")
        structure._seen.clear()
        with pytest.MonkeyPatch.context() as patch:  # as if the file were a large one
            patch.setattr(structure, "_READ_THROUGH_BYTES", -1)
            with pytest.raises(errors), Workspace(study) as workspace:
                workspace.load("0001$aaaaaaaaaaaa:0")
            with pytest.raises(ArtifactDBError), Workspace(study) as workspace:
                workspace.pack(study.with_name("packed.sqlite"))
                raise QueryError("what nobody reaches is left behind")
        study.with_name("packed.sqlite").unlink(missing_ok=True)
        assert _peak_bytes() - before < 300 << 20

    @pytest.mark.parametrize(
        "head",
        [
            (10_000_001, 0, 0, b""), ((1 << 32) - 1, 0, 0, b""), (3, 0, 0, b""), (0, 0, (1 << 64) - 1, b""),
            (1, 0, 0, (1 << 63).to_bytes(8, "little") + bytes(8)), (1, 0, 0, bytes(12) + b"\7\0\0\0"),
            (1, 0, 0, bytes(12) + b"\1\0\0\0"), (1, 0, 0, bytes(12) + b"\1\0\0\0" + bytes(32)),
        ],
    )  # fmt: skip
    def test_a_container_whose_head_lies_is_refused(self, head: tuple[int, int, int, bytes]) -> None:
        count, reserved, stream, rest = head
        data = MAGIC + struct.pack("<IIQ", count, reserved, stream) + rest

        def part(digest: bytes) -> bytearray:
            raise CorruptBlobError("no such part")

        with pytest.raises((DeserializationError, CorruptBlobError)):
            unpack(StoredContent(bytearray(data), part))


PLANTED = "../" * 7 + "planted"


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE OR IGNORE library_files SET name = '{PLANTED}'",
        f"UPDATE library_artifacts SET record = json_set(record, '$.content_hash', 'sha256:{PLANTED}')",
        f"UPDATE library_artifacts SET record = json_set(record, '$.path', 'a.{PLANTED}')",
        f"UPDATE OR IGNORE library_entries SET name = '{PLANTED}'",
        f"UPDATE datasets SET name = '{PLANTED}'",
        f"UPDATE records SET class_name = 'x/{PLANTED}', format = '{PLANTED}', artifact_type = '{PLANTED}'",
        f"UPDATE catalog_files SET name = '{PLANTED}'",
    ],
)
def test_nothing_is_written_outside_of_the_folder_that_was_named(tmp_path: Path, statement: str) -> None:
    golden, file = Path(__file__).parent / "golden", tmp_path / "study.sqlite"
    shutil.copyfile(golden / "schema_3.sqlite", file)
    shutil.copytree(golden / "schema_3.catalog", tmp_path / "study.catalog")
    change(file, statement)
    for way in ("export", "pack", "backup"):
        inner = tmp_path / way / "a" / "b"
        inner.mkdir(parents=True)
        with suppress(ArtifactDBError), Workspace(file) as workspace:
            getattr(workspace, way)(inner / "out")
        assert list(tmp_path.rglob("planted*")) == []


READING = """
import json, os, sys
if os.getuid() == 0 and sys.argv[3] == "other":
    import numpy, pyarrow.dataset, duckdb, sklearn, artifactdb.catalog.catalog, artifactdb.transfer.pack
    os.setgid(65534); os.setuid(65534)
from artifactdb import Workspace
file, out = sys.argv[1:3]
folder = os.path.dirname(file)
def look():
    return sorted(os.listdir(folder))
with Workspace(file, mode="ro") as workspace:
    workspace.records(), workspace.stats(), workspace.query("SELECT * FROM artifacts")
    workspace.sql("SELECT * FROM predictions"), workspace.verify()
    during = look()
    workspace.pack(out)
print(json.dumps([during, look()]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize("who", ["self", "other"])
def test_a_workspace_that_is_only_read_leaves_its_folder_as_it_is(study: Path, tmp_path: Path, who: str) -> None:
    folder = Path(tempfile.mkdtemp())
    out = Path(tempfile.mkdtemp())
    try:
        file = Path(shutil.copyfile(study, folder / "study.sqlite"))
        if who == "other":
            file.chmod(0o444), folder.chmod(0o555), out.chmod(0o777)
        done = fresh.run(READING, file, out / "packed.sqlite", who)
        assert done.returncode == 0, done.stderr
        during, after = json.loads(done.stdout)
        assert during == after == ["study.sqlite"]
        assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(study.read_bytes()).digest()
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
        shutil.rmtree(out, ignore_errors=True)


LEFT = """
import os, sys
from artifactdb import ReadOnlyError, Workspace
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    Workspace(sys.argv[1], mode="ro")
except ReadOnlyError as error:
    print("Copy both" in str(error), sorted(os.listdir(os.path.dirname(sys.argv[1]))))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize("left", ["study.sqlite-wal", "study.sqlite-journal"])
def test_what_a_killed_writer_left_on_a_read_only_medium_is_said(study: Path, left: str) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        file = Path(shutil.copyfile(study, folder / "study.sqlite"))
        (folder / left).write_bytes(b"left")
        folder.chmod(0o555)
        done = fresh.run(LEFT, file)
        assert done.stdout.strip() == f"True ['study.sqlite', '{left}']", done.stderr
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize("ended", [b"", bytes(512)])
def test_a_rollback_journal_that_has_ended_keeps_nobody_from_reading(study: Path, ended: bytes) -> None:
    folder, out = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    try:
        file = Path(shutil.copyfile(study, folder / "study.sqlite"))
        (folder / "study.sqlite-journal").write_bytes(ended)
        folder.chmod(0o555), out.chmod(0o777)
        assert fresh.run(READING, file, out / "packed.sqlite", "other").returncode == 0
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
        shutil.rmtree(out)


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_a_thousand_mutations_give_errors_of_ours_and_nothing_else() -> None:
    seed = int(os.environ.get("ARTIFACTDB_MUTATION_SEED", "0"))
    tally = mutations.campaign(1000, seed)
    assert tally.done == 1000
    assert not tally.failures, json.dumps(tally.failures, indent=1)[:20_000]
    assert set(tally.kinds) >= set(hostile.MUTATIONS) - {"value"}


def test_a_mutation_is_the_same_each_time(study: Path) -> None:
    content = study.read_bytes()
    for number in range(20):
        assert hostile.mutated(content, random.Random(number)) == hostile.mutated(content, random.Random(number))
