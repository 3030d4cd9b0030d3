"""Mirrors of small made-up versions, with manifests as a test wants them."""

from __future__ import annotations

import hashlib
import json

from consume import pull

FILES = {"model.onnx": b"weights", "unet/config.json": b"{}", "README.md": b"a card"}
OLDER = {**FILES, "model.onnx": b"older"}


def manifest(contents, **changes):
    listed = {name: {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)} for name, text in contents.items()}
    return json.dumps({"format": 1, "files": listed, **changes}).encode()


def put(folder, contents, listing=None):
    """A version's files in a mirror, with ``listing`` as their manifest; its SHA-256."""
    text = manifest(contents) if listing is None else listing
    digest = hashlib.sha256(text).hexdigest()
    for name, content in {**contents, pull.MANIFEST: text}.items():
        path = folder / "versions" / digest / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return digest


def mirror(folder, *versions):
    """A mirror of ``versions`` 1, 2, ..., each its files or its digest; the last one is the champion."""
    digests = [each if isinstance(each, str) else put(folder, each) for each in versions]
    model = {"aliases": {"champion": len(digests)},
             "versions": {str(number): each for number, each in enumerate(digests, 1)}}  # fmt: skip
    (folder / "registry.json").write_text(json.dumps({"format": 1, "models": {"denoiser": model}}))
    return pull.Mirror(folder)
