"""Writes ``environment_*.sqlite.gz``, one in each environment of its own: run once for each, then kept as it is.

    python -m tests.golden.environments [NAME ...] [--again]

Each environment is a venv in a temporary folder with the project of this checkout and the versions below. Pythons are
looked for on the PATH; what has no Python there is named and left out. A file that is there stays, unless told.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
CHECKOUT = FOLDER.parent.parent

ENVIRONMENTS = [
    # Python, scikit-learn, numpy, and the scipy of the time: later ones take away what older scikit-learn calls.
    ("3.11", "1.4.2", "1.26.4", "1.13.1"),
    ("3.12", "1.4.2", "2.0.2", "1.13.1"),
    ("3.12", "1.5.2", "1.26.4", "1.14.1"),
    ("3.11", "1.5.2", "2.1.3", "1.14.1"),
    ("3.11", "1.6.1", "1.26.4", "1.15.3"),
    ("3.13", "1.6.1", "2.2.6", "1.15.3"),
    ("3.12", "1.7.2", "1.26.4", "1.16.3"),
    ("3.11", "1.7.2", "2.3.5", "1.16.3"),
    ("3.11", "1.8.0", "1.26.4", "1.16.3"),
    ("3.13", "1.8.0", "2.3.5", "1.16.3"),
    ("3.12", "1.9.1", "1.26.4", "1.17.1"),
    ("3.13", "1.9.1", "2.4.6", "1.17.1"),
]


def name_of(sklearn: str, numpy: str) -> str:
    return f"environment_sklearn-{sklearn}_numpy-{numpy}"


def make(python: str, sklearn: str, numpy: str, scipy: str, target: Path) -> None:
    """Make an environment, and a file in it; raises CalledProcessError when it cannot be made."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", f"{folder}/venv"], check=True)
        own = f"{folder}/venv/bin/python"
        pins = [f"scikit-learn=={sklearn}", f"numpy=={numpy}", f"scipy=={scipy}"]
        if numpy < "2":
            pins.append("pyarrow<26")  # the last that works with numpy 1, which its metadata does not say
        pip = [own, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        subprocess.run([*pip, f"{CHECKOUT}[sklearn]", *pins], check=True)
        # What is written here is nobody's: it is signed with a key that goes with the folder.
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ARTIFACTDB"))}
        variables |= {"ARTIFACTDB_HOME": f"{folder}/home", "LOGNAME": "golden"}
        subprocess.run([own, str(FOLDER / "estimators.py"), str(target)], check=True, env=variables, cwd=folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name_of(sklearn, numpy) for _, sklearn, numpy, _ in ENVIRONMENTS]
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME", help="default: all")
    parser.add_argument("--again", action="store_true", help="write files that are there already once more")
    wanted = parser.parse_args()
    failed = False
    for version, sklearn, numpy, scipy in ENVIRONMENTS:
        name = name_of(sklearn, numpy)
        target = FOLDER / f"{name}.sqlite.gz"
        if (wanted.names and name not in wanted.names) or (target.exists() and not wanted.again):
            continue
        python = shutil.which(f"python{version}")
        if python is None:
            print(f"{name}: left out, there is no python{version} on the PATH", flush=True)
            continue
        try:
            make(python, sklearn, numpy, scipy, target)
        except subprocess.CalledProcessError as error:
            failed = True
            print(f"{name}: {error}", flush=True)
        else:
            print(f"{name}: {target.stat().st_size:,} bytes", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
