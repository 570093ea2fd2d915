"""A wrong bit in any column is found by ``verify``, which names the row; nothing that artifactdb does leaves one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifactdb import Workspace, recover
from artifactdb.artifacts import row_problems
from artifactdb.database import row_checks
from artifactdb.database.row_checks import KEYS, row_check
from artifactdb.trust import team_keys
from tests.campaigns import studies
from tests.campaigns.studies import copied
from tests.test_older_files import FILES

OF_ROW = {
    "blobs": "blob sha256:", "catalog_files": "catalog file predictions_", "datasets": "dataset ",
    "history": "event 0 of ", "library_artifacts": "library entry pipeline quality, artifact 0",
    "library_entries": "library entry ", "pipelines": "pipeline 000", "records": "$",
    "run_entries": "run ", "signers": "signer ", "staged_arrays": "array array_", "staged_predictions": "prediction ",
    "trained_pipelines": "pipeline 000",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a row in every table, at rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARTIFACTDB_HOME", str(tmp_path_factory.mktemp("home")))
        team_keys.make("ada")
        path = studies.make_study(tmp_path_factory.mktemp("study") / "study.sqlite", 1, 2)
        with Workspace(path) as workspace:
            workspace.sign()
            workspace.database.close()  # without moving the staged rows
    return path


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return copied(made, tmp_path / "study.sqlite")


def by_another_program(path: Path, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(path))
    try:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def columns_of(path: Path, table: str) -> list[str]:
    return [name for (name,) in by_another_program(path, "SELECT name FROM pragma_table_info(?)", (table,))]


def found(path: Path) -> dict[str, str]:
    with Workspace(path, mode="ro") as workspace:
        return {problem.where: problem.what for problem in row_problems.check(workspace.database)}


def other(value: Any) -> Any:
    """Give a value of the same type and nearly the same: a bit of it is another one."""
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:] if value else b"\1"
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) ^ 1) if value else "a"
    if isinstance(value, float):
        return struct.unpack("<d", other(struct.pack("<d", value)))[0]
    return 1 if value is None else value ^ 1 if value > 1 else value + 2


@pytest.mark.parametrize("table", KEYS)
def test_another_value_in_any_column_is_found_and_its_row_named(study: Path, table: str) -> None:
    kept = study.read_bytes()
    names = ", ".join(KEYS[table])
    for column in columns_of(study, table):
        if column in KEYS[table]:
            continue
        (row,) = by_another_program(study, f'SELECT {names}, "{column}" FROM {table} ORDER BY {names} LIMIT 1')
        where = " AND ".join(f"{name} = ?" for name in KEYS[table])
        changed = other(row[-1])
        try:
            by_another_program(study, f'UPDATE {table} SET "{column}" = ? WHERE {where}', (changed, *row[:-1]))
        except apsw.ConstraintError:  # a text where there was none
            by_another_program(study, f'UPDATE {table} SET "{column}" = ? WHERE {where}', ("a", *row[:-1]))
        (problem,) = found(study).items()
        assert OF_ROW.get(table, f"{table} row") in problem[0]
        assert f"its row of {table} is not what was written" in problem[1], column
        study.write_bytes(kept)
    assert found(study) == {}


@pytest.mark.parametrize("table", KEYS)
def test_another_key_is_found(study: Path, table: str) -> None:
    key = KEYS[table][0]
    new = "CAST(x'01' || substr(statement, 2) AS BLOB)" if table == "signatures" else f"{key} + 1000"
    by_another_program(study, f"UPDATE {table} SET {key} = {new} WHERE {key} = (SELECT min({key}) FROM {table})")
    assert any("is not what was written" in what for what in found(study).values()) or table == "identity"


def test_verify_says_what_to_do(study: Path) -> None:
    by_another_program(study, "UPDATE run_entries SET notes = 'by hand' WHERE run_key = 1")
    with Workspace(study) as workspace:
        (problem,) = workspace.verify().problems
        assert problem.where == f"run {workspace.runs('wheat')[0].run_id}"
        assert "`artifactdb verify --repair`" in problem.what
        assert "backup" in problem.what


def test_text_that_is_no_utf_8_is_named_too(study: Path) -> None:
    by_another_program(
        study,
        "UPDATE staged_predictions SET metric = CAST(x'ff' AS TEXT) "
        "WHERE staged_key = (SELECT max(staged_key) FROM staged_predictions)",
    )
    by_another_program(study, "UPDATE records SET artifact_id = CAST(x'ff' AS TEXT) WHERE record_key = 2")
    first, second = found(study)
    assert first == "records row 2"
    assert second.startswith("staged_predictions row ")
    with Workspace(study, mode="ro") as workspace:
        assert [problem.where for problem in workspace.verify().problems][:2] == [first, second]


def test_rows_out_of_order_end_the_search_for_damaged_text(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_another_program(study, "INSERT INTO datasets VALUES (11, 'a', 'now', 0), (12, 'b', 'now', 0)")
    by_another_program(study, "INSERT INTO datasets VALUES (13, CAST(x'ff' AS TEXT), 'now', 0)")
    ((root, size),) = by_another_program(
        study, "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'datasets'"
    )
    content = bytearray(study.read_bytes())
    leaf = (root - 1) * size
    assert content[leaf] == 13 and content[leaf + 3 : leaf + 5] == b"\0\5"
    ends = slice(leaf + 8 + 2 * 3, leaf + 8 + 2 * 5)  # where the last two of the five rows lie
    content[ends] = content[ends][2:] + content[ends][:2]
    study.write_bytes(content)
    monkeypatch.setattr("artifactdb.database.structure._READ_THROUGH_BYTES", 0)
    with Workspace(study, mode="ro") as workspace:
        problems = list(row_problems.check(workspace.database))
    assert [problem.what for problem in problems if problem.where == "table datasets"] == [
        "the rows of datasets are not in the order of their keys."
    ]


def test_rows_of_another_program_are_counted_by_table(study: Path) -> None:
    for name in ("rye", "oat"):
        by_another_program(study, "INSERT INTO datasets (name, created_at) VALUES (?, '2026-01-01')", (name,))
    assert list(found(study)) == ["table datasets"]
    assert found(study)["table datasets"].startswith("2 rows were written by another program")
    with Workspace(study, mode="ro") as workspace:
        workspace.pack(study.with_name("packed.sqlite"))
    assert found(study.with_name("packed.sqlite")) == {}


def test_what_a_stranger_s_file_says_there_is_a_problem_and_nothing_else(study: Path) -> None:
    with Workspace(study) as workspace:
        workspace.trust()
    by_another_program(study, "UPDATE records SET row_check = row_check - 1")
    with Workspace(study) as workspace:
        records = workspace.records()
        assert len(workspace.verify().problems) == len(records)
        for record in records:
            workspace.load(record.artifact_id, dataset=record.dataset)


def test_more_wrong_rows_than_anybody_reads_are_not_all_named(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_problems, "_MOST", 3)
    by_another_program(study, "UPDATE history SET act = 'invented'")
    problems = found(study)
    assert len(problems) == 4
    assert "more than 3 rows" in problems["table history"]


# -- what artifactdb writes -------------------------------------------------------------------------


def _replace_and_delete(workspace: Workspace) -> None:
    registry = workspace.registry("wheat", "0009_new")
    for value in (1, 2):
        registry.register({"a": value}, "0009_new$aaaaaaaaaaaa:0", "model")
    registry.delete_pipeline_artifacts("0009_new")


def _resume(workspace: Workspace) -> None:
    run = workspace.run("wheat", name="broken")
    with pytest.raises(RuntimeError), run:
        raise RuntimeError("stopped")
    run.describe(notes="by hand", tags=["b", "a"])


def _take_back_a_part(workspace: Workspace) -> None:
    with workspace.transaction():
        workspace.registry("oats", "0001").register({"a": 1}, "0001$aaaaaaaaaaaa:0", "model")
        with pytest.raises(RuntimeError), workspace.transaction():
            workspace.registry("oats", "0001").register({"a": 2}, "0001$aaaaaaaaaaaa:0", "model")
            raise RuntimeError("taken back")


def _delete_a_run(workspace: Workspace) -> None:
    database = workspace.database
    with workspace.transaction():
        run = database.value("SELECT run_key FROM trained_pipelines LIMIT 1")
        database.rows("DELETE FROM run_entries WHERE run_key = ?", (run,))
    assert database.value("SELECT count(*) FROM trained_pipelines WHERE run_key IS NULL") == 1


ACTS: dict[str, Callable[[Workspace], Any]] = {
    "replaced and deleted": _replace_and_delete,
    "a run that failed": _resume,
    "a savepoint that was taken back": _take_back_a_part,
    "a reference that a deletion sets to null": _delete_a_run,
    "an entry saved again": lambda workspace: workspace.library.save_template(["Ridge"], "baseline", tags=["b"]),
    "an entry with artifacts saved again": lambda workspace: workspace.library.save_pipeline_full(
        "wheat", workspace.pipelines(dataset="wheat")[0].pipeline_id, "quality"
    ),
    "staged rows moved": lambda workspace: workspace.catalog.compact(),
    "trusted and signed": lambda workspace: (workspace.trust(), workspace.sign()),
    "orphans removed": lambda workspace: workspace.gc(),
}


@pytest.mark.parametrize("act", ACTS)
def test_an_act_leaves_no_wrong_check(study: Path, act: str, ada: Path) -> None:
    team_keys.make("ada")
    with Workspace(study) as workspace:
        ACTS[act](workspace)
    assert found(study) == {}


def _imported(workspace: Workspace, target: Path) -> None:
    workspace.export(target.with_suffix(""))
    with Workspace(target) as other:
        other.import_folder(target.with_suffix(""))


def _imported_without_artifacts(workspace: Workspace, target: Path) -> None:
    only = target.with_name("only.sqlite")
    with Workspace(only) as other:
        other.catalog.add(
            **{name: workspace.catalog.best("rmse")[name] for name in ("dataset_name", "model_name", "partition")}
        )
        _imported(other, target)


COPIES: dict[str, Callable[[Workspace, Path], Any]] = {
    "packed": lambda workspace, target: workspace.pack(target),
    "backup": lambda workspace, target: workspace.backup(target),
    "cut": lambda workspace, target: workspace.library.export("quality", target),
    "merged": lambda workspace, target: Workspace(target).merge(workspace.path),
    "imported": _imported,
    "imported, without artifacts": _imported_without_artifacts,
    "recovered": lambda workspace, target: recover(workspace.path, target),
}


def test_a_statement_alone_leaves_no_wrong_check(study: Path) -> None:
    with Workspace(study) as workspace:
        workspace.database.rows("UPDATE records SET custom_name = 'another'")
    assert found(study) == {}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_has_right_checks(study: Path, tmp_path: Path, way: str) -> None:
    target = tmp_path / "copy.sqlite"
    with Workspace(study, mode="ro") as workspace:
        if way != "recovered":
            COPIES[way](workspace, target)
    if way == "recovered":
        recover(study, target)
    assert by_another_program(target, "SELECT count(*) FROM records") != [(0,)] or way in (
        "cut",
        "imported, without artifacts",
    )
    assert found(target) == {}


def test_the_checks_of_a_huge_transaction_do_not_wait_for_its_end(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_checks, "_MANY", 10)
    with Workspace(study) as workspace, workspace.transaction():
        session = workspace.database._session()
        for number in range(30):
            workspace.registry("rye", "0001").register({"a": number}, f"0001$aaaaaaaaaaaa:{number}", "model")
            assert session.written.count <= 20
    assert found(study) == {}


def test_what_is_interrupted_while_checks_are_computed_is_taken_back(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with Workspace(study) as workspace:
        before = len(workspace.records())
        with monkeypatch.context() as patch:
            patch.setattr(row_checks, "_compute", interrupt)
            with pytest.raises(KeyboardInterrupt):
                workspace.registry("rye", "0001").register({"a": 1}, "0001$aaaaaaaaaaaa:0", "model")
        assert not workspace.database.in_transaction
        assert len(workspace.records()) == before
        workspace.registry("rye", "0001").register({"a": 1}, "0001$aaaaaaaaaaaa:0", "model")
    assert found(study) == {}


# -- damage and older files -------------------------------------------------------------------------


def test_recovery_lists_doubtful_rows_and_leaves_a_workspace_that_is_sound(study: Path, tmp_path: Path) -> None:
    by_another_program(study, "UPDATE run_entries SET notes = 'wrong' WHERE run_key = 2")
    by_another_program(study, "UPDATE history SET act = 'wrong' WHERE record_key = 1 AND event_index = 0")
    by_another_program(study, "UPDATE identity SET workspace_id = zeroblob(16)")
    recovery = recover(study, tmp_path / "saved.sqlite")
    assert sorted(recovery.doubtful) == ["history row 1, 0", "identity row 1", "run_entries row 2"]
    assert not recovery.ok
    assert recovery.to_dict()["doubtful"] == recovery.doubtful
    with Workspace(tmp_path / "saved.sqlite") as workspace:
        assert workspace.verify().ok


@pytest.mark.parametrize("file", FILES[:-1], ids=lambda file: file.stem)
def test_a_migration_gives_every_row_its_check(file: Path, tmp_path: Path) -> None:
    path = copied(file, tmp_path / "study.sqlite")
    Workspace(path).close()
    assert found(path) == {}


def test_a_file_with_damaged_text_is_migrated_and_its_row_named(tmp_path: Path) -> None:
    path = copied(FILES[3], tmp_path / "study.sqlite")
    by_another_program(path, "UPDATE run_entries SET notes = CAST(x'ff' AS TEXT)")
    Workspace(path).close()
    assert list(found(path)) == ["table run_entries"]
    assert "by another program" in found(path)["table run_entries"]


# -- the encoding of docs/format.md -----------------------------------------------------------------

values = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.binary(),
    st.sampled_from((0, 1, -1, 2**31 - 1, -(2**31), 2**31, -(2**31) - 1, 2**63 - 1, -(2**63))),
)  # fmt: skip


def encoded(row: tuple[Any, ...]) -> bytes:
    """Encode a row as docs/format.md says."""
    parts = [b"(" + struct.pack("<I", len(row))]
    for value in row:
        if value is None:
            parts.append(b"N")
        elif isinstance(value, float):
            parts.append(b"g" + struct.pack("<d", value))
        elif isinstance(value, str):
            parts.append(b"u" + struct.pack("<I", len(value.encode())) + value.encode())
        elif isinstance(value, bytes):
            parts.append(b"s" + struct.pack("<I", len(value)) + value)
        elif -(2**31) <= value < 2**31:
            parts.append(b"i" + struct.pack("<i", value))
        else:
            digits, rest = [], abs(value)
            while rest:
                digits.append(rest % 2**15)
                rest //= 2**15
            count = len(digits) if value > 0 else -len(digits)
            parts.append(b"l" + struct.pack(f"<i{len(digits)}H", count, *digits))
    return b"".join(parts)


def decoded(content: bytes) -> tuple[Any, ...]:
    """Tell the one row that has an encoding."""
    (count,), at, row = struct.unpack("<I", content[1:5]), 5, []
    for _ in range(count):
        kind, at = content[at : at + 1], at + 1
        value: Any = None
        if kind == b"g":
            (value,), at = struct.unpack("<d", content[at : at + 8]), at + 8
        elif kind == b"i":
            (value,), at = struct.unpack("<i", content[at : at + 4]), at + 4
        elif kind == b"l":
            (size,), at = struct.unpack("<i", content[at : at + 4]), at + 4
            digits = struct.unpack(f"<{abs(size)}H", content[at : at + 2 * abs(size)])
            at += 2 * abs(size)
            value = sum(digit << 15 * place for place, digit in enumerate(digits)) * (1 if size > 0 else -1)
        elif kind in (b"u", b"s"):
            (size,), at = struct.unpack("<I", content[at : at + 4]), at + 4
            value = content[at : at + size] if kind == b"s" else content[at : at + size].decode()
            at += size
        row.append(value)
    assert at == len(content)
    return tuple(row)


@given(st.lists(values, max_size=6).map(tuple))
def test_a_check_is_the_crc_of_an_encoding_that_no_other_row_has(row: tuple[Any, ...]) -> None:
    assert row_check(*row) == 2**32 + zlib.crc32(encoded(row))
    assert [(type(value), repr(value)) for value in decoded(encoded(row))] == [(type(v), repr(v)) for v in row]


def test_the_check_of_a_row_can_be_computed_from_the_file_alone(study: Path) -> None:
    for table in KEYS:
        names = [name for name in columns_of(study, table) if name != "row_check"]
        listed = ", ".join(f'"{name}"' for name in names)
        rows = by_another_program(study, f"SELECT row_check, {listed} FROM {table}")
        assert rows, table
        assert all(check == 2**32 + zlib.crc32(encoded(tuple(row))) for check, *row in rows), table
