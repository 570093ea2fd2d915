"""What crosses processes and threads: each opens its own connection, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.linear_model import Ridge

from artifactdb import ArtifactLoader, ArtifactRegistry, BusyError, StorageError, Workspace
from tests import fresh
from tests.campaigns.kills import campaign


def fit_and_register(registry: ArtifactRegistry, number: int) -> str:
    model = Ridge(alpha=number + 1.0).fit([[0.0], [1.0]], [0.0, number])
    return registry.register_with_chain(model, f"s1.Ridge[sub={number}]", "model", 1).artifact_id


def load_alpha(loader: ArtifactLoader, artifact_id: str) -> float:
    return float(loader.load_by_id(artifact_id).alpha)


def test_threads_share_a_registry_and_a_loader(workspace: Workspace, registry: ArtifactRegistry) -> None:
    loader = workspace.loader("wheat")
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: fit_and_register(registry, number), range(64)))
        assert list(pool.map(lambda i: load_alpha(loader, i), ids)) == [number + 1.0 for number in range(64)]
    assert len(registry.get_all_records()) == 64


@pytest.mark.campaign
@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib_workers_register_and_load(workspace: Workspace, registry: ArtifactRegistry, backend: str) -> None:
    with joblib.Parallel(n_jobs=2, backend=backend) as parallel:
        ids = parallel(joblib.delayed(fit_and_register)(registry, number) for number in range(12))
        loader = workspace.loader("wheat")
        alphas = parallel(joblib.delayed(load_alpha)(loader, artifact_id) for artifact_id in ids)
    assert alphas == [number + 1.0 for number in range(12)]
    assert len(registry.get_all_records()) == 12


def fork(work: Callable[[], None]) -> int:
    """Give the process id of a forked child, which ends with code 0 when ``work`` raises nothing."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def test_a_forked_child_opens_its_own_connection(workspace: Workspace, registry: ArtifactRegistry) -> None:
    def work() -> None:
        fit_and_register(registry, 1)
        workspace.close()

    fit_and_register(registry, 0)
    child = fork(work)
    fit_and_register(registry, 2)
    assert os.waitpid(child, 0)[1] == 0
    assert len(registry.get_all_records()) == 3


def test_a_fork_inside_a_transaction_leaves_the_transaction_to_the_parent(
    workspace: Workspace, registry: ArtifactRegistry
) -> None:
    def work() -> None:
        with pytest.raises(StorageError, match="forked"):
            fit_and_register(registry, 1)

    with workspace.transaction():
        fit_and_register(registry, 0)
        child = fork(work)
        assert os.waitpid(child, 0)[1] == 0
        fit_and_register(registry, 2)
    assert len(registry.get_all_records()) == 2


@pytest.mark.campaign
def test_killed_processes_leave_all_that_was_acknowledged_and_nothing_half() -> None:
    campaign(kills=16, seed=time.time_ns() % 10_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_minutes_of_kills() -> None:
    campaign(minutes=2, seed=time.time_ns() % 10_000)


def test_a_writer_that_waits_too_long_is_told_who_is_in_the_way(workspace: Workspace, file: Path) -> None:
    registry = workspace.registry("wheat", "0001")
    with workspace.transaction(), Workspace(file, timeout_s=0.2) as other:
        with pytest.raises(BusyError, match="another writer"):
            fit_and_register(other.registry("wheat", "0002"), 0)
        fit_and_register(registry, 1)
    assert len(workspace.records()) == 1


def test_a_workspace_that_nobody_closed_is_one_file_when_the_process_ends(file: Path, in_new_process: Any) -> None:
    code = """
import sys, threading
from artifactdb import ArtifactRegistry
registry = ArtifactRegistry(sys.argv[1], "wheat", pipeline_id="0001")
def work(): registry.register_with_chain({"a": 1}, "s1.A", "model", 1)
thread = threading.Thread(target=work); thread.start(); thread.join(); work()
"""
    in_new_process(code, file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.campaign
def test_the_same_object_gives_the_same_hash_in_every_process(registry: ArtifactRegistry, in_new_process: Any) -> None:
    code = """
import sys
from sklearn.datasets import load_diabetes
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.cross_decomposition import PLSRegression
from artifactdb.formats import dump
x, y = load_diabetes(return_X_y=True)
model = make_pipeline(StandardScaler(), PLSRegression(3)).fit(x, y)
model.tags = {"wheat", "nir", "2026", "sample"}
print(dump(model)[0].content.digest.hex())
"""
    assert in_new_process(code) == in_new_process(code, PYTHONHASHSEED="1")


def test_processes_that_make_the_same_file_at_once_all_succeed(tmp_path: Path) -> None:
    code = """
import sys
from artifactdb import Workspace
with Workspace(sys.argv[1]) as workspace:
    workspace.registry("wheat").register({"a": 1}, f"0001:1:{sys.argv[2]}", "model")
"""
    for attempt in range(4):
        file = tmp_path / f"{attempt}.sqlite"
        makers = [fresh.Process(code, file, number) for number in range(4)]
        assert [maker.wait() for maker in makers] == [0] * 4
        with Workspace(file) as workspace:
            assert len(workspace.records()) == 4
