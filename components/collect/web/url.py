"""Addresses on the web: taken apart strictly, and written down without what is secret in them.

Lists of URLs contain passwords (``user:password@``), signatures and tokens.  These are sent to their server and shown
nowhere: outputs and messages use ``Url.shown``, and no message repeats the text of a list.
"""

from __future__ import annotations

import base64
import functools
import hmac
import ipaddress
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urljoin, urlsplit

PORTS = {"http": 80, "https": 443}
LONGEST = 8192  # characters; servers refuse longer ones
HIDDEN = "***"
_DIGITS, _FEW_DIGITS = 16, 6  # hexadecimal, of the digest of a value that looks random, and of any other
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?")
_SAFE = "/%:@!$&'()*+,;=~-._[]"  # what stays as it is in a path; in a query "?" does, too
_PLAIN = re.compile(r"[A-Za-z0-9/%:@!$&'()*+,;=~._\[\]-]*")
_NAMES = re.compile(  # parameters whose value is a secret, or part of a signature
    r"token|secret|passw|passphrase|signature|credential|api[-_]?key|access[-_]?key|auth(?!or)|session|jwt|hmac"
    r"|accessid|^(sig|sign|pwd|pass|sid|policy|key-pair-id)$|^x-(amz|goog|oss|ms|cos|obs)-"
)
_SHORT_NAMES = re.compile(r"^(key|s|oh|hash|code|t)$")  # secret when the value looks random
_RANDOM = re.compile(r"[A-Za-z0-9_+/=-]{16,}")
_VALUES = re.compile(r"^(eyJ[\w-]+\.|AKIA[A-Z0-9]{12}|AIza[\w-]{20}|gh[pousr]_|hf_[A-Za-z0-9]{20}|sk-[\w-]{16})")


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https address; its text form is the one that may be shown."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    """Path and query as they are sent."""
    authorization: str | None = field(default=None, repr=False)
    """The value of the Authorization header that ``user:password@`` stands for."""

    @property
    def authority(self) -> str:
        """Host, in brackets when it is IPv6, with the port when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port: who answers."""
        return f"{self.scheme}://{self.authority}"

    @property
    def shown(self) -> str:
        """The address without credentials, with ``***`` for every value that looks secret."""
        return self.origin + _redacted(self.target, lambda _: HIDDEN)

    def key(self, *, apart: bool = False) -> str:
        """What the image there is called: ``shown``, where a digest stands for each value that may say which it is.

        That is a value under a name such as ``hash`` or ``code``.  One that is surely a secret (``token``, a
        signature) is renewed while the image stays, so it is no part of the name, unless with ``apart``.  The digest
        is keyed by the rest of the address; of what a dictionary may hold it is too short to tell the value.
        """
        if not _may_hide(self.target):
            return self.origin + self.target
        shown = self.shown

        def mark(part: str) -> str:
            name, _, value = part.partition("=")
            random = bool(_RANDOM.fullmatch(value))
            if not apart and not (random and _SHORT_NAMES.match(unquote(name).lower())):
                return HIDDEN
            digits = hmac.new(shown.encode(), part.encode(), "sha256").hexdigest()
            return f"{HIDDEN}{digits[: _DIGITS if random else _FEW_DIGITS]}"

        return self.origin + _redacted(self.target, mark)

    def __str__(self) -> str:
        return self.shown

    def join(self, location: str) -> Url:
        """The address that a redirect from here to ``location`` leads to; ValueError when it leads nowhere.

        Credentials stay with the origin that they were given for; those in ``location`` are not taken.
        """
        try:
            text = urljoin(self.origin + self.target, location.strip())
        except ValueError:
            raise ValueError("not a URL") from None
        there = parse(text)
        mine = self.authorization if there.origin == self.origin else None
        return Url(there.scheme, there.host, there.port, there.target, mine)


def parse(text: str) -> Url:
    """The URL that ``text`` spells; ValueError says what is wrong without repeating any of it."""
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("holds a control character")
    if re.search(r"[\ud800-\udfff]", text):
        raise ValueError("not UTF-8 text")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("not a URL") from None
    if parts.scheme not in PORTS:
        raise ValueError("neither http nor https")
    if "\\" in parts.netloc or not parts.hostname:
        raise ValueError("no host in it")
    if port == 0:
        raise ValueError("port 0")
    target = _quoted(parts.path or "/")
    if parts.query:
        target += "?" + _quoted(parts.query, "?")
    host = sys.intern(_host(parts.hostname))  # one object for all URLs of a host
    return Url(parts.scheme, host, port or PORTS[parts.scheme], target, _basic(parts.netloc))


def _quoted(text: str, more: str = "") -> str:
    if _PLAIN.fullmatch(text):
        return text
    return quote(text, safe=_SAFE + more, errors="replace")


def _host(name: str) -> str:
    if ":" in name:
        try:
            if "%" in name:
                raise ValueError
            return str(ipaddress.IPv6Address(name))
        except ValueError:
            raise ValueError("not an IPv6 address") from None
    if len(name) > 253:
        raise ValueError("a host name longer than 253 characters")
    try:
        name = name if name.isascii() else name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError("not a host name") from None
    if not _HOST.fullmatch(name) or not all(0 < len(label) < 64 for label in name.removesuffix(".").split(".")):
        raise ValueError("not a host name")
    return name


def _basic(netloc: str) -> str | None:
    credentials, at, _ = netloc.rpartition("@")
    return "Basic " + base64.b64encode(unquote(credentials).encode()).decode() if at else None


def _may_hide(target: str) -> bool:
    """Whether there are parameters in ``target``."""
    return "?" in target or ";" in target


def _redacted(target: str, mark: Callable[[str], str]) -> str:
    """``target`` with ``mark(name=value)`` for each secret value; also after ``;`` in the path, as jsessionid."""
    if not _may_hide(target):
        return target
    path, question, query = target.partition("?")
    head, *rest = path.split(";")
    path = ";".join([head, *(_part(part, mark) for part in rest)])
    parts = re.split("([&;])", query)
    return path + question + "".join(part if part in "&;" else _part(part, mark) for part in parts)


def _part(part: str, mark: Callable[[str], str]) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return mark(part) if _VALUES.match(unquote(part)) else part
    return f"{name}={mark(part)}" if value and _is_secret(unquote(name).lower(), value) else part


def holds_secret(query: str) -> bool:
    """Whether a parameter of ``query`` is a secret by its name or value; whatever ends in "key" counts as one."""
    parts = (part.partition("=") for part in re.split("[&;]", query))
    named = ((unquote(name).lower(), value) for name, _, value in parts)
    return any(value and (name.endswith("key") or _is_secret(name, value)) for name, value in named)


@functools.lru_cache(1024)
def _names_a_secret(name: str) -> bool:
    return _NAMES.search(name) is not None


def _is_secret(name: str, value: str) -> bool:
    """Whether a parameter's value is a secret, or holds one, such as a URL with a signature of its own."""
    if _names_a_secret(name):
        return True
    for _ in range(4):  # a URL in a URL in a URL is encoded as often
        if _VALUES.match(value) or (_SHORT_NAMES.match(name) and _RANDOM.fullmatch(value) and re.search(r"\d", value)):
            return True
        if re.search(r"://[^/?#]*@", value):
            return True
        if "=" not in value and "%" not in value:
            break
        inner = (part.partition("=") for part in re.split(r"[?&;#]", value))
        if any(content and _names_a_secret(unquote(key).lower()) for key, _, content in inner):
            return True
        if "%" not in value:
            break
        value = unquote(value)
    return False
