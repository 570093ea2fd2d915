"""Where joblib keeps arrays: their bytes stand between the opcodes, after the state of a wrapper.

The length follows from shape and dtype, which the stream says; where it does not say it beyond doubt, the walk
ends, because whatever is taken for opcodes afterwards need not be what joblib takes for opcodes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from artifactdb.trust.pickles.opcodes import BrokenStreamError
from artifactdb.trust.pickles.values import COMPUTED, OTHER_STATE, Imported, Made

if TYPE_CHECKING:
    from artifactdb.trust.pickles.machine import _Machine

WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_DTYPE = re.compile(r"[<>|=]?([biufcmMOSUV])([0-9]{1,9})")
# A dtype's state: version, byte order, subarray, names, fields, item size, alignment, flags.
_PLAIN = (3, "|", None, None, None, -1, -1, 0)
_HAS_OBJECT = 1  # NPY_ITEM_HASOBJECT
_OTHER = {COMPUTED, OTHER_STATE}
_IN_DOUBT = "where an array between opcodes ends is in doubt"


def step_over(machine: _Machine, state: dict[str, Any]) -> None:
    """Move a machine past the array whose wrapper just got its state; walk through an array of objects.

    Raises
    ------
    BrokenStreamError
        When the stream leaves in doubt where the array ends.
    """
    if machine.position < machine.frame_end:
        raise BrokenStreamError(_IN_DOUBT)  # joblib reads behind the frame, and then the rest of the frame
    size, has_objects = _item(state.get("dtype"))
    shape, subclass = state.get("shape"), state.get("subclass")
    if not isinstance(shape, tuple) or not all(type(length) is int and 0 <= length < 1 << 48 for length in shape):
        raise BrokenStreamError(_IN_DOUBT)
    if not (isinstance(subclass, Imported) and subclass.module.startswith("numpy")) or state.keys() & _OTHER:
        raise BrokenStreamError(_IN_DOUBT)
    if has_objects:
        inner = type(machine)(machine.findings, machine.data, machine.position, machine.end)
        machine.position = inner.run()
        if inner.frame_end > inner.position:
            raise BrokenStreamError(_IN_DOUBT)
        return
    if state.get("numpy_array_alignment_bytes") is not None and machine.position < machine.end:
        machine.position += 1 + machine.data[machine.position]
    total = 0 if 0 in shape else size
    for length in shape:
        total *= length
        if total > machine.end - machine.position:
            raise BrokenStreamError("an array between opcodes is cut off")
    machine.position += total


def _item(dtype: Any) -> tuple[int, bool]:
    """Give the bytes of an item and whether it holds objects."""
    if not (isinstance(dtype, Made) and dtype.name == "numpy.dtype" and dtype.arguments):
        raise BrokenStreamError(_IN_DOUBT)
    match = _DTYPE.fullmatch(dtype.arguments[0]) if isinstance(dtype.arguments[0], str) else None
    state = dtype.state.get(OTHER_STATE, _PLAIN)
    if match is None or not isinstance(state, tuple) or len(state) < len(_PLAIN) or state[2] is not None:
        raise BrokenStreamError(_IN_DOUBT)
    kind, width, size, flags = match[1], int(match[2]), state[5], state[7]
    if type(size) is not int or type(flags) is not int:
        raise BrokenStreamError(_IN_DOUBT)
    said = width * 4 if kind == "U" else width
    has_objects = bool(flags & _HAS_OBJECT)
    if said == 0 or (size >= 0 and size != said) or (kind != "V" and has_objects != (kind == "O")):
        raise BrokenStreamError(_IN_DOUBT)
    return said, has_objects
