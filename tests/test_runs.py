"""Runs: numbered pipelines, how they end, and what becomes of those whose process did not live to say so."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from artifactdb import (
    BusyError,
    DuplicateError,
    InvalidValueError,
    RunNotFoundError,
    StillReferencedError,
    Workspace,
)
from artifactdb.cli.app import app
from tests import fresh

CONFIG = [{"class": "sklearn.preprocessing.MinMaxScaler"}, {"model": {"class": "PLSRegression", "params": {"k": 3}}}]


def train(run: Any, model: Any, name: str = "pls", configuration: Any = CONFIG) -> str:
    with run.pipeline(configuration, name=name) as pipeline:
        pipeline.registry.register_with_chain(model, "s1.PLSRegression", "model", 1, fold_id=0)
        run.workspace.catalog.add(
            dataset_name=run.dataset, model_name=name, pipeline_uid=pipeline.pipeline_id, fold_id=0, partition="val",
            metric="rmse", val_score=0.5, y_true=[1.0, 2.0], y_pred=[1.1, 2.1],
        )  # fmt: skip
        pipeline.log_metrics({"val": {"rmse": 0.5, "r2": 0.9}, "test": {"rmse": 0.7}})
        pipeline.log_metrics({"val": {"rmse": 0.4}}, fold_id=0)
    return str(pipeline.pipeline_id)


def test_pipelines_are_numbered_by_dataset_and_named_by_configuration(workspace: Workspace) -> None:
    with workspace.run("wheat", name="first") as run:
        ids = [run.pipeline(CONFIG, name=name).pipeline_id for name in ("pls", "", "with a space")]
    with workspace.run("corn") as other:
        ids.append(other.pipeline(CONFIG).pipeline_id)
    hashes = {pipeline_id.rpartition("_")[2] for pipeline_id in ids}
    (own,) = hashes
    assert ids == [f"0001_pls_{own}", f"0002_{own}", f"0003_with_a_space_{own}", f"0001_{own}"]
    with workspace.run("wheat") as run:
        assert run.pipeline({"other": 1}).pipeline_id.startswith("0004_")
        assert own not in run.pipeline({"other": 1}).pipeline_id


def test_numbers_go_on_after_those_that_came_from_elsewhere(workspace: Workspace, fitted: dict[str, Any]) -> None:
    for number in [*range(40, 0, -1), 9998, 9999]:
        workspace.registry("wheat", f"{number:04}_x").register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
    workspace.registry("wheat", "no_number").register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
    with workspace.run("wheat") as run:
        ids = [run.pipeline([number]).pipeline_id.partition("_")[0] for number in range(2)]
        assert ids == ["10000", "10001"]
        workspace.registry("wheat", "0041_late").register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
        workspace.registry("wheat", "0001_late").register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
        assert run.pipeline([3]).pipeline_id.startswith("10002_")


def test_a_run_keeps_configuration_metrics_times_environment_tags_and_notes(
    workspace: Workspace, fitted: dict[str, Any]
) -> None:
    with workspace.run("wheat", name="first", configuration={"folds": 5}, tags=["nir", "a"], notes="by hand") as run:
        assert run.status == "running"
        pipeline_id = train(run, fitted["pls"])
    (record,) = workspace.runs("wheat")
    assert (record.name, record.status, record.tags, record.notes) == ("first", "completed", ["a", "nir"], "by hand")
    assert (record.configuration, record.pipelines, record.artifacts) == ({"folds": 5}, 1, 1)
    assert record.environment["scikit-learn"]
    assert record.environment["python"]
    assert record.started_at <= str(record.ended_at)
    pipeline = workspace.pipeline(pipeline_id)
    assert pipeline.configuration == CONFIG
    assert pipeline.metrics == {
        "val": {"all": {"rmse": 0.5, "r2": 0.9}, "0": {"rmse": 0.4}}, "test": {"all": {"rmse": 0.7}},
    }  # fmt: skip
    assert (pipeline.status, pipeline.run_id, pipeline.artifacts) == ("completed", record.run_id, 1)
    # Each combination of versions is there once, however many runs.
    with workspace.run("wheat"):
        pass
    assert workspace.query("SELECT count(DISTINCT environment_key) FROM run_entries")[0] == (1,)
    assert [run.run_id for run in workspace.runs(tag="nir")] == [record.run_id]
    assert workspace.runs(tag="other") == []


def test_runs_and_metrics_answer_sql(workspace: Workspace, fitted: dict[str, Any]) -> None:
    with workspace.run("wheat", name="first") as run:
        pipeline_id = train(run, fitted["pls"])
    best = (
        "SELECT pipeline_id, value FROM metrics WHERE metric = 'rmse' AND \"partition\" = 'val' ORDER BY value LIMIT 1"
    )
    assert workspace.query(best).rows == [(pipeline_id, 0.4)]
    joined = workspace.sql(
        "SELECT r.name, p.pipeline_id, m.value FROM runs AS r JOIN pipelines AS p USING (run_id) "
        "JOIN metrics AS m ON m.pipeline_id = p.pipeline_id WHERE m.partition = 'test'"
    )
    assert joined.rows == [("first", pipeline_id, 0.7)]


def test_a_number_that_is_none_is_kept_as_such(workspace: Workspace) -> None:
    with workspace.run("wheat") as run, run.pipeline() as pipeline:
        pipeline.log_metrics({"val": {"r2": float("nan"), "rmse": float("inf")}})
        assert str(pipeline.metrics["val"]["all"]) == "{'r2': nan, 'rmse': inf}"
        with pytest.raises(InvalidValueError, match="by partition"):
            pipeline.log_metrics({"rmse": 0.5})  # type: ignore[dict-item]
        with pytest.raises(InvalidValueError, match="is a number"):
            pipeline.log_metrics({"val": {"rmse": "good"}})


def test_how_a_block_ends_is_how_the_run_ended(workspace: Workspace, fitted: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError), workspace.run("wheat", name="fails") as run:
        train(run, fitted["pls"])
        with run.pipeline(CONFIG, name="bad"):
            1 / 0  # noqa: B018
    with pytest.raises(KeyboardInterrupt), workspace.run("wheat", name="stopped"):
        raise KeyboardInterrupt
    failed, stopped = workspace.runs("wheat")
    assert (failed.status, failed.error) == ("failed", "ZeroDivisionError: division by zero")
    assert stopped.status == "interrupted"
    assert [pipeline.status for pipeline in workspace.pipelines("wheat")] == ["completed", "failed"]
    assert [run.name for run in workspace.runs(status="failed")] == ["fails"]


def test_a_pipeline_that_fails_need_not_fail_the_run(workspace: Workspace) -> None:
    with workspace.run("wheat") as run:
        with pytest.raises(ValueError, match="NaN"), run.pipeline(CONFIG):
            raise ValueError("NaN in X")
        run.pipeline(CONFIG, name="left open")
    assert workspace.runs()[0].status == "completed"
    assert [pipeline.status for pipeline in workspace.pipelines()] == ["failed", "interrupted"]


KILLED = """
import os, signal, sys
from sklearn.linear_model import Ridge
from artifactdb import Workspace
workspace = Workspace(sys.argv[1])
with workspace.run("wheat", name="night") as run:
    for number in range(3):
        with run.pipeline([number], name="ridge") as pipeline:
            model = Ridge(alpha=number).fit([[0.0], [1.0]], [0, number])
            pipeline.registry.register_with_chain(model, "s1.Ridge", "model", 1)
            workspace.catalog.add(dataset_name="wheat", model_name="r", pipeline_uid=pipeline.pipeline_id,
                                  partition="val", val_score=0.5, metric="rmse", y_pred=[1.0])
            if number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(file: Path) -> Path:
    done = fresh.run(KILLED, file)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return file


def test_a_killed_run_is_found_as_such_by_who_opens_the_file_next(killed: Path) -> None:
    with Workspace(killed, mode="ro") as looking:
        assert [run.status for run in looking.runs()] == ["interrupted"]
    with Workspace(killed) as workspace:
        (run,) = workspace.query("SELECT status, error FROM runs").to_dicts()
        assert run == {"status": "interrupted", "error": "its process ended without a word"}
        assert [p.status for p in workspace.pipelines()] == ["completed", "completed", "interrupted"]


def test_a_killed_run_can_be_resumed_without_training_again_what_is_there(killed: Path) -> None:
    trained = []
    with Workspace(killed) as workspace:
        with workspace.run("wheat", name="night", resume=True) as run:
            for number in range(4):
                with run.pipeline([number], name="ridge") as pipeline:
                    if not pipeline.completed:
                        trained.append(pipeline.pipeline_id)
        assert [name.partition("_")[0] for name in trained] == ["0003", "0004"]
        assert [(r.status, r.pipelines) for r in workspace.runs()] == [("completed", 4)]
        # A completed run is not resumed; a new one starts.
        with workspace.run("wheat", name="night", resume=True) as run:
            pass
        assert len(workspace.runs()) == 2


def test_a_killed_run_can_be_cleaned_up(killed: Path) -> None:
    with Workspace(killed) as workspace:
        (run,) = workspace.runs()
        assert workspace.clean_up_run(run.run_id, dry_run=True) == {"artifacts": 3, "predictions": 3}
        assert len(workspace.records()) == 3
        assert workspace.clean_up_run(run.run_id) == {"artifacts": 3, "predictions": 3}
        assert workspace.runs() == workspace.pipelines() == workspace.records() == []
        assert len(workspace.catalog) == 0
        assert workspace.orphans() == []
        with pytest.raises(RunNotFoundError):
            workspace.clean_up_run(run.run_id)


def test_a_run_of_a_living_process_is_left_alone(file: Path) -> None:
    waits = (
        "import sys, time\nfrom artifactdb import Workspace\n"
        "with Workspace(sys.argv[1]) as w, w.run('wheat', name='long') as run:\n"
        "    print(run.run_id, flush=True)\n    input()"
    )
    with fresh.Process(waits, file) as process:
        run_id = process.stdout.readline().strip()
        with Workspace(file) as workspace:
            assert [run.status for run in workspace.runs()] == ["running"]
            with pytest.raises(BusyError, match="still going on"), workspace.run("wheat", "long", resume=run_id):
                pass
            with pytest.raises(BusyError, match="still going on"):
                workspace.clean_up_run(run_id)
            with pytest.raises(BusyError, match=r"in process \d+ on .*Wait for its end\.$"):
                workspace.end_run(run_id)
        process.communicate("done\n")
    with Workspace(file) as workspace:
        assert [run.status for run in workspace.runs()] == ["completed"]


def test_two_processes_never_give_one_number_twice(file: Path) -> None:
    code = (
        "import sys\nfrom artifactdb import Workspace\nwith Workspace(sys.argv[1]) as w, w.run('wheat') as run:\n"
        "    print('\\n'.join(run.pipeline([i]).pipeline_id for i in range(20)))"
    )
    Workspace(file).close()
    both = [fresh.Process(code, file) for _ in "ab"]
    numbers = sorted(name[:4] for process in both for name in process.communicate()[0].split())
    assert numbers == [f"{number:04}" for number in range(1, 41)]


def test_a_process_that_took_the_number_of_a_dead_one_is_another(workspace: Workspace) -> None:
    with pytest.raises(KeyboardInterrupt), workspace.run("wheat"):
        process = json.loads(workspace.database.value("SELECT process FROM run_entries"))
        stale = json.dumps({**process, "start": "1"})
        with workspace.transaction():
            workspace.database.rows("UPDATE run_entries SET process = ?", (stale,))
        assert [run.status for run in workspace.runs()] == ["interrupted"]
        elsewhere = json.dumps({**process, "host": "another.example", "start": "1"})
        with workspace.transaction():
            workspace.database.rows("UPDATE run_entries SET process = ?", (elsewhere,))
        assert [run.status for run in workspace.runs()] == ["running"]
        raise KeyboardInterrupt


def test_a_number_that_another_container_gave_says_nothing_here(workspace: Workspace) -> None:
    """They may share the name of the host, and its boot."""

    def named(process: dict[str, Any]) -> None:
        with workspace.transaction():
            workspace.database.rows("UPDATE run_entries SET process = ?", (json.dumps(process),))

    with pytest.raises(KeyboardInterrupt), workspace.run("wheat") as run:
        process = json.loads(workspace.database.value("SELECT process FROM run_entries"))
        named({**process, "namespace": "pid:[1]", "start": "1"})
        assert [run.status for run in workspace.runs()] == ["running"]
        with pytest.raises(BusyError, match="--end"):
            workspace.clean_up_run(run.run_id)
        del process["namespace"]  # as earlier versions wrote it
        named(process)
        assert [run.status for run in workspace.runs()] == ["running"]
        named({**process, "start": "1"})
        assert [run.status for run in workspace.runs()] == ["interrupted"]
        raise KeyboardInterrupt


def test_a_run_of_a_machine_that_is_gone_is_ended_by_who_knows(file: Path, fitted: dict[str, Any]) -> None:
    """As of a container that was started anew: it has another name then."""
    started = (
        "import os, socket, sys\nsocket.gethostname = lambda: 'web-7'\n"
        "from artifactdb import Workspace\nworkspace = Workspace(sys.argv[1])\n"
        "workspace.run('wheat', name='long').__enter__()\nworkspace.database.close()\nos._exit(0)"
    )
    assert fresh.run(started, file).returncode == 0
    with Workspace(file) as workspace:
        (run,) = workspace.runs()
        assert run.status == "running"
        with pytest.raises(BusyError, match=r"on web-7.*--end") as caught:
            workspace.clean_up_run(run.run_id)
    command = shlex.split(str(caught.value).split("`artifactdb ")[1].split("`")[0].replace("FILE", str(file)))
    assert CliRunner().invoke(app, [*command, "--dry-run"]).output.endswith("running\n")
    assert CliRunner().invoke(app, command).output.endswith("interrupted\n")
    with Workspace(file) as workspace:
        with workspace.run("wheat", name="long", resume=True) as resumed:
            train(resumed, fitted["pls"])
        assert resumed.run_id == run.run_id
        workspace.end_run(run.run_id)
        assert resumed.status == "completed", "what has ended stays as it ended"


def test_cleaning_up_what_others_depend_on_is_refused(workspace: Workspace, fitted: dict[str, Any]) -> None:
    with workspace.run("wheat") as run:
        pipeline_id = train(run, fitted["pls"])
    (source,) = workspace.records(pipeline_id=pipeline_id)
    workspace.registry("wheat", "0009_mine").register_with_chain(
        fitted["ridge"], "s1.Ridge", "model", 1, depends_on=[source.artifact_id]
    )
    with pytest.raises(StillReferencedError):
        workspace.clean_up_run(run.run_id)
    assert len(workspace.runs()) == 1
    assert len(workspace.catalog) == 1


def test_a_pipeline_that_could_not_be_begun_again_is_the_same_the_next_time(
    workspace: Workspace, fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt), workspace.run("wheat", name="long") as run:
        pipeline_id = train(run, fitted["pls"])
        run.pipeline(["unfinished"], name="ridge")
        raise KeyboardInterrupt
    with workspace.run("wheat", name="long", resume=True) as run:
        assert run.pipeline(CONFIG, name="pls").pipeline_id == pipeline_id
        with monkeypatch.context() as patched, pytest.raises(TimeoutError):
            patched.setattr(type(workspace.catalog), "delete", fail)
            run.pipeline(["unfinished"], name="ridge")
        assert run.pipeline(["unfinished"], name="ridge").pipeline_id.startswith("0002_ridge")


def fail(*_: Any, **__: Any) -> None:
    raise TimeoutError


def test_a_pipeline_id_that_exists_is_refused(workspace: Workspace) -> None:
    with workspace.run("wheat") as run:
        run.pipeline(CONFIG, pipeline_id="0007_mine")
        with pytest.raises(DuplicateError, match="has a pipeline '0007_mine' already"):
            run.pipeline(CONFIG, pipeline_id="0007_mine")
        assert run.pipeline(CONFIG).pipeline_id.startswith("0008_")


@pytest.mark.parametrize("name", ["a/b", "..", "a\\b", "line\nbreak", "x" * 300, "", "é" * 150, "...", "a\0b"])
def test_a_dataset_that_no_folder_can_be_called_after_is_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(InvalidValueError):
        workspace.run(name)
    with pytest.raises(InvalidValueError):
        workspace.registry(name)


def test_bad_configurations_tags_and_order_are_refused(workspace: Workspace) -> None:
    with pytest.raises(InvalidValueError, match="JSON"):
        workspace.run("wheat", configuration={"model": object()})
    with pytest.raises(InvalidValueError, match="has not started"):
        workspace.run("wheat").pipeline(CONFIG)
    with pytest.raises(InvalidValueError, match="list of texts"), workspace.run("wheat", tags="nir"):
        pass
    with pytest.raises(RunNotFoundError, match="no pipeline"):
        workspace.pipeline("0001_none")
    assert workspace.runs() == []


def test_tags_and_notes_can_be_changed(workspace: Workspace) -> None:
    with workspace.run("wheat") as run, run.pipeline() as pipeline:
        run.describe(tags=["b", "a"], notes="new")
        pipeline.describe(tags=["kept"])
        pipeline.describe(notes="also")
    assert (workspace.runs()[0].tags, workspace.runs()[0].notes) == (["a", "b"], "new")
    assert (workspace.pipelines(tag="kept")[0].notes, workspace.pipelines(tag="none")) == ("also", [])


def test_the_registry_of_the_seed_starts_and_ends_runs_too(workspace: Workspace, fitted: dict[str, Any]) -> None:
    registry = workspace.registry("wheat", "0001_pls")
    registry.start_run()
    registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
    registry.end_run()
    registry.start_run()
    registry.register_with_chain(fitted["ridge"], "s2.Ridge", "model", 2)
    assert registry.cleanup_failed_run() == 1
    assert [(run.status, run.pipeline_id) for run in workspace.runs()] == [
        ("completed", "0001_pls"),
        ("failed", "0001_pls"),
    ]
    assert len(workspace.records()) == 1


class TestSharedWithAnotherRun:
    """What one run left unfinished and another made again is the other's."""

    @staticmethod
    def abandoned(workspace: Workspace, obj: Any) -> None:
        """A registry's run whose process is gone."""
        registry = workspace.registry("wheat", "0001_pls")
        registry.start_run()
        registry.register_with_chain(obj, "s1.StandardScaler", "transformer", 1)
        (run,) = workspace.runs()
        workspace.database.rows("UPDATE run_entries SET process = NULL, status = 'interrupted'")
        assert run.artifacts == 1

    @pytest.mark.parametrize("again", ["scaler", "other_scaler"])
    @pytest.mark.parametrize("tracked", [True, False])
    def test_what_was_made_again_stays(
        self, workspace: Workspace, fitted: dict[str, Any], again: str, tracked: bool
    ) -> None:
        from sklearn.preprocessing import StandardScaler

        objects = {"scaler": fitted["scaler"], "other_scaler": StandardScaler().fit([[5.0], [6.0]])}
        self.abandoned(workspace, fitted["scaler"])
        registry = workspace.registry("wheat", "0001_pls")
        if tracked:
            registry.start_run()
        scaler = registry.register_with_chain(objects[again], "s1.StandardScaler", "transformer", 1)
        registry.register_with_chain(fitted["pls"], "s2.PLS", "model", 2, depends_on=[scaler.artifact_id])
        if tracked:
            registry.end_run()
        assert workspace.registry("wheat", "0001_pls").cleanup_failed_run() == 0
        assert len(workspace.records()) == 2 and not workspace.orphans()

    @pytest.mark.parametrize("again", ["pls", "ridge"])
    def test_what_was_saved_beside_a_registrys_run_that_goes_on_stays(
        self, workspace: Workspace, fitted: dict[str, Any], again: str
    ) -> None:
        registry = workspace.registry("wheat", "0001_pls")
        registry.start_run()
        registry.register_with_chain(fitted["pls"], "s1.Model", "model", 1)
        registry.register_with_chain(fitted["scaler"], "s1.StandardScaler", "transformer", 1)
        beside = workspace.registry("wheat", "0001_pls").register_with_chain(fitted[again], "s1.Model", "model", 1)
        assert registry.cleanup_failed_run() == 1
        assert workspace.records() == [beside]

    def test_a_run_that_goes_on_counts_what_is_saved_again_beside_it(
        self, workspace: Workspace, fitted: dict[str, Any]
    ) -> None:
        with workspace.run("wheat") as run, run.pipeline(CONFIG) as pipeline:
            pipeline.registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
            beside = workspace.registry("wheat", pipeline.pipeline_id)
            beside.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
        assert run.record.artifacts == 1

    def test_what_both_left_unfinished_goes_with_the_last(self, workspace: Workspace, fitted: dict[str, Any]) -> None:
        self.abandoned(workspace, fitted["scaler"])
        registry = workspace.registry("wheat", "0001_pls")
        registry.start_run()
        registry.register_with_chain(fitted["scaler"], "s1.StandardScaler", "transformer", 1)
        assert registry.cleanup_failed_run() == 0, "the other run has it too"
        assert registry.cleanup_failed_run() == 1
        assert workspace.records() == []

    def test_what_a_completed_run_made_and_another_made_again_goes_with_the_last(
        self, workspace: Workspace, fitted: dict[str, Any]
    ) -> None:
        for model in ("pls", "ridge"):
            registry = workspace.registry("wheat")
            registry.start_run()
            registry.register_with_chain(fitted[model], "s1.Model", "model", 1, pipeline_id="0001_pls")
            told = {"dataset_name": "wheat", "pipeline_uid": "0001_pls", "model_name": model}
            workspace.catalog.add(**told, partition="val")
            registry.end_run()
        first, second = (run.run_id for run in workspace.runs())
        assert workspace.clean_up_run(second, dry_run=True) == {"artifacts": 0, "predictions": 0}
        assert workspace.clean_up_run(first) == {"artifacts": 0, "predictions": 0}
        assert [record.class_name for record in workspace.records()] == ["Ridge"]
        assert workspace.clean_up_run(second) == {"artifacts": 1, "predictions": 2}

    def test_who_only_reads_counts_what_taking_a_run_back_would_delete(
        self, file: Path, fitted: dict[str, Any]
    ) -> None:
        with Workspace(file) as workspace:
            registry = workspace.registry("wheat", "0001_pls")
            registry.start_run()
            registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
            registry.register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
            registry.start_run()
            registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
            registry.end_run()
            first = workspace.runs()[0].run_id
        with Workspace(file, mode="ro") as workspace:
            counted = workspace.clean_up_run(first, dry_run=True)
        with Workspace(file) as workspace:
            assert counted == workspace.clean_up_run(first) == {"artifacts": 1, "predictions": 0}

    def test_what_no_run_made_first_goes_with_none_that_makes_it_again(
        self, workspace: Workspace, fitted: dict[str, Any]
    ) -> None:
        registry = workspace.registry("wheat", "0001_pls")
        registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
        registry.start_run()
        registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
        registry.end_run()
        (run,) = workspace.runs()
        assert workspace.clean_up_run(run.run_id)["artifacts"] == 0 and len(workspace.records()) == 1

    def test_predictions_of_a_pipeline_that_a_run_trained_stay(
        self, workspace: Workspace, fitted: dict[str, Any]
    ) -> None:
        with workspace.run("wheat") as run, run.pipeline(CONFIG) as pipeline:
            pipeline.registry.register_with_chain(fitted["pls"], "s2.PLS", "model", 2)
            told = {"dataset_name": "wheat", "pipeline_uid": pipeline.pipeline_id, "model_name": "PLS"}
            workspace.catalog.add(**told, partition="val")
        registry = workspace.registry("wheat", pipeline.pipeline_id)
        registry.start_run()
        registry.register_with_chain(fitted["ridge"], "s3.Ridge", "model", 3)
        registry.start_run()
        begun = [each.run_id for each in workspace.runs() if each.run_id != run.run_id]
        assert [each.status for each in workspace.runs()] == ["completed", "failed", "running"]
        assert workspace.clean_up_run(begun[0]) == {"artifacts": 1, "predictions": 0}
        assert len(workspace.catalog) == 1 and [record.class_name for record in workspace.records()] == [
            "PLSRegression"
        ]


class TestTakenBackWithATransaction:
    """The file says whether a run was begun or ended, not what a registry remembers."""

    def test_a_beginning(self, workspace: Workspace, fitted: dict[str, Any]) -> None:
        registry = workspace.registry("wheat", "0001_pls")
        with pytest.raises(ZeroDivisionError), workspace.transaction():
            registry.start_run()
            raise ZeroDivisionError
        with workspace.run("wheat") as other:  # it has the key that the first had
            registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
            assert other.record.artifacts == 0
        assert registry.cleanup_failed_run() == 0 and len(workspace.records()) == 1

    def test_an_end(self, workspace: Workspace, fitted: dict[str, Any]) -> None:
        registry = workspace.registry("wheat", "0001_pls")
        registry.start_run()
        registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
        for end in (registry.end_run, registry.cleanup_failed_run):
            with pytest.raises(ZeroDivisionError), workspace.transaction():
                end()
                raise ZeroDivisionError
        assert registry.cleanup_failed_run() == 1


def test_a_process_is_gone_when_it_is_a_zombie(tmp_path: Path) -> None:
    from artifactdb.runs.processes import has_ended

    code = "import time\nfrom artifactdb.runs.processes import this_process\nprint(this_process(), flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        named = process.stdout.readline()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        time.sleep(0)
        assert has_ended(named)


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT run_key, run_id, process FROM run_entries WHERE status = 'running'", "run_entries_running"),
        ("SELECT * FROM metrics WHERE metric = 'rmse' AND \"partition\" = 'val' ORDER BY value", "pipeline_metrics_by"),
        ("SELECT * FROM pipelines_with_runs WHERE pipeline_id = 'x'", "pipelines_by_id"),
        ("SELECT record_key FROM run_records WHERE run_key = 1", "PRIMARY KEY"),
        ("SELECT * FROM runs WHERE run_id = 'x'", "sqlite_autoindex_run_entries"),
    ],
)
def test_what_people_wait_for_is_answered_by_an_index(workspace: Workspace, sql: str, index: str) -> None:
    plan = "\n".join(row[3] for row in workspace.database.rows(f"EXPLAIN QUERY PLAN {sql}"))
    assert index in plan
    assert "TEMP B-TREE" not in plan


class TestResuming:
    """What an earlier start left is taken up, each pipeline once."""

    @pytest.fixture
    def stopped(self, workspace: Workspace, fitted: dict[str, Any]) -> str:
        with pytest.raises(RuntimeError), workspace.run("wheat", name="night") as run:
            train(run, fitted["pls"], "done")
            with run.pipeline(CONFIG, name="half", tags=["kept"], notes="mine") as pipeline:
                pipeline.log_metrics({"val": {"old": 1.0}})
                workspace.catalog.add(
                    dataset_name="wheat", model_name="half", pipeline_uid=pipeline.pipeline_id, partition="val",
                    metric="rmse", val_score=9.0,
                )  # fmt: skip
                raise RuntimeError
        return run.run_id

    def test_an_unfinished_pipeline_is_trained_again(self, workspace: Workspace, stopped: str) -> None:
        with workspace.run("wheat", name="night", resume=True) as run, run.pipeline(CONFIG, name="half") as pipeline:
            assert (run.run_id, pipeline.completed) == (stopped, False)
            workspace.catalog.add(
                dataset_name="wheat", model_name="half", pipeline_uid=pipeline.pipeline_id, partition="val",
                metric="rmse", val_score=0.5,
            )  # fmt: skip
        record = workspace.pipeline(pipeline.pipeline_id)
        assert (record.status, record.tags, record.notes, record.metrics) == ("completed", ["kept"], "mine", {})
        assert [row["val_score"] for row in workspace.catalog.filter(model_name="half").to_dicts()] == [0.5]

    def test_a_completed_one_is_taken_once_and_can_be_described(self, workspace: Workspace, stopped: str) -> None:
        with workspace.run("wheat", name="night", resume=stopped) as run:
            first = run.pipeline(CONFIG, name="done")
            first.describe(tags=["seen"])
            assert first.completed
            assert not run.pipeline(CONFIG, name="done").completed
            with pytest.raises(DuplicateError):
                run.pipeline({"other": 1}, pipeline_id=first.pipeline_id)
        assert workspace.pipeline(first.pipeline_id).tags == ["seen"]

    def test_repeats_in_a_run_that_had_nothing_to_resume_are_pipelines_of_their_own(self, workspace: Workspace) -> None:
        with workspace.run("wheat", name="new", resume=True) as run:
            ids = []
            for _ in range(3):
                with run.pipeline(CONFIG) as pipeline:
                    ids.append((pipeline.pipeline_id[:4], pipeline.completed))
        assert ids == [("0001", False), ("0002", False), ("0003", False)]

    def test_only_one_of_two_processes_resumes_a_run(self, workspace: Workspace, stopped: str) -> None:
        code = (
            "import sys\nfrom artifactdb import BusyError, Workspace\nw = Workspace(sys.argv[1])\n"
            "print('ready', flush=True)\ninput()\n"
            "try:\n    with w.run('wheat', 'night', resume=True):\n        print('in', flush=True)\n        input()\n"
            "except BusyError:\n    print('busy', flush=True)\n"
        )
        both = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(workspace.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in both:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = []
        for process in both:
            assert process.stdout is not None
            said.append(process.stdout.readline())
        for process in both:
            process.communicate("end\n")
        assert sorted(said) == ["busy\n", "in\n"]


def test_how_a_run_ended_is_said_whatever_the_error_says(workspace: Workspace) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    with pytest.raises(OddError), workspace.run("wheat"):
        raise OddError
    with pytest.raises(ValueError, match="bad"), workspace.run("wheat"):
        raise ValueError("bad \udcff name")
    assert [run.status for run in workspace.runs()] == ["failed", "failed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_was_forked_does_not_end_its_parents_run(workspace: Workspace) -> None:
    with workspace.run("wheat") as run:
        child = os.fork()
        if child == 0:
            try:
                run.__exit__(SystemExit, SystemExit(), None)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert run.status == "running"
    with pytest.raises(InvalidValueError, match="has ended"):
        run.pipeline(CONFIG)


def test_a_registry_takes_back_no_run_but_those_of_registries(workspace: Workspace, fitted: dict[str, Any]) -> None:
    with pytest.raises(KeyboardInterrupt), workspace.run("wheat") as run, run.pipeline(CONFIG) as pipeline:
        pipeline.registry.register_with_chain(fitted["pls"], "s1.PLS", "model", 1)
        raise KeyboardInterrupt
    assert workspace.registry("wheat").cleanup_failed_run() == 0
    assert len(workspace.records()) == 1


def test_a_run_of_a_thousand_pipelines_is_cleaned_up(workspace: Workspace) -> None:
    with workspace.run("wheat") as run:
        ids = [run.pipeline([number]).pipeline_id for number in range(700)]
        workspace.catalog.add_many(
            {"dataset_name": "wheat", "model_name": "m", "pipeline_uid": name, "partition": "val"} for name in ids
        )
    assert workspace.clean_up_run(run.run_id, dry_run=True) == {"artifacts": 0, "predictions": 700}
    assert workspace.clean_up_run(run.run_id) == {"artifacts": 0, "predictions": 700}
    assert len(workspace.catalog) == 0


@pytest.mark.parametrize(
    "values", [{"tags": 5}, {"tags": None}, {"notes": object()}, {"notes": "\udcff"}, {"tags": ["\udcff"]}]
)
def test_values_that_cannot_be_kept_are_refused(workspace: Workspace, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError), workspace.run("wheat", **values):
        pass
    assert workspace.runs() == []


def test_tags_may_come_from_a_generator(workspace: Workspace) -> None:
    with workspace.run("wheat", tags=(tag for tag in "ab")):  # type: ignore[arg-type]
        pass
    assert workspace.runs()[0].tags == ["a", "b"]


def test_opening_does_not_wait_to_say_that_a_run_died(killed: Path) -> None:
    with Workspace(killed, timeout_s=60.0) as writer, writer.transaction():
        started = time.monotonic()
        with Workspace(killed, timeout_s=60.0) as other:
            assert [run.status for run in other.runs()] == ["interrupted"]
        assert time.monotonic() - started < 30
