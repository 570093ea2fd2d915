"""A dependency graph in memory, for code that plans before it registers. The file keeps its own in rows."""

from __future__ import annotations

from collections.abc import Iterable

from artifactdb.errors import DependencyCycleError, InvalidValueError


class DependencyGraph:
    """Which artifact depends on which.

    Examples
    --------
    >>> graph = DependencyGraph()
    >>> graph.add_dependencies("stack", ["pls", "forest"])
    >>> graph.add_dependency("pls", "scaler")
    >>> graph.resolve_dependencies("stack")
    ['scaler', 'pls', 'forest']
    """

    def __init__(self) -> None:
        self._sources: dict[str, dict[str, None]] = {}
        self._dependents: dict[str, dict[str, None]] = {}

    def __repr__(self) -> str:
        edges = sum(map(len, self._sources.values()))
        return f"DependencyGraph({len(self._sources)} artifacts with {edges} dependencies)"

    def add_dependency(self, artifact_id: str, depends_on: str) -> None:
        """Say that an artifact depends on another one."""
        self._sources.setdefault(artifact_id, {})[depends_on] = None
        self._dependents.setdefault(depends_on, {})[artifact_id] = None

    def add_dependencies(self, artifact_id: str, depends_on: Iterable[str]) -> None:
        """Say that an artifact depends on several others."""
        for source in depends_on:
            self.add_dependency(artifact_id, source)

    def get_dependencies(self, artifact_id: str) -> list[str]:
        """Give what an artifact directly depends on, in the order it was added."""
        return list(self._sources.get(artifact_id, ()))

    def get_dependents(self, artifact_id: str) -> list[str]:
        """Give what directly depends on an artifact."""
        return list(self._dependents.get(artifact_id, ()))

    def resolve_dependencies(self, artifact_id: str, max_depth: int = 100) -> list[str]:
        """Give all that an artifact depends on, sources before what needs them.

        Raises
        ------
        DependencyCycleError
            A ValueError, when following the dependencies leads back.
        InvalidValueError
            A ValueError, when a path is longer than ``max_depth``.
        """
        heights: dict[str, int] = {}
        way: dict[str, None] = {artifact_id: None}
        stack = [(artifact_id, iter(self._sources.get(artifact_id, ())))]
        while stack:
            current, sources = stack[-1]
            source = next(sources, None)
            if source is None:
                stack.pop()
                del way[current]
                heights[current] = max((heights[each] + 1 for each in self._sources.get(current, ())), default=0)
            elif source in way:
                cycle = [*list(way)[list(way).index(source) :], source]
                raise DependencyCycleError(f"the dependencies go in a circle: {' > '.join(cycle[:10])}.", cycle=cycle)
            elif source not in heights:
                way[source] = None
                stack.append((source, iter(self._sources.get(source, ()))))
        if heights.pop(artifact_id) > max_depth:
            raise InvalidValueError(
                f"{artifact_id} has dependencies more than {max_depth} deep.", hint="Raise max_depth."
            )
        return list(heights)

    def remove_artifact(self, artifact_id: str) -> None:
        """Forget an artifact and every dependency from and to it."""
        for source in self._sources.pop(artifact_id, {}):
            self._dependents.get(source, {}).pop(artifact_id, None)
        for dependent in self._dependents.pop(artifact_id, {}):
            self._sources.get(dependent, {}).pop(artifact_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._sources.clear()
        self._dependents.clear()
