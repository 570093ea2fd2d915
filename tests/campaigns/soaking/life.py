"""What one process does to a workspace, again and again at random, and a plain model of what it must find there.

Each process has pipelines and predictions of its own, and what it adds beyond a bound it deletes again, so that as much
is there at the end as after a minute. Contents are shared: both processes save the same objects, and forget them.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
import traceback
from collections.abc import Callable
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import apsw
import numpy as np
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from artifactdb import Workspace
from artifactdb.catalog.files import catalog_folder

DATASET = "wheat"
TIMEOUT_S = 300.0
"""For another writer; the machine may be busy with other things."""

_ARTIFACTS = 300
_BYTES = 30_000_000
_FOLDS = 5
_PREDICTIONS = 3000
_REPEATED = 6
_BATCH = 60
_SCALER, _MODEL = "s1.StandardScaler", "s1.StandardScaler>s2.Model"

X, Y = load_diabetes(return_X_y=True)

Artifacts = dict[str, tuple[str, bytes, int]]
"""Content hash, what the object makes of a few samples, and bytes, by artifact id."""


def fitted(kind: str, number: int) -> Any:
    """Fit an object; the same number gives the same content."""
    chance = np.random.default_rng(number)
    chosen = chance.permutation(len(X))[:300]
    x, y = X[chosen], Y[chosen]
    if kind == "scaler":
        return StandardScaler().fit(x)
    if kind == "forest":  # some hundred kilobytes
        return RandomForestRegressor(10, max_depth=8, random_state=number % 1000).fit(x, y)
    if kind == "neighbours":  # several chunks
        samples = np.hstack([np.tile(X, (20, 1)), chance.normal(size=(20 * len(X), 60))])
        return KNeighborsRegressor(3, algorithm="brute").fit(samples, np.tile(Y, 20))
    return Ridge(alpha=0.1 + number % 7).fit(x, y) if number % 2 else PLSRegression(1 + number % 4).fit(x, y)


def answer(obj: Any) -> bytes:
    """Give what an object makes of a few samples, as exact as another order of summing lets it be."""
    x = X[:5]
    if isinstance(obj, KNeighborsRegressor):
        x = np.hstack([x, np.zeros((5, 60))])
    made = obj.transform(x) if hasattr(obj, "transform") and not hasattr(obj, "predict") else obj.predict(x)
    return np.asarray(made, np.float32).round(2).tobytes()


def prediction(pipeline: str, number: int) -> dict[str, Any]:
    """Give a row that these two say all of; the measured values come again and again."""
    return {
        "dataset_name": DATASET, "pipeline_uid": pipeline, "model_name": "Model", "op_counter": number,
        "fold_id": number % _FOLDS, "partition": "val", "metric": "rmse", "val_score": number / 8,
        "y_true": Y[number % 5 :: 5], "y_pred": Y[number % 5 :: 5] + number / 8,
    }  # fmt: skip


class Life:
    """What one process does, and what it must find."""

    def __init__(self, path: Path, name: str, seed: int) -> None:
        self.path, self.name = path, name
        self.chance = random.Random(f"{seed} {name}")
        self.numbers = count(10_000_000 * (1 + sum(map(ord, name)) % 50))
        self.pipelines: dict[str, Artifacts] = {}
        self.predictions: dict[str, dict[str, float]] = {}
        self.open()

    def open(self) -> None:
        self.workspace = Workspace(self.path, timeout_s=TIMEOUT_S)
        self.loader = self.workspace.loader(DATASET, cache_size=4)

    def number(self, *, new: bool) -> int:
        return next(self.numbers) if new else self.chance.randrange(_REPEATED)

    def new_pipeline(self) -> str:
        return f"{next(self.numbers):08}_{self.name}"

    # -- artifacts ----------------------------------------------------------------------------------

    def save(self, kind: str = "model", *, new: bool = True) -> None:
        pipeline = next(reversed(self.pipelines), "")
        if not pipeline or len(self.pipelines[pipeline]) > _FOLDS:
            pipeline = self.new_pipeline()
            self.put(pipeline, "scaler", new=new)
        self.put(pipeline, kind, new=new, fold=len(self.pipelines[pipeline]) - 1)

    def save_again(self) -> None:
        self.save(self.chance.choice(["model", "model", "forest", "neighbours"]), new=False)

    def save_larger(self) -> None:
        self.save(self.chance.choice(["forest", "forest", "neighbours"]))

    def replace(self) -> None:
        pipeline = self.one_of(self.pipelines)
        if pipeline and len(self.pipelines[pipeline]) > 1:
            fold = self.chance.randrange(len(self.pipelines[pipeline]) - 1)
            self.put(pipeline, "model", new=self.chance.random() < 0.7, fold=fold)

    def put(self, pipeline: str, kind: str, *, new: bool, fold: int | None = None) -> None:
        obj = fitted(kind, self.number(new=new))
        registry = self.workspace.registry(DATASET, pipeline)
        if fold is None:
            record = registry.register_with_chain(obj, _SCALER, "transformer", 1)
        else:
            scaler = next(iter(self.pipelines[pipeline]))
            record = registry.register_with_chain(obj, _MODEL, "model", 2, fold_id=fold, depends_on=[scaler])
        self.pipelines.setdefault(pipeline, {})[record.artifact_id] = (
            record.content_hash, answer(obj), record.size_bytes,
        )  # fmt: skip

    def load(self) -> None:
        pipeline = self.one_of(self.pipelines)
        if pipeline:
            artifact_id = self.one_of(self.pipelines[pipeline])
            found = self.loader.load_with_dependencies(artifact_id)
            for name, obj in found.items():
                assert answer(obj) == self.pipelines[pipeline][name][1], f"{name} is another object"

    def load_in_a_thread(self) -> None:
        wrong: list[BaseException] = []

        def load() -> None:
            try:
                self.load()
                self.top()
            except BaseException as error:
                wrong.append(error)

        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
        if wrong:
            raise wrong[0]

    # -- predictions --------------------------------------------------------------------------------

    def add_many(self) -> None:
        pipeline, first = self.new_pipeline(), self.chance.randrange(1000)
        numbers = range(first, first + self.chance.randint(1, 2 * _BATCH))
        ids = self.workspace.catalog.add_many([prediction(pipeline, number) for number in numbers])
        self.predictions[pipeline] = {name: number / 8 for name, number in zip(ids, numbers, strict=True)}

    def flush(self) -> None:
        self.workspace.catalog.flush()

    def compact(self) -> None:
        self.workspace.catalog.compact()

    # -- questions ----------------------------------------------------------------------------------

    def query(self) -> None:
        pipeline = self.one_of(self.pipelines)
        rows = self.workspace.query(
            "SELECT artifact_id, content_hash FROM artifacts WHERE pipeline_id = ?", [pipeline]
        ).rows
        assert dict(rows) == {name: hash_ for name, (hash_, *_) in self.pipelines.get(pipeline, {}).items()}

    def sql(self) -> None:
        pipeline = self.one_of(self.predictions)
        found = self.workspace.sql(
            "SELECT count(*), max(val_score), any_value(len(a.array_data)) FROM predictions AS p "
            "LEFT JOIN arrays AS a ON a.array_id = p.y_pred_id LEFT JOIN artifacts AS m "
            "ON m.artifact_id = p.model_artifact_id WHERE p.pipeline_uid = ?",
            [pipeline],
        )[0]
        scores = self.predictions.get(pipeline, {}).values()
        assert tuple(found[:2]) == (len(scores), max(scores, default=None))

    def top(self) -> None:
        pipeline = self.one_of(self.predictions)
        found = [row["score"] for row in self.workspace.catalog.top(5, "rmse", pipeline_uid=pipeline).to_dicts()]
        assert found == sorted(self.predictions.get(pipeline, {}).values())[:5]

    # -- wholes -------------------------------------------------------------------------------------

    def collect(self) -> None:
        self.workspace.gc()

    def optimize(self) -> None:
        self.workspace.optimize(9)

    def back_up(self) -> None:
        self.workspace.backup_to(self.path.parent / "backups", keep=3)

    def pack(self) -> None:
        packed = self.workspace.pack(self.path.parent / "packed.sqlite", overwrite=True)
        with Workspace(packed, mode="ro") as workspace:
            self.holds(workspace)
        remove(packed)

    def merge(self) -> None:
        path, pipeline, numbers = self.path.parent / "other.sqlite", self.new_pipeline(), range(5)
        with Workspace(path) as other:
            ids = other.catalog.add_many([prediction(pipeline, number) for number in numbers])
            here, self.workspace = self.workspace, other
            try:
                self.put(pipeline, "scaler", new=False)
                self.put(pipeline, "model", new=True, fold=0)
            finally:
                self.workspace = here
        self.workspace.merge(path, on_conflict="error")
        self.predictions[pipeline] = {name: number / 8 for name, number in zip(ids, numbers, strict=True)}
        remove(path)

    def reopen(self) -> None:
        self.workspace.close()
        self.open()

    # -- what keeps it as large as it is ------------------------------------------------------------

    def trim(self) -> bool:
        """Delete the oldest of what is too much; give whether there was anything."""
        artifacts = [one for pipeline in self.pipelines.values() for one in pipeline.values()]
        contents = {content_hash: size_bytes for content_hash, _, size_bytes in artifacts}
        if len(artifacts) > _ARTIFACTS or sum(contents.values()) > _BYTES:
            pipeline = next(iter(self.pipelines))
            deleted = self.workspace.registry(DATASET).delete_pipeline_artifacts(pipeline, self.chance.random() < 0.5)
            assert deleted == len(self.pipelines.pop(pipeline))
        elif sum(map(len, self.predictions.values())) > _PREDICTIONS:
            pipeline = next(iter(self.predictions))
            ids = self.predictions.pop(pipeline)
            by_id = self.chance.random() < 0.5
            catalog = self.workspace.catalog
            deleted = catalog.delete(sorted(ids)) if by_id else catalog.delete(pipeline_uid=pipeline)
            assert deleted == len(ids)
        else:
            return False
        return True

    def one_of(self, names: dict[str, Any]) -> str:
        return self.chance.choice(list(names)) if names else ""

    # -- what must hold -----------------------------------------------------------------------------

    def holds(self, workspace: Workspace) -> None:
        """Compare what is there of this process with what must be, without loading objects."""
        compare(workspace, self.pipelines, self.predictions, self.name)


def compare(
    workspace: Workspace, pipelines: dict[str, Artifacts], predictions: dict[str, dict[str, float]], name: str
) -> None:
    """See that a workspace holds just these artifacts and predictions of one process."""
    found = {
        record.artifact_id: record.content_hash
        for record in workspace.records(dataset=DATASET)
        if record.pipeline_id.endswith(f"_{name}")
    }
    assert found == {own: hash_ for artifacts in pipelines.values() for own, (hash_, *_) in artifacts.items()}
    rows = workspace.sql("SELECT id, val_score FROM predictions WHERE ends_with(pipeline_uid, ?)", [f"_{name}"])
    scores = {own: score for batch in predictions.values() for own, score in batch.items()}
    assert {row[0]: row[1] for row in rows} == scores
    arrays = workspace.catalog.arrays(sorted(scores))
    for own, score in scores.items():
        assert np.array_equal(arrays[own]["y_pred"], arrays[own]["y_true"] + score), f"arrays of {own}"


def remove(path: Path) -> None:
    path.unlink()
    shutil.rmtree(catalog_folder(path), ignore_errors=True)


def sizes(path: Path) -> dict[str, int]:
    """Give the bytes of each table and index; a connection of the same SQLite as all others, so it may."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(int(TIMEOUT_S * 1000))
        found = connection.execute(
            "SELECT coalesce(m.tbl_name, s.name), sum(s.pgsize) FROM dbstat AS s "
            "LEFT JOIN sqlite_schema AS m ON m.name = s.name WHERE s.aggregate = TRUE GROUP BY 1"
        ).fetchall()
    finally:
        connection.close()
    return {str(name): int(size_bytes) for name, size_bytes in found}


ACTS: dict[str, tuple[Callable[[Life], Any], int, int]] = {
    "save": (Life.save, 30, 30),
    "save again": (Life.save_again, 12, 12),
    "save larger": (Life.save_larger, 5, 3),
    "replace": (Life.replace, 10, 10),
    "load": (Life.load, 40, 40),
    "load in a thread": (Life.load_in_a_thread, 3, 3),
    "add_many": (Life.add_many, 20, 20),
    "query": (Life.query, 15, 15),
    "sql": (Life.sql, 8, 8),
    "top": (Life.top, 8, 8),
    "flush": (Life.flush, 5, 3),
    "compact": (Life.compact, 2, 1),
    "gc": (Life.collect, 4, 1),
    "optimize": (Life.optimize, 1, 0),
    "backup_to": (Life.back_up, 1, 0),
    "pack": (Life.pack, 1, 0),
    "merge": (Life.merge, 3, 0),
    "reopen": (Life.reopen, 2, 2),
}
"""What is done, and how often by the first and by the second process."""


def live(pipe: Connection, path: Path, name: str, seed: int, weigh_every_s: float) -> None:
    """Do one thing after the other until told to stop; tell of each, and at the end what must be there."""
    try:
        life = Life(path, name, seed)
        first = name == "first"
        weights = [share[0 if first else 1] for _, *share in ACTS.values()]
        weighed = 0.0
        while not pipe.poll():
            act = "delete"
            started = time.monotonic()
            if not life.trim():
                act = life.chance.choices(list(ACTS), weights)[0]
                ACTS[act][0](life)
            pipe.send(("did", act, started, time.monotonic() - started))
            if first and time.monotonic() - weighed > weigh_every_s:
                weighed = time.monotonic()
                pipe.send(("weighed", sizes(path)))
        life.holds(life.workspace)
        life.workspace.close()
        pipe.send(("done", life.pipelines, life.predictions))
    except BaseException:
        pipe.send(("failed", f"{name}: {traceback.format_exc()}"))
