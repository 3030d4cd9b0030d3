"""The one exception that is the user's to mend: it ends in one line and exit code 2."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class UserError(Exception):
    """What is wrong, where, what came, what was wanted and what to do, in one line."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the choice closest to ``word``, or nothing when none is close."""
    found = difflib.get_close_matches(word, list(choices), n=1)
    return f"; did you mean '{found[0]}'?" if found else ""


# What the machine, and not the program, got wrong: the person at it can mend each of these.
_ENVIRONMENT = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EACCES: "permission denied: give this user the right to it and run the same command again",
    errno.EPERM: "permission denied: give this user the right to it and run the same command again",
    errno.EROFS: "the file system is read-only: make it writable, or work in another folder",
    errno.EMFILE: "too many open files: raise `ulimit -n` and run the same command again",
}


def environment_error(error: OSError) -> UserError | None:
    """A full disk or a missing permission as the user's error; None for any other ``error``."""
    advice = _ENVIRONMENT.get(error.errno or 0)
    if advice is None:
        return None
    return UserError(f"{error.filename or 'writing'}: {advice}")
