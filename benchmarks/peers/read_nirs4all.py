"""The ten best predictions in nirs4all 0.6.2's way, in its own environment: read the pair, then filter and sort."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path

from nirs4all.data.predictions import Predictions


def main() -> None:
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = Predictions.load_from_parquet(Path(sys.argv[1]))
        found = loaded._storage.filter(dataset_name="site_03", partition="val").sort("val_score").head(10)
    print(json.dumps({"seconds": time.perf_counter() - started, "rows": len(found)}))


if __name__ == "__main__":
    main()
