"""Why there is nothing at a URL."""

from __future__ import annotations

_PASSING = ("http_5xx", "rate_limited", "timeout", "unreachable", "unresolved", "broken", "robots")


class FetchError(Exception):
    """Why there is nothing at a URL: one word and one sentence, neither with anything secret in it."""

    def __init__(self, reason: str, detail: str, *, again: bool = False, wait: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
        self.again = again
        """Whether another try may succeed."""
        self.wait = wait
        """Seconds that the server asks clients to wait (Retry-After)."""

    @property
    def passing(self) -> bool:
        """Whether it may be gone with the next look, by what it is."""
        return self.reason in _PASSING

    def another(self) -> FetchError:
        """The same error to raise for another URL: each raise of one object makes its traceback longer, for good."""
        return FetchError(self.reason, self.detail, again=self.again, wait=self.wait)
