"""Sign versions with the owner's ed25519 key, where there is one: `register.signing_key` says where it lies.

What is signed, and how it is checked without this project, is consume/signed.py.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from components.base.errors import UserError
from components.register.params import RegisterParams
from consume import signed

Signer = Callable[[str, int, str], str]
"""The signature, in hexadecimal, of a model's name, a version's number and the SHA-256 of its manifest."""


def signer(root: Path, params: RegisterParams, *, say: Callable[[str], None]) -> Signer | None:
    """What signs versions here; None without a key. UserError where one is named and cannot be used."""
    where = params.signing_key
    if where is None:
        return None
    if where.startswith("$"):
        place = os.environ.get(where[1:], "")
        if not place:
            say(f"versions are not signed here: {where[1:]} (register.signing_key) is not set")
            return None
    else:
        place = where
    path = Path(place)
    with contextlib.suppress(RuntimeError):  # no such account: then it is no path from ~ either
        path = path.expanduser()
    if not path.is_absolute() or path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"register.signing_key: {path}: wanted a path outside of this checkout, from / or ~: a key in "
                        "it would be committed or copied one day")  # fmt: skip
    return _of(path)


def _of(path: Path) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    try:
        text = path.read_bytes()
        load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in text else load_pem_private_key
        key = load(text, password=None)
    except OSError as error:
        raise UserError(f"register.signing_key: {path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a passphrase
        raise UserError(f"register.signing_key: {path}: not a private key without a passphrase, as "
                        "`ssh-keygen -t ed25519 -N ''` makes") from None  # fmt: skip
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"register.signing_key: {path}: not an ed25519 key: `ssh-keygen -t ed25519` makes one")
    return lambda name, number, digest: key.sign(signed.statement(name, number, digest)).hex()
