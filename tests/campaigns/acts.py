"""What processes that are killed do to one file: each act says before what it changes, so that a model can follow.

A change maps names to numbers: ``a/3`` is a pair of artifacts, the second of which depends on the first, ``p/7`` a
prediction; None is deleted. All of a change is there or nothing of it. The number says what the content is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge

from artifactdb import Workspace
from artifactdb.catalog import bulk

Change = dict[str, int | None]
State = dict[str, int]

NUMBERS = 30
"""So few contents that processes share them: what one deletes and collects, another is just saving."""
_PAIRS, _PREDICTIONS, _IN_BULK = 4, 24, 12
_SAMPLES = np.arange(12.0).reshape(6, 2) ** 2


def content(number: int) -> dict[str, Any]:
    """Give the object of a number: a fitted model, and for some a large array, which is a blob of its own."""
    model = Ridge(alpha=1.0 + number).fit(_SAMPLES, np.arange(6.0) * number)
    return {"number": number, "model": model, "rows": np.full(9000 if number % 3 else 90, float(number))}


def require_content(found: Any, number: int) -> None:
    """Raise unless an object is the one of a number."""
    expected = content(number)
    assert found["number"] == number, f"content {found['number']} where {number} was saved"
    assert np.array_equal(found["model"].coef_, expected["model"].coef_)
    assert np.array_equal(found["rows"], expected["rows"])


def prediction(number: int) -> dict[str, Any]:
    """Give the prediction of a number; every one has an array that others have too."""
    return {
        "dataset_name": f"site_{number % 3}",
        "pipeline_uid": f"{number // 5:04}_pls",
        "model_name": "PLS",
        "fold_id": number % 5,
        "partition": "val",
        "metric": "rmse",
        "val_score": number / 7,
        "y_true": np.arange(5.0) + number % 3,
        "y_pred": np.sin(np.arange(5.0) + number),
    }


def pair_ids(slot: str, name: str) -> tuple[str, str]:
    """Give the ids of a pair's two artifacts."""
    pipeline = pipeline_of(slot, name)
    return f"{pipeline}$aaaaaaaaaaaa:all", f"{pipeline}$bbbbbbbbbbbb:all"


def pipeline_of(slot: str, name: str) -> str:
    """Give the pipeline that a pair is."""
    return f"{slot}_{name.removeprefix('a/')}"


def prediction_id(slot: str, name: str) -> str:
    """Give the id of a prediction."""
    return f"{slot}_{name.removeprefix('p/')}"


class Worker:
    """One process's hand on the file.

    Parameters
    ----------
    file : Path
    slot : str
        What the ids of this process begin with; nobody else changes them.
    state : dict
        What is there under them.
    """

    def __init__(self, file: Path, slot: str, state: State, chance: random.Random) -> None:
        self.file, self.slot, self.state, self.chance = file, slot, state, chance
        self.workspace = Workspace(file, timeout_s=120)
        self.backups = 0

    def plan(self, act: str) -> tuple[Change, Callable[[], Any]]:
        """Give what an act will change, and the function that does it."""
        change: Change = getattr(self, f"_plan_{act}", dict)()
        return change, lambda: getattr(self, act)(change)

    # -- what changes ---------------------------------------------------------------------------------

    def _plan_save(self) -> Change:
        return {f"a/{self.chance.randrange(_PAIRS)}": self.chance.randrange(NUMBERS)}

    def save(self, change: Change) -> None:
        with self.workspace.transaction():
            self._save_pairs(change)

    def _plan_group(self) -> Change:
        return self._plan_save() | self._plan_add(2)

    def group(self, change: Change) -> None:
        """Save artifacts and predictions in one transaction."""
        with self.workspace.transaction():
            self.workspace.catalog.add_many(self._predictions(change))
            self._save_pairs(change)

    def _plan_add(self, count: int = 3, kind: str = "p/", of: int = _PREDICTIONS) -> Change:
        free = [name for n in range(of) if (name := f"{kind}{n}") not in self.state]
        return {name: self.chance.randrange(NUMBERS) for name in self.chance.sample(free, min(count, len(free)))}

    def add(self, change: Change) -> None:
        self.workspace.catalog.add_many(self._predictions(change))

    def _plan_add_in_bulk(self) -> Change:
        return self._plan_add(_IN_BULK, "p/b", _IN_BULK)

    def add_in_bulk(self, change: Change) -> None:
        """Add predictions as if they were very many, some of which are there already."""
        again: Change = {name: n for name, n in list(self.state.items())[:5] if name.startswith("p/")}
        bulk.add_many(self.workspace.catalog._store, self._predictions(again | change))

    def _plan_delete(self) -> Change:
        there = [name for name in self.state if name.startswith("p/")]
        return dict.fromkeys(self.chance.sample(there, len(there) // 2))

    def delete(self, change: Change) -> None:
        self.workspace.catalog.delete([prediction_id(self.slot, name) for name in change])

    def _plan_delete_pair(self) -> Change:
        there = [name for name in self.state if name.startswith("a/")]
        return dict.fromkeys(self.chance.sample(there, min(1, len(there))))

    def delete_pair(self, change: Change) -> None:
        for name in change:
            registry = self.workspace.registry("wheat")
            deleted = registry.delete_pipeline_artifacts(pipeline_of(self.slot, name), self.chance.random() < 0.5)
            assert deleted == 2, f"{deleted} artifacts of a pair were there"

    # -- what changes nothing that can be asked -------------------------------------------------------

    def flush(self, _: Change) -> None:
        self.workspace.catalog.flush()

    def compact(self, _: Change) -> None:
        self.workspace.catalog.compact()

    def gc(self, _: Change) -> None:
        self.workspace.gc()

    def optimize(self, _: Change) -> None:
        assert not self.workspace.optimize().damaged

    def backup(self, _: Change) -> None:
        self.backups += 1
        self.workspace.backup(self.file.parent / "backups" / f"{self.slot}-{self.backups}.sqlite")

    def look(self, _: Change) -> None:
        """Find everything acknowledged, and nothing wrong, while others go on."""
        require_state(self.workspace, self.slot, self.state)
        found = self.workspace.verify()
        assert found.ok, found.problems

    def reopen(self, _: Change) -> None:
        self.workspace.close()
        self.workspace = Workspace(self.file, timeout_s=120)

    # -- rows and objects -----------------------------------------------------------------------------

    def _save_pairs(self, change: Change) -> None:
        for name, number in change.items():
            if number is None or not name.startswith("a/"):
                continue
            registry = self.workspace.registry("wheat", pipeline_of(self.slot, name))
            first, second = pair_ids(self.slot, name)
            registry.register(content(number), first, "model")
            registry.register({"number": number}, second, "model", depends_on=[first])

    def _predictions(self, change: Change) -> list[dict[str, Any]]:
        return [
            {"id": prediction_id(self.slot, name), "config_name": self.slot, **prediction(number)}
            for name, number in change.items()
            if name.startswith("p/") and number is not None
        ]


ACTS = {
    "save": 8, "group": 5, "add": 6, "add_in_bulk": 2, "delete": 4, "delete_pair": 3, "flush": 3, "compact": 2,
    "gc": 2, "optimize": 2, "backup": 2, "look": 1, "reopen": 2,
}  # fmt: skip
"""Every act, and how often it is done."""


def read_state(workspace: Workspace, slot: str) -> State:
    """Read back what is there under a slot's ids; raise for half a pair, or content that is not what it should be."""
    state: State = {}
    like = f"{slot}\\_%"
    ids = workspace.query(
        "SELECT artifact_id, pipeline_id FROM artifacts WHERE pipeline_id LIKE ? ESCAPE '\\'", (like,)
    ).rows
    present = {artifact_id for artifact_id, _ in ids}
    for _, pipeline in ids:
        name = f"a/{pipeline.partition('_')[2]}"
        first, second = pair_ids(slot, name)
        assert {first, second} <= present, f"half of the pair {name} of {slot} is there"
        number = workspace.load(second)["number"]
        require_content(workspace.load(first), number)
        state[name] = number
    rows = workspace.catalog.filter(config_name=slot).to_dicts()
    arrays = workspace.catalog.arrays([row["id"] for row in rows]) if rows else {}
    for row in rows:
        name, number = f"p/{row['id'].partition('_')[2]}", round(row["val_score"] * 7)
        assert name not in state, f"{name} of {slot} is there twice"
        for array in ("y_true", "y_pred"):
            assert np.array_equal(arrays[row["id"]][array], prediction(number)[array]), (name, array)
        state[name] = number
    return state


def require_state(workspace: Workspace, slot: str, *possible: State) -> State:
    """Give what is there under a slot's ids; raise unless it is one of the states that are possible."""
    found = read_state(workspace, slot)
    if found not in possible:
        differences = [sorted(found.items() ^ state.items()) for state in possible]
        raise AssertionError(f"{slot}: what is there differs from each possible state by {differences}")
    return found
