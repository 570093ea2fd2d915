"""What happens to artifacts in the file: save, find, load, depend, delete, count, exchange.

Functions on a ``Database``. The registry, the loader and the workspace are faces of these.
"""
