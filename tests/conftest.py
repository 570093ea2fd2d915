"""What tests share: real spectra, real fitted objects, and a workspace that is checked after each test."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVR

from artifactdb import ArtifactRegistry, Workspace
from tests import fresh
from tests.users import CHAIN, as_

HOME = tempfile.TemporaryDirectory(prefix="artifactdb-home-")
os.environ["ARTIFACTDB_HOME"] = HOME.name  # so that no test reads or writes the keys of who runs it


@pytest.fixture(scope="session")
def xy() -> tuple[Any, Any]:
    return load_diabetes(return_X_y=True)


@pytest.fixture(scope="session")
def fitted(xy: tuple[Any, Any]) -> dict[str, Any]:
    """Real fitted objects by name."""
    x, y = xy
    return {
        "scaler": StandardScaler().fit(x),
        "minmax": MinMaxScaler().fit(x),
        "pls": PLSRegression(4).fit(x, y),
        "ridge": Ridge(alpha=0.5).fit(x, y),
        "forest": RandomForestRegressor(10, random_state=0).fit(x, y),
        "svr": SVR(C=2.0).fit(x, y),
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "study.sqlite"


@pytest.fixture
def workspace(file: Path) -> Iterator[Workspace]:
    """A workspace that must be sound, and one file, when the test is over."""
    with Workspace(file) as opened:
        yield opened
        found = opened.verify()
        assert found.ok, found.problems
    assert not file.with_name(file.name + "-wal").exists()
    assert not file.with_name(file.name + "-shm").exists()


@pytest.fixture
def ada(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be Ada, with a home of her own; ``as_`` changes who it is."""
    return as_("ada", tmp_path, monkeypatch)


@pytest.fixture
def study(file: Path, ada: Path, fitted: dict[str, Any]) -> Path:
    """What Ada sends: a scaler and a ridge, and an array."""
    with Workspace(file) as workspace:
        registry = workspace.registry("wheat", "0001_ridge")
        scaler = registry.register_with_chain(fitted["minmax"], "s1.MinMaxScaler", "transformer", 1)
        registry.register_with_chain(fitted["ridge"], CHAIN, "model", 2, fold_id=0, depends_on=[scaler.artifact_id])
        registry.register(np.arange(5.0), "0001_ridge$aaaaaaaaaaaa:0", "model")
    return file


@pytest.fixture
def registry(workspace: Workspace) -> ArtifactRegistry:
    return workspace.registry("wheat", pipeline_id="0001_pls_abc123")


@pytest.fixture
def fold_models(xy: tuple[Any, Any]) -> list[Any]:
    x, y = xy
    return [PLSRegression(3).fit(np.delete(x, slice(i, None, 5), 0), np.delete(y, slice(i, None, 5))) for i in range(5)]


def python(code: str, *arguments: object, anew: bool = False, **environment: str) -> str:
    """Run code in a fresh process and give what it prints; ``anew``: in one that has imported nothing yet."""
    if anew or "PYTHONHASHSEED" in environment:
        command, settings = [sys.executable, "-c", code, *map(str, arguments)], {**os.environ, **environment}
        done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    else:
        done = fresh.run(code, *arguments, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def in_new_process() -> Any:
    return python
