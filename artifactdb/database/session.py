"""What one thread holds of an open workspace: its connection, and how deep it is in a transaction."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING

import apsw

from artifactdb.database.row_checks import Written
from artifactdb.database.sealed import seal_of, shut
from artifactdb.errors import InvalidValueError, ReadOnlyError

if TYPE_CHECKING:
    from artifactdb.database.connection import Database

_numbers = count()


def require_no_transaction(database: Database, what: str) -> None:
    """Refuse what has to see the file as it is for everybody.

    Raises
    ------
    InvalidValueError
    """
    if database.in_transaction:
        raise InvalidValueError(f"{what} cannot run inside a transaction.", hint="Call it when the block has ended.")


def require_writing(database: Database, what: str) -> None:
    """Refuse what writes, and has to see the file as it is for everybody.

    Raises
    ------
    ReadOnlyError, InvalidValueError
    """
    if database.mode == "ro":
        raise ReadOnlyError(f"{database.path} was opened with mode='ro'.", hint="Open it with mode='rw'.")
    require_no_transaction(database, what)


class Level:
    """A block of a transaction."""

    __slots__ = ("__weakref__",)


_inside: ContextVar[tuple[weakref.ref[Level], ...]] = ContextVar("inside", default=())
"""The outermost blocks, of one workspace each, that this context is in. Each task of asyncio has a context of its own,
made from that of who began it.
"""


class Session:
    """A connection, and a lock that closing and forking wait for."""

    __slots__ = (
        "__weakref__", "connection", "half_done", "levels", "lock", "number", "reads", "rolled_back", "seal", "spoilt",
        "written",
    )  # fmt: skip

    def __init__(self, connection: apsw.Connection) -> None:
        self.take(connection)
        self.lock = threading.RLock()
        self.levels: list[Level] = []  # one for each block of a transaction, the innermost last
        self.reads = False
        self.rolled_back = 0  # how often: what was read of that state is of none now

    def take(self, connection: apsw.Connection) -> None:
        """Go on with another connection."""
        self.connection: apsw.Connection | None = connection
        self.spoilt = False  # a part of the transaction could not be taken back, so none of it may be kept
        self.half_done = False  # a part without a savepoint of its own failed, so what is around it may not be kept
        self.seal = seal_of(connection)
        self.written = Written(connection)
        self.number = next(_numbers)  # of the connection: its place in memory may be that of one before

    @property
    def is_broken(self) -> bool:
        """Whether nothing more may be done at the level that is open but to take it back."""
        return self.spoilt or self.half_done

    @property
    def depth(self) -> int:
        """How many blocks of a transaction are open."""
        return len(self.levels)

    def begun(self, level: Level) -> None:
        """Note that a block has begun."""
        if not self.levels:
            _inside.set((*(block for block in _inside.get() if block() is not None), weakref.ref(level)))
        self.levels.append(level)

    def require_same_task(self) -> None:
        """Refuse what another task of asyncio would write into the transaction of one that waits in the middle of it.

        Raises
        ------
        InvalidValueError
            It would be acknowledged, and go when that one is taken back.
        """
        if not any(block() is self.levels[0] for block in _inside.get()):
            raise InvalidValueError(
                "another task of this thread is inside a transaction on the workspace.",
                hint="Do not await inside a transaction, or let each task work in a thread of its own.",
            )

    @contextmanager
    def part(self, connection: apsw.Connection) -> Iterator[None]:
        """Let what the block writes be kept with what is around it, or not at all."""
        around, before = self.levels[-1], connection.total_changes()
        try:
            yield
        except BaseException:
            is_open = self.levels[-1:] == [around] and self.connection is connection
            if is_open and connection.total_changes() != before:
                self.half_done = True
            raise

    def roll_back(self, connection: apsw.Connection, after: BaseException | None = None) -> None:
        """Take back what was done at the level that has just ended, by an error or not."""
        self.rolled_back += 1
        self._end(connection, after)

    def end_reading(self, connection: apsw.Connection, after: BaseException | None = None) -> None:
        """End a block that read one state."""
        self.reads = False
        self._end(connection, after)

    def _end(self, connection: apsw.Connection, after: BaseException | None) -> None:
        if self.connection not in (connection, None):  # it gave way to another, which took everything back
            return
        self.undo(connection)
        self.half_done = False
        if not self.depth:
            self.spoilt = False
            self.written.forget()
            self.give_way(after)

    def undo(self, connection: apsw.Connection) -> None:
        """Let SQLite take back what was done at the level that has just ended."""
        # After a full disk, for one, SQLite has rolled everything back already.
        try:
            if connection.in_transaction and self.depth:
                connection.execute(f"ROLLBACK TO level_{self.depth}")
                connection.execute(f"RELEASE level_{self.depth}")
            elif connection.in_transaction:
                connection.execute("ROLLBACK")
        except (apsw.Error, MemoryError):
            if not self.depth:
                self.close()  # which takes back what is open, and needs no memory
            self.spoilt = True

    def give_way(self, after: BaseException | None) -> None:
        """Close the connection when memory ran out under one of its statements.

        The statement lives on in the traceback of the error. When that goes, SQLite ends the statement, and rolls back
        whatever the connection is doing then.
        """
        while after is not None:
            if isinstance(after, apsw.NoMemError | MemoryError):
                self.close()
                return
            after = after.__cause__

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self.connection = self.connection, None
        if connection is not None:
            shut(connection)
