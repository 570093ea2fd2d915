"""A fitted object that holds others which are artifacts themselves: stored without them, whole again when loaded.

So that a forest inside a stack inside a search lies in the file once, and is the same object wherever the
container refers to it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from artifactdb.errors import DeserializationError, SerializationError
from artifactdb.formats.unpicklable import unpicklable_attribute


@dataclass(frozen=True)
class Part:
    """Stands in a container where an artifact was."""

    artifact_id: str


class Composite:
    """A container whose parts are other artifacts; what is stored of it is all but these.

    Taking apart and putting together are both a deep copy that is told beforehand what becomes of the parts, so
    that they are found by identity wherever the container keeps them: in lists, dicts, other objects.

    Attributes
    ----------
    skeleton : object
        The container with a ``Part`` in the place of each part.
    parts : list of Part
        The very objects that stand in the skeleton; of one object that is several artifacts, all of these.
    container : object, optional
        What it was made of; None once it was stored.

    Examples
    --------
    >>> whole = {"steps": [("scaler", [1.0]), ("model", [2.0])]}
    >>> model = whole["steps"][1][1]
    >>> composite = Composite.of(whole, {id(model): "0001_pls$7f8e9d0c1b2a:all"})
    >>> composite.skeleton["steps"][1]
    ('model', Part(artifact_id='0001_pls$7f8e9d0c1b2a:all'))
    >>> composite.assemble({"0001_pls$7f8e9d0c1b2a:all": [2.0]}.__getitem__) == whole
    True
    """

    def __init__(self, skeleton: Any, parts: list[Part], container: Any = None) -> None:
        self.skeleton = skeleton
        self.parts = parts
        self.container = container

    @classmethod
    def of(cls, container: Any, parts: Mapping[int, str]) -> Composite:
        """Take parts out of a copy of a container, which itself stays as it is.

        Parameters
        ----------
        container : object
        parts : mapping of int to str
            The artifact id of each part, by the ``id()`` of the object.

        Raises
        ------
        SerializationError
            When the rest of the container cannot be copied, and so not be stored.
        """
        marks = {key: Part(artifact_id) for key, artifact_id in parts.items()}
        try:
            skeleton = copy.deepcopy(container, dict(marks))
        except Exception as error:
            attribute = unpicklable_attribute(container)
            where = f" Its attribute {attribute!r} is in the way." if attribute else ""
            raise SerializationError(
                f"{type(container).__name__} cannot be taken apart ({type(error).__name__}: {error}).{where}",
                hint="Remove or replace that part.",
                attribute=attribute,
            ) from error
        return cls(skeleton, list(marks.values()), container)

    def part_ids(self) -> list[str]:
        """Give the artifact ids of the parts.

        Raises
        ------
        DeserializationError
            When it is not as it was stored: it may come from anybody.
        """
        parts = vars(self).get("parts")
        ids = [getattr(part, "artifact_id", None) for part in parts] if isinstance(parts, list) else [None]
        found = [name for name in ids if isinstance(name, str)]
        if len(found) < len(ids) or "skeleton" not in vars(self):
            raise DeserializationError("a container does not name its parts.", hint="artifactdb did not write it.")
        return found

    def assemble(self, load: Callable[[str], Any]) -> Any:
        """Give the container with its parts back in their places; each is asked for once.

        Parameters
        ----------
        load : callable
            Gives the object of an artifact id.

        Raises
        ------
        DeserializationError
            When it is not as it was stored, or cannot be copied.
        """
        loaded = {id(part): load(name) for part, name in zip(self.parts, self.part_ids(), strict=True)}
        try:
            return copy.deepcopy(self.skeleton, loaded)
        except Exception as error:
            raise DeserializationError(
                f"a container cannot be put together: {type(error).__name__}: {str(error)[:200]}."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"skeleton": self.skeleton, "parts": self.parts, "container": None}
