"""A long random history of one workspace, and beside it a plain model of what must be there after each call."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from artifactdb import Workspace
from artifactdb.catalog import bulk
from artifactdb.catalog.files import catalog_folder
from tests.campaigns.power.recording import Recording
from tests.operators import Memorizing

DATASET = "wheat"
OWN = "0000_own$"
"""What only the user's own key lets load; saved first, and never deleted."""

_COUNTED = (
    "blobs", "chunks", "records", "record_sources", "parameter_values", "history", "run_entries", "run_records",
    "trained_pipelines", "pipeline_metrics",
)  # fmt: skip
_PIPELINES = ("0001_pls", "0002_ridge", "0003_forest")
_SCALER = "s1.StandardScaler"
_OLDER = sorted((Path(__file__).parents[2] / "golden").glob("schema_*.sqlite"))

Artifacts = dict[str, tuple[str, tuple[str, ...]]]
Predictions = dict[str, tuple[str, bytes]]


@dataclass
class Contents:
    """What a workspace holds.

    Attributes
    ----------
    artifacts : dict
        Content hash and dependencies by artifact id.
    predictions : dict
        Score as text, where NaN is NaN, and bytes of the arrays, by id.
    rows : tuple
        How many rows tables have that are not seen above, where half a mutation would show; empty for copies.
    """

    artifacts: Artifacts = field(default_factory=dict)
    predictions: Predictions = field(default_factory=dict)
    rows: tuple[int, ...] = ()


@dataclass
class State:
    """What must be there: the workspace, and copies of it by path, which are whole or not there."""

    workspace: Contents | None = None
    copies: dict[str, Contents] = field(default_factory=dict)


def artifacts_of(workspace: Workspace) -> Artifacts:
    return {
        record.artifact_id: (record.content_hash, tuple(sorted(record.depends_on))) for record in workspace.records()
    }


def predictions_of(workspace: Workspace) -> Predictions:
    scores = {row["id"]: str(row["val_score"]) for row in workspace.catalog.filter().to_dicts()}
    arrays = workspace.catalog.arrays(sorted(scores))
    return {
        name: (score, arrays[name]["y_true"].tobytes() + arrays[name]["y_pred"].tobytes())
        for name, score in scores.items()
    }


def rows_of(workspace: Workspace) -> tuple[int, ...]:
    counted = ", ".join(f"(SELECT count(*) FROM {table})" for table in _COUNTED)
    row = workspace.database.row(f"SELECT {counted}")
    assert row is not None
    return row


def prediction(number: int) -> dict[str, Any]:
    size = 5 if number % 10 else 600
    return {
        "dataset_name": DATASET,
        "pipeline_uid": _PIPELINES[number % 3],
        "model_name": "PLS",
        "op_counter": number,
        "fold_id": number % 5,
        "partition": "val",
        "metric": "rmse",
        "val_score": number / 7,
        "y_true": np.arange(float(size)) + number % 3,
        "y_pred": np.sin(np.arange(float(size)) + number),
    }


@cache
def fitted() -> list[Any]:
    """Small objects, one whose arrays are blobs of their own, and one of several chunks that packs well."""
    x, y = load_diabetes(return_X_y=True)
    wide = np.tile(np.arange(16.0), (36_000, 1))
    wide[:, 0] = np.arange(36_000) // 300
    return [
        *(Ridge(alpha=0.1 * number).fit(x, y) for number in range(1, 9)),
        *(PLSRegression(number).fit(x, y) for number in range(1, 5)),
        *(RandomForestRegressor(2, max_depth=4, random_state=number).fit(x, y) for number in range(3)),
        *(KNeighborsRegressor(number, algorithm="brute").fit(x, y) for number in (2, 3)),
        KNeighborsRegressor(4, algorithm="brute").fit(wide, wide[:, 0]),
    ]


@cache
def _contents_of_older(older: Path) -> Contents:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / older.name
        shutil.copyfile(older, copy)
        if catalog_folder(older).exists():
            shutil.copytree(catalog_folder(older), catalog_folder(copy))
        with Workspace(copy) as workspace:
            return Contents(artifacts_of(workspace), predictions_of(workspace))


@cache
def _scalers() -> list[Any]:
    x, _ = load_diabetes(return_X_y=True)
    return [StandardScaler().fit(x[:rows]) for rows in (100, 200, 300)]


def make_donor(path: Path) -> Contents:
    """Make a workspace that others take in."""
    with Workspace(path) as workspace:
        registry = workspace.registry(DATASET, "0009_donor")
        for fold in range(3):
            registry.register_with_chain(fitted()[fold], "s1.Ridge", "model", 1, fold_id=fold)
        workspace.catalog.add_many(prediction(number) for number in range(1000, 1006))
        workspace.catalog.flush()
        return Contents(artifacts_of(workspace), predictions_of(workspace))


class History:
    """Does acts one by one, and keeps the model.

    Parameters
    ----------
    recording : Recording
        Of what the power is cut of; told, after each call that returned, what must be there.
    donor : (Path, Contents)
        A workspace that lies elsewhere.
    """

    def __init__(self, recording: Recording, donor: tuple[Path, Contents], chance: random.Random) -> None:
        self.recording, self.root, self.donor, self.chance = recording, recording.root, donor, chance
        self.place = chance.choice(("study", "new/folder/wheat.sqlite", "wheat.sqlite"))
        self.largest = len(fitted()) - chance.choice((0, 1, 1))
        self.state = State(None)
        self.now = Contents()

    @property
    def file(self) -> str:
        """The SQLite file, below the root."""
        return self.place if self.place.endswith(".sqlite") else f"{self.place}/workspace.sqlite"

    def run(self, acts: int | Sequence[str]) -> None:
        """Do so many acts as chance has them, or these; before them what every history begins with."""
        if self.chance.random() < 0.3:
            self.begin_older()
        self.recording.acknowledge(self.state, "begin")
        self.open()
        self.save_own()
        self._acknowledged("save_own")
        if isinstance(acts, int):
            acts = self.chance.choices(list(_ACTS), weights=list(_ACTS.values()), k=acts)
        for act in acts:
            getattr(self, act)()
            self._acknowledged(act)
        self.workspace.close()
        self._acknowledged("close")

    def _acknowledged(self, act: str) -> None:
        if not self.workspace.database.closed:
            self.now.rows = rows_of(self.workspace)
        self.state.workspace = deepcopy(self.now)
        self.recording.acknowledge(deepcopy(self.state), act)

    # -- acts -------------------------------------------------------------------------------------------

    def open(self) -> None:
        self.workspace = Workspace(self.root / self.place)
        # Often, so that few acts see much of what a checkpoint does.
        self.workspace.database.connection().wal_autocheckpoint(self.chance.choice((1000, 100, 20)))
        self._acknowledged("open")

    def begin_older(self) -> None:
        """Let a file of an earlier version be there, which is brought up to date when it is opened."""
        older, folder = self.chance.choice(_OLDER), catalog_folder(self.root / self.file)
        self.recording.put(self.root / self.file, older.read_bytes())
        for parquet in catalog_folder(older).glob("*"):
            self.recording.put(folder / parquet.name, parquet.read_bytes())
        self.now = deepcopy(_contents_of_older(older))

    def reopen(self) -> None:
        self.workspace.close()
        self._acknowledged("close")
        self.open()

    def save_own(self) -> None:
        self._save(Memorizing().fit([[0.0], [1.0]], [2.0, 3.0]), OWN.removesuffix("$"), "s1.Memorizing", None, [])

    def save(self) -> None:
        """Save or replace a scaler, or a model that depends on one."""
        pipeline = self.chance.choice(_PIPELINES)
        scaler = self.workspace.registry(DATASET, pipeline).generate_id(_SCALER)
        if self.chance.random() < 0.3:
            self._save(self.chance.choice(_scalers()), pipeline, _SCALER, None, [])
            return
        needed = [scaler] if scaler in self.now.artifacts else []
        model = fitted()[self.chance.randrange(self.largest)]
        self._save(model, pipeline, f"{_SCALER}>s2.Model", self.chance.randrange(3), needed)

    def _save(self, fitted_object: Any, pipeline: str, chain: str, fold: int | None, needed: list[str]) -> None:
        kind, step = ("transformer", 1) if chain == _SCALER else ("model", 2)
        record = self.workspace.registry(DATASET, pipeline).register_with_chain(
            fitted_object, chain, kind, step, fold_id=fold, depends_on=needed
        )
        before = self.now.artifacts.get(record.artifact_id)
        # The same content changes nothing, dependencies included.
        if before is None or before[0] != record.content_hash:
            self.now.artifacts[record.artifact_id] = (record.content_hash, tuple(needed))

    def delete(self) -> None:
        pipeline = self.chance.choice((*_PIPELINES, "0009_donor"))
        registry = self.workspace.registry(DATASET, pipeline)
        registry.delete_pipeline_artifacts(pipeline, delete_files=self.chance.random() < 0.5)
        for artifact_id in [name for name in self.now.artifacts if name.startswith(f"{pipeline}$")]:
            del self.now.artifacts[artifact_id]

    def add(self) -> None:
        self._added(self.workspace.catalog.add_many)

    def add_bulk(self) -> None:
        """Write straight to Parquet, as it is done with very many."""
        self._added(lambda rows: bulk.add_many(self.workspace.catalog._store, rows))

    def _added(self, add_many: Callable[[list[dict[str, Any]]], list[str]]) -> None:
        numbers = self.chance.sample(range(60), self.chance.randint(1, 8))
        rows = [prediction(number) for number in numbers]
        for name, row in zip(add_many(rows), rows, strict=True):
            self.now.predictions[name] = (str(row["val_score"]), row["y_true"].tobytes() + row["y_pred"].tobytes())

    def delete_predictions(self) -> None:
        known = sorted(self.now.predictions)
        gone = self.chance.sample(known, min(len(known), self.chance.randint(1, 6)))
        assert self.workspace.catalog.delete(gone) == len(gone)
        for name in gone:
            del self.now.predictions[name]

    def train(self) -> None:
        """Keep a run with a pipeline: each step of it is acknowledged by itself."""
        with self.workspace.run(DATASET, name="first") as run:
            self._acknowledged("begin a run")
            with run.pipeline([{"model": "Ridge"}], name="ridge") as pipeline:
                self._acknowledged("begin a pipeline")
                record = pipeline.registry.register_with_chain(
                    self.chance.choice(fitted()[:8]), "s1.Ridge", "model", 1, fold_id=0
                )
                self.now.artifacts[record.artifact_id] = (record.content_hash, ())
                self._acknowledged("save in a pipeline")
                pipeline.log_metrics({"val": {"rmse": 0.5, "r2": 0.25}})
                self._acknowledged("log_metrics")
            self._acknowledged("end a pipeline")

    def transaction(self) -> None:
        """Do several acts as one; now and then some of them, or all, are taken back."""
        before = deepcopy(self.now)
        try:
            with self.workspace.transaction():
                self._several()
                try:
                    with self.workspace.transaction():
                        inner = deepcopy(self.now)
                        self._several()
                        if self.chance.random() < 0.2:
                            raise _TakenBackError
                except _TakenBackError:
                    self.now = inner
                if self.chance.random() < 0.1:
                    raise _TakenBackError
        except _TakenBackError:
            self.now = before

    def _several(self) -> None:
        for _ in range(self.chance.randint(1, 3)):
            self.chance.choice((self.save, self.save, self.delete, self.add, self.delete_predictions))()

    def flush(self) -> None:
        self.workspace.catalog.flush()

    def compact(self) -> None:
        self.workspace.catalog.compact()

    def gc(self) -> None:
        self.workspace.gc(release_space=self.chance.random() < 0.7)

    def optimize(self) -> None:
        self.workspace.optimize()

    def merge(self) -> None:
        path, contents = self.donor
        self.workspace.merge(path, on_conflict="theirs")
        self.now.artifacts |= contents.artifacts
        self.now.predictions |= contents.predictions

    def pack(self) -> None:
        self._pack(lambda *_: None)

    def pack_in_vain(self) -> None:
        """Fail to replace the packed file, which stays as it was."""

        def fail(*_: int) -> None:
            raise _TakenBackError

        with suppress(_TakenBackError):
            self._pack(fail)

    def pack_over_used(self) -> None:
        """Replace the packed file, which is written to meanwhile."""
        uses = iter([self.use_packed])

        def use(*_: int) -> None:
            for once in uses:
                once()
                self._acknowledged("use_packed")

        self._pack(use)

    def _pack(self, progress: Callable[[int, int], None]) -> None:
        self.workspace.pack(self.root / "packed.sqlite", overwrite=True, progress=progress)
        self.state.copies["packed.sqlite"] = self._copied()

    def backup(self) -> None:
        name = f"backup-{len(self.state.copies)}.sqlite"
        if name not in self.state.copies:
            self.workspace.backup(self.root / name)
            self.state.copies[name] = self._copied()

    def _copied(self) -> Contents:
        return Contents(dict(self.now.artifacts), dict(self.now.predictions))

    def use_packed(self) -> None:
        """Write to the packed file for once, or to another one that lies where it will, so that it has a log."""
        if "packed.sqlite" not in self.state.copies:
            Workspace(self.root / "packed.sqlite").close()
            self.state.copies["packed.sqlite"] = Contents()
            self._acknowledged("open packed")
        with Workspace(self.root / "packed.sqlite") as packed:
            record = packed.registry(DATASET, "0008_packed").register_with_chain(
                self.chance.choice(fitted()[:8]), "s1.Ridge", "model", 1
            )
            self.state.copies["packed.sqlite"].artifacts[record.artifact_id] = (record.content_hash, ())
            if self.chance.random() < 0.3:
                self._acknowledged("use_packed")
                packed.catalog.compact()  # which takes files out of it


class _TakenBackError(Exception):
    """Ends a transaction as if it had gone wrong."""


_ACTS = {
    "save": 8, "delete": 2, "add": 4, "add_bulk": 1, "train": 1, "delete_predictions": 3, "transaction": 5, "flush": 3,
    "compact": 2, "gc": 2, "optimize": 0.5, "reopen": 3, "merge": 0.5, "pack": 1, "pack_in_vain": 0.3,
    "pack_over_used": 0.3, "backup": 0.3, "use_packed": 1,
}  # fmt: skip
"""What happens, and how often."""
