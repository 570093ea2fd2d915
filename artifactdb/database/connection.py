"""The connections to one workspace file: one for each thread, none carried across a fork or a pickle.

Transactions live here and nowhere else. Everything that changes a workspace runs in ``Database.transaction``.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from artifactdb.database import forks
from artifactdb.database.grants import Grants, grants_of
from artifactdb.database.keys import require_free_keys
from artifactdb.database.log import LOG_BYTES, shorten_log
from artifactdb.database.moved import require_in_place
from artifactdb.database.opening import open_connection, require_timeout, workspace_file
from artifactdb.database.outdating import outdate
from artifactdb.database.sealed import believed, shut
from artifactdb.database.session import Level, Session
from artifactdb.database.state import Row, Snapshot
from artifactdb.database.translate import no_text, taken_back, translate, translated
from artifactdb.database.turns import begin
from artifactdb.errors import ArtifactDBError, BusyError, InvalidValueError, ReadOnlyError, StorageError

_FORK_PATIENCE_S = 10.0
_SEALED_TRIES = 3
_UNSTORABLE = (UnicodeEncodeError, OverflowError, TypeError)
"""What APSW raises for a text with lone surrogates, a number beyond 64 bits, and an object of another kind."""


class Database:
    """A workspace file, opened on first use in each thread.

    Parameters
    ----------
    path : str or Path
        The SQLite file, or the directory that holds ``workspace.sqlite``.
    mode : {"rw", "ro"}, default "rw"
        Whether the file may be made and changed.
    timeout_s : float, default 30.0
        How long to wait for another writer, in seconds.
    """

    def __init__(self, path: str | os.PathLike[str], *, mode: str = "rw", timeout_s: float = 30.0) -> None:
        if mode not in ("rw", "ro"):
            raise InvalidValueError(f"mode is 'rw' or 'ro', not {mode!r}.")
        self.path = workspace_file(path)
        self.mode = mode
        self.timeout_s = require_timeout(timeout_s)
        self.grants = Grants()
        self._start()
        self._session()

    def _start(self) -> None:
        self._local = threading.local()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._closed = False
        self._known = False
        self._log_limit = LOG_BYTES
        self.keys_are_free = False  # nobody has looked yet; nor since keys were given back
        self.kept: dict[str, Any] = {}  # what others look up once for as long as this lives
        self._unusable = ""
        self._abandoned: list[Session] = []
        _databases.add(self)

    def __repr__(self) -> str:
        return f"Database({str(self.path)!r}, mode={self.mode!r}{', closed' if self._closed else ''})"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "mode": self.mode, "timeout_s": self.timeout_s, "grants": grants_of(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, grants=Grants(state["grants"]))
        self._start()

    # -- statements ---------------------------------------------------------------------------------

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """Run one statement and give all its rows."""
        session = self._session()
        with session.lock:
            try:
                if session.seal is not None:
                    return self._rows_at_rest(session, sql, parameters)
                found = list(self._live(session).execute(sql, parameters))
                self._bound(session)
                return found
            except UnicodeDecodeError as error:
                raise no_text(error, self.path) from None
            except (apsw.Error, *_UNSTORABLE) as error:
                raise self._refused(session, error) from error

    def row(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """Run one statement and give its first row, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def value(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Any:
        """Run one statement and give the first value of its first row, or None."""
        found = self.rows(sql, parameters)
        return found[0][0] if found else None

    def run_many(self, sql: str, sequence: Iterable[Sequence[Any]], *, checked: bool = False) -> None:
        """Run one statement once for each tuple of parameters; ``checked`` where these bring their checks."""
        session = self._session()
        with session.lock:
            try:
                connection = self._live(session)
                with session.written.unnoted(connection) if checked else nullcontext():
                    for _ in connection.executemany(sql, sequence):
                        pass
                self._bound(session)
            except (apsw.Error, *_UNSTORABLE) as error:
                raise self._refused(session, error) from error

    def insert(self, sql: str, parameters: Sequence[Any]) -> int:
        """Run an INSERT and give the key of the new row."""
        session = self._session()
        with session.lock:
            try:
                connection = self._live(session)
                connection.execute(sql, parameters)
                key = connection.last_insert_rowid()
                self._bound(session)
                return key
            except (apsw.Error, *_UNSTORABLE) as error:
                raise self._refused(session, error) from error

    def _refused(self, session: Session, error: Exception) -> ArtifactDBError:
        if not session.depth and not session.reads:
            session.give_way(error)
        if isinstance(error, apsw.Error):
            return translate(error, self.path)
        return InvalidValueError(f"a value cannot be kept in the file ({error}).")

    def version(self) -> tuple[int, int, int, int]:
        """Give a value that is another one after any change to the file, by this or another process, or taken back."""
        session = self._session()
        with session.lock, translated(self.path):
            connection = self._newest(session)
            seen = connection.execute("PRAGMA data_version").fetchone()
            return (session.number, seen[0] if seen else 0, connection.total_changes(), session.rolled_back)

    # -- transactions -------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is inside ``transaction()``."""
        return self._session().depth > 0

    @contextmanager
    def transaction(self, *, wait: bool = True, keep: bool = True, undo: bool = True) -> Iterator[None]:
        """Make all changes in the block one: durable when it ends, none of them when it raises.

        Inside another transaction it becomes a part of that one: if the inner block raises and the caller goes on, only
        the inner changes are taken back; without ``undo`` what is around it too, which spares a copy of each page.
        Without ``wait`` a file that somebody else writes to is given up at once, without ``keep`` nothing is kept.
        """
        if self.mode == "ro":
            raise ReadOnlyError(f"{self.path} was opened with mode='ro'.", hint="Open it with mode='rw'.")
        session = self._session()
        with session.lock:
            connection = self._newest(session)
            if session.depth:
                session.require_same_task()
                with self._level(session, connection, keep=keep) if undo else session.part(connection):
                    yield
                return
            with self._level(session, connection, keep=keep, timeout_s=self.timeout_s if wait else 0.0):
                yield
            if keep:
                self._log_limit = shorten_log(connection, self.path, self._log_limit, self.timeout_s)

    @contextmanager
    def _level(
        self, session: Session, connection: apsw.Connection, *, keep: bool, timeout_s: float = 0.0
    ) -> Iterator[None]:
        # All in one: an interrupt comes between any two steps, and a level that nobody knows of would lock the file.
        depth, level = session.depth, Level()
        has_begun = has_ended = False
        try:
            if depth:
                connection.execute(f"SAVEPOINT level_{depth}")
            else:
                begin(connection, self.path, timeout_s, self.timeout_s)
                require_in_place(connection, self.path)
                if not self.keys_are_free:
                    require_free_keys(connection, self.path)
                    self.keys_are_free = True
                if keep:
                    outdate(self.path)
            session.begun(level)
            has_begun = True
            yield
            has_ended = True
            session.levels.pop()
            if session.is_broken or not connection.in_transaction:
                raise taken_back(self.path)
            if not keep:
                session.roll_back(connection)
                return
            if not depth:
                session.written.compute(connection)
            connection.execute(f"RELEASE level_{depth}" if depth else "COMMIT")
        except BaseException as error:
            # Interrupted behind a block, its end comes when the traceback goes: then what is around it has ended it.
            is_open = has_ended or level in session.levels
            if level in session.levels:
                del session.levels[session.levels.index(level) :]
            if has_begun and is_open:
                session.roll_back(connection, error)
            elif not has_begun and not depth and not session.reads:  # what was written before stays noted
                session.undo(connection)
            if isinstance(error, apsw.Error) and (has_ended or not has_begun):
                raise translate(error, self.path) from error
            raise

    def _bound(self, session: Session) -> None:
        if session.written.are_many and session.depth:
            session.written.compute(self._live(session))
        elif session.written.count and not session.depth and not session.reads:
            with self.transaction():  # a statement alone was one; the checks of its rows come right behind
                pass

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let all reads in the block see one state of the file; BusyError when a file at rest no longer holds it."""
        session = self._session()
        with session.lock:
            connection = self._newest(session)
            if connection.in_transaction:
                yield
                return
            try:
                with translated(self.path):
                    connection.execute("BEGIN")
                session.reads = True
                yield
                session.end_reading(connection)
            except BaseException as error:
                session.end_reading(connection, error)
                raise

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Give one state of the file that any thread may read while the block lasts.

        Inside a transaction it is the state that the transaction has made so far.
        """
        with self.reading():
            yield Snapshot(self._live(self._session()), self.path)

    # -- connections --------------------------------------------------------------------------------

    def connection(self) -> apsw.Connection:
        """Give this thread's connection, for the modules of this package alone."""
        session = self._session()
        with session.lock:
            return self._newest(session)

    @contextmanager
    def reading_once(self) -> Iterator[None]:
        """Keep little of what is read in memory while the block lasts: it is read from end to end, and once."""
        session = self._session()
        connection = self.connection()
        with translated(self.path):
            usual = connection.pragma("cache_size")
            connection.pragma("cache_size", -4096)
        try:
            yield
        finally:
            with translated(self.path):
                self._live(session).pragma("cache_size", usual)

    def open_reader(self) -> apsw.Connection:
        """Open one more connection, which cannot write; the caller closes it.

        Closing raises BusyError when the file was at rest and has changed: what was read may be of two states.
        """
        return self._open(known=True, writable=False)

    def close(self) -> None:
        """Close every connection; the last one to close folds the -wal file back into the workspace."""
        self._closed = True
        with self._guard:
            sessions = list(self._sessions)
            self._sessions.clear()
        for session in sessions:
            with session.lock:
                session.close()

    def _session(self) -> Session:
        session: Session | None = getattr(self._local, "session", None)
        if session is None or session.connection is None:
            session = self._new_session()
        return session

    def _new_session(self) -> Session:
        if self._closed:
            raise StorageError(f"{self.path} was closed.", hint="Open the workspace again.")
        if self._unusable:
            raise StorageError(self._unusable, hint="Open a new Workspace in the child process.")
        session = Session(self._open(known=self._known, writable=self.mode == "rw"))
        self._known = True
        self._local.session = session
        with self._guard:
            self._sessions.add(session)
        return session

    def _open(self, *, known: bool, writable: bool, sealed: bool = True) -> apsw.Connection:
        sealed = sealed and self.mode == "ro"
        with forks.unforked():
            return open_connection(self.path, writable=writable, timeout_s=self.timeout_s, known=known, sealed=sealed)

    def _newest(self, session: Session) -> apsw.Connection:
        """Give a session's connection, outside a block a new one when somebody has come to write to a file at rest."""
        connection = self._live(session)
        if session.seal is None or connection.in_transaction or session.seal.is_newest():
            return connection
        return self._open_anew(session, connection)

    def _open_anew(self, session: Session, old: apsw.Connection, *, sealed: bool = True) -> apsw.Connection:
        known = session.seal is not None and session.seal.is_of_same_file(self.path)
        session.take(connection := self._open(known=known, writable=self.mode == "rw", sealed=sealed))
        with translated(self.path):
            connection.pragma("cache_size", old.pragma("cache_size"))
        shut(old)
        return connection

    def _rows_at_rest(self, session: Session, sql: str, parameters: Sequence[Any] | dict[str, Any]) -> list[Row]:
        """Ask a file that is read without locks, and once more where it changed meanwhile."""
        tries = 0
        while True:
            tries += 1
            connection = self._newest(session)
            try:
                with believed(session.seal, self.path):
                    return list(connection.execute(sql, parameters))
            except BusyError:
                if session.seal is None or connection.in_transaction or tries > _SEALED_TRIES:
                    raise
            # A file that changes each time it is read is not at rest.
            self._open_anew(session, connection, sealed=tries < _SEALED_TRIES)

    def _live(self, session: Session) -> apsw.Connection:
        connection = session.connection
        in_block = session.depth or session.reads
        if connection is None:
            if self._closed:
                raise StorageError(f"{self.path} was closed.", hint="Open the workspace again.")
            if in_block:
                raise taken_back(self.path)
            # Another thread forked after this one had asked for its session.
            session.take(connection := self._open(known=self._known, writable=self.mode == "rw"))
        if in_block and (session.is_broken or not connection.in_transaction):
            raise taken_back(self.path)  # else what follows would be kept, or read, statement by statement
        return connection

    # -- forks --------------------------------------------------------------------------------------

    def _before_fork(self) -> list[Session]:
        """Close what is idle, because SQLite's locks do not survive a fork; give the locks held."""
        held = []
        self._guard.acquire()
        for session in list(self._sessions):
            if not session.lock.acquire(timeout=_FORK_PATIENCE_S):
                self._unusable = f"{self.path} was in use by another thread when this process was forked."
                self._abandoned.append(session)
                continue
            held.append(session)
            if session.depth or (session.connection is not None and session.connection.in_transaction):
                self._unusable = f"this process was forked inside a transaction on {self.path}."
                self._abandoned.append(session)
            else:
                session.close()
        return held

    def _after_fork(self, held: list[Session], *, in_child: bool) -> None:
        for session in held:
            session.lock.release()
        if in_child:
            # Abandoned sessions stay referenced: closing them here would drop the parent's work.
            self._local = threading.local()
            self._sessions = weakref.WeakSet()
            self._guard = threading.Lock()
        else:
            self._unusable = ""
            self._abandoned.clear()
            self._guard.release()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_fork_state: list[tuple[Database, list[Session]]] = []


def _before_fork() -> None:
    _fork_state[:] = [(database, database._before_fork()) for database in list(_databases)]
    forks.hold(_FORK_PATIENCE_S)  # last: who holds a session may be in want of it


def _after_fork(*, in_child: bool) -> None:
    forks.let_go(in_child=in_child)
    for database, held in _fork_state:
        database._after_fork(held, in_child=in_child)
    _fork_state.clear()


def database_of(workspace: object) -> Database:
    """Give the database of an open workspace, or open the one at a path."""
    database = getattr(workspace, "database", None)
    return database if isinstance(database, Database) else Database(workspace)  # type: ignore[arg-type]


def close_all() -> None:
    """Close every open database; runs when the interpreter ends, so that no -wal file stays behind."""
    for database in list(_databases):
        with suppress(Exception):
            database.close()


def database_file_size(path: Path) -> int:
    """Give the bytes that the workspace takes on disk, its write-ahead log included."""
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=partial(_after_fork, in_child=False),
        after_in_child=partial(_after_fork, in_child=True),
    )


atexit.register(close_all)
