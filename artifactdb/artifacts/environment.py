"""The versions of Python and of libraries: written with each object, compared when it is loaded."""

from __future__ import annotations

import json
import platform
import sys
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata

from artifactdb.version import __version__

_OWN = ("artifactdb", "python")
_STANDARD_LIBRARY = frozenset(sys.stdlib_module_names) | {"__main__"}
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class ArtifactVersionWarning(UserWarning):
    """An object is loaded under other library versions than it was saved under."""


def versions_now(packages: Iterable[str]) -> dict[str, str]:
    """Give the versions of artifactdb, Python and the named import packages."""
    found = {"artifactdb": __version__, "python": platform.python_version()}
    for package in sorted(set(packages) - _STANDARD_LIBRARY - {"artifactdb"}):
        version = version_here(package)
        if version:
            found[package] = version
    return found


@cache
def _all_versions() -> tuple[tuple[str, str], ...]:
    found = {item.metadata["Name"]: item.version for item in metadata.distributions()}
    return tuple(sorted((name, version) for name, version in found.items() if name))


def all_versions() -> dict[str, str]:
    """Give the versions of Python, of the system, and of every package that is installed."""
    own = {"artifactdb": __version__, "python": platform.python_version(), "platform": platform.platform()}
    return {**dict(_all_versions()), **own}


def to_json(versions: Mapping[str, str]) -> str:
    """Give canonical JSON of versions."""
    return _encode(dict(versions))


def differences(written: Mapping[str, str]) -> list[str]:
    """List the packages whose version is another one now, as sentences' parts."""
    differing = []
    for package, version in written.items():
        if package in _OWN or package == "nirs4all":
            continue
        now = version_here(package)
        if now != version:
            differing.append(f"{package} {version} (here: {now or 'not installed'})")
    return differing


_warned: set[str] = set()


def warn_of_differences(artifact_id: str, written: Mapping[str, str]) -> None:
    """Warn, once in a process for each version of a package, that an object was saved under another."""
    differing = differences(written)
    if not _warned.issuperset(differing):
        _warned.update(differing)
        warnings.warn(
            f"{artifact_id} was saved with {', '.join(differing)}; its predictions may differ.",
            ArtifactVersionWarning,
            stacklevel=2,
        )


def requirements(written: Mapping[str, str]) -> str:
    """Give what to install to have the versions an object was saved with, as arguments of pip."""
    packages = [name for name in written if name not in _OWN]
    return " ".join(f"{_distribution(name)}=={written[name]}" for name in packages)


def version_here(package: str) -> str:
    """Give the version of an import package as it is loaded, else as it is installed, else an empty text."""
    version = getattr(sys.modules.get(package), "__version__", None)
    return version if isinstance(version, str) else _installed_version(package)


@cache
def _installed_version(package: str) -> str:
    try:
        return metadata.version(_distribution(package))
    except (metadata.PackageNotFoundError, ValueError):
        return ""


def _distribution(package: str) -> str:
    return {
        "sklearn": "scikit-learn",
        "yaml": "PyYAML",
        "skimage": "scikit-image",
        "cv2": "opencv-python",
    }.get(package, package)
