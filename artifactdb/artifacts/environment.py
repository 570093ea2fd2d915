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


class ArtifactVersionWarning(UserWarning):
    """An object is loaded under other library versions than it was saved under."""


def versions_now(packages: Iterable[str]) -> dict[str, str]:
    """Give the versions of artifactdb, Python and the named import packages."""
    found = {"artifactdb": __version__, "python": platform.python_version()}
    for package in sorted(set(packages) - _STANDARD_LIBRARY - {"artifactdb"}):
        version = _version(package)
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
    return json.dumps(dict(versions), sort_keys=True, separators=(",", ":"))


def differences(written: Mapping[str, str]) -> list[str]:
    """List the packages whose version is another one now, as sentences' parts."""
    differing = []
    for package, version in written.items():
        if package in _OWN or package == "nirs4all":
            continue
        now = _version(package)
        if now != version:
            differing.append(f"{package} {version} (here: {now or 'not installed'})")
    return differing


_warned: set[tuple[str, ...]] = set()


def warn_of_differences(artifact_id: str, written: Mapping[str, str]) -> None:
    """Warn, once in a process for the same versions, that an object was saved under others."""
    differing = tuple(differences(written))
    if differing and differing not in _warned:
        _warned.add(differing)
        warnings.warn(
            f"{artifact_id} was saved with {', '.join(differing)}; its predictions may differ.",
            ArtifactVersionWarning,
            stacklevel=2,
        )


def requirements(written: Mapping[str, str]) -> str:
    """Give what to install to have the versions an object was saved with, as arguments of pip."""
    packages = [name for name in written if name not in _OWN]
    return " ".join(f"{_distribution(name)}=={written[name]}" for name in packages)


@cache
def _version(package: str) -> str:
    loaded = sys.modules.get(package)
    version = getattr(loaded, "__version__", None)
    if isinstance(version, str):
        return version
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
