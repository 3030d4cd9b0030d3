"""Whether a version was signed by the owner of an ed25519 key. Only Python's own library: copy it beside pull.py.

    python pull.py denoiser@champion --to model --key "ssh-ed25519 AAAAC3... owner"

What is signed is the line of .pulled.json: the model's name, the version's number and the SHA-256 of its manifest. So a
registry can give no other files under that number; which number an alias means it says unsigned.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Callable

P, Q = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # the curve's field, the order of its base point
D = -121665 * pow(121666, -1, P) % P
KIND = b"\0\0\0\x0bssh-ed25519\0\0\0 "  # how the bytes of such a public key begin, before its 32
Point = tuple[int, int]


def statement(name: str, number: int, digest: str) -> bytes:
    """What is signed of version ``number`` of model ``name``, whose manifest has the SHA-256 ``digest``."""
    return json.dumps({"model": name, "version": number, "manifest": digest}).encode() + b"\n"


def key(line: str) -> bytes:
    """The 32 bytes of a public key as `ssh-keygen -t ed25519` writes it; ValueError for another kind."""
    try:
        held = base64.b64decode(line.split()[1], validate=True)
    except (ValueError, IndexError):
        held = b""
    if not held.startswith(KIND) or len(held) != len(KIND) + 32:
        raise ValueError("not the line of an ed25519 public key: wanted ssh-ed25519 AAAA...")
    return held[len(KIND) :]


def checker(line: str) -> Callable[[bytes, str], bool]:
    """For the public key in ``line``: whether a text has a signature, in hexadecimal, of its owner's."""
    return functools.partial(_checked, key(line))


def _checked(public: bytes, text: bytes, signature: str) -> bool:
    try:
        return signed(public, text, bytes.fromhex(signature))
    except ValueError:
        return False


def signed(public: bytes, text: bytes, signature: bytes) -> bool:
    """Whether ``signature`` of ``text`` is of the owner of ``public`` (RFC 8032, section 5.1.7: s B = R + h A)."""
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= Q:  # a larger s would be a second signature of the same text
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + text).digest(), "little") % Q
    base = _point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    return _times(s, base) == _sum(_point(signature[:32]), _times(h, _point(public)))


def _point(text: bytes) -> Point:
    """The point that 32 bytes name (section 5.1.3); ValueError where there is none."""
    odd, y = divmod(int.from_bytes(text, "little"), 2**255)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    for x in (root, root * pow(2, (P - 1) // 4, P) % P):
        if y < P and x * x % P == square and (x or not odd):
            return (x if x % 2 == odd else P - x), y
    raise ValueError("no point of the curve")


def _sum(a: Point, b: Point) -> Point:
    """The sum of two points (section 5.1.4); it holds for all pairs of them."""
    both = D * a[0] * a[1] * b[0] * b[1]
    x, y = a[0] * b[1] + a[1] * b[0], a[1] * b[1] + a[0] * b[0]
    return x * pow(1 + both, -1, P) % P, y * pow(1 - both, -1, P) % P


def _times(number: int, point: Point) -> Point:
    """``number`` times ``point``; nothing here is secret, so how long it takes tells nothing."""
    total = (0, 1)
    while number:
        total = _sum(total, point) if number % 2 else total
        number, point = number // 2, _sum(point, point)
    return total
