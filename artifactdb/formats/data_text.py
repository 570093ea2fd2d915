"""JSON text within bounds: one tree has one text, and a text of a stranger costs no more than its length.

A tree is what ``json`` reads and writes: None, bool, int, float, str, lists, and dicts with strings as keys.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

from artifactdb.content import Buffer

MAX_TEXT_BYTES = 6 * 1024 * 1024
"""A parser takes up to sixty times as much memory."""
MAX_DEPTH = 100
"""Brackets around the innermost value."""
WHOLE_NUMBERS = range(-(2**63), 2**63)
"""Integers that stand as JSON numbers."""

# No number that we write has so many; longer ones would take Python a time that grows with the square.
_TOO_MANY_DIGITS = re.compile(rb"[0-9]{22}")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def to_text(tree: Any) -> bytes:
    """Give the text of a tree, in UTF-8.

    Raises
    ------
    TypeError
        When it would be too long or too deep, or a string is no Unicode text.

    Examples
    --------
    >>> to_text({"folds": [[0, 1], [2]], "loss": 0.5})
    b'{"folds":[[0,1],[2]],"loss":0.5}'
    """
    try:
        text = _dumped(tree).encode()
    except UnicodeEncodeError:
        raise TypeError("a string holds half of a surrogate pair, which UTF-8 cannot keep") from None
    problem = _problem(text)
    if problem:
        raise TypeError(problem)
    return text


def from_text(data: Buffer) -> Any:
    """Give the tree of a text.

    Raises
    ------
    ValueError
        When it is not the text that ``to_text`` would write.

    Examples
    --------
    >>> from_text(b'[1,"a"]')
    [1, 'a']
    >>> from_text(b'[1, "a"]')
    Traceback (most recent call last):
    ValueError: the JSON is not written in its one form
    """
    # Before it is parsed: a parser in C takes the depth of a text from the stack.
    problem = _problem(data)
    if problem:
        raise ValueError(problem)
    text = str(data, "utf-8")
    tree = json.loads(text)
    # Spaces, escapes, keys given twice, other spellings of a number, and numbers too great for a double.
    if _dumped(tree) != text:
        raise ValueError("the JSON is not written in its one form")
    return tree


def _dumped(tree: Any) -> str:
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))


def _problem(text: Buffer) -> str:
    if len(text) > MAX_TEXT_BYTES:
        return f"the JSON has more than {MAX_TEXT_BYTES} bytes"
    # What is outside of strings: without escaped quotes, every second piece between quotes.
    unescaped = bytes(text).replace(b"\\\\", b"").replace(b'\\"', b"")
    bare = b"".join(unescaped.split(b'"')[::2])
    if _TOO_MANY_DIGITS.search(bare):
        return "a number of the JSON has more digits than any that is written"
    brackets = bare.translate(None, _NO_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH:
        return f"the JSON is more than {MAX_DEPTH} brackets deep"
    return ""
