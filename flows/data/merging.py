"""Two branches that each added a source to params.yaml: git calls that a conflict, and here it is none.

`git merge` starts this module as the driver that .gitattributes names (gitattributes(5), "Defining a custom merge
driver"): the entries that either side added are set aside, git merges the rest, and the entries go behind the last one,
those of this branch first.  Where that does not work out to the letter, git's own merge is what remains.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from components.base import config
from components.base.errors import UserError
from flows.data import entries
from flows.history import git

DRIVER = "stillroom"
ATTRIBUTE = f"{config.FILE} merge={DRIVER}"
"""The line of .gitattributes that asks for it; without the driver's command git merges the file as any text."""
_PLAIN = "git merge-file -L ours -L base -L theirs %A %O %B"


_ODD = (UserError, LookupError, AttributeError, TypeError, ValueError, StopIteration)
"""What a text raises that is not written as this reads it."""


class _Unmerged(Exception):
    """Something that git's own merge has to show."""


def install(root: Path) -> None:
    """Tell the repository of ``root`` the driver's command, where .gitattributes asks for it and git has another."""
    attributes = root / ".gitattributes"
    if not attributes.is_file() or ATTRIBUTE not in attributes.read_text("utf-8").splitlines():
        return
    command = f"{shlex.quote(sys.executable)} -m flows.data.merging %O %A %B 2>/dev/null || {_PLAIN}"
    key = f"merge.{DRIVER}.driver"
    if git.maybe(root, "config", "--local", "--get", key) != command:
        git.git(root, "config", "--local", f"merge.{DRIVER}.name", "sources that both branches added")
        git.git(root, "config", "--local", key, command)


def merged(base: str, ours: str, theirs: str) -> str:
    """The text of params.yaml with what both sides changed since ``base``; raises where git's own merge is wanted."""
    try:
        before, mine, other = (_entries(text) for text in (base, ours, theirs))
        new, come = ({name: lines for name, lines in side.items() if name not in before} for side in (mine, other))
        if any(new[name] != come[name] for name in new.keys() & come.keys()):
            raise _Unmerged
        rest = _merged_rest(base, *(_without(text, side) for text, side in ((ours, new), (theirs, come))))
        added = [*new.values(), *(lines for name, lines in come.items() if name not in new)]
        whole = _appended(rest, added)
        if [*_names(whole)] != [*_names(rest), *new, *(name for name in come if name not in new)]:
            raise _Unmerged
    except _ODD as error:
        raise _Unmerged from error
    return whole


def _names(text: str) -> list[str]:
    return [str(each["name"]) for each in config.parse(text)["collect"]["sources"]]


def _entries(text: str) -> dict[str, list[str]]:
    """The lines of each source, by its name; comments between two entries are of the later one."""
    config.parse(text)  # what is no plain data is refused here
    lines, nodes = text.splitlines(keepends=True), entries.listed(text).value
    ends = [entries.last_line(node) for node in nodes]
    starts = [nodes[0].start_mark.line, *(end + 1 for end in ends[:-1])]
    return {name: [line if line.endswith("\n") else line + "\n" for line in lines[start : end + 1]]
            for name, start, end in zip(_names(text), starts, ends, strict=True)}  # fmt: skip


def _without(text: str, sources: dict[str, list[str]]) -> str:
    for lines in sources.values():
        block = "".join(lines)
        if text.count(block) != 1:
            raise _Unmerged
        text = text.replace(block, "")
    return text


def _appended(text: str, added: list[list[str]]) -> str:
    lines = text.splitlines(keepends=True)
    at = entries.last_line(entries.listed(text).value[-1]) + 1
    lines[at:at] = [line for entry in added for line in entry]
    return "".join(lines)


def _merged_rest(base: str, ours: str, theirs: str) -> str:
    with tempfile.TemporaryDirectory() as name:
        for file, text in (("ours", ours), ("base", base), ("theirs", theirs)):
            Path(name, file).write_bytes(text.encode())
        command = ["git", "merge-file", "-p", "ours", "base", "theirs"]
        done = subprocess.run(command, cwd=name, capture_output=True, check=False)
    if done.returncode:
        raise _Unmerged
    return done.stdout.decode()


def main(words: list[str]) -> int:
    """As git calls it: paths of the base, of ours, which takes the result, and of theirs; 1 where it is git's turn."""
    base, ours, theirs = map(Path, words)
    try:
        text = merged(*(path.read_bytes().decode() for path in (base, ours, theirs)))
    except (_Unmerged, UnicodeDecodeError):
        return 1
    ours.write_bytes(text.encode())  # git's own copy, which it puts in its place
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
