"""nirs4all's registry and what it writes, measured in its own environment: one command a line, one JSON an answer.

``register FIRST COUNT`` registers so many small transformers; ``store FOLDER`` takes in joblib files.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import joblib
from nirs4all.pipeline.storage.artifacts import ArtifactRegistry, ArtifactType

from benchmarks.peers.objects import scaler


def register(registry: ArtifactRegistry, first: int, count: int) -> dict[str, float]:
    objects = [scaler(number) for number in range(first, first + count)]
    started = time.perf_counter()
    for number, obj in enumerate(objects, start=first):
        registry.register_with_chain(obj, f"s1.StandardScaler>s{number}.X", ArtifactType.TRANSFORMER, number)
    return {"seconds": time.perf_counter() - started}


def store(registry: ArtifactRegistry, folder: Path, target: Path) -> dict[str, int]:
    for number, file in enumerate(sorted(folder.glob("*.joblib"))):
        registry.register_with_chain(joblib.load(file), f"s{number}.X", ArtifactType.MODEL, number)
    return {"bytes": sum(file.stat().st_size for file in target.rglob("*") if file.is_file())}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        registry = ArtifactRegistry(Path(folder), "wheat", pipeline_id="0001_x")
        for line in sys.stdin:
            command, *words = line.split()
            if command == "register":
                answer: dict[str, float] = register(registry, int(words[0]), int(words[1]))
            else:
                answer = dict(store(registry, Path(words[0]), Path(folder)))
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
