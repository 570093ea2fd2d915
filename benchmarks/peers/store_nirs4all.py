"""Take joblib files into nirs4all's registry: a folder a line, the bytes that its workspace then has as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import joblib
from nirs4all.pipeline.storage.artifacts import ArtifactRegistry, ArtifactType


def main() -> None:
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as target:
            registry = ArtifactRegistry(Path(target), "wheat", pipeline_id="0001_x")
            for number, file in enumerate(sorted(Path(line.strip()).glob("*.joblib"))):
                registry.register_with_chain(joblib.load(file), f"s{number}.X", ArtifactType.MODEL, number)
            size = sum(file.stat().st_size for file in Path(target).rglob("*") if file.is_file())
        print(json.dumps({"bytes": size}), flush=True)


if __name__ == "__main__":
    main()
