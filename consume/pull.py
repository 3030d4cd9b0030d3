"""Pull a registered model version into a folder and check every byte. One file, only Python's own library: copy it.

python pull.py denoiser@champion --to model --uri http://127.0.0.1:5000   # an MLflow server, or a mirror's folder
"""

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import http.client
import json
import os
import re
import runpy
import shutil
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib import parse, request

MANIFEST, RECORD, TAG, SIGNATURE = "MANIFEST.json", ".pulled.json", "stillroom.manifest", "stillroom.signature"
NAME = re.compile(r"(\w[\w.+ -]{0,199}/){0,9}\w[\w.+ -]{0,199}", re.ASCII)  # no "..", no backslash, none hidden
MOST, TIMEOUT = 4 << 20, 60.0  # bytes of an answer or a manifest, seconds of silence
MISTAKES = (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError, RecursionError)


class PullError(Exception):
    """What stands in the way, in one line."""


class Server:
    """An MLflow server. `resolve`: number, SHA-256 of the manifest, folder, signature; `entries`: names, if folders."""

    def __init__(self, uri: str) -> None:
        login, _, host = parse.urlsplit(uri).netloc.rpartition("@")
        self.location = parse.urlsplit(uri)._replace(netloc=host).geturl().rstrip("/")  # shown: without password
        if "@" in self.location:
            raise PullError("address: write / ? # and @ in a name or password as %2F %3F %23 %40")
        given = ":".join(os.environ.get(f"MLFLOW_TRACKING_{each}", "") for each in ("USERNAME", "PASSWORD"))
        user, _, password = (parse.unquote(login) or given).partition(":")
        logins = request.HTTPPasswordMgrWithPriorAuth()
        logins.add_password(None, self.location, user, password, is_authenticated=bool(user))
        proxy = request.ProxyHandler({} if re.match(r"localhost\b|127\.|\[::1\]", host) else None)  # only for others
        self._web = request.build_opener(proxy, request.HTTPBasicAuthHandler(logins))

    def _get(self, route: str, **query: object) -> Any:
        try:
            return self._web.open(f"{self.location}/api/2.0/{route}?{parse.urlencode(query)}", timeout=TIMEOUT)
        except OSError as error:
            said = error.read(MOST).decode(errors="replace") if isinstance(error, request.HTTPError) else ""
            why = re.findall(r'"message": *"([^"]*)', said) or [getattr(error, "reason", error)]
            raise PullError(f"{self.location}: {why[0]}") from None

    def ask(self, question: str, **query: object) -> Any:
        with self._get(question, **query) as answer:
            return json.loads(answer.read(MOST))

    def resolve(self, name: str, alias: str, pin: int | None) -> tuple[int, str, str, str]:
        at, by = ("model-versions/get", {"version": pin}) if pin else ("registered-models/alias", {"alias": alias})
        found = self.ask(f"mlflow/{at}", name=name, **by)["model_version"]
        tags, number = {tag["key"]: tag["value"] for tag in found.get("tags", [])}, pin or int(found["version"])
        uri = self.ask("mlflow/model-versions/get-download-uri", name=name, version=number)["artifact_uri"]
        if not uri.startswith("mlflow-artifacts:"):
            raise PullError(f"{uri}: not served by MLflow: start its server with --serve-artifacts")
        return number, tags.get(TAG, ""), parse.urlsplit(uri).path.strip("/"), tags.get(SIGNATURE, "")

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        found = self.ask("mlflow-artifacts/artifacts", path=folder.rstrip("/")).get("files", [])
        return [(each["path"].split("/")[-1], bool(each.get("is_dir"))) for each in found]

    def open(self, path: str) -> Any:
        return self._get("mlflow-artifacts/artifacts/" + parse.quote(path))


class Mirror:
    """A folder that `stillroom release` wrote. A pulled folder is read in the same way; a symbolic link is no file."""

    def __init__(self, folder: str | Path) -> None:
        self.location = Path(folder)

    def resolve(self, name: str, alias: str, pin: int | None) -> tuple[int, str, str, str]:
        model = json.loads((self.location / "registry.json").read_bytes())["models"].get(name, {})
        number = model.get("aliases", {}).get(alias) if pin is None else pin
        if not (digest := model.get("versions", {}).get(str(number))):
            raise PullError(f"{self.location}: has no {name}" + (f"@{alias}" if pin is None else f" version {pin}"))
        return number, digest, f"versions/{digest}", model.get("signatures", {}).get(str(number), "")

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        return [(each.name, each.is_dir(follow_symlinks=False)) for each in os.scandir(self.location / folder)]

    def open(self, path: str) -> Any:
        return open(os.open(self.location / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")  # nor a pipe


def files(text: bytes) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """The files that a manifest lists, and every name in such a folder; PullError for unsafe or ambiguous ones."""
    pairs = dict(json.loads(text, object_pairs_hook=list))["files"]  # pairs show a name that stands there twice
    listed = {name: dict(entry) for name, entry in pairs}
    known = {MANIFEST, RECORD, *listed, *(f"{up}/" for name in listed for up in PurePosixPath(name).parents)}
    if unsafe := [name for name in listed if not NAME.fullmatch(name)]:
        raise PullError(f"{MANIFEST}: lists {unsafe[0]!r}: not a safe name")
    if len(listed) < len(pairs) or len({name.lower().rstrip("/") for name in known}) < len(known):
        raise PullError(f"{MANIFEST}: lists two files that are one where case does not count")
    return listed, known


def refuse_others(source: Server | Mirror, root: str, known: set[str]) -> None:
    """Raise PullError for the first name below ``root`` that is not in ``known``."""
    folders = [""]
    for folder in folders:
        for name, is_folder in source.entries(f"{root}/{folder}"):
            path = folder + name + "/" * is_folder
            if path not in known:
                raise PullError(f"{source.location}: {path} is not in {MANIFEST}: move it away")
            folders += [path] * is_folder


def copy(source: Server | Mirror, root: str, digest: str, to: Path | None = None) -> set[str]:
    """Compare a version with its manifest of SHA-256 ``digest``, on its way into ``to`` if given; returns its names."""
    text = source.open(f"{root}/{MANIFEST}").read(MOST)
    if hashlib.sha256(text).hexdigest() != digest:
        raise PullError(f"{MANIFEST}: its SHA-256 is not {digest or f'known: the version has no tag {TAG}'}")
    listed, known = files(text)
    refuse_others(source, root, known)
    for name, entry in {**listed, MANIFEST: {"bytes": len(text), "sha256": digest}}.items():
        path, hashed, left = to / name if to else Path(os.devnull), hashlib.sha256(), entry["bytes"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with source.open(f"{root}/{name}") as stream, path.open("wb") as out:
            while left >= 0 and (block := stream.read(min(left + 1, 1 << 20))):
                left -= len(block)
                hashed.update(block)
                out.write(block)
        if left or hashed.hexdigest() != entry["sha256"]:
            raise PullError(f"{name}: {'longer than' if left < 0 else 'not what'} {MANIFEST} promises")
    return known


def pull(source: Server | Mirror, name: str, alias: str, to: str | Path, pin: Any = None, check: Any = None) -> str:
    """Have folder ``to`` hold a version, whole, if ``check`` (signed.py) passes; returns in one line what was done."""
    to = Path(os.path.realpath(to))
    new, old = to.with_name(f".{to.name}.new"), to.with_name(f".{to.name}.old")
    with to.with_name(f".{to.name}.lock").open("a") as lock, contextlib.ExitStack() as at_end:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second pull waits
        if old.exists() and not to.exists():  # killed between the two renames below
            old.rename(to)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        number, digest, root, signature = source.resolve(name, alias, pin)
        record = json.dumps({"model": name, "version": number, "manifest": digest}).encode() + b"\n"
        if check and not check(record, signature):
            raise PullError(f"{name} version {number}: {'false signature' if signature else 'not signed'}")
        try:
            if Mirror(to).open(RECORD).read(MOST) != record:
                raise PullError(f"{RECORD} is not of this version")
            copy(Mirror(to), ".", digest)
            return f"{to}: {name} version {number} is there and whole: nothing to do"
        except (PullError, *MISTAKES) as error:
            before = f" in place of what was there ({error})" if to.exists() else ""
        at_end.callback(shutil.rmtree, new, ignore_errors=True)
        known = copy(source, root, digest, new)
        (new / RECORD).write_bytes(record)
        for path in (*new.rglob("*"), new):
            os.fsync(handle := os.open(path, os.O_RDONLY))
            os.close(handle)
        if to.exists():
            with contextlib.suppress(PullError, *MISTAKES):
                known |= files(Mirror(to).open(MANIFEST).read(MOST))[1]
            refuse_others(Mirror(to), ".", known)
            exchange = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux: at no moment is `to` missing
            if not exchange or exchange(-100, os.fsencode(new), -100, os.fsencode(to), 2):
                to.rename(old)
        if not to.exists():
            new.rename(to)
        shutil.rmtree(old, ignore_errors=True)
        return f"{to}: {name} version {number} pulled and checked{before}"


def main() -> int:
    """Pull as the command line says; exit code 2 and one line when that cannot be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="NAME@ALIAS")
    parser.add_argument("--pin", type=int, help="take this version's number instead of an alias's")
    parser.add_argument("--to", required=True, help="folder to make or to replace")
    parser.add_argument("--uri", default=os.environ.get("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000"))
    parser.add_argument("--key", help="`ssh-ed25519 ...`: only what its owner signed (with signed.py beside this file)")
    given = parser.parse_args()
    try:
        source = Server(given.uri) if given.uri.startswith("http") else Mirror(given.uri.removeprefix("file://"))
        check = given.key and runpy.run_path(str(Path(__file__).with_name("signed.py")))["checker"](given.key)
        print(pull(source, given.model.partition("@")[0], given.model.partition("@")[2], given.to, given.pin, check))
    except (PullError, *MISTAKES) as error:
        why = str(error) if isinstance(error, (PullError, OSError)) else f"bad answer: {type(error).__name__}: {error}"
        print("error:", "".join(each if each.isprintable() else " " for each in why), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
