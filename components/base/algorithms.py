"""What decides a result: an algorithm's version, the libraries that it calls and the algorithms that it uses.

Results are kept under such a key, so that a comment in the source recomputes nothing and a new library recomputes
what it may change.  Raise the version in the commit that changes a result: ``tests/test_algorithms_recorded.py``
fails when a recorded result has changed and the version has not.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

ABSENT = "absent"
"""The version of a library that is not installed; what needs it fails by itself."""


@dataclass(frozen=True)
class Algorithm:
    """``libraries`` are the names of distributions as pip knows them (``pillow``), not of modules (``PIL``)."""

    name: str
    version: int
    libraries: tuple[str, ...] = ()
    uses: tuple[Algorithm, ...] = ()

    def parts(self) -> dict[str, str]:
        """The version of each algorithm and library that decides the result, at any depth, by ``kind name``."""
        found = {f"algorithm {self.name}": str(self.version)}
        found |= {f"library {library}": installed(library) for library in self.libraries}
        for other in self.uses:
            for name, version in other.parts().items():
                if found.setdefault(name, version) != version:
                    raise ValueError(f"two algorithms called {name.removeprefix('algorithm ')!r}")
        return dict(sorted(found.items()))

    def key(self) -> str:
        """The name and :meth:`parts` as one text."""
        return json.dumps([self.name, self.parts()])


def digest(algorithms: Iterable[Algorithm]) -> str:
    """64 hex digits that change when the key of any of ``algorithms`` does; their order does not matter."""
    return hashlib.sha256(json.dumps(sorted(each.key() for each in algorithms)).encode()).hexdigest()


@functools.cache
def installed(library: str) -> str:
    """The version of the distribution ``library`` that is installed here, or ABSENT."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ABSENT
