"""The main job, on real spectra: train, store, close, and predict from the file in a second process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from artifactdb.errors import ArtifactDBError, InvalidValueError, StorageError

DATASET = "fermentation"


def run(folder: Path, *, as_json: bool = False) -> None:
    """Run the demo in an empty or new folder; at the end it holds one file, predictions inside, and a picture.

    Raises
    ------
    InvalidValueError
        When the folder holds anything.
    """
    missing = [name for name in ("chemotools", "joblib", "matplotlib", "sklearn") if find_spec(name) is None]
    if missing:
        raise ArtifactDBError(f"the demo needs {', '.join(missing)}.", hint='pip install "artifactdb[demo]"')
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidValueError(f"{folder} is there and not empty.", hint="Name a new folder: artifactdb demo OTHER")
    from artifactdb.demo.training import train

    folder.mkdir(parents=True, exist_ok=True)
    file, picture = folder / f"{DATASET}.sqlite", folder / "predictions.png"
    with tempfile.TemporaryDirectory(prefix="artifactdb-demo-") as scratch:
        expected = train(file, picture, Path(scratch), verbose=not as_json)
        command = [sys.executable, "-m", "artifactdb.demo.second_process", str(file), str(expected)]
        environment = {**os.environ, "PYTHONHASHSEED": "1"}
        done = subprocess.run([*command, *(["--json"] if as_json else [])], env=environment, check=False)
    if done.returncode:
        raise StorageError("the second process did not give the same predictions.")
    left = sorted(entry.name for entry in folder.iterdir())
    if not as_json:
        print(f"\n{folder} holds {', '.join(left)} and nothing else.")
        print(f"Look around: artifactdb ls {file}, artifactdb top {file}")
    if left != [file.name, picture.name]:
        raise StorageError(f"the folder holds {json.dumps(left)}, which is not what was to be left.")
