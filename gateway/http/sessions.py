"""Sessions of browsers that gave a password, and the tokens of the forms that they get. Both end with the process."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Final

from gateway.http.roles import Connection, Role

COOKIE: Final = "gateway_session"
SECONDS: Final = 12 * 3600.0
MOST: Final = 1000
"""Sessions at a time; the oldest ends for a further one."""


class Sessions:
    """`clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[str, tuple[float, Role]] = OrderedDict()
        """By session: when it ends, and its role."""

    def begin(self, role: Role, secure: bool) -> str:
        """The cookie of a new session, with its attributes; with `secure` the browser sends it by TLS only."""
        session = secrets.token_urlsafe(32)
        self._known[session] = self._clock() + SECONDS, role
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return _cookie(session, SECONDS) + ("; Secure" if secure else "")

    def end(self, session: str) -> str:
        """End a session; the cookie that removes its own."""
        self._known.pop(session, None)
        return _cookie("", 0)

    def of(self, connection: Connection) -> str:
        """The session of a request; empty where it has none."""
        try:
            morsel = SimpleCookie(connection.headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return ""
        session = "" if morsel is None else morsel.value
        return session if self.role(session) is not None else ""

    def role(self, session: str) -> Role | None:
        """The role of a session; None where it has ended."""
        ends, role = self._known.get(session, (0.0, None))
        return role if ends > self._clock() else None

    def form_token(self, session: str) -> str:
        """The token of forms in pages of a session; also without one, since only a page of the gateway has it."""
        return hmac.new(self._key, session.encode(), hashlib.sha256).hexdigest()


def _cookie(value: str, seconds: float) -> str:
    return f"{COOKIE}={value}; Max-Age={seconds:.0f}; Path=/; HttpOnly; SameSite=Strict"
