"""`stillroom release s3://bucket/prefix`: the same mirror in a store that fsspec knows.

consume/pull.py reads folders and servers: whoever pulls copies the bucket to a folder first, registry.json last.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.base.errors import UserError, brief
from consume import pull
from flows.model import mirror
from flows.registry.sign import Signer


class Bucket(pull.Mirror):
    """A mirror at an address such as s3://bucket/prefix; credentials come from the environment."""

    def __init__(self, address: str) -> None:
        import fsspec

        super().__init__(address)
        self.address = address.rstrip("/")
        protocol = address.partition("://")[0]
        if not protocol.isalnum() or "::" in address:
            raise UserError(f"{address}: wanted one address such as s3://bucket/prefix")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(
                self.address, skip_instance_cache=True, use_listings_cache=False
            )
        except (ImportError, ValueError) as error:
            raise UserError(f"{address}: {brief(error)}") from None

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """The names in ``folder``, and which are folders."""
        path = f"{self._root}/{folder}".rstrip("/")
        found = [(each["name"].rstrip("/"), each["type"] == "directory") for each in self._fs.ls(path, detail=True)]
        return [(name.rpartition("/")[2], is_folder) for name, is_folder in found if name != path]

    def open(self, path: str) -> Any:
        """The file at ``path``, to read."""
        return self._fs.open(f"{self._root}/{path}", "rb")

    def models(self) -> dict[str, Any]:
        """The models of the mirror that is there; none where nothing is."""
        try:
            text = self._fs.cat_file(f"{self._root}/{mirror.TABLE}")
        except FileNotFoundError:
            return {}
        return mirror.models(json.loads(text), f"{self.address}/{mirror.TABLE}")

    def put(self, folder: Path, path: str) -> None:
        """Write every file of ``folder`` below ``path``."""
        for each in sorted(item for item in folder.rglob("*") if item.is_file()):
            self._fs.pipe_file(f"{self._root}/{path}/{each.relative_to(folder).as_posix()}", each.read_bytes())

    def put_table(self, text: str) -> None:
        """Replace the table, which names the versions."""
        self._fs.pipe_file(f"{self._root}/{mirror.TABLE}", text.encode())


def write(
    registry: pull.Server | pull.Mirror, name: str, aliases: Mapping[str, int], numbers: Iterable[int], address: str,
    *, signer: Signer | None = None,
) -> str:  # fmt: skip
    """Write the versions ``numbers`` of model ``name`` to ``address``; returns what it holds then.

    Each file is compared with its manifest on its way from the registry, and again as the store gives it back.  The
    table is written last.  Versions that are there stay.
    """
    with _explained(address):
        bucket = Bucket(address)
        models = bucket.models()
        made = mirror.Release(name, models.get(name, {}), address)
        with tempfile.TemporaryDirectory() as place:
            here = pull.Mirror(place)
            for number in numbers:
                digest, signature = mirror.copy(registry, name, number, here)
                made.add(number, digest, signature)
                if not mirror.whole(bucket, digest):
                    bucket.put(here.location / "versions" / digest, f"versions/{digest}")
                    pull.copy(bucket, f"versions/{digest}", digest)
        models[name] = made.entry(aliases, signer)
        bucket.put_table(mirror.text(models))
        return made.said(aliases)


@contextlib.contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn what a store's library raises into one line."""
    try:
        yield
    except (UserError, pull.PullError):
        raise
    except Exception as error:  # each kind of store has its own
        raise UserError(f"{address}: cannot be written ({type(error).__name__}: {brief(error)})") from error
