"""A script written for nirs4all, after the guide that this project implements, runs when its imports are changed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "data" / "seed_guide.txt"


def test_a_script_for_nirs4all_runs_unchanged_but_for_its_imports(tmp_path: Path) -> None:
    text = SCRIPT.read_text()
    changed = re.sub(r"(?m)^from nirs4all\.[\w.]+ import", "from artifactdb import", text)
    assert changed.count("from artifactdb import") == 3 and "nirs4all." not in changed
    done = subprocess.run(
        [sys.executable, "-c", changed], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "Saved: 0001_pls_abc123$35f1eb7779ca:0"
    assert "By chain: 0001_pls$d6ec12b94970:0" in said
    assert "Stack: ['PLSRegression_pred', 'RandomForestRegressor_pred']" in said
    assert "baseline_pls: PLS baseline with SNV preprocessing" in said
    assert "Trained: 1" in said
    assert "Found 0 orphaned files" in said
    assert sorted(path.name for path in (tmp_path / "workspace").iterdir()) == ["workspace.sqlite"]
