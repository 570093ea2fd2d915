"""The version of this package, where every layer and the build can read it."""

__version__ = "0.1.0"
