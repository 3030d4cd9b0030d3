"""The image behind one URL: follows redirects, obeys robots.txt, and recognises an image by its bytes."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from components.collect.web import robots
from components.collect.web.client import Answer, Client, Clock, Headers
from components.collect.web.failure import FetchError
from components.collect.web.url import Url
from components.decode import heif, jxl

REDIRECTS = 5
LONGEST_WAIT = 120.0  # seconds of Retry-After or Crawl-delay; who asks for more is left alone until the next look
_MOVED = (301, 302, 303, 307, 308)
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes of the header that follows the first 14


def is_image(head: bytes) -> bool:
    """Whether ``head`` starts like an image of a kind that is decoded here, whatever its server calls it."""
    if head[:2] == b"BM":
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    if head[:1] == b"P":
        return head[1:2] in b"123456" and head[2:3] in b" \t\r\n#"
    if head[4:8] == b"ftyp":
        return head[8:12] in (b"avif", b"avis") or heif.is_heif(head)
    return jxl.is_jxl(head) or head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


@dataclass(frozen=True)
class Image:
    """The bytes of an image, where they were in the end, and what its server said of them."""

    data: bytes
    url: Url
    headers: Headers = field(repr=False)


class Fetcher:
    """Fetches images by one set of rules, many at once."""

    def __init__(
        self, client: Client, *, seconds: float, attempts: int, most: int, obey: bool,
        pause: Callable[[int], float] = lambda failed: 2.0**failed,
    ) -> None:  # fmt: skip
        self._client = client
        self._seconds, self._most, self._obey = seconds, most, obey
        self._attempts, self._pause = attempts, pause
        self._rules: dict[str, asyncio.Task[robots.Rules | FetchError]] = {}
        self._free: dict[str, float] = {}

    def free(self, host: str) -> float:
        """When ``host`` may be asked again, by its Crawl-delay, on the clock of time.monotonic."""
        return self._free.get(host, 0.0)

    async def fetch(self, url: Url, *, last: bool = False) -> Image:
        """The image at ``url``; FetchError says why there is none.  ``last``: nothing more is wanted of its host."""
        clock = Clock(self._seconds)
        for _ in range(REDIRECTS + 1):
            if self._obey:
                await self._check_robots(url)
            answer = await self._client.get(url, clock, most=self._most, last=last, check=self._check, peek=_peek)
            if answer.status not in _MOVED:
                _judge(answer)
                return Image(answer.body, url, answer.headers)
            url = _next(url, answer)
        raise FetchError("redirect", f"more than {REDIRECTS} redirects")

    def _check(self, headers: Headers) -> None:
        word = robots.forbidding(headers.getall("X-Robots-Tag", ())) if self._obey else ""
        if word:
            raise FetchError("noai", f"its server says X-Robots-Tag: {word}")
        if self._obey and headers.get("tdm-reservation", "").strip() == "1":
            raise FetchError("noai", "its server says tdm-reservation: 1")

    async def _check_robots(self, url: Url) -> None:
        """Wait for a turn as robots.txt of ``url``'s origin, read once, asks for; FetchError when it says no."""
        if url.origin not in self._rules:
            self._rules[url.origin] = asyncio.create_task(self._read_rules(url.join("/robots.txt")))
        rules = await asyncio.shield(self._rules[url.origin])
        if isinstance(rules, FetchError):
            raise rules.another()
        if not rules.allow(url.target):
            raise FetchError("robots", "robots.txt asks not to fetch it")
        if rules.delay > LONGEST_WAIT:
            asked = f"robots.txt asks for {rules.delay:g} seconds between two requests"
            raise FetchError("robots", asked, wait=rules.delay)
        if rules.delay:
            now = time.monotonic()
            turn = max(now, self.free(url.host))
            self._free[url.host] = turn + rules.delay
            await asyncio.sleep(turn - now)

    async def _read_rules(self, url: Url) -> robots.Rules | FetchError:
        """RFC 9309, 2.3.1: 4xx means that all is allowed; no answer and 5xx that nothing is, for now."""
        for failed in range(self._attempts):
            try:
                return await self._read_rules_once(url)
            except FetchError as error:
                if failed + 1 == self._attempts or not error.again or error.wait:
                    return FetchError(*_about_rules(error), wait=error.wait)
                await asyncio.sleep(self._pause(failed))
        raise AssertionError("at least one attempt")

    async def _read_rules_once(self, url: Url) -> robots.Rules:
        clock = Clock(self._seconds)
        for _ in range(REDIRECTS + 1):
            answer = await self._client.get(url, clock, most=robots.MOST_BYTES, cut=True)
            if answer.status in _MOVED:
                url = _next(url, answer)
            elif 400 <= answer.status < 500 and answer.status != 429:
                return robots.EVERYTHING
            else:
                _judge(answer)
                return robots.Rules(answer.body)
        return robots.EVERYTHING  # 2.3.1.2: after five redirects, as if there were none


def _about_rules(error: FetchError) -> tuple[str, str]:
    """The reason and detail of an image whose robots.txt could not be read."""
    if error.reason in ("unreachable", "unresolved", "private_address", "tls"):
        return error.reason, error.detail  # it is the host, not its robots.txt
    return "robots", f"robots.txt could not be read ({error.detail}), so nothing is fetched for now"


def _peek(head: bytes) -> None:
    if not is_image(head):
        raise FetchError("not_an_image", "its bytes are no PNG, JPEG, GIF, WEBP, AVIF, HEIC, BMP, TIFF or netpbm")


def _judge(answer: Answer) -> None:
    """FetchError unless ``answer`` has the body that was asked for."""
    status = answer.status
    if status in (200, 203):
        return
    if status == 429 or status >= 500:
        reason = "rate_limited" if status == 429 else "http_5xx"
        raise FetchError(reason, f"HTTP {status}", again=True, wait=retry_after(answer.headers))
    raise FetchError("http_4xx" if 400 <= status < 500 else "http", f"HTTP {status}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from now that Retry-After asks for, as a number or as a date; None when it does not."""
    value = (headers.get("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _next(url: Url, answer: Answer) -> Url:
    location = answer.headers.get("Location")
    if not location:
        raise FetchError("redirect", f"HTTP {answer.status} without a Location")
    try:
        there = url.join(location.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    except ValueError as error:
        raise FetchError("redirect", f"leads nowhere: {error}") from None
    if url.scheme == "https" and there.scheme == "http":
        raise FetchError("redirect", "leads from https to http")
    return there
