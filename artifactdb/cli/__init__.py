"""The command line: the words of the Python API, with tables for people and ``--json`` for programs."""

from __future__ import annotations

import io
import json
import sys


def main() -> None:
    """Run the command line; errors of ours become one sentence and an exit code."""
    from artifactdb.cli.app import app
    from artifactdb.errors import ArtifactDBError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack a character; that is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ArtifactDBError as error:
        if "--json" in sys.argv:
            failure = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
            print(json.dumps(failure), file=sys.stderr)
        else:
            from artifactdb.cli.render import plain

            print("\n".join(map(plain, f"artifactdb: {error}".split("\n"))), file=sys.stderr)
        sys.exit(error.exit_code)
