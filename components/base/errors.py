"""The error that a user can fix: it ends in one line and exit code 2."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

_MOST = 200  # characters of another library's error inside a line of ours


class UserError(Exception):
    """What is wrong, where, what came, what was wanted and what to do, in one line.

    It may repeat names and labels that a file brought: what could steer a terminal is written out.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__("\n".join(map(printable, str(message).split("\n"))))


def nearest(word: str, choices: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the choice closest to ``word``, or nothing when none is close."""
    found = difflib.get_close_matches(word, list(choices), n=1)
    return f"; did you mean '{printable(found[0])}'?" if found else ""


def printable(name: str) -> str:
    """``name``, which a file may have brought, in one line: what cannot be printed is written as Python writes it."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)


def brief(error: BaseException) -> str:
    """The first line of what ``error`` says, or its name when it says nothing; for the middle of a one-line message.

    Of a fault of the system its words alone: the message has named the file.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    said = (f"no {error}" if isinstance(error, KeyError) else text.strip()).splitlines()
    return said[0][:_MOST] if said else type(error).__name__


# Faults of the machine, not of the program: its user can fix each of them.
_ENVIRONMENT = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EACCES: "permission denied: let this user read and write there, and run the same command again",
    errno.EPERM: "permission denied: let this user read and write there, and run the same command again",
    errno.EROFS: "the file system is read-only: make it writable, or work in another folder",
    errno.EMFILE: "too many open files: raise `ulimit -n` and run the same command again",
}


_DATABASE = {  # SQLite, in DVC, Prefect and MLflow, has its own words for the same faults
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
}


def environment_error(error: BaseException) -> UserError | None:
    """A UserError for a full disk or a missing permission anywhere among the causes of ``error``; else None."""
    cause: BaseException | None = error
    for _ in range(20):  # causes may form a circle
        if cause is None:
            break
        if isinstance(cause, OSError) and cause.errno in _ENVIRONMENT:
            return UserError(f"{cause.filename or 'writing'}: {_ENVIRONMENT[cause.errno]}")
        for words, number in _DATABASE.items():
            if words in str(cause):
                return UserError(f"a database in .stillroom: {_ENVIRONMENT[number]}")
        cause = cause.__cause__ or cause.__context__
    return None
