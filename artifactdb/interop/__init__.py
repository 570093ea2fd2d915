"""Folders that other programs write come in, and a workspace goes out as the folders that they read.

Nothing that is imported is executed: bytes and what is said of them come in as they are.
"""
