"""Files within a folder that is imported: found by name, and never outside it, whatever links there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from artifactdb.artifacts.reading import content_of, parse_json, text_of
from artifactdb.content import Buffer
from artifactdb.errors import InvalidValueError, WorkspaceNotFoundError


class Folder:
    """A folder of a stranger.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path.resolve()
        self._places: dict[Path, Path] = {}

    def holds(self, path: Path) -> bool:
        """Tell whether a path is inside when every link is followed."""
        try:
            return path.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError, ValueError):
            return False  # links that go in a circle, or what is no name

    def has(self, path: Path) -> bool:
        """Tell whether a path is a regular file inside."""
        return path.is_file() and self.holds(path)

    def within(self, path: Path) -> Path:
        """Give where a path leads when every link is followed.

        Raises
        ------
        InvalidValueError
            When that is outside.
        """
        if not self.holds(path):
            raise InvalidValueError(f"{self.named(path)} is outside the folder, and was not read.")
        return path.resolve()

    def content(self, path: Path) -> Buffer:
        """Give the bytes of a file of it.

        Raises
        ------
        InvalidValueError
            When it is outside, or no regular file.
        OSError
        """
        return content_of(self.within(path))

    def text(self, path: Path) -> bytes:
        """Give the bytes of a file that is parsed as a whole; raises as ``content`` does, and for too many."""
        return text_of(self.within(path))

    def json(self, path: Path) -> Any:
        """Give the value of a JSON file; raises as ``text`` does, and for what is malformed."""
        return parse_json(self.text(path), self.named(path))

    def find(self, name: str, places: Iterable[Path]) -> Path:
        """Give the first file of that name in some places.

        Raises
        ------
        WorkspaceNotFoundError
            When it is not there.
        InvalidValueError
            When it is outside.
        """
        if not name or "\0" in name:
            raise InvalidValueError("no file is named.")
        outside = False
        looked = []
        for place in places:
            try:
                resolved = self._resolved(place, name)
                if not resolved.is_relative_to(self.root):
                    outside = True
                elif resolved.is_file():
                    return resolved
            except (OSError, RuntimeError, ValueError):
                continue  # a name that is too long or none, or links that go in a circle
            looked.append(self.named(place))
        if outside:
            raise InvalidValueError(f"the file {name} is outside the folder, and was not read.")
        where = ", ".join(dict.fromkeys(looked))
        raise WorkspaceNotFoundError(f"the file {name} is not there; looked for it in {where}.")

    def parts(self, values: object, places: Iterable[Path]) -> dict[str, Path]:
        """Give the files that a record names for its arrays, by the hex digits of their hashes; raises as ``find``."""
        named = [part for part in values if isinstance(part, Mapping)] if isinstance(values, list) else []
        return {
            str(part.get("content_hash")).removeprefix("sha256:"): self.find(part["path"], places)
            for part in named if isinstance(part.get("path"), str)
        }  # fmt: skip

    def _resolved(self, place: Path, name: str) -> Path:
        """Follow every link on the way to a file; those of folders, which many files share, once."""
        if place not in self._places:
            self._places[place] = place.resolve()
        path = self._places[place] / name
        plain = path.name == name and name != ".." and not path.is_symlink()
        return path if plain else path.resolve()

    def subfolders(self, path: Path) -> Iterator[Path]:
        """Give the folders in a folder of it by name; what leads outside is left out."""
        if path.is_dir() and self.holds(path):
            yield from (inner for inner in sorted(path.iterdir()) if inner.is_dir() and self.holds(inner))

    def named(self, path: Path) -> str:
        """Give a path as it is called within the folder."""
        return path.relative_to(self.path).as_posix() if path.is_relative_to(self.path) else path.name
