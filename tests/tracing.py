"""What a command and all its children asked of the system, by strace: names, connections, files they changed."""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import required

REQUIRE = "STILLROOM_REQUIRE_STRACE"
"""Environment variable that makes a missing strace an error: CI sets it to 1."""
HOW = "apt-get install strace"
MISSING = "strace is not here or may not trace"

_NETWORK = ("connect", "sendto", "sendmsg", "sendmmsg")
_CHANGES = ("creat", "mkdir", "mkdirat", "mknod", "mknodat", "rename", "renameat", "renameat2", "unlink", "unlinkat",
            "rmdir", "link", "linkat", "symlink", "symlinkat", "truncate")  # fmt: skip
_TRACED = (*_NETWORK, *_CHANGES, "open", "openat", "openat2", "chdir", "fchdir")
_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)")
_WRITES = re.compile(r"\bO_(?:WRONLY|RDWR|CREAT|TRUNC|TMPFILE)\b")
_FOLDER = re.compile(r"(?:AT_FDCWD|\d+)<(?P<folder>[^>]*)>, $")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
# glibc reads the first two when it is asked for a name, and for no other reason; the sockets are of those who answer.
_NAMES = re.compile(r'"/etc/(?:hosts|resolv\.conf)"|sun_path="[^"]*(?:systemd/resolve|avahi)')


@dataclass
class Traced:
    """What was seen."""

    names: list[str]
    """Calls that ask for the address of a name, as strace prints them."""
    connections: list[str]
    """Calls that send to or connect with an address that is not of this machine."""
    changed: list[Path]
    """Every path that was opened for writing, made, renamed or removed, tried or done."""


@functools.cache
def works() -> bool:
    """Whether strace is here and allowed to trace."""
    if not shutil.which("strace"):
        return False
    return subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def needed() -> None:
    """Skip the test where strace does not work; fail it where it is required."""
    if works():
        return
    if required(REQUIRE):
        pytest.fail(f"{MISSING}, and {REQUIRE} is set: {HOW}", pytrace=False)
    pytest.skip(MISSING)


def run(
    command: list[str], log: Path, *, cwd: Path, env: dict[str, str], timeout: int = 1000
) -> tuple[subprocess.CompletedProcess[str], Traced]:
    """``command`` run in ``cwd`` with the environment ``env`` alone, and what it and its children asked for."""
    # --seccomp-bpf stops a process at the traced calls only; -y names the folder behind a descriptor.
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", f"trace={','.join(_TRACED)}"]
    done = subprocess.run(
        [*strace, "-o", str(log), *command], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip
    with log.open(errors="replace") as lines:
        return done, read(lines, cwd)


def read(lines: Iterable[str], start: Path) -> Traced:
    """What ``lines`` of strace tell of a command that was begun in the folder ``start``."""
    seen = Traced([], [], [])
    folders = {str(start)}
    for line in lines:
        call = _CALL.match(line)
        if call is None:
            continue
        name, rest = call["name"], call["rest"]
        if _NAMES.search(rest):
            seen.names.append(line.strip())
        elif name in _NETWORK:
            seen.connections += [line.strip()] * (not all(map(_here, _ADDRESS.findall(rest))))
        elif name in ("chdir", "fchdir"):
            went = _QUOTED.findall(rest) or re.findall(r"<([^>]*)>", rest)
            folders |= {os.path.normpath(Path(folder) / to) for folder in folders for to in went}
        elif name in _CHANGES or _WRITES.search(rest):
            paths = list(_paths(rest))
            seen.changed += paths[-1:] if "link" in name and "unlink" not in name else paths  # the new name alone
    # A bare relative path belongs to a folder that the process went to: whichever, it is named among the changed.
    if any(not path.is_absolute() for path in seen.changed):
        seen.changed = [path for path in seen.changed if path.is_absolute()] + [
            Path(os.path.normpath(Path(folder) / path))
            for path in seen.changed if not path.is_absolute() for folder in folders
        ]  # fmt: skip
    return seen


def _here(found: tuple[str, str]) -> bool:
    address = ipaddress.ip_address(found[0] or found[1])
    return address.is_loopback or address.is_unspecified


def _paths(rest: str) -> Iterator[Path]:
    for quoted in _QUOTED.finditer(rest):
        path = Path(quoted[1].encode().decode("unicode_escape").encode("latin-1").decode(errors="replace"))
        beside = _FOLDER.search(rest, 0, quoted.start())
        yield Path(os.path.normpath(Path(beside["folder"]) / path)) if beside else path
