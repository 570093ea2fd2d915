"""Objects that other versions of scikit-learn and numpy wrote: they load and predict the same, or say what to install.

``golden/environments.py`` made the files, each in an environment of its own.
"""

from __future__ import annotations

import gzip
import pickle
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.cross_decomposition import PLSRegression
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from artifactdb import ArtifactVersionWarning, DeserializationError, Workspace
from artifactdb.artifacts import environment
from artifactdb.estimators.versions import CHANGED, ChangedEstimatorError, compared, require_unchanged
from tests.golden.environments import ENVIRONMENTS, FOLDER, name_of
from tests.golden.estimators import answer

FILES = sorted(FOLDER.glob("environment_*.sqlite.gz"))
CLASSES = {
    "StandardScaler", "SimpleImputer", "ColumnTransformer", "PLSRegression", "Ridge", "RandomForestRegressor", "SVR",
    "KNeighborsRegressor", "HistGradientBoostingRegressor", "Pipeline", "StackingRegressor",
}  # fmt: skip
INSIDE = {"Pipeline": "PLSRegression", "logged": "PLSRegression"}
"""What stands within an object of several estimators and may have changed."""
MOVED = {"HistGradientBoostingRegressor"}
"""What other versions may be unable to unpickle, because it holds objects of compiled private modules."""


@pytest.fixture(params=FILES, ids=lambda file: file.name.removesuffix(".sqlite.gz"))
def golden(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace of another environment; each of its versions is warned of anew."""
    monkeypatch.setattr(environment, "_warned", set())
    path = tmp_path / "study.sqlite"
    path.write_bytes(gzip.decompress(request.param.read_bytes()))
    with Workspace(path) as workspace:
        workspace.trust()
        yield workspace


def test_each_environment_left_a_file() -> None:
    expected = {f"{name_of(sklearn, numpy)}.sqlite.gz" for _, sklearn, numpy, _ in ENVIRONMENTS}
    assert {file.name for file in FILES} == expected
    assert max(file.stat().st_size for file in FILES) < 100_000


def test_a_record_names_the_versions_that_wrote_it(golden: Workspace, request: pytest.FixtureRequest) -> None:
    records = golden.records(pipeline_id="0001_golden")
    assert {record.class_name for record in records} == CLASSES | {"dict"}
    for record in records:
        if record.class_name != "dict":
            versions = record.environment
            assert name_of(versions["sklearn"], versions["numpy"]) == request.node.callspec.id
            assert versions["python"].startswith("3.1")


def test_looking_at_another_environment_needs_nothing_of_it(golden: Workspace) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert golden.verify().ok
        assert len(golden.records(pipeline_id="0001_golden")) == len(CLASSES) + 1
        for record in golden.records():
            report = golden.inspect(record.artifact_id)
            assert not report.problems, record.chain_path
            assert bool(report.imports) == (record.class_name != "dict")
        assert len(golden.catalog) >= 1
        assert golden.runs()[0].status == "completed"


def test_an_object_predicts_the_same_under_a_warning_or_says_what_to_install(golden: Workspace) -> None:
    answers = next(golden.load(record.artifact_id) for record in golden.records(class_name="dict"))
    whole = {record.class_name: record.artifact_id for record in golden.records(pipeline_id="0001_golden")}
    del whole["dict"]
    whole["logged"] = golden.pipelines()[-1].pipeline_id
    versions = golden.record(whole["Ridge"]).environment
    wanted = f"pip install numpy=={versions['numpy']} scikit-learn=={versions['sklearn']}"
    refused = set()
    for name, artifact_id in whole.items():
        environment._warned.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                obj = golden.load(artifact_id)
            except DeserializationError as error:
                assert error.hint.startswith("Install what wrote it: pip install ")
                assert error.hint.endswith(f"scikit-learn=={versions['sklearn']}")
                assert name == "logged" or error.hint.endswith(wanted)
                assert f"sklearn {versions['sklearn']} (here: {sklearn.__version__})" in error.message
                refused.add(name)
                continue
        assert {warning.category for warning in caught} <= {ArtifactVersionWarning}, "one warning, not one of each part"
        said = " ".join(str(warning.message) for warning in caught)
        for package, here in (("sklearn", sklearn.__version__), ("numpy", np.__version__)):
            differs = f"{package} {versions[package]} (here: {here})"
            assert (differs in said) == (versions[package] != here), said
        np.testing.assert_allclose(answer(obj, answers["rows"]), answers[name], rtol=1e-9, err_msg=name)
    changed = {name for name in whole if is_changed(INSIDE.get(name, name), versions["sklearn"])}
    assert changed <= refused <= changed | MOVED


def is_changed(name: str, written: str) -> bool:
    try:
        require_unchanged(name, written, sklearn.__version__)
    except ChangedEstimatorError:
        return True
    return False


def test_an_estimator_that_changed_is_refused_where_it_would_be_another() -> None:
    assert {"PLSRegression", "PLSCanonical", "CCA", "SimpleImputer"} <= CHANGED.keys()
    for name, (since, _) in CHANGED.items():
        before, after = f"{since[0]}.{since[1] - 1}.3", f"{since[0]}.{since[1]}.0"
        require_unchanged(name, before, before)
        require_unchanged(name, after, "9.0.dev0")
        with pytest.raises(ChangedEstimatorError, match=f"{name} of scikit-learn {before}"):
            require_unchanged(name, before, after)
    with pytest.raises(ChangedEstimatorError, match=r"PLSRegression of scikit-learn 1\.5\.0"):
        require_unchanged("PLSRegression", "1.5.0", "1.4.2")
    require_unchanged("SimpleImputer", "1.8.0", "1.7.2")  # has what it needs, and more


def test_what_another_program_wrote_is_compared_by_the_version_within_it(xy: tuple[Any, Any]) -> None:
    def written(obj: Any) -> bytes:
        return pickle.dumps(obj, protocol=0).replace(sklearn.__version__.encode(), b"1.4.2")

    with pytest.raises(ChangedEstimatorError, match=r"PLSRegression of scikit-learn 1\.4\.2"), compared(said=False):
        pickle.loads(written(make_pipeline(PLSRegression(2)).fit(*xy)))
    for said, heard in ((False, {InconsistentVersionWarning, DeprecationWarning}), (True, {DeprecationWarning})):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with compared(said=said):
                pickle.loads(written(Ridge().fit(*xy)))
                warnings.warn("of something else", DeprecationWarning, stacklevel=1)
        assert {warning.category for warning in caught} == heard


def test_a_stranger_s_object_within_the_allow_list_says_what_to_install_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (oldest,) = [file for file in FILES if "sklearn-1.4.2_numpy-2" in file.name]
    path = tmp_path / "study.sqlite"
    path.write_bytes(gzip.decompress(oldest.read_bytes()))
    (tmp_path / "config.toml").write_text('allow = ["sklearn.*", "numpy.*"]')
    monkeypatch.setenv("ARTIFACTDB_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("ARTIFACTDB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(environment, "_warned", set())
    Workspace(path).close()  # which brings it up to date
    with Workspace(path, mode="ro") as workspace:
        ids = {record.class_name: record.artifact_id for record in workspace.records(pipeline_id="0001_golden")}
        with pytest.warns(ArtifactVersionWarning, match="sklearn 1.4.2"):
            workspace.load(ids["Ridge"])
        for refused in ("PLSRegression", "HistGradientBoostingRegressor"):
            with pytest.raises(DeserializationError, match=r"pip install numpy==2.0.2 scikit-learn==1.4.2"):
                workspace.load(ids[refused])


def test_a_class_that_is_no_longer_there_says_what_to_install(tmp_path: Path, in_new_process: Any) -> None:
    package = tmp_path / "spectra_lab"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '3.1'")
    (package / "_blend.py").write_text("class Blend:\n    def __init__(self): self.weight = 0.5")
    (package / "_moved.py").write_text("class Moved: pass")
    code = """
import sys; sys.path.insert(0, sys.argv[1])
from artifactdb import Workspace
from spectra_lab._blend import Blend
from spectra_lab._moved import Moved
with Workspace(sys.argv[1] + "/study.sqlite") as workspace:
    registry = workspace.registry("wheat", "0001_lab")
    registry.register_with_chain(Blend(), "s1.Blend", "model", 1)
    registry.register_with_chain(Moved(), "s2.Moved", "model", 2)
"""
    in_new_process(code, tmp_path)
    shutil.rmtree(package)  # what was compiled of it, too
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '4.0'")
    (package / "_blend.py").write_text("class Mixture: pass")
    load = """
import sys; sys.path.insert(0, sys.argv[1])
from artifactdb import DeserializationError, Workspace
with Workspace(sys.argv[1] + "/study.sqlite") as workspace:
    for record in workspace.records():
        try:
            workspace.load(record.artifact_id)
        except DeserializationError as error:
            print(error)
"""
    here = in_new_process(load, tmp_path).splitlines()
    assert len(here) == 2
    for line, reason in zip(here, ("Can't get attribute 'Blend'", "No module named 'spectra_lab._moved'"), strict=True):
        assert reason in line
        assert "spectra_lab 3.1 (here: 4.0)" in line
        assert line.endswith("Install what wrote it: pip install spectra_lab==3.1")
    elsewhere = in_new_process(load.replace("sys.path.insert(0, sys.argv[1])", ""), tmp_path).splitlines()
    assert len(elsewhere) == 2
    assert all("No module named 'spectra_lab'" in line for line in elsewhere)
    assert all("spectra_lab 3.1 (here: not installed)" in line for line in elsewhere)
