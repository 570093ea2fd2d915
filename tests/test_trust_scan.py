"""A stranger's pickle is read without running it, and a restricted load refuses what is off its list.

The attacks are rebuilt after what picklescan, fickling and modelscan describe. Each is also loaded as an unsuspecting
program would load it, to see that it is one: a canary file appears.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import FunctionTransformer

from artifactdb.artifacts.composite import Composite
from artifactdb.errors import ArtifactDBError, DeserializationError, InvalidValueError, UntrustedArtifactError
from artifactdb.trust.pickles.allow_list import AllowList
from artifactdb.trust.pickles.findings import Limits
from artifactdb.trust.pickles.known import is_dangerous, judge
from artifactdb.trust.pickles.report import Report
from artifactdb.trust.pickles.restricted import restricted_load
from artifactdb.trust.pickles.scan import scan
from tests.pickle_attacks import (
    ATTACKS,
    FURTHER,
    RIDGE,
    SCORE,
    SYSTEM,
    binary,
    called,
    contained,
    content,
    evil,
    found,
    pickled,
    read,
    shell,
    stored,
    text,
)

ALLOW = ["sklearn.*", "numpy.*"]


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture(autouse=True)
def registered_extension() -> Any:
    copyreg.add_extension("posix", "system", 0xF7)
    yield
    copyreg.remove_extension("posix", "system", 0xF7)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_one_is_found_and_is_refused(name: str, canary: Path) -> None:
    read_as, write = ATTACKS[name]
    data = write(canary)

    report = scan(content(data), read_as) if read_as != "dill" else scan(contained(data), "dill")
    assert report.verdict != "known-safe", str(report)
    # Where the name is not computed, what it reaches is told.
    assert report.verdict == "dangerous" or report.problems, str(report)
    inside = zlib.decompress(data) if data[:1] == b"\x78" else data
    with pytest.raises(UntrustedArtifactError if not name.startswith("compressed_with") else ArtifactDBError):
        restricted_load(contained(inside), ALLOW)
    with pytest.raises(UntrustedArtifactError):
        restricted_load(content(data), ALLOW, read_as)
    assert not canary.exists(), "reading or refusing executed it"

    with contextlib.suppress(Exception):
        read(data, read_as)
    assert canary.exists(), "this is no attack, so that finding it says nothing"


COMPUTED = {"name_computed_by_str", "name_decoded_by_a_codec", "frame_around_an_array_of_joblib"}


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - COMPUTED))
def test_an_attack_whose_names_can_be_read_is_called_dangerous(name: str, canary: Path) -> None:
    read_as, write = ATTACKS[name]
    data = write(canary)
    assert (scan(contained(data), "dill") if read_as == "dill" else scan(content(data), read_as)).verdict == "dangerous"


# What a scan reports though it does nothing; it may be loaded.
HARMLESS = {"second pickle", "bytes behind the end", "frame that is cut off"}


@pytest.mark.parametrize("name", FURTHER)
def test_further_material_is_never_known_safe_and_does_not_load(name: str) -> None:
    assert scan(content(FURTHER[name]), "pickle").verdict != "known-safe"
    if name in HARMLESS:
        restricted_load(contained(FURTHER[name]), ALLOW)
    else:
        for format in ("pickle5", "pickle", "joblib"):
            with pytest.raises((UntrustedArtifactError, DeserializationError)):
                restricted_load((contained if format == "pickle5" else content)(FURTHER[name]), ALLOW, format)


def test_what_harms_the_process_itself_leaves_it_as_it_is() -> None:
    before = Ridge.fit, dict(os.environ), np.dtype("f8").byteorder
    for name in FURTHER:
        with contextlib.suppress(ArtifactDBError):
            restricted_load(contained(FURTHER[name]), ALLOW)
    assert (Ridge.fit, dict(os.environ), np.dtype("f8").byteorder) == before


# -- reading what others wrap


def test_names_inside_bytes_are_told(canary: Path) -> None:
    report = scan(content(pickled(called(found("pickle", "loads"), binary(evil(canary))))), "pickle")
    assert [(item.module, item.name) for item in report.imports] == [("pickle", "loads"), ("os", "system")]
    assert report.calls == ["pickle.loads", "os.system"]


def test_pickles_within_pickles_are_followed_so_far_and_then_reported() -> None:
    nested = evil(Path("/nowhere"))
    for _ in range(5):
        nested = pickled(binary(nested))
    assert scan(content(nested), "pickle").verdict == "dangerous"
    for _ in range(30):
        nested = pickled(binary(nested))
    report = scan(content(nested), "pickle")
    assert report.verdict == "unknown" and "deep" in report.problems[-1]


def test_a_zip_as_torch_writes_it_is_looked_into(canary: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        storage = b"(" + text("storage") + found("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x01tQ"
        rebuilt = called(found("torch._utils", "_rebuild_tensor_v2"), storage)
        archive.writestr("archive/data.pkl", pickled(rebuilt, called(SYSTEM, text(shell(canary))), protocol=2))
        archive.writestr("archive/data/0", bytes(4))
        archive.writestr("archive/version", "3\n")
    report = scan(content(file.getvalue()), "pickle")
    assert report.verdict == "dangerous"
    assert {"system", "_rebuild_tensor_v2", "FloatStorage"} <= {item.name for item in report.imports}


def test_a_tar_is_looked_into_and_its_head_is_read_as_a_pickle_too(canary: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in (("cposix\nsystem\n.", b"x"), ("pickle", evil(canary))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    report = scan(content(file.getvalue()), "pickle")
    assert [(item.module, item.name) for item in report.imports] == [("posix", "system"), ("os", "system")]


def test_the_stacked_pickles_of_old_torch_files_are_all_read() -> None:
    magic = pickled(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", protocol=2)
    data = magic + pickled(b"M\xe9\x03") + pickled(b"}") + evil(Path("/nowhere")) + bytes(64)
    assert scan(content(data), "pickle").verdict == "dangerous"


@pytest.mark.parametrize("make", [lambda: b"PK\x03\x04" + bytes(100), lambda: bytes(257) + b"ustar" + b"\xff" * 600])
def test_a_damaged_archive_is_a_problem_and_no_error(make: Callable[[], bytes]) -> None:
    assert scan(content(make()), "pickle").problems


def test_a_decompression_bomb_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(200 << 20), 1)
    report = scan(content(bomb), "joblib")
    assert report.verdict == "unknown" and "too long" in report.problems[0]


def test_a_container_is_read_where_its_loader_reads_it() -> None:
    # An entry whose place is 257 is no part for the loader; one that looks at a byte only would skip 32 bytes more.
    stream = evil(Path("/nowhere"))
    head = struct.pack("<8sIIQ", b"ADBOBJ1\n", 1, 0, len(stream)) + struct.pack("<QII", 0, 1, 257)
    assert scan(content(head + stream + pickled(b"N") * 40), "pickle5").verdict == "dangerous"


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_honest_files_of_joblib_are_known_safe(compress: Any, xy: tuple[Any, Any], tmp_path: Path) -> None:
    kinds = [np.arange(5), np.array(["a", "bc"]), np.array([1, "x", None], dtype=object), np.zeros((3, 0)),
             np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), np.asfortranarray(np.eye(40)),
             np.array(["2020-01-01"], "M8[D]"), np.array(1.5), np.ones(3, bool)]  # fmt: skip
    joblib.dump((Ridge().fit(*xy), kinds), tmp_path / "model.joblib", compress=compress)
    report = scan(content((tmp_path / "model.joblib").read_bytes()), "joblib")
    assert report.verdict == "known-safe", str(report)


@pytest.mark.parametrize("protocol", range(6))
def test_honest_pickles_of_every_protocol_are_known_safe(protocol: int, xy: tuple[Any, Any]) -> None:
    honest = Ridge().fit(*xy), {"bytes": b"\xff\x00", "set": {1, 2}, "big": 1 << 100, "text": "ü"}, np.float64(2)
    report = scan(content(pickle.dumps(honest, protocol)), "pickle")
    assert report.verdict == "known-safe", str(report)


def test_data_is_safe_and_what_a_plugin_reads_is_unknown() -> None:
    assert scan(content(b'{"a": 1}'), "json").verdict == "known-safe"
    assert scan(content(pickled(b"N")), "onnx").verdict == "unknown"


# -- what a scan costs


@pytest.mark.campaign
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the most memory a process had")
@pytest.mark.parametrize(
    "stream",
    [b"(" * 6_000_000, b"]\x94" * 3_000_000 + b".", b"}\x94" * 3_000_000 + b".", b"N" + b"\x85" * 6_000_000 + b".",
     b"N" + b"2" * 6_000_000, text("a") + b"\x94" * 6_000_000, b"(" + b"N" * 5_000_000 + b"t" + b"2" * 100 + b"."],
)  # fmt: skip
def test_a_scan_ends_and_stays_small(stream: bytes) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from artifactdb.content import StoredContent\n"
        "from artifactdb.trust.pickles.scan import scan\n"
        "data = bytearray(sys.stdin.buffer.read()); start = time.monotonic()\n"
        "report = scan(StoredContent(data, lambda _: bytearray()), 'pickle')\n"
        "peak = Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"
        "print(report.verdict, time.monotonic() - start, int(peak) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=stream, capture_output=True, check=True)
    verdict, seconds, megabytes = done.stdout.split()
    assert verdict == b"unknown"
    assert float(seconds) < 25 and int(megabytes) < 500


def test_many_names_are_counted_and_not_all_kept() -> None:
    many = pickled(b"".join(b"c" + b"m%d" % number + b"\nx\n0" for number in range(20_000)), SYSTEM)
    report = scan(content(many), "pickle")
    assert len(report.imports) < 6_000 and report.verdict == "dangerous"
    assert len(str(report)) < 20_000


def test_limits_are_what_is_told() -> None:
    report = scan(content(pickled(b"N0" * 1000)), "pickle", limits=Limits(opcodes=100))
    assert report.problems == ["the stream has too many opcodes to be followed"]
    started = time.monotonic()
    scan(content(b"]\x94" * 1_000_000), "pickle", limits=Limits(seconds=0.05))
    assert time.monotonic() - started < 2


# -- what is known


def test_nothing_is_imported_to_judge(tmp_path: Path) -> None:
    code = (
        "import sys; from artifactdb.trust.pickles.known import judge\n"
        "assert judge('sklearn.linear_model._ridge', 'Ridge') == 'known-safe'\n"
        "assert judge('sklearn.tree._tree', 'Tree') == 'known-safe'\n"
        "assert judge('antigravity', 'fly') == 'dangerous'\n"
        "print([name for name in ('sklearn', 'antigravity', 'scipy', 'joblib') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"[]"


@pytest.mark.parametrize(
    ("module", "name", "verdict"),
    [
        ("builtins", "dict", "known-safe"),
        ("builtins", "len", "unknown"),
        ("builtins", "__import__", "dangerous"),
        ("__builtin__", "eval", "dangerous"),
        ("builtins", "object.__subclasses__", "dangerous"),
        ("os.path", "join", "dangerous"),
        ("functools", "partial", "unknown"),
        ("io", "BytesIO", "unknown"),
        ("io", "open", "dangerous"),
        ("sklearn.pipeline", "Pipeline", "known-safe"),
        ("sklearn.model_selection._split", "KFold", "known-safe"),
        ("sklearn.gaussian_process.kernels", "RBF", "known-safe"),
        ("sklearn.utils.validation", "check_array", "unknown"),
        ("sklearn.linear_model._ridge", "Ridge.fit", "unknown"),
        ("sklearn.base", "os.system", "dangerous"),
        ("sklearn..base", "BaseEstimator", "unknown"),
        ("numpy.lib.format", "read_array", "dangerous"),
        ("chemotools.scatter._standard_normal_variate", "StandardNormalVariate", "known-safe"),
        ("artifactdb.artifacts.composite", "Composite", "known-safe"),
        ("artifactdb.formats", "serializer", "dangerous"),
    ],
)
def test_verdicts(module: str, name: str, verdict: str) -> None:
    assert judge(module, name) == verdict


def test_every_public_estimator_of_chemotools_is_known_safe() -> None:
    import importlib
    import pkgutil

    import chemotools
    from sklearn.base import BaseEstimator
    from sklearn.utils import all_estimators  # noqa: F401

    classes = set()
    for module in pkgutil.walk_packages(chemotools.__path__, "chemotools."):
        with contextlib.suppress(ImportError):
            for value in vars(importlib.import_module(module.name)).values():
                if (
                    isinstance(value, type)
                    and issubclass(value, BaseEstimator)
                    and value.__module__.startswith("chemotools")
                ):
                    classes.add(value)
    assert len(classes) > 20
    assert [cls for cls in classes if judge(cls.__module__, cls.__qualname__) != "known-safe"] == []


# -- the report


def test_a_report_reads_worst_first_and_cannot_speak_to_a_terminal() -> None:
    stream = pickled(RIDGE, found("os", "system"), text("my\x1b[2J"), text("x"), b"\x93")
    report = scan(content(stream), "pickle")
    shown = str(report)
    assert shown.index("dangerous") < shown.index("unknown") < shown.index("known-safe")
    assert "\x1b" not in shown
    assert report.to_dict()["verdict"] == "dangerous"
    assert report.to_dict()["imports"][1] == {"module": "os", "name": "system", "verdict": "dangerous"}


def test_a_report_with_a_problem_is_never_known_safe() -> None:
    assert Report([], [], ["something"]).verdict == "unknown"
    assert str(Report([])) == "imports nothing"


# -- the restricted load


@pytest.mark.parametrize(
    "pattern",
    ["*", "", "sklearn", "sklearn.*.linear", "os.*", "builtins.*", "builtins.eval", "a b.*", "numpy.load", "dill.*",
     "copyreg.*", "numpy.testing.*", 3],
)  # fmt: skip
def test_a_pattern_that_makes_no_list_is_refused(pattern: Any) -> None:
    with pytest.raises(InvalidValueError, match="pattern"):
        AllowList([pattern])


def test_one_name_is_allowed_by_its_full_name() -> None:
    stream = contained(pickled(RIDGE, b")\x81", protocol=5))
    assert type(restricted_load(stream, ["sklearn.linear_model._ridge.Ridge"])) is Ridge
    with pytest.raises(UntrustedArtifactError, match="Ridge"):
        restricted_load(stream, ["sklearn.linear_model._ridge.Lasso", "numpy.*"])


def test_what_a_listed_module_imports_from_elsewhere_is_not_listed() -> None:
    assert not is_dangerous("sklearn.linear_model._ridge", "sparse")
    with pytest.raises(UntrustedArtifactError):
        restricted_load(contained(pickled(found("sklearn.linear_model._ridge", "sparse"))), ALLOW)
    with pytest.raises(UntrustedArtifactError, match=r"numbers\.Real"):
        restricted_load(contained(pickled(found("sklearn.linear_model._ridge", "Real"))), ALLOW)


def test_a_score_may_be_held_and_not_called() -> None:
    score = found("sklearn.metrics._regression", "r2_score")
    assert restricted_load(contained(pickled(score)), ALLOW) is r2_score
    with pytest.raises(UntrustedArtifactError, match="call"):
        restricted_load(contained(pickled(called(score, b"]", b"]"))), ALLOW)
    with pytest.raises(UntrustedArtifactError, match="check_array"):
        restricted_load(contained(pickled(found("sklearn.utils.validation", "check_array"))), ALLOW)


@pytest.mark.parametrize("argument", [RIDGE + b")\x81", SCORE], ids=["an object", "a function"])
def test_a_call_takes_plain_values_only(argument: bytes) -> None:
    # An object could bring a function as its method, and what makes generators calls what it is given.
    for function in (found("builtins", "dict"), found("numpy.random._pickle", "__generator_ctor")):
        with pytest.raises(UntrustedArtifactError, match="as argument"):
            restricted_load(contained(pickled(called(function, argument, argument))), ALLOW)


def test_functions_of_a_companys_own_package_may_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_company").mkdir()
    (tmp_path / "my_company" / "__init__.py").write_text("from os import system\ndef made(number): return [number]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    stream = contained(pickled(called(found("my_company", "made"), b"K\x05")))
    assert restricted_load(stream, ["my_company.*"]) == [5]
    with pytest.raises(UntrustedArtifactError, match=r"posix\.system"):
        restricted_load(contained(pickled(found("my_company", "system"))), ["my_company.*"])


def test_a_module_off_the_list_is_not_even_imported() -> None:
    sys.modules.pop("this", None)
    with pytest.raises(UntrustedArtifactError):
        restricted_load(contained(pickled(found("this", "s"))), ALLOW)
    assert "this" not in sys.modules


def test_bytes_that_are_no_container_are_told_apart_from_refusals() -> None:
    with pytest.raises(DeserializationError):
        restricted_load(content(b"nonsense"), ALLOW)
    with pytest.raises(DeserializationError):
        restricted_load(contained(pickled(b"R")), ALLOW)


def test_a_composite_is_ours_and_needs_no_entry_on_a_list() -> None:
    inner = Ridge()
    composite = Composite.of({"model": inner}, {id(inner): "0001_pls$7f8e9d0c1b2a:all"})
    kept, format = stored(composite)
    assert scan(kept, format).verdict == "known-safe"
    assert restricted_load(kept, []).parts[0].artifact_id == "0001_pls$7f8e9d0c1b2a:all"


def test_code_that_travels_by_value_is_dangerous_and_needs_trust() -> None:
    kept, format = stored(FunctionTransformer(lambda x: x + 1))
    report = scan(kept, format)
    assert format == "dill" and report.verdict == "dangerous"
    assert {item.module for item in report.imports if item.verdict == "dangerous"} == {"dill._dill"}
    with pytest.raises(UntrustedArtifactError, match=r"dill\._dill"):
        restricted_load(kept, ALLOW)
