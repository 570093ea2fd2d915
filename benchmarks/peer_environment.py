"""Environments of the programs that are compared with, made by pip on first use and kept."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "artifactdb-peers"

NIRS4ALL = "nirs4all==0.6.2"
NIRS4ALL_STORE = "nirs4all==1.4.10"
MLFLOW = "mlflow==3.17.2"

_SHARED = ("scikit-learn", "numpy", "joblib")  # as the environment that measures has them
_WITH = {
    # All that importing nirs4all needs. Its own list would bring in torch, which the registry does not use.
    NIRS4ALL: [
        "h5py",
        "jsonschema",
        "matplotlib",
        "optuna",
        "packaging",
        "pandas",
        "polars",
        "pyarrow",
        "pybaselines",
        "pydantic",
        "PyWavelets",
        "pyyaml",
        "scipy",
        "seaborn",
        "shap",
    ],
    NIRS4ALL_STORE: [NIRS4ALL_STORE],
    MLFLOW: [MLFLOW],
}
_WITHOUT_DEPENDENCIES = {NIRS4ALL: [NIRS4ALL, "kennard-stone", "twinning"], NIRS4ALL_STORE: [], MLFLOW: []}


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--peers``."""
    parser.add_argument("--peers", type=Path, default=DEFAULT_FOLDER, help="folder of the peers' environments")


def peer_python(peer: str, folder: Path) -> Path:
    """Give the Python of a peer's environment, made if it is not there."""
    home = folder / peer.replace("==", "-")
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = home / "artifactdb-complete"
    if done.exists() and done.read_text() == peer:
        return python
    print(f"Making an environment with {peer} ...", file=sys.stderr, flush=True)
    shared = [f"{package}=={version(package)}" for package in _SHARED]
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    subprocess.run([*pip, *shared, *_WITH[peer]], check=True, stdout=sys.stderr)
    if _WITHOUT_DEPENDENCIES[peer]:
        subprocess.run([*pip, "--no-deps", *_WITHOUT_DEPENDENCIES[peer]], check=True, stdout=sys.stderr)
    done.write_text(peer)
    return python
