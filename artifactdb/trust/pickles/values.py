"""What stands for an object while a stream is walked."""

from __future__ import annotations

from typing import Any

COMPUTED = "__computed__"
"""Stands for a key that is made while loading; it looks like what no state should have."""
OTHER_STATE = "__state__"
"""Where ``Made.state`` keeps a state that is no dict of attributes."""


class Imported:
    """A class or function that the stream asked for."""

    __slots__ = ("attribute", "module")

    def __init__(self, module: str, attribute: str) -> None:
        self.module = module
        self.attribute = attribute

    @property
    def name(self) -> str:
        """Module and name, as one reads them."""
        return f"{self.module}.{self.attribute}"


class Made:
    """What a call gave: known by what was called with which arguments, and by what it was given afterwards."""

    __slots__ = ("arguments", "items", "maker", "state")

    def __init__(self, maker: Imported, arguments: tuple[Any, ...]) -> None:
        self.maker = maker
        self.arguments = arguments
        self.items: dict[str, Any] = {}
        self.state: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Module and name of what was called."""
        return self.maker.name
