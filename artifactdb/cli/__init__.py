"""The command line: the words of the Python API, with tables for people and ``--json`` for programs."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from artifactdb.errors import ArtifactDBError


def main() -> None:
    """Run the command line; errors of ours become one sentence and an exit code."""
    try:
        _run()
    except KeyboardInterrupt:  # while all that is needed is imported, for one
        sys.exit(130)


def _run() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, as services may start a program; so no file gets its number, either
            setattr(sys, name, nowhere := Path(os.devnull).open(mode))  # noqa: SIM115
            os.set_inheritable(nowhere.fileno(), True)

    from artifactdb.cli.app import app
    from artifactdb.errors import ArtifactDBError, ReadOnlyError, StorageFullError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack a character; that is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # while what goes wrong with it can still be said
    except ArtifactDBError as error:
        _fail(error)
    except OSError as error:  # of a place that nobody thought of, or of the standard output
        with suppress(OSError, ValueError):  # or what is left in it fails again when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read has seen enough
            sys.exit(1)
        kind = ReadOnlyError if isinstance(error, PermissionError) else StorageFullError
        _fail(kind(f"something could not be read or written ({error})."))


def _fail(error: ArtifactDBError) -> None:
    if "--json" in sys.argv:
        failure = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        print(json.dumps(failure), file=sys.stderr)
    else:
        from artifactdb.cli.render import plain

        print("\n".join(map(plain, f"artifactdb: {error}".split("\n"))), file=sys.stderr)
    sys.exit(error.exit_code)
