"""What nobody means to give, and gives all the same: each is said in a sentence, and loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from artifactdb import (
    ArtifactDBError,
    ArtifactLoader,
    ArtifactRegistry,
    ArtifactType,
    CorruptWorkspaceError,
    DeserializationError,
    InvalidValueError,
    NotAWorkspaceError,
    OperatorChain,
    QueryError,
    Workspace,
    WorkspaceNotFoundError,
    compute_content_hash,
    recover,
)
from artifactdb.formats import dump
from artifactdb.formats.foreign import JsonSerializer
from tests import fresh


def test_an_array_may_hold_the_bytes_of_a_container(
    workspace: Workspace, registry: ArtifactRegistry, tmp_path: Path
) -> None:
    content = dump({"a": np.arange(10_000.0), "b": list(range(30_000))})[0].content
    raw = np.frombuffer(b"".join(bytes(segment.data) for segment in content.segments), "u1")
    record = registry.register_with_chain({"raw": raw}, "s1.Bytes", "model", 1)
    assert np.array_equal(workspace.load(record.artifact_id)["raw"], raw)
    assert workspace.verify().ok
    workspace.backup_to(tmp_path / "series")
    with Workspace(workspace.pack(tmp_path / "packed.sqlite"), mode="ro") as packed:
        assert np.array_equal(packed.load(record.artifact_id)["raw"], raw)
    with Workspace(tmp_path / "other.sqlite") as other:
        other.merge(workspace)
        assert other.verify().ok


@pytest.mark.parametrize("text", [b"[1,", b"[" * 100_000, b"\xff", b"1" * 5000])
def test_json_that_is_none_is_an_error_of_ours(text: bytes) -> None:
    from artifactdb.content import StoredContent

    with pytest.raises(DeserializationError, match="no JSON"):
        JsonSerializer().load(StoredContent(bytearray(text), lambda _: bytearray(), b""))


def test_text_and_numbers_that_no_engine_takes(workspace: Workspace) -> None:
    for ask in (
        lambda: workspace.query("SELECT '\udce9'"), lambda: workspace.query("SELECT ?", ["\udce9"]),
        lambda: workspace.query("SELECT ?", [2**70]), lambda: workspace.sql("SELECT '\udce9'"),
        lambda: workspace.catalog.add(dataset_name="d", model_name="m", partition="val", val_score=10**400),
    ):  # fmt: skip
        with pytest.raises(InvalidValueError):
            ask()


def test_paths_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValueError, match="UTF-8"):
        Workspace(tmp_path / "b\udce9.sqlite")
    monkeypatch.chdir(tmp_path)
    with Workspace("~nobody-of-this-name.sqlite") as workspace:
        assert workspace.path == tmp_path / "~nobody-of-this-name.sqlite"
    for path in (tmp_path / "round.sqlite", tmp_path / f"{'long' * 100}.sqlite"):
        if path.name.startswith("round"):
            path.symlink_to(path)
        with pytest.raises(InvalidValueError):
            Workspace(path)


def test_a_tilde_is_the_home_in_whatever_names_a_file(
    workspace: Workspace, registry: ArtifactRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
    monkeypatch.chdir(here)
    record = registry.register_with_chain(np.arange(9000.0), "s1.A", "model", 1)
    prediction = workspace.catalog.add(
        dataset_name="wheat", model_name="pls", partition="val", y_true=[1.0], y_pred=[2.0]
    )
    workspace.library.save_template([1], "plain")
    assert workspace.pack("~/packed.sqlite") == home / "packed.sqlite"
    assert workspace.backup("~/backup.sqlite") == home / "backup.sqlite"
    assert workspace.catalog.export_csv(prediction, "~/one.csv") == home / "one.csv"
    assert workspace.query("SELECT 1 AS one").write("~/answer.csv") == home / "answer.csv"
    workspace.backup_to("~/backups")
    assert len(Workspace.backups("~/backups")) == 1
    Workspace.restore("~/backups", "~/restored.sqlite")
    for copy in ("packed", "backup", "restored"):
        with Workspace(f"~/{copy}.sqlite", mode="ro") as opened:
            assert np.array_equal(opened.load(record.artifact_id), np.arange(9000.0))
    with Workspace(workspace.library.export("plain", "~/entry.sqlite"), mode="ro") as entry:
        assert entry.library.load_template("plain") == [1]
    assert list(here.iterdir()) == [] and not list(home.glob(".*"))
    # A home that nobody has is a name like others.
    with Workspace(here / workspace.pack("~nobody-of-this-name.sqlite"), mode="ro") as packed:
        assert len(packed.records()) == 1


@pytest.mark.parametrize("path", [None, b"x.sqlite", 3, "", "a\0b", "t/d\udce9/p.sqlite"], ids=repr)
def test_what_is_no_path_is_refused_in_a_sentence(path: Any, workspace: Workspace, registry: ArtifactRegistry) -> None:
    workspace.library.save_template([1], "plain")
    for ask in (
        Workspace, workspace.pack, workspace.merge, workspace.export, workspace.backup, workspace.backup_to,
        Workspace.backups, workspace.catalog.import_parquet, workspace.query("SELECT 1").write,
        lambda path: workspace.library.export("plain", path), lambda path: registry.import_from_manifest([], path),
        lambda path: Workspace.restore("backups", path), lambda path: recover(path, path),
    ):  # fmt: skip
        with pytest.raises(InvalidValueError, match="path"):
            ask(path)
    # What is only read may have any name.
    with pytest.raises((InvalidValueError, WorkspaceNotFoundError), match=r"path|is not there"):
        workspace.import_folder(path)


def test_what_a_callback_raises_comes_out_as_it_is(
    workspace: Workspace, registry: ArtifactRegistry, tmp_path: Path
) -> None:
    registry.register_with_chain(np.arange(9000.0), "s1.A", "model", 1)
    workspace.catalog.add(dataset_name="wheat", model_name="pls", partition="val", y_pred=[1.0])
    workspace.catalog.flush()
    mine = ValueError("a mistake of my own")

    def progress(done: int, total: int) -> None:
        raise mine

    with Workspace(tmp_path / "other.sqlite") as other:
        for ask in (
            lambda: workspace.verify(progress), lambda: workspace.verify(progress=progress),
            lambda: workspace.export(tmp_path / "out", progress=progress),
            lambda: workspace.pack(tmp_path / "packed.sqlite", progress=progress),
            lambda: other.merge(workspace, progress=progress), lambda: workspace.catalog.verify(progress),
            lambda: workspace.optimize(progress=progress),
            lambda: workspace.backup(tmp_path / "backup.sqlite", progress=progress),
            lambda: workspace.backup_to(tmp_path / "series", progress=progress),
        ):  # fmt: skip
            with pytest.raises(ValueError) as said:
                ask()
            assert said.value is mine
        assert other.records() == []
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_pipe_is_no_damaged_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAWorkspaceError, match="not a file"):
        recover(tmp_path / "pipe", tmp_path / "saved.sqlite")
    assert not (tmp_path / "saved.sqlite").exists()


def test_a_terminal_that_lacks_characters_is_no_reason_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "study.sqlite"
    Workspace(path).close()
    for options, said in (([], "\\xe9"), (["--json"], "\\u00e9")):
        done = subprocess.run(
            [sys.executable, "-m", "artifactdb", "query", path, "SELECT char(233) AS a", *options],
            env={"PYTHONIOENCODING": "ascii", "PATH": "", "HOME": str(tmp_path)}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert said in done.stdout


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from rich.console import Console

    from artifactdb.cli import render

    monkeypatch.setattr(render, "console", Console(force_terminal=True, width=100))
    render.table(["[/x]", "bold\x1b[31m"], [["wheat:100:x", "[red]a[/red]"]])
    shown = capsys.readouterr().out
    assert "wheat:100:x" in shown and "[red]a[/red]" in shown and "[/x]" in shown and "\x1b[31m" not in shown


def test_a_table_that_is_too_wide_is_shown_row_by_row(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from rich.console import Console

    from artifactdb.cli import render

    columns, rows = ["artifact_id", *"abcdefghijkl"], [["0001_pls_ed7b25$4ebb5f7a7015:all", *range(12)]] * 2
    for width, lines in ((80, 28), (20, 28), (200, 6)):
        monkeypatch.setattr(render, "console", Console(force_terminal=True, width=width))
        render.table(columns, rows)
        shown = capsys.readouterr().out
        assert len(shown.splitlines()) == lines
        assert shown.count("0001_pls_ed7b25$4ebb5f7a7015:all") == 2
        assert all(str(number) in shown for number in range(12))


class TestProtection:
    @pytest.fixture(autouse=True)
    def _needs_zfec(self) -> None:
        pytest.importorskip("zfec", reason="the extra artifactdb[parity] is not installed")

    def test_a_parquet_file_that_is_gone_is_named(self, workspace: Workspace, file: Path) -> None:
        workspace.catalog.add(dataset_name="wheat", model_name="pls", partition="val", metric="rmse", val_score=1.0)
        workspace.catalog.flush()
        folder = file.with_suffix(".catalog")
        folder.rename(folder.with_suffix(".away"))
        with pytest.raises(CorruptWorkspaceError, match="is not there"):
            workspace.protect(1.0)
        folder.with_suffix(".away").rename(folder)

    def test_a_protect_that_fails_brings_no_older_state_back(self, workspace: Workspace, file: Path) -> None:
        registry = workspace.registry("wheat", "0001_a")
        registry.register_with_chain(np.arange(9000.0), "s1.A", "model", 1)
        workspace.protect(1.0)
        registry.register_with_chain({"b": 1}, "s1.B", "model", 1)
        with pytest.raises(ArtifactDBError):
            workspace.protect(5.0)
        assert not file.with_name(f"{file.name}.parity").exists()
        assert workspace.verify().ok
        made = workspace.protect(1.0)
        with pytest.raises(ArtifactDBError):
            workspace.protect(5.0)
        assert made.exists(), "nothing was changed since"

    def test_what_protected_a_file_that_is_replaced_protects_the_new_one_no_more(
        self, workspace: Workspace, tmp_path: Path
    ) -> None:
        registry = workspace.registry("wheat", "0001_a")
        registry.register_with_chain(np.arange(9000.0), "s1.A", "model", 1)
        packed = workspace.pack(tmp_path / "packed.sqlite")
        with Workspace(packed) as first:
            first.protect(1.0)
        registry.register_with_chain({"b": 1}, "s1.B", "model", 1)
        workspace.pack(packed, overwrite=True)
        with Workspace(packed, mode="ro") as second:
            assert second.verify().ok
            assert len(second.records()) == 2

    def test_a_file_that_is_used_without_its_log_is_another(self, tmp_path: Path) -> None:
        path = tmp_path / "study.sqlite"
        with Workspace(path) as workspace:
            workspace.registry("wheat", "0001_a").register_with_chain(np.arange(9000.0), "s1.A", "model", 1)
            workspace.protect(1.0)
        code = (
            "import os, sys\nos.environ['ARTIFACTDB_NETWORK'] = 'single'\n"
            "from artifactdb import Workspace\nwith Workspace(sys.argv[1]) as workspace:\n    workspace.records()"
        )
        assert fresh.run(code, path).returncode == 0
        with Workspace(path, mode="ro") as workspace:
            found = workspace.verify()
        assert found.ok and "protect the workspace again" in " ".join(found.notes)


def test_one_damaged_list_leaves_the_other_copies(workspace: Workspace, tmp_path: Path) -> None:
    workspace.registry("wheat", "0001_a").register_with_chain({"a": 1}, "s1.A", "model", 1)
    series = tmp_path / "series"
    workspace.backup_to(series)
    last = workspace.backup_to(series)
    older = min((series / "copies").glob("*.json"))
    older.write_text("{")
    with pytest.warns(UserWarning, match="left out"):
        assert [copy.name for copy in Workspace.backups(series)] == [last.name]
    with Workspace(Workspace.restore(series, tmp_path / "restored.sqlite")) as restored:
        assert len(restored.records()) == 1
    for at in ("9999-12-31T23:00:00-05:00", "0001-01-01"):
        with pytest.raises(ArtifactDBError):
            Workspace.restore(series, tmp_path / "again.sqlite", at=at)


def test_a_pack_within_a_transaction_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with workspace.transaction(), pytest.raises(InvalidValueError, match="inside a transaction"):
        workspace.pack(tmp_path / "packed.sqlite")
    with pytest.raises(InvalidValueError, match="workspace itself"):
        workspace.pack(workspace.path, overwrite=True, dry_run=True)
    with pytest.raises(ArtifactDBError, match="is not there"):
        workspace.pack(tmp_path / "none" / "packed.sqlite", dry_run=True)
    assert not (tmp_path / "packed.sqlite").exists()


def test_a_dry_run_refuses_what_the_run_would_refuse(workspace: Workspace, fitted: dict[str, Any]) -> None:
    with workspace.run("wheat") as run, run.pipeline(["Ridge"], name="a") as pipeline:
        source = pipeline.registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
    workspace.registry("wheat", "0009_mine").register_with_chain(
        fitted["ridge"], "s1.Ridge", "model", 1, depends_on=[source.artifact_id]
    )
    for dry_run in (True, False):
        with pytest.raises(ArtifactDBError, match="depend"):
            workspace.clean_up_run(run.run_id, dry_run=dry_run)
    assert len(workspace.records()) == 2


def test_numbers_of_numpy_find_what_their_own_kind_finds(
    workspace: Workspace, registry: ArtifactRegistry, fold_models: list[Any]
) -> None:
    record = registry.register_with_chain(fold_models[0], "s3.PLS[br=0,src=1]", "model", 3, fold_id=0)
    loader, three = workspace.loader("wheat"), np.int64(3)
    assert registry.get_artifacts_for_step("0001", three, [np.int64(0)], np.int64(0)) == [record]
    assert registry.get_chain_prefix("s3.PLS[br=0,src=1]", source_index=np.int32(1)) == [record]
    assert workspace.records(step_index=three, limit=np.int64(1)) == [record]
    assert [fold for fold, _ in loader.load_fold_models(three)] == [0]
    assert loader.has_binaries_for_step(three)
    for asked in ([three], {"step": three}, np.array([3])):
        assert len(workspace.query("SELECT * FROM records WHERE step_index = :step", asked)) == 1
    assert workspace.query("SELECT ?", [np.float32(0.5)]).rows == [(0.5,)]


def test_one_id_or_type_stands_for_a_list_of_one(
    workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    record = registry.register_with_chain(fitted["pls"], "s3.PLS", "model", 3, fold_id=0)
    loader = workspace.loader("wheat")
    assert loader.preload_artifacts(record.artifact_id) == loader.preload_artifacts("0001:3:0") == 1
    assert loader.preload_artifacts(artifact_types=ArtifactType.MODEL) == 1
    assert len(loader.get_step_binaries_by_artifact_ids("0001:3:0")) == 1
    stack_id = registry.generate_id("s4.Ridge")
    stack = registry.register_meta_model(fitted["ridge"], stack_id, record.artifact_id)
    assert stack.depends_on == [record.artifact_id]


def test_what_is_no_id_number_or_pair_is_refused_in_a_sentence(
    workspace: Workspace, registry: ArtifactRegistry, file: Path, tmp_path: Path
) -> None:
    record = registry.register_with_chain({"a": 1}, "s1.A", "model", 1)
    loader, records = workspace.loader("wheat"), cast("Any", workspace.records)
    for ask in (
        lambda: loader.load_by_id(cast("Any", record)), lambda: loader.load_by_id(cast("Any", None)),
        lambda: registry.load_artifact(cast("Any", None)), lambda: records(parameter={"n": 3}),
        lambda: records(parameter="ab"), lambda: records(limit="a"), lambda: records(limit=-1),
        lambda: workspace.query("SELECT 1", max_rows=cast("Any", "a")), lambda: workspace.sql("SELECT 1", max_rows=-1),
        lambda: workspace.backup_to(tmp_path / "series", keep=0), lambda: Workspace(file, timeout_s=cast("Any", "x")),
        lambda: Workspace(file, timeout_s=-1), lambda: Workspace(file, timeout_s=float("nan")),
    ):  # fmt: skip
        with pytest.raises(InvalidValueError):
            ask()
    workspace.backup_to(tmp_path / "series", keep=np.int64(1))
    with Workspace(file, timeout_s=float("inf")) as patient:
        assert patient.load(record.artifact_id) == {"a": 1}


def test_one_question_is_one_statement(workspace: Workspace) -> None:
    with pytest.raises(QueryError, match="more than one"):
        workspace.query("SELECT 1; SELECT 2")
    assert workspace.query("-- one\nSELECT 1; ; -- and a comment").rows == [(1,)]
    assert workspace.query("SELECT 1 AS one WHERE 0").columns == ["one"]
    with pytest.raises(InvalidValueError):
        workspace.query("SELECT ?", 5)  # type: ignore[arg-type]


def test_a_named_parameter_needs_a_value(workspace: Workspace) -> None:
    for ask in (workspace.query, workspace.sql):
        with pytest.raises(QueryError, match="fold"):
            ask("SELECT count(*) FROM artifacts WHERE fold_id = $fold", {"f": 0})
    with workspace.transaction(), pytest.raises(QueryError, match="no value is given for :fold"):
        workspace.query("SELECT 1 WHERE 1 = :fold", {})


def test_a_branch_is_a_list_of_numbers(
    workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    registry.register_with_chain(fitted["pls"], "s3.PLS[br=0]", "model", 3, fold_id=0)
    loader, branch = workspace.loader("wheat"), cast("Any", 0)
    for ask in (
        lambda: registry.get_artifacts_for_step("0001", 3, branch), lambda: loader.load_for_step(3, branch),
        lambda: loader.load_fold_models(3, branch), lambda: loader.get_step_binaries(3, branch_path=branch),
        lambda: workspace.records(branch_path=branch),
    ):  # fmt: skip
        with pytest.raises(InvalidValueError, match="branch_path"):
            ask()


def test_arguments_of_another_kind_are_taken_or_refused_in_a_sentence(
    workspace: Workspace, registry: ArtifactRegistry, fitted: dict[str, Any]
) -> None:
    other = cast("Any", None)
    source = registry.register_with_chain(fitted["minmax"], "s1.MinMaxScaler", "transformer", 1)
    for given in (source, [source]):
        record = registry.register_with_chain(
            fitted["pls"], "s1.MinMaxScaler>s3.PLS", "model", 3, depends_on=cast("Any", given)
        )
        assert record.depends_on == [source.artifact_id]
    loader = workspace.loader("wheat")
    prefix = OperatorChain.from_path("s1.MinMaxScaler")
    assert loader.get_artifacts_by_chain_filter(chain_prefix=prefix) == registry.get_all_records()
    loader.set_cache_size(np.int64(3))
    assert loader.get_cache_info()["max_size"] == 3
    assert workspace.library.save_template({}, "plain", description=other)["description"] == ""
    for ask in (
        lambda: registry.register(1, "0001:1:0", "model", depends_on=cast("Any", [[source]])),
        lambda: registry.register(1, "0001:1:0", "model", depends_on=cast("Any", 5)),
        lambda: ArtifactLoader(workspace, other), lambda: compute_content_hash(cast("Any", "x")),
        lambda: workspace.catalog.top(cast("Any", "2")), lambda: loader.set_cache_size(other),
    ):  # fmt: skip
        with pytest.raises(ArtifactDBError):
            ask()
