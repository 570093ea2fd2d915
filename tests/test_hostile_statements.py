"""A stranger's statement reads the workspace and nothing else, in the time and memory that it is given."""

from __future__ import annotations

import resource
import time
from typing import Any

import apsw
import pytest

from artifactdb import ArtifactDBError, QueryError, Workspace

ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class TestQueries:
    @pytest.mark.parametrize(
        "sql",
        [
            "DELETE FROM records", "INSERT INTO datasets VALUES (1, 'a', 'b') RETURNING 1", "CREATE TEMP TABLE a (b)",
            "ATTACH '/tmp/other.db' AS other", "DETACH main", "VACUUM INTO '/tmp/copy.db'", "BEGIN", "SAVEPOINT a",
            "REINDEX", "ANALYZE", "PRAGMA writable_schema = 1", "PRAGMA journal_mode = DELETE", "PRAGMA wal_checkpoint",
            "PRAGMA temp_store_directory = '/'", "SELECT load_extension('x')", "SELECT readfile('/etc/passwd')",
            "SELECT writefile('/tmp/x', 'y')", "SELECT fts3_tokenizer('simple')", "SELECT sqlite_log(1, 'x')",
            "SELECT * FROM dbstat", "SELECT * FROM generate_series(1, 2)", "SELECT * FROM fts3tokenize",
            "SELECT * FROM pragma_wal_checkpoint", "SELECT json_patch('{}', '{}')",
        ],
    )  # fmt: skip
    def test_a_query_reads_the_file_and_nothing_else(self, workspace: Workspace, sql: str) -> None:
        with pytest.raises(QueryError):
            workspace.query(sql)
        with pytest.raises(QueryError), workspace.transaction():
            workspace.query(sql)

    @pytest.mark.parametrize(
        "sql",
        [
            f"{ENDLESS} SELECT count(*) FROM n", f"{ENDLESS} SELECT x FROM n",
            f"{ENDLESS} SELECT group_concat(hex(zeroblob(10000))) FROM n",
            f"{ENDLESS} SELECT json_group_array(hex(zeroblob(10000))) FROM n",
            f"{ENDLESS} SELECT randomblob(1000) AS r FROM n ORDER BY r",
            "WITH RECURSIVE n (x) AS (SELECT 'ab' UNION ALL SELECT x || x FROM n) SELECT max(length(x)) FROM n",
            "SELECT hex(zeroblob(1000000000))", "SELECT printf('%1000000000d', 1)",
            f"SELECT {', '.join(['hex(zeroblob(30000000))'] * 400)}",
            "SELECT instr(hex(zeroblob(20000000)), hex(zeroblob(10000000)) || '1')",
            "SELECT length(replace(hex(zeroblob(20000000)), hex(zeroblob(10000000)) || '1', 'x'))",
            "SELECT length(trim(hex(zeroblob(20000000)), hex(zeroblob(1000))))",
            "SELECT hex(zeroblob(1000000)) LIKE '%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%0%1'",
            "SELECT count(*) FROM sqlite_schema a, sqlite_schema b, sqlite_schema c, sqlite_schema d, sqlite_schema e",
        ],
    )  # fmt: skip
    def test_a_query_takes_no_more_time_and_memory_than_it_may(self, workspace: Workspace, sql: str) -> None:
        before, started = _peak_bytes(), time.monotonic()
        try:
            workspace.query(sql, timeout_s=0.5, max_rows=10)
        except ArtifactDBError as error:
            assert "memory" in str(error) or "longer" in str(error) or "large" in str(error)
        assert time.monotonic() - started < 10
        assert _peak_bytes() - before < 600 << 20
        assert workspace.query("SELECT 1").rows == [(1,)]

    @pytest.mark.campaign
    def test_too_much_asked_within_a_transaction_takes_nothing_of_it_back(self, workspace: Workspace) -> None:
        with workspace.transaction():
            workspace.database.rows("INSERT INTO datasets (name, created_at) VALUES ('kept', '')")
            with pytest.raises(ArtifactDBError):
                workspace.query(f"{ENDLESS} SELECT group_concat(hex(zeroblob(1000000))) FROM n", timeout_s=5)
        assert workspace.datasets() == ["kept"]

    @pytest.mark.parametrize(
        ("sql", "expected"),
        [
            ("SELECT instr('Käse', 's'), instr(x'0102', x'02'), instr(123, 3), instr(NULL, 1)", (3, 2, 3, None)),
            (
                "SELECT replace('abcabc', 'b', 'X'), replace('a', '', 'b'), replace(1.5, '.', ',')",
                ("aXcaXc", "a", "1,5"),
            ),
            ("SELECT trim('  a '), trim('xxaxx', 'x'), ltrim('xxax', 'x'), rtrim('xax', 'x')", ("a", "a", "ax", "xa")),
        ],
    )
    def test_bounded_functions_say_what_those_of_sqlite_say(
        self, workspace: Workspace, sql: str, expected: tuple[Any, ...]
    ) -> None:
        assert workspace.query(sql)[0] == expected == apsw.Connection(":memory:").execute(sql).fetchall()[0]


class TestDuckDB:
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_blob('/etc/passwd')", "FROM '/etc/passwd'",
            "SELECT * FROM read_csv('/etc/x')", "SELECT * FROM glob('/etc/*')", "SELECT * FROM sniff_csv('/etc/x')",
            "SELECT * FROM read_json('/etc/passwd')", "SELECT * FROM read_csv('https://example.com/a.csv')",
            "SELECT * FROM read_parquet('/etc/x.parquet')", "SELECT * FROM parquet_metadata('/etc/x.parquet')",
            "SELECT getenv('HOME')", "SELECT * FROM a_variable", "ATTACH '/tmp/z.db'", "COPY (SELECT 1) TO '/tmp/x'",
            "INSTALL httpfs", "LOAD httpfs", "SET threads = 1", "PRAGMA threads = 1", "EXPORT DATABASE '/tmp/x'",
            "CREATE TABLE t (a INT)", "CALL pragma_version()", "SELECT * FROM duckdb_secrets()",
            "WITH w AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM w", "SELECT * FROM enable_logging()",
            "SELECT * FROM query('SELECT 1')", "SELECT * FROM query_table('predictions')", "SELECT write_log('x')",
            "SELECT damerau_levenshtein('a', 'b')", "SELECT 1; SELECT 2", "SELECT * FROM enable_profiling()",
        ],
    )  # fmt: skip
    def test_sql_reads_the_catalog_and_nothing_else(self, workspace: Workspace, sql: str) -> None:
        a_variable = {"a": [1]}
        with pytest.raises(QueryError):
            workspace.sql(sql)
        assert a_variable

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT count(*) FROM range(1000000000000)", "SELECT i FROM range(10000000000) t(i)",
            "SELECT count(*) FROM range(100000) a, range(100000) b, range(10000) c", "SELECT repeat('a', 10000000000)",
            "SELECT levenshtein(repeat('a', 100000), repeat('b', 100000))",
            f"{ENDLESS} SELECT count(*) FROM n",
        ],
    )  # fmt: skip
    def test_sql_takes_no_more_time_than_it_may(self, workspace: Workspace, sql: str) -> None:
        started = time.monotonic()
        with pytest.raises(QueryError):
            workspace.sql(sql, timeout_s=0.5)
        assert time.monotonic() - started < 5
