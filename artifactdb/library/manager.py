"""The library as people use it: save under a name, find, load, cut out into a file of its own."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifactdb.artifacts import load
from artifactdb.blobs import store as blobs
from artifactdb.database import Database
from artifactdb.database.connection import database_of
from artifactdb.errors import InvalidValueError, RunNotFoundError
from artifactdb.library import entries
from artifactdb.library.entries import KINDS, Entry
from artifactdb.paths import local_path
from artifactdb.records import ArtifactRecord
from artifactdb.runs import store as runs
from artifactdb.runs.manifests import json_text
from artifactdb.runs.naming import plain_configuration

Metrics = Mapping[str, Mapping[str, float]]


class LibraryManager:
    """Saves configurations and trained pipelines under a name and gives them back.

    A trained entry keeps what it was saved with: training the pipeline again, or deleting it, does not change the
    entry.

    Parameters
    ----------
    library_dir : str, Path or Workspace
        ``workspace / "library"``, as where the library is a folder of a workspace's directory; or an open workspace.

    Examples
    --------
    >>> from artifactdb import Workspace
    >>> with Workspace(getfixture("tmp_path") / "wheat.sqlite") as workspace:
    ...     saved = workspace.library.save_template(["MinMaxScaler", {"model": "PLS"}], "baseline", tags=["nir"])
    ...     workspace.library.load_template("baseline")
    ['MinMaxScaler', {'model': 'PLS'}]
    """

    def __init__(self, library_dir: Any) -> None:
        if isinstance(library_dir, str | Path) and Path(library_dir).name == "library":
            library_dir = Path(library_dir).parent
        self.database: Database = database_of(library_dir)
        self._own = self.database is not getattr(library_dir, "database", None)

    def __repr__(self) -> str:
        return f"LibraryManager({str(self.database.path)!r})"

    def close(self) -> None:
        """Close the file, if this library opened it by path; otherwise the workspace closes it."""
        if self._own:
            self.database.close()

    # -- save ---------------------------------------------------------------------------------------

    def save_template(
        self,
        pipeline_config: Any,
        name: str,
        description: str = "",
        *,
        category: str = "",
        tags: Sequence[str] = (),
        metrics: Metrics | None = None,
    ) -> dict[str, Any]:
        """Save a configuration; one of the same name is replaced.

        Parameters
        ----------
        pipeline_config : dict or list
            What JSON can hold, and operators, which become their class and parameters.
        metrics : dict, optional
            Numbers to find it by, by partition and name: ``{"val": {"rmse": 0.42}}``.

        Raises
        ------
        InvalidValueError
            For a configuration that JSON cannot hold, an empty name, or metrics that are no numbers.
        """
        config = json.dumps(plain_configuration(pipeline_config), ensure_ascii=False)  # in the order that it came in
        entry = Entry("template", name, description, category, tags, config, _joined({}, metrics))
        return entries.save(self.database, entry)

    def save_filtered(
        self,
        pipeline_dir: Any,
        name: str,
        description: str = "",
        *,
        dataset: str | None = None,
        category: str = "",
        tags: Sequence[str] = (),
        metrics: Metrics | None = None,
    ) -> dict[str, Any]:
        """Save the configuration and metrics of a trained pipeline.

        Parameters
        ----------
        pipeline_dir : str or Path
            The pipeline's id, or ``runs/<dataset>/<pipeline id>``.
        metrics : dict, optional
            Numbers of yours, by partition and name; one takes the place of the pipeline's own of that name.

        Raises
        ------
        RunNotFoundError
            A KeyError.
        """
        return self._save_pipeline("filtered", pipeline_dir, name, description, dataset, category, tags, metrics)

    def save_pipeline_full(
        self,
        run_dir: Any,
        pipeline_dir: Any,
        name: str,
        description: str = "",
        *,
        category: str = "",
        tags: Sequence[str] = (),
        metrics: Metrics | None = None,
    ) -> dict[str, Any]:
        """Save a trained pipeline with every artifact, and every artifact of others that these depend on.

        Parameters
        ----------
        run_dir : str or Path
            The dataset, or ``runs/<dataset>``; None where the pipeline's id is there once.
        pipeline_dir : str or Path
            The pipeline's id, or ``runs/<dataset>/<pipeline id>``.
        metrics : dict, optional
            As of ``save_filtered``.
        """
        dataset = None if run_dir is None else entries.dataset_of(run_dir)
        return self._save_pipeline("pipeline", pipeline_dir, name, description, dataset, category, tags, metrics)

    def save_fullrun(
        self,
        run_dir: Any,
        name: str,
        description: str = "",
        *,
        data: Mapping[str, Any] | None = None,
        category: str = "",
        tags: Sequence[str] = (),
        metrics: Metrics | None = None,
    ) -> dict[str, Any]:
        """Save everything of a run: pipelines, artifacts, metrics, predictions with their arrays, and data.

        Parameters
        ----------
        run_dir : str or Path
            A run's id, for its pipelines; or a dataset, or ``runs/<dataset>``, for all of it.
        data : dict, optional
            Arrays to keep along, e.g. ``{"X": X, "y": y}``.
        metrics : dict, optional
            As of ``save_filtered``.
        """
        gathering, store = _gathering(self.database)
        with self.database.transaction():
            chosen = runs.pipelines(self.database, run_id=str(run_dir))
            predictions = gathering.condition_of(chosen)
            if not chosen:
                dataset = entries.dataset_of(run_dir)
                chosen = runs.pipelines(self.database, dataset)
                predictions = gathering.condition_of_dataset(dataset)
            if not chosen:
                raise RunNotFoundError(f"{str(run_dir)!r} is no run or dataset with pipelines.")
            kept = gathering.artifacts(self.database, chosen)
            entry = Entry(
                "fullrun", name, description, category, tags,
                metrics=_joined(gathering.metrics(store, chosen), metrics),
                source=chosen[0].dataset,
                n_features=gathering.n_features(store, chosen),
                content=gathering.content(self.database, chosen, [record for record, _ in kept]),
                artifacts=kept,
                files=gathering.files(self.database, store, predictions, data),
            )  # fmt: skip
            return entries.save(self.database, entry)

    def _save_pipeline(
        self, kind: str, pipeline_dir: Any, name: str, description: str, dataset: str | None, category: str,
        tags: Sequence[str], metrics: Metrics | None,
    ) -> dict[str, Any]:  # fmt: skip
        gathering, store = _gathering(self.database)
        with self.database.transaction():
            pipeline = gathering.named_pipeline(self.database, pipeline_dir, dataset)
            kept = gathering.artifacts(self.database, [pipeline]) if kind == "pipeline" else []
            entry = Entry(
                kind, name, description, category, tags,
                config=json_text(pipeline.configuration),
                metrics=_joined(gathering.metrics(store, [pipeline]), metrics),
                source=f"{pipeline.dataset}/{pipeline.pipeline_id}",
                n_features=gathering.n_features(store, [pipeline]),
                content=gathering.content(self.database, [pipeline], [record for record, _ in kept]),
                artifacts=kept,
            )  # fmt: skip
            return entries.save(self.database, entry)

    # -- find ---------------------------------------------------------------------------------------

    def list_templates(self, *, category: str | None = None, tag: str | None = None) -> list[dict[str, Any]]:
        """Give the templates by name, each as a dict with its ``config``; all, or those of a category or with a tag."""
        return entries.found(self.database, kind="template", category=category, tag=tag)

    def list_filtered(self) -> list[dict[str, Any]]:
        """Give the entries that keep configuration and metrics."""
        return entries.found(self.database, kind="filtered")

    def list_pipelines(self) -> list[dict[str, Any]]:
        """Give the entries that keep a trained pipeline."""
        return entries.found(self.database, kind="pipeline")

    def list_fullruns(self) -> list[dict[str, Any]]:
        """Give the entries that keep a whole run."""
        return entries.found(self.database, kind="fullrun")

    def search(
        self,
        text: str | None = None,
        *,
        kind: str | None = None,
        category: str | None = None,
        tag: str | None = None,
        metric: str | None = None,
        partition: str = "val",
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> list[dict[str, Any]]:
        """Give the entries that meet every condition, by name, or by value where a metric is asked for.

        Parameters
        ----------
        text : str, optional
            A part of name or description, whatever the case.
        kind : {"template", "filtered", "pipeline", "fullrun"}, optional
        metric : str, optional
            Entries that have it in that partition, lowest value first.
        at_most, at_least : float, optional
            Bounds on its value.
        """
        if kind is not None and kind not in KINDS:
            raise InvalidValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}.")
        if metric is None and (at_most is not None or at_least is not None):
            raise InvalidValueError("bounds need a metric.", hint="Say which, e.g. metric='rmse'.")
        chosen = entries.found(self.database, kind=kind, category=category, tag=tag, text=text)
        if metric is None:
            return chosen
        valued = [(entry["metrics"].get(partition, {}).get(metric), entry) for entry in chosen]
        numbers = [(value, entry) for value, entry in valued if value is not None and not math.isnan(value)]
        within = [
            (value, entry) for value, entry in numbers
            if (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
        ]  # fmt: skip
        return [entry for _, entry in sorted(within, key=lambda pair: pair[0])]

    def get(self, name: str, kind: str | None = None) -> dict[str, Any]:
        """Give one entry; of several kinds under one name the one that keeps most.

        Raises
        ------
        LibraryEntryNotFoundError
            A FileNotFoundError.
        """
        chosen = entries.found(self.database, kind=kind, name=_text(name))
        if not chosen:
            raise entries.not_found(self.database, name, kind)
        return max(chosen, key=lambda entry: KINDS.index(entry["type"]))

    def load_template(self, name: str) -> Any:
        """Give a configuration back.

        Raises
        ------
        LibraryEntryNotFoundError
            A FileNotFoundError.
        """
        return self.get(name, "template")["config"]

    def records(self, name: str, kind: str | None = None) -> list[ArtifactRecord]:
        """Give the records of a trained entry as they were when it was saved, sources before what needs them."""
        return list(entries.artifacts_of(self.database, self._key(name, kind)))

    def load(self, name: str, kind: str | None = None) -> dict[str, Any]:
        """Give the fitted objects of a trained entry by artifact id, sources before what needs them."""
        records = entries.artifacts_of(self.database, self._key(name, kind))
        objects = load.load_entry(self.database, records)
        return {record.artifact_id: obj for record, (obj, _) in zip(records, objects, strict=True)}

    def load_data(self, name: str) -> dict[str, Any]:
        """Give the arrays that a fullrun was saved with, by name."""
        import numpy as np

        kept = entries.files_of(self.database, self._key(name, "fullrun"))
        arrays = {file.removesuffix(".npy"): key for file, key in kept.items() if file.endswith(".npy")}
        with self.database.reading():
            contents = blobs.get_many(self.database, list(arrays.values()))
        return {
            file: np.load(io.BytesIO(content.data), allow_pickle=False)
            for file, content in zip(arrays, contents, strict=True)
        }

    def _key(self, name: str, kind: str | None) -> int:
        return entries.key_of(self.database, self.get(name, kind)["type"], name)

    # -- out ----------------------------------------------------------------------------------------

    def delete(self, name: str, kind: str | None = None) -> None:
        """Remove an entry; ``Workspace.gc`` deletes content that nobody else has.

        Raises
        ------
        LibraryEntryNotFoundError
            A FileNotFoundError.
        InvalidValueError
            When there are several of that name and the kind is not said.
        """
        chosen = [entry["type"] for entry in entries.found(self.database, kind=kind, name=_text(name))]
        if len(chosen) > 1:
            raise InvalidValueError(
                f"{name!r} is a {' and a '.join(chosen)}.", hint="Say which one with kind= (--kind)."
            )
        entries.delete(self.database, chosen[0] if chosen else kind or "template", name)

    def delete_template(self, name: str) -> None:
        """Remove a template.

        Raises
        ------
        LibraryEntryNotFoundError
        """
        self.delete(name, "template")

    def export(
        self,
        name: str,
        path: str | os.PathLike[str],
        kind: str | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Cut an entry out into a new workspace file, which needs nothing of this one to predict.

        Parameters
        ----------
        path : str or Path
            A new file, e.g. ``wheat_quality_v1.sqlite``.

        Raises
        ------
        InvalidValueError
            When the file is there.
        """
        from artifactdb.library.cutting import cut_out

        entry = self.get(name, kind)
        return cut_out(self.database, entry, local_path(path), progress)


def _text(name: object) -> str:
    if not isinstance(name, str):  # for None, all entries would be looked through
        raise InvalidValueError(f"the name of an entry is a text, not {name!r}.")
    return name


def _gathering(database: Database) -> tuple[Any, Any]:
    # Predictions bring DuckDB and Arrow along, which most who open a library do without.
    from artifactdb.catalog.store import Store
    from artifactdb.library import gathering

    return gathering, Store(database)


def _joined(measured: Metrics, given: Metrics | None) -> str | None:
    """Give metrics as JSON: those of a pipeline, and what the user says of it in their place."""
    numbers = runs.numbers_by_partition(given or {})
    partitions = dict.fromkeys([*measured, *numbers])
    joined = {name: {**measured.get(name, {}), **numbers.get(name, {})} for name in partitions}
    return json_text(joined, canonical=True)
