"""What a restricted load changes: nothing but what the stream has made, and no attribute that is Python's."""

from __future__ import annotations

import pickle
import sys
import types

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from artifactdb.errors import UntrustedArtifactError
from artifactdb.trust.pickles import restricted
from artifactdb.trust.pickles.restricted import restricted_load
from tests.pickle_attacks import called, contained, found, pickled, text

RIDGE = pickle.dumps(Ridge(), 3)[2:-1]
ALLOW = ["sklearn.*", "numpy.*"]
NUMPY_TEXT = pickle.dumps(np.str_("__array__"), 3)[2:-1]


@pytest.mark.parametrize("setting", ["item", "items", "state", "slots"])
@pytest.mark.parametrize("kind", ["text", "text of numpy", "text of a class of its own"])
def test_no_attribute_of_python_is_set_whatever_kind_of_text_names_it(
    setting: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``numpy.asarray`` of a ``Bunch`` whose item ``__array__`` is a function would call it."""
    module = types.ModuleType("sklearn_like")
    module.Text = type("Text", (str,), {"__module__": "sklearn_like"})  # type: ignore[attr-defined]
    module.Plain = type("Plain", (), {"__module__": "sklearn_like"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sklearn_like", module)
    own = pickled(called(found("sklearn_like", "Text"), text("__array__")))[2:-1]
    key = {"text": text("__array__"), "text of numpy": NUMPY_TEXT, "text of a class of its own": own}[kind]
    bunch, plain = (called(found(*name)) for name in (("sklearn.utils._bunch", "Bunch"), ("sklearn_like", "Plain")))
    stream = {
        "item": pickled(bunch, key, b"Ns"),
        "items": pickled(bunch, b"(", key, b"Nu"),
        "state": pickled(plain, b"}", key, b"Nsb"),
        "slots": pickled(plain, b"N}", key, b"Ns\x86b"),
    }[setting]
    with pytest.raises(UntrustedArtifactError, match=r"the attribute '__array__'|is named by something of"):
        pytest.fail(f"it gave {vars(restricted_load(contained(stream), [*ALLOW, 'sklearn_like.*']))}")


def test_a_text_of_numpy_names_an_item_like_any_other() -> None:
    name = pickle.dumps(np.str_("alpha"), 3)[2:-1]
    stream = pickled(called(found("sklearn.utils._bunch", "Bunch")), name, b"Ns")
    assert restricted_load(contained(stream), ALLOW) == {"alpha": None}


ASKED_BY_COPY = ["__copy__", "__deepcopy__", "__getnewargs__", "__getnewargs_ex__", "__getstate__", "__reduce_ex__"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
@pytest.mark.parametrize("name", [*ASKED_BY_COPY, "__reduce__"])
def test_nothing_that_a_copy_would_call_is_set_by_a_class_that_takes_any_state(name: str) -> None:
    """Scikit-learn's ``__setstate__`` does, and a container is put together by a deep copy."""
    stream = pickled(
        found("sklearn.linear_model._ridge", "Ridge"), b")\x81}", text(name), found("numpy", "log1p"), b"sb"
    )
    with pytest.raises(UntrustedArtifactError, match=f"the attribute '{name}'"):
        restricted_load(contained(stream), ALLOW)


def test_nor_after_the_object_was_given_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("sklearn_like")
    keeps = type("Keeps", (), {"__module__": "sklearn_like", "__setstate__": lambda self, state: vars_of(self, state)})
    module.Keeps = keeps  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sklearn_like", module)
    late = b"}q\x01b0h\x01" + text("__deepcopy__") + found("numpy", "log1p") + b"s"
    stream = pickled(called(found("sklearn_like", "Keeps")), b"q\x00", late, b"0h\x00")
    with pytest.raises(UntrustedArtifactError, match="__deepcopy__"):
        restricted_load(contained(stream), [*ALLOW, "sklearn_like.*"])


def vars_of(kept: object, state: dict[str, object]) -> None:
    kept.__dict__ = state  # so that the stream has it at hand


def test_a_bunch_that_is_made_with_items_gives_no_method_either() -> None:
    bunch, items = (
        found("sklearn.utils._bunch", "Bunch"),
        b"}" + text("__deepcopy__") + found("builtins", "list") + b"s",
    )
    rebuild = found("copyreg", "_reconstructor"), b"(", bunch, found("builtins", "dict"), items, b"tR"
    with pytest.raises(UntrustedArtifactError, match="__deepcopy__"):
        restricted_load(contained(pickled(*rebuild)), ALLOW)


def test_what_scikit_learn_keeps_itself_loads() -> None:
    assert restricted_load(contained(pickled(RIDGE)), ALLOW).get_params() == Ridge().get_params()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("scipy.stats._continuous_distns", "norm_gen"),
        ("numpy.lib._stride_tricks_impl", "DummyArray"),
        ("numpy", "finfo"),
        ("sklearn.callback._scoring_monitor", "ScoringMonitor"),
        ("sklearn.utils._fast_dict", "IntFloatDict"),
    ],
)
def test_a_class_of_a_large_package_that_is_not_known_to_be_harmless_is_not_made(module: str, name: str) -> None:
    """These run code, read any address, change what all share, listen on a socket, end the process."""
    with pytest.raises(UntrustedArtifactError, match=f"a call of {module}.{name}"):
        restricted_load(contained(pickled(found(module, name), b")\x81")), [*ALLOW, "scipy.*"])


def test_an_array_that_others_may_be_views_of_keeps_its_memory() -> None:
    octets = called(found("numpy", "dtype"), text("u1"))
    array = called(found("numpy", "ndarray"), b"M\xa0\x0f\x85", octets)
    freed = b"(K\x01K\x00\x85" + octets + b"\x89C\x00tb"
    with pytest.raises(UntrustedArtifactError, match="given its items twice"):
        restricted_load(contained(pickled(array, freed)), ALLOW)


@pytest.mark.parametrize("nested", [b"\x85" * 1_000, b"2\x86" * 60], ids=["deep", "in two places each"])
@pytest.mark.parametrize("place", ["item", "items", "dict", "set", "frozenset", "argument"])
def test_a_tuple_whose_hash_ends_the_process_or_takes_for_ever_is_refused(
    place: str, nested: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restricted, "_MAX_VALUES", 100_000)  # five million take seconds
    key = b")" + nested
    stream = {
        "item": b"}" + key + b"Ns",
        "items": b"}(" + key + b"Nu",
        "dict": b"(" + key + b"Nd",
        "set": b"\x8f(" + key + b"\x90",
        "frozenset": b"(" + key + b"\x91",
        "argument": called(found("builtins", "frozenset"), key),
    }[place]
    with pytest.raises(UntrustedArtifactError, match=r"so deeply|so many"):
        restricted_load(contained(pickled(stream)), ALLOW)


def test_a_fraction_that_would_be_worked_out_for_ever_is_refused() -> None:
    with pytest.raises(UntrustedArtifactError, match="an exponent"):
        restricted_load(contained(pickled(called(found("fractions", "Fraction"), text("1e1000000000")))), [])


def test_a_slice_of_slices_is_refused() -> None:
    """Deep enough, it ends the process when it is given back."""
    one = called(found("builtins", "slice"), b"N")
    with pytest.raises(UntrustedArtifactError, match="a slice of slices"):
        restricted_load(contained(pickled(called(found("builtins", "slice"), one))), [])


ADDRESS = text("__array_interface__")


@pytest.mark.parametrize("way", ["item", "items", "dict", "pairs", "an ordered one", "a class that takes pairs"])
def test_no_dict_names_what_numpy_would_ask_of_an_object(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class takes the dict as its attributes, and numpy then reads whatever address it is told."""
    module = types.ModuleType("sklearn_like")
    takes = {"__module__": "sklearn_like", "__setstate__": lambda self, pairs: self.__dict__.update(pairs)}
    module.Takes = type("Takes", (), takes)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sklearn_like", module)
    pairs = b"](" + ADDRESS + b"K\x01\x86e"
    stream = {
        "item": b"}" + ADDRESS + b"K\x01s",
        "items": b"}(" + ADDRESS + b"K\x01u",
        "dict": b"(" + ADDRESS + b"K\x01d",
        "pairs": called(found("builtins", "dict"), pairs),
        "an ordered one": called(found("collections", "OrderedDict"), pairs),
        "a class that takes pairs": called(found("sklearn_like", "Takes")) + pairs + b"b",
    }[way]
    with pytest.raises(UntrustedArtifactError, match="the attribute '__array_interface__'"):
        restricted_load(contained(pickled(stream)), [*ALLOW, "sklearn_like.*"])


def test_arrays_of_arrays_are_not_so_deep_that_giving_them_back_ends_the_process() -> None:
    objects = called(found("numpy", "dtype"), text("O8"), b"\x89", b"\x88")
    empty = called(found("numpy._core.multiarray", "_reconstruct"), found("numpy", "ndarray"), b"K\x00\x85", text("b"))

    def nested(depth: int) -> bytes:
        built = empty + b"(K\x01)" + objects + b"\x89]h\x04atb" + b"q\x040"
        return pickled(b"Nq\x040" + built * depth + b"h\x04")

    assert restricted_load(contained(nested(50)), ALLOW).dtype == object
    with pytest.raises(UntrustedArtifactError, match="nested so deeply"):
        restricted_load(contained(nested(1000)), ALLOW)
