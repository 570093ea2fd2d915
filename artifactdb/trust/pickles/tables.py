"""Names of classes and functions that are known: what may be made and held, and what has no place in an object.

Collected from the documentation and the tables of picklescan, fickling and modelscan, and from what scikit-learn, numpy
and scipy offer. A table of dangerous names is never complete; see ``known``.
"""

from __future__ import annotations

import re
from typing import Final


def words(text: str) -> frozenset[str]:
    """Read words that are set apart by white space."""
    return frozenset(text.split())


def table(text: str) -> dict[str, frozenset[str]]:
    """Read "module: name name ..." as often as it comes, over lines of any length."""
    read: dict[str, set[str]] = {}
    for word in text.split():
        if word.endswith(":"):
            names = read.setdefault(word[:-1], set())
        else:
            names.add(word)
    return {module: frozenset(names) for module, names in read.items()}


DANGEROUS_MODULES: Final = words(
    # Processes, files, native code
    """os posix nt posixpath ntpath subprocess _posixsubprocess pty commands popen2 multiprocessing _multiprocessing
    concurrent signal shutil tempfile fileinput mmap ctypes _ctypes cffi fcntl resource faulthandler """
    # Code from text, bytes or a name
    """sys importlib imp _imp _frozen_importlib _frozen_importlib_external pkgutil zipimport runpy code codeop marshal
    pickle _pickle cPickle pickletools shelve dill cloudpickle inspect site atexit gc _thread _testcapi """
    # Tools that run what they are given, or would have a scanner look away
    """pip ensurepip venv setuptools distutils pkg_resources _distutils_hack pdb bdb trace timeit profile cProfile
    doctest unittest test idlelib pydoc lib2to3 asyncio sched cmd _pyrepl _osx_support _aix_support antigravity numba
    cython Cython pyximport pytest _pytest IPython picklescan fickling modelscan """
    # Network
    """socket _socket ssl _ssl http urllib urllib2 urllib3 httplib ftplib smtplib poplib imaplib nntplib telnetlib
    xmlrpc socketserver requests aiohttp httpx webbrowser paramiko"""
)
"""Modules of which nothing has a place in a stored object, with all that is below them."""

DANGEROUS_BELOW: Final = words(
    """
    artifactdb.cli artifactdb.interop artifactdb.runner artifactdb.formats artifactdb.estimators
    artifactdb.workspace joblib.externals joblib.parallel joblib.memory joblib._parallel_backends
    joblib.numpy_pickle_compat numpy.f2py numpy.distutils numpy.testing numpy.ctypeslib numpy._pytesttester
    numpy.compat numpy.conftest numpy.lib.format numpy.lib._format_impl numpy.lib._datasource numpy.lib.utils
    numpy.lib._utils_impl numpy.lib.npyio numpy.lib._npyio_impl sklearn.externals sklearn.datasets
    sklearn.conftest sklearn._build_utils sklearn.utils._testing sklearn.utils.discovery
    sklearn.utils.estimator_checks sklearn.utils._mocking sklearn.utils._show_versions sklearn.utils._test_common
    sklearn.utils._optional_dependencies sklearn.utils.parallel scipy.io scipy.datasets scipy._lib._testutils
    scipy._lib._ccallback scipy.weave scipy.conftest pandas.io pandas.core.computation pandas.compat.pickle_compat
    pandas.testing pandas._testing pandas.conftest torch.hub torch.jit torch.package torch._dynamo torch._inductor
    torch.compile torch.serialization torch.fx torch.utils.cpp_extension torch.utils.collect_env
    torch.utils._config_module torch.utils.bottleneck torch.utils.data.datapipes torch.distributed
    torch.multiprocessing torch.testing torch.onnx tensorflow keras
    """
)
"""Parts of packages that are otherwise welcome: they run, load, fetch, test or build."""

DANGEROUS_NAMES: Final = table(
    """
    builtins: eval exec compile __import__ getattr setattr delattr open input breakpoint globals locals vars apply
        execfile file reload help exit quit
    io: open open_code FileIO
    _io: open open_code FileIO
    types: FunctionType LambdaType CodeType MethodType ModuleType new_class coroutine
    operator: attrgetter methodcaller call
    _operator: attrgetter methodcaller call
    functools: reduce
    copyreg: pickle constructor add_extension remove_extension clear_extension_cache
    logging: FileHandler
    logging.config: dictConfig fileConfig listen
    threading: Thread Timer settrace setprofile
    codecs: open lookup register register_error EncodedFile
    _codecs: lookup register register_error
    uuid: _get_command_stdout _popen
    collections: namedtuple
    sqlite3: connect
    torch: load compile
    torch.storage: _load_from_bytes
    """
)
DANGEROUS_WITHIN: Final = table(
    """
    numpy: load loadtxt genfromtxt fromfile fromregex save savetxt savez savez_compressed memmap open_memmap DataSource
        tofile dump _dump source lookfor info vectorize frompyfunc apply_along_axis apply_over_axes piecewise
        fromfunction runstring seterrcall add_docstring add_newdoc test
    joblib: load dump Parallel delayed Memory register_compressor
    sklearn: load_files show_versions all_estimators import_module available_if _check_response_method
        _get_response_values _get_response _safe_indexing PyFuncDistance PyFuncDistance32 PyFuncDistance64
    scipy: LowLevelCallable loadmat savemat mmread mmwrite load_npz save_npz test
    pandas: read_pickle to_pickle eval read_csv read_hdf read_sql read_html read_xml
    """
)
"""Names of a package wherever in it they are asked for."""

REACHED: Final = words(
    """
    os sys posix nt subprocess builtins importlib ctypes pickle marshal socket shutil runpy pty pip
    """
)
"""Modules that packages import, and so have as attributes."""

MAKERS: Final = table(
    """
    builtins: bool int float complex str bytes bytearray list tuple set frozenset dict object slice range
    copyreg: _reconstructor __newobj__ __newobj_ex__
    _codecs: encode
    collections: OrderedDict defaultdict deque Counter
    datetime: date datetime time timedelta timezone
    decimal: Decimal
    fractions: Fraction
    artifactdb.artifacts.composite: Composite Part
    joblib.numpy_pickle: NumpyArrayWrapper
    numpy: ndarray dtype matrix bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 intc uintc longlong
        ulonglong float16 float32 float64 longdouble complex64 complex128 clongdouble str_ bytes_ void record
        datetime64 timedelta64
    numpy._core.multiarray: _reconstruct scalar
    numpy.core.multiarray: _reconstruct scalar
    numpy._core.numeric: _frombuffer
    numpy.core.numeric: _frombuffer
    numpy.ma: MaskedArray
    numpy.ma.core: MaskedArray _mareconstruct
    numpy.random.mtrand: RandomState
    numpy.random._generator: Generator
    numpy.random._mt19937: MT19937
    numpy.random._pcg64: PCG64 PCG64DXSM
    numpy.random._philox: Philox
    numpy.random._sfc64: SFC64
    numpy.random.bit_generator: SeedSequence __pyx_unpickle_SeedSequence
    numpy.random._pickle: __randomstate_ctor __generator_ctor __bit_generator_ctor
    scipy.sparse._csr: csr_matrix csr_array
    scipy.sparse._csc: csc_matrix csc_array
    scipy.sparse._coo: coo_matrix coo_array
    scipy.sparse._bsr: bsr_matrix bsr_array
    scipy.sparse._dia: dia_matrix dia_array
    scipy.sparse._lil: lil_matrix lil_array
    scipy.interpolate._bsplines: BSpline
    scipy.interpolate._interpolate: interp1d PPoly
    sklearn.utils._bunch: Bunch
    sklearn.utils: Bunch
    sklearn.tree._tree: Tree
    sklearn.neighbors._kd_tree: KDTree KDTree64 KDTree32 newObj
    sklearn.neighbors._ball_tree: BallTree BallTree64 BallTree32 newObj
    sklearn.linear_model._sgd_fast: Regression Classification ModifiedHuber Hinge SquaredHinge EpsilonInsensitive
        SquaredEpsilonInsensitive Log SquaredLoss Huber
    sklearn._loss._loss: CyHalfSquaredError CyAbsoluteError CyPinballLoss CyHuberLoss CyHalfPoissonLoss
        CyHalfGammaLoss CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHalfBinomialLoss CyExponentialLoss
        CyHalfMultinomialLoss __pyx_unpickle_CyHalfMultinomialLoss
    sklearn._loss.link: Interval
    sklearn.metrics._dist_metrics: newObj
    sklearn.calibration: _CalibratedClassifier
    sklearn.cluster._birch: _CFNode _CFSubcluster
    sklearn.cluster._bisect_k_means: _BisectingTree
    sklearn.ensemble._hist_gradient_boosting.predictor: TreePredictor
    sklearn.impute._iterative: _ImputerTriplet
    sklearn.neural_network._stochastic_optimizers: AdamOptimizer SGDOptimizer
    sklearn.utils._metadata_requests: MetadataRequest MethodMetadataRequest
    """
)
"""Types, and functions that put objects together: a stream may call them."""

DISTANCES: Final = re.compile(
    r"(Euclidean|SEuclidean|Manhattan|Chebyshev|Minkowski|Mahalanobis|Hamming|Canberra|BrayCurtis|Jaccard|Matching|Dice"
    r"|Kulsinski|RogersTanimoto|RussellRao|SokalMichener|SokalSneath|Haversine)Distance(32|64)?"
)
"""Classes of sklearn.metrics._dist_metrics, all but the one that calls a function."""

VALUES: Final = table(
    """
    numpy: mean median sum min max amin amax std var ptp abs absolute add subtract multiply divide true_divide power
        negative exp exp2 expm1 log log2 log10 log1p sqrt square cbrt reciprocal sin cos tan arcsin arccos arctan
        sinh cosh tanh arcsinh arccosh arctanh degrees radians deg2rad rad2deg sign floor ceil rint trunc fabs
        maximum minimum fmax fmin hypot isnan isfinite isinf clip nan_to_num logical_not asarray identity
    scipy._lib.array_api_compat.numpy._aliases: asarray
    scipy.special._ufuncs: expit logit xlogy
    sklearn.cluster._kmeans: _kmeans_single_lloyd _kmeans_single_elkan
    sklearn.feature_selection._univariate_selection: chi2 f_classif f_regression r_regression f_oneway
    sklearn.feature_selection._mutual_info: mutual_info_classif mutual_info_regression
    sklearn.metrics._regression: r2_score max_error median_absolute_error mean_absolute_error mean_squared_error
        mean_squared_log_error root_mean_squared_error root_mean_squared_log_error mean_absolute_percentage_error
        mean_poisson_deviance mean_gamma_deviance explained_variance_score d2_absolute_error_score
    sklearn.metrics._classification: accuracy_score balanced_accuracy_score precision_score recall_score f1_score
        fbeta_score jaccard_score matthews_corrcoef log_loss brier_score_loss cohen_kappa_score hamming_loss
        zero_one_loss
    sklearn.metrics._ranking: roc_auc_score average_precision_score top_k_accuracy_score
    """
)
"""Functions that an object may hold. A stream has no reason to call them."""

ROOTS: Final = frozenset(
    {
        "sklearn.base.BaseEstimator",
        "sklearn.model_selection._split.BaseCrossValidator",
        "sklearn.model_selection._split._MetadataRequester",
        "sklearn.utils._metadata_requests._MetadataRequester",
        "sklearn.gaussian_process.kernels.Kernel",
        "sklearn._loss.loss.BaseLoss",
        "sklearn._loss.link.BaseLink",
        "sklearn.metrics._scorer._BaseScorer",
    }
)
"""A class of an installed package that derives from one of these only keeps what it is given when it is made."""

CURATED: Final = ("sklearn", "chemotools", "numpy", "scipy", "joblib", "pandas", "torch", "artifactdb")
"""Packages so large that naming them whole does not vouch for each of their functions."""
ESTIMATORS_OF: Final = ("sklearn", "chemotools")
