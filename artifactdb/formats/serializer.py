"""What a serializer is. It is looked up by its name; users add theirs through the entry point group below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from artifactdb.content import Content, StoredContent

ENTRY_POINT_GROUP = "artifactdb.serializers"


@dataclass(frozen=True, slots=True)
class Dumped:
    """An object taken apart.

    Parameters
    ----------
    content : Content
        The logical bytes and the arrays they refer to.
    packages : frozenset of str
        Import names of the packages that loading needs, e.g. ``{"sklearn", "numpy"}``.
    """

    content: Content
    packages: frozenset[str] = frozenset()


class Serializer(Protocol):
    """A way to turn objects into bytes and back.

    Attributes
    ----------
    name : str
        Written into the record as its ``format``.
    extension : str
        Of files that hold such bytes, without a dot.
    executable : bool
        Whether loading can run code of the writer's.
    """

    name: str
    extension: str
    executable: bool

    def dump(self, obj: Any) -> Dumped:
        """Give the bytes of ``obj``, the same for the same object in every process."""
        ...

    def load(self, content: StoredContent) -> Any:
        """Give the object of these bytes; they are known to be what was written."""
        ...
