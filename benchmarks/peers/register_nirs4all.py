"""Registers scalers with nirs4all, told how many on each line of standard input; runs in the peer's environment."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from nirs4all.pipeline.storage.artifacts import ArtifactRegistry, ArtifactType
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)
registry = ArtifactRegistry(Path(sys.argv[1]), "wheat", pipeline_id="0001_pls")
done = 0
for line in sys.stdin:
    count = int(line)
    scalers = [StandardScaler().fit(rng.normal(size=(60, 50))) for _ in range(count)]
    start = time.perf_counter()
    for index, scaler in enumerate(scalers):
        registry.pipeline_id = f"{(done + index) // 10:05d}_pls"
        chain = f"s1.MinMaxScaler>s{2 + index % 10}.StandardScaler"
        registry.register_with_chain(scaler, chain, ArtifactType.TRANSFORMER, 2 + index % 10)
    seconds = time.perf_counter() - start
    done += count
    print(json.dumps({"seconds": seconds}), flush=True)
