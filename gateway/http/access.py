"""Access to the admin listener: the password, and protection from requests that a web page makes a browser send."""

from __future__ import annotations

import base64
import hmac
import math
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from gateway.config.tables import AdminSettings
from gateway.http.attempts import Attempts
from gateway.http.sessions import Sessions

_HOST: Final = re.compile(r"(?:\[([^]]*)\]|([^:]*))(?::\d*)?")
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,39}", re.ASCII)
_MANY_DIGITS: Final = re.compile(r"\d{5}")
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="gateway"'}
FORM: Final = "application/x-www-form-urlencoded"
Connection = ASGIConnection[Any, Any, Any, Any]


class Access:
    """Decides which requests to the admin listener are answered."""

    def __init__(self, admin: AdminSettings, clock: Callable[[], float]) -> None:
        self._password = admin.password
        self._names = {"localhost", admin.host.lower(), *(name.lower() for name in admin.names)}
        self._attempts = Attempts(clock)
        self.sessions = Sessions(clock)

    def guard(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Raises `HTTPException` for a request that another site's page may have made a browser send, and for one
        without the password where it needs one. A handler with the option `form` takes a form of the dashboard, whose
        token it checks itself (`require_own_form`); one with `open` needs no password."""
        headers = connection.headers
        if not self._is_ours(headers.get("host", "localhost")):  # DNS rebinding: a name that resolves to here
            raise HTTPException(
                status_code=421, detail="use the IP address of this listener, localhost, or a name of admin.names"
            )
        if headers.get("sec-fetch-site", "").strip().lower() == "cross-site":
            raise HTTPException(status_code=403, detail="a page of another site made the browser send this request")
        wanted = FORM if handler.opt.get("form") else "application/json"  # a form of another site cannot send that
        if connection.scope.get("method") == "POST" and _media_type(headers) != wanted:
            raise HTTPException(status_code=415, detail=f"send {wanted}")
        if not (connection.scope["path"].startswith("/health/") or handler.opt.get("open")):
            self._require_password(connection)

    @property
    def needs_password(self) -> bool:
        """Whether a password is set."""
        return self._password is not None

    def form_token(self, connection: Connection) -> str:
        """What a form of a page must send back, so that a page of another site cannot send it."""
        return self.sessions.form_token(self.sessions.of(connection))

    def require_own_form(self, connection: Connection, token: str) -> None:
        """`HTTPException` where a form was not sent by a page of the dashboard in this browser."""
        site = connection.headers.get("sec-fetch-site", "same-origin").strip().lower()
        own = hmac.compare_digest(token.encode(), self.form_token(connection).encode())
        if site not in ("same-origin", "none") or not own:
            raise HTTPException(status_code=403, detail="this page is out of date or not the gateway's; load it again")

    def sign_in(self, connection: Connection, password: str) -> str:
        """The cookie of a new session. `HTTPException` 401 for a wrong password, 429 while none is compared."""
        self._compare(connection, password.encode())
        return self.sessions.begin()

    def trusted(self, connection: Connection) -> bool:
        """Whether the request has the password, or none is set. A wrong one counts as a failed attempt."""
        try:
            self._require_password(connection)
        except HTTPException:
            return False
        return True

    def _require_password(self, connection: Connection) -> None:
        if self._password is None:
            return
        authorization = connection.headers.get("authorization")
        if authorization is None and self.sessions.of(connection):
            return
        if authorization is None:
            raise HTTPException(status_code=401, detail="a password is needed", headers=_CHALLENGE)
        self._compare(connection, _credentials(authorization)[1])

    def _compare(self, connection: Connection, password: bytes) -> None:
        client = peer(connection)
        seconds = math.ceil(self._attempts.wait(client))
        if seconds:  # not compared: a guess must not be worth more because it comes sooner
            detail = f"passwords from this address were wrong; the next one is compared in {seconds} s"
            raise HTTPException(status_code=429, detail=detail, headers={"Retry-After": str(seconds)})
        if self._password is None or not hmac.compare_digest(password, self._password.value):
            self._attempts.failed(client)
            raise HTTPException(status_code=401, detail="the password is wrong", headers=_CHALLENGE)
        self._attempts.succeeded(client)

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header is an IP address or one of our names, with or without a port."""
        match = _HOST.fullmatch(host)
        name = "" if match is None else match[1] or match[2]
        try:
            return name.lower() in self._names or bool(ip_address(name))
        except ValueError:
            return False


def peer(connection: Connection) -> str:
    """The address that a request to the admin listener came from. X-Forwarded-For is not used there."""
    return str(connection.client.host) if connection.client else "an unknown address"


def user(connection: Connection) -> str:
    """The user name of basic authentication, for the log only: it is not compared. `-` where there is none, or where
    it may be something else, such as a phone number."""
    name = _credentials(connection.headers.get("authorization", ""))[0].decode("utf-8", "replace")
    return name if _USER.fullmatch(name) and not _MANY_DIGITS.search(name) else "-"


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _credentials(authorization: str) -> tuple[bytes, bytes]:
    """The user name and the password of basic authentication; empty where there are none."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b"", b""
    try:
        name, _, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except ValueError:
        return b"", b""
    return name, password
