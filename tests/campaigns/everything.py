"""The whole public API against plain dictionaries: whatever is done in whatever order, the workspace holds just that.

    python -m tests.campaigns.everything --steps 10000 --seed 0

Hypothesis chooses what is done; each thing is done to a workspace and to a model of it, and both must agree after
every step. What it finds it shrinks to the shortest history and prints as a program.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from artifactdb import DependencyCycleError, StillReferencedError, Workspace

FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
DATASET = "diabetes"
PIPELINES = ("0001_a", "0002_b", "0003_c")
CHAINS = ("s1.MinMaxScaler", "s1.MinMaxScaler>s2.PLSRegression", "s1.StandardScaler>s2.Ridge")
FOLDS = (None, 0, 1)
_FULL_EVERY = 12

done: Counter[str] = Counter()
"""How often each thing was done, in this process."""


@cache
def pool() -> list[Any]:
    """Give what is saved: real fitted objects, and a value and an array that are kept as data."""
    x, y = load_diabetes(return_X_y=True)
    return [
        MinMaxScaler().fit(x), StandardScaler().fit(x), PLSRegression(2).fit(x, y), Ridge(alpha=0.5).fit(x, y),
        {"window": 11, "polyorder": 2}, np.random.default_rng(0).normal(size=5000),
    ]  # fmt: skip


@cache
def hashes() -> list[str]:
    """Give the content hash of each object of the pool."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder, Workspace(Path(folder) / "hashes.sqlite") as workspace:
        registry = workspace.registry(DATASET)
        return [
            registry.register(obj, f"{number:04}$aaaaaaaaaaaa:0", "model").content_hash
            for number, obj in enumerate(pool())
        ]


def prediction(pipeline: str, number: int) -> dict[str, Any]:
    """Give a row that these two say all of."""
    return {
        "dataset_name": DATASET, "pipeline_uid": pipeline, "model_name": f"m{number}", "partition": "val",
        "metric": "rmse", "val_score": number / 8, "y_pred": np.arange(number % 5 + 1.0) + number,
    }  # fmt: skip


def save(workspace: Workspace, pipeline: str, chain: str, fold: int | None, number: int, source: str | None) -> str:
    """Save an object of the pool, and give its id."""
    return (
        workspace.registry(DATASET, pipeline)
        .register_with_chain(
            pool()[number], chain, "model", chain.count(">") + 1, fold_id=fold, depends_on=[source] if source else []
        )
        .artifact_id
    )


def _serve(pipe: Connection) -> None:
    """Do in another process what is asked for, each in a workspace that is opened and closed."""
    while (order := pipe.recv()) is not None:
        path, what, arguments = order
        with Workspace(path) as workspace:
            made = save(workspace, *arguments) if what == "save" else workspace.catalog.add(**prediction(*arguments))
        pipe.send(made)  # now that it is closed: a history must be the same each time


@cache
def other_process() -> Connection:
    """Give the way to a process that has the workspace to itself for as long as it works on it."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True).start()
    return ours


class Everything(RuleBasedStateMachine):
    """A workspace, and what it must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=FOLDER, prefix="everything-"))
        self.path = self.folder / "study.sqlite"
        self.records: dict[str, tuple[int, tuple[str, ...]]] = {}
        self.predictions: dict[str, tuple[str, int]] = {}
        self.library: dict[str, dict[str, int]] = {}
        self.steps = 0

    @initialize()
    def begin(self) -> None:
        self.workspace = Workspace(self.path)

    # -- what is done -------------------------------------------------------------------------------

    @rule(
        pipeline=st.sampled_from(PIPELINES), chain=st.sampled_from(CHAINS), fold=st.sampled_from(FOLDS),
        number=st.integers(0, 5), source=st.integers(-12, 30), elsewhere=st.booleans(), fails=st.integers(0, 4),
    )  # fmt: skip
    def save(
        self, pipeline: str, chain: str, fold: int | None, number: int, source: int, elsewhere: bool, fails: int
    ) -> None:
        known = sorted(self.records)
        depends_on = known[source % len(known)] if known and source >= 0 else None
        artifact_id = self.workspace.registry(DATASET, pipeline).generate_id(chain, fold, pipeline)
        cycle = depends_on == artifact_id or (depends_on is not None and artifact_id in self.reached(depends_on))
        arguments = (pipeline, chain, fold, number, depends_on)
        if cycle:
            with pytest.raises(DependencyCycleError):
                save(self.workspace, *arguments)
            return
        if fails == 0:
            with pytest.raises(ZeroDivisionError), self.workspace.transaction():
                save(self.workspace, *arguments)
                self.workspace.catalog.add(**prediction(pipeline, 999))
                raise ZeroDivisionError
            return
        if elsewhere:
            other_process().send((self.path, "save", arguments))
            made = other_process().recv()
        else:
            made = save(self.workspace, *arguments)
        assert made == artifact_id
        self.records[made] = (number, (depends_on,) if depends_on else ())

    @rule(pipeline=st.sampled_from(PIPELINES), cascade=st.booleans(), content=st.booleans())
    def delete(self, pipeline: str, cascade: bool, content: bool) -> None:
        chosen = {name for name in self.records if name.startswith(f"{pipeline}$")}
        dependents = self.dependents(chosen) - chosen
        registry = self.workspace.registry(DATASET)
        if dependents and not cascade:
            with pytest.raises(StillReferencedError):
                registry.delete_pipeline_artifacts(pipeline, content)
            return
        assert registry.delete_pipeline_artifacts(pipeline, content, cascade=cascade) == len(chosen | dependents)
        for name in chosen | dependents:
            del self.records[name]

    @rule(
        pipeline=st.sampled_from(PIPELINES), first=st.integers(0, 40), count=st.integers(1, 30),
        elsewhere=st.booleans(),
    )  # fmt: skip
    def predict(self, pipeline: str, first: int, count: int, elsewhere: bool) -> None:
        if elsewhere:
            other_process().send((self.path, "predict", (pipeline, first)))
            self.predictions[other_process().recv()] = (pipeline, first)
            return
        numbers = range(first, first + count)
        ids = self.workspace.catalog.add_many([prediction(pipeline, number) for number in numbers])
        self.predictions |= {name: (pipeline, number) for name, number in zip(ids, numbers, strict=True)}

    @rule(pipeline=st.sampled_from(PIPELINES), below=st.integers(0, 70))
    def delete_predictions(self, pipeline: str, below: int) -> None:
        chosen = [name for name, (of, number) in self.predictions.items() if of == pipeline and number < below]
        assert self.workspace.catalog.delete(chosen) == len(chosen)
        for name in chosen:
            del self.predictions[name]

    @rule(pipeline=st.sampled_from(PIPELINES))
    def delete_predictions_of_a_pipeline(self, pipeline: str) -> None:
        chosen = [name for name, (of, _) in self.predictions.items() if of == pipeline]
        assert self.workspace.catalog.delete(pipeline_uid=pipeline) == len(chosen)
        for name in chosen:
            del self.predictions[name]

    @rule()
    def flush(self) -> None:
        self.workspace.catalog.flush()

    @rule()
    def compact(self) -> None:
        self.workspace.catalog.compact()
        if self.predictions:
            names = {path.name for path in self.workspace.catalog.folder.iterdir()}
            assert names == {"predictions_meta.parquet", "predictions_data.parquet"}

    @rule()
    def collect(self) -> None:
        self.workspace.gc()
        assert not self.workspace.orphans()

    @rule()
    def optimize(self) -> None:
        assert not self.workspace.optimize().damaged

    @rule(name=st.sampled_from(["x", "y"]), pipeline=st.sampled_from(PIPELINES))
    def keep_in_the_library(self, name: str, pipeline: str) -> None:
        chosen = {own for own in self.records if own.startswith(f"{pipeline}$")}
        if not chosen:
            return
        self.workspace.library.save_pipeline_full(DATASET, pipeline, name)
        kept = chosen.union(*(self.reached(own) for own in chosen))
        self.library[name] = {own: self.records[own][0] for own in kept}

    @precondition(lambda self: self.library)
    @rule()
    def forget_from_the_library(self) -> None:
        name = min(self.library)
        self.workspace.library.delete(name)
        del self.library[name]

    # -- wholes ------------------------------------------------------------------------------------

    @rule()
    def reopen(self) -> None:
        self.workspace.close()
        assert not self.path.with_name("study.sqlite-wal").exists(), "at rest it is one file"
        self.workspace = Workspace(self.path)

    @rule()
    def pack(self) -> None:
        packed = self.workspace.pack(self.folder / "packed.sqlite", overwrite=True)
        self.agrees(packed)

    @rule()
    def back_up(self) -> None:
        folder = self.folder / "backups"
        self.workspace.backup_to(folder, keep=2)
        self.agrees(Workspace.restore(folder, self.folder / "restored.sqlite"))

    @precondition(lambda self: self.records or self.predictions)
    @rule()
    def export_and_import(self) -> None:
        self.workspace.export(self.folder / "tree", overwrite=True)
        path = self.folder / "imported.sqlite"
        with Workspace(path) as workspace:
            assert not workspace.import_folder(self.folder / "tree").refused
        self.agrees(path)

    @rule(
        others=st.lists(
            st.tuples(st.sampled_from(PIPELINES), st.sampled_from(CHAINS), st.sampled_from(FOLDS), st.integers(0, 5)),
            min_size=1, max_size=5, unique_by=lambda other: other[:3],
        ),
        numbers=st.lists(st.integers(0, 60), max_size=5), policy=st.sampled_from(["ours", "theirs"]),
    )  # fmt: skip
    def merge(self, others: list[tuple[Any, ...]], numbers: list[int], policy: str) -> None:
        path = self.folder / "other.sqlite"
        with Workspace(path) as other:
            theirs = {save(other, *arguments, None): arguments[3] for arguments in others}
            predicted = other.catalog.add_many([prediction(others[0][0], number) for number in numbers])
        result = self.workspace.merge(path, on_conflict=policy)
        conflicts = {
            name for name, number in theirs.items() if name in self.records and self.records[name] != (number, ())
        }
        assert {conflict.name for conflict in result.conflicts} == conflicts
        for name, number in theirs.items():
            if name not in self.records or (name in conflicts and policy == "theirs"):
                self.records[name] = (number, ())
        self.predictions |= {name: (others[0][0], number) for name, number in zip(predicted, numbers, strict=True)}
        self.remove(path)

    # -- what must hold ------------------------------------------------------------------------------

    @invariant()
    def holds_just_that(self) -> None:
        workspace = getattr(self, "workspace", None)
        if workspace is None:
            return
        self.steps += 1
        done["steps"] += 1
        rows = workspace.query("SELECT artifact_id, content_hash FROM artifacts").rows
        assert dict(rows) == {name: hashes()[number] for name, (number, _) in self.records.items()}
        assert len(workspace.catalog) == len(self.predictions)
        if self.steps % _FULL_EVERY == 0:
            self.holds(workspace)

    def holds(self, workspace: Workspace) -> None:
        """Compare everything, contents and arrays included."""
        records = {record.artifact_id: record for record in workspace.records()}
        assert {name: tuple(record.depends_on) for name, record in records.items()} == {
            name: sources for name, (_, sources) in self.records.items()
        }
        for name, (number, _) in self.records.items():
            self.is_same(workspace.load(name), number)
        found = {row["id"]: row["val_score"] for row in workspace.catalog.filter().to_dicts()}
        assert found == {name: number / 8 for name, (_, number) in self.predictions.items()}
        for name, arrays in workspace.catalog.arrays(sorted(self.predictions)).items():
            assert np.array_equal(arrays["y_pred"], prediction(*self.predictions[name])["y_pred"])
        assert {entry["name"] for entry in workspace.library.list_pipelines()} == set(self.library)
        for name, kept in self.library.items():
            loaded = workspace.library.load(name)
            assert set(loaded) == set(kept)
            for artifact_id, number in kept.items():
                self.is_same(loaded[artifact_id], number)
        verified = workspace.verify()
        assert verified.ok, verified.problems

    @staticmethod
    def is_same(obj: Any, number: int) -> None:
        expected = pool()[number]
        assert type(obj) is type(expected)
        if hasattr(obj, "predict"):
            x = load_diabetes(return_X_y=True)[0][:5]
            assert np.array_equal(obj.predict(x), expected.predict(x))
        elif isinstance(obj, np.ndarray):
            assert np.array_equal(obj, expected)

    def agrees(self, path: Path) -> None:
        """See that another file holds the same, and remove it."""
        with Workspace(path, mode="ro") as workspace:
            self.holds(workspace)
        self.remove(path)

    def remove(self, path: Path) -> None:
        path.unlink()
        shutil.rmtree(path.with_suffix(".catalog"), ignore_errors=True)

    def reached(self, name: str) -> set[str]:
        """Give an artifact and all that it was made of."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            own = waiting.pop()
            if own not in found:
                found.add(own)
                waiting += self.records[own][1]
        return found

    def dependents(self, names: set[str]) -> set[str]:
        """Give all that was made of some artifacts, themselves included."""
        return {own for own in self.records if names & self.reached(own)}

    def teardown(self) -> None:
        workspace = getattr(self, "workspace", None)
        try:
            if workspace is not None:
                self.holds(workspace)
                workspace.close()
                beside = {path.name for path in self.folder.glob("study*")}
                assert beside <= {"study.sqlite", "study.catalog"}, "at rest it is one file, and its catalog"
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def campaign(histories: int, steps: int, chosen: int) -> None:
    """Go through so many histories of so many steps each; raises what goes wrong, with the shortest history."""
    machine = seed(chosen)(Everything)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=histories, stateful_step_count=steps, deadline=None, database=None, print_blob=True,
            phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


_HISTORIES = 8
"""After so many it says how far it is."""


def main() -> int:
    """Run the campaign as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=100, help="steps of one history, at most")
    given = parser.parse_args()
    started, round_ = time.monotonic(), 0
    while done["steps"] < given.steps:
        histories = min(_HISTORIES, max(1, (given.steps - done["steps"]) // given.length))
        campaign(histories, given.length, 1000 * given.seed + round_)
        round_ += 1
        print(
            f"{done['steps']} steps, {time.monotonic() - started:.0f} s, seed {given.seed}, round {round_}", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
