"""Fitted scikit-learn objects are taken in as they are: seen as what they consist of, scored, stored at once."""

from artifactdb.fitted.logged import Logged

__all__ = ["Logged"]
