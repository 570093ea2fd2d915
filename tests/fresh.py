"""Fresh processes for tests, without a second and a half of imports each.

One server imports the heavy libraries, and nothing that holds state of a workspace; each process is a fork of it that
has never seen what the test did. Where it matters how Python itself starts, tests start it themselves.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

PRELOADED = (
    "sklearn.cross_decomposition", "sklearn.ensemble", "sklearn.linear_model", "sklearn.svm", "sklearn.preprocessing",
    "sklearn.datasets", "sklearn.pipeline", "sklearn.model_selection", "pandas", "pyarrow.parquet", "duckdb", "apsw",
)  # fmt: skip

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__, *PRELOADED])


def run(
    code: str, *arguments: object, env: Mapping[str, str] | None = None, input: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run code as a program of its own, as ``subprocess.run`` would."""
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        said[0].write_bytes(input)
        process = _context.Process(target=_become, args=(code, *_given(arguments, env), [str(name) for name in said]))
        process.start()
        process.join()
        out, errors = (name.read_text(encoding="utf-8") if name.exists() else "" for name in said[1:])
        assert process.exitcode is not None
        return subprocess.CompletedProcess(code, process.exitcode, out, errors)


class Process:
    """A program that runs beside the test, as ``subprocess.Popen`` would start it, with pipes to and from it."""

    def __init__(self, code: str, *arguments: object, env: Mapping[str, str] | None = None) -> None:
        (theirs_in, ours_in), (ours_out, theirs_out) = _context.Pipe(duplex=False), _context.Pipe(duplex=False)
        self._process = _context.Process(
            target=_become, args=(code, *_given(arguments, env), [theirs_in, theirs_out]), daemon=True
        )
        self._process.start()
        self.stdin = os.fdopen(os.dup(ours_in.fileno()), "w")
        self.stdout = os.fdopen(os.dup(ours_out.fileno()))
        for end in (theirs_in, ours_in, theirs_out, ours_out):
            end.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.communicate()

    @property
    def returncode(self) -> int | None:
        """What it exited with; a negative number of a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Give what it exited with, or None."""
        return self.returncode

    def wait(self) -> int:
        """Wait until it ends, and give what it exited with."""
        self._process.join()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def communicate(self, text: str = "") -> tuple[str, None]:
        """Say a last word to it, and give what it says until it ends."""
        said = ""
        if not self.stdin.closed:
            try:
                self.stdin.write(text)
                self.stdin.close()
            except BrokenPipeError:
                pass
            said = self.stdout.read()
            self.stdout.close()
        self.wait()
        return said, None


def _given(arguments: tuple[object, ...], env: Mapping[str, str] | None) -> tuple[list[str], dict[str, str], str]:
    return [str(argument) for argument in arguments], dict(os.environ if env is None else env), str(Path.cwd())


def _become(
    code: str, arguments: list[str], environment: dict[str, str], folder: str, streams: list[str | Connection]
) -> None:
    for number, stream in enumerate(streams):
        if isinstance(stream, str):
            opened = os.open(stream, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY)
        else:
            opened = os.dup(stream.fileno())
            stream.close()
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["-c", *arguments]
    sys.path[0] = ""
    names: dict[str, Any] = vars(main := ModuleType("__main__"))
    sys.modules["__main__"] = main
    try:
        exec(compile(code, "<string>", "exec"), names)
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        atexit._run_exitfuncs()  # which a fork leaves out
        sys.stdout.flush()
        sys.stderr.flush()
