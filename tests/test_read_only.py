"""Opened with mode='ro': the folder stays as it is, and what others commit is seen, whole transactions at a time."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from artifactdb import BusyError, ReadOnlyError, Workspace
from artifactdb.database import snapshot
from artifactdb.database.sealed import Seal, SealedConnection
from tests import fresh

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows tells of a change when the file is closed")

PIPELINE = "0001_pls"
LONG_AGO_NS = 1_600_000_000_123_456_789
COUNT = "SELECT count(*) FROM records"
HELD = 4  # records of the study


@pytest.fixture
def study(tmp_path: Path, fitted: dict[str, Any]) -> Path:
    """Fitted objects, predictions in Parquet and staged, a library; in a folder of its own."""
    file = tmp_path / "study" / "wheat.sqlite"
    with Workspace(file) as workspace:
        with workspace.run("wheat") as run, run.pipeline([{"model": "pls"}], name="pls") as pipeline:
            registry = pipeline.registry
            scaler = registry.register_with_chain(fitted["scaler"], "s1.StandardScaler", "transformer", 1)
            registry.register_with_chain(
                fitted["pls"], "s1.StandardScaler>s2.PLS", "model", 2, depends_on=[scaler.artifact_id]
            )
            registry.register_with_chain(fitted["forest"], "s1.StandardScaler>s3.Forest", "model", 3)
            whole = Pipeline([("scaler", fitted["scaler"]), ("ridge", fitted["ridge"])])
            registry.register_with_chain(whole, "s4.Pipeline", "model", 4)
            workspace.catalog.add_many(prediction(fold) for fold in range(3))
            workspace.catalog.flush()
            workspace.catalog.delete(workspace.catalog.filter(fold_id="0").to_dicts()[0]["id"])
        workspace.library.save_template({"model": "pls"}, "template")
    return file


def prediction(fold: int) -> dict[str, Any]:
    return {
        "dataset_name": "wheat", "model_name": "PLS", "pipeline_uid": PIPELINE, "fold_id": fold, "partition": "val",
        "metric": "rmse", "val_score": 0.5 - fold / 10, "y_true": np.arange(4.0), "y_pred": np.arange(4.0) + fold,
    }  # fmt: skip


@contextmanager
def left_as_it_is(folder: Path) -> Iterator[None]:
    """Fail when anything in a folder is made, changed or removed, be it for a moment only."""
    # The time stamp of a folder tells of every name that came or went; so all of them are set back first.
    for place in (folder, *folder.rglob("*")):
        os.utime(place, ns=(LONG_AGO_NS, LONG_AGO_NS))
    before = contents(folder)
    yield
    assert contents(folder) == before
    changed = [place.name for place in (folder, *folder.rglob("*")) if place.stat().st_mtime_ns != LONG_AGO_NS]
    assert not changed


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(place): place.read_bytes() if place.is_file() else None for place in folder.rglob("*")}


def load_everything(workspace: Workspace, _: Path) -> None:
    loader = workspace.loader("wheat")
    for record in workspace.records():
        workspace.load(record.artifact_id)
        assert loader.load_by_id(record.artifact_id) is not None


def merge(workspace: Workspace, elsewhere: Path) -> None:
    with Workspace(elsewhere / "ours.sqlite") as ours:
        ours.merge(workspace.path)
        ours.merge(workspace)
        assert len(ours.records()) == HELD


READING: dict[str, Callable[[Workspace, Path], Any]] = {
    "opening": lambda workspace, _: None,
    "records": lambda workspace, _: workspace.records() + workspace.runs() + workspace.pipelines(),
    "statistics": lambda workspace, _: (workspace.stats(), repr(workspace), workspace._repr_html_()),
    "load": load_everything,
    "inspect": lambda workspace, _: [workspace.inspect(record.artifact_id) for record in workspace.records()],
    "query": lambda workspace, _: workspace.query("SELECT * FROM artifacts"),
    "sql": lambda workspace, _: workspace.sql("SELECT * FROM predictions JOIN arrays ON array_id = y_pred_id"),
    "top": lambda workspace, _: workspace.catalog.top(2),
    "arrays": lambda workspace, _: workspace.catalog.residuals(fold_id="1"),
    "library": lambda workspace, _: workspace.library.load("template"),
    "verify": lambda workspace, _: workspace.verify(),
    "orphans": lambda workspace, _: workspace.orphans(),
    "sqlite_utils": lambda workspace, _: workspace.sqlite_utils(),
    "export": lambda workspace, elsewhere: workspace.export(elsewhere / "exported"),
    "pack": lambda workspace, elsewhere: workspace.pack(elsewhere / "packed.sqlite"),
    "backup": lambda workspace, elsewhere: workspace.backup(elsewhere / "copy.sqlite"),
    "merge": merge,
}


class TestAFolder:
    @pytest.mark.parametrize("what", READING)
    def test_stays_as_it_is_while_it_is_read(self, study: Path, tmp_path: Path, what: str) -> None:
        (tmp_path / "elsewhere").mkdir()
        with left_as_it_is(study.parent), Workspace(study, mode="ro") as workspace:
            READING[what](workspace, tmp_path / "elsewhere")
            assert {place.name for place in study.parent.iterdir()} == {"wheat.sqlite", "wheat.catalog"}

    def test_stays_as_it_is_when_writing_is_refused(self, study: Path, fitted: dict[str, Any]) -> None:
        with left_as_it_is(study.parent), Workspace(study, mode="ro") as workspace:
            for write in (
                lambda: workspace.registry("wheat", PIPELINE).register(fitted["svr"], f"{PIPELINE}:9:all", "model"),
                lambda: workspace.database.rows("DELETE FROM records"),
                lambda: workspace.catalog.add(**prediction(9)),
                lambda: workspace.catalog.compact(),
                lambda: workspace.gc(),
            ):
                with pytest.raises(ReadOnlyError):
                    write()

    def test_stays_as_it_is_right_after_a_writer_closed(self, study: Path) -> None:
        with Workspace(study) as workspace:
            workspace.catalog.add(**prediction(4))
        os.utime(study.parent, ns=(LONG_AGO_NS, LONG_AGO_NS))
        with Workspace(study, mode="ro") as workspace:
            assert len(workspace.records()) == HELD and len(workspace.catalog) == 3
        assert study.parent.stat().st_mtime_ns == LONG_AGO_NS

    @pytest.mark.campaign
    def test_stays_as_it_is_under_the_command_line(self, study: Path) -> None:
        code = "from artifactdb.cli import main; main()"
        with left_as_it_is(study.parent):
            listed = cli(code, "ls", study, "--json")
            artifact_id = json.loads(listed)[0]["artifact_id"]
            for command in (
                ("show", study, artifact_id), ("inspect", study, artifact_id), ("stats", study),
                ("query", study, "SELECT * FROM artifacts"), ("sql", study, "SELECT * FROM predictions"),
                ("top", study), ("runs", study), ("verify", study),
            ):  # fmt: skip
                assert cli(code, *command)

    def test_is_read_by_threads_and_forked_children_too(self, study: Path) -> None:
        with left_as_it_is(study.parent), Workspace(study, mode="ro") as workspace:
            assert workspace.database.value(COUNT) == HELD
            child = os.fork()
            if child == 0:
                found = -1
                try:
                    found = workspace.database.value(COUNT)
                finally:
                    os._exit(0 if found == HELD else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert workspace.database.value(COUNT) == HELD

    def test_may_be_one_in_which_nothing_can_be_written(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "study.sqlite"
            add(file, "a")
            file.chmod(0o444)
            file.parent.chmod(0o555)
            try:
                with asked(file) as ask:
                    assert ask() == 1
                    # Its owner may still write, and who may only read sees it.
                    file.parent.chmod(0o755)
                    file.chmod(0o644)
                    add(file, "b")
                    assert ask() == 2
            finally:
                file.parent.chmod(0o755)


def cli(code: str, *arguments: object) -> str:
    return fresh.run(code, *arguments).stdout


READER = """
import os, sys
import numpy, sklearn.linear_model
import artifactdb.workspace
from artifactdb import Workspace
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
with Workspace(sys.argv[1], mode="ro") as workspace:
    for _ in sys.stdin:
        print(len(workspace.query("SELECT * FROM artifacts")), flush=True)
"""


@contextmanager
def asked(file: Path) -> Iterator[Callable[[], int]]:
    """A process of somebody who may not write counts artifacts each time it is asked."""
    with fresh.Process(READER, file) as process:
        sent, told = process.stdin, process.stdout

        def ask() -> int:
            sent.write("\n")
            sent.flush()
            return int(told.readline())

        yield ask
        sent.close()


# -- while others write -----------------------------------------------------------------------------

WRITER = """
import sys
import apsw
from sklearn.linear_model import Ridge
from artifactdb import Workspace
with Workspace(sys.argv[1]) as workspace:
    print("open", flush=True)
    for line in sys.stdin:
        what, _, name = line.strip().partition(" ")
        if what == "add":
            model = Ridge(alpha=float(name)).fit([[0.0], [1.0]], [0.0, 1.0])
            workspace.registry("wheat", "0002").register(model, "0002:1:all", "model")
            workspace.registry("wheat", "0002").register(model, f"0002:2:{name}", "model")
        elif what == "checkpoint":
            workspace.database.connection().wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        print("done", flush=True)
"""


class Writer:
    """A process that writes when it is told to."""

    def __init__(self, file: Path) -> None:
        self.process = fresh.Process(WRITER, file)
        self._answer()

    def tell(self, *what: object) -> None:
        self.process.stdin.write(" ".join(map(str, what)) + "\n")
        self.process.stdin.flush()
        self._answer()

    def close(self) -> None:
        self.process.communicate()
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> None:
        assert self.process.stdout.readline()


@pytest.fixture
def writers(study: Path) -> Iterator[Callable[[], Writer]]:
    started: list[Writer] = []

    def start() -> Writer:
        started.append(Writer(study))
        return started[-1]

    yield start
    for writer in started:
        writer.kill()


@pytest.fixture
def reader(study: Path) -> Iterator[Workspace]:
    with Workspace(study, mode="ro") as workspace:
        assert isinstance(workspace.database.connection(), SealedConnection)
        yield workspace


def add(file: Path, *names: str) -> None:
    """Open, write one transaction, and close, which changes the file itself."""
    with Workspace(file) as workspace, workspace.transaction():
        for name in names:
            workspace.registry("wheat", "0003").register({"n": name}, f"0003:1:{name}", "model")


class TestAReader:
    def test_sees_what_is_committed_while_the_writer_stays(
        self, reader: Workspace, writers: Callable[[], Writer]
    ) -> None:
        assert reader.database.value(COUNT) == HELD
        writer = writers()
        assert reader.database.value(COUNT) == HELD
        writer.tell("add", 1)
        assert reader.database.value(COUNT) == HELD + 2
        writer.tell("checkpoint")
        writer.tell("add", 2)
        assert reader.database.value(COUNT) == HELD + 3
        assert len(reader.query("SELECT * FROM artifacts")) == HELD + 3

    def test_sees_what_a_writer_left_that_came_and_went(
        self, reader: Workspace, writers: Callable[[], Writer], study: Path
    ) -> None:
        for number in (1, 2):
            writer = writers()
            writer.tell("add", number)
            writer.close()
            assert reader.database.value(COUNT) == HELD + 1 + number
            # Nobody but the writer made a -wal, and it is gone.
            assert {place.name for place in study.parent.iterdir()} == {"wheat.sqlite", "wheat.catalog"}

    def test_gets_an_object_anew_that_somebody_replaced(self, reader: Workspace, writers: Callable[[], Writer]) -> None:
        loader = reader.loader("wheat")
        for alpha in (1.0, 2.0):
            writer = writers()
            writer.tell("add", alpha)
            writer.close()
            assert loader.load_by_id("0002:1:all").alpha == alpha
            assert reader.load("0002:1:all").alpha == alpha

    def test_sees_what_this_process_writes_elsewhere(self, reader: Workspace, study: Path) -> None:
        with Workspace(study) as workspace:
            registry = workspace.registry("wheat", "0004")
            with workspace.transaction():
                registry.register({"n": 1}, "0004:1:all", "model")
                assert reader.database.value(COUNT) == HELD
            assert reader.database.value(COUNT) == HELD + 1
        assert reader.database.value(COUNT) == HELD + 1

    def test_sees_a_file_that_took_the_place_of_the_first(self, reader: Workspace, study: Path, tmp_path: Path) -> None:
        add(tmp_path / "other.sqlite", "only")
        (tmp_path / "other.sqlite").replace(study)
        assert reader.database.value(COUNT) == 1

    def test_sees_what_a_killed_writer_committed_and_loses_none_of_it(
        self, writers: Callable[[], Writer], study: Path
    ) -> None:
        writer = writers()
        writer.tell("add", 1)
        writer.kill()
        assert study.with_name("wheat.sqlite-wal").exists()
        for mode in ("ro", "ro", "rw"):
            with Workspace(study, mode=mode) as workspace:
                assert workspace.database.value(COUNT) == HELD + 2
                assert workspace.load("0002:1:all").alpha == 1.0
                assert workspace.verify().ok

    def test_takes_locks_where_time_stamps_cannot_tell_two_changes_apart(
        self, study: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for changed_at, later_ns, is_settled in (
            (LONG_AGO_NS, 1_000_000, False),
            (LONG_AGO_NS, 100_000_000, True),
            (LONG_AGO_NS // 10**9 * 10**9, 1_500_000_000, False),  # of a file system that keeps whole seconds
            (LONG_AGO_NS // 10**9 * 10**9, 3_000_000_000, True),
        ):
            os.utime(study, ns=(changed_at, changed_at))
            now = changed_at + later_ns
            monkeypatch.setattr("artifactdb.database.sealed.time.time_ns", lambda now=now: now)
            assert Seal(study).is_settled() == is_settled
            with Workspace(study, mode="ro") as workspace:
                assert isinstance(workspace.database.connection(), SealedConnection) == is_settled
                assert workspace.database.value(COUNT) == HELD
        assert {place.name for place in study.parent.iterdir()} == {"wheat.sqlite", "wheat.catalog"}


class Meanwhile(Sequence[Any]):
    """Parameters of a statement; when SQLite asks for them, something else happens first."""

    def __init__(self, values: Sequence[Any], act: Callable[[], None]) -> None:
        self._values, self._act = values, act

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        self._act()
        return self._values[index]


class TestAChangeWhileItIsRead:
    def test_lets_a_statement_be_asked_again(self, reader: Workspace, study: Path) -> None:
        names = iter("abcdefgh")
        for changes in (1, 2, 3, 1):  # a file that changes each time is read with locks in the end
            before = reader.database.value(COUNT)
            left = list(range(changes))

            def change(left: list[int] = left) -> None:
                if left:
                    left.pop()
                    add(study, next(names))

            assert reader.database.rows(f"{COUNT} WHERE ?", Meanwhile([1], change)) == [(before + changes,)]

    def test_ends_a_block_that_must_see_one_state(self, reader: Workspace, study: Path) -> None:
        with reader.database.reading():
            assert reader.database.value(COUNT) == HELD
            add(study, "a")
            with pytest.raises(BusyError, match=r"wheat\.sqlite was changed while it was read\. Ask again\."):
                reader.database.value(COUNT)
        with reader.database.reading():
            assert reader.database.value(COUNT) == HELD + 1

    def test_does_no_harm_to_a_block_before_a_checkpoint(
        self, reader: Workspace, writers: Callable[[], Writer]
    ) -> None:
        with reader.database.reading():
            assert reader.database.value(COUNT) == HELD
            writer = writers()
            writer.tell("add", 1)
            assert reader.database.value(COUNT) == HELD
            writer.tell("checkpoint")
            with pytest.raises(BusyError, match="was changed"):
                reader.database.value(COUNT)
        assert reader.database.value(COUNT) == HELD + 2
        with reader.database.reading():
            # From here on there are locks, and a state is kept through checkpoints.
            assert reader.database.value(COUNT) == HELD + 2
            writer.tell("add", 2)
            writer.close()
            assert reader.database.value(COUNT) == HELD + 2
        assert reader.database.value(COUNT) == HELD + 3

    def test_ends_a_snapshot_between_two_batches(self, reader: Workspace, study: Path) -> None:
        with reader.database.snapshot() as state:
            batches = state.batches("SELECT artifact_id FROM records", (), 2)
            assert len(next(batches)) == 2
            add(study, "a")
            with pytest.raises(BusyError, match="was changed"):
                next(batches)
            with pytest.raises(BusyError, match="was changed"):
                state.rows(COUNT)

    def test_leaves_no_copy_of_two_states(self, reader: Workspace, study: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy.sqlite"
        with pytest.raises(BusyError, match="was changed"):
            snapshot.backup(reader.database, copy, lambda done, pages: add(study, "a"))
        assert not list(tmp_path.glob("*copy*"))
        snapshot.backup(reader.database, copy)
        with Workspace(copy, mode="ro") as copied:
            assert copied.database.value(COUNT) == HELD + 1

    def test_gives_a_query_no_rows_of_two_states(self, reader: Workspace, study: Path) -> None:
        left = ["a"]
        with suppress(BusyError):
            found = reader.query(
                "SELECT count(*) FROM artifacts WHERE ?", Meanwhile([1], lambda: add(study, *left) or left.clear())
            )
            assert found.rows == [(HELD + 1,)]
        assert reader.query("SELECT count(*) FROM artifacts").rows == [(HELD + 1,)]

    def test_is_told_as_such_when_the_file_is_gone(self, reader: Workspace, study: Path) -> None:
        with reader.database.reading():
            study.unlink()
            with pytest.raises(BusyError):
                reader.database.value(COUNT)
        with pytest.raises(FileNotFoundError):
            reader.database.value(COUNT)


PAIRS = """
import sys, time
import apsw
from sklearn.preprocessing import MinMaxScaler
from artifactdb import Workspace
file, stays, rounds = sys.argv[1], sys.argv[2] == "stays", int(sys.argv[3])
def pair(workspace, number):
    registry = workspace.registry("wheat", "0005")
    with workspace.transaction():
        for part in ("first", "second"):
            model = MinMaxScaler().fit([[0.0], [float(number)]])
            registry.register({part: model, "room": bytes(3000)}, f"0005:{number + 1}:{part}", "model")
if stays:
    with Workspace(file) as workspace:
        for number in range(rounds):
            pair(workspace, number)
            workspace.database.connection().wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
else:
    for number in range(rounds):
        with Workspace(file) as workspace:
            pair(workspace, number)
        time.sleep(0.03 * (number % 2))  # now and then the file comes to rest
"""


@pytest.mark.campaign
@pytest.mark.parametrize("writer", ["stays", "comes and goes"])
def test_readers_see_whole_transactions_only_while_the_file_is_written_a_hundred_times(
    tmp_path: Path, writer: str
) -> None:
    file = tmp_path / "study.sqlite"
    add(file, "a", "b")
    process = fresh.Process(PAIRS, file, writer, 100)
    looks, last = 0, 2
    while process.poll() is None:
        with Workspace(file, mode="ro") as reader:
            for _ in range(4):
                count = reader.database.value(COUNT)
                assert count % 2 == 0 and count >= last
                last = count
                with suppress(BusyError), reader.database.reading():
                    count = reader.database.value(COUNT)
                    rows = reader.database.rows("SELECT artifact_id FROM artifacts WHERE pipeline_id = '0005'")
                    firsts = {artifact_id.rpartition(":")[0] for (artifact_id,) in rows}
                    assert len(rows) == count - 2 == 2 * len(firsts)
                with suppress(BusyError):
                    assert reader.load("0003:1:a") == {"n": "a"}
                looks += 1
    assert process.returncode == 0 and looks >= 8
    with Workspace(file, mode="ro") as reader:
        assert reader.database.value(COUNT) == 202
        assert reader.verify().ok
    assert [place.name for place in tmp_path.iterdir()] == ["study.sqlite"]
