"""The command line: answers for people and programs, exit codes for scripts, nothing made by looking."""

from __future__ import annotations

import gc
import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sqlite_utils

from artifactdb import Workspace
from artifactdb.cli import main

CHAIN = "s1.MinMaxScaler>s3.PLSRegression"


def run(*arguments: object, code: int = 0, **environment: str) -> str:
    """Run the program in this process, which saves its start; ``test_the_program_is_installed`` starts it."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["artifactdb", *map(str, arguments)]),
        patch.dict(os.environ, environment),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert (ended.value.code or 0) == code, (out.getvalue(), err.getvalue())
    return out.getvalue() if code == 0 else out.getvalue() + err.getvalue()


def test_the_program_is_installed(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("artifactdb")
    for arguments, code in ((["init", str(tmp_path / "new.sqlite")], 0), (["ls", str(tmp_path / "none.sqlite")], 3)):
        assert subprocess.run([program, *arguments], capture_output=True, check=False).returncode == code


@pytest.fixture
def study(file: Path, fold_models: list[Any], fitted: dict[str, Any]) -> Path:
    with Workspace(file) as workspace:
        registry = workspace.registry("wheat", "0001_pls")
        for fold, model in enumerate(fold_models):
            registry.register_with_chain(model, CHAIN, "model", 3, fold_id=fold)
        registry.register_with_chain(fitted["ridge"], "s1.MinMaxScaler>s4.Ridge[br=1]", "model", 4)
    return file


def test_a_workspace_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "new.sqlite"
    assert "ready" in run("init", file)
    assert json.loads(run("init", file, "--json")) == {"path": str(file)}
    assert json.loads(run("ls", file, "--json")) == []


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ([], 6),
        (["--pipeline", "0001"], 6),
        (["--pipeline", "0002"], 0),
        (["--dataset", "wheat", "--step", "3"], 5),
        (["--branch", "1"], 1),
        (["--fold", "2"], 1),
        (["--type", "model", "--class", "Ridge"], 1),
        (["--param", "n_components=3"], 5),
        (["--param", "alpha=0.5"], 1),
        (["--param", "fit_intercept=true"], 1),
        (["--chain", "s1.MinMaxScaler"], 6),
        (["--chain", CHAIN], 5),
        (["--limit", "2"], 2),
    ],
)
def test_a_list_is_narrowed(study: Path, options: list[str], count: int) -> None:
    assert len(json.loads(run("ls", study, *options, "--json"))) == count


def test_an_artifact_is_shown_without_being_loaded(study: Path) -> None:
    artifact_id = json.loads(run("ls", study, "--fold", 0, "--json"))[0]["artifact_id"]
    assert json.loads(run("show", study, artifact_id, "--json"))["class_name"] == "PLSRegression"
    assert "PLSRegression" in run("show", study, artifact_id)
    assert "has the folds" in run("show", study, artifact_id.replace(":0", ":9"), code=3)


def test_questions_have_answers_and_writing_is_refused(study: Path) -> None:
    sql = "SELECT class_name, count(*) AS n FROM artifacts GROUP BY 1 ORDER BY 1"
    assert json.loads(run("query", study, sql, "--json")) == [
        {"class_name": "PLSRegression", "n": 5},
        {"class_name": "Ridge", "n": 1},
    ]
    assert run("query", study, sql).splitlines()[1] == "PLSRegression\t5"
    assert "only read" in run("query", study, "DELETE FROM records", code=2)
    failure = run("query", study, "SELECT nothing", "--json", code=2)
    assert json.loads(failure)["error"] == "QueryError"


def test_what_is_wrong_has_an_exit_code(study: Path) -> None:
    run("ls", study.parent / "absent.sqlite", code=3)
    run("gc", study.parent / "absent.sqlite", code=3)
    run("ls", study, "--branch", "x", code=2)
    run("ls", study, "--param", "alpha", code=2)
    assert "--limit" in run("query", study, "SELECT 1", "--limit", "-1", code=2)
    assert "artifactdb merge" in run("import", study.parent / "absent.sqlite", study, code=2)
    assert "nothing is known" in run("history", study, "0001:9:all", code=3)
    assert not (study.parent / "absent.sqlite").exists()


def test_orphans_are_listed_then_collected(study: Path, fitted: dict[str, Any]) -> None:
    assert run("orphans", study).strip() == "no orphans"
    with Workspace(study) as workspace:
        workspace.registry("wheat", "0001_pls").register_with_chain(fitted["svr"], CHAIN, "model", 3, fold_id=0)
    assert len(json.loads(run("orphans", study, "--json"))) == 1
    assert "would delete 1 blobs" in run("gc", study, "--dry-run")
    assert "deleted 1 blobs" in run("gc", study)
    assert json.loads(run("stats", study, "--json"))["orphaned_count"] == 0


def test_verify_finds_a_wrong_byte_and_names_who_is_hit(study: Path) -> None:
    assert json.loads(run("verify", study, "--json"))["ok"] is True
    with Workspace(study) as workspace, workspace.transaction():
        workspace.database.rows("UPDATE chunks SET payload = zeroblob(length(payload)) WHERE blob_key = 1")
    found = run("verify", study, code=7)
    assert "used by 0001_pls$" in found and "1 problems" in found


def test_a_backup_is_a_workspace(study: Path) -> None:
    copy = study.with_name("copy.sqlite")
    assert json.loads(run("backup", study, copy, "--json"))["path"] == str(copy)
    assert len(json.loads(run("ls", copy, "--json"))) == 6
    run("backup", study, copy, code=2)


def test_looking_leaves_one_file_as_it_was(study: Path) -> None:
    before = study.read_bytes()
    for command in ("ls", "stats", "orphans", "verify"):
        run(command, study)
    assert study.read_bytes() == before
    assert [path.name for path in study.parent.iterdir()] == [study.name]


def test_names_from_a_stranger_do_not_steer_the_terminal(file: Path) -> None:
    with Workspace(file) as workspace:
        workspace.registry("wheat").register({"a": 1}, "0001$aaaaaaaaaaaa:0", "model")
        with workspace.transaction():
            workspace.database.rows("UPDATE records SET class_name = ?", ("\x1b[2J[red]x",))
    assert "\x1b[2J" not in run("ls", file, FORCE_COLOR="1")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("count", [1, 20_000])
def test_an_output_that_takes_no_more_is_said(study: Path, count: int) -> None:
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {count}) SELECT i FROM n"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "artifactdb", "query", study, numbers], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 7 and done.stderr.startswith("artifactdb: ") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("arguments", "code"), [(["ls"], 0), (["sql"], 0), (["show", "none"], 3)])
def test_streams_that_are_closed_are_no_traceback_and_nothing_goes_elsewhere(
    study: Path, arguments: list[str], code: int
) -> None:
    command, *more = arguments
    for closed in (["stdin", "stdout", "stderr"], ["stdin", "stderr"]):
        out = io.StringIO()
        with (
            patch.object(sys, "argv", ["artifactdb", command, str(study), *more]),
            redirect_stdout(out),
            patch.multiple(sys, **dict.fromkeys(closed)),
        ):
            with pytest.raises(SystemExit) as ended:
                main()
            for name in closed:
                getattr(sys, name).close()
        assert (ended.value.code or 0) == code
        assert bool(out.getvalue()) == (command == "ls" and "stdout" not in closed)


def test_an_interrupt_while_the_program_starts_is_no_traceback() -> None:
    code = (
        "import signal, sys\nfrom artifactdb.cli import main\n"
        "def importing(frame, *_):\n"
        "    if frame.f_globals['__name__'] == 'artifactdb.cli.app': signal.raise_signal(signal.SIGINT)\n"
        "sys.setprofile(importing)\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_sqlite_utils_knows_our_functions(study: Path) -> None:
    sql = (
        f"SELECT chain_hash('{CHAIN}') AS h, artifact_id, artifact_size(content_hash) AS s, size_bytes, "
        "fold_of(artifact_id) AS f, pipeline_of(artifact_id) AS p FROM artifacts WHERE fold_id = 2"
    )
    done = subprocess.run(
        [sys.executable, "-m", "sqlite_utils", "query", str(study), sql], capture_output=True, text=True, check=True
    )
    (row,) = json.loads(done.stdout)
    assert row["artifact_id"] == f"0001_pls${row['h']}:2"
    assert (row["s"], row["f"], row["p"]) == (row["size_bytes"], 2, "0001_pls")


def test_other_databases_that_sqlite_utils_opens_go_as_before() -> None:
    def connections() -> int:
        gc.collect()
        return sum(type(thing) is sqlite3.Connection for thing in gc.get_objects())

    before = connections()
    database = sqlite_utils.Database(memory=True)
    assert next(database.query("SELECT fold_of('0001$aaaaaaaaaaaa:3') AS fold")) == {"fold": 3}
    assert connections() == before + 1
    del database
    assert connections() == before


@pytest.mark.campaign
def test_the_demo_predicts_the_same_from_one_file(tmp_path: Path) -> None:
    pytest.importorskip("chemotools")
    folder = tmp_path / "demo"
    program = Path(sys.executable).with_name("artifactdb")
    done = subprocess.run([program, "demo", str(folder), "--json"], capture_output=True, check=True)
    report = json.loads(done.stdout)
    assert report["predictions_equal_to_the_last_bit"] == report["predictions_compared"] == 41
    assert report["file_bytes"] < report["joblib_compress_3_bytes"] < report["joblib_bytes"]
    assert len(report["questions"]) == 4 and all(question["answer"] for question in report["questions"])
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["fermentation.sqlite", "predictions.png"]
    with Workspace(folder / "fermentation.sqlite", mode="ro") as workspace:
        assert len(workspace.catalog) == 40
        assert workspace.verify().ok
    assert "not empty" in run("demo", folder, code=2)


class TestPredictions:
    @pytest.fixture
    def scored(self, file: Path) -> Path:
        with Workspace(file) as workspace:
            workspace.catalog.add_many(
                {
                    "dataset_name": "wheat" if number % 2 else "corn",
                    "model_name": f"model_{number % 3}",
                    "fold_id": number % 5,
                    "partition": "val",
                    "metric": "rmse",
                    "val_score": [1.0 + number, float("nan")][number == 9],
                    "y_true": [1.0, 2.0],
                    "y_pred": [1.5, 2.5 + number],
                }
                for number in range(10)
            )
        return file

    def test_top(self, scored: Path) -> None:
        rows = json.loads(run("top", scored, "rmse", "-n", "3", "--json"))
        assert [row["score"] for row in rows] == [1.0, 2.0, 3.0]
        rows = json.loads(run("top", scored, "-n", "1", "--group-by", "model_name", "--dataset", "wheat", "--json"))
        assert [row["score"] for row in rows] == [4.0, 2.0, 6.0]
        assert json.loads(run("top", scored, "rmse", "-n", "1", "--descending", "--json"))[0]["score"] == 9.0
        assert run("top", scored, "rmse", "-n", "2").splitlines()[1].split("\t")[1] == "1"
        said = run("top", scored, "rmze", code=2)
        assert "--ascending or --descending" in said and "scored in rmse" in said

    def test_predictions(self, scored: Path, tmp_path: Path) -> None:
        rows = json.loads(run("predictions", scored, "--where", "fold_id=0", "--where", "fold_id=4", "--json"))
        assert {row["fold_id"] for row in rows} == {"0", "4"} and len(rows) == 4
        assert "NaN" in {row["val_score"] for row in rows}
        lines = run("predictions", scored, "--dataset", "corn", "--csv").splitlines()
        assert lines[0].startswith("id,dataset_name") and len(lines) == 6
        assert "3 rows" in run("predictions", scored, "--limit", "3", "--out", tmp_path / "three.parquet")
        assert (tmp_path / "three.parquet").exists()
        assert "Did you mean fold_id" in run("predictions", scored, "--where", "fold=0", code=2)
        assert "looks like fold_id=0" in run("predictions", scored, "--where", "fold_id", code=2)
        for taken in ("metric=rmse", "n=3", "ascending=1", "group_by=fold_id", "partition=val"):
            assert "in its own way" in run("top", scored, "rmse", "--where", taken, code=2)
        assert "one of the two" in run("predictions", scored, "--dataset", "corn", "-w", "dataset_name=wheat", code=2)

    def test_sql(self, scored: Path) -> None:
        assert run("sql", scored, "SELECT count(*) AS n FROM predictions") == "n\n10\n"
        assert json.loads(run("sql", scored, "SELECT 1 AS one", "--json")) == [{"one": 1}]
        assert "may only read" in run("sql", scored, "DROP VIEW predictions", code=2)
        assert "longer than it was given" in run(
            "sql", scored, "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range = b.range + 1",
            "--timeout", "0.2", code=2,
        )  # fmt: skip

    def test_a_shell_of_sql_reads_statements_and_goes_on_after_an_error(self, scored: Path, tmp_path: Path) -> None:
        statements = "SELECT count(*)\nFROM predictions;\nSELECT nothing;\n.tables\n.export answer.csv\n.help\nSELECT 7"
        done = subprocess.run(
            [sys.executable, "-c", "from artifactdb.cli import main; main()", "sql", str(scored)],
            input=statements, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 2  # one of them failed
        assert "10" in done.stdout and "artifacts" in done.stdout and "Ctrl-D" in done.stdout
        assert done.stdout.endswith("7\n7\n")
        assert "nothing" in done.stderr
        assert "10" in (tmp_path / "answer.csv").read_text()

    def test_what_is_piped_says_all_that_is_there(self, scored: Path) -> None:
        sql = "SELECT 1234567.891::DOUBLE AS a, 2.0::DOUBLE AS b, 'x' || chr(9) || 'y' || chr(10) || 'z' AS c"
        assert run("sql", scored, sql) == "a\tb\tc\n1234567.891\t2\tx\\ty\\nz\n"

    def test_options_that_would_be_ignored_are_refused(self, scored: Path, tmp_path: Path) -> None:
        for options in (["--json"], ["--csv"], ["--out", tmp_path / "a.csv"]):
            assert "belong to a statement" in run("sql", scored, *options, code=2)
        assert "one of them" in run("sql", scored, "SELECT 1", "--json", "--csv", code=2)
        assert "one of them" in run("top", scored, "--csv", "--out", tmp_path / "a.csv", code=2)
        for timeout in ("-1", "nan"):
            for question in ("sql", "query"):
                assert "timeout_s" in run(question, scored, "SELECT 1", "--timeout", timeout, code=2)
        run("ls", scored, "--limit", "-1", code=2)
        run("history", scored, "--limit", "-1", code=2)

    def test_care_of_the_files(self, scored: Path) -> None:
        assert json.loads(run("catalog", "flush", scored, "--json"))["moved"] == 0
        answer = json.loads(run("catalog", "compact", scored, "--json"))
        assert [entry["name"] for entry in answer["files"]] == ["predictions_meta.parquet", "predictions_data.parquet"]
        assert "all is well" in run("catalog", "verify", scored)
        victim = scored.with_suffix(".catalog") / "predictions_meta.parquet"
        victim.unlink()
        assert str(victim) in run("catalog", "verify", scored, code=7)
        assert str(victim) in run("predictions", scored, code=7)
        assert run("predictions", scored, "--skip-damaged", "--csv").count("\n") == 1
        assert str(victim) in run("verify", scored, code=7)
        run("catalog", "compact", scored.with_name("mistyped.sqlite"), code=3)
        assert not scored.with_name("mistyped.sqlite").exists()
