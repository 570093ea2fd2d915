"""The schema: explained in the file itself, applied at once, and every question that users wait for has its index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import apsw
import pytest

from artifactdb import NewerSchemaError, NotAWorkspaceError, Workspace
from artifactdb.artifacts import dependencies, find, gate, history, save
from artifactdb.blobs import store
from artifactdb.database.migrations import APPLICATION_ID, latest_version, schema_files
from artifactdb.database.translate import TRANSLATIONS, translate
from artifactdb.errors import ArtifactDBError, StorageError

SCHEMA = Path(__file__).parent.parent / "schema"


def test_the_file_announces_itself(file: Path) -> None:
    Workspace(file).close()
    header = file.read_bytes()[:100]
    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID
    assert int.from_bytes(header[60:64], "big") == latest_version() == len(list(SCHEMA.glob("*.sql")))


def test_every_table_and_column_is_explained_in_the_file(workspace: Workspace) -> None:
    tables = workspace.query("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    assert len(tables) >= 12
    for name, sql in tables:
        assert sql.rstrip().endswith(("STRICT", "WITHOUT ROWID")), f"{name} is strict"
        lines = sql.splitlines()
        assert lines[1].strip().startswith("--"), f"table {name} says what it holds"
        for (column,) in workspace.query("SELECT name FROM pragma_table_info(?)", (name,)):
            declared = next(i for i, line in enumerate(lines) if re.search(rf'(^\s+|, )"?{column}"?\s', line))
            key = column.endswith("_key") and "REFERENCES" in lines[declared]
            assert "--" in "\n".join(lines[declared : declared + 2]) or key, f"{name}.{column}"
    for name, sql in workspace.query("SELECT name, sql FROM sqlite_schema WHERE type = 'view'"):
        assert sql.splitlines()[1].strip().startswith("--"), f"view {name} says what it answers"


@pytest.mark.parametrize(
    ("criteria", "index"),
    [
        ({"dataset": "w", "chain_prefix": "s1.A"}, "records_by_chain"),
        ({"pipeline_id": "0001", "step_index": 3, "fold_id": 0}, "records_by_step"),
        ({"pipeline_number": "0001", "step_index": 3}, "records_by_step"),
        ({"parameter": ("n_components", 4)}, "records_by_parameters"),
        ({"dataset": "w", "step_index": 3}, "records_by_dataset_and_step"),
        ({"class_name": "PLS"}, "records_by_class"),
        ({"custom_name": "best"}, "records_by_name"),
    ],
)
def test_a_filter_is_answered_by_its_index(workspace: Workspace, criteria: dict[str, Any], index: str) -> None:
    plan = explain(workspace, *find.filter_sql(criteria))
    assert f"USING INDEX {index}" in plan or f"INDEX {index}" in plan, plan
    assert "SCAN r\n" not in plan + "\n", plan


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        (find.BY_ID, ("x",)),
        (find.BY_DATASET_AND_ID, ("d", "x")),
        (find.BY_HASH, (b"",)),
        (find.BY_CHAIN, ("s1.A",)),
        (find.BY_CHAIN_AND_FOLD, ("s1.A", 0)),
        (find.BY_KEY, (1,)),
        (dependencies.DEPENDENTS_OUTSIDE, (1, "[]")),
        (save.CONTENT_BEFORE, (1,)),
        (save.PRESENT, ("d", "d", "p", "x", "d", "s1.A", "{}", "{}", b"", "k", b"", "u", "h", "1", "v")),
        (gate.SIGNATURES, (b"", "[]")),
        (history.OF_ARTIFACT, ("x", None)),
        (history.LAST_OF_ARTIFACT, ("x", "d")),
        (store.BLOBS, ("[1]", "[1]")),
        (store.PARTS, ("[1]",)),
        (store.CHUNK, (1, 0)),
        ("SELECT * FROM artifacts WHERE artifact_id = ?", ("x",)),
        ("SELECT * FROM folds WHERE chain_path = ?", ("s1.A",)),
        ("SELECT * FROM lineage_up WHERE artifact_id = ?", ("x",)),
        ("SELECT * FROM lineage_down WHERE artifact_id = ?", ("x",)),
        ("SELECT * FROM dependencies WHERE artifact_id = ?", ("x",)),
    ],
)
def test_a_look_up_reads_no_table_from_end_to_end(workspace: Workspace, sql: str, values: tuple[Any, ...]) -> None:
    plan = explain(workspace, sql, values)
    scans = [line for line in plan.splitlines() if line.startswith("SCAN")]
    allowed = ("json_each", "reached", "up", "down", "VIRTUAL", "(subquery", "CONSTANT")
    assert all(any(word in scan for word in allowed) for scan in scans), plan


def test_events_ask_an_index_whom_they_were_about(workspace: Workspace) -> None:
    # Each event of the workspace as a whole was compared with all others of it.
    plan = explain(workspace, "SELECT * FROM events", ())
    assert "SEARCH gone USING INDEX history_of_gone (record_key=?)" in plan
    assert [line for line in plan.splitlines() if "SCAN" in line] in (["SCAN h"], ["SCAN a"], ["SCAN h", "SCAN a"])


def test_every_foreign_key_names_its_column(workspace: Workspace) -> None:
    # Datasette 0.65 shows no page of a table with one that does not.
    keys = workspace.query(
        """SELECT t.name, f."table", f."to" FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS f"""
    )
    assert len(keys) > 25
    assert all(column for *_, column in keys)


def explain(workspace: Workspace, sql: str, values: Any) -> str:
    return "\n".join(row[3] for row in workspace.database.rows("EXPLAIN QUERY PLAN " + sql, values))


def test_a_newer_file_is_refused_and_stays_as_it_is(file: Path) -> None:
    Workspace(file).close()
    connection = apsw.Connection(str(file))
    connection.pragma("user_version", latest_version() + 1)
    connection.close()
    before = file.read_bytes()
    with pytest.raises(NewerSchemaError, match="pip install --upgrade"):
        Workspace(file)
    assert file.read_bytes() == before


def test_an_older_file_is_brought_up_to_date_at_once_or_not_at_all(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace(file) as workspace:
        workspace.registry("wheat", "0001").register({"a": 1}, "0001$aaaaaaaaaaaa:0", "model")
    following = latest_version() + 1
    step = tmp_path / f"{following:04}_next.sql"
    step.write_text("CREATE TABLE additions (a INTEGER) STRICT; INSERT INTO nothing VALUES (1);")
    files = {**schema_files(), following: step}
    monkeypatch.setattr("artifactdb.database.migrations.schema_files", lambda: files)
    with pytest.raises(ArtifactDBError):
        Workspace(file)
    step.write_text("CREATE TABLE additions (a INTEGER) STRICT;")
    with Workspace(file) as workspace:
        assert workspace.query("SELECT * FROM additions").rows == []
        assert workspace.query("SELECT user_version FROM pragma_user_version")[0] == (following,)
        assert workspace.load("0001$aaaaaaaaaaaa:0") == {"a": 1}


def test_a_database_of_another_program_is_refused_and_stays_as_it_is(file: Path) -> None:
    connection = apsw.Connection(str(file))
    connection.execute("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)").fetchall()
    connection.close()
    before = file.read_bytes()
    with pytest.raises(NotAWorkspaceError):
        Workspace(file)
    assert file.read_bytes() == before


def test_no_exception_of_apsw_escapes_raw() -> None:
    classes = [
        value
        for value in vars(apsw).values()
        if isinstance(value, type) and issubclass(value, apsw.Error) and value is not apsw.Error
    ]
    assert len(classes) > 20
    for theirs in classes:
        assert isinstance(translate(theirs("words"), "file"), ArtifactDBError), theirs
    # Those that a caller can act on are told apart from the rest.
    assert len({type(translate(theirs("words"), "file")) for theirs in classes} - {StorageError}) >= 8
    assert len(TRANSLATIONS) >= 20
