"""The serializer for plain values and numpy arrays: JSON with the arrays beside it, which anybody's file may hold.

``docs/format.md`` defines it, so that any language can read it.
"""

from __future__ import annotations

import sys
from typing import Any

from artifactdb.content import StoredContent
from artifactdb.errors import DeserializationError
from artifactdb.formats.container import pack, unpack
from artifactdb.formats.data_reading import Reader
from artifactdb.formats.data_text import from_text, to_text
from artifactdb.formats.data_writing import PLAIN_TYPES, Writer
from artifactdb.formats.serializer import Dumped


class DataSerializer:
    """Plain values and arrays, without a pickle.

    Examples
    --------
    >>> dumped = DataSerializer().dump({"folds": [[0, 1], [2]], "shape": (3, 4)})
    >>> bytes(dumped.content.segments[0].data[24:])
    b'{"folds":[[0,1],[2]],"shape":{"$tuple":[3,4]}}'
    """

    name = "data"
    extension = "data"
    executable = False

    def takes(self, obj: Any) -> bool:
        """Tell at once whether the type of an object is one of those kept; what is in it may still be refused."""
        numpy = sys.modules.get("numpy")
        return type(obj) in PLAIN_TYPES or (
            numpy is not None and (type(obj) is numpy.ndarray or isinstance(obj, numpy.generic))
        )

    def dump(self, obj: Any) -> Dumped:
        """Take an object apart; raises TypeError when anything of it would come back different."""
        writer = Writer()
        stream = to_text(writer.tree(obj))
        return Dumped(pack(stream, writer.buffers), frozenset({"numpy"} if writer.has_arrays else ()))

    def load(self, content: StoredContent) -> Any:
        """Put an object together again, out of bytes that anybody may have written.

        Raises
        ------
        DeserializationError
            When no ``dump`` gave them.
        """
        stream, buffers = unpack(content)
        try:
            return Reader(buffers).read(from_text(stream))
        except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
            raise DeserializationError(f"the content is no data as artifactdb writes it: {error}.") from error
