"""Which Stillroom runs in a project: a release, or a clone that was installed in place, by its commit."""

from __future__ import annotations

from components.base import imports
from flows.dvc import package
from flows.history import git

CODE = ("components", "flows")


def version() -> str:
    """The version of the package; of a clone with ``+g`` and 12 digits of its commit, as setuptools-scm writes it."""
    commit = _commit()
    return package.version() + (f"+g{commit[:12]}" if commit else "")


def clean() -> bool:
    """Whether `version` says all of the code that runs: the files are those of a wheel, or of the clone's commit.

    A file that git does not know yet is code as well: it may have made what is recorded.
    """
    if _commit():
        return not git.git(imports.ROOT, "status", "--porcelain", "--untracked-files=all", "--", *CODE)
    return package.released()


def _commit() -> str:
    """The commit of the clone that is imported, empty for an installed wheel."""
    return git.commit(imports.ROOT) if (imports.ROOT / ".git").exists() else ""
