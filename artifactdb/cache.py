"""A cache that forgets what was least recently used, by count and by bytes. Knows nothing of files or SQL."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from artifactdb.errors import InvalidValueError


class LRUCache:
    """Keeps the objects that were used last.

    Parameters
    ----------
    max_size : int, default 100
        Objects to keep; 0 keeps none.
    max_bytes : int, optional
        Sum of the sizes given to ``put``; None for no bound.

    Examples
    --------
    >>> cache = LRUCache(max_size=2)
    >>> cache.put("a", 1), cache.put("b", 2), cache.get("a"), cache.put("c", 3)
    (None, None, 1, None)
    >>> cache.contains("b"), len(cache), cache.hits
    (False, 2, 1)
    """

    def __init__(self, max_size: int = 100, *, max_bytes: int | None = None) -> None:
        self._items: OrderedDict[str, tuple[Any, int, object]] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0
        self.hits = 0
        self.misses = 0
        self.max_bytes = max_bytes
        self.resize(max_size)

    def __getstate__(self) -> dict[str, Any]:
        return {"max_size": self.max_size, "max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["max_size"], max_bytes=state["max_bytes"])  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"LRUCache({len(self)} of {self.max_size}, {self._bytes} bytes, {self.hits} hits, {self.misses} misses)"

    def __len__(self) -> int:
        return len(self._items)

    @property
    def size(self) -> int:
        """How many objects are kept."""
        return len(self._items)

    @property
    def stats(self) -> dict[str, float]:
        """Counts: ``size, max_size, hits, misses, hit_rate``."""
        tries = self.hits + self.misses
        rate = self.hits / tries if tries else 0.0
        return {
            "size": len(self), "max_size": self.max_size, "hits": self.hits, "misses": self.misses, "hit_rate": rate,
        }  # fmt: skip

    def get(self, key: str, default: Any = None) -> Any:
        """Give an object, or ``default`` when it is absent; counts a hit or a miss."""
        with self._lock:
            found = self._items.get(key)
            if found is None:
                self.misses += 1
                return default
            self.hits += 1
            self._items.move_to_end(key)
            return found[0]

    def put(self, key: str, value: Any, size_bytes: int = 0, tag: object = None) -> None:
        """Keep an object, and drop what was used longest ago if there is no room; ``tag`` says which state it is of."""
        with self._lock:
            replaced = self._items.pop(key, None)
            self._bytes -= replaced[1] if replaced else 0
            self._items[key] = (value, size_bytes, tag)
            self._bytes += size_bytes
            self._shrink()

    def contains(self, key: str) -> bool:
        """Tell whether an object is kept; counts nothing."""
        return key in self._items

    def keys(self) -> list[str]:
        """Give the keys, least recently used first."""
        with self._lock:
            return list(self._items)

    def tag(self, key: str) -> object:
        """Give the tag that an object was kept with, None when it is absent."""
        found = self._items.get(key)
        return found[2] if found else None

    def remove(self, key: str) -> bool:
        """Drop an object; tell whether it was there."""
        with self._lock:
            found = self._items.pop(key, None)
            self._bytes -= found[1] if found else 0
            return found is not None

    def clear(self) -> None:
        """Drop everything, and count from zero."""
        with self._lock:
            self._items.clear()
            self._bytes = self.hits = self.misses = 0

    def resize(self, max_size: int) -> None:
        """Keep at most that many objects from now on."""
        is_count = hasattr(max_size, "__index__") and not isinstance(max_size, bool)
        if not is_count or max_size < 0:
            raise InvalidValueError(f"a cache keeps 0 or more objects, not {max_size!r}.")
        with self._lock:
            self.max_size = int(max_size)
            self._shrink()

    def _shrink(self) -> None:
        while self._items and (
            len(self._items) > self.max_size or (self.max_bytes is not None and self._bytes > self.max_bytes)
        ):
            _, (_, size_bytes, _) = self._items.popitem(last=False)
            self._bytes -= size_bytes
