"""Faults: the n-th write, sync or lock fails, for every n until the operation passes; nothing is ever half there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from artifactdb import ArtifactDBError, ArtifactRegistry, Workspace

CHAIN = "s1.MinMaxScaler>s3.PLSRegression"


class Faults:
    """Counts the calls of the file system, and lets one of them fail."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing = 0

    def call(self, error: type[apsw.Error]) -> None:
        self.calls += 1
        if self.calls == self.failing:
            raise error("injected")


class FaultyFile(apsw.VFSFile):
    def __init__(self, faults: Faults, name: Any, flags: Any) -> None:
        super().__init__("unix", name, flags)
        self.faults = faults

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        self.faults.call(apsw.FullError)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.faults.call(apsw.IOError)
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.faults.call(apsw.IOError)
        super().xTruncate(size)


class FaultyVFS(apsw.VFS):
    def __init__(self, faults: Faults) -> None:
        super().__init__("faulty", "unix", makedefault=True)
        self.faults = faults

    def xOpen(self, name: Any, flags: Any) -> FaultyFile:  # noqa: N802
        return FaultyFile(self.faults, name, flags)


@pytest.fixture
def faults() -> Iterator[Faults]:
    counted = Faults()
    default = apsw.vfs_names()[0]
    vfs = FaultyVFS(counted)
    yield counted
    vfs.unregister()
    apsw.set_default_vfs(default)


def register(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    registry.register_with_chain(fitted["forest"], CHAIN, "model", 3, fold_id=0)


def replace(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    registry.register_with_chain(fitted["ridge"], "s1.Before", "model", 1)


def delete(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    registry.delete_pipeline_artifacts("0001_pls", delete_files=True)


def purge(registry: ArtifactRegistry, fitted: dict[str, Any]) -> None:
    registry.purge_dataset_artifacts(confirm=True)


@pytest.mark.parametrize("operation", [register, replace, delete, purge])
def test_an_operation_that_fails_anywhere_leaves_the_state_before_or_after(
    faults: Faults, tmp_path: Path, fitted: dict[str, Any], operation: Callable[..., None]
) -> None:
    failing, failures = 0, 0
    while True:
        failing += 1
        assert failing < 500, "the operation never passes"
        with Workspace(tmp_path / f"{failing}.sqlite") as workspace:
            registry = workspace.registry("wheat", "0001_pls")
            registry.register_with_chain(fitted["pls"], "s1.Before", "model", 1)
            before = content(workspace)
            faults.calls, faults.failing = 0, failing
            try:
                operation(registry, fitted)
                failed = False
            except ArtifactDBError:
                failed = True
                failures += 1
            reached = faults.calls >= failing
            faults.failing = 0
            after = content(workspace)
            if failed:
                assert after == before, f"call {failing} left something behind"
            else:
                assert after != before
            # The same object goes on working when the fault is gone.
            operation(registry, fitted)
            assert content(workspace) != before
            assert workspace.verify().ok
        if not reached:
            break
    assert failures >= 3, "faults were really met"


def content(workspace: Workspace) -> list[Any]:
    return [record.to_dict() for record in workspace.records()]
