"""The architecture as a table: who may import whom, and who may import what from outside."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "artifactdb"

# From the ground up: a module may import from its own row or from a lower one. The longest prefix counts.
LAYERS = [
    ["errors", "version"],
    ["chain", "content", "paths", "results"],
    ["ids", "cache", "graph", "records"],
    ["database"],
    ["formats", "blobs", "estimators", "trust"],
    ["artifacts"],
    ["catalog", "runs"],
    ["registry", "library"],
    ["loader"],
    ["interop", "transfer", "fitted"],
    ["workspace"],
    ["runner"],
    ["cli.render"],
    ["demo"],
    ["cli", "sqlite_utils_plugin", ""],
]
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}

OWNERS = {
    "apsw": {"database", "trust.remembered"},
    "cryptography": {"trust.team_keys"},
    "platformdirs": {"cli", "trust.home"},
    "sqlite3": {"database.snapshot", "sqlite_utils_plugin"},
    "duckdb": {"catalog"},
    "pyarrow": {"catalog", "formats.arrow", "results", "interop", "transfer", "runner.datasets"},
    "lz4": {"trust.pickles.unpacking"},
    "safetensors": {"formats.tensors"},
    "matplotlib": {"catalog.plots", "demo"},
    "prompt_toolkit": {"cli"},
    "zfec": {"database.parity"},
    "zstandard": {"blobs.codec"},
    "dill": {"formats"},
    "pickle": {"formats", "trust"},
    "pickletools": {"interop.classes", "trust"},
    "joblib": {"formats", "runner", "cli", "demo"},
    "typer": {"cli"},
    "rich": {"cli", "runner"},
    "sklearn": {"estimators", "fitted", "runner", "demo"},
    "chemotools": {"demo"},
}


@cache
def imported() -> list[tuple[str, str]]:
    """Give each module with each name that it imports."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        found += [(name, target) for target in imports(ast.parse(path.read_text()))]
    return found


def imports(tree: ast.Module) -> Iterator[str]:
    # What only the type checker sees does not count.
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rank(module: str) -> int:
    parts = module.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((RANK[prefix] for prefix in prefixes if prefix in RANK), RANK[""])


def test_imports_go_downwards_only() -> None:
    for name, target in imported():
        if target.startswith("artifactdb."):
            assert rank(target.removeprefix("artifactdb.")) <= rank(name), f"{name} imports {target} from above"


def test_each_outside_library_has_its_owners() -> None:
    for name, target in imported():
        library = target.partition(".")[0]
        if library in OWNERS:
            allowed = any(name == owner or name.startswith(owner + ".") for owner in OWNERS[library])
            assert allowed, f"artifactdb.{name} imports {library}"


def test_no_file_grows_beyond_what_one_reads_at_once() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 450, path.name
