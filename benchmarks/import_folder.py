"""How long does it take to import a workspace of nirs4all, next to reading and hashing its files?

The workspace has the layout of nirs4all 0.6: pipelines of trees and of PLS on synthetic spectra with five folds each,
their manifests with execution traces, and a pair of Parquet files of predictions. Both sides take turns. The goal is
asked of files that the system has in memory; beside it stands what it costs when they are read from the disk, and what
copying them costs until the copy is on the disk, as an import is. An import ends when the workspace is closed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import header, spread, table, verdict

DATASET = "synthetic"
FOLDS = 5


def make(folder: Path, pipelines: int) -> None:
    """Write a workspace: every other pipeline has trees, the others PLS."""
    import numpy as np
    from sklearn.cross_decomposition import PLSRegression
    from sklearn.decomposition import PCA
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    waves = np.linspace(0, 1, 1000)
    peaks = np.exp(-(((waves[None] - rng.uniform(0, 1, (12, 1))) / 0.05) ** 2))
    shares = rng.uniform(size=(600, 12))
    x = shares @ peaks + rng.normal(scale=0.01, size=(600, 1000))
    y = shares[:, 0] + 0.05 * rng.normal(size=600)
    rows: list[dict[str, Any]] = []
    for number in range(1, pipelines + 1):
        digest = hashlib.sha256(str(number).encode()).hexdigest()[:6]
        pipeline_id = f"{number:04}_{'trees' if number % 2 else 'pls'}_{digest}"
        items = []
        scaler = StandardScaler().fit(x + number)
        items.append(write_item(folder, pipeline_id, "s1.StandardScaler[src=0,sub=0]", "transformer", 1, None, scaler))
        reduced = scaler.transform(x + number)
        if number % 2:
            pca = PCA(20, random_state=0).fit(reduced)
            items.append(write_item(folder, pipeline_id, "s2.PCA[src=0,sub=0]", "transformer", 2, None, pca))
            reduced = pca.transform(reduced)
        for fold in range(FOLDS):
            kept = np.arange(600) % FOLDS != fold
            trees = ExtraTreesRegressor(40, random_state=number, n_jobs=2)
            model: Any = trees if number % 2 else PLSRegression(10 + number % 9)
            model.fit(reduced[kept], y[kept])
            chain = f"s4.{type(model).__name__}[sub=0]"
            items.append(write_item(folder, pipeline_id, chain, "model", 4, fold, model))
            for partition, chosen in (("train", kept), ("val", ~kept)):
                predicted = np.asarray(model.predict(reduced[chosen]), float).reshape(-1, 1)
                arrays = {
                    "y_true": y[chosen].reshape(-1, 1), "y_pred": predicted, "sample_indices": np.flatnonzero(chosen),
                }  # fmt: skip
                rows.append(
                    {
                        "id": hashlib.sha256(f"{pipeline_id}{fold}{partition}".encode()).hexdigest()[:16],
                        "dataset_name": DATASET, "config_name": pipeline_id, "pipeline_uid": pipeline_id, "step_idx": 4,
                        "model_name": type(model).__name__, "model_artifact_id": items[-1]["artifact_id"],
                        "fold_id": str(fold), "partition": partition, "metric": "rmse",
                        "val_score": float(np.sqrt(np.mean((predicted[:, 0] - y[chosen]) ** 2))),
                        "arrays": arrays,
                    }
                )  # fmt: skip
        write_manifest(folder, pipeline_id, items)
    write_predictions(folder, rows)


def write_item(
    folder: Path, pipeline_id: str, chain: str, kind: str, step: int, fold: int | None, obj: Any
) -> dict[str, Any]:
    """Write a file and give its record, as nirs4all's registry does."""
    import io

    import joblib

    held = io.BytesIO()
    joblib.dump(obj, held)
    digest = hashlib.sha256(held.getvalue()).hexdigest()
    name = f"{kind}_{type(obj).__name__}_{digest[:12]}.joblib"
    binaries = folder / "binaries" / DATASET
    binaries.mkdir(parents=True, exist_ok=True)
    (binaries / name).write_bytes(held.getvalue())
    chain_hash = hashlib.sha256(chain.encode()).hexdigest()[:12]
    return {
        "artifact_id": f"{pipeline_id}${chain_hash}:{'all' if fold is None else fold}",
        "content_hash": f"sha256:{digest}", "path": name, "chain_path": chain, "source_index": None,
        "pipeline_id": pipeline_id, "branch_path": [], "step_index": step, "substep_index": 0, "fold_id": fold,
        "artifact_type": kind, "class_name": type(obj).__name__, "custom_name": "", "depends_on": [],
        "format": "joblib", "format_version": "sklearn==1.9.1", "nirs4all_version": "0.6.2",
        "size_bytes": len(held.getvalue()), "created_at": "2026-11-23T21:33:56.868349+00:00", "params": {},
        "version": 3,
    }  # fmt: skip


def write_manifest(folder: Path, pipeline_id: str, items: list[dict[str, Any]]) -> None:
    """Write a manifest with a trace of each step, as long as nirs4all's are."""
    import yaml

    inner = folder / "runs" / DATASET / pipeline_id
    inner.mkdir(parents=True)
    steps = [
        {
            "step_index": item["step_index"], "operator_type": item["artifact_type"],
            "operator_class": item["class_name"], "operator_config": {}, "execution_mode": "train", "branch_path": [],
            "branch_name": "", "duration_ms": 26.4,
            "artifacts": {"artifact_ids": [item["artifact_id"]], "primary_artifact_id": None, "fold_artifact_ids": {},
                          "by_chain": {item["chain_path"]: item["artifact_id"]}, "metadata": {"class_name": "x"}},
            "input_chain_path": "", "output_chain_paths": [item["chain_path"]], "source_count": 1,
            "input_shape": [600, 1000], "output_shape": [600, 1000], "input_features_shape": [[600, 1, 1000]],
        }
        for item in items
    ]  # fmt: skip
    configuration = ["sklearn.preprocessing.StandardScaler", {"model": items[-1]["class_name"]}]
    manifest = {
        "schema_version": "2.0", "uid": "d6adf5d3-5c80-4321-9772-cd8b93d7323e", "pipeline_id": pipeline_id,
        "name": pipeline_id[5:], "dataset": DATASET, "created_at": "2026-11-23T21:33:56.868349+00:00",
        "pipeline": {"steps": configuration}, "generator_choices": [], "metadata": {},
        "artifacts": {"schema_version": "2.0", "items": items}, "predictions": [],
        "execution_traces": {"8a248427-16d": {"trace_id": "8a248427-16d", "pipeline_uid": pipeline_id, "steps": steps}},
    }  # fmt: skip
    (inner / "manifest.yaml").write_text(yaml.dump(manifest, Dumper=yaml.CSafeDumper, sort_keys=False))
    (inner / "pipeline.json").write_text(json.dumps(configuration, indent=2))


def write_predictions(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows and arrays as the pair of files that nirs4all 0.6 leaves in the workspace."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays: dict[str, dict[str, Any]] = {}
    for row in rows:
        for name, array in row.pop("arrays").items():
            digest = hashlib.sha256(array.tobytes()).hexdigest()
            row[f"{name}_id"] = f"array_{digest[:12]}"
            arrays[row[f"{name}_id"]] = {
                "array_id": row[f"{name}_id"], "array_data": array.astype(float).ravel(), "array_hash": digest,
                "array_size": array.size, "array_shape": json.dumps(array.shape), "array_type": name,
            }  # fmt: skip
    for name, held in (("meta", rows), ("arrays", list(arrays.values()))):
        pq.write_table(pa.Table.from_pylist(held), folder / f"{DATASET}.{name}.parquet", compression="zstd")


def read_and_hash(folder: Path) -> float:
    """Read every file, hash it, and give the seconds."""
    started = time.perf_counter()
    for file in folder.rglob("*"):
        if file.is_file():
            hashlib.sha256(file.read_bytes()).digest()
    return time.perf_counter() - started


def import_once(folder: Path, target: Path) -> tuple[float, float, int, int]:
    """Import into a new workspace; give the seconds until the call returns and until it is closed, count, and bytes."""
    from artifactdb import Workspace

    started = time.perf_counter()
    with Workspace(target) as workspace:
        report = workspace.import_folder(folder)
        returned = time.perf_counter() - started
    closed = time.perf_counter() - started
    assert report.ok, report
    return returned, closed, report.artifacts, target.stat().st_size


def forget(folder: Path) -> None:
    """Ask the system to forget what it holds of the files in memory."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def copied(folder: Path, target: Path) -> float:
    """Copy every file, and give the seconds until all are on the disk."""
    started = time.perf_counter()
    shutil.copytree(folder, target)
    for file in target.rglob("*"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipelines", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    header(str(__doc__).splitlines()[0], ["scikit-learn", "pyyaml", "zstandard"])
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "nirs4all"
        make(folder, options.pipelines)
        sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
        read_and_hash(folder)
        _, _, count, stored = import_once(folder, Path(scratch) / "first.sqlite")
        for number in range(options.rounds):
            taken = {"read and hash, in memory": read_and_hash(folder)}
            returned, closed, _, _ = import_once(folder, Path(scratch) / f"{number}.sqlite")
            taken |= {"import, in memory, until it returns": returned, "import, in memory, until closed": closed}
            taken["copy, until it is on the disk"] = copied(folder, Path(scratch) / f"copy{number}")
            forget(folder)
            taken["read and hash, from the disk"] = read_and_hash(folder)
            forget(folder)
            taken["import, from the disk, until closed"] = import_once(folder, Path(scratch) / f"{number}b.sqlite")[1]
            for name, value in taken.items():
                seconds.setdefault(name, []).append(value)
    megabytes = sum(sizes) / 1e6
    print(f"{len(sizes)} files, {megabytes:,.0f} MB; {count} artifacts; workspace of {stored / 1e6:,.0f} MB\n")
    rows = [[name, spread(values, digits=2), f"{megabytes / median(values):,.0f}"] for name, values in seconds.items()]
    table(["", "seconds", "MB/s"], rows)
    for where, goal in (("in memory", 2.0), ("from the disk", 2.0)):
        pairs = zip(seconds[f"import, {where}, until closed"], seconds[f"read and hash, {where}"], strict=True)
        verdict(f"import against reading and hashing, {where}, times", median(a / b for a, b in pairs), goal)
    pairs = zip(seconds["import, in memory, until closed"], seconds["copy, until it is on the disk"], strict=True)
    print(f"- import against copying to the disk, times: {median(a / b for a, b in pairs):.2f}")


if __name__ == "__main__":
    main()
