"""The folder of a user: where it is, who can use it, what works without it, and that processes share it."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifactdb import ArtifactDBError, Workspace
from artifactdb.errors import InvalidValueError
from artifactdb.trust import home, remembered, team_keys
from artifactdb.trust.own_key import own_key
from tests import fresh

posix = pytest.mark.skipif(os.name != "posix", reason="modes of files, forks")


@pytest.fixture
def mailed(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: dict[str, Any]) -> Path:
    """A model and an array of somebody else's."""
    monkeypatch.setenv("ARTIFACTDB_HOME", str(tmp_path / "home of ada"))
    with Workspace(file) as workspace:
        registry = workspace.registry("wheat", "0001")
        registry.register_with_chain(fitted["ridge"], "s1.Ridge", "model", 1)
        registry.register(np.arange(3.0), "0001:1:all", "model")
    return file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestWhereItIs:
    @pytest.mark.parametrize("given", [".", "home", "./home", "../home", "~nobody-of-that-name/home"])
    @pytest.mark.parametrize("variable", ["ARTIFACTDB_HOME", "ARTIFACTDB_CONFIG"])
    def test_never_in_the_folder_that_a_program_runs_in(
        self, variable: str, given: str, mailed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which may be one that a stranger sent, with a key, a list of whom to trust, and a configuration."""
        (mailed.parent / "home").mkdir()
        for name in ("config.toml", "home"):
            with_list = mailed.parent / name
            (with_list / "config.toml" if with_list.is_dir() else with_list).write_text('allow = ["sklearn.*"]')
        monkeypatch.chdir(mailed.parent)
        monkeypatch.setenv("ARTIFACTDB_HOME", str(mailed.parent / "home of bob"))
        monkeypatch.setenv(variable, given)
        with pytest.raises(InvalidValueError, match=f"{variable} is '{given}'"):
            home.config_file()
        with Workspace(mailed) as workspace:
            assert workspace.load("0001:1:all").tolist() == [0, 1, 2], "data is for everybody"
            (record,) = workspace.records(class_name="Ridge")
            with pytest.raises(InvalidValueError, match=variable):
                workspace.load(record.artifact_id)

    @posix
    @pytest.mark.parametrize("variable", ["XDG_CONFIG_HOME", "HOME"])
    def test_nor_where_the_system_says_so(self, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("ARTIFACTDB_HOME", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(variable, "here")
        with suppress(InvalidValueError):  # older ones of platformdirs take it as it is
            assert home.home().is_absolute()

    def test_a_tilde_stands_for_the_users_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARTIFACTDB_HOME", "~/of artifactdb")
        assert home.home() == Path.home() / "of artifactdb"


@posix
class TestWhoCanUseIt:
    @pytest.fixture(autouse=True)
    def usual(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """The folder that is used when nobody named one."""
        monkeypatch.delenv("ARTIFACTDB_HOME")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        before = os.umask(0o002)
        yield tmp_path / "config" / "artifactdb"
        os.umask(before)

    @pytest.mark.parametrize(
        "first",
        [
            lambda: team_keys.make("ada"),
            own_key,
            lambda: remembered.allow([("sha256:00", "pickle")], "a file"),
            lambda: team_keys.trust(team_keys.PublicKey("ada", bytes(32))),
        ],
        ids=["a key pair", "the own key", "what is allowed", "who is trusted"],
    )
    def test_it_is_made_for_the_user_alone_whatever_comes_first(self, first: Callable[[], Any], usual: Path) -> None:
        first()
        assert mode(usual) == 0o700
        assert [mode(path) for path in usual.rglob("*") if path.is_dir()] in ([], [0o700])
        secrets = [*usual.glob("key"), *usual.glob("keys/*.key"), *usual.glob("trusted_keys")]
        assert {mode(path) for path in secrets} <= {0o600}

    @pytest.mark.parametrize("look", [own_key, lambda: remembered.allow([], "a file")])
    def test_it_is_closed_to_others_who_could(self, look: Callable[[], Any], usual: Path) -> None:
        usual.mkdir(parents=True)
        (usual / "key").write_text("ab" * 32)
        (usual / "key").chmod(0o600)
        usual.chmod(0o775)
        with pytest.warns(UserWarning, match="could be read by others"):
            look()
        assert mode(usual) == 0o700

    def test_one_that_the_user_named_stays_as_it_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARTIFACTDB_HOME", str(named := tmp_path / "named"))
        named.mkdir()
        named.chmod(0o777)
        with pytest.warns(UserWarning, match="can be written by others, who could say what is trusted"):
            own_key()
        assert mode(named) == 0o777 and mode(named / "key") == 0o600


WITHOUT = """
import os, sys, warnings
import numpy, sklearn.linear_model
from artifactdb import ArtifactDBError, Workspace
from artifactdb.artifacts import allowing, refusal, signatures
from artifactdb.trust import home, remembered, team_keys
from artifactdb.trust.pickles import restricted
import artifactdb.workspace, cryptography.hazmat.primitives.asymmetric.ed25519
warnings.simplefilter("ignore")
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
workspace = Workspace(sys.argv[1], mode="ro")
print(len(workspace.records()), workspace.load("0001:1:all").tolist(), workspace.verify().ok)
(model,) = workspace.records(class_name="Ridge")
for attempt in (
    lambda: workspace.load(model.artifact_id), workspace.trust, lambda: workspace.trust(forget=True),
    workspace.signatures, lambda: team_keys.make("ada"), lambda: team_keys.own(), team_keys.trusted,
    lambda: team_keys.trust(team_keys.PublicKey("ada", bytes(32))), lambda: team_keys.forget("ada"),
):
    try:
        print("ok", attempt())
    except ArtifactDBError as error:
        print(type(error).__name__)
os.environ["ARTIFACTDB_TRUST"] = "all"
print(type(workspace.load(model.artifact_id)).__name__)
"""


@posix
@pytest.mark.parametrize("closed", [0o000, 0o400, 0o500])
def test_where_it_cannot_be_used_everybody_still_looks_and_errors_are_ours(mailed: Path, closed: int) -> None:
    folder = Path(tempfile.mkdtemp())
    (folder / "home").mkdir()
    shutil.copy(mailed, folder / "mailed.sqlite")
    try:
        (folder / "home" / "keys").mkdir(mode=0o755)
        folder.chmod(0o755)
        (folder / "home").chmod(closed if os.getuid() else closed | closed >> 6)
        done = fresh.run(WITHOUT, folder / "mailed.sqlite", env={**os.environ, "ARTIFACTDB_HOME": str(folder / "home")})
    finally:
        (folder / "home").chmod(0o755)
        shutil.rmtree(folder)
    first, *errors, last = done.stdout.splitlines()
    assert (first, last) == ("2 [0.0, 1.0, 2.0] True", "Ridge"), done.stdout + done.stderr
    assert len(errors) == 9
    assert errors[0] == "UntrustedArtifactError" or closed < 0o500


NO_LINKS = """
import os, sys
def no_links(*_):
    raise PermissionError(1, "Operation not permitted")
os.link = no_links
"""


@pytest.mark.parametrize("what", ["own_key", "team_keys"])
def test_processes_agree_on_one_key_where_a_file_system_has_no_links(tmp_path: Path, what: str) -> None:
    """Such as FAT; the refusal of its ``link`` is all that is put in the place of one."""
    code = (
        NO_LINKS
        + {
            "own_key": "from artifactdb.trust.own_key import own_key; print(own_key().key_id)",
            "team_keys": "from artifactdb.trust import team_keys\n"
            "try: team_keys.make('ada')\nexcept ValueError: pass\nprint(team_keys.own().key_id)",
        }[what]
    )
    environment = {**os.environ, "ARTIFACTDB_HOME": str(tmp_path / "new")}
    processes = [fresh.Process(code, env=environment) for _ in range(8)]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert [process.returncode for process in processes] == [0] * 8
    key = "key" if what == "own_key" else "keys"
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [key, "trusted.sqlite"]
    assert sum(1 for file in (tmp_path / "new").rglob("*") if file.is_file()) == 2, "nothing unfinished is left"


@posix
class TestForks:
    @contextmanager
    def at_work(self, *works: Callable[[], Any]) -> Iterator[list[BaseException]]:
        """Let a thread do each of these over and over; gives what went wrong."""
        ended, wrong = threading.Event(), []

        def over_and_over(work: Callable[[], Any]) -> None:
            try:
                while not ended.is_set():
                    work()
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=over_and_over, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield wrong
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    @staticmethod
    def fork(work: Callable[[], Any]) -> int:
        """Give the code with which a forked child ends: 0, 1 for an error, minus a signal's number if it hangs."""
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    @pytest.mark.campaign
    def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have(self) -> None:
        with self.at_work(own_key, own_key, own_key) as wrong:
            assert [self.fork(own_key) for _ in range(25)] == [0] * 25
        assert wrong == []

    @pytest.mark.campaign
    def test_threads_go_on_while_another_one_forks(self, mailed: Path) -> None:
        with Workspace(mailed) as workspace:
            (model,) = workspace.records(class_name="Ridge")
            allowed = [(model.content_hash, model.format)]

            def work() -> None:
                workspace.load(model.artifact_id)
                assert len(workspace.records()) == 2

            def remember() -> None:
                remembered.allow(allowed, "a file")
                assert remembered.is_allowed(*allowed[0])

            with self.at_work(work, work, remember) as wrong:
                ended = [self.fork(work if number % 2 else remember) for number in range(16)]
            assert wrong == []
            assert ended == [0] * 16

    def test_a_block_that_sees_one_state_goes_on_over_a_fork(self, mailed: Path) -> None:
        def work() -> None:
            with pytest.raises(ArtifactDBError, match="forked"):
                workspace.records()

        with Workspace(mailed) as workspace, workspace.database.reading():
            before = len(workspace.records())
            assert self.fork(work) == 0
            assert len(workspace.records()) == before
