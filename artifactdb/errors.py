"""Every error that artifactdb raises.

ArtifactDBError
├── ArtifactNotFoundError (KeyError)             no record answers to that id
├── PredictionNotFoundError (KeyError)           no prediction has that id
├── RunNotFoundError (KeyError)                  no run or pipeline has that id
├── LibraryEntryNotFoundError (FileNotFoundError) the library has no entry of that name
├── WorkspaceNotFoundError (FileNotFoundError)   a file or folder that was named is not there
├── InvalidChainError (ValueError)               a chain path that cannot be read
├── InvalidIdError (ValueError)                  an artifact id that cannot be read
├── InvalidValueError (ValueError)               any other argument that makes no sense
├── DuplicateError (ValueError)                  the same id with other content where that is refused
├── MissingDependencyError (ValueError)          a source that is not (or no longer) there
├── DependencyCycleError (ValueError)            an artifact that would depend on itself
├── StillReferencedError                         a deletion that would leave something dangling
├── SerializationError (TypeError)               no serializer takes the object
├── DeserializationError                         the bytes are right, but cannot become an object here
├── UntrustedArtifactError (PermissionError)     loading would run code that nobody vouched for
├── QueryError                                   SQL that is wrong, writes, or runs too long
└── StorageError                                 the file itself
    ├── CorruptBlobError                         stored bytes no longer match their hash
    ├── CorruptWorkspaceError                    SQLite finds the file damaged
    ├── CatalogFileError                         a Parquet file of the catalog is missing or not as written
    ├── NotAWorkspaceError                       the file belongs to another program, or is no database
    ├── NewerSchemaError                         a later artifactdb wrote it
    ├── BusyError (TimeoutError)                 another writer holds it
    ├── ReadOnlyError (PermissionError)          it cannot be written
    └── StorageFullError (OSError)               no room, or the device failed

Each carries a ``hint`` that says what to do and the ``exit_code`` of the command line.
"""

from __future__ import annotations

from collections.abc import Sequence


class ArtifactDBError(Exception):
    """Root of everything that artifactdb raises.

    Parameters
    ----------
    message : str
        What was asked and what was found.
    hint : str, default ""
        What to do next; printed after the message.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        # KeyError would print the repr of its argument; ours all print as sentences.
        return f"{self.message} {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive BaseException's own pickling, and joblib pickles errors.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(cls: type[ArtifactDBError], args: tuple[object, ...], state: dict[str, object]) -> Exception:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ArtifactNotFoundError(ArtifactDBError, KeyError):
    """No record answers to that id, chain or hash."""

    exit_code = 3


class PredictionNotFoundError(ArtifactDBError, KeyError):
    """No prediction of the catalog has that id."""

    exit_code = 3


class RunNotFoundError(ArtifactDBError, KeyError):
    """No run or pipeline has that id."""

    exit_code = 3


class LibraryEntryNotFoundError(ArtifactDBError, FileNotFoundError):
    """The library has no entry of that name; a missing file, as where the library is a folder."""

    exit_code = 3


class WorkspaceNotFoundError(ArtifactDBError, FileNotFoundError):
    """A file or folder that was named is not there."""

    exit_code = 3


class InvalidChainError(ArtifactDBError, ValueError):
    """A chain path that cannot be read; ``position`` is the 0-based character where reading stopped."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "", position: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.position = position


class InvalidIdError(ArtifactDBError, ValueError):
    """An artifact id that cannot be read."""

    exit_code = 2


class InvalidValueError(ArtifactDBError, ValueError):
    """An argument that makes no sense: a negative step, a fold that contradicts its chain."""

    exit_code = 2


class DuplicateError(ArtifactDBError, ValueError):
    """The same id with other content, where replacing was not asked for."""

    exit_code = 4


class MissingDependencyError(ArtifactDBError, ValueError):
    """A source that is not there; ``missing`` lists the ids."""

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", missing: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.missing = list(missing)


class DependencyCycleError(ArtifactDBError, ValueError):
    """An artifact would depend on itself; ``cycle`` lists the ids on the way round."""

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", cycle: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.cycle = list(cycle)


class StillReferencedError(ArtifactDBError):
    """What is to be deleted is still needed; ``dependents`` lists the ids that need it."""

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", dependents: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.dependents = list(dependents)


class SerializationError(ArtifactDBError, TypeError):
    """No serializer takes the object; ``attribute`` is the path to the part that failed."""

    exit_code = 5

    def __init__(self, message: str, *, hint: str = "", attribute: str = "") -> None:
        super().__init__(message, hint=hint)
        self.attribute = attribute


class DeserializationError(ArtifactDBError):
    """The bytes are as they were written, but this environment cannot make an object of them."""

    exit_code = 5


class UntrustedArtifactError(ArtifactDBError, PermissionError):
    """Loading would run code that nobody vouched for; ``report`` says what, as far as it was looked at."""

    exit_code = 6

    def __init__(self, message: str, *, hint: str = "", report: object = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report


class QueryError(ArtifactDBError):
    """SQL that is wrong, that would write, or that ran longer than it was given."""

    exit_code = 2


class StorageError(ArtifactDBError):
    """The file itself could not be read or written."""

    exit_code = 7


class CorruptBlobError(StorageError):
    """Stored bytes no longer match their hash; ``content_hash`` names the blob."""

    def __init__(self, message: str, *, hint: str = "", content_hash: str = "") -> None:
        super().__init__(message, hint=hint)
        self.content_hash = content_hash


class CorruptWorkspaceError(StorageError):
    """SQLite finds the file damaged."""


class CatalogFileError(StorageError):
    """A Parquet file of the catalog is missing, or is not what was written; ``file`` is where it was looked for."""

    def __init__(self, message: str, *, hint: str = "", file: str = "") -> None:
        super().__init__(message, hint=hint)
        self.file = file


class NotAWorkspaceError(StorageError):
    """The file is no database, or belongs to another program."""


class NewerSchemaError(StorageError):
    """A later version of artifactdb wrote the file."""


class BusyError(StorageError, TimeoutError):
    """Another writer held the file for longer than this one was told to wait."""

    exit_code = 8


class ReadOnlyError(StorageError, PermissionError):
    """The file, its folder or this connection cannot be written."""


class StorageFullError(StorageError, OSError):
    """No room is left, or the device failed while reading or writing."""
