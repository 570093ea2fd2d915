"""What a restricted load changes: nothing but what the stream has made, and no attribute that is Python's."""

from __future__ import annotations

import pickle
import sys
import types

import numpy as np
import pytest

from artifactdb.errors import UntrustedArtifactError
from artifactdb.trust.pickles.restricted import restricted_load
from tests.pickle_attacks import called, contained, found, pickled, text

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
