"""Configurations: what JSON may name, operators as JSON and back, and alternatives expanded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import (
    base,
    calibration,
    compose,
    cross_decomposition,
    decomposition,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    model_selection,
    neural_network,
    pipeline,
    preprocessing,
    svm,
)
from sklearn import gaussian_process as gp
from sklearn.gaussian_process import kernels

from artifactdb.errors import InvalidValueError
from artifactdb.estimators.configuration import from_plain, operator, to_plain, with_params
from artifactdb.estimators.grids import count, expand
from artifactdb.estimators.names import class_named, function_named, name_of

NAMED = "sklearn.preprocessing.MinMaxScaler"


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that nobody allowed, which tells whether it was imported."""
    (tmp_path / "outsider.py").write_text("from sklearn.linear_model import Ridge\nclass Foreign(Ridge): pass\n")
    (tmp_path / "stranger.py").write_text(
        "from sklearn.linear_model import Ridge\n"
        "from outsider import Foreign\n"
        "from joblib import Memory\n"
        "class Mine(Ridge): pass\n"
        "class Plain: pass\n"
        "def fit(): pass\n"
        "class Booster:\n"
        "    def __init__(self, *, depth=6, rate=None, **more):\n"
        "        self.depth, self.rate, self.more = depth, rate, more\n"
        "    def get_params(self, deep=True):\n"
        "        return {'depth': self.depth, 'rate': self.rate, **self.more, **self.own()}\n"
        "    def own(self): return {}\n"
        "    def fit(self, X, y): return self\n"
        "class Boosted(Booster):\n"
        "    def __init__(self, *, objective='squares', **more):\n"
        "        super().__init__(**more)\n"
        "        self.objective = objective\n"
        "    def own(self): return {'objective': self.objective}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("stranger", "outsider"):
        sys.modules.pop(name, None)
    yield lambda: "stranger" in sys.modules
    for name in ("stranger", "outsider"):
        sys.modules.pop(name, None)


# Names


def test_classes_are_found_by_their_public_and_by_their_real_name() -> None:
    assert class_named(NAMED) is class_named("sklearn.preprocessing._data.MinMaxScaler") is preprocessing.MinMaxScaler
    assert name_of(preprocessing.MinMaxScaler) == NAMED
    assert class_named("chemotools.baseline.AirPls").__name__ == "AirPls"
    assert name_of(type(operator("chemotools.baseline._air_pls.AirPls"))) == "chemotools.baseline.AirPls"
    assert class_named("sklearn.impute.IterativeImputer").__name__ == "IterativeImputer", "without enabling it first"


def test_every_estimator_of_sklearn_is_found_by_its_shortest_name() -> None:
    from sklearn.utils.discovery import all_estimators

    for _, cls in all_estimators():
        assert class_named(name_of(cls)) is cls
        assert "._" not in name_of(cls)


HOSTILE = [
    "os.system", "subprocess.Popen", "builtins.eval", "pickle.Unpickler", "importlib.import_module", "joblib.Memory",
    "sklearn.utils.os.system", "sklearn.utils.os", "sklearn.base.warnings.catch_warnings", "sklearn.pipeline.Memory",
    "sklearn.externals._packaging.version.Version", "sklearn.externals.array_api_compat.numpy.ndarray",
    "sklearn.utils._testing.TempMemmap", "sklearn.utils._testing.MinimalRegressor",
    "sklearn.conftest.raccoon_face_or_skip",
    "sklearn.tests.test_base.MyEstimator", "sklearn.datasets.fetch_openml", "sklearn.datasets.load_svmlight_file",
    "sklearn.utils.Bunch", "sklearn.__init__", "sklearn.linear_model.__init__.Ridge",
    "sklearn.__dict__", "sklearn.linear_model.__builtins__.eval",
    "sklearn.linear_model.Ridge.__class__", "sklearn.linear_model.Ridge.__init__", "sklearn.linear_model._base",
    "sklearnish.Ridge", "sklearn", "sklearn.", ".sklearn.Ridge", "sklearn..Ridge", "sklearn.linear_model.Ridge()",
    "sklearn.linear_model.Ridge ", "../sklearn.Ridge", "", "__main__.Ridge", "numpy.ndarray", "eval",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
def test_what_is_no_estimator_of_a_known_package_is_refused_wherever_it_stands(path: str) -> None:
    for configuration in (path, {"class": path}, {"class": path, "params": {"command": "true"}}):
        with pytest.raises(InvalidValueError):
            operator(configuration)
    hidden = {"class": "sklearn.ensemble.BaggingRegressor", "params": {"estimator": {"class": path, "params": {}}}}
    with pytest.raises(InvalidValueError):
        operator(hidden)
    with pytest.raises(InvalidValueError):
        operator({"class": "sklearn.pipeline.Pipeline", "params": {"steps": [{"tuple": ["a", {"class": path}]}]}})
    with pytest.raises(InvalidValueError):
        from_plain({"function": path})


def test_what_is_not_allowed_is_not_even_imported(stranger: Any) -> None:
    for value in ("stranger.Mine", {"class": "stranger.Mine"}):
        with pytest.raises(InvalidValueError, match=r'allow=\["stranger"\].*--allow stranger'):
            operator(value)
    with pytest.raises(InvalidValueError):
        from_plain({"class": "sklearn.ensemble.BaggingRegressor", "params": {"estimator": {"class": "stranger.Mine"}}})
    with pytest.raises(InvalidValueError):
        from_plain({"function": "stranger.fit"})
    with pytest.raises(InvalidValueError):
        class_named("stranger.Mine", allow=["strange", "stranger.models", "my_stranger"])
    assert not stranger()
    assert class_named("stranger.Mine", allow=["stranger"]) and stranger()


@pytest.mark.parametrize("allow", [["stranger"], ["stranger.*"], "stranger", ["other", "stranger"]])
def test_a_package_that_the_user_allows_is_open_but_only_for_estimators(stranger: Any, allow: Any) -> None:
    made = operator({"class": "stranger.Mine", "params": {"alpha": 2.0}}, allow)
    assert (type(made).__name__, made.alpha) == ("Mine", 2.0)
    assert operator("stranger.Ridge", allow).alpha == 1.0, "what it has of an allowed package"
    for name, said in [
        ("Plain", "no estimator and no splitter"),
        ("fit", "a function, not a class"),
        ("Memory", "is joblib.memory.Memory, which may not be named"),
        ("Foreign", r'is outsider.Foreign, which may not be named.*allow=\["outsider"\]'),
        ("Mien", "Did you mean stranger.Mine"),
    ]:
        with pytest.raises(InvalidValueError, match=said):
            class_named(f"stranger.{name}", allow)


def test_allow_takes_packages_and_no_wildcards() -> None:
    for wrong in ("*", "", "my-company", "os.*.path"):
        with pytest.raises(InvalidValueError, match="allow takes names of packages"):
            class_named("os.system", allow=[wrong])


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("MinMaxScaler", "sklearn.preprocessing.MinMaxScaler"),
        ("sklearn.MinMaxScaler", "sklearn.preprocessing.MinMaxScaler"),
        ("sklearn.preprocessing.MinMaxScalr", "sklearn.preprocessing.MinMaxScaler"),
        ("sklearn.preprocesing.StandardScaler", "sklearn.preprocessing.StandardScaler"),
        ("sklearn.linear_model.ridge", "sklearn.linear_model.Ridge"),
        ("sklearn.linear_model.PLSRegression", "sklearn.cross_decomposition.PLSRegression"),
        ("sklearn.KFold", "sklearn.model_selection.KFold"),
        ("chemotools.baseline.AirPLS", "chemotools.baseline.AirPls"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_the_nearest_first(asked: str, meant: str) -> None:
    with pytest.raises(InvalidValueError) as error:
        class_named(asked)
    assert error.value.hint.startswith(f"Did you mean {meant}")


def test_a_package_that_is_not_installed_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "catboost", None)
    with pytest.raises(InvalidValueError, match=r"catboost is not installed.*pip install catboost"):
        class_named("catboost.CatBoostRegressor")


def test_of_functions_ufuncs_of_numpy_and_scores_for_features_may_be_named() -> None:
    assert function_named("numpy.log1p") is np.log1p
    assert function_named("sklearn.feature_selection.f_regression") is feature_selection.f_regression
    for path in (
        "numpy.load",
        "numpy.fromfile",
        "numpy.frompyfunc",
        "numpy.ufunc",
        "numpy.linalg.inv",
        "log1p",
        "os.system",
    ):
        with pytest.raises(InvalidValueError, match="may not be named"):
            function_named(path)


# Operators as JSON


def test_only_parameters_that_differ_are_written() -> None:
    assert to_plain(linear_model.Ridge(alpha=1.0)) == {"class": "sklearn.linear_model.Ridge"}
    assert to_plain(linear_model.Ridge) == {"class": "sklearn.linear_model.Ridge"}
    assert to_plain(linear_model.Ridge(alpha=np.float64(0.5), fit_intercept=np.False_)) == {
        "class": "sklearn.linear_model.Ridge",
        "params": {"alpha": 0.5, "fit_intercept": False},
    }
    assert to_plain(model_selection.KFold(3)) == {"class": "sklearn.model_selection.KFold", "params": {"n_splits": 3}}


SCORED = feature_selection.SelectKBest(feature_selection.f_regression, k=3)
OPERATORS: list[Any] = [
    preprocessing.MinMaxScaler(feature_range=(0, 2)),
    preprocessing.OneHotEncoder(dtype=np.float32, categories=[["a", "b"], ["c"]]),
    preprocessing.OrdinalEncoder(dtype=int, handle_unknown="use_encoded_value", unknown_value=np.nan),
    preprocessing.FunctionTransformer(np.log1p, np.expm1),
    preprocessing.KBinsDiscretizer(4, encode="ordinal"),
    impute.SimpleImputer(missing_values=np.nan, strategy="constant", fill_value=0),
    SCORED,
    cross_decomposition.PLSRegression(np.int64(4)),
    decomposition.PCA(0.95, random_state=3),
    linear_model.LogisticRegression(class_weight={0: 1.0, 1: 2.5}),
    linear_model.RidgeCV(alphas=np.logspace(-2, 2, 5)),
    linear_model.SGDRegressor(alpha=1e-300),
    neural_network.MLPRegressor(hidden_layer_sizes=(5, 3)),
    svm.SVC(C=float("inf")),
    ensemble.RandomForestClassifier(15, max_depth=None, max_features=0.5, random_state=0),
    ensemble.HistGradientBoostingRegressor(categorical_features=np.array([True, False]), monotonic_cst={"x": 1}),
    ensemble.VotingClassifier([("a", linear_model.LogisticRegression(C=2)), ("b", "drop")], weights=[1, 2]),
    ensemble.StackingRegressor([("r", linear_model.Ridge(2))], svm.SVR(), cv=model_selection.KFold(3)),
    compose.ColumnTransformer([("s", preprocessing.StandardScaler(), [0, 1]), ("t", SCORED, slice(2, None))], n_jobs=1),
    compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.log, inverse_func=np.exp),
    pipeline.Pipeline([("s", "passthrough"), ("p", pipeline.Pipeline([("m", svm.SVR(C=3))]))]),
    pipeline.FeatureUnion([("a", decomposition.PCA(2)), ("b", "drop")], transformer_weights={"a": 2}),
    model_selection.GridSearchCV(svm.SVR(), {"C": [1, 10], "kernel": ["rbf"]}, cv=model_selection.ShuffleSplit(2)),
    model_selection.GridSearchCV(svm.SVR(), [{"C": range(1, 4)}, {"gamma": np.array([0.5, 1.5])}]),
    calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), method="isotonic"),
    gp.GaussianProcessRegressor(2.0 * kernels.RBF([1.0, 2.0], (1e-3, 1e3)) + kernels.WhiteKernel()),
    base.clone(impute.KNNImputer(n_neighbors=2)),
]  # fmt: skip


def shown(value: Any) -> str:
    """Everything that an estimator was made with; reprs leave nothing out."""
    if hasattr(value, "get_params"):
        parameters = sorted(value.get_params(deep=False).items())
        return f"{type(value)}({', '.join(f'{name}={shown(item)}' for name, item in parameters)})"
    if type(value) in (list, tuple):
        return f"{type(value).__name__}({', '.join(map(shown, value))})"
    if isinstance(value, dict):
        return f"dict({sorted(f'{shown(key)}: {shown(item)}' for key, item in value.items())})"
    if isinstance(value, set):
        return f"set({sorted(map(shown, value))})"
    if isinstance(value, np.generic):
        value = value.item()
    if type(value).__module__.startswith("sklearn.model_selection"):
        return f"{type(value)}({vars(value)})"
    return repr(value)


@pytest.mark.parametrize("made", OPERATORS, ids=lambda made: type(made).__name__)
def test_an_operator_comes_back_from_json_as_it_was(made: Any) -> None:
    plain = json.loads(json.dumps(to_plain(made), allow_nan=False))
    back = operator(plain)
    assert type(back) is type(made)
    assert shown(back) == shown(made)
    assert to_plain(back) == plain


def test_every_estimator_of_sklearn_comes_back_from_json() -> None:
    from sklearn.utils.discovery import all_estimators

    for name, cls in all_estimators():
        try:
            made = cls()
        except TypeError:  # it needs others, as those above
            continue
        assert to_plain(made) == {"class": name_of(cls)}, name
        assert shown(operator(to_plain(made))) == shown(made)


SPLITTERS: list[Any] = [
    model_selection.KFold(3, shuffle=True, random_state=1),
    model_selection.RepeatedKFold(n_splits=3, n_repeats=2, random_state=1),
    model_selection.RepeatedStratifiedKFold(n_splits=4),
    model_selection.ShuffleSplit(4, test_size=0.25, random_state=0),
    model_selection.GroupShuffleSplit(2, train_size=5),
    model_selection.LeavePOut(2),
    model_selection.LeaveOneGroupOut(),
    model_selection.TimeSeriesSplit(gap=2),
    model_selection.PredefinedSplit(np.array([0, 0, 1, -1])),
]


@pytest.mark.parametrize("made", SPLITTERS, ids=lambda made: type(made).__name__)
def test_a_splitter_comes_back_though_it_tells_no_parameters(made: Any) -> None:
    back = operator(json.loads(json.dumps(to_plain(made))))
    assert type(back) is type(made)
    assert {name: repr(value) for name, value in vars(back).items()} == {n: repr(v) for n, v in vars(made).items()}


def test_transformers_for_spectra_come_back() -> None:
    for name, params in [
        ("chemotools.baseline.AirPls", {"lam": 50}),
        ("chemotools.derivative.SavitzkyGolay", {"window_size": 7, "derivate_order": 1}),
        ("chemotools.scatter.StandardNormalVariate", {}),
    ]:
        made = operator({"class": name, "params": params})
        assert to_plain(made) == ({"class": name, "params": params} if params else {"class": name})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.builds(slice, st.none() | st.integers(), st.integers()) | st.builds(range, st.integers(), st.integers())
    | st.frozensets(st.integers() | st.text()).map(set) | st.just(np.exp)
    | st.lists(st.floats(), min_size=1).map(np.array) | st.lists(st.text(max_size=4), min_size=1).map(np.array),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner)
    | st.dictionaries(st.integers() | st.sampled_from(["class", "tuple", "array"]), inner),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_any_value_of_a_parameter_comes_back_through_json(value: Any) -> None:
    written = to_plain(preprocessing.FunctionTransformer(kw_args=value))
    assert shown(from_plain(json.loads(json.dumps(written, allow_nan=False))).kw_args) == shown(value)


def test_a_class_that_no_other_process_finds_is_refused() -> None:
    class Mine(linear_model.Ridge):  # type: ignore[misc]
        pass

    with pytest.raises(InvalidValueError, match=r"step 1 is a class .*Mine\) that JSON cannot hold"):
        to_plain([Mine()])
    assert to_plain(Mine(2.0), strict=False)["params"] == {"alpha": 2.0}, "people may still read it"


@pytest.mark.campaign
def test_equal_configurations_give_the_same_json_in_every_process(in_new_process: Any) -> None:
    code = """
import json, numpy, sys
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import FunctionTransformer
from artifactdb.estimators.configuration import to_plain
words = {"the", "and", "of", "to", "in", "a"}
steps = [CountVectorizer(stop_words=words), FunctionTransformer(lambda x: x), object()]
print(json.dumps(to_plain(steps, strict=False)))
"""
    first, second = in_new_process(code), in_new_process(code, PYTHONHASHSEED="1")
    assert first == second and "0x" not in first and "lambda" in first


def test_what_json_cannot_hold_is_named_with_its_place() -> None:
    steps = [preprocessing.MinMaxScaler(), model_selection.KFold(3), preprocessing.FunctionTransformer(len)]
    with pytest.raises(InvalidValueError, match="step 3: func of FunctionTransformer is a function"):
        to_plain(steps)
    with pytest.raises(InvalidValueError, match=r"step 1: random_state of KFold is .*RandomState.*Give a number"):
        to_plain({"pipeline": [model_selection.KFold(3, shuffle=True, random_state=np.random.RandomState(0))]})
    loose = to_plain(steps, strict=False)
    assert loose[2]["params"] == {"func": {"repr": "<built-in function len>"}}
    with pytest.raises(InvalidValueError, match=r"cannot hold.*Give the object again"):
        operator(loose[2])


def test_parameters_that_are_not_there_are_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidValueError, match=r"Ridge has no parameter 'alhpa'. Did you mean alpha"):
        operator({"class": "sklearn.linear_model.Ridge", "params": {"alhpa": 1}})
    with pytest.raises(InvalidValueError, match=r"KFold has no parameter 'folds'. .*n_splits"):
        operator({"class": "sklearn.model_selection.KFold", "params": {"folds": 3}})
    with pytest.raises(InvalidValueError, match="KFold cannot be made"):
        operator({"class": "sklearn.model_selection.KFold", "params": {"n_splits": 1}})
    with pytest.raises(InvalidValueError, match="params of Ridge is a dict"):
        operator({"class": "sklearn.linear_model.Ridge", "params": [1]})


def test_a_class_that_hands_its_parameters_on_comes_back_with_all_of_them(stranger: Any) -> None:
    # As the estimators of xgboost and lightgbm do, which are not installed here.
    made = operator({"class": "stranger.Boosted", "params": {"rate": 0.5, "unheard_of": 1}}, ["stranger"])
    assert made.get_params() == {"depth": 6, "rate": 0.5, "objective": "squares", "unheard_of": 1}
    assert to_plain(made) == {"class": "stranger.Boosted", "params": {"rate": 0.5, "unheard_of": 1}}
    assert operator(to_plain(made), ["stranger"]).get_params() == made.get_params()


def test_parameters_beside_an_operator_are_read_like_those_within() -> None:
    scaler = preprocessing.MinMaxScaler(clip=True).fit(np.eye(2))
    made = with_params(scaler, {"feature_range": [0, 2]})
    assert (made.feature_range, made.clip, hasattr(made, "scale_")) == ((0, 2), True, False)
    assert scaler.feature_range == (0, 1), "the one that was given stays as it is"
    bagging = ensemble.BaggingRegressor(linear_model.Ridge())
    assert with_params(bagging, {"estimator__alpha": {"float": "inf"}}).estimator.alpha == float("inf")
    assert isinstance(with_params(bagging, {"estimator": {"class": "sklearn.svm.SVR"}}).estimator, svm.SVR)
    folds = with_params(model_selection.KFold(4, shuffle=True), {"random_state": 3})
    assert (folds.n_splits, folds.shuffle, folds.random_state) == (4, True, 3)
    for wrong, said in [
        ({"alhpa": 1}, "Ridge has no parameter 'alhpa'. Did you mean alpha"),
        ({"alpha": {"class": "os.system"}}, "may not be named"),
        ([1], "params of Ridge is a dict"),
    ]:
        with pytest.raises(InvalidValueError, match=said):
            with_params(linear_model.Ridge(), wrong)
    with pytest.raises(InvalidValueError, match="pickles"):
        with_params(ensemble.BaggingRegressor(pipeline.Pipeline([])), {"estimator__memory": "/tmp/theirs"})


def test_a_list_serves_where_the_default_is_a_tuple() -> None:
    assert operator({"class": NAMED, "params": {"feature_range": [0, 2]}}).feature_range == (0, 2)
    assert operator({"class": "sklearn.linear_model.RidgeCV", "params": {"alphas": [1, 2]}}).alphas == (1, 2)


def test_a_folder_of_pickles_may_not_be_named() -> None:
    with pytest.raises(InvalidValueError, match="joblib would load whatever pickles"):
        operator({"class": "sklearn.pipeline.Pipeline", "params": {"steps": [], "memory": "/tmp/theirs"}})


EVIL = "/tmp/theirs"
SEARCHES = [("GridSearchCV", "param_grid"), ("RandomizedSearchCV", "param_distributions"),
            ("HalvingGridSearchCV", "param_grid"), ("HalvingRandomSearchCV", "param_distributions")]  # fmt: skip
PIPELINE = to_plain(pipeline.Pipeline([("s", preprocessing.StandardScaler()), ("r", linear_model.Ridge())]))


@pytest.mark.parametrize(
    "grid",
    [
        {"memory": [EVIL]}, {"memory": EVIL}, {"estimator__r__memory": [None, EVIL]}, {"memory": {"tuple": [EVIL]}},
        [{"r__alpha": [1.0]}, {"memory": [EVIL]}], {"dict": [["memory", [EVIL]]]}, {"memory": {"set": [EVIL]}},
        {"memory": {"array": [EVIL], "dtype": "<U20"}}, {"memory": {"array": [EVIL], "dtype": "object"}},
        {"memory": {"dict": [[0, EVIL]]}}, {"memory": {"array": EVIL, "dtype": "str"}}, {"memory": [[[EVIL]]]},
        {"dict": {"array": [["memory", EVIL]], "dtype": "<U20"}}, {"memory": {"array": [EVIL], "dtype": "<U9,<U9"}},
        {"param_grid": [[{"memory": [EVIL]}]]}, {"tuple": [{"a": 1}, {"x": {"memory": [EVIL]}}]},
        {"array": [{"memory": [EVIL]}], "dtype": "object"}, {"memory": {"input": [EVIL]}},
        {"memory": {"slice": [EVIL, None, None]}}, {"memory": ({"tuple": [EVIL]},)},
    ],
)  # fmt: skip
def test_nor_may_a_search_name_one_in_its_grid(grid: Any) -> None:
    for search, key in SEARCHES:
        hidden = {"class": f"sklearn.model_selection.{search}", "params": {"estimator": PIPELINE, key: grid}}
        for ask in (operator, from_plain):
            with pytest.raises(InvalidValueError, match=r"memory of .*joblib would load whatever pickles"):
                ask(hidden)
        with pytest.raises(InvalidValueError, match="pickles"):
            operator({"class": "sklearn.ensemble.BaggingRegressor", "params": {"estimator": hidden}})
    given_ = model_selection.GridSearchCV(pipeline.Pipeline([("r", linear_model.Ridge())]), {"r__alpha": [1.0]})
    for params in ({"param_grid": grid}, {"estimator": hidden}, {"estimator__steps": [["g", hidden]]}):
        with pytest.raises(InvalidValueError, match="pickles"):
            with_params(given_, params)
    with pytest.raises(InvalidValueError, match="pickles"):
        with_params(ensemble.BaggingRegressor(given_), {"estimator__param_grid": grid})


def test_nor_a_class_that_keeps_it_under_another_name(stranger: Any, tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text(
        "from sklearn.pipeline import Pipeline\n"
        "class Cached(Pipeline):\n"
        "    def __init__(self, folder=None): self.folder = folder\n"
        "    def get_params(self, deep=True): return {'folder': self.folder, 'memory': self.folder}\n"
        "    def set_params(self, folder=None, memory=None): self.folder = folder; return self\n"
    )
    assert operator("stranger.Cached", ["stranger"]).folder is None
    with pytest.raises(InvalidValueError, match=r"memory of Cached .*pickles"):
        operator({"class": "stranger.Cached", "params": {"folder": EVIL}}, ["stranger"])


def test_what_people_give_from_python_may_keep_a_folder(tmp_path: Path) -> None:
    mine = pipeline.Pipeline([("r", linear_model.Ridge())], memory=str(tmp_path))
    made = with_params(mine, {"r__alpha": 3.0})
    assert (made.memory, made.get_params()["r__alpha"]) == (str(tmp_path), 3.0)
    search = model_selection.GridSearchCV(mine, {"memory": [None, str(tmp_path)]})
    assert with_params(search, {"cv": 3}).param_grid == {"memory": [None, str(tmp_path)]}
    bagging = operator({"class": "sklearn.ensemble.BaggingRegressor", "params": {"estimator": search}})
    assert bagging.estimator is search
    with pytest.raises(InvalidValueError, match="pickles"):
        with_params(mine, {"memory": EVIL})
    grid = {"memory": [None], "r__alpha": {"array": [1.0, 2.0], "dtype": "float64"}}
    params = {"estimator": PIPELINE, "param_grid": grid}
    assert operator({"class": "sklearn.model_selection.GridSearchCV", "params": params}).param_grid["memory"] == [None]


@pytest.mark.parametrize("name", ["CountVectorizer", "TfidfVectorizer", "HashingVectorizer"])
@pytest.mark.parametrize("kind", ["filename", "file"])
def test_texts_may_not_be_read_from_files_that_the_samples_name(name: str, kind: str) -> None:
    cls = f"sklearn.feature_extraction.text.{name}"
    with pytest.raises(InvalidValueError, match=f"input of {name} is '{kind}'.*files"):
        operator({"class": cls, "params": {"input": kind}})
    steps = {"class": "sklearn.pipeline.Pipeline", "params": {"steps": [{"tuple": ["v", {"class": cls}]}]}}
    for search, key in SEARCHES:
        for grid in ({"v__input": [kind]}, [{"v__input": {"array": ["content", kind], "dtype": "<U8"}}]):
            params = {"estimator": steps, key: grid}
            with pytest.raises(InvalidValueError, match=f"v__input of {search} is '{kind}'.*files"):
                operator({"class": f"sklearn.model_selection.{search}", "params": params})
    with pytest.raises(InvalidValueError, match="files"):
        with_params(operator(steps), {"v__input": kind})
    assert operator({"class": cls, "params": {"input": "content"}}).input == "content"


@pytest.mark.parametrize(
    "form",
    [
        {"float": "1.5"}, {"float": 1.5}, {"array": [1, "a"], "dtype": "float64"}, {"array": [1], "dtype": "no"},
        {"slice": [1, 2, 3, 4]}, {"slice": 3}, {"range": ["a"]}, {"tuple": 3}, {"set": [[1]]}, {"dict": [1, 2]},
        {"type": "os.system"}, {"type": "eval"}, {"type": "numpy.load"}, {"type": 3}, {"function": 3}, {"class": 3},
        {"array": [2**70], "dtype": "int64"},
    ],
)  # fmt: skip
def test_forms_that_say_nonsense_are_refused(form: Any) -> None:
    with pytest.raises(InvalidValueError):
        from_plain(form)


def test_only_exact_forms_are_forms() -> None:
    for value in ({"tuple": [1], "more": 1}, {"params": {}}, {"array": [1]}, {}, "sklearn.linear_model.Ridge"):
        assert from_plain(value) == value


@pytest.mark.parametrize(
    "value",
    [None, 3, [], {}, "", {"class": NAMED, "parms": {}}, {"model": NAMED}, object(), str, len, kernels.RBF(),
     np.zeros(3), {"tuple": [1]}, {"class": "sklearn.gaussian_process.kernels.RBF"}],
)  # fmt: skip
def test_what_is_no_operator_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValueError):
        operator(value)


def test_an_operator_may_be_an_object_a_class_a_name_or_a_dict() -> None:
    made = linear_model.Ridge(2.0)
    assert operator(made) is made
    for value in (linear_model.Ridge, "sklearn.linear_model.Ridge", {"class": "sklearn.linear_model._ridge.Ridge"}):
        assert shown(operator(value)) == shown(linear_model.Ridge())


def test_depth_without_end_is_refused() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    endless: list[Any] = []
    endless.append(endless)
    for value in (deep, endless):
        for ask in (to_plain, from_plain, expand, count):
            with pytest.raises(InvalidValueError, match="nested too deeply"):
                ask(value)
        with pytest.raises(InvalidValueError, match="nested too deeply"):
            with_params(linear_model.Ridge(), {"alpha": value})


# Alternatives


def test_without_alternatives_a_configuration_stands_for_itself_and_nothing_is_copied() -> None:
    scaler, data = preprocessing.MinMaxScaler(), np.zeros(3)
    steps = [scaler, {"y_processing": scaler}, {"class": "X", "params": {"a": [1, 2]}}, {"model": scaler, "note": data}]
    for given_ in (
        steps,
        tuple(steps),
        {"pipeline": steps},
        {"steps": steps, "name": "mine"},
        to_plain({"steps": steps}),
    ):
        assert count(given_) == 1
    (made,) = expand(steps)
    assert (
        made == steps
        and made[2] is steps[2]
        and made[0] is scaler
        and made[1]["y_processing"] is scaler
        and made[3]["note"] is data
    )


def test_the_last_alternative_varies_fastest() -> None:
    assert expand([{"_or_": ["a", "b"]}, "x", {"_or_": [1, 2, 3]}]) == [
        ["a", "x", 1], ["a", "x", 2], ["a", "x", 3], ["b", "x", 1], ["b", "x", 2], ["b", "x", 3],
    ]  # fmt: skip


def test_tuples_of_steps_branches_and_names_are_lists_also_as_json_has_them() -> None:
    scaler, pca = preprocessing.MinMaxScaler(), decomposition.PCA(2)
    steps = (scaler, {"branch": ([pca, None], [])}, {"model": "m", "source_models": ("a", "b")})
    wanted = [scaler, {"branch": [[pca], []]}, {"model": "m", "source_models": ["a", "b"]}]
    for given_ in (steps, list(steps), {"pipeline": steps}):
        assert expand(given_) == [wanted]
        (made,) = expand(json.loads(json.dumps(to_plain(given_))))
        assert made == to_plain(wanted)
    named = {"branch": {"x": (pca,), "y": ()}}
    assert expand([named]) == [[{"branch": {"x": [pca], "y": []}}]]
    stacks = {"_or_": [("a", "b"), "all", ["c"], None]}
    made = expand([{"meta_model": "m", "source_models": stacks}])
    assert [step[0]["source_models"] for step in made] == [["a", "b"], "all", ["c"], None]


def test_branches_with_names_as_they_are_stored_are_read_like_others() -> None:
    model = {"model": "m", "params": {"sizes": [[7, 8]], "n": {"_range_": [1, 2]}}}
    given_ = [{"branch": [{"name": "x", "steps": (model, None)}, {"name": "y", "steps": []}]}]
    made = [step[0]["branch"] for step in expand(given_)]
    assert made[1] == [
        {"name": "x", "steps": [{"model": "m", "params": {"sizes": [7, 8], "n": 2}}]}, {"name": "y", "steps": []},
    ]  # fmt: skip
    assert len(made) == 2


def test_a_step_that_is_none_is_left_out() -> None:
    assert expand([None, "a"]) == [["a"]]
    assert expand([{"_or_": ["snv", None]}, "m"]) == [["snv", "m"], ["m"]]
    assert expand([{"preprocessing": {"_or_": ["snv", None]}}, "m"]) == [[{"preprocessing": "snv"}, "m"], ["m"]]
    assert expand([["a", {"_or_": ["b", None]}], "m"]) == [[["a", "b"], "m"], [["a"], "m"]]
    assert expand([[{"_or_": ["b", None]}], "m"]) == [[["b"], "m"], ["m"]]
    # A branch without steps hands on what it is given.
    assert expand([{"branch": [["a", None], [None]]}]) == [[{"branch": [["a"], []]}]]
    # None as a value is a value.
    assert expand([{"class": "F", "params": {"depth": {"_or_": [None, 2]}}}])[0] == [
        {"class": "F", "params": {"depth": None}}
    ]


@pytest.mark.parametrize(
    ("generator", "values"),
    [
        ({"_range_": [1, 25, 5]}, [1, 6, 11, 16, 21]),
        ({"_range_": [1, 3]}, [1, 2, 3]),
        ({"_range_": [5, 1, -2]}, [5, 3, 1]),
        ({"_range_": [2, 2]}, [2]),
        ({"_range_": [0.1, 0.5, 0.1]}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"_range_": [0, 1, 0.25]}, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ({"_log_range_": [0.001, 10, 5]}, [0.001, 0.01, 0.1, 1.0, 10.0]),
        ({"_log_range_": [10, 1000, 3]}, [10, 100, 1000]),
        ({"_log_range_": [4, 4, 1]}, [4]),
        ({"_or_": [{"_range_": [1, 2]}, {"_or_": ["x", None]}]}, [1, 2, "x", None]),
    ],
)
def test_ranges_have_their_last_and_keep_whole_numbers_whole(generator: Any, values: Any) -> None:
    made = [step[0]["params"]["n"] for step in expand([{"class": "P", "params": {"n": generator}}])]
    assert made == pytest.approx(values) if isinstance(values[0], float) else made == values
    assert [type(one) for one in made] == [type(one) for one in values]


@given(st.integers(-50, 50), st.integers(1, 9), st.integers(0, 30))
def test_a_range_of_decimals_neither_misses_its_last_nor_drifts(first: int, step: int, size: int) -> None:
    numbers = [(first + index * step) / 10 for index in range(size + 1)]
    assert expand([{"_range_": [first / 10, (first + size * step) / 10, step / 10]}]) == [[one] for one in numbers]


def test_beside_a_model_lists_are_alternatives_and_within_a_class_they_are_values() -> None:
    grid = {
        "model": "pls",
        "params": {"n": [1, 2], "shape": (3, 4), "json": {"tuple": [5]}, "scale": False, "sizes": [[7, 8]]},
    }
    rest = {"shape": (3, 4), "json": {"tuple": [5]}, "scale": False, "sizes": [7, 8]}
    assert expand([grid]) == [[{"model": "pls", "params": {"n": n, **rest}}] for n in (1, 2)]
    assert count([{"model": {"class": "P", "params": {"n": [1, 2]}}}]) == 1
    for key in ("meta_model", "transformer", "preprocessing", "y_processing"):
        assert count([{key: "x", "params": {"a": [1, 2], "b": {"_range_": [1, 3]}}}]) == 6
    # Several grids, as scikit-learn's ParameterGrid takes them.
    assert count([{"model": "m", "params": [{"a": [1, 2]}, {"b": [1, 2, 3]}]}]) == 5


def test_beside_a_model_an_array_or_a_range_is_a_list_of_alternatives() -> None:
    params = {"a": np.logspace(-1, 1, 3), "n": range(1, 3), "t": (1, 2), "square": np.eye(2), "one": [np.ones(2)]}
    for given_ in ([{"model": "m", "params": params}], to_plain([{"model": "m", "params": params}])):
        made = [step[0]["params"] for step in expand(given_)]
        assert [(one["a"], one["n"]) for one in made] == [(a, n) for a in (0.1, 1.0, 10.0) for n in (1, 2)]
        assert {(type(one["a"]), type(one["n"])) for one in made} == {(float, int)}
        assert [[shown(from_plain(one[key])) for key in ("t", "square", "one")] for one in made] == [
            ["tuple(1, 2)", shown(np.eye(2)), shown(np.ones(2))]
        ] * 6
    assert expand([{"model": "m", "params": {"k": np.array(["u", "v"])}}])[1] == [{"model": "m", "params": {"k": "v"}}]
    within = {"class": "P", "params": {"a": np.ones(2)}}
    assert count([within]) == count([{"model": within}]) == 1, "within a class it is a value"
    for empty in (np.array([]), range(0), {"range": [0, 0, 1]}, {"array": [], "dtype": "float64"}):
        with pytest.raises(InvalidValueError, match="no alternatives"):
            expand([{"model": "m", "params": {"a": empty}}])
    for many in (range(10**9), {"range": [0, 10**9, 1]}):
        with pytest.raises(InvalidValueError, match="1,000,000,000 values"):
            expand([{"model": "m", "params": {"a": many}}])
    with pytest.raises(InvalidValueError, match="cannot be read"):
        expand([{"model": "m", "params": {"a": {"range": ["a"]}}}])


def test_a_range_beside_a_model_goes_into_its_parameters() -> None:
    made = expand([{"_range_": [1, 25, 5], "param": "n_components", "model": {"class": "P"}, "name": "PLS"}])
    assert made[1] == [{"model": {"class": "P"}, "name": "PLS", "params": {"n_components": 6}}]
    assert len(made) == 5
    assert count([{"_or_": [1, 2], "param": "n", "model": "P", "params": {"m": [1, 2]}}]) == 4


def test_alternatives_stand_in_branches_and_keys() -> None:
    assert expand([{"branch": [[{"_or_": ["a", "b"]}], ["c"]]}]) == [
        [{"branch": [["a"], ["c"]]}],
        [{"branch": [["b"], ["c"]]}],
    ]
    assert expand([{"branch": {"x": [{"_or_": ["a", "b"]}], "y": []}}])[1] == [{"branch": {"x": ["b"], "y": []}}]
    assert count([{"branch": {"_or_": [[["a"]], [["b"], ["c"]]]}}, {"model": {"_or_": ["p", "q"]}, "name": "m"}]) == 4
    assert expand([{"class": {"_or_": ["A", "B"]}, "params": {"n": 1}}])[1] == [{"class": "B", "params": {"n": 1}}]


STEPS = st.recursive(
    st.sampled_from(["a", "b", "c"]),
    lambda inner: st.builds(lambda options: {"_or_": options}, st.lists(inner, min_size=1, max_size=3))
    | st.builds(lambda n: {"model": "m", "params": {"n": {"_range_": [1, n]}}}, st.integers(1, 3))
    | st.builds(lambda one, two: {"branch": [[one], [two]]}, inner, inner),
    max_leaves=6,
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=3))
def test_what_is_counted_is_made_and_has_no_alternatives_left(steps: Any) -> None:
    made = expand(steps)
    assert len(made) == count(steps)
    assert all(count(one) == 1 and expand(one) == [one] for one in made)
    assert not any(key in json.dumps(made) for key in ("_or_", "_range_"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([{"_or_": []}], "no alternatives"),
        ([{"_or_": "ab"}], "no alternatives"),
        ([{"model": "m", "params": {"a": []}}], "no alternatives"),
        ([{"_range_": [1, 3, 0]}], "has no value"),
        ([{"_range_": [3, 1]}], "has no value"),
        ([{"_range_": [1]}], "does not take"),
        ([{"_range_": ["1", 3]}], "does not take"),
        ([{"_range_": [True, 3]}], "does not take"),
        ([{"_range_": [0, float("inf")]}], "does not take"),
        ([{"_log_range_": [0, 1, 3]}], "positive"),
        ([{"_log_range_": [1, 10, 2.5]}], "whole number"),
        ([{"_or_": ["a", "b"], "size": 2}], "'size'"),
        ([{"_range_": [1, 3], "param": "n"}], "'param'"),
        ("sklearn.linear_model.Ridge", "list of steps"),
        ({"model": "m"}, "pipeline"),
        (None, "list of steps"),
    ],
)
def test_alternatives_that_cannot_be_read_say_why(wrong: Any, said: str) -> None:
    with pytest.raises(InvalidValueError, match=said):
        expand(wrong)


def test_too_many_pipelines_are_refused_with_their_number_before_any_is_made() -> None:
    ranges = {name: {"_range_": [1, 1000]} for name in "abcd"}
    with pytest.raises(InvalidValueError, match=r"1,000,000,000,000 pipelines"):
        expand([{"model": "m", "params": ranges}])
    with pytest.raises(InvalidValueError, match=r"1,000,000,000 values"):
        expand([{"model": "m", "params": {"a": {"_range_": [1, 10**9]}}}])
    assert len(expand([{"_range_": [1, 100_000]}])) == 100_000


def test_the_configurations_that_nirs4all_wrote_are_read() -> None:
    pipelines = sorted((Path(__file__).parent / "data" / "nirs4all-0.6.2" / "pipelines").glob("*.json"))
    assert pipelines
    for path in pipelines:
        steps = json.loads(path.read_text())
        assert expand(steps) == [steps]
    first = json.loads(pipelines[0].read_text())
    assert [type(operator(step)).__name__ for step in (first[0], first[2], first[3]["model"])] == [
        "MinMaxScaler", "KFold", "PLSRegression",
    ]  # fmt: skip
