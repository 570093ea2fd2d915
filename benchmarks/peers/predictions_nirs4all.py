"""Predictions in nirs4all 0.6.2, in its own environment: add_prediction, then save_to_parquet."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from nirs4all.data.predictions import Predictions

from benchmarks.catalog_rows import rows


def main() -> None:
    given = list(rows(int(sys.argv[1])))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        theirs = Predictions()
        for row in given:
            theirs.add_prediction(**row, n_samples=len(row["y_pred"]))
        added = time.perf_counter()
        theirs.save_to_parquet(Path(folder))
        ended = time.perf_counter()
    print(json.dumps({"seconds": ended - started, "add": added - started, "save": ended - added}))


if __name__ == "__main__":
    main()
